"""Write the body of one kernel: its task's rows, and the phases over them.

    task -> rows [lo, hi)
      for blocks of 6 rows:            if the kernel has a product
        product of the block
        for each row of the block:
          statements of the row
          for each element of a visit: statements of the element

Enters: a planned kernel, a builder for its body, where its tensors live, and the rows of a task.
Leaves: the body, written: the passes over rows first in this file, then the phases of one row, then
the sums of a visit, then the rows that are asked for ahead.

A product whose result is wide goes over all blocks of the task for each strip of lanes, so that a
strip of the weights stays near while rows pass by.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import IndexOp, ReadOp, StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ReduceOp, StoreOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.space import TensorType
from hectorite.lowering.emit_nest import emit_nest, identity, over, strips
from hectorite.lowering.emit_product import Block, ProductEmitter
from hectorite.lowering.emit_values import Frame, Lanes, Scope
from hectorite.lowering.kernel_builder import KernelBuilder, Layout, Storage, element_path
from hectorite.lowering.kernel_plan import Kernel, Phase, Root, Visit
from hectorite.lowering.place_tensors import Placement, in_lanes, is_regular, written_slice
from hectorite.lowering.product_shape import vector_lanes
from hectorite.lowering.row_order import Place, RowOrder
from hectorite.lowering.share_rows import Share
from hectorite.lowering.tile_code import Code

LEAST_AHEAD = 4
"""Elements to be ahead at the least."""

LEAST_BYTES = 128
"""Rows shorter than this are not asked for."""


class KernelEmitter:
    """Writes one planned kernel into a builder."""

    def __init__(self, kernel: Kernel, builder: KernelBuilder, placement: Placement):
        self.kernel = kernel
        self.builder = builder
        self.placement = placement
        self.frame = Frame(builder.code, builder, placement.values)

    def emit(self, share: Share) -> None:
        """All phases; without rows, the kernel is one task that has a single, nameless row. With
        a strip, the task does that strip of lanes of the kernel's only phase, a product."""
        code, rows = self.builder.code, share.rows
        if rows is None:
            for phase in self.kernel.phases:
                self._phase(replace(self.frame, slot=code.constant(0)), phase)
            return
        if self.kernel.machine.is_gpu:
            self._one_share(share, rows)
            return
        for group in self._groups():
            if len(group) == 1 and self._is_wide(group[0]):
                self._wide_product(rows, group[0], share.strip)
            elif any(phase.product for phase in group):
                self._blocks(rows, group)
            else:
                self._row_loop(code, rows, rows.lower, rows.upper, group, None)

    def _is_wide(self, phase: Phase) -> bool:
        return phase.product is not None and phase.product.shape.wide

    def _groups(self) -> list[list[Phase]]:
        """Runs of phases that share one pass over the rows."""
        groups: list[list[Phase]] = []
        for phase in self.kernel.phases:
            alone = self._is_wide(phase)
            if not groups or alone or self._is_wide(groups[-1][-1]):
                groups.append([])
            groups[-1].append(phase)
        return groups

    def _one_share(self, share: Share, rows: RowOrder) -> None:
        """A task that is one row, or one block of a product."""
        code, phase = self.builder.code, self.kernel.phases[0]
        product = phase.product
        if product is None or share.strip is None:
            self._one_row(code, rows, rows.lower, self.kernel.phases, code.constant(0))
            return
        self.builder.threads = product.shape.threads
        block = self._block(code, rows, rows.lower, product.shape.rows)
        emitter = self._product(phase)
        scope = Scope.of(block.frame, emitter.statement, emitter.root)
        for name, value in share.loops.items():
            scope = scope.with_loop(name, value)
        start = code.scalar("mul", share.strip, code.constant(product.shape.lanes))
        emitter.emit_strip(emitter.strip_at(scope, start), block)

    # Passes over rows ---------------------------------------------------------------------------

    def _row_loop(
        self,
        code: Code,
        rows: RowOrder,
        lower: SSAValue,
        upper: SSAValue,
        phases: Sequence[Phase],
        block: SSAValue | None,
    ) -> None:
        """Do phases for the rows at positions from lower to upper, one at a time."""

        def row(inner: Code, position: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            slot = inner.constant(0) if block is None else inner.scalar("sub", position, block)
            self._one_row(inner, rows, position, phases, slot)
            return ()

        code.loop(lower, upper, 1, (), row)

    def _one_row(
        self,
        code: Code,
        rows: RowOrder,
        position: SSAValue,
        phases: Sequence[Phase],
        slot: SSAValue,
    ) -> None:
        """Do phases for the row at one position."""
        at = Place(position)
        indices = self._split(code, rows.row(code, self.builder, at))
        frame = replace(self.frame, code=code, rows=indices, order=rows, at=at, slot=slot)
        self._prefetch_rows(frame, phases)
        for phase in phases:
            self._phase(frame, phase)

    def _split(self, code: Code, row: SSAValue) -> tuple[SSAValue, ...]:
        """The index in each row domain of a row's number."""
        indices: list[SSAValue] = []
        for dim in reversed(self.kernel.rows[1:]):
            extent = self.builder.size(dim)
            indices.append(code.scalar("mod", row, extent))
            row = code.scalar("floordiv", row, extent)
        return (row, *reversed(indices))

    def _block(self, code: Code, rows: RowOrder, start: SSAValue, height: int) -> Block:
        """The block of rows that begins at a place."""
        place = rows.block(code, start, height)

        def single(inner: Code, number: SSAValue) -> Frame:
            at, slot = rows.one_of(inner, place, number)
            row = rows.row(inner, self.builder, at)
            return replace(frame, code=inner, rows=(row,), at=at, slot=slot)

        def beyond(distance: int) -> Frame:
            at = rows.beyond(code, start, distance)
            return replace(frame, rows=(rows.row(code, self.builder, at),), at=at)

        row, slots = rows.row(code, self.builder, place), rows.slots(code, place)
        frame = replace(self.frame, code=code, rows=(row,), order=rows, at=place, slot=slots)
        return Block(frame, height, single, beyond)

    def _product(self, phase: Phase) -> ProductEmitter:
        statement = phase.statements[0]
        assert phase.product is not None
        root = self.kernel.roots[statement]
        start = self.placement.start(statement, self.builder)
        target = self.placement.storage(statement.result, self.builder)
        panels = self.placement.panels.get(statement)
        return ProductEmitter(statement, root, phase.product, start, target, panels)

    def _blocks(self, rows: RowOrder, phases: Sequence[Phase]) -> None:
        """Do products for a block of rows, then the other phases for each of its rows."""
        height = self.placement.block_height

        def block(code: Code, start: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            end = code.scalar("add", start, code.constant(height))
            upper = code.scalar("min", end, rows.upper)
            pending: list[Phase] = []
            for phase in [*phases, None]:
                if phase is not None and phase.product is None:
                    pending.append(phase)
                    continue
                if pending:
                    self._row_loop(code, rows, start, upper, pending, start)
                    pending = []
                if phase is not None:
                    self._product(phase).emit(self._block(code, rows, start, height))
            return ()

        self.builder.code.loop(rows.lower, rows.upper, height, (), block)

    def _wide_product(self, rows: RowOrder, phase: Phase, strip: SSAValue | None) -> None:
        assert phase.product is not None
        emitter = self._product(phase)
        height = phase.product.shape.rows

        def blocks(scope: Scope) -> None:
            def block(code: Code, start: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                there = self._block(code, rows, start, height)
                inner = replace(scope.inside(code), frame=there.frame)
                emitter.emit_strip(inner, there)
                return ()

            scope.code.loop(rows.lower, rows.upper, height, (), block)

        scope = Scope.of(self.frame, emitter.statement, emitter.root)
        if strip is None:
            emitter.over_strips(scope, blocks)
            return
        width = phase.product.shape.lanes
        start = scope.code.scalar("mul", strip, scope.code.constant(width))
        blocks(emitter.strip_at(scope, start))

    # Phases of one row --------------------------------------------------------------------------

    def _phase(self, frame: Frame, phase: Phase) -> None:
        if phase.visit is None:
            for statement in phase.statements:
                self._row_statement(frame, statement)
        else:
            self._visit(frame, phase, phase.visit)

    def _row_statement(self, frame: Frame, statement: StatementOp) -> None:
        root = self.kernel.roots[statement]
        target = self.placement.storage(statement.result, self.builder)
        start = self.placement.start(statement, self.builder)
        if is_regular(statement, root):
            emit_nest(Scope.of(frame, statement, root), statement, start, target)
            return
        self._fill(frame, statement, root, start, target)
        emit_nest(Scope.of(frame, statement, root), statement, target, target)

    def _visit(self, frame: Frame, phase: Phase, visit: Visit) -> None:
        if in_lanes(self.kernel, phase):
            self._lane_visit(frame, phase, visit)
            return
        sums = [s for s in phase.statements if not self._element_level(s)]
        targets: dict[StatementOp, Storage] = {}
        for statement in sums:
            targets[statement] = self._begin_sum(frame, statement)
        bounds = self._segment(frame, visit)

        def element(there: Frame) -> None:
            self._prefetch(there, phase, visit)
            for statement in phase.statements:
                self._element_statement(there, statement, targets.get(statement))

        self._elements(frame, phase, visit, bounds, 1, element)
        for statement in sums:
            self._end_sum(frame, statement, targets[statement])

    def _elements(
        self,
        frame: Frame,
        phase: Phase,
        visit: Visit,
        bounds: tuple[SSAValue, SSAValue],
        step: int,
        body: Callable[[Frame], None],
    ) -> None:
        """A loop over places of the visit. Where statements name the element itself, there is a
        loop for sets that are sorted as they are, in which its place is its name."""

        def loop(code: Code, is_sorted: bool) -> None:
            def each(inner: Code, place: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                there = replace(frame, code=inner, visit=visit, place=place, is_sorted=is_sorted)
                body(there)
                return ()

            code.loop(*bounds, step, (), each)

        if not self._names_element(phase):
            loop(frame.code, False)
            return
        keys = (element_path(visit.key),)
        flags = self.builder.layout(Layout("sorted", visit.set, keys))
        flag = self._pointer(frame.code, flags, frame.code.constant(0))
        is_sorted = frame.code.scalar("ne", flag, frame.code.constant(0))
        frame.code.choose(is_sorted, lambda c: loop(c, True), lambda c: loop(c, False))

    def _names_element(self, phase: Phase) -> bool:
        """Whether statements index a tensor by the element of the visit, or use its number."""
        for statement in phase.statements:
            element = Path(self.kernel.roots[statement].element or "")
            uses = [(read.tensor, read.access.data) for read in statement.reads]
            uses.append((statement.result, statement.access.data))
            for tensor, access in uses:
                storage = self.placement.storage(tensor, self.builder)
                if storage.kind == "global" and any(element in index.paths for index in access):
                    return True
            numbers = [op for op in statement.body.block.ops if isinstance(op, IndexOp)]
            if any(element in index.paths for op in numbers for index in op.index.data):
                return True
        return False

    def _segment(self, frame: Frame, visit: Visit) -> tuple[SSAValue, SSAValue]:
        """Places of the row's elements in the order of the visit."""
        pointers = self.builder.layout(Layout("segments", visit.set, (element_path(visit.key),)))
        after = frame.code.plus(frame.rows[0], 1)
        lower = self._pointer(frame.code, pointers, frame.rows[0])
        return lower, self._pointer(frame.code, pointers, after)

    def _lane_visit(self, frame: Frame, phase: Phase, visit: Visit) -> None:
        """A visit with elements in lanes: sums have one accumulator for each lane."""
        code = frame.code
        width = self.builder.machine.visit_lanes
        zero, count = code.constant(0), code.constant(width)
        sums: dict[StatementOp, Storage] = {}
        for statement in phase.statements:
            if not self._element_level(statement):
                type = statement.value.type
                memory = self.builder.local(TensorType.of(type, (width,)))
                start = code.constant(identity(statement.kind.data, type), type)
                value = code.spread(start, width)
                code.block.add_op(StoreOp(value, memory, [zero], axis=0))
                sums[statement] = Storage("local", memory)
        lower, upper = self._segment(frame, visit)

        def elements(there: Frame) -> None:
            inner, place = there.code, there.place
            assert place is not None
            valid = inner.scalar("min", inner.scalar("sub", upper, place), count)
            for statement in phase.statements:
                root = self.kernel.roots[statement]
                lanes = Lanes(root.element or "", width, valid)
                scope = replace(Scope.of(there, statement, root), lanes=lanes)
                self._lane_statement(scope, statement, sums.get(statement))

        self._elements(frame, phase, visit, (lower, upper), width, elements)
        for statement, accumulators in sums.items():
            self._lane_total(frame, statement, accumulators)

    def _lane_statement(
        self, scope: Scope, statement: StatementOp, accumulators: Storage | None
    ) -> None:
        value = scope.evaluate(statement.value)
        if accumulators is None:
            target = self.placement.storage(statement.result, self.builder)
            if statement.kind.data != "assign":
                # An element is reached once, so what it starts from has no effect but its type.
                first = identity(statement.kind.data, statement.value.type)
                start = scope.code.constant(first, statement.value.type)
                value = scope.code.scalar(statement.kind.data, start, value)
            scope.store(value, target, statement.access.data, statement.type.pad_value)
            return
        code, kind, type = scope.code, statement.kind.data, statement.value.type
        assert scope.lanes is not None and scope.lanes.valid is not None
        width = self.builder.machine.visit_lanes
        inside = code.scalar("lt", code.add(LanesOp(width)), scope.lanes.valid)
        neutral = code.spread(code.constant(identity(kind, type), type), width)
        value = code.scalar("select", inside, code.spread(value, width), neutral)
        zero = code.constant(0)
        vector = VectorType(type, [width])
        total = code.add(LoadOp(accumulators.tensor, [zero], vector, axis=0))
        total = code.scalar(kind, total, value)
        code.block.add_op(StoreOp(total, accumulators.tensor, [zero], axis=0))

    def _lane_total(self, frame: Frame, statement: StatementOp, accumulators: Storage) -> None:
        """Combine the lanes with what the sum starts from, into the tensor."""
        code, kind, type = frame.code, statement.kind.data, statement.value.type
        vector = VectorType(type, [self.builder.machine.visit_lanes])
        lanes = code.add(LoadOp(accumulators.tensor, [code.constant(0)], vector, axis=0))
        total = code.add(ReduceOp(kind, lanes))
        scope = Scope.of(frame, statement, self.kernel.roots[statement])
        start = self.placement.start(statement, self.builder)
        access, pad = statement.access.data, statement.type.pad_value
        key_scope = replace(scope, frame=replace(frame, visit=self._visit_of(statement)))
        if start is not None:
            first = code.cast(key_scope.load(start, access, pad), type)
            total = code.scalar(kind, first, total)
        target = self.placement.storage(statement.result, self.builder)
        key_scope.store(total, target, access, pad)

    def _visit_of(self, statement: StatementOp) -> Visit | None:
        return self.kernel.roots[statement].visit

    def _element_level(self, statement: StatementOp) -> bool:
        element = self.kernel.roots[statement].element
        return any(index.variable == element for index in statement.access.data)

    def _element_statement(
        self, frame: Frame, statement: StatementOp, total: Storage | None
    ) -> None:
        root = self.kernel.roots[statement]
        scope = Scope.of(frame, statement, root)
        if total is not None:
            emit_nest(scope, statement, total, total)
            return
        target = self.placement.storage(statement.result, self.builder)
        start = self.placement.start(statement, self.builder)
        if not is_regular(statement, root):
            self._fill(frame, statement, root, start, target)
            start = target
        emit_nest(scope, statement, start, target)

    def _pointer(self, code: Code, pointers: SSAValue, row: SSAValue) -> SSAValue:
        value = code.add(LoadOp(pointers, [row]))
        return code.cast(value, self.builder.task.type)

    # Sums over a visit --------------------------------------------------------------------------

    def _begin_sum(self, frame: Frame, statement: StatementOp) -> Storage:
        """Memory for the row's accumulators, filled with what they start from."""
        root = self.kernel.roots[statement]
        target = self.placement.storage(statement.result, self.builder)
        start = self.placement.start(statement, self.builder)
        if self.placement.in_place(statement, root):
            self._fill(frame, statement, root, start, target)
            return target
        position = self.placement.row_position(statement, root)
        dims = [d for i, d in enumerate(statement.type.dims) if i != position]
        memory = self.builder.local(TensorType.of(statement.value.type, (1, *dims)))
        total = Storage("local", memory, position)
        self._fill(frame, statement, root, start, total)
        return total

    def _end_sum(self, frame: Frame, statement: StatementOp, total: Storage) -> None:
        """Round the accumulators once, into the tensor."""
        target = self.placement.storage(statement.result, self.builder)
        if total != target:
            root = self.kernel.roots[statement]
            self._copy(frame, statement, root, total, target)

    def _fill(
        self,
        frame: Frame,
        statement: StatementOp,
        root: Root,
        start: Storage | None,
        target: Storage,
    ) -> None:
        """Set the part of a tensor that belongs to the row to what the statement starts from."""
        if start == target:
            return
        type = statement.value.type

        def point(scope: Scope, access: Sequence[IndexExpr]) -> None:
            if start is None:
                kind = statement.kind.data
                value = scope.code.constant(identity(kind, type), type)
            else:
                value = scope.load(start, access)
            scope.store(value, target, access)

        self._over_slice(frame, statement, root, point)

    def _copy(
        self, frame: Frame, statement: StatementOp, root: Root, source: Storage, target: Storage
    ) -> None:
        def point(scope: Scope, access: Sequence[IndexExpr]) -> None:
            value = scope.load(source, access)
            scope.store(value, target, access)

        self._over_slice(frame, statement, root, point)

    def _over_slice(
        self,
        frame: Frame,
        statement: StatementOp,
        root: Root,
        body: Callable[[Scope, Sequence[IndexExpr]], None],
    ) -> None:
        """Run `body` at each point of the row's part of the result, the last dimension in lanes."""
        variables, access, slice_root = written_slice(statement, root)
        scope = Scope(frame, slice_root, variables)
        names = [name for name in variables if name not in slice_root.bound]
        width = vector_lanes(statement.value.type, self.builder.machine)

        def row(at: Scope) -> None:
            if names:
                strips(at, names[-1], width, lambda point: body(point, access))
            else:
                body(at, access)

        over(scope, names[:-1], row)

    # Prefetch -----------------------------------------------------------------------------------

    def _prefetch(self, frame: Frame, phase: Phase, visit: Visit) -> None:
        """Ask for the rows that elements further on in the visit will gather."""
        if not self.builder.machine.prefetch_bytes:
            return
        last = frame.code.plus(self.builder.size(visit.set), -1)
        assert frame.place is not None
        for statement in phase.statements:
            root = self.kernel.roots[statement]
            for read, path, distance in self._gathers(statement, root.element or ""):
                if path.fields == visit.key:
                    continue
                ahead = frame.code.scalar("min", frame.code.plus(frame.place, distance), last)
                there = Scope.of(replace(frame, place=ahead), statement, root)
                self._ask(there, read, path)

    def _prefetch_rows(self, frame: Frame, phases: Sequence[Phase]) -> None:
        """Ask for the rows that rows further on will gather."""
        if len(self.kernel.rows) != 1 or frame.order is None or frame.at is None:
            return
        if not self.builder.machine.prefetch_bytes:
            return
        for phase in phases:
            for statement in phase.statements if phase.visit is None else ():
                root = self.kernel.roots[statement]
                for read, path, distance in self._gathers(statement, root.row_variables[0]):
                    at = frame.order.beyond(frame.code, frame.at.start, distance)
                    row = frame.order.row(frame.code, self.builder, at)
                    self._ask(
                        Scope.of(replace(frame, at=at, rows=(row,)), statement, root), read, path
                    )

    def _gathers(self, statement: StatementOp, variable: str) -> Iterator[tuple[ReadOp, Path, int]]:
        """Reads of whole rows of a tensor over a set, at the image of a map: the read, the path,
        and how far ahead to ask for the row."""
        for read in statement.reads:
            path = read.access.data[0].path if read.access.data else None
            tail = read.type.dims[1:]
            if path is None or path.variable != variable or not path.fields or not tail:
                continue
            fixed = [dim for dim in tail if isinstance(dim, int)]
            if len(fixed) < len(tail) or not isinstance(read.type.dims[0], str):
                continue
            if self.placement.storage(read.tensor, self.builder).kind != "global":
                continue
            size = prod(fixed) * read.type.element_type.storage.itemsize
            if size >= LEAST_BYTES:
                yield read, path, max(LEAST_AHEAD, self.builder.machine.prefetch_bytes // size)

    def _ask(self, scope: Scope, read: ReadOp, path: Path) -> None:
        storage = self.placement.storage(read.tensor, self.builder)
        tail = [dim for dim in read.type.dims[1:] if isinstance(dim, int)]
        zeros = [scope.code.constant(0)] * len(tail)
        indices = [scope.follow(path), *zeros]
        scope.code.prefetch(storage.tensor, indices, prod(tail))
