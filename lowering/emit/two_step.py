"""Write two reductions over one set, the second of what the first makes, as one task does them.

    for each hyperedge of the task:
      row = sum of X[p.v, lanes] * wv[p] over its pins        in registers
      for each of its pins:
        Y[p.v, lanes] += row * wh[p]

Enters: a kernel whose only phase has the two statements, and the share of a task: a strip of the
lanes of all rows, or two stretches of the elements. Leaves: the code. A task that has a strip for
itself adds in registers; stretches of several tasks reach the same vertices, so theirs is added to
memory as one step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.lowering.emit.nest import emit_combined, emit_point, over, strips
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.emit.visit import VisitEmitter
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase
from hectorite.lowering.kernels.place_tensors import Placement
from hectorite.lowering.kernels.product_shape import vector_lanes
from hectorite.lowering.kernels.row_order import Place, RowOrder
from hectorite.lowering.kernels.share_rows import Share
from hectorite.lowering.kernels.tile_code import Code

AHEAD = 24
"""Elements ahead of the one at hand whose rows are asked for."""

Body = Callable[[Scope], None]


@dataclass(frozen=True)
class TwoStepEmitter:
    """Writes the two steps of one kernel, as far as one task does them."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement
    share: Share

    @property
    def phase(self) -> Phase:
        """The kernel's only phase."""
        return self.kernel.phases[0]

    def emit(self, code: Code, frame: Frame, rows: RowOrder) -> None:
        """All rows of the first step that the task has elements of."""
        start = None
        if self.share.strip is not None:
            start = code.scalar("mul", self.share.strip, code.constant(self.phase.strip))

        def every(known: Frame) -> None:
            def row(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                self._row(replace(known, code=inner, rows=(at,), order=rows, at=Place(at)), start)
                return ()

            known.code.loop(rows.lower, rows.upper, 1, (), row)

        assert self.phase.visit is not None
        visits = VisitEmitter(self.kernel, self.builder, self.placement)
        visits.in_order(replace(frame, code=code), self.phase, self.phase.visit, every)

    def _row(self, frame: Frame, start: SSAValue | None) -> None:
        """Sum one row, then hand it on."""
        (first, second), visit = self.phase.statements, self.phase.visit
        assert visit is not None
        row_of = self.placement.storage(first.result, self.builder)
        target = self.placement.storage(second.result, self.builder)
        visits = VisitEmitter(self.kernel, self.builder, self.placement)
        there, back = (replace(frame, window=w) for w in (self.share.window, self.share.handed_on))
        bounds = visits.segment(there, visit)
        self._fill(there, first, row_of, start)

        def read(element: Frame) -> None:
            if start is not None:
                self._ask(element, start)
            self._points(element, first, start, lambda at: self._add(at, first, row_of, False))

        visits.elements(there, Phase([first], visit), visit, bounds, 1, read)
        if back.window is not there.window:
            bounds = visits.segment(back, visit)
        # Tasks that have lanes for themselves add to elements that no other task adds to.
        is_shared = self.share.strip is None

        def write(element: Frame) -> None:
            self._points(
                element, second, start, lambda at: self._add(at, second, target, is_shared)
            )

        visits.elements(back, Phase([second], visit), visit, bounds, 1, write)

    def _fill(
        self, frame: Frame, statement: StatementOp, row: Storage, start: SSAValue | None
    ) -> None:
        """Let the row begin with what its reduction starts from."""
        kind, type = statement.kind.data, statement.value.type

        def point(scope: Scope) -> None:
            value = scope.code.constant(element_of(type).identity(kind), type)
            scope.store(value, row, statement.access.data)

        self._points(frame, statement, start, point)

    def _add(self, scope: Scope, statement: StatementOp, place: Storage, is_shared: bool) -> None:
        """Add what an element gives for the lanes at hand."""
        root = self.kernel.roots[statement]
        left = {name for index in statement.access.data for name in index.variables}
        bound = {*root.bound, *left}
        inner = [name for name, _ in statement.variables.data if name not in bound]
        if is_shared:
            emit_combined(scope, statement, inner, place)
        else:
            emit_point(scope, statement, inner, place, place)

    def _points(
        self, frame: Frame, statement: StatementOp, start: SSAValue | None, body: Body
    ) -> None:
        """All points of the left side, those of the strip that begins at `start` in lanes; without
        it, all lanes."""
        root, names = self.kernel.roots[statement], list[str]()
        for index in statement.access.data:
            if index.variable is not None and index.variable not in root.bound:
                names.append(index.variable)
        *outer, name = names
        scope, code = Scope.of(frame, statement, root), frame.code
        if start is None:
            every = vector_lanes(statement.value.type, self.builder.machine)
            over(scope, outer, lambda at: strips(at, name, every, body))
            return
        width, extent, valid = self.phase.strip, statement.type.dims[-1], None
        assert isinstance(extent, int)
        if extent % width:
            left = code.scalar("sub", code.constant(extent), start)
            valid = code.scalar("min", left, code.constant(width))
        lanes = Lanes(name, width, valid)
        over(scope, outer, lambda at: body(at.with_lanes(lanes, start)))

    def _ask(self, frame: Frame, start: SSAValue) -> None:
        """Ask for the strips of rows that elements further on gather, and add to."""
        (first, second), visit = self.phase.statements, self.phase.visit
        assert frame.place is not None and visit is not None
        last = frame.code.plus(self.builder.size(visit.set), -1)
        ahead = frame.code.scalar("min", frame.code.plus(frame.place, AHEAD), last)
        there = replace(frame, place=ahead)
        accesses = [(read.tensor, read.access.data) for read in first.reads]
        self._prefetch(there, first, accesses, start)
        self._prefetch(there, second, [(second.result, second.access.data)], start)

    def _prefetch(
        self,
        frame: Frame,
        statement: StatementOp,
        accesses: Sequence[tuple[SSAValue, Sequence[IndexExpr]]],
        start: SSAValue,
    ) -> None:
        root = self.kernel.roots[statement]
        lanes = statement.access.data[-1].variable
        dims = dict(statement.variables.data)
        scope = Scope.of(frame, statement, root).with_loop(str(lanes), start)
        for tensor, access in accesses:
            storage = self.placement.storage(tensor, self.builder)
            if storage.kind != "global" or not access or access[-1].variable != lanes:
                continue
            for name in dims:
                if name not in root.bound and name != lanes:
                    scope = scope.with_loop(name, frame.code.constant(0))
            indices, _, _ = scope.address(storage, access)
            frame.code.prefetch(storage.tensor, indices, self.phase.strip)
