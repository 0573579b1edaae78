"""Write statements with the elements of a visit in lanes.

    y[z.row] += A[z] * x[z.col]

    %acc = tile.local : !hec.tensor<f32[32]>              one accumulator for each lane
    scf.for %place = %lo to %hi step %32
      %a = tile.load %A[%place] axis 0 valid %left -> vector<32xf32>
      ...
    tile.store %sum, %y[%row]                              the lanes together

Enters: the frame of a row and a visit, none of whose statements makes vectors of its own that are
worth having. Leaves: its loop, whose bodies do as many elements at a time as the machine likes.
"""

from dataclasses import dataclass, replace

from xdsl.dialects.builtin import VectorType

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ReduceOp, StoreOp
from hectorite.ir.space import TensorType
from hectorite.lowering.emit_nest import identity
from hectorite.lowering.emit_values import Frame, Lanes, Scope
from hectorite.lowering.emit_visit import VisitEmitter
from hectorite.lowering.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernel_plan import Kernel, Phase, Visit
from hectorite.lowering.place_tensors import Placement, element_level


@dataclass(frozen=True)
class LaneEmitter:
    """Writes the visits of one kernel that have elements in lanes."""

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
                memory = self.builder.local(TensorType.of(type, (width,)))
                start = code.constant(identity(statement.kind.data, type), type)
                value = code.spread(start, width)
                code.block.add_op(StoreOp(value, memory, [zero], axis=0))
                sums[statement] = Storage("local", memory)
        lower, upper = self.visits.segment(frame, visit)

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
        key_scope = replace(scope, frame=replace(frame, visit=self.kernel.roots[statement].visit))
        if start is not None:
            first = code.cast(key_scope.load(start, access, pad), type)
            total = code.scalar(kind, first, total)
        target = self.placement.storage(statement.result, self.builder)
        key_scope.store(total, target, access, pad)
