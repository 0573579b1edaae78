"""The order in which the threads of a batch run.

Lockstep: all threads that stand at the same block run together, the lowest block first, so that
threads which took different ways meet again. Sequential: each thread of a block runs alone until it
must wait for others, in the order of threads or the reverse; what only works because threads move
together then goes wrong. In both, threads wait at barriers and warp instructions until those they
wait for have come; threads that find a wait unfulfilled sleep until the others can do no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.blocks import StepBlock
from hectorite.backends.ptx.lanes import ALL, WARP, Lanes
from hectorite.backends.ptx.thread_code import Code
from hectorite.ir.diagnostics import HectoriteError

Array = npt.NDArray[Any]

SLICE = 1024
"""Backward jumps after which threads let others run."""
MOST_FRUITLESS_ROUNDS = 3000
_NO_BARRIER = -1
_GROUP = 128


class Schedule:
    """Runs batches of one prepared kernel. `order` is lockstep, sequential or reversed."""

    def __init__(self, code: Code, blocks: list[StepBlock], order: str, step_limit: int):
        self.code = code
        self.blocks = blocks
        self.order = order
        self.end = len(blocks)
        self.pc = np.zeros(code.lanes, np.int32)
        self.parked = np.zeros(code.lanes, bool)
        self.asleep = np.zeros(code.lanes, bool)
        self.barrier = np.full(code.lanes, _NO_BARRIER, np.int8)
        self.arrived = np.zeros((code.blocks, 17), np.int64)
        self.alive_before = np.zeros(code.blocks, np.int64)
        self.alive = 0
        self.executed = 0
        self.remaining = step_limit
        self.turns = 0
        self.fruitless = 0
        self.is_busy = False
        code.schedule = self

    def run(self, live_blocks: int) -> None:
        """All threads of the first blocks of the batch, to their end."""
        code = self.code
        exists = np.tile(np.arange(code.width) < code.threads, code.blocks)
        exists &= code.block_of < live_blocks
        self.pc[:] = np.where(exists, 0, self.end)
        self.parked[:] = self.asleep[:] = False
        self.barrier[:] = _NO_BARRIER
        self.arrived[:] = 0
        self.alive = int(exists.sum())
        self.fruitless = 0
        self.code.is_spinning = False
        if self.order == "lockstep":
            while self.alive:
                self.drive(ALL)
                if self.alive and not self.release():
                    raise self.stuck()
            return
        threads = range(code.threads)
        while self.alive:
            for thread in threads if self.order == "sequential" else reversed(threads):
                self.drive(slice(thread, code.lanes, code.width))
            if self.alive and not self.release():
                raise self.stuck()

    def drive(self, domain: slice) -> None:
        """Run the threads of a domain until none of them can go on."""
        while True:
            place = np.where(self.parked[domain], self.end, self.pc[domain])
            lowest = int(place.min())
            if lowest >= self.end:
                return
            here = place == lowest
            others = place[~here]
            limit = int(others.min()) if len(others) else self.end
            self.advance(self.lanes_of(domain, here), lowest, limit)

    def lanes_of(self, domain: slice, here: Array) -> Lanes:
        """Lanes of a domain as a selection, the cheapest that fits."""
        total = self.code.lanes
        count = int(np.count_nonzero(here))
        if count == len(here):
            return Lanes(domain, domain, total, count)
        index = np.flatnonzero(here)
        if domain is not ALL:
            assert domain.start is not None and domain.step is not None
            index = index * domain.step + domain.start
        if count == self.alive:
            return Lanes(ALL, index, total, count)
        return Lanes.of(index, total)

    def advance(self, lanes: Lanes, at: int, limit: int) -> None:
        """Run lanes from a block on, up to where other lanes stand or their ways part."""
        blocks, end = self.blocks, self.end
        self.turns = 0
        while True:
            block = blocks[at]
            if block.meeting is not None and not self.meet(lanes, block):
                return
            for step in block.steps:
                step(lanes)
            self.count(lanes, block)
            if block.condition is not None:
                taken = block.condition[lanes.exact]
                if block.negated:
                    taken = ~taken
                if taken.all():
                    to = block.target
                elif not taken.any():
                    to = block.following
                else:
                    self.part(lanes, np.where(taken, block.target, block.following))
                    return
            elif block.table is not None:
                index, targets = block.table
                self.part(lanes, targets.take(index[lanes.exact], mode="clip"))
                return
            else:
                to = block.following
            if to >= end or to >= limit or (to <= at and self.yields(lanes)):
                self.part(lanes, to)
                return
            at = to

    def count(self, lanes: Lanes, block: StepBlock) -> None:
        self.executed += lanes.count * len(block.instructions)
        self.code.clock[0] += 1
        self.remaining -= 1
        if self.remaining < 0:
            raise self.code.error(
                "the kernel does not come to an end", block.instructions[-1]
                if block.instructions else None, "raise `step_limit` if it is only slow",
            )  # fmt: skip

    def part(self, lanes: Lanes, to: Array | int) -> None:
        """Leave lanes at the places where they go on."""
        self.pc[lanes.exact] = to
        if self.code.is_spinning:
            self.sleep(lanes)
        ended = (
            int(np.count_nonzero(to >= self.end))
            if isinstance(to, np.ndarray)
            else lanes.count * (to >= self.end)
        )
        if ended:
            self.alive -= ended
            self.fruitless = 0

    def yields(self, lanes: Lanes) -> bool:
        """Whether lanes that jump back let others run first."""
        if self.code.is_spinning:
            return True
        self.turns += 1
        if self.turns > SLICE and lanes.count < self.alive:
            self.code.is_spinning = self.is_busy = True
            return True
        return False

    def sleep(self, lanes: Lanes) -> None:
        self.parked[lanes.exact] = True
        self.asleep[lanes.exact] = True
        self.code.is_spinning = False

    # Coming together.

    def meet(self, lanes: Lanes, block: StepBlock) -> bool:
        """Bring threads together for a block; true if just these lanes go on with it now."""
        watch = self.code.watch
        if lanes.pure is ALL and block.is_common:
            watch.met(block.instructions[0], lanes)
            return True
        self.pc[lanes.exact] = block.number
        self.parked[lanes.exact] = True
        if block.meeting == "barrier":
            assert block.barrier is not None
            self.barrier[lanes.exact] = block.barrier[lanes.exact]
            alive = (self.pc < self.end).reshape(self.code.blocks, -1).sum(axis=1)
            np.maximum(self.alive_before, alive, out=self.alive_before)
        if self.order != "lockstep":
            return False
        ready = self.ready(block)
        if not len(ready):
            return False
        if len(ready) == lanes.count and (self.pc[ready] == block.number).all():
            self.unpark(ready, block)
            watch.met(block.instructions[0], lanes)
            return True
        self.pass_on(ready, block)
        return False

    def ready(self, block: StepBlock) -> Array:
        """The lanes that wait for a block (or a barrier of it) and whose others have come."""
        if block.meeting == "barrier":
            return self.ready_at_barrier()
        here = self.parked & (self.pc == block.number) & ~self.asleep
        alive = self.pc < self.end
        size = _GROUP if block.meeting == "group" else WARP
        if block.members is None:
            rows = here.reshape(-1, size)
            full = rows.any(axis=1) & (rows == alive.reshape(-1, size)).all(axis=1)
            return np.flatnonzero((rows & full[:, None]).ravel())
        missing = np.repeat(_words(alive) & ~_words(here), WARP)
        return np.flatnonzero(here & ((block.members & missing) == 0))

    def ready_at_barrier(self) -> Array:
        """The lanes at barriers that are complete."""
        code, found = self.code, list[Array]()
        waiting = np.unique(self.barrier[self.barrier >= 0])
        alive = (self.pc < self.end).reshape(code.blocks, -1, WARP)
        for number in map(int, waiting):
            here = (self.barrier == number).reshape(code.blocks, -1, WARP)
            full = (here == alive).all(axis=2) & here.any(axis=2)
            counts = self.counts(number).reshape(code.blocks, -1).max(axis=1)
            present: Array = full.sum(axis=1) * WARP + self.arrived[:, number]
            everyone: Array = (full | ~alive.any(axis=2)).all(axis=1)
            everyone |= (self.arrived[:, number] > 0) & (present >= code.width)
            complete = np.where(counts > 0, present >= counts, everyone) & full.any(axis=1)
            self.arrived[complete, number] = 0
            chosen = here & full[:, :, None] & complete[:, None, None]
            found.append(np.flatnonzero(chosen.ravel()))
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def counts(self, number: int) -> Array:
        """For each lane at a barrier, how many threads it wants there; 0 for all."""
        counts = np.zeros(self.code.lanes, np.int64)
        here = np.flatnonzero(self.barrier == number)
        for place in map(int, np.unique(self.pc[here])):
            wanted = self.blocks[place].count
            if wanted is not None:
                lanes = here[self.pc[here] == place]
                counts[lanes] = wanted[lanes]
        return counts

    def arrive(self, lanes: Lanes, number: Array) -> None:
        """Threads that come to a barrier and go on."""
        self.code.watch.arrived(lanes)
        index = lanes.indices()
        np.add.at(self.arrived, (self.code.block_of[index], number[index]), 1)

    def unpark(self, ready: Array, block: StepBlock) -> None:
        if block.meeting == "barrier":
            self.judge(ready)
        self.parked[ready] = False
        self.barrier[ready] = _NO_BARRIER
        self.fruitless = 0

    def pass_on(self, ready: Array, block: StepBlock) -> None:
        """Run the block for lanes that came together, and leave them behind it. Threads at one
        barrier may stand at several places of the text."""
        self.unpark(ready, block)
        together = Lanes.of(ready, self.code.lanes)
        self.code.watch.met(block.instructions[0], together)
        for place in map(int, np.unique(self.pc[ready])):
            lanes = Lanes.of(ready[self.pc[ready] == place], self.code.lanes)
            for step in self.blocks[place].steps:
                step(lanes)
            self.count(lanes, self.blocks[place])
            self.part(lanes, self.blocks[place].following)

    def judge(self, ready: Array) -> None:
        """Tell of barriers that only some threads of a block came to."""
        code = self.code
        blocks = np.unique(code.block_of[ready])
        if self.order == "lockstep":
            alive = (self.pc < self.end).reshape(code.blocks, -1).sum(axis=1)
            left = blocks[alive[blocks] < self.alive_before[blocks]]
            if len(left):
                first = ready[code.block_of[ready] == left[0]][0]
                at = self.blocks[int(self.pc[first])].instructions[0]
                code.watch.divergent(at, len(left), "threads ended while others waited here")
        self.alive_before[blocks] = 0
        place = self.pc[ready]
        same_warp = ready[1:] // WARP == ready[:-1] // WARP
        split = same_warp & (place[1:] != place[:-1])
        if split.any():
            at = self.blocks[int(place[1:][split][0])].instructions[0]
            code.watch.divergent(
                at, int(split.sum()), "threads of one warp wait at different instructions"
            )

    def release(self) -> bool:
        """Let go whom nothing holds back any more; false if everybody waits for ever."""
        done = False
        for place in map(int, np.unique(self.pc[self.parked & ~self.asleep])):
            if place >= self.end:
                continue
            block = self.blocks[place]
            ready = self.ready(block)
            if len(ready):
                self.pass_on(ready, block)
                done = True
        if self.asleep.any():
            self.parked[self.asleep] = False
            self.asleep[:] = False
            self.fruitless += not done and not self.is_busy
            self.is_busy = False
            done = self.fruitless < MOST_FRUITLESS_ROUNDS
        return done

    def stuck(self) -> HectoriteError:
        """The error for threads that wait for what never comes."""
        places = [int(place) for place in np.unique(self.pc[self.pc < self.end])]
        waits = [self.blocks[place].instructions[0] for place in places]
        lines = ", ".join(str(at.line) for at in waits)
        kinds = {str(self.blocks[place].meeting) for place in places}
        for at in waits:
            self.code.watch.divergent(at, 1, "threads wait here for others that never come")
        hint = "a barrier must be reached by all threads of its block, or by none"
        return self.code.error(
            f"all threads wait, at line{'s' * (len(waits) > 1)} {lines}", waits[0],
            hint if "barrier" in kinds else None,
        )  # fmt: skip


def _words(bits: Array) -> Array:
    """32 lanes as one number, for each warp."""
    return np.packbits(bits.reshape(-1, WARP), axis=1, bitorder="little").view("<u4")[:, 0]
