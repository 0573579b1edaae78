"""Products of blocks in shared memory by multiply-adds of each thread, for any element types.

Enters: a `tile.product` with an `FmaPlan`. Leaves: for each step of k the elements a thread has
of one column of `a` and one row of `b`, loaded several at a time, and a multiply-add for each pair.
Threads side by side read a row of `b` side by side; rows of `a` are read along k if they lie so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.ir.element import ElementType
from hectorite.lowering.product_plan import VECTOR_BYTES, FmaPlan
from hectorite.lowering.ptx_convert import constant, convert
from hectorite.lowering.ptx_elements import load_element
from hectorite.lowering.ptx_fuse import multiply_add
from hectorite.lowering.ptx_kernel import PtxKernel
from hectorite.lowering.ptx_product_mma import stage_of
from hectorite.lowering.shared_layout import InStage, SharedPlace, shared_layout


@dataclass
class Prepared:
    """Where each thread reads the operands of a product."""

    plan: FmaPlan
    a: SharedPlace
    b: SharedPlace


def prepare(kernel: PtxKernel, op: ProductOp, plan: FmaPlan) -> None:
    """Compute, where the kernel starts, what the threads' addresses are made of."""
    kernel.prepare(plan.layout)
    row, column = kernel.place(plan.layout)
    transposed = plan.operands.a_transposed
    a = _place(kernel, op.a, None if transposed else row, row if transposed else None)
    b = _place(kernel, op.b, None, column)
    for k in range(0, plan.operands.depth, 1):
        for at in _a_offsets(plan, k):
            a.at(*at)
        for at in _b_offsets(plan, k):
            b.at(*at)
    kernel.prepared[op] = Prepared(plan, a, b)


def _place(
    kernel: PtxKernel, tensor: SSAValue, row: SSAValue | None, column: SSAValue | None
) -> SharedPlace:
    memory, owner = kernel.memories[tensor], tensor.owner
    if column is not None:
        column = kernel.code.op("mul.lo.s32", column, memory.item_bytes)
    layout = shared_layout(owner, kernel.threads)  # pyright: ignore[reportArgumentType]
    return SharedPlace(kernel.code, layout, memory.base, row, column)


def product(kernel: PtxKernel, op: ProductOp) -> list[SSAValue]:
    """The registers of the result."""
    prepared: Prepared = kernel.prepared[op]
    plan, code = prepared.plan, kernel.code
    layout, element = plan.layout, plan.operands.result
    if op.init is not None:
        sums = list(kernel.registers[op.init])
    else:
        sums = [constant(code, 0, element)] * layout.register_count
    a = _Rows(kernel, plan, prepared.a.in_stage(stage_of(kernel, op.a_indices)))
    b = prepared.b.in_stage(stage_of(kernel, op.b_indices))
    for k in range(plan.operands.depth):
        left, right = a.at(k), _columns(kernel, plan, b, k)
        for register, total in enumerate(sums):
            row, column = (layout.slice_register(register, axis) for axis in (0, 1))
            sums[register] = multiply_add(code, left[row], right[column], total, element)
    return sums


def _along(plan: FmaPlan) -> int:
    """Elements of a row of `a` that one load brings."""
    if plan.operands.a_transposed:
        return 1
    most = min(plan.operands.depth & -plan.operands.depth, 4)
    return min(most, VECTOR_BYTES // plan.operands.a.storage.itemsize)


def _a_offsets(plan: FmaPlan, k: int) -> list[tuple[int, int]]:
    """Rows and bytes from a thread's place to what it loads of `a` at step k."""
    size, (down, _) = plan.operands.a.storage.itemsize, plan.threads
    if not plan.operands.a_transposed:
        return [] if k % _along(plan) else [(down * i, k * size) for i in range(plan.elements[0])]
    run = plan.run[0]
    return [(k, run * down * i * size) for i in range(plan.elements[0] // run)]


def _b_offsets(plan: FmaPlan, k: int) -> list[tuple[int, int]]:
    size, run = plan.operands.b.storage.itemsize, plan.run[1]
    across = plan.threads[1]
    return [(k, run * across * i * size) for i in range(plan.elements[1] // run)]


def _load(
    kernel: PtxKernel, at: InStage, place: tuple[int, int], count: int,
    source: ElementType, target: ElementType,
) -> list[SSAValue]:  # fmt: skip
    values = load_element(
        kernel.code, at.at(*place), source, count, count * source.storage.itemsize, "shared"
    )
    return [convert(kernel.code, value, source, target) for value in values]


class _Rows:
    """Elements of `a`, loaded for several steps at once where they lie side by side."""

    def __init__(self, kernel: PtxKernel, plan: FmaPlan, place: InStage):
        self.kernel, self.plan, self.place = kernel, plan, place
        self.loaded: Sequence[Sequence[SSAValue]] = ()

    def at(self, k: int) -> list[SSAValue]:
        """The elements of step k; steps are asked for in order."""
        plan, along = self.plan, _along(self.plan)
        types = plan.operands.a, plan.operands.result
        count = plan.run[0] if plan.operands.a_transposed else along
        if k % along == 0:
            self.loaded = [
                _load(self.kernel, self.place, at, count, *types) for at in _a_offsets(plan, k)
            ]
        if plan.operands.a_transposed:
            return [value for values in self.loaded for value in values]
        return [values[k % along] for values in self.loaded]


def _columns(kernel: PtxKernel, plan: FmaPlan, place: InStage, k: int) -> list[SSAValue]:
    types = plan.operands.b, plan.operands.result
    return [
        value
        for at in _b_offsets(plan, k)
        for value in _load(kernel, place, at, plan.run[1], *types)
    ]
