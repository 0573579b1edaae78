"""Vectors of lanes: the shapes that tiles take in LLVM, and the plainest things done with them.

Enters: numbers and vectors. Leaves: vectors. A row of N lanes becomes vectors whose lengths are
powers of two, such as 32 and 16 for 48 lanes: LLVM takes any other apart when it crosses blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from llvmlite import ir

from hectorite.backends.cpu.lanes import I32, I64, declare


@dataclass(frozen=True)
class Piece:
    """Some neighbouring lanes of a row, held in one vector."""

    first: int
    lanes: int


def pieces(lanes: int) -> list[Piece]:
    """The vectors that make up a row of `lanes` lanes, in order."""
    parts: list[Piece] = []
    first = 0
    while first < lanes:
        parts.append(Piece(first, 1 << (lanes - first).bit_length() - 1))
        first += parts[-1].lanes
    return parts


def pick(builder: ir.IRBuilder, row: Sequence[ir.Value], number: int) -> ir.Value:
    """One lane of a row that is in pieces."""
    for vector in row:
        if number < vector.type.count:
            return lane(builder, vector, number)
        number -= vector.type.count
    raise IndexError(number)


def is_vector(value: ir.Value) -> bool:
    return isinstance(value.type, ir.VectorType)


def lane(builder: ir.IRBuilder, value: ir.Value, number: int) -> ir.Value:
    """One lane of a vector; a number itself."""
    return builder.extract_element(value, ir.Constant(I32, number)) if is_vector(value) else value


def splat(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """A vector that repeats a number."""
    type = ir.VectorType(value.type, lanes)
    nothing = ir.Constant(type, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, nothing, _first_lane(lanes))


def arranged(builder: ir.IRBuilder, vector: ir.Value, order: Sequence[int]) -> ir.Value:
    """The vector of these lanes of a vector."""
    places = ir.Constant(ir.VectorType(I32, len(order)), list(order))
    return builder.shuffle_vector(vector, vector, places)


def joined(builder: ir.IRBuilder, rows: Sequence[ir.Value]) -> ir.Value:
    """Short vectors, or numbers, one after the other; how many there are is a power of two."""
    if all(row is rows[0] for row in rows):
        return arranged(builder, rows[0], list(range(rows[0].type.count)) * len(rows))
    while len(rows) > 1:
        width = 2 * rows[0].type.count
        places = ir.Constant(ir.VectorType(I32, width), list(range(width)))
        pairs = zip(rows[::2], rows[1::2], strict=True)
        rows = [builder.shuffle_vector(*pair, places) for pair in pairs]
    return rows[0]


def parted(builder: ir.IRBuilder, vector: ir.Value, count: int) -> list[ir.Value]:
    """A vector as so many short ones."""
    width = vector.type.count // count
    starts = range(0, vector.type.count, width)
    return [arranged(builder, vector, list(range(at, at + width))) for at in starts]


def numbered(type: ir.IntType, lanes: int, first: int = 0) -> ir.Constant:
    """The vector first, first + 1, first + 2, ..."""
    return ir.Constant(ir.VectorType(type, lanes), list(range(first, first + lanes)))


def clamped(builder: ir.IRBuilder, value: ir.Value, greatest: int) -> ir.Value:
    """An i64 kept within 0 to `greatest`, as an i32."""
    for name, bound in (("smax", 0), ("smin", greatest)):
        function = declare(builder.module, f"llvm.{name}.i64", I64, [I64, I64])
        value = builder.call(function, [value, ir.Constant(I64, bound)])
    return builder.trunc(value, I32)


def lanes_below(builder: ir.IRBuilder, count: ir.Value, lanes: int) -> ir.Value:
    """Which lanes have a number below an i64."""
    limit = splat(builder, clamped(builder, count, lanes), lanes)
    return builder.icmp_signed("<", numbered(I32, lanes), limit)


@cache
def _first_lane(lanes: int) -> ir.Constant:
    """The shuffle that repeats the first lane."""
    return ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
