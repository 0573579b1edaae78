"""`insert-barriers`: the threads of a task wait where one needs what another wrote.

Enters: tile IR with layouts. Leaves: the same with `tile.barrier` where a thread accesses memory
that another thread of the task wrote before, or writes memory that another may still be reading.
No barrier is needed where the layouts prove that each element is accessed by one thread only.

    tile.store %v, %t[%0] axis 0 : !hec.tensor<f32[64]>, vector<64xf32>
    %x = tile.load %t[%i] : !hec.tensor<f32[64]> -> f32

becomes

    tile.store %v, %t[%0] axis 0 : !hec.tensor<f32[64]>, vector<64xf32>
    tile.barrier
    %x = tile.load %t[%i] : !hec.tensor<f32[64]> -> f32

Conditions and bounds of loops are scalars, which all threads of a task hold alike, so no barrier is
in divergent code. A barrier that keeps apart what is before a loop and in it stands before it.
Memory of `tile.shared` is left to the pass that brought it in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.scf import ForOp, IfOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.dialects.tile_memory import ElementAccess, StoreOp
from hectorite.ir.layout import Layout
from hectorite.ir.space import TensorType
from hectorite.lowering.gpu.tile_layouts import (
    is_tile,
    known_index,
    lies,
    same_memory,
    written_by_name,
    written_memory,
)


class InsertBarriers(ModulePass):
    """Put barriers between accesses of different threads of a task to the same memory."""

    name = "insert-barriers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                _Kernel(kernel).run()


@dataclass(frozen=True)
class Owner:
    """What settles which thread accesses an element: the layout along a dimension, and the index
    at which lane 0 is. `one` stands for a scalar that a single thread writes."""

    axis: int
    step: int
    start: SSAValue | int
    layout: Layout

    @property
    def holds_everywhere(self) -> bool:
        """Whether it is the same in every iteration of every loop."""
        if isinstance(self.start, int):
            return True
        owner = self.start.owner
        block = owner if isinstance(owner, Block) else owner.parent
        return isinstance(block, Block) and isinstance(block.parent_op(), KernelOp)


@dataclass(frozen=True)
class Touch:
    """An access to memory; `owner` None: by threads of which nothing is known. A `single` thread
    does it if it writes a scalar. What it is combined with (`combine`) does not mind the order."""

    tensor: SSAValue
    writes: bool
    owner: Owner | None = None
    single: bool = False
    combine: str | None = None

    def clashes(self, other: Touch) -> bool:
        """Whether two threads may be at one element, and one of them writes it."""
        if self.tensor is not other.tensor or not (self.writes or other.writes):
            return False
        if self.single and other.single:
            return False
        if self.combine is not None and self.combine == other.combine:
            return False
        return self.owner is None or self.owner != other.owner


Touches = frozenset[Touch]


class _Kernel:
    def __init__(self, kernel: KernelOp):
        self.kernel = kernel
        self.written = written_memory(kernel)
        self.same = same_memory(kernel)

    def run(self) -> None:
        self.block(self.kernel.body.block, frozenset())

    def block(self, block: Block, before: Touches) -> Touches:
        """Insert barriers in a block; what is accessed since the last barrier, before and after."""
        pending = before
        for op in list(block.ops):
            pending = self.operation(op, pending)
        return pending

    def operation(self, op: Operation, pending: Touches) -> Touches:
        if isinstance(op, BarrierOp):
            return frozenset()
        if isinstance(op, ForOp):
            return self.loop(op, pending)
        if isinstance(op, IfOp):
            regions = (op.true_region, op.false_region)
            ends = [self.block(r.block, pending) if r.blocks else pending for r in regions]
            return ends[0] | ends[1]
        touches = self.touches(op)
        if _clash(pending, touches):
            Rewriter.insert_op(BarrierOp(), InsertPoint.before(op))
            pending = frozenset()
        return pending | touches

    def loop(self, op: ForOp, pending: Touches) -> Touches:
        inside = frozenset(t for each in op.body.walk() for t in self.touches(each))
        if _clash(pending, inside):
            Rewriter.insert_op(BarrierOp(), InsertPoint.before(op))
            pending = frozenset()
        while True:
            start = pending
            end = self.block(op.body.block, start)
            pending = start | frozenset(map(_in_any_iteration, end))
            if pending == start:
                return pending

    def touches(self, op: Operation) -> Touches:
        return frozenset(
            replace(touch, tensor=self.same.get(touch.tensor, touch.tensor))
            for touch in self.accesses(op)
            if touch.tensor in self.written
        )

    def accesses(self, op: Operation) -> Iterator[Touch]:
        if isinstance(op, ElementAccess):
            value = op.value if isinstance(op, StoreOp) else op.results[0]
            writes = isinstance(op, StoreOp)
            kind = op.combine.data if isinstance(op, StoreOp) and op.combine is not None else None
            single = writes and not is_tile(value)
            yield Touch(op.tensor, writes, _owner(op, value), single, kind)
            return
        target = written_by_name(op)
        for operand in op.operands:
            is_memory = isinstance(operand.type, TensorType) and not _is_staged(operand)
            if is_memory and op.name.startswith("tile."):
                yield Touch(operand, operand is target)


def _is_staged(tensor: SSAValue) -> bool:
    return isinstance(tensor.owner, Operation) and tensor.owner.name == "tile.shared"


def _clash(before: Iterable[Touch], now: Iterable[Touch]) -> bool:
    return any(a.clashes(b) for a in before for b in now)


def _in_any_iteration(touch: Touch) -> Touch:
    """What remains known of an access when the next iteration begins."""
    if touch.owner is None or touch.owner.holds_everywhere:
        return touch
    return replace(touch, owner=None)


def _owner(op: ElementAccess, value: SSAValue) -> Owner | None:
    """Which thread accesses which element, None if that is not settled by a layout alone."""
    if not is_tile(value) or op.lane_axis is None or any(map(is_tile, op.indices)):
        return None
    layout = lies(value)
    if layout.rank != 1 or layout.repeats:
        return None
    index = op.indices[op.lane_axis]
    known = known_index(index)
    return Owner(op.lane_axis, op.lane_step, index if known is None else known, layout)
