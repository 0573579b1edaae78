"""The product of the `tile` dialect as a register-blocked loop.

Enters: two tensors in memory, where the rows of the first and the first row of the second begin,
and how many steps k there are. Leaves: M accumulators, each a vector of N lanes. One step loads a
row of `b` once, and multiplies it by one element of each row of `a`, repeated over the lanes.

    for k:  row = b[k, :];  acc[0] += a[0, k] * row;  ...;  acc[M - 1] += a[M - 1, k] * row

A row of few lanes leaves most of a register empty, so several steps are done at once where both
operands lie side by side: lane n of step j is lane F * n + j, and the steps are added up at the
end.

    for k by F:  rows = b[k .. k + F - 1, :];  acc[0] += repeat(a[0, k .. k + F - 1]) * rows;  ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from hectorite.backends.cpu.control import counted_loop
from hectorite.backends.cpu.conversion import cast, from_storage, register_type
from hectorite.backends.cpu.lanes import I64, constant
from hectorite.backends.cpu.memory import Extent, Memory, address, scaled, step
from hectorite.backends.cpu.tiles import Piece, arranged, pieces, splat
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

    def steps(
        self, builder: ir.IRBuilder, row: int, k: ir.Value, count: int, target: ElementType
    ) -> ir.Value:
        """So many elements of a row from step k on, or at each step, which lie side by side."""
        type = ir.VectorType(self.memory.storage, count)
        return self.read(builder, self.place(builder, row, k), type, target)

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

    zero, one = ir.Constant(I64, 0), ir.Constant(I64, 1)
    if (together := _steps_together(a, b, lanes, element)) > 1:
        done = builder.and_(extent, ir.Constant(I64, -together))
        folded = _folded(builder, a, b, done, element, lanes, together)
        sums = [
            emit(builder, "add", list(pair), element) for pair in zip(sums, folded, strict=True)
        ]
        return counted_loop(builder, done, extent, one, sums, one_step)
    rounds = builder.and_(extent, ir.Constant(I64, -unroll))
    sums = counted_loop(builder, zero, rounds, ir.Constant(I64, unroll), sums, steps)
    return counted_loop(builder, rounds, extent, one, sums, one_step)


def _steps_together(a: Factor, b: Factor, lanes: int, element: ElementType) -> int:
    """Steps that fill a register together, 1 if they do not lie side by side."""
    room = REGISTER_BYTES // element.compute.storage.itemsize
    beside = a.stride == 1 and b.stride == lanes and len(pieces(lanes)) == 1
    return max(1, room // lanes) if beside else 1


def _folded(
    builder: ir.IRBuilder,
    a: Factor,
    b: Factor,
    extent: ir.Value,
    element: ElementType,
    lanes: int,
    together: int,
) -> list[ir.Value]:
    """The sums over k below `extent`, a multiple of the steps that are done together."""
    width = lanes * together
    by_lane = [j * lanes + lane for lane in range(lanes) for j in range(together)]
    repeated = list(range(together)) * lanes

    def step(k: ir.Value, sums: list[ir.Value]) -> list[ir.Value]:
        rows = arranged(builder, b.steps(builder, 0, k, width, element), by_lane)
        found: list[ir.Value] = []
        for m, total in enumerate(sums):
            each = arranged(builder, a.steps(builder, m, k, together, element), repeated)
            term = emit(builder, "mul", [each, rows], element)
            found.append(emit(builder, "add", [total, term], element))
        return found

    zero, stride = ir.Constant(I64, 0), ir.Constant(I64, together)
    start = constant(ir.VectorType(register_type(element), width), 0)
    sums = counted_loop(builder, zero, extent, stride, [start] * len(a.starts), step)
    return [_added_up(builder, total, lanes, element) for total in sums]


def _added_up(builder: ir.IRBuilder, total: ir.Value, lanes: int, element: ElementType) -> ir.Value:
    """The sum of neighbours, until only so many lanes are left."""
    width = total.type.count
    while width > lanes:
        halves = [arranged(builder, total, list(range(side, width, 2))) for side in (0, 1)]
        total, width = emit(builder, "add", halves, element), width // 2
    return total
