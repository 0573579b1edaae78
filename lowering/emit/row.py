"""Write the phases of one row: its statements, and its visits element by element.

Enters: the frame of a row (or of an element), and the phases of a kernel. Leaves: the statements'
loops; around those of a visit, the sums over it.

    tile.store %zero, %sum            what the sum starts from
    scf.for %place = ...              the row's elements
      ...                             statements of the element, and what they add to %sum
    tile.store %sum, %y[%row]         rounded once, into the tensor
"""

from collections.abc import Sequence

from hectorite.dialects.graph import StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.element_blocks import BlockEmitter
from hectorite.lowering.emit.lanes import LaneEmitter
from hectorite.lowering.emit.merge import put
from hectorite.lowering.emit.nest import emit_nest, over_slice
from hectorite.lowering.emit.prefetch import PrefetchEmitter
from hectorite.lowering.emit.segment import SegmentEmitter
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.emit.visit import VisitEmitter
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Root, Visit
from hectorite.lowering.kernels.place_tensors import (
    Placement,
    block_elements,
    element_level,
    in_lanes,
    is_regular,
    row_position,
)


class RowEmitter:
    """Writes phases of single rows of one kernel."""

    def __init__(self, kernel: Kernel, builder: KernelBuilder, placement: Placement):
        self.kernel = kernel
        self.builder = builder
        self.placement = placement
        self.visits = VisitEmitter(kernel, builder, placement)
        self.prefetch = PrefetchEmitter(kernel, builder, placement)
        self.lanes = LaneEmitter(kernel, builder, placement)
        self.segments = SegmentEmitter(kernel, builder, placement)

    def phase(self, frame: Frame, phase: Phase) -> None:
        if phase.segment is not None:
            self.segments.visit(frame, phase)
        elif phase.visit is None:
            for statement in phase.statements:
                self._row_statement(frame, statement)
        else:
            self._visit(frame, phase, phase.visit)

    def fill(self, frame: Frame, statement: StatementOp) -> None:
        """Set the row of a statement's result to what it starts from."""
        start = self.placement.start(statement, self.builder)
        target = self.placement.storage(statement.result, self.builder)
        self._fill(frame, statement, self.kernel.roots[statement], start, target)

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
            self.lanes.visit(frame, phase, visit)
            return
        sums = [s for s in phase.statements if not element_level(s, self.kernel.roots[s])]
        targets: dict[StatementOp, Storage] = {}
        for statement in sums:
            targets[statement] = self._begin_sum(frame, statement)
        frame, lower, upper = self.visits.begin(frame, visit)

        def some(there: Frame, statements: Sequence[StatementOp]) -> None:
            self.prefetch.elements(there, phase, visit)
            for statement in statements:
                self._element_statement(there, statement, targets.get(statement))

        def loops(known: Frame) -> None:
            start = lower
            if count := block_elements(self.kernel, phase):
                blocks = BlockEmitter(self.kernel, self.builder, self.placement, phase, count)
                start = blocks.emit(known, (lower, upper), targets, some)
            self.visits.elements(
                known, phase, visit, (start, upper), 1, lambda at: some(at, phase.statements)
            )

        self.visits.in_order(frame, phase, visit, loops)
        for statement in sums:
            self._end_sum(frame, statement, targets[statement])

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

    # Sums over a visit --------------------------------------------------------------------------

    def _begin_sum(self, frame: Frame, statement: StatementOp) -> Storage:
        """Memory for the row's accumulators, filled with what they start from."""
        root = self.kernel.roots[statement]
        target = self.placement.storage(statement.result, self.builder)
        start = self.placement.start(statement, self.builder)
        if frame.window is None and self.placement.in_place(statement, root):
            self._fill(frame, statement, root, start, target)
            return target
        position = row_position(statement, root)
        dims = [d for i, d in enumerate(statement.type.dims) if i != position]
        memory = self.builder.local(TensorType.of(statement.value.type, (1, *dims)))
        total = Storage("local", memory, position)
        self._fill(frame, statement, root, start if frame.window is None else None, total)
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
                value = scope.code.constant(element_of(type).identity(kind), type)
            else:
                value = scope.load(start, access)
            scope.store(value, target, access)

        over_slice(frame, statement, root, point)

    def _copy(
        self, frame: Frame, statement: StatementOp, root: Root, source: Storage, target: Storage
    ) -> None:
        # Of a row that several tasks do each has a part.
        combine = None if frame.window is None else statement.kind.data

        def point(scope: Scope, access: Sequence[IndexExpr]) -> None:
            value = scope.load(source, access)
            if frame.piece is not None:
                put(scope, value, statement, access, self.placement)
            else:
                scope.store(value, target, access, combine=combine)

        over_slice(frame, statement, root, point)
