"""Write a block product for a block of rows.

    t[e, o] += h[e.src, i] * W[e.type, i, o]

    %rows = tile.load %order[%places] : vector<6xi32>          the rows of the block
    %src = tile.load %e_src[%rows] : vector<6xi32>
    %p = tile.product %h[%src, %0] k 1, %W[%type, %0, %0] k 1 to %64 -> vector<6x64xf32>
    tile.store %p, %t[%rows, %0] axis 1

The block's last rows repeat its last valid row where it is not full, so that every lane computes
and stores the same value as the row it repeats. Where the left operand is more than a read, it is
computed into local memory first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from xdsl.dialects.builtin import IntegerAttr, VectorType
from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ProductOp, StoreOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.schedule import Schedule
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.nest import Body, over, strips
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.gpu.stage_products import BLOCK_K, STAGES
from hectorite.lowering.graph.statement_body import factors
from hectorite.lowering.kernels.kernel_builder import Storage
from hectorite.lowering.kernels.kernel_plan import Product, Root
from hectorite.lowering.kernels.product_shape import vector_lanes
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.match.product import plain_read


@dataclass(frozen=True)
class Block:
    """A block of rows: `frame` has a vector of rows, `single` gives the frame of one of them,
    `beyond` that of a row that comes so many places after its first."""

    frame: Frame
    rows: int
    single: Callable[[Code, SSAValue], Frame]
    beyond: Callable[[int], Frame]


@dataclass(frozen=True)
class ProductEmitter:
    """Writes one product. `start` is where its accumulators start from (None: zero), `target`
    where they end (None: in registers), `panels` the host's value for packed weights."""

    statement: StatementOp
    root: Root
    product: Product
    start: Storage | None
    target: Storage | None
    panels: SSAValue | None = None

    @property
    def type(self) -> Attribute:
        """The type that is accumulated in."""
        return self.statement.value.type

    def emit(self, block: Block) -> None:
        """All strips and loops of the product for one block."""
        scope = Scope.of(block.frame, self.statement, self.root)
        self._prefetch(scope, block)
        self.over_strips(scope, lambda at: self.emit_strip(at, block))

    def _prefetch(self, scope: Scope, block: Block) -> None:
        """Ask for the rows that the next block gathers: they come from anywhere in memory."""
        if not scope.kernel.machine.prefetch_bytes:
            return
        for read in self._gathered(scope):
            storage = scope.storage_of(read.tensor)
            self._ask(scope, block, storage, read.access.data, self.product.inner)

    def _ask(
        self, scope: Scope, block: Block, storage: Storage, access: Sequence[IndexExpr], along: str
    ) -> None:
        """Ask for the rows of a tensor that the next block accesses, along one variable."""
        extent, code = scope.dims[along], scope.code
        names = (*self.product.loops, *self.product.outer, self.product.inner, self.product.lanes)
        for number in range(block.rows, 2 * block.rows):
            there = Scope.of(block.beyond(number), self.statement, self.root)
            for name in names:
                there = there.with_loop(name, code.constant(0))
            indices, _, _ = there.address(storage, access)
            assert isinstance(extent, int)
            code.prefetch(storage.tensor, indices, extent)

    def _gathered(self, scope: Scope) -> list[ReadOp]:
        """Reads of the left operand that take whole rows from where a map leads."""
        product, row = self.product, self.root.row_variables[0]
        found = list[ReadOp]()
        if not isinstance(scope.dims[product.inner], int):
            return found
        for read in self.statement.reads if product.direct is None else (product.direct,):
            access = read.access.data
            whole = read is product.direct or access and access[-1].variable == product.inner
            if read is product.weights or not whole:
                continue
            mapped = any(p.variable == row and p.fields for i in access for p in i.paths)
            if mapped and scope.storage_of(read.tensor).kind == "global":
                found.append(read)
        return found

    def over_strips(self, scope: Scope, body: Body) -> None:
        """Run `body` for each strip of lanes at each point of the loops."""

        def loops(at: Scope) -> None:
            if self.product.packed:
                self._full_strips(at, body)
            else:
                strips(at, self.product.lanes, self.product.shape.lanes, body)

        over(scope, self.product.loops, loops)

    def _full_strips(self, scope: Scope, body: Body) -> None:
        """Strips of one width; of the last one only some lanes may count."""
        extent, width = scope.dims[self.product.lanes], self.product.shape.lanes
        assert isinstance(extent, int)

        def strip(code: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            body(self.strip_at(scope.inside(code), at))
            return ()

        zero = scope.code.constant(0)
        if extent <= width:
            body(self.strip_at(scope, zero))
        else:
            scope.code.loop(zero, scope.code.constant(extent), width, (), strip)

    def strip_at(self, scope: Scope, start: SSAValue) -> Scope:
        """The scope of the strip that begins at `start`, a multiple of the width."""
        extent, width = scope.dims[self.product.lanes], self.product.shape.lanes
        assert isinstance(extent, int)
        valid = None
        if extent % width:
            left = scope.code.scalar("sub", scope.code.constant(extent), start)
            valid = scope.code.scalar("min", left, scope.code.constant(width))
        return scope.with_lanes(Lanes(self.product.lanes, width, valid), start)

    def emit_strip(self, scope: Scope, block: Block) -> None:
        """One strip of lanes at one point of the loops, for one block."""
        self._store(scope, self.sums(scope, block))

    def sums(self, scope: Scope, block: Block) -> SSAValue:
        """What a strip comes to."""
        assert scope.lanes is not None
        scope.kernel.remark(scope.code, self.statement)
        shape = [block.rows, scope.lanes.count]
        total = self._first(scope, shape)
        return self._outer(scope, block, self.product.outer, total, shape)

    def _first(self, scope: Scope, shape: Sequence[int]) -> SSAValue | None:
        start = self.start
        if start is None:
            return None
        indices, axis, step = scope.address(start, self.statement.access.data)
        element = cast(TensorType, start.tensor.type).element
        valid = None if scope.lanes is None else scope.lanes.valid
        type = VectorType(element, shape)
        op = LoadOp(start.tensor, indices, type, axis, step, valid=valid)
        return scope.code.cast(scope.code.add(op), self.type)

    def _store(self, scope: Scope, total: SSAValue) -> None:
        target = self.target
        assert target is not None
        indices, axis, step = scope.address(target, self.statement.access.data)
        value = scope.code.cast(total, cast(TensorType, target.tensor.type).element)
        valid = None if scope.lanes is None else scope.lanes.valid
        scope.code.block.add_op(StoreOp(value, target.tensor, indices, axis, step, valid=valid))

    def _outer(
        self,
        scope: Scope,
        block: Block,
        outer: Sequence[str],
        total: SSAValue | None,
        shape: Sequence[int],
    ) -> SSAValue:
        """Loops over further reduced variables carry the accumulator tile."""
        if not outer:
            return self._product(scope, block, total, shape)
        name, rest = outer[0], outer[1:]
        if total is None:
            total = scope.code.constant(0, VectorType(self.type, shape))

        def iteration(code: Code, at: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            inner = scope.inside(code).with_loop(name, at)
            return (self._outer(inner, block, rest, carried[0], shape),)

        upper = scope.kernel.size(scope.dims[name])
        return scope.code.loop(scope.code.constant(0), upper, 1, (total,), iteration)[0]

    def _product(
        self, scope: Scope, block: Block, init: SSAValue | None, shape: Sequence[int]
    ) -> SSAValue:
        product = self.product
        zero = scope.code.constant(0)
        at_zero = replace(scope.with_loop(product.inner, zero), lanes=None)
        if product.direct is not None:
            tensor = scope.storage_of(product.direct.tensor)
            access = product.direct.access.data
            a_indices, _, _ = at_zero.address(tensor, access)
            a, a_axis = tensor.tensor, self._place(access, product.inner, tensor)
        else:
            a = self._computed(scope, block)
            a_indices, a_axis = [scope.code.add(LanesOp(block.rows)), zero], 1
        uniform = replace(at_zero, frame=block.single(scope.code, zero), cache={})
        b, b_indices, b_axis, n_axis = self._weights(uniform)
        extent = scope.kernel.size(scope.dims[product.inner])
        type = VectorType(self.type, shape)
        columns = None
        if scope.lanes is not None and n_axis is not None:
            columns = scope.lanes.valid
        op = ProductOp(
            init, a, a_indices, a_axis, b, b_indices, b_axis, extent, type, columns, n_axis
        )
        self._pin(scope, op)
        return scope.code.add(op)

    def _pin(self, scope: Scope, op: ProductOp) -> None:
        """Choices of the schedule that later passes make otherwise."""
        schedule = Schedule.on(self.statement) if scope.kernel.machine.is_gpu else None
        if schedule is None:
            return
        if self.product.inner in schedule.tile:
            op.attributes[BLOCK_K] = IntegerAttr(schedule.tile[self.product.inner], 64)
        if schedule.pipeline is not None:
            op.attributes[STAGES] = IntegerAttr(schedule.pipeline, 64)

    def _weights(self, uniform: Scope) -> tuple[SSAValue, list[SSAValue], int, int | None]:
        """The weights or their panels, the indices of the strip, and the dimensions of k and n;
        no n for panels, all of whose lanes are there."""
        product, code = self.product, uniform.code
        access = product.weights.access.data
        if self.panels is None:
            weights = uniform.storage_of(product.weights.tensor)
            indices, _, _ = uniform.address(weights, access)
            places = [self._place(access, name, weights) for name in (product.inner, product.lanes)]
            return weights.tensor, indices, places[0], places[1]
        axes = (product.lane_axis, product.inner_axis)
        others = [uniform.index_value(e) for i, e in enumerate(access) if i not in axes]
        width = code.constant(product.shape.lanes)
        start = uniform.loops[product.lanes]
        strip, lane = code.scalar("floordiv", start, width), code.scalar("mod", start, width)
        indices = [*others, strip, code.constant(0), lane]
        return uniform.kernel.parameter(self.panels), indices, len(indices) - 2, None

    def _place(self, access: Sequence[IndexExpr], variable: str, storage: Storage) -> int:
        position = next(i for i, index in enumerate(access) if variable in index.variables)
        if storage.kind != "local":
            return position
        before = storage.position is not None and storage.position < position
        return position + 1 - (1 if before else 0)

    def _computed(self, scope: Scope, block: Block) -> SSAValue:
        """Compute the left operand for the rows of the block into local memory [rows, k]."""
        product = self.product
        extent = scope.dims[product.inner]
        assert isinstance(extent, int)
        memory = scope.kernel.local(TensorType.of(self.type, (block.rows, extent)))
        weights = product.weights
        others = [f for f in factors(self.statement.value) if plain_read(f) is not weights]

        def row(code: Code, number: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            frame = block.single(code, number)
            there = replace(scope, frame=frame, lanes=None, cache={})

            def lanes(point: Scope) -> None:
                value = point.evaluate(others[0])
                for other in others[1:]:
                    value = point.code.scalar("mul", value, point.evaluate(other))
                place = replace(point, frame=replace(frame, code=point.code, slot=number))
                memory_of_rows = Storage("local", memory, None, block.rows)
                place.store(value, memory_of_rows, (IndexExpr.of(product.inner),))

            strips(there, product.inner, vector_lanes(self.type, scope.kernel.machine), lanes)
            return ()

        code = scope.code
        code.loop(code.constant(0), code.constant(block.rows), 1, (), row)
        return memory
