"""Write a product whose rows are scattered, on a GPU: a task owns a block of the rows it sums into.

    O[p.out, o] += I[p.in, i] * F[p.k, i, o]

    %out = tile.load %slot_rows[%block * 64]              rows of the block, -1 past the last
    %sum = scf.for %step = ... iter_args(%acc = %zeros) { an entry of the block, 32 elements of i
      %in = tile.load %slot_along[%entry * 64]            an element for each row, -1 for none
      %k = tile.load %slot_key[%entry]
      tile.copy %I[%in, %i] axis 1 padded to %left_block[%zero, %zero]
      tile.copy %F[%k, %i, %o] rows 1 axis 2 to %right_block[%zero, %zero]
      tile.barrier
      %next = tile.product %acc + %left_block[%lanes, %zero] k 1, %right_block[%zero, %zero] k 0
      tile.barrier
    }
    tile.store %sum, %O[%out, %o] axis 1 pad 0.0

Enters: the frame of a task, and a phase that is a scattered product. Leaves: that code, one loop
over all entries and all of i, so that copies for the next entry are under way while one is
multiplied. Sums stay in registers and are added in the order of the entries: there is no tensor of
the elements' rows, and no atomics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from xdsl.dialects.builtin import IntegerAttr, StringAttr, VectorType
from xdsl.dialects.scf import ForOp
from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ProductOp, StoreOp, index
from hectorite.dialects.tile_async import CopyOp, SharedOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schedule import Schedule
from hectorite.ir.space import TensorType
from hectorite.ir.target import target
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.gpu.stage_products import STAGES, UNIT, depth_of
from hectorite.lowering.kernels.kernel_builder import (
    LAYOUT_TYPE,
    KernelBuilder,
    Layout,
    Storage,
    element_path,
)
from hectorite.lowering.kernels.kernel_plan import Phase, Product, Root
from hectorite.lowering.kernels.place_tensors import Placement
from hectorite.lowering.kernels.tile_code import Code


def slot_layout(phase: Phase, what: str, path: Path | None = None) -> Layout:
    """A layout of the elements in slots, those with a path that of its values."""
    product, visit = phase.product, phase.visit
    assert product is not None and visit is not None
    keys = element_path(visit.key), *(element_path(group.fields) for group in product.groups)
    of = None if path is None else element_path(path.fields)
    return Layout(what, visit.set, keys, of, product.shape.rows)


class OwnedRows:
    """Writes one block of a scattered product: rows `block`, the lanes from `start` on."""

    def __init__(
        self,
        phase: Phase,
        root: Root,
        builder: KernelBuilder,
        placement: Placement,
        frame: Frame,
        block: SSAValue,
        start: SSAValue,
        loops: Mapping[str, SSAValue],
    ):
        assert phase.product is not None and phase.product.direct is not None
        self.phase, self.root, self.builder, self.block = phase, root, builder, block
        self.product: Product = phase.product
        self.left: ReadOp = phase.product.direct
        self.statement: StatementOp = phase.statements[0]
        self.code, self.zero = frame.code, frame.code.constant(0)
        scope = Scope.of(frame, self.statement, Root((), ()))
        self.scope = replace(scope, loops={**loops, self.product.lanes: start})
        self.height, self.width = self.product.shape.rows, self.product.shape.lanes
        self.type = VectorType(self.statement.value.type, [self.height, self.width])
        self.target = placement.storage(self.statement.result, builder)
        self.first = placement.start(self.statement, builder)
        machine = target(builder.machine.name)
        reads = [read.type.element_type for read in (self.left, self.product.weights)]
        schedule = Schedule.on(self.statement)
        wanted = None if schedule is None else schedule.tile.get(self.product.inner)
        self.depth = wanted or depth_of(reads, self._extent(self.product.inner), machine)
        self.by_groups = machine.has("wgmma")
        self.stages = None if schedule is None else schedule.pipeline
        self.k_first = self.product.lane_axis == len(self.product.weights.access.data) - 1
        right = (self.depth, self.width) if self.k_first else (self.width, self.depth)
        self.left_block = self._shared(self.left, (self.height, self.depth), "left_block")
        self.right_block = self._shared(self.product.weights, right, "right_block")

    def emit(self) -> None:
        """The block, from its entries into its rows."""
        code = self.code
        self.builder.remark(code, self.statement)
        groups = self.builder.layout(slot_layout(self.phase, "slot_groups"))
        ends = (self.block, code.plus(self.block, 1))
        lower, upper = (code.cast(code.add(LoadOp(groups, [at])), index) for at in ends)
        steps = -(-self._extent(self.product.inner) // self.depth)
        for name in self.product.outer:
            steps *= self._extent(name)
        first, last = (code.scalar("mul", at, code.constant(steps)) for at in (lower, upper))

        def step(inner: Code, at: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            return [self._step(inner, at, steps, carried[0])]

        rows = self._slots(code, slot_layout(self.phase, "slot_rows"), self.block)
        (total,) = code.loop(first, last, 1, [self._start(rows)], step)
        if self.stages is not None and isinstance(total.owner, ForOp):
            total.owner.attributes[STAGES] = IntegerAttr(self.stages, 64)
        indices, axis = self._places(rows)
        value = code.cast(total, cast(TensorType, self.target.tensor.type).element)
        code.block.add_op(
            StoreOp(value, self.target.tensor, indices, axis, 1, 0, self._lanes_inside())
        )

    def _extent(self, name: str) -> int:
        extent = self.scope.dims[name]
        assert isinstance(extent, int)
        return extent

    def _shared(self, read: ReadOp, shape: tuple[int, int], name: str) -> SSAValue:
        op = SharedOp(TensorType.of(read.type.element, shape))
        first = self.builder.block.first_op
        assert first is not None
        self.builder.block.insert_op_before(op, first)
        op.result.name_hint = name
        return op.result

    def _slots(self, code: Code, layout: Layout, number: SSAValue) -> SSAValue:
        """A number for each row of a block."""
        first = code.scalar("mul", number, code.constant(self.height))
        type = VectorType(LAYOUT_TYPE.element, [self.height])
        load = LoadOp(self.builder.layout(layout), [first], type, axis=0)
        return code.cast(code.add(load), index)

    def _lanes_inside(self) -> SSAValue | None:
        extent = self._extent(self.product.lanes)
        if extent % self.width == 0:
            return None
        start = self.scope.loops[self.product.lanes]
        left = self.code.scalar("sub", self.code.constant(extent), start)
        return self.code.scalar("min", left, self.code.constant(self.width))

    # The sum ------------------------------------------------------------------------------------

    def _start(self, rows: SSAValue) -> SSAValue:
        type, first = self.statement.value.type, self.first
        if first is None:
            return self.code.constant(element_of(type).identity("add"), self.type)
        indices, axis = self._places(rows)
        stored = VectorType(cast(TensorType, first.tensor.type).element, [self.height, self.width])
        load = LoadOp(first.tensor, indices, stored, axis, pad=0, valid=self._lanes_inside())
        return self.code.cast(self.code.add(load), type)

    def _places(self, rows: SSAValue) -> tuple[list[SSAValue], int]:
        """Indices of the block in the result, and the axis of its lanes."""
        access, lanes = self.statement.access.data, self.product.lanes
        indices = [self._index(self.scope, each, rows) for each in access]
        return indices, next(i for i, each in enumerate(access) if each.variable == lanes)

    def _index(self, scope: Scope, each: IndexExpr, of_element: SSAValue | None) -> SSAValue:
        """The value of an index; where it follows from the element, what is given or looked up."""
        path = each.path
        if path is None or path.variable != self.root.element:
            return scope.index_value(each)
        assert of_element is not None
        return of_element

    def _step(self, code: Code, at: SSAValue, steps: int, total: SSAValue) -> SSAValue:
        """One block of k of one entry."""
        entry = code.scalar("floordiv", at, code.constant(steps))
        scope, left = self._at_step(code, at)
        self._copy_left(scope, entry, left)
        self._copy_right(scope, entry, left)
        code.add(BarrierOp())
        axes = (0, 1) if self.k_first else (1, 0)
        product = ProductOp(
            total,
            self.left_block,
            [code.add(LanesOp(self.height)), self.zero],
            1,
            self.right_block,
            [self.zero, self.zero],
            axes[0],
            code.constant(self.depth),
            self.type,
            n_axis=axes[1],
        )
        if self.by_groups:
            product.attributes[UNIT] = StringAttr("wgmma")
        result = code.add(product)
        code.add(BarrierOp())
        return result

    def _at_step(self, code: Code, at: SSAValue) -> tuple[Scope, SSAValue | None]:
        """The scope of a step, and how many of its k count; None for all."""
        names, extent = self.product.outer, self._extent(self.product.inner)
        blocks = -(-extent // self.depth)
        number = code.scalar("mod", at, code.constant(blocks)) if blocks > 1 else self.zero
        k = code.scalar("mul", number, code.constant(self.depth))
        rest, loops = at, {**self.scope.loops, self.product.inner: k}
        if names and blocks > 1:
            rest = code.scalar("floordiv", at, code.constant(blocks))
        for name in reversed(names):
            size = code.constant(self._extent(name))
            loops[name] = code.scalar("mod", rest, size)
            rest = code.scalar("floordiv", rest, size)
        left = None
        if extent % self.depth:
            left = code.scalar("sub", code.constant(extent), k)
        frame = replace(self.scope.frame, code=code)
        return replace(self.scope, frame=frame, loops=loops, cache={}), left

    def _copy_left(self, scope: Scope, entry: SSAValue, left: SSAValue | None) -> None:
        code, access = scope.code, self.left.access.data
        indices = list[SSAValue]()
        for each in access:
            path, found = each.path, None
            if path is not None and path.variable == self.root.element:
                found = self._slots(code, slot_layout(self.phase, "slot_along", path), entry)
            indices.append(self._index(scope, each, found))
        axis = next(i for i, each in enumerate(access) if self.product.inner in each.variables)
        valid = None if left is None else (code.constant(self.height), left)
        shape = self.height, self.depth
        code.add(
            CopyOp(
                self._memory(scope, self.left), indices, axis, self.left_block,
                [self.zero, self.zero], shape, valid=valid, padded=True,
            )
        )  # fmt: skip

    def _copy_right(self, scope: Scope, entry: SSAValue, left: SSAValue | None) -> None:
        code, weights = scope.code, self.product.weights
        indices = list[SSAValue]()
        for each in weights.access.data:
            path, found = each.path, None
            if path is not None and path.variable == self.root.element:
                layout = self.builder.layout(slot_layout(self.phase, "slot_key", path))
                found = code.cast(code.add(LoadOp(layout, [entry])), index)
            indices.append(self._index(scope, each, found))
        axes = self.product.inner_axis, self.product.lane_axis
        counts, shape = (left, self._lanes_inside()), (self.depth, self.width)
        if not self.k_first:
            axes, counts, shape = axes[::-1], counts[::-1], (self.width, self.depth)
        valid = None
        if counts != (None, None):
            pairs = zip(counts, shape, strict=True)
            first, second = (code.constant(n) if c is None else c for c, n in pairs)
            valid = first, second
        code.add(
            CopyOp(
                self._memory(scope, weights), indices, axes[1], self.right_block,
                [self.zero, self.zero], shape, row_axis=axes[0], valid=valid,
            )
        )  # fmt: skip

    def _memory(self, scope: Scope, read: ReadOp) -> SSAValue:
        storage: Storage = scope.storage_of(read.tensor)
        return storage.tensor
