"""Write the loop over the elements of a visit.

Enters: the frame of a row, and a visit. Leaves: a loop over the places of the row's elements in
the order of the visit, one at a time or several in lanes, with whatever body is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from xdsl.ir import SSAValue

from hectorite.dialects.graph import IndexOp
from hectorite.dialects.tile import LoadOp
from hectorite.ir.index import Path
from hectorite.lowering.emit.values import Frame
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, element_path
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Visit
from hectorite.lowering.kernels.place_tensors import Placement
from hectorite.lowering.kernels.tile_code import Code


@dataclass(frozen=True)
class VisitEmitter:
    """Writes the loops over the elements of visits of one kernel."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement

    def elements(
        self,
        frame: Frame,
        phase: Phase,
        visit: Visit,
        bounds: tuple[SSAValue, SSAValue],
        step: int,
        body: Callable[[Frame], None],
    ) -> None:
        """A loop over places of the visit."""

        def loop(known: Frame) -> None:
            def each(inner: Code, place: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                body(replace(known, code=inner, visit=visit, place=place))
                return ()

            known.code.loop(*bounds, step, (), each)

        self.in_order(frame, phase, visit, loop)

    def in_order(
        self, frame: Frame, phase: Phase, visit: Visit, body: Callable[[Frame], None]
    ) -> None:
        """Write `body` for a visit whose order may be the elements' own. Where statements name the
        element itself, it is there twice: for sets that are sorted as they are, in which the place
        of an element is its name, and for others."""
        if frame.is_sorted is not None or not self._names_element(phase):
            body(replace(frame, is_sorted=bool(frame.is_sorted)))
            return
        keys = (element_path(visit.key),)
        flags = self.builder.layout(Layout("sorted", visit.set, keys))
        flag = _pointer(self.builder, frame.code, flags, frame.code.constant(0))
        is_sorted = frame.code.scalar("ne", flag, frame.code.constant(0))
        frame.code.choose(
            is_sorted,
            lambda code: body(replace(frame, code=code, is_sorted=True)),
            lambda code: body(replace(frame, code=code, is_sorted=False)),
        )

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

    def begin(self, frame: Frame, visit: Visit) -> tuple[Frame, SSAValue, SSAValue]:
        """The frame of a row that is visited, and the places of its elements. Rows of a task that
        are done with before the next use the same memory for values of their elements."""
        lower, upper = self.segment(frame, visit)
        if frame.window is not None or frame.order is None or not self.placement.row_by_row:
            return frame, lower, upper
        pointers = self.builder.layout(Layout("segments", visit.set, (element_path(visit.key),)))
        first = _pointer(self.builder, frame.code, pointers, frame.order.lower)
        return replace(frame, shift=frame.code.scalar("sub", lower, first)), lower, upper

    def segment(self, frame: Frame, visit: Visit) -> tuple[SSAValue, SSAValue]:
        """Places of the row's elements in the order of the visit."""
        if frame.window is not None and frame.piece is not None:
            return frame.window
        pointers = self.builder.layout(Layout("segments", visit.set, (element_path(visit.key),)))
        after = frame.code.plus(frame.rows[0], 1)
        lower = _pointer(self.builder, frame.code, pointers, frame.rows[0])
        upper = _pointer(self.builder, frame.code, pointers, after)
        if frame.window is None:
            return lower, upper
        first, last = frame.window
        return frame.code.scalar("max", lower, first), frame.code.scalar("min", upper, last)


def _pointer(builder: KernelBuilder, code: Code, pointers: SSAValue, row: SSAValue) -> SSAValue:
    value = code.add(LoadOp(pointers, [row]))
    return code.cast(value, builder.task.type)
