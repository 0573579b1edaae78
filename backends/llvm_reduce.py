"""All lanes of a vector combined into one number.

Enters: a vector, the kind of sum (`add`, `mul`, `max`, `min`), and how many lanes count. Leaves:
the number. Halves of the vector are combined until one lane is left, so the order is fixed.
"""

from __future__ import annotations

from llvmlite import ir

from hectorite.backends.lanes import I32, constant
from hectorite.backends.llvm_memory import lane, lanes_below
from hectorite.backends.vector_math import emit
from hectorite.ir.element import ElementType


def identity(kind: str, element: ElementType) -> float | int:
    """The number that a reduction of nothing gives."""
    if kind in ("add", "mul"):
        return int(kind == "mul")
    if element.is_float:
        return float("-inf") if kind == "max" else float("inf")
    least, greatest = element.bounds
    return least if kind == "max" else greatest


def reduce_lanes(
    builder: ir.IRBuilder,
    kind: str,
    vector: ir.Value,
    element: ElementType,
    valid: ir.Value | None = None,
) -> ir.Value:
    """The lanes of `vector` combined; with `valid` (an i64), only those below it."""
    count = vector.type.count
    neutral = constant(vector.type, identity(kind, element))
    if valid is not None:
        vector = builder.select(lanes_below(builder, valid, count), vector, neutral)
    width = 1 << (count - 1).bit_length()
    if width > count:
        # Lane `count` of the two vectors together is the first neutral one.
        order = [*range(count), *([count] * (width - count))]
        vector = _shuffled(builder, vector, neutral, order)
    while width > 1:
        width //= 2
        low = _shuffled(builder, vector, vector, list(range(width)))
        high = _shuffled(builder, vector, vector, list(range(width, 2 * width)))
        vector = emit(builder, kind, [low, high], element)
    return lane(builder, vector, 0)


def _shuffled(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, order: list[int]) -> ir.Value:
    places = ir.Constant(ir.VectorType(I32, len(order)), order)
    return builder.shuffle_vector(a, b, places)
