"""The product of the `tile` dialect as a register-blocked loop.

Enters: two tensors in memory, where the rows of the first and the first row of the second begin,
and how many steps k there are. Leaves: M accumulators, each a vector of N lanes. One step loads a
row of `b` once, and multiplies it by one element of each row of `a`, repeated over the lanes.

    for k:  row = b[k, :];  acc[0] += a[0, k] * row;  ...;  acc[M - 1] += a[M - 1, k] * row
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from hectorite.backends.conversion import cast, from_storage, register_type
from hectorite.backends.lanes import I64, constant
from hectorite.backends.llvm_control import counted_loop
from hectorite.backends.llvm_memory import Extent, Memory, address, scaled, splat, step
from hectorite.backends.vector_math import emit
from hectorite.ir.element import ElementType

UNROLL = 4
"""Steps in one round of the loop: it hides the loop's own instructions."""


@dataclass(frozen=True)
class Factor:
    """An operand of a product: `starts` has the address of step 0 (of each row, for `a`), and
    `stride` is the number of elements from a step to the next."""

    memory: Memory
    starts: Sequence[ir.Value]
    stride: Extent

    @staticmethod
    def at(
        builder: ir.IRBuilder, memory: Memory, rows: Sequence[Sequence[ir.Value]], axis: int
    ) -> Factor:
        """The operand whose row m begins at the indices `rows[m]` and goes along `axis`."""
        starts = [address(builder, memory, indices, False) for indices in rows]
        return Factor(memory, starts, memory.strides[axis])

    def read(
        self, builder: ir.IRBuilder, row: int, k: ir.Value, lanes: int | None, target: ElementType
    ) -> ir.Value:
        """Step k of a row: one number, or `lanes` of them side by side, as `target`."""
        offset = scaled(builder, k, self.stride)
        pointer = step(builder, self.starts[row], offset, self.memory.storage, True)
        type = self.memory.storage if lanes is None else ir.VectorType(self.memory.storage, lanes)
        stored = builder.load(pointer, align=self.memory.item_bytes, typ=type)
        value = from_storage(builder, stored, self.memory.element)
        return cast(builder, value, self.memory.element, target)


def product(
    builder: ir.IRBuilder,
    a: Factor,
    b: Factor,
    extent: ir.Value,
    initial: Sequence[ir.Value] | None,
    element: ElementType,
    lanes: int,
) -> list[ir.Value]:
    """The rows of `initial` plus the sum over k below `extent` of a[m, k] * b[k, :]."""
    type = ir.VectorType(register_type(element), lanes)
    sums = list(initial or [constant(type, 0)] * len(a.starts))

    def steps(k: ir.Value, sums: list[ir.Value], count: int) -> list[ir.Value]:
        for offset in range(count):
            here = k if not offset else builder.add(k, ir.Constant(I64, offset), flags=("nsw",))
            row = b.read(builder, 0, here, lanes, element)
            for m, total in enumerate(sums):
                one = splat(builder, a.read(builder, m, here, None, element), lanes)
                term = emit(builder, "mul", [one, row], element)
                sums[m] = emit(builder, "add", [total, term], element)
        return sums

    rounds = builder.and_(extent, ir.Constant(I64, -UNROLL))
    zero = ir.Constant(I64, 0)
    several, one = ir.Constant(I64, UNROLL), ir.Constant(I64, 1)
    sums = counted_loop(builder, zero, rounds, several, sums, lambda k, s: steps(k, s, UNROLL))
    return counted_loop(builder, rounds, extent, one, sums, lambda k, s: steps(k, s, 1))
