"""Loads and stores of the `tile` dialect as PTX.

Enters: an access and the layout of its tile. Leaves: one load or store for each run of neighbours
that a thread holds, up to 16 bytes wide where the access is proven aligned; guarded where elements
may be left out. An element that is left out never touches memory, and is read as the pad or 0.

    address = base + place of the thread + indices (in registers) + place of the register (a number)

The parts come in this order because the first two are the same all through the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.ir import SSAValue

from hectorite.dialects.ptx_instruction import kind_of
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp
from hectorite.lowering.gpu.divisors import divisor
from hectorite.lowering.gpu.layouts import ACCESS_BYTES
from hectorite.lowering.gpu.tile_layouts import is_tile, known_index, split_index
from hectorite.lowering.ptx.convert import constant
from hectorite.lowering.ptx.elements import combine_element, load_element, store_element
from hectorite.lowering.ptx.kernel import Memory, PtxKernel, Stride
from hectorite.lowering.ptx.writer import At


def load(kernel: PtxKernel, op: LoadOp) -> list[SSAValue]:
    """The registers of the tile that an operation loads."""
    access = Access(kernel, op, op.result)
    element = access.memory.element
    values: list[SSAValue] = []
    for first in range(0, access.layout.register_count, access.width):
        guard = access.guard(first)
        loaded = load_element(
            kernel.code,
            access.address(first),
            element,
            access.width,
            access.width * access.memory.item_bytes,
            access.memory.read_space,
            guard,
        )
        if guard is not None and op.pad_value:
            pad = constant(kernel.code, op.pad_value, element)
            loaded = [select(kernel, guard, value, pad) for value in loaded]
        values += loaded
    return values


def store(kernel: PtxKernel, op: StoreOp) -> None:
    """Write the tile of an operation, or combine it with what is there; of threads that hold the
    same elements, one does."""
    access = Access(kernel, op, op.value)
    element, registers = access.memory.element, kernel.registers[op.value]
    chosen = kernel.copy(access.layout)
    for first in range(0, access.layout.register_count, access.width):
        address, guard = access.address(first), both(kernel, access.guard(first), chosen)
        values = registers[first : first + access.width]
        if op.combine is not None:
            together = kernel.target.has("vector_reduction")
            combine_element(kernel.code, op.combine.data, address, values, element, together, guard)
        else:
            space, align = access.memory.space, access.width * access.memory.item_bytes
            store_element(kernel.code, address, values, element, align, space, guard)


def both(kernel: PtxKernel, a: SSAValue | None, b: SSAValue | None) -> SSAValue | None:
    """Two conditions as one; None always holds."""
    if a is None or b is None:
        return b if a is None else a
    return kernel.code.op("and.pred", a, b)


def select(kernel: PtxKernel, condition: SSAValue, yes: SSAValue, no: SSAValue) -> SSAValue:
    """One of two registers of a kind."""
    code, kind = kernel.code, kind_of(yes)
    if kind == "pred":
        inside = code.op("and.pred", yes, condition)
        return code.op("or.pred", inside, code.op("and.pred", no, code.op("not.pred", condition)))
    return code.op(f"selp.{kind}", yes, no, condition)


@dataclass(frozen=True)
class Axis:
    """Along which dimension the lanes of a tile go, and how many elements from one to the next."""

    number: int
    step: int


class Access:
    """One load or store: where each register of its tile is in memory, and whether it counts.

    `width` neighbouring registers are accessed at once. In a tile of two dimensions, vectors of
    indices have a lane for each row.
    """

    def __init__(self, kernel: PtxKernel, op: ElementAccess, tile: SSAValue):
        self.kernel = kernel
        self.code = kernel.code
        self.op = op
        self.memory = kernel.memories[op.tensor]
        self.layout = kernel.layout(tile)
        lanes = op.lane_axis is not None and self.layout.rank > 0 and op.lane_step != 0
        self.axis = Axis(cast(int, op.lane_axis), op.lane_step) if lanes else None
        self.lane_dim = self.layout.rank - 1
        self.place = kernel.place(self.layout)
        self.vectors = [n for n, index in enumerate(op.indices) if is_tile(index)]
        self.width = self._width()
        self._bases: dict[tuple[SSAValue, ...], At] = {}
        self._inside: dict[tuple[object, ...], SSAValue] = {}

    # Addresses ---------------------------------------------------------------------------------

    def address(self, register: int) -> At:
        """Where one register's element is."""
        picked = tuple(self._picked(number, register) for number in self.vectors)
        if picked not in self._bases:
            self._bases[picked] = self._base(picked)
        base = self._bases[picked]
        if self.axis is None:
            return base
        stride = self.memory.strides[self.axis.number]
        ahead = self.axis.step * self.layout.offset(register)[self.lane_dim]
        if stride.value is None:
            return base.plus(ahead * stride.factor)
        if not ahead:
            return base
        return At(self.code.op("mad.lo.s64", stride.value, ahead, base.base), base.offset)

    def _base(self, picked: Sequence[SSAValue]) -> At:
        """The address for the thread's register 0, with these lanes of the vectors of indices."""
        if self.op in self.kernel.pointers:
            return self.kernel.pointers[self.op]
        at = self._start({})
        for axis, index in zip(self.vectors, picked, strict=True):
            at = self._moved(at, index, axis)
        return at

    def start(self, axis: int, index: SSAValue) -> At:
        """The address for the thread's register 0 with another index along one dimension."""
        return self._start({axis: index})

    def _start(self, instead: Mapping[int, SSAValue]) -> At:
        at = At(self.memory.base)
        if self.axis is not None and (lane := self.place[self.lane_dim]) is not None:
            at = self._moved(at, lane, self.axis.number, self.axis.step)
        for axis, index in enumerate(self.op.indices):
            if axis in instead:
                at = self._moved(at, instead[axis], axis)
            elif axis not in self.vectors:
                rest, number = split_index(index)
                at = self._moved_by(at, number, self.memory.strides[axis])
                if rest is not None:
                    at = self._moved(at, self.kernel.value(rest), axis)
        if self.memory.space == "shared" and self.op.lane_step < 0 and at.offset:
            # The register alone would be below the start of the memory, which may wrap around.
            at = At(self.code.op("add.s32", at.base, at.offset))
        return at

    def _moved(self, at: At, index: SSAValue, axis: int, step: int = 1) -> At:
        stride = self.memory.strides[axis]
        return At(scaled_sum(self.kernel, self.memory, index, stride, step, at.base), at.offset)

    def _moved_by(self, at: At, number: int, stride: Stride) -> At:
        if stride.value is None:
            return at.plus(number * stride.factor)
        if not number:
            return at
        return At(self.code.op("mad.lo.s64", stride.value, number, at.base), at.offset)

    def _picked(self, axis: int, register: int) -> SSAValue:
        """The lane of a vector of indices that belongs to a register."""
        if self.layout.rank == 2:
            register = self.layout.slice_register(register)
        return self.kernel.registers[self.op.indices[axis]][register]

    # Conditions --------------------------------------------------------------------------------

    def guard(self, register: int) -> SSAValue | None:
        """Whether the elements of `width` registers count; None if they do."""
        total = None
        for condition in self._conditions(register):
            total = both(self.kernel, total, condition)
        return total

    def _conditions(self, register: int) -> list[SSAValue]:
        conditions: list[SSAValue] = []
        offset = self.layout.offset(register)
        for dim in range(self.layout.rank):
            if not self.layout.always_inside(register, dim):
                limit = self.layout.shape[dim]
                conditions.append(self._below(dim, offset[dim], limit))
        if self.op.valid is not None:
            valid = self.kernel.value(self.op.valid)
            if self.layout.rank:
                conditions.append(self._below(self.lane_dim, offset[self.lane_dim], valid))
            else:
                conditions.append(self._once("gt", valid, 0))
        if self.op.pad_value is not None:
            conditions += self._inside_tensor(register)
        return conditions

    def _below(self, dim: int, offset: int, limit: SSAValue | int) -> SSAValue:
        """Whether a place of the tile is below a limit, signed."""
        return self._once("lt", self._number(self.place[dim], offset), limit)

    def _inside_tensor(self, register: int) -> list[SSAValue]:
        found: list[SSAValue] = []
        for axis, (index, extent) in enumerate(
            zip(self.op.indices, self.memory.extents, strict=True)
        ):
            assert extent is not None, "a list of any length cannot be padded"
            moves = self.axis is not None and self.axis.number == axis
            number = known_index(index)
            known = not moves and number is not None and isinstance(extent, int)
            if known and 0 <= cast(int, number) < cast(int, extent):
                continue
            at = self._index_at(axis, index, register, moves)
            found.append(self._once("lo", at, extent))
        return found

    def _index_at(self, axis: int, index: SSAValue, register: int, moves: bool) -> SSAValue:
        """The index along a dimension of one register's element."""
        number = known_index(index)
        base: SSAValue | None
        if axis in self.vectors:
            base, known = self._picked(axis, register), 0
        elif number is not None:
            base, known = None, number
        else:
            base, known = self.kernel.value(index), 0
        if moves and self.axis is not None:
            known += self.axis.step * self.layout.offset(register)[self.lane_dim]
            lane = self.place[self.lane_dim]
            if lane is not None:
                base = self._sum(lane, self.axis.step, base)
        return self._number(base, known)

    def _sum(self, lane: SSAValue, step: int, base: SSAValue | None) -> SSAValue:
        if base is None:
            return lane if step == 1 else self.code.op("mul.lo.s32", lane, step)
        if step == 1:
            return self.code.op("add.s32", lane, base)
        return self.code.op("mad.lo.s32", lane, step, base)

    def _number(self, value: SSAValue | None, offset: int) -> SSAValue:
        if value is None:
            return self.code.constant(offset)
        return self.code.op("add.s32", value, offset) if offset else value

    def _once(self, relation: str, a: SSAValue, b: SSAValue | int) -> SSAValue:
        sign = "u32" if relation == "lo" else "s32"
        key = relation, a, b
        if key not in self._inside:
            self._inside[key] = self.code.op(f"setp.{relation}.{sign}", a, b)
        return self._inside[key]

    # How wide ----------------------------------------------------------------------------------

    def _width(self) -> int:
        """How many registers one access takes: a power of two."""
        if self.axis is None or self.axis.step != 1 or self.layout.rank == 0:
            return 1
        stride, size = self.memory.strides[self.axis.number], self.memory.item_bytes
        moving = [n for n in self.vectors if self.layout.rank == 1 or n == self.axis.number]
        if stride.value is not None or stride.factor != size or moving:
            return 1
        width = min(self.layout.run(self.lane_dim), ACCESS_BYTES // size)
        while width > 1 and not self._fits(width, size):
            width //= 2
        return width

    def _fits(self, width: int, size: int) -> bool:
        """Whether runs of `width` elements start at multiples of their bytes and count together."""
        axis = cast(Axis, self.axis).number
        run = self.layout.registers[0].count
        if run % width or self.layout.shape[self.lane_dim] % width:
            return False
        others = (*self.layout.threads, *self.layout.registers[1:])
        if any(digit.step[self.lane_dim] % width for digit in others):
            return False
        for number, (index, stride) in enumerate(
            zip(self.op.indices, self.memory.strides, strict=True)
        ):
            known = 1 if number in self.vectors else divisor(index)
            if stride.factor * known % (width * size):
                return False
        if self.op.valid is not None and divisor(self.op.valid) % width:
            return False
        return self.op.pad_value is None or self._padded_together(axis, width)

    def _padded_together(self, axis: int, width: int) -> bool:
        """Whether a run of elements lies inside the tensor or outside of it as a whole."""
        extent = self.memory.extents[axis]
        return isinstance(extent, int) and extent % width == 0


def scaled_sum(
    kernel: PtxKernel, memory: Memory, index: SSAValue, stride: Stride, step: int, base: SSAValue
) -> SSAValue:
    """base + index * step * stride, an address of the kind that the memory has."""
    code = kernel.code
    if memory.space == "shared":
        return code.op("mad.lo.s32", index, step * stride.factor, base)
    if stride.value is None:
        return code.op("mad.wide.s32", index, step * stride.factor, base)
    wide = code.op("mul.wide.s32", index, step) if step != 1 else code.op("cvt.s64.s32", index)
    return code.op("mad.lo.s64", wide, stride.value, base)
