"""All lanes of a row combined into one number.

Enters: a row of lanes, the kind of sum (`add`, `mul`, `max`, `min`), and how many lanes count.
Leaves: the number. Halves of a vector are combined until one lane is left: the order is fixed.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from hectorite.backends.cpu.lanes import I64, constant
from hectorite.backends.cpu.tiles import arranged, lane, lanes_below, pieces
from hectorite.backends.cpu.vector_math import emit
from hectorite.ir.element import ElementType


def reduce_row(
    builder: ir.IRBuilder,
    kind: str,
    row: Sequence[ir.Value],
    element: ElementType,
    valid: ir.Value | None = None,
) -> ir.Value:
    """The lanes of a row that is in pieces, combined; with `valid` (an i64), only those below."""
    parts = pieces(sum(vector.type.count for vector in row))
    total: ir.Value | None = None
    for part, vector in zip(parts, row, strict=True):
        if valid is not None:
            count = builder.sub(valid, ir.Constant(I64, part.first))
            neutral = constant(vector.type, element.identity(kind))
            vector = builder.select(lanes_below(builder, count, part.lanes), vector, neutral)
        one = _reduced(builder, kind, vector, element)
        total = one if total is None else emit(builder, kind, [total, one], element)
    assert total is not None, "a tile has at least one lane"
    return total


def _reduced(builder: ir.IRBuilder, kind: str, vector: ir.Value, element: ElementType) -> ir.Value:
    width = vector.type.count
    while width > 1:
        width //= 2
        low = arranged(builder, vector, list(range(width)))
        high = arranged(builder, vector, list(range(width, 2 * width)))
        vector = emit(builder, kind, [low, high], element)
    return lane(builder, vector, 0)
