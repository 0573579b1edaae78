"""Products of `wgmma` that are under way, for the checks of a kernel.

Enters: each `wgmma` instruction and every use of registers. Leaves: findings of the kind `race`:

    an accumulator that another instruction reads or writes before `wait_group` has waited for it
    shared memory that was overwritten while a product, not waited for yet, may still read it

The executor itself finishes a product when it is issued, so nothing else would show either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.flow import writes
from hectorite.ir.ptx.syntax import Immediate, Instruction, Label

if TYPE_CHECKING:
    from hectorite.backends.ptx.checks import Checker

Array = npt.NDArray[Any]

_LANDED = -1


@dataclass
class _Flight:
    """A product: for each piece of shared memory that it reads, the lane that stands for its warps,
    the number of that lane's group, and who had written the piece before."""

    at: Instruction
    cells: Array
    lanes: Array
    group: Array
    writer: Array
    written_at: Array


class Flights:
    """What is under way in a batch. `group` counts the groups that each lane has committed."""

    def __init__(self, checker: Checker, code: Code):
        self.checker = checker
        self.registers = accumulators(code.function.body)
        self.group = np.zeros(code.lanes, np.int64)
        self.flying = {name: np.full(code.lanes, _LANDED, np.int64) for name in self.registers}
        self.flights: list[_Flight] = []
        self.reads: list[tuple[Array, Array]] | None = None

    def begin(self) -> None:
        """A new batch of blocks starts."""
        self.group[:] = 0
        self.flights.clear()
        for flying in self.flying.values():
            flying[:] = _LANDED

    def watched(self, at: Instruction, step: Step, names: Sequence[str]) -> Step:
        """A step with what must be looked at around it; `names` are the registers it uses."""
        if at.name == "wgmma":
            return self._wgmma(at, step)
        used = [name for name in names if name in self.registers]
        if not used:
            return step
        changed = set(writes(at))

        def run(lanes: Lanes) -> None:
            for name in used:
                early = self.flying[name][lanes.exact] != _LANDED
                if early.any():
                    verb = "writes" if name in changed else "reads"
                    self.checker.record(
                        "race", at, f"`{at.mnemonic}` {verb} {name} before `wgmma.wait_group` has "
                        "waited for the product that computes it", int(np.count_nonzero(early)),
                    )  # fmt: skip
                    self.flying[name][lanes.exact] = _LANDED
            step(lanes)

        return run

    def _wgmma(self, at: Instruction, step: Step) -> Step:
        if "mma_async" in at.suffix:
            return lambda lanes: self._issue(at, step, lanes)
        if "commit_group" in at.suffix:
            return self._commit
        if "wait_group" in at.suffix and isinstance(at.operands[0], Immediate):
            left = int(at.operands[0].value)
            return lambda lanes: self._wait(lanes, left)
        return step

    def _commit(self, lanes: Lanes) -> None:
        self.group[lanes.exact] += 1

    def _issue(self, at: Instruction, step: Step, lanes: Lanes) -> None:
        self.reads = []
        step(lanes)
        reads, self.reads = self.reads, None
        for name in writes(at):
            self.flying[name][lanes.exact] = self.group[lanes.exact]
        for cells, readers in reads:
            writer, written_at = self.checker.writer[cells], self.checker.written_at[cells]
            group = self.group[readers]
            self.flights.append(_Flight(at, cells, readers, group, writer, written_at))

    def _wait(self, lanes: Lanes, left: int) -> None:
        """All groups of some lanes but the last `left` are done."""
        waits = np.zeros(len(self.group), bool)
        waits[lanes.exact] = True
        for flying in self.flying.values():
            flying[waits & (flying < self.group - left)] = _LANDED
        kept: list[_Flight] = []
        for flight in self.flights:
            done = waits[flight.lanes] & (flight.group < self.group[flight.lanes] - left)
            if done.any():
                self._land(flight, done)
            if not done.all():
                parts = (flight.cells, flight.lanes, flight.group, flight.writer, flight.written_at)
                kept.append(_Flight(flight.at, *(part[~done] for part in parts)))
        self.flights = kept

    def _land(self, flight: _Flight, done: Array) -> None:
        """The reads of a product are over: they happen now, and found what was there before."""
        checker, cells = self.checker, flight.cells[done]
        changed = (checker.writer[cells] != flight.writer[done]) | (
            checker.written_at[cells] != flight.written_at[done]
        )
        if changed.any():
            checker.record(
                "race", flight.at, f"`{flight.at.mnemonic}` reads shared memory that is written "
                "before `wgmma.wait_group` has waited for it", int(np.count_nonzero(changed)),
            )  # fmt: skip
        checker.read_again(cells, flight.lanes[done])


def accumulators(body: Sequence[Instruction | Label]) -> frozenset[str]:
    """The registers that products of `wgmma` compute."""
    products = (
        item
        for item in body
        if isinstance(item, Instruction) and item.name == "wgmma" and "mma_async" in item.suffix
    )
    return frozenset(name for product in products for name in writes(product))
