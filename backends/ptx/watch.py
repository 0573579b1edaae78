"""What is wrong with a kernel's accesses: faults that stop it, or findings that are collected.

Enters: every access and meeting of threads that `access.py` and the schedule report. Leaves:
`Finding`s, one for each kind and line. Without checks only accesses outside of memory and
misaligned ones are noticed, and raise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step, instruction_error
from hectorite.ir.diagnostics import Source
from hectorite.ir.ptx.syntax import Instruction

if TYPE_CHECKING:
    from hectorite.backends.ptx.access import Places

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Checks:
    """What to look for.

    `bounds`: accesses outside of memory, misaligned ones (recorded, and left out; without it they
    stop the kernel with an error). `races`: accesses of shared memory by several threads without a
    barrier between them. `uninitialized`: reads of registers, shared memory and allocations marked
    unwritten before anything wrote them. `divergence`: barriers that not all threads reach.
    `traffic`: count 32-byte sectors of global accesses and cycles of shared ones, for each line.
    """

    bounds: bool = True
    races: bool = True
    uninitialized: bool = True
    divergence: bool = True
    traffic: bool = False

    @classmethod
    def none(cls) -> Checks:
        """No checks: faults raise."""
        return cls(False, False, False, False, False)

    @classmethod
    def everything(cls) -> Checks:
        return cls(True, True, True, True, True)

    @property
    def any(self) -> bool:
        return self.bounds or self.races or self.uninitialized or self.divergence or self.traffic


@dataclass
class Finding:
    """A fault of the kernel: its kind, the line of PTX, what is wrong, how often it was seen.

    Kinds: out_of_bounds, misaligned, race, uninitialized, divergent_barrier.
    """

    kind: str
    line: int
    message: str
    count: int = 1

    def __str__(self) -> str:
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"line {self.line}: {self.kind}: {self.message}{times}"


@dataclass
class Traffic:
    """Memory requests of one line: warps' requests, units that they took, units at best.

    A unit is a 32-byte sector (global) or a cycle of the 32 banks (shared).
    """

    line: int
    space: str
    requests: int = 0
    taken: int = 0
    ideal: int = 0


@dataclass
class Watch:
    """Notices faults. This one raises; `checks.Checker` records."""

    source: Source | None
    checks: Checks = field(default_factory=Checks.none)
    findings: dict[tuple[str, int, str], Finding] = field(
        default_factory=dict[tuple[str, int, str], Finding]
    )
    traffic: dict[tuple[int, str], Traffic] = field(default_factory=dict[tuple[int, str], Traffic])
    is_watching = False

    def record(self, kind: str, at: Instruction, message: str, count: int) -> None:
        """Add to a finding; the first message of a kind and line is kept."""
        key = (kind, at.line, "")
        if key in self.findings:
            self.findings[key].count += count
        else:
            self.findings[key] = Finding(kind, at.line, message, count)

    def out_of_bounds(
        self, at: Instruction, space: str, addresses: Array, width: int, kind: str
    ) -> None:
        """Addresses, in `space`, at which `width` bytes do not exist."""
        action = {"read": "reads", "write": "writes"}.get(kind, "updates")
        where = self.where(int(addresses[0]), space)
        message = f"`{at.mnemonic}` {action} {width} bytes at {int(addresses[0]):#x} {where}"
        self.fault("out_of_bounds", at, message, len(addresses))

    def misaligned(self, at: Instruction, space: str, addresses: Array, width: int) -> None:
        """Addresses that are not multiples of the access's width."""
        message = (
            f"`{at.mnemonic}` needs an address that is a multiple of {width}, "
            f"got {int(addresses[0]):#x} in {space} memory"
        )
        self.fault("misaligned", at, message, len(addresses))

    def fault(self, kind: str, at: Instruction, message: str, count: int) -> None:
        """Record, if faults are collected; else raise."""
        if not self.checks.bounds:
            raise instruction_error(message, at, self.source)
        self.record(kind, at, message, count)

    def divergent(self, at: Instruction, count: int, message: str) -> None:
        """A barrier or warp instruction that threads reach differently."""
        if self.checks.divergence:
            self.record("divergent_barrier", at, message, count)

    def where(self, address: int, space: str) -> str:
        """Words on what lies near an address."""
        return f"of {space} memory"

    def access(self, at: Instruction, places: Places, width: int, kind: str) -> None:
        """Lanes touch memory."""

    def begin(self) -> None:
        """A new batch of blocks starts."""

    def met(self, at: Instruction, lanes: Lanes) -> None:
        """Threads came together for an instruction."""

    def arrived(self, lanes: Lanes) -> None:
        """Threads came to a barrier and go on."""

    def released(self, index: Any, offsets: Array) -> None:
        """Lanes arrive at barrier objects."""

    def acquired(self, index: Any, offsets: Array, done: Array) -> None:
        """Lanes see that phases of barrier objects ended, where `done`."""

    def landed(self, lanes: Array, offsets: Array, width: int) -> None:
        """Asynchronous copies of lanes arrive in shared memory."""

    def watched(self, code: Code, at: Instruction, step: Step) -> Step:
        """A step with what must be looked at around it."""
        return step
