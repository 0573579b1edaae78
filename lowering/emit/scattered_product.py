"""Write a product whose rows are scattered, for one block of the rows that it sums into.

    O[p.out, o] += I[p.in, i] * F[p.k, i, o]

    fill the rows of the block                                %rows .. of block_rows
    for each run of elements alike in p.k:                    %runs .. of block_groups
      for 6 elements at a time, of the rest 4, 2 and 1:
        %in = tile.load %p_in[%place] : vector<6xi32>         block_along
        %t = tile.product %I[%in, %0] k 1, %F[%k, %0, %0] k 1 to %64 -> vector<6x64xf32>
        tile.store add own %t, %O[%out, %0] axis 1

Enters: a planned product, and the block of a task. Leaves: the code. No row is multiplied twice or
for nothing: where a run does not end with a full block, smaller ones follow. A left operand that
is a sum itself (`feeder`) is summed for the rows of each block first, into local memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import IndexOp, StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, StoreOp, index
from hectorite.ir.index import IndexExpr, Path
from hectorite.lowering.emit.product import Block, ProductEmitter
from hectorite.lowering.emit.row import RowEmitter
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.kernels.kernel_builder import (
    LAYOUT_TYPE,
    KernelBuilder,
    Layout,
    element_path,
)
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Product, Root
from hectorite.lowering.kernels.place_tensors import Placement
from hectorite.lowering.kernels.row_order import Place, RowOrder
from hectorite.lowering.kernels.tile_code import Code

TARGET_BYTES = 1 << 19
"""Bytes of the rows that one task sums into, so that they stay in its cache."""


@dataclass(frozen=True)
class BlockOrder(RowOrder):
    """Elements of a set by blocks of target rows (`keys[0]`) and then by the other keys."""

    height: int = 0

    def row(self, code: Code, kernel: KernelBuilder, place: Place) -> SSAValue:
        """The element, or vector of elements, at a place."""
        return self._load(code, kernel, self.layout("block_order"), place)

    def follow(
        self, code: Code, kernel: KernelBuilder, place: Place, fields: tuple[str, ...]
    ) -> SSAValue:
        """The image of the element, or of each, under a path of maps."""
        layout = self.layout("block_along", element_path(fields))
        return self._load(code, kernel, layout, place)

    def layout(self, what: str, path: IndexExpr | None = None) -> Layout:
        """One of the layouts by blocks."""
        assert self.owner is not None
        return Layout(what, self.owner, self.keys, path, self.height)

    def _load(self, code: Code, kernel: KernelBuilder, layout: Layout, place: Place) -> SSAValue:
        array = kernel.layout(layout)
        if place.height == 1:
            return code.cast(code.add(LoadOp(array, [place.start])), index)
        type = VectorType(LAYOUT_TYPE.element, [place.height])
        return code.cast(code.add(LoadOp(array, [place.start], type, axis=0)), index)


def target_blocks(phase: Phase) -> tuple[str, tuple[IndexExpr, ...], int]:
    """The set, the keys and the height that say how a scattered product's elements are ordered."""
    product, visit = phase.product, phase.visit
    assert product is not None and visit is not None
    # The first key makes blocks only, so weights of each target are a key besides.
    keys = (element_path(visit.key), *(element_path(path.fields) for path in product.groups))
    type = phase.statements[0].type
    lanes = prod(dim for dim in type.dims if isinstance(dim, int))
    row = lanes * type.element_type.storage.itemsize
    return visit.set, keys, max(1, TARGET_BYTES // max(1, row))


@dataclass(frozen=True)
class _Scattering(ProductEmitter):
    """A product whose results are added to what is there."""

    def _prefetch(self, scope: Scope, block: Block) -> None:
        super()._prefetch(scope, block)
        access, target = self.statement.access.data, self.target
        in_lanes = access[-1].variable == self.product.lanes
        if target is not None and in_lanes and target.kind == "global":
            self._ask(scope, block, target, access, self.product.lanes)

    def _store(self, scope: Scope, total: SSAValue) -> None:
        assert self.target is not None
        indices, axis, step = scope.address(self.target, self.statement.access.data)
        valid = None if scope.lanes is None else scope.lanes.valid
        scope.code.block.add_op(
            StoreOp(
                total, self.target.tensor, indices, axis, step, valid=valid, combine="add", own=True
            )
        )


@dataclass(frozen=True)
class AtomicProduct(ProductEmitter):
    """A product whose results several tasks add to the same rows, on a GPU."""

    def _first(self, scope: Scope, shape: Sequence[int]) -> SSAValue | None:
        return None

    def _store(self, scope: Scope, total: SSAValue) -> None:
        assert self.target is not None
        indices, axis, step = scope.address(self.target, self.statement.access.data)
        at, code = scope.frame.at, scope.code
        if at is not None and at.valid is not None:
            # Rows past the last would repeat it: they go outside of the tensor.
            inside = code.scalar("lt", code.add(LanesOp(at.height)), at.valid)
            outside = code.constant(-1)
            for number, rows in enumerate(indices):
                if isinstance(rows.type, VectorType):
                    operands = code.same_shape((rows, outside))
                    indices[number] = code.scalar("select", inside, *operands)
        valid = None if scope.lanes is None else scope.lanes.valid
        code.block.add_op(
            StoreOp(total, self.target.tensor, indices, axis, step, 0, valid, combine="add")
        )


@dataclass(frozen=True)
class ScatteredEmitter:
    """Writes one scattered product of a kernel."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement
    row: RowEmitter
    phase: Phase

    @property
    def statement(self) -> StatementOp:
        return self.phase.statements[0]

    @property
    def product(self) -> Product:
        assert self.phase.product is not None
        return self.phase.product

    @cached_property
    def _names_element(self) -> bool:
        """Whether the number of an element is needed, not only where its maps lead."""
        element = Path(self.kernel.roots[self.statement].element or "")
        accesses = [read.access.data for read in self.statement.reads]
        numbers = [op.index.data for op in self.statement.body.block.ops if isinstance(op, IndexOp)]
        named = any(element in i.paths for access in (*accesses, *numbers) for i in access)
        return named or self.phase.feeder is not None

    def emit(self, code: Code, frame: Frame, number: SSAValue) -> None:
        """The runs of block `number`. Its rows are filled with what the sums start from already."""
        owner, keys, height = target_blocks(self.phase)
        size = self.builder.size(owner)
        order = BlockOrder(code.constant(0), size, owner, keys, height)
        groups = self.builder.layout(order.layout("block_groups"))
        bounds = self._pair(code, groups, number)
        starts = self.builder.layout(order.layout("block_runs"))
        emitter = self._emitter()

        def run(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            lower, upper = self._pair(inner, starts, at)
            self._run(inner, frame, order, emitter, lower, upper)
            return ()

        code.loop(*bounds, 1, (), run)

    def _pair(self, code: Code, array: SSAValue, at: SSAValue) -> tuple[SSAValue, SSAValue]:
        places = at, code.plus(at, 1)
        first, second = (code.cast(code.add(LoadOp(array, [p])), index) for p in places)
        return first, second

    def _emitter(self) -> _Scattering:
        statement = self.statement
        visited = self.kernel.roots[statement]
        assert visited.visit is not None and visited.element is not None
        root = Root((visited.visit.set,), (visited.element,))
        target = self.placement.storage(statement.result, self.builder)
        panels = self.placement.panels.get(statement)
        return _Scattering(statement, root, self.product, None, target, panels)

    def _run(
        self,
        code: Code,
        frame: Frame,
        order: BlockOrder,
        emitter: _Scattering,
        lower: SSAValue,
        upper: SSAValue,
    ) -> None:
        """Full blocks of one run, and the rest of it in blocks of powers of two."""
        height = self.product.shape.rows
        length = code.scalar("sub", upper, lower)
        left = code.scalar("mod", length, code.constant(height))
        whole = code.scalar("sub", upper, left)

        def full(inner: Code, place: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self._block(inner, frame, order, emitter, place, height)
            return ()

        code.loop(lower, whole, height, (), full)
        for rows in (4, 2, 1):
            if rows < height:
                self._rest(code, whole, left, rows, frame, order, emitter)

    def _rest(
        self,
        code: Code,
        whole: SSAValue,
        left: SSAValue,
        rows: int,
        frame: Frame,
        order: BlockOrder,
        emitter: _Scattering,
    ) -> None:
        """A block of `rows`, if the binary number of what is left has that digit."""
        digit = code.scalar("floordiv", left, code.constant(rows))
        odd = code.scalar("mod", digit, code.constant(2))
        before = code.scalar("mul", code.scalar("sub", digit, odd), code.constant(rows))
        place = code.scalar("add", whole, before)

        def some(inner: Code) -> None:
            self._block(inner, frame, order, emitter, place, rows)

        code.choose(code.scalar("ne", odd, code.constant(0)), some, lambda inner: None)

    def _block(
        self,
        code: Code,
        frame: Frame,
        order: BlockOrder,
        emitter: _Scattering,
        start: SSAValue,
        height: int,
    ) -> None:
        place = Place(start, height)
        slots = code.add(LanesOp(height)) if height > 1 else code.constant(0)

        def rows(inner: Code, at: Place) -> tuple[SSAValue, ...]:
            return (order.row(inner, self.builder, at),) if self._names_element else ()

        frame = replace(frame, code=code, rows=rows(code, place), order=order, at=place, slot=slots)

        def single(inner: Code, number: SSAValue) -> Frame:
            at = Place(inner.scalar("add", start, number))
            return replace(frame, code=inner, rows=rows(inner, at), at=at, slot=number)

        def beyond(distance: int) -> Frame:
            at = order.beyond(code, start, distance)
            return replace(frame, rows=rows(code, at), at=at)

        if self.phase.feeder is not None:
            self._feed(code, self.phase.feeder, height, single)
        emitter.emit(Block(frame, height, single, beyond))

    def _feed(
        self,
        code: Code,
        feeder: StatementOp,
        height: int,
        single: Callable[[Code, SSAValue], Frame],
    ) -> None:
        """The left operand of the rows of a block."""
        sums = Phase([feeder], self.kernel.roots[feeder].visit)

        def row(inner: Code, number: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self.row.phase(single(inner, number), sums)
            return ()

        code.loop(code.constant(0), code.constant(height), 1, (), row)
