"""Instructions that threads of a warp do together: shuffles, votes, matches, reductions.

The schedule brings the lanes of a warp together before it runs a step of these (`blocks.py`
says for which instructions). Values of lanes that do not take part are read as they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.integer import Builder, value_type
from hectorite.backends.ptx.lanes import ALL, WARP, Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Immediate, Instruction, Operand, Pair

Array = npt.NDArray[Any]


def _with_predicate(operand: Operand) -> tuple[Operand, Operand | None]:
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, None)


def shfl(code: Code, at: Instruction) -> Step:
    """The value of another lane: by offset down or up, by exclusive or, or by number.

    The last operand before the mask holds the segment's mask (bits 8-12) and the clamp (0-4).
    """
    mode = at.suffix[1] if at.suffix[0] == "sync" else at.suffix[0]
    first, second = _with_predicate(at.operands[0])
    target = code.target(first, "u32")
    predicate = None if second is None else code.target(second, "pred")
    a = code.operand(at.operands[1], "u32")
    b, c = (code.operand(operand, "u32") for operand in at.operands[2:4])
    if mode not in ("idx", "up", "down", "bfly"):
        raise code.unsupported()
    numbers = np.arange(code.lanes)
    lane = numbers % WARP

    def sources(lanes: Lanes) -> tuple[Array, Array]:
        """The lane that each reads, and whether it is inside the segment."""
        chosen = lanes.pure
        own = lane[chosen]
        by = (b[chosen] & np.uint32(31)).astype(np.int64)
        control = c[chosen].astype(np.int64)
        segment, clamp = (control >> 8) & 31, control & 31
        least = own & segment
        greatest = least | (clamp & ~segment)
        if mode == "up":
            other = own - by
            inside = other >= greatest
        elif mode == "down":
            other = own + by
            inside = other <= greatest
        elif mode == "bfly":
            other = own ^ by
            inside = other <= greatest
        else:
            other = least | (by & ~segment)
            inside = other <= greatest
        return numbers[chosen] + np.where(inside, other - own, 0), inside

    fixed = all(isinstance(operand, Immediate) for operand in at.operands[2:4])
    known = sources(Lanes(ALL, ALL, code.lanes, code.lanes)) if fixed else None

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        if known is None:
            other, inside = sources(lanes)
        else:
            other, inside = known[0][chosen], known[1][chosen]
        target.store(chosen, a.take(other))
        if predicate is not None:
            predicate.store(chosen, inside)

    return run


def _bits_of(code: Code, lanes: Lanes, values: Array) -> Array:
    """For each lane of `lanes.exact`, the bits of the lanes of its warp that take part and whose
    value is true."""
    everyone = np.zeros(code.lanes, bool)
    everyone[lanes.exact] = values
    words = np.packbits(everyone.reshape(-1, WARP), axis=1, bitorder="little").view("<u4")[:, 0]
    return np.repeat(words, WARP)[lanes.exact]


def vote(code: Code, at: Instruction) -> Step:
    """`all`, `any`, `uni` and `ballot` of a predicate."""
    mode = next(part for part in at.suffix if part in ("all", "any", "uni", "ballot"))
    target = code.target(at.operands[0], "u32" if mode == "ballot" else "pred")
    predicate, negated = code.predicate(at.operands[1])
    mask = _mask(code, at.operands[2:3])

    def run(lanes: Lanes) -> None:
        values = predicate[lanes.exact]
        members = mask[lanes.exact] & _bits_of(code, lanes, np.ones(lanes.count, bool))
        bits = _bits_of(code, lanes, ~values if negated else values) & members
        if mode == "ballot":
            result = bits
        elif mode == "any":
            result = bits != 0
        elif mode == "all":
            result = bits == members
        else:
            result = (bits == members) | (bits == 0)
        target.store(lanes.exact, result)

    return run


def _mask(code: Code, operands: tuple[Operand, ...]) -> Array:
    if operands:
        return code.operand(operands[0], "u32")
    return code.constant(0xFFFFFFFF, "u32")


def activemask(code: Code, at: Instruction) -> Step:
    target = code.target(at.operands[0], "u32")

    def run(lanes: Lanes) -> None:
        target.store(lanes.exact, _bits_of(code, lanes, np.ones(lanes.count, bool)))

    return run


def _each_warp(code: Code, lanes: Lanes) -> tuple[Array, Array]:
    """The warps of some lanes, as rows of lane numbers, and which of them take part."""
    taking = np.zeros(code.lanes, bool)
    taking[lanes.exact] = True
    rows = taking.reshape(-1, WARP)
    warps = np.flatnonzero(rows.any(axis=1))
    return warps[:, None] * WARP + np.arange(WARP), rows[warps]


def match(code: Code, at: Instruction) -> Step:
    """The lanes that have the same value as this one; with `.all`, whether all do."""
    type = value_type(code, at)
    first, second = _with_predicate(at.operands[0])
    target = code.target(first, "u32")
    predicate = None if second is None else code.target(second, "pred")
    a = code.operand(at.operands[1], type)
    mask = _mask(code, at.operands[2:3])
    needs_all = "all" in at.suffix
    weights = np.uint32(1) << np.arange(WARP, dtype=np.uint32)

    def run(lanes: Lanes) -> None:
        rows, taking = _each_warp(code, lanes)
        values = a[rows]
        member = taking[:, None, :] & ((mask[rows][:, :, None] & weights) != 0)
        same = (values[:, :, None] == values[:, None, :]) & member
        bits = (same * weights).sum(axis=2, dtype=np.uint32)
        if needs_all:
            agree = (same == member).all(axis=2)
            bits = np.where(agree, (member * weights).sum(axis=2, dtype=np.uint32), np.uint32(0))
            if predicate is not None:
                predicate.store(rows[taking], agree[taking])
        target.store(rows[taking], bits[taking])

    return run


_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def redux(code: Code, at: Instruction) -> Step:
    """One value from those of all members of a warp."""
    type = value_type(code, at)
    name = next(part for part in at.suffix if part in _REDUCTIONS)
    function = _REDUCTIONS[name]
    if type == "f32" and "NaN" not in at.suffix:
        function = {"min": np.fmin, "max": np.fmax}[name]
    target, a = code.target(at.operands[0], type), code.operand(at.operands[1], type)
    mask = _mask(code, at.operands[2:3])
    weights = np.uint32(1) << np.arange(WARP, dtype=np.uint32)

    def run(lanes: Lanes) -> None:
        rows, taking = _each_warp(code, lanes)
        values = a[rows]
        own_mask = mask[rows]
        result = np.empty_like(values)
        for value in np.unique(own_mask[taking]):
            member = taking & ((value & weights) != 0)
            neutral = values[np.arange(len(rows)), member.argmax(axis=1)]
            kept = np.where(member, values, neutral[:, None])
            if name in ("add", "xor"):
                kept = np.where(member, values, values.dtype.type(0))
            total = function.reduce(kept, axis=1).astype(values.dtype)
            result = np.where(own_mask == value, total[:, None], result)
        target.store(rows[taking], result[taking])

    return run


def elect(code: Code, at: Instruction) -> Step:
    """The lowest member of the warp's mask: its number for all, true for itself."""
    first, second = _with_predicate(at.operands[0])
    number = code.target(first, "u32")
    chosen = None if second is None else code.target(second, "pred")
    mask = _mask(code, at.operands[1:2])
    lane = np.arange(code.lanes) % WARP

    def run(lanes: Lanes) -> None:
        members = _bits_of(code, lanes, np.ones(lanes.count, bool)) & mask[lanes.exact]
        lowest = members & (~members + np.uint32(1))
        _, exponent = np.frexp(lowest.astype(np.float64))
        leader = (exponent - 1).astype(np.uint32)
        number.store(lanes.exact, leader)
        if chosen is not None:
            chosen.store(lanes.exact, lane[lanes.exact] == leader)

    return run


def members_of(code: Code, at: Instruction) -> Array | None:
    """The mask of lanes that an instruction waits for, None where it is all of the warp."""
    place: dict[str, Callable[[], Operand | None]] = {
        "shfl": lambda: at.operands[4] if len(at.operands) > 4 else None,
        "vote": lambda: at.operands[2] if len(at.operands) > 2 else None,
        "match": lambda: at.operands[2] if len(at.operands) > 2 else None,
        "redux": lambda: at.operands[2] if len(at.operands) > 2 else None,
        "elect": lambda: at.operands[1],
        "bar": lambda: at.operands[0],
    }
    operand = place[at.name]() if at.name in place else None
    if operand is None or (isinstance(operand, Immediate) and int(operand.value) & 0xFFFFFFFF
                           == 0xFFFFFFFF):  # fmt: skip
        return None
    return code.operand(operand, "u32")


BUILDERS: dict[str, Builder] = {
    "shfl": shfl,
    "vote": vote,
    "match": match,
    "redux": redux,
    "elect": elect,
    "activemask": activemask,
}
