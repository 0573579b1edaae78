"""Checks of a kernel while it runs: races, unwritten reads, memory traffic.

Enters: every access and meeting of threads, from the steps and the schedule. Leaves: findings with
lines of PTX (`watch.Finding`).

Who knows of whom is kept per warp: a warp's epoch goes up when it synchronises, and its clock says
which epochs of the other warps of its block lie behind it. Two accesses of one place are ordered if
one thread did both, or if the later one's warp knows the epoch of the earlier one. Only barriers
(`bar`, `bar.warp.sync`, barrier objects) order memory; shuffles and votes do not. The last writer
and the last two readers (of different warps, where there are such) of each place are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.flights import Flights, accumulators
from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.lanes import ALL, WARP, Lanes
from hectorite.backends.ptx.memory import UNWRITTEN, WRITTEN
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.backends.ptx.watch import Checks, Traffic, Watch
from hectorite.ir.diagnostics import Source
from hectorite.ir.ptx.flow import blocks_of, live_registers, reads, writes
from hectorite.ir.ptx.syntax import Function, Instruction

if TYPE_CHECKING:
    from hectorite.backends.ptx.access import Places

Array = npt.NDArray[Any]

_UNDER_WAY = np.int32(2**31 - 1)
"""The epoch of what an asynchronous copy will write: nobody knows it yet."""
_SECTOR_SHIFT = 5
_BANKS = 32


class Checker(Watch):
    """Records what `checks` ask for."""

    is_watching = True

    def __init__(self, source: Source | None, checks: Checks, code: Code):
        super().__init__(source, checks)
        self.code = code
        self.number = code.numbers
        self.granule = smallest_access(code.function)
        found = unwritten_registers(code.function) if checks.uninitialized else ()
        self.fresh: frozenset[str] = frozenset(found)
        self.known = {name: np.zeros(code.lanes, bool) for name in self.fresh}
        self.local_written = np.zeros(len(code.local), bool)
        cells = len(code.shared) // self.granule
        self.writer = np.empty(cells, np.int32)
        self.written_at = np.empty(cells, np.int32)
        self.by_atomic = np.empty(cells, bool)
        self.readers = [np.empty(cells, np.int32) for _ in range(2)]
        self.read_at = [np.empty(cells, np.int32) for _ in range(2)]
        warps = code.warps_per_block
        # Where a warp's clock begins, less the number of the first warp of its block.
        warp = code.numbers // WARP
        self.clock_row = warp * warps - warp // warps * warps
        self.epoch = np.zeros((code.blocks, warps), np.int32)
        self.clock = np.zeros((code.blocks, warps, warps), np.int32)
        self.arrivals = np.zeros((code.blocks, warps), np.int32)
        self.objects: dict[int, Array] = {}
        has_groups = checks.races and accumulators(code.function.body)
        self.flights = Flights(self, code) if has_groups else None

    def begin(self) -> None:
        for known in self.known.values():
            known[:] = False
        self.local_written[:] = False
        self.writer[:] = -1
        self.written_at[:] = 0
        self.by_atomic[:] = False
        for readers, read_at in zip(self.readers, self.read_at, strict=True):
            readers[:] = -1
            read_at[:] = 0
        self.epoch[:] = 0
        self.clock[:] = 0
        self.arrivals[:] = 0
        self.objects.clear()
        if self.flights is not None:
            self.flights.begin()

    # Registers.

    def watched(self, code: Code, at: Instruction, step: Step) -> Step:
        """A step that tells of registers which nothing wrote before, or is still writing."""
        if self.flights is not None:
            step = self.flights.watched(at, step, [*reads(at), *writes(at)])
        read = [name for name in reads(at) if name in self.fresh]
        written = [name for name in writes(at) if name in self.fresh]
        if at.guard is not None and at.guard.register in read:
            read.remove(at.guard.register)
        if not read and not written:
            return step

        def run(lanes: Lanes) -> None:
            for name in read:
                known = self.known[name][lanes.exact]
                if not known.all():
                    missing = int(np.count_nonzero(~known))
                    message = f"`{at.mnemonic}` reads {name}, which was never written"
                    self.record("uninitialized", at, message, missing)
                    self.known[name][lanes.exact] = True
            step(lanes)
            for name in written:
                self.known[name][lanes.exact] = True

        return run

    # Memory.

    def access(self, at: Instruction, places: Places, width: int, kind: str) -> None:
        if places.space == "shared":
            if kind == "barrier":
                return
            if self.checks.races or self.checks.uninitialized:
                self.shared_access(at, places, width, kind)
            if self.checks.traffic:
                self.shared_traffic(at, places, width)
        elif places.space == "global":
            if self.checks.uninitialized and self.code.memory.has_unwritten:
                self.global_access(at, places, width, kind)
            if self.checks.traffic:
                self.global_traffic(at, places, width)
        elif places.space == "local" and self.checks.uninitialized:
            self.local_access(at, places, width, kind)

    def local_access(self, at: Instruction, places: Places, width: int, kind: str) -> None:
        """Reads of local memory of which a thread wrote no byte: what is copied as a whole may have
        gaps between its members."""
        bytes = places.offsets[:, None] + np.arange(width)
        if kind != "write":
            fresh = ~self.local_written[bytes].any(axis=1)
            if fresh.any():
                self.record(
                    "uninitialized", at,
                    f"`{at.mnemonic}` reads local memory that was never written",
                    int(np.count_nonzero(fresh)),
                )  # fmt: skip
        if kind != "read":
            self.local_written[bytes] = True

    def global_access(self, at: Instruction, places: Places, width: int, kind: str) -> None:
        """Reads of allocations that nobody wrote."""
        state = self.code.memory.state
        if kind != "write":
            fresh = state[places.offsets] == UNWRITTEN
            if fresh.any():
                self.record(
                    "uninitialized", at,
                    f"`{at.mnemonic}` reads global memory that was never written",
                    int(np.count_nonzero(fresh)),
                )  # fmt: skip
        if kind != "read":
            for byte in range(width):
                state[places.offsets + byte] = WRITTEN

    def cells_of(self, offsets: Array, width: int) -> Array:
        """The cells of accesses, [access, cell of it]."""
        each = max(1, width // self.granule)
        return (offsets // self.granule)[:, None] + np.arange(each)

    def shared_access(self, at: Instruction, places: Places, width: int, kind: str) -> None:
        lanes = self.number[places.index]
        cells = self.cells_of(places.offsets, width)
        lanes = np.repeat(lanes[:, None], cells.shape[1], axis=1).ravel().astype(np.int32)
        cells = cells.ravel()
        if kind in ("read", "atomic") and self.checks.uninitialized:
            fresh = self.writer[cells] < 0
            if fresh.any():
                self.record(
                    "uninitialized", at,
                    f"`{at.mnemonic}` reads shared memory that was never written",
                    int(np.count_nonzero(fresh)),
                )  # fmt: skip
        if self.checks.races:
            self.conflicts(at, cells, lanes, kind)
        epoch = self.epoch.reshape(-1)[lanes // WARP]
        if kind == "read":
            self.read_again(cells, lanes)
            if self.flights is not None and self.flights.reads is not None:
                self.flights.reads.append((cells, lanes))
            return
        self.writer[cells] = lanes
        self.written_at[cells] = _UNDER_WAY if kind == "async" else epoch
        self.by_atomic[cells] = kind == "atomic"
        if kind != "atomic":
            for readers in self.readers:
                readers[cells] = -1

    def read_again(self, cells: Array, lanes: Array) -> None:
        """Lanes read cells, now."""
        epoch = self.epoch.reshape(-1)[lanes // WARP]
        # Of lanes that read one place together the first counts here, the last below.
        self.readers[1][cells[::-1]] = lanes[::-1]
        self.read_at[1][cells[::-1]] = epoch[::-1]
        self.keep_reader(cells, lanes, epoch)

    def keep_reader(self, cells: Array, lanes: Array, epoch: Array) -> None:
        """The last reader in the first row; the second keeps one of another warp if it can."""
        before, before_at = self.readers[0][cells], self.read_at[0][cells]
        self.readers[0][cells] = lanes
        self.read_at[0][cells] = epoch
        second = self.readers[1][cells]
        other = (
            (before >= 0) & (before // WARP != lanes // WARP) & (second // WARP == lanes // WARP)
        )
        chosen = cells[other]
        self.readers[1][chosen] = before[other]
        self.read_at[1][chosen] = before_at[other]

    def conflicts(self, at: Instruction, cells: Array, lanes: Array, kind: str) -> None:
        """Accesses that no barrier orders with an earlier one of the same place."""
        writer, written_at = self.writer[cells], self.written_at[cells]
        under_way = (writer >= 0) & (written_at == _UNDER_WAY)
        clash = self.unordered(lanes, writer, written_at) | under_way
        if kind == "atomic":
            clash &= ~self.by_atomic[cells]
        verb = "reads" if kind == "read" else "writes"
        if clash.any():
            first = int(np.argmax(clash))
            waits = bool(under_way[first])
            earlier = "an asynchronous copy of" if waits else "a write of"
            hint = "before it was waited for" if waits else "without a barrier between them"
            self.record(
                "race", at, f"`{at.mnemonic}` {verb} shared memory after {earlier} "
                f"{self.name_of(int(writer[first]))}, {hint}", int(np.count_nonzero(clash)),
            )  # fmt: skip
        if kind == "read":
            return
        clash = np.zeros(len(cells), bool)
        for row in range(2):
            clash |= self.unordered(lanes, self.readers[row][cells], self.read_at[row][cells])
        if kind == "atomic":
            clash &= ~self.by_atomic[cells]
        if clash.any():
            self.record(
                "race", at, f"`{at.mnemonic}` writes shared memory that other threads may "
                "still have to read, without a barrier between them",
                int(np.count_nonzero(clash)),
            )  # fmt: skip

    def unordered(self, lanes: Array, others: Array, epochs: Array) -> Array:
        """Where an earlier access of another lane is not known to this lane's warp."""
        different = (others >= 0) & (others != lanes)
        if not different.any():
            return different
        place = self.clock_row[lanes] + (np.maximum(others, 0) >> 5)
        return different & (self.clock.reshape(-1).take(place) <= epochs)

    def name_of(self, lane: int) -> str:
        return f"thread {lane % self.code.width}"

    # Meetings.

    def met(self, at: Instruction, lanes: Lanes) -> None:
        if at.name not in ("bar", "barrier"):
            return
        warps = np.unique(lanes.indices() // WARP) if lanes.exact is not ALL else None
        taking = np.zeros(self.epoch.size, bool)
        taking[slice(None) if warps is None else warps] = True
        taking = taking.reshape(self.epoch.shape)
        self.epoch += taking
        own = np.arange(self.epoch.shape[1])
        self.clock[:, own, own] = self.epoch
        if "warp" in at.suffix:
            return
        shared = np.where(taking[:, :, None], self.clock, 0).max(axis=1)
        shared = np.maximum(shared, self.arrivals)
        joined = np.maximum(self.clock, shared[:, None, :])
        self.clock = np.where(taking[:, :, None], joined, self.clock)

    def arrived(self, lanes: Lanes) -> None:
        warps = np.unique(lanes.indices() // WARP)
        block, warp = np.divmod(warps, self.epoch.shape[1])
        self.tick(block, warp)
        np.maximum.at(self.arrivals, block, self.clock[block, warp])

    def tick(self, block: Array, warp: Array) -> None:
        self.epoch[block, warp] += 1
        self.clock[block, warp, warp] = self.epoch[block, warp]

    def released(self, index: Any, offsets: Array) -> None:
        for warp, offset in self.pairs(index, offsets):
            block, own = divmod(warp, self.epoch.shape[1])
            self.tick(np.array([block]), np.array([own]))
            known = self.objects.get(offset)
            clock = self.clock[block, own]
            self.objects[offset] = clock.copy() if known is None else np.maximum(known, clock)

    def acquired(self, index: Any, offsets: Array, done: Array) -> None:
        numbers = self.number[index][done]
        for warp, offset in self.pairs(numbers, offsets[done]):
            known = self.objects.get(offset)
            if known is not None:
                block, own = divmod(warp, self.epoch.shape[1])
                self.clock[block, own] = np.maximum(self.clock[block, own], known)

    def pairs(self, index: Any, offsets: Array) -> list[tuple[int, int]]:
        """Warps and offsets without repetitions."""
        both = np.stack([self.number[index] // WARP, offsets], axis=1)
        return [(int(warp), int(offset)) for warp, offset in np.unique(both, axis=0)]

    def landed(self, lanes: Array, offsets: Array, width: int) -> None:
        cells = self.cells_of(offsets, width)
        lanes = np.repeat(lanes[:, None], cells.shape[1], axis=1)
        self.writer[cells] = lanes
        self.written_at[cells] = self.epoch.reshape(-1)[lanes // WARP]
        self.by_atomic[cells] = False

    # Traffic.

    def counted(self, at: Instruction, space: str) -> Traffic:
        return self.traffic.setdefault((at.line, space), Traffic(at.line, space))

    def global_traffic(self, at: Instruction, places: Places, width: int) -> None:
        """Sectors of 32 bytes that each warp's request touches, and the least it could."""
        warp = self.number[places.index] // WARP
        sectors = np.unique((warp << np.int64(40)) | (places.offsets >> _SECTOR_SHIFT))
        _, lanes = np.unique(warp, return_counts=True)
        total = self.counted(at, "global")
        total.requests += len(lanes)
        total.taken += len(sectors)
        total.ideal += int((-(-lanes * width // (1 << _SECTOR_SHIFT))).sum())

    def shared_traffic(self, at: Instruction, places: Places, width: int) -> None:
        """Cycles of the 32 banks: for each part of a warp that goes at once, the most different
        words of one bank."""
        lanes = self.number[places.index]
        parts = max(1, width // 4)
        group = lanes // WARP * parts + lanes % WARP * parts // WARP
        words = (places.offsets // 4)[:, None] + np.arange(parts)
        keys = np.unique((group[:, None] << np.int64(40)) | words)
        banks = (keys >> np.int64(40)) * _BANKS + (keys & (_BANKS - 1))
        bank, distinct = np.unique(banks, return_counts=True)
        groups, first = np.unique(bank // _BANKS, return_index=True)
        total = self.counted(at, "shared")
        total.requests += len(np.unique(lanes // WARP))
        total.taken += int(np.maximum.reduceat(distinct, first).sum())
        total.ideal += len(groups)

    def where(self, address: int, space: str) -> str:
        """Which allocation an address misses."""
        if space == "shared":
            return f"of {self.code.shared_limit} bytes of shared memory"
        if space != "global":
            return f"of {space} memory"
        near = self.code.memory.nearest(address)
        if near is None:
            return "of global memory, where nothing is"
        past = address - near.address - near.nbytes
        name = near.name or f"an allocation of {near.nbytes} bytes"
        if past >= 0:
            return f"of global memory, {past} bytes past the end of {name}"
        return f"of global memory, at the end of {name}"


def smallest_access(function: Function) -> int:
    """The width, at most 4 bytes, at which shared memory is looked at."""
    least = 4
    for item in function.body:
        if isinstance(item, Instruction) and item.name in ("ld", "st", "atom", "red"):
            types = [part for part in item.suffix if part in DTYPES]
            if types and not {"param", "global", "local", "const"} & set(item.suffix):
                least = min(least, np.dtype(DTYPES[types[-1]][0]).itemsize)
    return least


def unwritten_registers(function: Function) -> frozenset[str]:
    """Registers that some way through the kernel reads before it writes them."""
    live = live_registers(blocks_of(function.body))
    return live[0] if live else frozenset()
