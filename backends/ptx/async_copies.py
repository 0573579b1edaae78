"""Copies that finish later: `cp.async` of each thread, and bulk copies.

The latest moment at which a copy may land is the one that shows a missing wait: what `cp.async`
copies appears in shared memory when its group is waited for, what a bulk copy brings, when somebody
looks at its barrier object. What was read is the memory at the time of the instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import Access, Places
from hectorite.backends.ptx.barriers import ObjectAccess, barrier_objects
from hectorite.backends.ptx.float import element_of
from hectorite.backends.ptx.formats import DTYPES, decode, encode
from hectorite.backends.ptx.integer import Builder, value_type
from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Immediate, Instruction, Operand

Array = npt.NDArray[Any]


_SEVERAL = -1


@dataclass
class _Copy:
    """Bytes under way: for each lane the row of data and where it goes; `group` is the number of
    groups that its lane had committed before."""

    lanes: Array
    offsets: Array
    data: Array
    group: Array


class AsyncCopies:
    """The copies of all threads of a batch, those of one thread of each block (as it runs in a
    sequential schedule) under the number of the thread, others together."""

    def __init__(self, code: Code):
        self.code = code
        self.committed = np.zeros(code.lanes, np.int64)
        self.copies: dict[int, list[_Copy]] = {}

    def clear(self) -> None:
        self.committed[:] = 0
        self.copies.clear()

    def add(self, lanes: Array, offsets: Array, data: Array) -> None:
        threads = self.threads(lanes)
        key = threads.pop() if len(threads) == 1 else _SEVERAL
        copy = _Copy(lanes, offsets, data, self.committed[lanes])
        self.copies.setdefault(key, []).append(copy)

    def threads(self, lanes: Array) -> set[int]:
        """The numbers of threads of few lanes; of many, `_SEVERAL`."""
        if len(lanes) > self.code.blocks:
            return {_SEVERAL}
        return set(np.unique(lanes % self.code.width).tolist())

    def commit(self, lanes: Lanes) -> None:
        """What each lane copied since its last commit is a group."""
        self.committed[lanes.exact] += 1

    def land(self, lanes: Lanes, left: int | None) -> None:
        """Finish all groups of some lanes but the last `left`; of None, whatever they copied."""
        threads = self.threads(lanes.indices())
        keys = list(self.copies) if _SEVERAL in threads else [_SEVERAL, *sorted(threads)]
        waits = None
        for key in keys:
            if not self.copies.get(key):
                continue
            if waits is None:
                waits = np.zeros(self.code.lanes, bool)
                waits[lanes.exact] = True
            self.copies[key] = self.landed(self.copies[key], waits, left)

    def landed(self, copies: list[_Copy], waits: Array, left: int | None) -> list[_Copy]:
        """What is left of copies when lanes have waited."""
        kept: list[_Copy] = []
        for copy in copies:
            done = waits[copy.lanes]
            if left is not None:
                done = done & (copy.group < self.committed[copy.lanes] - left)
            if done.all():
                self.write(copy)
                continue
            if done.any():
                self.write(_part(copy, done))
                copy = _part(copy, ~done)
            kept.append(copy)
        return kept

    def write(self, copy: _Copy) -> None:
        size = copy.data.shape[1]
        self.code.shared.reshape(-1, size)[copy.offsets >> (size.bit_length() - 1)] = copy.data
        self.code.watch.landed(copy.lanes, copy.offsets, size)


def _part(copy: _Copy, chosen: Array) -> _Copy:
    return _Copy(copy.lanes[chosen], copy.offsets[chosen], copy.data[chosen], copy.group[chosen])


def copies_of(code: Code) -> AsyncCopies:
    """The copies of a prepared kernel."""
    if code.copies is None:
        code.copies = AsyncCopies(code)
    return code.copies


def cp(code: Code, at: Instruction) -> Step:
    """All forms of `cp`."""
    parts = set(at.suffix)
    if "tensor" in parts:
        raise code.unsupported("copies through a tensor map")
    if "bulk" in parts:
        return _bulk(code, at, parts)
    copies = copies_of(code)
    if "commit_group" in parts:
        return copies.commit
    if "wait_all" in parts:
        return lambda lanes: copies.land(lanes, None)
    if "wait_group" in parts:
        number = at.operands[0]
        if not isinstance(number, Immediate):
            raise code.error("`wait_group` takes a number")
        left = int(number.value)
        return lambda lanes: copies.land(lanes, left)
    if "mbarrier" in parts:
        return _arrive_when_landed(code, at, copies)
    return _copy(code, at, copies)


def _copy(code: Code, at: Instruction, copies: AsyncCopies) -> Step:
    """`cp.async.cg.shared.global [to], [from], 16, bytes;` what is beyond `bytes` becomes 0."""
    size_operand, *rest = at.operands[2:]
    if not isinstance(size_operand, Immediate):
        raise code.error("the size of `cp.async` must be a number")
    size = int(size_operand.value)
    if size not in ((16,) if "cg" in at.suffix else (4, 8, 16)):
        raise code.error(f"`{at.mnemonic}` cannot copy {size} bytes")
    if any(part.endswith("cache_hint") for part in at.suffix):
        rest = rest[:-1]
    to = Access(code, at, at.operands[0], "shared", size, "async")
    whole = Access(code, at, at.operands[1], "global", size, "read")
    count = _source_bytes(code, rest[0], size) if rest else None

    def run(lanes: Lanes) -> None:
        data = np.zeros((code.lanes, size), np.uint8)
        given = None if count is None else count[lanes.exact]
        if given is None or (given >= size).all():
            _read(whole, lanes, data, size)
        else:
            index = lanes.indices()
            for bytes_read in np.unique(given[given > 0]).tolist():
                some = Lanes.of(index[np.minimum(given, size) == min(bytes_read, size)], code.lanes)
                if not some.count:
                    continue
                if bytes_read >= size:
                    _read(whole, some, data, size)
                else:
                    _read_bytes(code, at, some, data, int(bytes_read))
        for places in to.places(lanes):
            index = code.numbers[places.index]
            copies.add(index, places.offsets, data[index])

    return run


def _source_bytes(code: Code, operand: Operand, size: int) -> Array:
    """How many bytes each lane reads; a predicate says that it reads none."""
    name = getattr(operand, "name", None)
    if isinstance(name, str) and code.function.registers.get(name) == "pred":
        raise code.unsupported("a predicate that ignores the source")
    return code.operand(operand, "u32")


def _read(access: Access, lanes: Lanes, data: Array, size: int) -> None:
    for places in access.places(lanes):
        width = min(size, 8)
        loaded = places.load(f"u{width}", size // width).reshape(len(places.offsets), -1)
        data[places.index] = np.ascontiguousarray(loaded).view(np.uint8).reshape(-1, size)


def _read_bytes(code: Code, at: Instruction, lanes: Lanes, data: Array, count: int) -> None:
    """The first bytes of a source that has no more."""
    for number in range(count):
        access = Access(code, at, at.operands[1], "global", 1, "read")
        access.offset += number
        for places in access.places(lanes):
            data[places.index, number] = places.load("u1", 1)


def _arrive_when_landed(code: Code, at: Instruction, copies: AsyncCopies) -> Step:
    """A barrier object learns when all copies of a thread so far have landed."""
    place, objects = ObjectAccess(code, at, at.operands[0]), barrier_objects(code)
    counts_extra = "noinc" not in at.suffix

    def run(lanes: Lanes) -> None:
        index, offsets = place.offsets(lanes)
        numbers = code.numbers[index]
        if counts_extra:
            objects.expect(offsets, np.ones(len(offsets)))
        for offset in np.unique(offsets).tolist():
            waiting = numbers[offsets == offset]

            def finish(waiting: Array = waiting, offset: int = offset) -> None:
                copies.land(Lanes.of(waiting, code.lanes), None)
                code.watch.released(waiting, np.full(len(waiting), offset))
                objects.update(np.array([offset]), np.array([len(waiting)]), np.zeros(1))

            objects.under_way.setdefault(offset, []).append(finish)

    return run


# Bulk copies.


def _bulk(code: Code, at: Instruction, parts: set[str]) -> Step:
    if parts & {"commit_group", "wait_group", "prefetch"}:
        return lambda lanes: None
    spaces = [part.partition("::")[0] for part in at.suffix if part[:6] in ("shared", "global")]
    if spaces == ["shared", "global"]:
        return _bulk_in(code, at)
    if spaces == ["global", "shared"]:
        return _bulk_out(code, at)
    raise code.unsupported("between these spaces")


def _bulk_in(code: Code, at: Instruction) -> Step:
    """Global to shared memory, telling a barrier object of the bytes."""
    to = Access(code, at, at.operands[0], "shared", 16, "async")
    source = Access(code, at, at.operands[1], "global", 16, "read")
    size, place = code.operand(at.operands[2], "u32"), ObjectAccess(code, at, at.operands[3])
    objects = barrier_objects(code)

    def run(lanes: Lanes) -> None:
        for lane in lanes.indices():
            one, count = Lanes.of(np.array([lane]), code.lanes), int(size[lane])
            data = _bulk_bytes(code, at, source, one, count, "global")
            found = _span(code, at, to, one, count, "shared")
            _, offsets = place.offsets(one)
            if data is None or found is None or not len(offsets):
                continue
            offset, start = int(offsets[0]), int(found.offsets[0])
            finish = _landing(code, int(lane), start, data, offset)
            objects.under_way.setdefault(offset, []).append(finish)

    return run


def _landing(code: Code, lane: int, start: int, data: Array, barrier: int) -> Callable[[], None]:
    def finish() -> None:
        code.shared[start : start + len(data)] = data
        pieces = start + np.arange(0, len(data), 16)
        lanes = np.full(len(pieces), lane)
        code.watch.landed(lanes, pieces, 16)
        code.watch.released(lanes[:1], np.array([barrier]))
        objects = barrier_objects(code)
        objects.update(np.array([barrier]), np.zeros(1), np.array([-len(data)]))

    return finish


def _span(
    code: Code, at: Instruction, access: Access, one: Lanes, count: int, space: str
) -> Places | None:
    """Where the `count` bytes of one lane's copy begin, None if they are not all there."""
    if count % 16:
        raise code.error(f"a bulk copy of {count} bytes, which is no multiple of 16", at)
    first = access.places(one)
    if not first or count <= 16:
        return first[0] if first else None
    # The last 16 bytes tell whether the rest exists.
    last = Access(code, at, at.operands[0 if access.kind != "read" else 1], access.space, 16,
                  access.kind)  # fmt: skip
    last.offset += count - 16
    return first[0] if last.places(one) else None


def _bulk_bytes(
    code: Code, at: Instruction, access: Access, one: Lanes, count: int, space: str
) -> Array | None:
    found = _span(code, at, access, one, count, space)
    if found is None:
        return None
    start = int(found.offsets[0])
    return found.buffer.typed(1)[start : start + count].copy()


def _bulk_out(code: Code, at: Instruction) -> Step:
    """Shared to global memory; with `cp.reduce`, added (or so) to what is there."""
    to = Access(code, at, at.operands[0], "global", 16, "write")
    source = Access(code, at, at.operands[1], "shared", 16, "read")
    size = code.operand(at.operands[2], "u32")
    combine = _reduction(code, at) if "reduce" in at.suffix else None

    def run(lanes: Lanes) -> None:
        for lane in lanes.indices():
            one, count = Lanes.of(np.array([lane]), code.lanes), int(size[lane])
            data = _bulk_bytes(code, at, source, one, count, "shared")
            found = _span(code, at, to, one, count, "global")
            if data is None or found is None:
                continue
            start = int(found.offsets[0])
            there = found.buffer.typed(1)[start : start + count]
            there[:] = data if combine is None else combine(there.copy(), data)
            code.memory.state[start : start + count] = 2

    return run


def _reduction(code: Code, at: Instruction) -> Callable[[Array, Array], Array]:
    """What is there and what comes, as bytes -> what is there then."""
    type = element_of(value_type(code, at))
    dtype = DTYPES[type][0]
    functions = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and,
                 "or": np.bitwise_or, "xor": np.bitwise_xor}  # fmt: skip
    function = next(functions[part] for part in at.suffix if part in functions)

    def run(there: Array, data: Array) -> Array:
        old, new = there.view(dtype), data.view(dtype)
        if type in ("f16", "bf16"):
            total = encode(function(decode(old, type), decode(new, type)), type)
        else:
            total = function(old, new)
        return total.view(np.uint8)

    return run


BUILDERS: dict[str, Builder] = {"cp": cp}
