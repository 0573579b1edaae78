"""Products of blocks in shared memory by multiply-adds of each thread, for any element types.

Enters: a `tile.product` with an `FmaPlan`. Leaves: for each step of k the elements a thread has
of one column of `a` and one row of `b`, loaded several at a time, and a multiply-add for each pair.
What has k along its rows is read some steps at a time, the rest as runs of neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.ir.element import ElementType
from hectorite.lowering.gpu.product_plan import VECTOR_BYTES, FmaPlan
from hectorite.lowering.gpu.shared_layout import InStage, SharedPlace, shared_layout
from hectorite.lowering.ptx.convert import constant, convert
from hectorite.lowering.ptx.elements import load_element
from hectorite.lowering.ptx.fuse import multiply_add
from hectorite.lowering.ptx.kernel import PtxKernel
from hectorite.lowering.ptx.product_mma import stage_of


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
    operands = plan.operands
    a = _place(kernel, op.a, *((None, row) if operands.a_transposed else (row, None)))
    b = _place(kernel, op.b, *((column, None) if operands.b_transposed else (None, column)))
    for k in range(operands.depth):
        for side, place in ((_a_side(plan), a), (_b_side(plan), b)):
            for at in side.offsets(k):
                place.at(*at)
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
    a = _Loader(kernel, _a_side(plan), prepared.a.in_stage(stage_of(kernel, op.a_indices)), element)
    b = _Loader(kernel, _b_side(plan), prepared.b.in_stage(stage_of(kernel, op.b_indices)), element)
    for k in range(plan.operands.depth):
        left, right = a.at(k), b.at(k)
        for register, total in enumerate(sums):
            row, column = (layout.slice_register(register, axis) for axis in (0, 1))
            sums[register] = multiply_add(code, left[row], right[column], total, element)
    return sums


@dataclass(frozen=True)
class _Side:
    """One operand as a thread reads it: `count` rows or columns, `threads` apart in runs of `run`.

    With `along_k`, k goes along the rows of its block, and one load brings some steps of one row;
    else one load brings a run of neighbours at one step.
    """

    element: ElementType
    count: int
    threads: int
    run: int
    along_k: bool
    depth: int

    @property
    def steps(self) -> int:
        """Steps of k that one load brings."""
        if not self.along_k:
            return 1
        return min(self.depth & -self.depth, 4, VECTOR_BYTES // self.element.storage.itemsize)

    def offsets(self, k: int) -> list[tuple[int, int]]:
        """Rows and bytes from a thread's place to what it loads at step k."""
        size = self.element.storage.itemsize
        if self.along_k:
            return [(self.threads * i, k * size) for i in range(self.count)] * (not k % self.steps)
        reach = self.run * self.threads * size
        return [(k, reach * i) for i in range(self.count // self.run)]


def _a_side(plan: FmaPlan) -> _Side:
    operands = plan.operands
    along_k = not operands.a_transposed
    return _Side(
        operands.a, plan.elements[0], plan.threads[0], plan.run[0], along_k, operands.depth
    )


def _b_side(plan: FmaPlan) -> _Side:
    operands = plan.operands
    along_k = operands.b_transposed
    return _Side(
        operands.b, plan.elements[1], plan.threads[1], plan.run[1], along_k, operands.depth
    )


class _Loader:
    """Elements of an operand, converted to the type of the result; steps are asked for in order."""

    def __init__(self, kernel: PtxKernel, side: _Side, place: InStage, target: ElementType):
        self.kernel, self.side, self.place, self.target = kernel, side, place, target
        self.loaded: Sequence[Sequence[SSAValue]] = ()

    def at(self, k: int) -> list[SSAValue]:
        """The thread's elements at step k."""
        side = self.side
        if k % side.steps == 0:
            self.loaded = [self._load(at) for at in side.offsets(k)]
        if side.along_k:
            return [values[k % side.steps] for values in self.loaded]
        return [value for values in self.loaded for value in values]

    def _load(self, at: tuple[int, int]) -> list[SSAValue]:
        code, element = self.kernel.code, self.side.element
        count = self.side.steps if self.side.along_k else self.side.run
        bytes = count * element.storage.itemsize
        values = load_element(code, self.place.at(*at), element, count, bytes, "shared")
        return [convert(code, value, element, self.target) for value in values]
