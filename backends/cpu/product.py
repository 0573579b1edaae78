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

from hectorite.backends.cpu.control import counted_loop
from hectorite.backends.cpu.conversion import cast, from_storage, register_type
from hectorite.backends.cpu.lanes import I64, constant
from hectorite.backends.cpu.memory import Extent, Memory, address, scaled, step
from hectorite.backends.cpu.tiles import Piece, pieces, splat
from hectorite.backends.cpu.vector_math import emit
from hectorite.ir.element import ElementType

ROUND = 128
"""Most vector instructions in one round of the loop, which hide those of the loop itself."""

REGISTER_BYTES = 64


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

    def one(self, builder: ir.IRBuilder, row: int, k: ir.Value, target: ElementType) -> ir.Value:
        """Step k of a row, as `target`."""
        return self.read(builder, self.place(builder, row, k), self.memory.storage, target)

    def row(
        self, builder: ir.IRBuilder, k: ir.Value, parts: Sequence[Piece], target: ElementType
    ) -> list[ir.Value]:
        """The elements side by side at step k of the first row, in pieces, as `target`."""
        start = self.place(builder, 0, k)
        values: list[ir.Value] = []
        for part in parts:
            first = ir.Constant(I64, part.first)
            place = step(builder, start, first, self.memory.storage, True) if part.first else start
            type = ir.VectorType(self.memory.storage, part.lanes)
            values.append(self.read(builder, place, type, target))
        return values

    def place(self, builder: ir.IRBuilder, row: int, k: ir.Value) -> ir.Value:
        offset = scaled(builder, k, self.stride)
        return step(builder, self.starts[row], offset, self.memory.storage, True)

    def read(
        self, builder: ir.IRBuilder, place: ir.Value, type: ir.Type, target: ElementType
    ) -> ir.Value:
        stored = builder.load(place, align=self.memory.item_bytes, typ=type)
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
    """The rows of `initial` plus the sum over k below `extent` of a[m, k] * b[k, :], in pieces, one
    row after the other."""
    parts = pieces(lanes)
    number = register_type(element)
    zeros = [constant(ir.VectorType(number, part.lanes), 0) for part in parts]
    sums = list(initial or zeros * len(a.starts))
    registers = -(-lanes * element.compute.storage.itemsize // REGISTER_BYTES)
    unroll = 1 << (max(1, ROUND // (len(a.starts) * registers)).bit_length() - 1)

    def one_step(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        row = b.row(builder, k, parts, element)
        for m in range(len(a.starts)):
            factor = a.one(builder, m, k, element)
            for n, part in enumerate(parts, m * len(parts)):
                repeated = splat(builder, factor, part.lanes)
                term = emit(builder, "mul", [repeated, row[n % len(parts)]], element)
                sums[n] = emit(builder, "add", [sums[n], term], element)
        return sums

    def steps(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        for offset in range(unroll):
            here = builder.add(k, ir.Constant(I64, offset), flags=("nsw",))
            sums = one_step(here, sums)
        return sums

    rounds = builder.and_(extent, ir.Constant(I64, -unroll))
    zero = ir.Constant(I64, 0)
    several, one = ir.Constant(I64, unroll), ir.Constant(I64, 1)
    sums = counted_loop(builder, zero, rounds, several, sums, steps)
    return counted_loop(builder, rounds, extent, one, sums, one_step)
