"""Barriers of a block and barrier objects in shared memory (`mbarrier`).

A barrier object is a 64-bit word of shared memory: bits 0-19 arrivals still missing, 20-39 arrivals
of a phase, 40-62 bytes still to come (biased), 63 the parity of the phase. A phase ends when
nothing is missing; the next begins with all arrivals missing again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import Access
from hectorite.backends.ptx.integer import Builder
from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Immediate, Instruction, Operand, Sink

Array = npt.NDArray[Any]

_COUNT_BITS = 20
_COUNT_MASK = (1 << _COUNT_BITS) - 1
_BYTES_SHIFT = 2 * _COUNT_BITS
_BYTES_MASK = (1 << 23) - 1
_BYTES_BIAS = 1 << 22


def bar(code: Code, at: Instruction) -> Step:
    """`bar` and `barrier`: the schedule has brought the threads together; reductions remain."""
    if "arrive" in at.suffix and "cluster" not in at.suffix:
        number = code.operand(at.operands[0], "u32").astype(np.int64)
        return lambda lanes: code.schedule.arrive(lanes, number)
    if "red" not in at.suffix:
        return lambda lanes: None
    return _reduction(code, at)


def _reduction(code: Code, at: Instruction) -> Step:
    """`bar.red.popc.u32 d, a, p`, `bar.red.and.pred q, a, p`: over all threads of a block."""
    predicate, negated = code.predicate(at.operands[-1])
    counts = "popc" in at.suffix
    target = code.target(at.operands[0], "u32" if counts else "pred")

    def run(lanes: Lanes) -> None:
        block = code.block_of[lanes.exact]
        holds = predicate[lanes.exact] ^ negated
        true = np.bincount(block, holds, code.blocks).astype(np.int64)
        everyone = np.bincount(block, minlength=code.blocks)
        if counts:
            target.store(lanes.exact, true[block].astype(np.uint32))
        elif "and" in at.suffix:
            target.store(lanes.exact, (true == everyone)[block])
        else:
            target.store(lanes.exact, (true > 0)[block])

    return run


@dataclass
class BarrierObjects:
    """The barrier objects of a batch, by byte offset in all of its shared memory, and what is under
    way towards them: it lands when somebody looks."""

    words: Array
    under_way: dict[int, list[Callable[[], None]]] = field(
        default_factory=dict[int, list[Callable[[], None]]]
    )

    def update(self, places: Array, arrivals: Array, more_bytes: Array) -> Array:
        """Arrivals and expected bytes at places (repeated ones add up); the words before."""
        unique, inverse = np.unique(places, return_inverse=True)
        before = self.words[unique >> 3].copy()
        taken = np.bincount(inverse, arrivals, len(unique)).astype(np.int64)
        added = np.bincount(inverse, more_bytes, len(unique)).astype(np.int64)
        self.words[unique >> 3] = _changed(before, taken, added)
        return before[inverse]

    def expect(self, places: Array, count: Array) -> None:
        """One more arrival for the running phase, at each place."""
        unique, inverse = np.unique(places, return_inverse=True)
        more = np.bincount(inverse, count, len(unique)).astype(np.uint64)
        self.words[unique >> 3] += more

    def land(self, places: Array) -> None:
        """Finish what is under way towards barriers that are looked at."""
        for place in np.unique(places).tolist() if self.under_way else ():
            for finish in self.under_way.pop(place, ()):
                finish()


def _changed(word: Array, arrivals: Array, more_bytes: Array) -> Array:
    signed = word.view(np.int64)
    missing = (signed & _COUNT_MASK) - arrivals
    expected = (signed >> _COUNT_BITS) & _COUNT_MASK
    pending = ((signed >> _BYTES_SHIFT) & _BYTES_MASK) + more_bytes
    phase = (signed >> 63) & 1
    ends = (missing <= 0) & (pending == _BYTES_BIAS)
    missing = np.where(ends, expected, np.maximum(missing, 0))
    return _word(missing, expected, pending, phase ^ ends)


def _word(missing: Array, expected: Array, pending: Array, phase: Array) -> Array:
    whole = missing | (expected << _COUNT_BITS) | (pending << _BYTES_SHIFT) | (phase << 63)
    return whole.astype(np.int64).view(np.uint64)


def barrier_objects(code: Code) -> BarrierObjects:
    """The barrier objects of a prepared kernel."""
    if code.barriers is None:
        code.barriers = BarrierObjects(code.shared.view(np.uint64))
    return code.barriers


class ObjectAccess:
    """Where an instruction's barrier objects are."""

    def __init__(self, code: Code, at: Instruction, operand: Operand):
        names_shared = any(part.startswith("shared") for part in at.suffix)
        space = "shared" if names_shared else "generic"
        self.access = Access(code, at, operand, space, 8, "barrier")

    def offsets(self, lanes: Lanes) -> tuple[Any, Array]:
        """Lanes and their byte offsets in the shared memory of the batch."""
        found = [p for p in self.access.places(lanes) if p.space == "shared"]
        if not found:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if len(found) == 1:
            return found[0].index, found[0].offsets
        index = [np.arange(lanes.total)[p.index] for p in found]
        return np.concatenate(index), np.concatenate([p.offsets for p in found])


def mbarrier(code: Code, at: Instruction) -> Step:
    """Every operation on barrier objects."""
    action = at.suffix[0]
    builder = {
        "init": _init,
        "inval": _invalidate,
        "arrive": _arrive,
        "arrive_drop": _arrive,
        "expect_tx": _expect,
        "complete_tx": _expect,
        "test_wait": _test,
        "try_wait": _test,
        "pending_count": _pending_count,
    }.get(action)
    if builder is None:
        raise code.unsupported()
    return builder(code, at)


def _init(code: Code, at: Instruction) -> Step:
    place, objects = ObjectAccess(code, at, at.operands[0]), barrier_objects(code)
    count = code.operand(at.operands[1], "u32")

    def run(lanes: Lanes) -> None:
        index, offsets = place.offsets(lanes)
        wanted = count[index].astype(np.int64)
        zero = np.zeros_like(wanted)
        objects.words[offsets >> 3] = _word(wanted, wanted, zero + _BYTES_BIAS, zero)

    return run


def _invalidate(code: Code, at: Instruction) -> Step:
    place, objects = ObjectAccess(code, at, at.operands[0]), barrier_objects(code)

    def run(lanes: Lanes) -> None:
        objects.words[place.offsets(lanes)[1] >> 3] = 0

    return run


def _arrive(code: Code, at: Instruction) -> Step:
    """`arrive`, with `.expect_tx` of bytes, `.noComplete` and `_drop`."""
    place, objects = ObjectAccess(code, at, at.operands[1]), barrier_objects(code)
    drops, expects = at.suffix[0] == "arrive_drop", "expect_tx" in at.suffix
    result = at.operands[0]
    target = None if isinstance(result, Sink) else code.target(result, "b64")
    extra = at.operands[2] if len(at.operands) > 2 else Immediate(0 if expects else 1)
    number = code.operand(extra, "u32")

    def run(lanes: Lanes) -> None:
        index, offsets = place.offsets(lanes)
        value = number[index].astype(np.int64)
        arrivals = np.ones_like(value) if expects else value
        if expects:
            objects.update(offsets, np.zeros_like(value), value)
        if drops:
            unique, inverse = np.unique(offsets, return_inverse=True)
            fewer = np.bincount(inverse, arrivals, len(unique)).astype(np.uint64)
            objects.words[unique >> 3] -= fewer << np.uint64(_COUNT_BITS)
        code.watch.released(index, offsets)
        before = objects.update(offsets, arrivals, np.zeros_like(value))
        if target is not None:
            target.store(index, before)

    return run


def _expect(code: Code, at: Instruction) -> Step:
    """More bytes to come (`expect_tx`), or some that came (`complete_tx`)."""
    place, objects = ObjectAccess(code, at, at.operands[0]), barrier_objects(code)
    number = code.operand(at.operands[1], "u32")
    sign = -1 if at.suffix[0] == "complete_tx" else 1

    def run(lanes: Lanes) -> None:
        index, offsets = place.offsets(lanes)
        value = number[index].astype(np.int64) * sign
        objects.update(offsets, np.zeros_like(value), value)

    return run


def _test(code: Code, at: Instruction) -> Step:
    """Whether the phase that a token or a parity names has ended."""
    place, objects = ObjectAccess(code, at, at.operands[1]), barrier_objects(code)
    target = code.target(at.operands[0], "pred")
    by_parity = "parity" in at.suffix
    token = code.operand(at.operands[2], "u32" if by_parity else "u64")

    def run(lanes: Lanes) -> None:
        index, offsets = place.offsets(lanes)
        objects.land(offsets)
        current = (objects.words[offsets >> 3] >> np.uint64(63)).astype(np.int64)
        given = token[index]
        awaited = given & 1 if by_parity else (given >> np.uint64(63)).astype(np.int64)
        done = current != awaited
        target.store(index, done)
        code.watch.acquired(index, offsets, done)
        if done.all():
            code.schedule.fruitless = 0
        else:
            code.is_spinning = True

    return run


def _pending_count(code: Code, at: Instruction) -> Step:
    token, target = code.operand(at.operands[1], "u64"), code.target(at.operands[0], "u32")

    def pending(word: Array) -> Array:
        return (word & np.uint64(_COUNT_MASK)).astype(np.uint32)

    return code.elementwise(pending, target, token)


BUILDERS: dict[str, Builder] = {"bar": bar, "barrier": bar, "mbarrier": mbarrier}
