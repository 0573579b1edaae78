"""Write statements with rows, or the elements of a visit, in lanes.

    y[z.row] += A[z] * x[z.col]

    %acc = tile.local : !hec.tensor<f32[32]>              one accumulator for each lane
    scf.for %place = %lo to %hi step %32
      %a = tile.load %A[%place] axis 0 valid %left -> vector<32xf32>
      ...
    tile.store %sum, %y[%row]                              the lanes together

Enters: the frame of a row and a visit, or the rows of a task, none of whose statements makes
vectors of its own that are worth having. Leaves: code that does as many elements, or rows, at a
time as the machine likes. Other variables of the statements are loops.
"""

from dataclasses import dataclass, replace
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ReduceOp, StoreOp
from hectorite.ir.element import element_of
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.merge import put
from hectorite.lowering.emit.nest import emit_combined, emit_point, emit_reduction, over
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.emit.visit import VisitEmitter
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Root, Visit
from hectorite.lowering.kernels.place_tensors import Placement, adds_in_lanes, element_level
from hectorite.lowering.kernels.row_order import Place, RowOrder


@dataclass(frozen=True)
class LaneEmitter:
    """Writes the visits of one kernel that have elements in lanes, and rows in lanes."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement

    @property
    def visits(self) -> VisitEmitter:
        """What writes the loops."""
        return VisitEmitter(self.kernel, self.builder, self.placement)

    def visit(self, frame: Frame, phase: Phase, visit: Visit) -> None:
        """A visit with elements in lanes: sums have one accumulator for each lane."""
        code = frame.code
        width = self.builder.machine.visit_lanes
        zero, count = code.constant(0), code.constant(width)
        sums: dict[StatementOp, Storage] = {}
        for statement in phase.statements:
            if not element_level(statement, self.kernel.roots[statement]):
                type = statement.value.type
                left, _ = self._others(statement)
                dims = dict(statement.variables.data)
                extents = [dims[name] for name in left]
                memory = self.builder.local(TensorType.of(type, (*extents, width)))
                start = code.constant(element_of(type).identity(statement.kind.data), type)
                value = code.spread(start, width)
                sums[statement] = Storage("local", memory)
                scope = Scope.of(frame, statement, self.kernel.roots[statement])
                over(scope, left, lambda at, v=value, m=memory: self._put(at, v, m, zero))
        frame, lower, upper = self.visits.begin(frame, visit)

        def elements(there: Frame) -> None:
            inner, place = there.code, there.place
            assert place is not None
            valid = inner.scalar("min", inner.scalar("sub", upper, place), count)
            for statement in phase.statements:
                root = self.kernel.roots[statement]
                lanes = Lanes(root.element or "", width, valid)
                scope = replace(Scope.of(there, statement, root), lanes=lanes)
                self._lane_statement(scope, statement, sums.get(statement))

        self.visits.elements(frame, phase, visit, (lower, upper), width, elements)
        for statement, accumulators in sums.items():
            self._lane_total(frame, statement, accumulators)

    def _others(self, statement: StatementOp) -> tuple[list[str], list[str]]:
        """The variables that are not in lanes: those of the left side, and those only reduced."""
        bound = self.kernel.roots[statement].bound
        names = [name for name, _ in statement.variables.data if name not in bound]
        left = {name for index in statement.access.data for name in index.variables}
        return [n for n in names if n in left], [n for n in names if n not in left]

    def _places(self, scope: Scope, memory: SSAValue, zero: SSAValue) -> tuple[list[SSAValue], int]:
        """Indices and axis of the lanes' accumulators for one point of the other variables."""
        dims = cast(TensorType, memory.type).dims
        loops = list(scope.loops.values())
        assert len(loops) == len(dims) - 1
        return [*loops, zero], len(loops)

    def _put(self, scope: Scope, value: SSAValue, memory: SSAValue, zero: SSAValue) -> None:
        indices, axis = self._places(scope, memory, zero)
        scope.code.block.add_op(StoreOp(value, memory, indices, axis=axis))

    def _get(self, scope: Scope, memory: SSAValue, type: VectorType, zero: SSAValue) -> SSAValue:
        indices, axis = self._places(scope, memory, zero)
        return scope.code.add(LoadOp(memory, indices, type, axis=axis))

    def _lane_statement(
        self, scope: Scope, statement: StatementOp, accumulators: Storage | None
    ) -> None:
        self.builder.remark(scope.code, statement)
        left, inner = self._others(statement)
        if accumulators is not None:
            over(scope, left, lambda at: self._add(at, statement, inner, accumulators.tensor))
            return
        target = self.placement.storage(statement.result, self.builder)
        if left or inner or statement.init is not None:
            self._points(scope, statement)
            return
        value = scope.evaluate(statement.value)
        if statement.kind.data != "assign":
            # An element is reached once, so what it starts from has no effect but its type.
            first = element_of(statement.value.type).identity(statement.kind.data)
            value = scope.code.scalar(
                statement.kind.data, scope.code.constant(first, statement.value.type), value
            )
        scope.store(value, target, statement.access.data, statement.type.pad_value)

    def _add(
        self, scope: Scope, statement: StatementOp, inner: list[str], memory: SSAValue
    ) -> None:
        """Add the elements in lanes to the accumulators, as far as they count."""
        code, kind, type = scope.code, statement.kind.data, statement.value.type
        assert scope.lanes is not None and scope.lanes.valid is not None
        width = scope.lanes.count
        if inner:
            first = code.spread(code.constant(element_of(type).identity(kind), type), width)
            value = emit_reduction(scope, statement, inner, first)
        else:
            value = scope.evaluate(statement.value)
        inside = code.scalar("lt", code.add(LanesOp(width)), scope.lanes.valid)
        neutral = code.spread(code.constant(element_of(type).identity(kind), type), width)
        value = code.scalar("select", inside, code.spread(value, width), neutral)
        zero = code.constant(0)
        total = self._get(scope, memory, VectorType(type, [width]), zero)
        self._put(scope, code.scalar(kind, total, value), memory, zero)

    def _lane_total(self, frame: Frame, statement: StatementOp, accumulators: Storage) -> None:
        """Combine the lanes with what the sum starts from, into the tensor."""
        root = self.kernel.roots[statement]
        scope = Scope.of(replace(frame, visit=root.visit), statement, root)
        self.builder.remark(scope.code, statement)
        left, _ = self._others(statement)
        over(scope, left, lambda at: self._lane_point(at, statement, accumulators.tensor))

    def _lane_point(self, scope: Scope, statement: StatementOp, memory: SSAValue) -> None:
        code, kind, type = scope.code, statement.kind.data, statement.value.type
        vector = VectorType(type, [self.builder.machine.visit_lanes])
        lanes = self._get(scope, memory, vector, code.constant(0))
        total = code.add(ReduceOp(kind, lanes))
        start = self.placement.start(statement, self.builder)
        access, pad = statement.access.data, statement.type.pad_value
        if scope.frame.piece is not None:
            put(scope, total, statement, access, self.placement)
            return
        if scope.frame.window is not None:
            target = self.placement.storage(statement.result, self.builder)
            scope.store(total, target, access, pad, combine=kind)
            return
        if start is not None:
            first = code.cast(scope.load(start, access, pad), type)
            total = code.scalar(kind, first, total)
        target = self.placement.storage(statement.result, self.builder)
        scope.store(total, target, access, pad)

    # Rows in lanes ------------------------------------------------------------------------------

    def rows(self, frame: Frame, order: RowOrder) -> None:
        """All phases for the rows of a task, which fill the lanes of a vector at most."""
        code, width = frame.code, self.builder.machine.row_lanes
        block = order.block(code, order.lower, width)
        if len(self.kernel.rows) == 1:
            rows: tuple[SSAValue, ...] = (order.lower,)
        else:
            rows = self._tuples(frame, order.row(code, self.builder, block))
        frame = replace(frame, rows=rows, order=order)
        for statement in self.kernel.statements:
            self._points(self._row_scope(frame, statement, block), statement)

    def _points(self, scope: Scope, statement: StatementOp) -> None:
        """All points of a statement that makes values of the rows or elements in lanes."""
        left, inner = self._others(statement)
        start = self.placement.start(statement, self.builder)
        target = self.placement.storage(statement.result, self.builder)
        if adds_in_lanes(statement, self.kernel.roots[statement], self.kernel.machine):
            emit_combined(scope, statement, inner, target)
            return
        over(scope, left, lambda at: emit_point(at, statement, inner, start, target))

    def _row_scope(self, frame: Frame, statement: StatementOp, block: Place) -> Scope:
        """The scope in which rows are in lanes: those of one domain lie next to each other; tuples
        of several are vectors of indices."""
        root, width = self.kernel.roots[statement], block.height
        if len(frame.rows) > 1:
            scope = Scope.of(frame, statement, root)
            return replace(scope, lanes=Lanes("", width, block.valid))
        scope = Scope.of(frame, statement, Root((), ()))
        return scope.with_lanes(Lanes(root.row_variables[0], width, block.valid), block.start)

    def _tuples(self, frame: Frame, row: SSAValue) -> tuple[SSAValue, ...]:
        """The index in each row domain of rows' numbers."""
        indices: list[SSAValue] = []
        for dim in reversed(self.kernel.rows[1:]):
            extent = self.builder.size(dim)
            indices.append(frame.code.scalar("mod", row, extent))
            row = frame.code.scalar("floordiv", row, extent)
        return (row, *reversed(indices))
