"""Ask for the rows of memory that a kernel will gather further on.

Enters: the frame of a row or of an element of a visit. Leaves: `tile.prefetch` for the rows that
later rows or elements gather, on machines that gain from it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.index import Path
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Visit
from hectorite.lowering.kernels.place_tensors import Placement

LEAST_AHEAD = 4
"""Elements to be ahead at the least."""

LEAST_BYTES = 128
"""Rows shorter than this are not asked for."""


@dataclass(frozen=True)
class PrefetchEmitter:
    """Writes the prefetches of one kernel."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement

    def elements(self, frame: Frame, phase: Phase, visit: Visit) -> None:
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

    def rows(self, frame: Frame, phases: Sequence[Phase]) -> None:
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
