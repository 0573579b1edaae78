"""Write two reductions over one set, the second of what the first makes, for a strip of lanes.

    for each hyperedge:
      row = sum of X[p.v, strip] * wv[p] over its pins        in registers
      for each of its pins:
        Y[p.v, strip] += row * wh[p]

Enters: a kernel whose only phase has the two statements, and the number of the task's strip.
Leaves: the code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.ir.index import IndexExpr
from hectorite.lowering.emit.nest import emit_point, identity, over
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.emit.visit import VisitEmitter
from hectorite.lowering.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernel_plan import Kernel, Phase, Visit
from hectorite.lowering.place_tensors import Placement
from hectorite.lowering.row_order import Place, RowOrder
from hectorite.lowering.tile_code import Code

AHEAD = 24
"""Elements ahead of the one at hand whose rows are asked for."""


@dataclass(frozen=True)
class TwoStepEmitter:
    """Writes the two steps of one kernel."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement

    def emit(self, code: Code, frame: Frame, rows: RowOrder, strip: SSAValue) -> None:
        """All rows of the first step, for one strip."""
        phase = self.kernel.phases[0]
        first, second = phase.statements
        assert phase.visit is not None
        visit, visits = phase.visit, VisitEmitter(self.kernel, self.builder, self.placement)
        start = code.scalar("mul", strip, code.constant(phase.strip))
        row_of = self.placement.storage(first.result, self.builder)
        target = self.placement.storage(second.result, self.builder)

        def row(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            there = replace(frame, code=inner, rows=(at,), order=rows, at=Place(at))
            bounds = visits.segment(there, visit)
            self._fill(there, first, row_of, start, phase.strip)
            pairs = ((first, row_of), (second, target))
            for statement, place in pairs:
                body = self._step(statement, place, start, phase.strip, visit, place is row_of)
                each = Phase([statement], visit)
                visits.elements(there, each, visit, bounds, 1, body)
            return ()

        code.loop(rows.lower, rows.upper, 1, (), row)

    def _fill(
        self, frame: Frame, statement: StatementOp, row: Storage, start: SSAValue, width: int
    ) -> None:
        """Let the row begin with what its reduction starts from."""
        kind, type = statement.kind.data, statement.value.type

        def point(scope: Scope) -> None:
            value = scope.code.constant(identity(kind, type), type)
            scope.store(value, row, statement.access.data)

        self._over(frame, statement, start, width, point)

    def _step(
        self,
        statement: StatementOp,
        place: Storage,
        start: SSAValue,
        width: int,
        visit: Visit,
        asks: bool,
    ) -> Callable[[Frame], None]:
        """What is done for each element of the visit."""
        root = self.kernel.roots[statement]
        left = {name for index in statement.access.data for name in index.variables}
        bound = {*root.bound, *left}
        inner = [name for name, _ in statement.variables.data if name not in bound]

        def point(scope: Scope) -> None:
            emit_point(scope, statement, inner, place, place)

        def body(frame: Frame) -> None:
            if asks:
                self._ask(frame, start, width, visit)
            self._over(frame, statement, start, width, point)

        return body

    def _over(
        self,
        frame: Frame,
        statement: StatementOp,
        start: SSAValue,
        width: int,
        body: Callable[[Scope], None],
    ) -> None:
        """All points of the left side, the strip in lanes."""
        root, names = self.kernel.roots[statement], list[str]()
        for index in statement.access.data:
            if index.variable is not None and index.variable not in root.bound:
                names.append(index.variable)
        scope, code = Scope.of(frame, statement, root), frame.code
        extent, valid = statement.type.dims[-1], None
        assert isinstance(extent, int)
        if extent % width:
            left = code.scalar("sub", code.constant(extent), start)
            valid = code.scalar("min", left, code.constant(width))
        lanes = Lanes(names[-1], width, valid)
        over(scope, names[:-1], lambda at: body(at.with_lanes(lanes, start)))

    def _ask(self, frame: Frame, start: SSAValue, width: int, visit: Visit) -> None:
        """Ask for the strips of rows that elements further on gather, and add to."""
        first, second = self.kernel.phases[0].statements
        last = frame.code.plus(self.builder.size(visit.set), -1)
        assert frame.place is not None
        ahead = frame.code.scalar("min", frame.code.plus(frame.place, AHEAD), last)
        there = replace(frame, place=ahead)
        accesses = [(read.tensor, read.access.data) for read in first.reads]
        self._prefetch(there, first, accesses, start, width)
        self._prefetch(there, second, [(second.result, second.access.data)], start, width)

    def _prefetch(
        self,
        frame: Frame,
        statement: StatementOp,
        accesses: Sequence[tuple[SSAValue, Sequence[IndexExpr]]],
        start: SSAValue,
        width: int,
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
            frame.code.prefetch(storage.tensor, indices, width)
