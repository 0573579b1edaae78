"""Write a segment product on a GPU: one block of the outer products of all elements of a row.

    y[16*k.window + r, o] += D[k, r] * x[k.src, o]

    %sum = scf.for %k = %lower to %upper step %c16 iter_args(%acc = %zeros) {
      %places = ...                                     16 elements of the row, or its last again
      %rows = tile.load %order[%places]
      %srcs = tile.load %src[%places]
      tile.copy %D[%rows, %zero] axis 1 valid %left, %c16 to %left_block[%zero, %zero]
      tile.copy %x[%srcs, %strip] axis 1 valid %left, %c64 to %right_block[%zero, %zero]
      tile.barrier
      %next = tile.product %acc + %left_block[%zero, %lanes] k 0, %right_block[%zero, %zero] k 0
      tile.barrier
      scf.yield %next
    }
    tile.store %sum, %y[%window_rows, %strip] axis 1 pad 0.0

Enters: the frame of a row, a phase with a `Segment`, and which block of it the task does. Leaves:
that code, in the form in which `pipeline-copies` lets copies run ahead. Elements past the end of a
row are zero in the blocks. A swapped block has j for the rows of the product and r for its lanes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from xdsl.dialects.builtin import IntegerAttr, VectorType
from xdsl.dialects.scf import ForOp
from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ProductOp, StoreOp
from hectorite.dialects.tile_async import CopyOp, SharedOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.element import element_of
from hectorite.ir.schedule import Schedule
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.merge import parts_storage
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.emit.visit import VisitEmitter
from hectorite.lowering.gpu.stage_products import STAGES
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Segment
from hectorite.lowering.kernels.place_tensors import Placement
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.match.product import runs_along

Places = tuple[list[SSAValue], int, SSAValue | None, float | int | None]
"""Indices of a block of the result, the axis of its lanes, how many are valid, and its pad."""


@dataclass(frozen=True)
class Operand:
    """One side of the product: a read that moves along `variable`, of which a block has `count`
    elements from where the task begins."""

    read: ReadOp
    variable: str
    count: int
    shared: SSAValue


@dataclass(frozen=True)
class SegmentBlocks:
    """Writes segment products of one kernel of a GPU."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement

    def emit(self, frame: Frame, phase: Phase, numbers: Mapping[str, SSAValue]) -> None:
        """One block of the phase's statement for one row; `numbers` say which, for r, j and the
        variables of the batch."""
        statement, visit = phase.statements[0], phase.visit
        assert visit is not None
        visits = VisitEmitter(self.kernel, self.builder, self.placement)
        bounds = visits.segment(frame, visit)
        self.builder.remark(frame.code, statement)
        block = _Block(self, replace(frame, visit=visit), phase, numbers)
        block.store(block.total(*bounds))


class _Block:
    """One block of a statement."""

    def __init__(
        self,
        emitter: SegmentBlocks,
        frame: Frame,
        phase: Phase,
        numbers: Mapping[str, SSAValue],
    ):
        assert phase.segment is not None
        self.builder, self.placement = emitter.builder, emitter.placement
        self.segment: Segment = phase.segment
        self.statement: StatementOp = phase.statements[0]
        self.root = emitter.kernel.roots[self.statement]
        self.code, self.shape = frame.code, self.segment.shape
        self.zero = self.code.constant(0)
        self.loops = self._loops(numbers)
        self.scope = self._scope(frame)
        segment, shape = self.segment, self.shape
        down, across = (segment.rows, shape.rows), (segment.lanes, shape.lanes)
        if shape.swapped:
            down, across = across, down
        (self.down, self.height), (self.across, self.width) = down, across
        self.type = VectorType(self.statement.value.type, [self.height, self.width])
        self.target = self.placement.storage(self.statement.result, self.builder)
        self.first = self.placement.start(self.statement, self.builder)
        self.operands = self._operand(self.down), self._operand(self.across)

    def _loops(self, numbers: Mapping[str, SSAValue]) -> dict[str, SSAValue]:
        """Where r and j begin, and the point of the batch."""
        sizes = {self.segment.rows: self.shape.rows, self.segment.lanes: self.shape.lanes}
        return {
            name: self.code.scalar("mul", number, self.code.constant(sizes[name]))
            if sizes.get(name, 1) != 1 and number is not self.zero
            else number
            for name, number in numbers.items()
        }

    def _scope(self, frame: Frame) -> Scope:
        scope = Scope.of(frame, self.statement, self.root)
        for name, value in self.loops.items():
            scope = scope.with_loop(name, value)
        return scope

    def _operand(self, variable: str) -> Operand:
        segment, shape = self.segment, self.shape
        is_left = variable == segment.rows
        read = segment.direct_left if is_left else segment.direct_right
        assert read is not None
        count = shape.rows if is_left else shape.lanes
        op = SharedOp(TensorType.of(read.type.element, (shape.depth, count)))
        first = self.builder.block.first_op
        if first is None:
            self.builder.block.add_op(op)
        else:
            self.builder.block.insert_op_before(op, first)
        op.result.name_hint = "left_block" if is_left else "right_block"
        return Operand(read, variable, count, op.result)

    # The sum ------------------------------------------------------------------------------------

    def total(self, lower: SSAValue, upper: SSAValue) -> SSAValue:
        """The sum over the elements at the places from lower to upper."""
        code, each = self.code, self._terms_of_element()
        if each > 1:
            lower, upper = (code.scalar("mul", n, code.constant(each)) for n in (lower, upper))

        def step(inner: Code, k: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            return [self._step(inner, k, upper, carried[0])]

        (total,) = code.loop(lower, upper, self.shape.depth, [self._start()], step)
        schedule, loop = Schedule.on(self.statement), total.owner
        if schedule is not None and schedule.pipeline is not None and isinstance(loop, ForOp):
            loop.attributes[STAGES] = IntegerAttr(schedule.pipeline, 64)
        return total

    def _terms_of_element(self) -> int:
        terms = 1
        for name in self.segment.inner:
            terms *= self._extent(name)
        return terms

    def _extent(self, name: str) -> int:
        extent = self.scope.dims[name]
        assert isinstance(extent, int)
        return extent

    def _start(self) -> SSAValue:
        """What the sums start from; parts of a row are added to what is there."""
        type = self.statement.value.type
        if self.first is None or self.scope.frame.window is not None:
            return self.code.constant(element_of(type).identity("add"), self.type)
        return self._loaded(self.code, self.first, self._places(self.first))

    def _loaded(self, code: Code, storage: Storage, places: Places) -> SSAValue:
        """The block of a tensor, in the type of the sums."""
        indices, axis, valid, pad = places
        element = cast(TensorType, storage.tensor.type).element
        loaded = VectorType(element, [self.height, self.width])
        op = LoadOp(storage.tensor, indices, loaded, axis, pad=pad, valid=valid)
        return code.cast(code.add(op), self.statement.value.type)

    def _step(self, code: Code, k: SSAValue, upper: SSAValue, total: SSAValue) -> SSAValue:
        """The terms from k on, as many as a block has."""
        left = code.scalar("sub", upper, k)
        scope = self._at_terms(code, k, upper)
        for operand in self.operands:
            self._copy(scope, operand, left)
        code.add(BarrierOp())
        down, across = (operand.shared for operand in self.operands)
        lanes = code.add(LanesOp(self.height))
        depth = code.constant(self.shape.depth)
        product = ProductOp(
            total, down, [self.zero, lanes], 0, across, [self.zero, self.zero], 0, depth, self.type
        )
        result = code.add(product)
        code.add(BarrierOp())
        return result

    def _at_terms(self, code: Code, k: SSAValue, upper: SSAValue) -> Scope:
        """The scope of the terms from k on, as vectors; past the end, of the last one."""
        lanes = code.add(LanesOp(self.shape.depth))
        at = code.scalar("min", code.scalar("add", k, lanes), code.plus(upper, -1))
        inner: dict[str, SSAValue] = {}
        for name in reversed(self.segment.inner):
            extent = code.constant(self._extent(name))
            inner[name] = code.scalar("mod", at, extent)
            at = code.scalar("floordiv", at, extent)
        scope = self.scope
        frame = replace(scope.frame, code=code, place=at)
        return replace(scope, frame=frame, loops={**scope.loops, **inner}, cache={})

    def _copy(self, scope: Scope, operand: Operand, left: SSAValue) -> None:
        """The block of an operand, a row for each term."""
        code, read = scope.code, operand.read
        indices = [scope.index_value(index) for index in read.access.data]
        if not any(shape_of(index.type) for index in indices):
            indices[0] = code.spread(indices[0], self.shape.depth)
        axis = runs_along(read, operand.variable)
        assert axis is not None
        inside = self._inside(operand.variable, operand.count) or code.constant(operand.count)
        code.add(
            CopyOp(
                scope.storage_of(read.tensor).tensor,
                indices,
                axis,
                operand.shared,
                [self.zero, self.zero],
                (self.shape.depth, operand.count),
                valid=(left, inside),
            )
        )

    def _inside(self, name: str, count: int) -> SSAValue | None:
        """How many of a block's elements along r or j are inside; None for all."""
        extent = self._extent(name)
        if extent % count == 0:
            return None
        left = self.code.scalar("sub", self.code.constant(extent), self.loops[name])
        return self.code.scalar("min", left, self.code.constant(count))

    # The result ---------------------------------------------------------------------------------

    def store(self, total: SSAValue) -> None:
        """Round the sums once, into the result; those of a part of a row are added to it."""
        places, piece = self._places(self.target), self.scope.frame.piece
        if piece is None:
            combine = None if self.scope.frame.window is None else "add"
            self._put(self.code, total, self.target, places, combine)
            return

        def whole(code: Code) -> None:
            sums = total
            if self.first is not None:
                sums = code.scalar("add", self._loaded(code, self.first, places), total)
            self._put(code, sums, self.target, places)

        def part(code: Code) -> None:
            parts = parts_storage(self.placement, self.statement, self.builder)
            indices, axis, valid, pad = places
            row = parts.position
            assert row is not None
            of_part = [piece, *(at for number, at in enumerate(indices) if number != row)]
            axis = axis if axis > row else axis + 1
            self._put(code, total, parts, (of_part, axis, valid, pad))

        is_whole = self.code.scalar("lt", piece, self.zero)
        self.code.choose(is_whole, whole, part)

    def _put(
        self,
        code: Code,
        total: SSAValue,
        storage: Storage,
        places: Places,
        combine: str | None = None,
    ) -> None:
        indices, axis, valid, pad = places
        value = code.cast(total, cast(TensorType, storage.tensor.type).element)
        code.block.add_op(StoreOp(value, storage.tensor, indices, axis, 1, pad, valid, combine))

    def _places(self, storage: Storage) -> Places:
        """Indices of the block in the result, the axis of its lanes, how many of those are inside,
        and a number if some of its rows are not: these are put past the end."""
        code, access = self.code, self.statement.access.data
        pad = self.statement.type.pad_value
        lanes = code.scalar("add", code.add(LanesOp(self.height)), self.loops[self.down])
        extent = self._extent(self.down)
        if extent % self.height:
            position = next(i for i, e in enumerate(access) if self.down in e.variables)
            end = self.builder.size(self.statement.type.dims[position])
            inside = code.scalar("lt", lanes, code.constant(extent))
            lanes = code.scalar("select", inside, lanes, code.spread(end, self.height))
            pad = 0 if pad is None else pad
        scope = replace(self.scope, loops={**self.scope.loops, self.down: lanes}, cache={})
        indices = [scope.index_value(index) for index in access]
        axis = next(i for i, e in enumerate(access) if self.across in e.variables)
        return indices, axis, self._inside(self.across, self.width), pad
