"""`assign-layouts`: decide which thread of a task holds which elements of each tile.

Enters: tile IR whose kernels may have a number of `threads`. Leaves: the same with the attribute
`layout` where a tile is made. Each value then has one layout. What is cheap to make again (lanes,
splats, arithmetic, loads of memory that the kernel does not write) is made once for each layout in
which it is wanted; other tiles are converted.

    %v = tile.load %x[%task, %0] axis 1 : !hec.tensor<f32[node, 64]> -> vector<64xf32>
    %w = scalar.exp %v : vector<64xf32>

becomes, for 32 threads

    %v = tile.load %x[%task, %0] axis 1 : !hec.tensor<f32[node, 64]> -> vector<64xf32>
      {layout = #tile.layout<[64] threads 32:[2] registers 2:[1]>}
    %w = scalar.exp %v : vector<64xf32>

Tiles that flow into each other (through arithmetic, loops and branches) lie alike: as the first
product among them wants it, else so that neighbouring threads access neighbouring elements.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.scf import ForOp, IfOp
from xdsl.ir import Block, BlockArgument, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.rewriter import InsertPoint, Rewriter

from hectorite.dialects.tile import KernelOp, LanesOp, ProductOp, SplatOp
from hectorite.dialects.tile_async import CopyOp, FinishOp
from hectorite.dialects.tile_layout import LAYOUT, ConvertOp, LayoutAttr
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp, shape_of
from hectorite.ir.layout import Layout
from hectorite.ir.scalar import ConstantOp
from hectorite.ir.space import TensorType
from hectorite.lowering.gpu.copy_layout import rows_layout
from hectorite.lowering.gpu.layouts import ACCESS_BYTES, blocked
from hectorite.lowering.gpu.product_layouts import product_layouts
from hectorite.lowering.gpu.tile_layouts import (
    is_elementwise,
    is_tile,
    lies,
    threads_of,
    written_memory,
    yielded,
)

MOST_RUN = 4
"""Neighbouring elements of a thread where no access says how wide they are."""


class AssignLayouts(ModulePass):
    """Give every tile of every kernel a layout over the threads of a task."""

    name = "assign-layouts"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                _Kernel(kernel).run()


class _Kernel:
    """The state while one kernel gets its layouts."""

    def __init__(self, kernel: KernelOp):
        self.kernel = kernel
        self.threads = threads_of(kernel)
        self.written = written_memory(kernel)
        self.runs = _widest_runs(kernel)
        self.made: dict[tuple[SSAValue, Layout], SSAValue] = {}

    def run(self) -> None:
        classes = _Classes(self.kernel)
        wanted = self.wanted(classes)
        for op in list(self.kernel.walk()):
            if _is_source(op):
                result = op.results[0]
                op.attributes[LAYOUT] = LayoutAttr(wanted.get(result) or self.usual(result))
        for op in list(self.kernel.walk()):
            self.settle(op, classes, wanted)
        _drop_unused(self.kernel)

    def usual(self, value: SSAValue) -> Layout:
        """The layout of a tile that no product has a say in."""
        shape = shape_of(value.type)
        return blocked(shape, self.threads, self.runs.get(shape, MOST_RUN))

    def wanted(self, classes: _Classes) -> dict[SSAValue, Layout]:
        """The layout of every tile; for a product its own, whatever its neighbours have."""
        chosen: dict[SSAValue, Layout] = {}
        own: dict[SSAValue, Layout] = {}
        for op in self.kernel.walk():
            if isinstance(op, ProductOp):
                own[op.result] = product_layouts(op, self.threads).result
                chosen.setdefault(classes.of(op.result), own[op.result])
        found: dict[SSAValue, Layout] = {}
        for value in classes.values:
            first = classes.of(value)
            if first not in chosen:
                chosen[first] = self.usual(value)
            found[value] = chosen[first]
        return found | own

    def settle(self, op: Operation, classes: _Classes, wanted: dict[SSAValue, Layout]) -> None:
        """Give every operand of an operation the layout in which it is wanted."""
        for number, layout in self.needs(op, classes, wanted):
            op.operands[number] = self.as_layout(op.operands[number], layout)

    def needs(
        self, op: Operation, classes: _Classes, wanted: dict[SSAValue, Layout]
    ) -> Iterator[tuple[int, Layout]]:
        """Which operands must lie how."""
        if isinstance(op, ElementAccess):
            value = op.value if isinstance(op, StoreOp) else op.results[0]
            layout = lies(value) if is_tile(value) else None
            if layout is not None and layout.rank == 2:
                layout = layout.slice(0)
            for number, operand in enumerate(op.operands):
                if layout is not None and is_tile(operand) and operand is not value:
                    yield number, layout
        elif isinstance(op, ProductOp):
            layouts = product_layouts(op, self.threads)
            for number, operand in enumerate(op.operands):
                if is_tile(operand):
                    yield number, layouts.result if operand is op.init else layouts.rows
        elif is_elementwise(op):
            for number, operand in enumerate(op.operands):
                if is_tile(operand):
                    yield number, wanted[op.results[0]]
        elif isinstance(op, ForOp):
            for number, argument in enumerate(op.iter_args, 3):
                if is_tile(argument):
                    yield number, wanted[op.results[number - 3]]
        elif op.name == "scf.yield":
            parent = cast(Operation, op.parent_op())
            for number, operand in enumerate(op.operands):
                if is_tile(operand):
                    yield number, wanted[parent.results[number]]
        else:
            yield from self.rows_of_copies(op)

    def rows_of_copies(self, op: Operation) -> Iterator[tuple[int, Layout]]:
        """Vectors of indices of copies lie as the copies want them, other operations' as usual."""
        if isinstance(op, CopyOp):
            for number, operand in enumerate(op.operands):
                if is_tile(operand):
                    yield number, rows_layout(op, self.threads)
            return
        if op.name.startswith("tile.") and not isinstance(op, ConvertOp | FinishOp):
            for number, operand in enumerate(op.operands):
                if is_tile(operand) and shape_of(operand.type) and op.name != "tile.reduce":
                    yield number, self.usual(operand)

    def as_layout(self, value: SSAValue, layout: Layout) -> SSAValue:
        """The same tile in another layout: made anew, or converted."""
        if lies(value) == layout:
            return value
        key = value, layout
        if key not in self.made:
            self.made[key] = self.made_anew(value, layout) or self.converted(value, layout)
        return self.made[key]

    def made_anew(self, value: SSAValue, layout: Layout) -> SSAValue | None:
        """The operation that makes a tile once more, None if that is not cheap or not allowed."""
        op = value.owner
        if isinstance(op, Block) or not self.is_cheap(op):
            return None
        rows = layout.slice(0) if layout.rank == 2 and isinstance(op, LoadOp) else layout
        operands = [
            self.as_layout(operand, rows) if is_tile(operand) else operand
            for operand in op.operands
        ]
        again = op.clone()
        again.operands = operands
        if _is_source(again):
            again.attributes[LAYOUT] = LayoutAttr(layout)
        Rewriter.insert_op(again, InsertPoint.after(op))
        again.results[0].name_hint = value.name_hint
        return again.results[0]

    def is_cheap(self, op: Operation) -> bool:
        if isinstance(op, LoadOp):
            return op.tensor not in self.written
        return isinstance(op, ConstantOp | SplatOp | LanesOp) or is_elementwise(op)

    def converted(self, value: SSAValue, layout: Layout) -> SSAValue:
        op = ConvertOp(value, layout)
        if isinstance(value, BlockArgument):
            Rewriter.insert_op(op, InsertPoint.at_start(value.owner))
        else:
            Rewriter.insert_op(op, InsertPoint.after(cast(Operation, value.owner)))
        return op.result


class _Classes:
    """Tiles that should lie alike: those that arithmetic, loops and branches join."""

    def __init__(self, kernel: KernelOp):
        self.parent: dict[SSAValue, SSAValue] = {}
        for op in kernel.walk():
            for result in op.results:
                if is_tile(result):
                    self.of(result)
            self.join_operation(op)

    @property
    def values(self) -> list[SSAValue]:
        return list(self.parent)

    def of(self, value: SSAValue) -> SSAValue:
        """The first value of a class, which stands for it."""
        self.parent.setdefault(value, value)
        while self.parent[value] is not value:
            value = self.parent[value]
        return value

    def join(self, first: SSAValue, second: SSAValue) -> None:
        """A tile that is made of nothing joins no one: it is made anew for each of its users."""
        if is_tile(first) and not any(isinstance(v.owner, _ANYWHERE) for v in (first, second)):
            self.parent[self.of(second)] = self.of(first)

    def join_operation(self, op: Operation) -> None:
        if is_elementwise(op) and is_tile(op.results[0]):
            for operand in op.operands:
                self.join(op.results[0], operand)
        elif isinstance(op, ProductOp) and op.init is not None:
            self.join(op.result, op.init)
        elif isinstance(op, FinishOp):
            self.join(op.result, op.input)
        elif isinstance(op, ForOp):
            inside = zip(op.body.block.args[1:], yielded(op.body.block), strict=True)
            for result, first, (argument, last) in zip(
                op.results, op.iter_args, inside, strict=True
            ):
                for other in (argument, first, last):
                    self.join(result, other)
        elif isinstance(op, IfOp) and op.results:
            for region in (op.true_region, op.false_region):
                for result, value in zip(op.results, yielded(region.block), strict=True):
                    self.join(result, value)


_ANYWHERE = (ConstantOp, SplatOp, LanesOp)


def _is_source(op: Operation) -> bool:
    """Whether an operation makes a tile and so says how it lies."""
    made = isinstance(op, (LoadOp, ProductOp, ConvertOp, *_ANYWHERE))
    return made and is_tile(op.results[0])


def _widest_runs(kernel: KernelOp) -> dict[tuple[int, ...], int]:
    """For each shape of tiles that access neighbours in memory, how many elements fit one access
    of the widest element type among them."""
    widest: dict[tuple[int, ...], int] = {}
    for op in kernel.walk():
        if isinstance(op, ElementAccess) and op.lane_axis is not None and op.lane_step == 1:
            type = cast(TensorType, op.tensor.type)
            value = op.value if isinstance(op, StoreOp) else op.results[0]
            if is_tile(value) and op.lane_axis == len(type.dims) - 1:
                size = type.element_type.storage.itemsize
                shape = shape_of(value.type)
                widest[shape] = max(widest.get(shape, 0), size)
    return {shape: ACCESS_BYTES // size for shape, size in widest.items()}


def _drop_unused(kernel: KernelOp) -> None:
    """Remove tiles that nobody uses in the layout they were first given."""
    for op in reversed(list(kernel.walk())):
        removable = isinstance(op, (LoadOp, ConvertOp, *_ANYWHERE)) or is_elementwise(op)
        if removable and is_tile(op.results[0]) and not op.results[0].uses.get_length():
            Rewriter.erase_op(op)
