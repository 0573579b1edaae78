"""Products of the `tile` dialect as PTX.

Enters: a `tile.product`. Leaves: the registers of its result. Blocks in shared memory are done
as their `product_plan` says (`product_mma.py`, `product_fma.py`). Of other operands every
thread multiplies alone what its own elements of the result need, which is right for every element
type and every access and fast for none: step k loads one element of each row and of each column
that the thread has, and multiplies them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import CopyOp
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.layout import Layout
from hectorite.ir.scalar import scalar_type
from hectorite.lowering.gpu.product_plan import FmaPlan, MmaPlan, Plan, WgmmaPlan, product_plan
from hectorite.lowering.gpu.tile_layouts import is_tile
from hectorite.lowering.ptx import product_fma as ptx_product_fma
from hectorite.lowering.ptx import product_mma as ptx_product_mma
from hectorite.lowering.ptx import product_wgmma as ptx_product_wgmma
from hectorite.lowering.ptx.access import both, scaled_sum
from hectorite.lowering.ptx.convert import constant, convert
from hectorite.lowering.ptx.elements import load_element
from hectorite.lowering.ptx.fuse import multiply_add
from hectorite.lowering.ptx.kernel import Memory, PtxKernel, block_threads
from hectorite.lowering.ptx.writer import At

FEW_ACCUMULATORS = 64
"""Accumulators of a thread with which half of 128 registers are left."""

FEW_COPIES = 32
"""Runs that a thread copies for which it has registers enough with that."""

_KINDS: dict[type[Plan], Any] = {
    MmaPlan: ptx_product_mma,
    WgmmaPlan: ptx_product_wgmma,
    FmaPlan: ptx_product_fma,
}
"""The file that has `prepare` and `product` for each kind of plan."""


class Factor:
    """An operand of a product: one element for each row (or column) that a thread has, at k."""

    def __init__(
        self, kernel: PtxKernel, memory: Memory, axis: int, starts: Sequence[At],
        guards: Sequence[SSAValue | None],
    ):  # fmt: skip
        self.kernel = kernel
        self.memory = memory
        self.axis = axis
        self.starts = starts
        self.guards = guards

    def at(self, k: SSAValue, target: ElementType) -> list[SSAValue]:
        """The elements at step k, as `target`."""
        code, memory = self.kernel.code, self.memory
        values: list[SSAValue] = []
        for start, guard in zip(self.starts, self.guards, strict=True):
            stride = memory.strides[self.axis]
            place = At(scaled_sum(self.kernel, memory, k, stride, 1, start.base), start.offset)
            (value,) = load_element(
                code, place, memory.element, space=memory.read_space, guard=guard
            )
            values.append(convert(code, value, memory.element, target))
        return values


def prepare(kernel: PtxKernel, op: ProductOp) -> None:
    """Compute, where the kernel starts, what a product of blocks in shared memory needs."""
    plan = product_plan(op, kernel.threads)
    if plan is not None:
        _KINDS[type(plan)].prepare(kernel, op, plan)


def resident(kernel: PtxKernel) -> int | None:
    """How many blocks of a kernel with products an SM shall hold at once; None for others.

    Where tensor instructions leave half of 128 registers, the assembler shall do with those. Of
    other products, and where each thread copies many short runs, whose addresses take registers
    too, it must not spill to have one block more, so one is enough.
    """
    products = [op for op in kernel.kernel.walk() if isinstance(op, ProductOp)]
    if not products:
        return None
    plans = [product_plan(op, kernel.threads) for op in products]
    counts = [p.layout.register_count for p in plans if isinstance(p, MmaPlan | WgmmaPlan)]
    few = max(counts, default=0) <= FEW_ACCUMULATORS and _copied_runs(kernel) <= FEW_COPIES
    if len(counts) < len(plans) or not few:
        return 1
    return kernel.target.registers_per_sm // (2 * FEW_ACCUMULATORS * block_threads(kernel.threads))


def _copied_runs(kernel: PtxKernel) -> int:
    """How many runs of neighbours a thread copies to shared memory."""
    copies = [op for op in kernel.kernel.walk() if isinstance(op, CopyOp)]
    layouts = [kernel.prepared[op].layout for op in copies]
    return sum(layout.register_count // layout.run(1) for layout in layouts)


def product(kernel: PtxKernel, op: ProductOp) -> list[SSAValue]:
    """The registers of the initial tile, each plus the sum of its products."""
    plan = product_plan(op, kernel.threads)
    if plan is None:
        return _alone(kernel, op)
    return _KINDS[type(plan)].product(kernel, op)


def _alone(kernel: PtxKernel, op: ProductOp) -> list[SSAValue]:
    code, layout = kernel.code, kernel.layout(op.result)
    element = element_of(scalar_type(op.result.type))
    rows = {layout.slice_register(r, 0): r for r in range(layout.register_count)}
    columns = {layout.slice_register(r, 1): r for r in range(layout.register_count)}
    a, b = _rows(kernel, op, sorted(rows)), _columns(kernel, op, sorted(columns))
    if op.init is not None:
        start = kernel.registers[op.init]
    else:
        start = [constant(code, 0, element)] * layout.register_count

    def step(k: SSAValue, sums: Sequence[SSAValue]) -> list[SSAValue]:
        left, right = a.at(k, element), b.at(k, element)
        new: list[SSAValue] = []
        for register, total in enumerate(sums):
            factors = (
                left[layout.slice_register(register, 0)],
                right[layout.slice_register(register, 1)],
            )
            new.append(multiply_add(code, *factors, total, element))
        return new

    return list(code.loop(0, kernel.value(op.extent), 1, start, step))


def _rows(kernel: PtxKernel, op: ProductOp, registers: Sequence[int]) -> Factor:
    """The rows of `a` that the thread has."""
    memory, layout = kernel.memories[op.a], kernel.layout(op.result).slice(0)
    starts: list[At] = []
    for register in registers:
        at = At(memory.base)
        for axis, index in enumerate(op.a_indices):
            picked = kernel.registers[index][register if is_tile(index) else 0]
            stride = memory.strides[axis]
            at = At(scaled_sum(kernel, memory, picked, stride, 1, at.base), at.offset)
        starts.append(at)
    guards = [_inside(kernel, layout, r) for r in registers]
    return Factor(kernel, memory, op.a_axis.value.data, starts, guards)


def _columns(kernel: PtxKernel, op: ProductOp, registers: Sequence[int]) -> Factor:
    """The columns of `b` that the thread has."""
    memory, layout = kernel.memories[op.b], kernel.layout(op.result).slice(1)
    at = At(memory.base)
    for axis, index in enumerate(op.b_indices):
        stride = memory.strides[axis]
        at = At(scaled_sum(kernel, memory, kernel.value(index), stride, 1, at.base))
    (place,) = kernel.place(layout)
    stride = memory.strides[op.column_axis]
    if place is not None:
        at = At(scaled_sum(kernel, memory, place, stride, 1, at.base))
    starts: list[At] = []
    for register in registers:
        (offset,) = layout.offset(register)
        if stride.value is None:
            starts.append(at.plus(offset * stride.factor))
        else:
            starts.append(At(kernel.code.op("mad.lo.s64", stride.value, offset, at.base)))
    guards = [_inside(kernel, layout, r) for r in registers]
    if op.columns is not None:
        limit = kernel.value(op.columns)
        guards = [
            both(kernel, guard, _below(kernel, layout, register, limit))
            for register, guard in zip(registers, guards, strict=True)
        ]
    return Factor(kernel, memory, op.b_axis.value.data, starts, guards)


def _inside(kernel: PtxKernel, layout: Layout, register: int) -> SSAValue | None:
    """Whether a register of a layout of one dimension holds an element; None if it does."""
    if layout.always_inside(register):
        return None
    return _below(kernel, layout, register, layout.shape[0])


def _below(kernel: PtxKernel, layout: Layout, register: int, limit: SSAValue | int) -> SSAValue:
    """Whether the place of a register is below a limit."""
    (place,), (offset,) = kernel.place(layout), layout.offset(register)
    if place is None:
        place, offset = kernel.code.constant(offset), 0
    at = kernel.code.op("add.s32", place, offset) if offset else place
    return kernel.code.op("setp.lt.s32", at, limit)
