"""Write the body of one kernel: its task's rows, and the phases over them.

    task -> rows [lo, hi)
      for blocks of 6 rows:            if the kernel has a product
        product of the block
        for each row of the block:
          statements of the row
          for each element of a visit: statements of the element

Enters: a planned kernel, a builder for its body, where its tensors live, and the rows of a task.
Leaves: the body, written. The passes over rows are in this file, the phases of one row in
`row.py`.

A product whose result is wide goes over all blocks of the task, or of a tile of its rows that goes
through all phases, for each strip of lanes, so that a strip of the weights stays near while rows
pass by.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from xdsl.ir import SSAValue

from hectorite.lowering.emit.epilogue import Epilogue
from hectorite.lowering.emit.owned_rows import OwnedRows
from hectorite.lowering.emit.product import Block, ProductEmitter
from hectorite.lowering.emit.row import RowEmitter
from hectorite.lowering.emit.scattered_product import AtomicProduct, ScatteredEmitter
from hectorite.lowering.emit.segment_blocks import SegmentBlocks
from hectorite.lowering.emit.two_step import TwoStepEmitter
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.gpu.schedule_orders import work_of
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase
from hectorite.lowering.kernels.place_tensors import Placement, rows_cover, rows_in_lanes
from hectorite.lowering.kernels.row_order import Place, RowOrder
from hectorite.lowering.kernels.share_rows import Share
from hectorite.lowering.kernels.tile_code import Code


class KernelEmitter:
    """Writes one planned kernel into a builder."""

    def __init__(self, kernel: Kernel, builder: KernelBuilder, placement: Placement):
        self.kernel = kernel
        self.builder = builder
        self.placement = placement
        self.frame = Frame(builder.code, builder, placement.values)
        self.row = RowEmitter(kernel, builder, placement)
        self.segments = SegmentBlocks(kernel, builder, placement)

    def emit_all(
        self, share: Callable[[Code, SSAValue], Share], count: SSAValue, step: int
    ) -> None:
        """The shares of every `step`th task from this one on, up to `count`."""

        def one(code: Code, number: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self.emit(share(code, number), code)
            return ()

        self.builder.code.loop(self.builder.task, count, step, (), one)

    def emit(self, share: Share, code: Code) -> None:
        """All phases; without rows, the kernel is one task that has a single, nameless row. With
        a strip, the task does that strip of lanes of the kernel's only phase, a product."""
        rows = share.rows
        if rows is None:
            for phase in self.kernel.phases:
                self.row.phase(replace(self.frame, code=code, slot=code.constant(0)), phase)
            return
        if self.kernel.phases[0].is_two_steps:
            steps = TwoStepEmitter(self.kernel, self.builder, self.placement, share)
            steps.emit(code, self.frame, rows)
            return
        if self.kernel.machine.is_gpu:
            self._one_share(code, share, rows)
            return
        piece = share.piece
        if piece is not None:
            plain = replace(share, window=None, piece=None)
            code.choose(
                code.scalar("lt", piece, code.constant(0)),
                lambda inner: self._passes(inner, rows, plain, None),
                lambda inner: self._piece(inner, rows, share),
            )
            return
        height = self.placement.tile_rows
        if not height:
            self._passes(code, rows, share, None)
            return

        def tile(inner: Code, start: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            end = inner.scalar("min", inner.plus(start, height), rows.upper)
            self._passes(inner, replace(rows, lower=start, upper=end), share, start)
            return ()

        code.loop(rows.lower, rows.upper, height, (), tile)

    def _passes(self, code: Code, rows: RowOrder, share: Share, tile: SSAValue | None) -> None:
        """All phases for some rows; local memory has slots for all of them from `tile` on, if that
        is given."""
        for group in self._groups():
            if group[0].scatters:
                self._scatter(code, rows, group[0], share.block)
            elif len(group) == 1 and self._is_wide(group[0]):
                self._wide_product(code, rows, group[0], share.strip, tile)
            elif any(phase.product for phase in group):
                self._blocks(code, rows, group, tile)
            else:
                frame = replace(self.frame, part=share.part)
                self._row_loop(code, rows, rows.lower, rows.upper, group, tile, frame)

    def _is_wide(self, phase: Phase) -> bool:
        """Whether a phase takes a pass over the rows for itself."""
        return phase.scatters or phase.product is not None and phase.product.shape.wide

    def _groups(self) -> list[list[Phase]]:
        """Runs of phases that share one pass over the rows."""
        groups: list[list[Phase]] = []
        for phase in self.kernel.phases:
            alone = self._is_wide(phase)
            if not groups or alone or self._is_wide(groups[-1][-1]):
                groups.append([])
            groups[-1].append(phase)
        return groups

    def _one_share(self, code: Code, share: Share, rows: RowOrder) -> None:
        """A task that is one row, or one block of a product."""
        phase = self.kernel.phases[0]
        product = phase.product
        if phase.segment is not None:
            self._segments(code, share, rows, phase)
            return
        if phase.scatters:
            self._owned(code, share, phase)
            return
        if rows_in_lanes(self.kernel):
            self.row.lanes.rows(replace(self.frame, code=code), rows)
            return
        if product is None or share.strip is None:
            if share.piece is not None:
                self._piece(code, rows, share)
            elif share.window is not None or work_of(self.kernel) == "window":
                frame = replace(self.frame, window=share.window)
                self._row_loop(code, rows, rows.lower, rows.upper, self.kernel.phases, None, frame)
            else:
                self._one_row(code, rows, rows.lower, self.kernel.phases, code.constant(0))
            return
        self.builder.threads = product.shape.threads
        block = self._block(code, rows, rows.lower, product.shape.rows)
        emitter = self._product(phase)
        scope = Scope.of(block.frame, emitter.statement, emitter.root)
        for name, value in share.loops.items():
            scope = scope.with_loop(name, value)
        start = code.scalar("mul", share.strip, code.constant(product.shape.lanes))
        scope = emitter.strip_at(scope, start)
        if len(self.kernel.phases) > 1:
            epilogue = Epilogue(self.kernel, self.placement, scope)
            epilogue.emit(emitter.sums(scope, block))
        else:
            emitter.emit_strip(scope, block)

    def _owned(self, code: Code, share: Share, phase: Phase) -> None:
        """A task that does a block of the rows that a scattered product sums into."""
        assert phase.product is not None and share.block is not None and share.strip is not None
        self.builder.threads = phase.product.shape.threads
        start = code.scalar("mul", share.strip, code.constant(phase.product.shape.lanes))
        root, frame = self.kernel.roots[phase.statements[0]], replace(self.frame, code=code)
        placed = self.builder, self.placement
        OwnedRows(phase, root, *placed, frame, share.block, start, share.loops).emit()

    def _piece(self, code: Code, rows: RowOrder, share: Share) -> None:
        """A task that is one row, or a part of its elements."""
        frame = replace(self.frame, window=share.window, piece=share.piece)
        self._one_row(code, rows, rows.lower, self.kernel.phases, code.constant(0), frame)

    def _segments(self, code: Code, share: Share, rows: RowOrder, phase: Phase) -> None:
        """A task that does one block of a segment product, for one row or several."""
        assert phase.segment is not None
        self.builder.threads = phase.segment.shape.threads

        def row(inner: Code, number: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            frame = replace(self.frame, code=inner, rows=(number,), window=share.window)
            frame = replace(frame, piece=share.piece)
            self.segments.emit(frame, phase, share.loops)
            return ()

        if share.piece is not None or share.window is None and work_of(self.kernel) != "window":
            row(code, rows.lower, ())
        else:
            code.loop(rows.lower, rows.upper, 1, (), row)

    # Passes over rows ---------------------------------------------------------------------------

    def _row_loop(
        self,
        code: Code,
        rows: RowOrder,
        lower: SSAValue,
        upper: SSAValue,
        phases: Sequence[Phase],
        block: SSAValue | None,
        frame: Frame | None = None,
    ) -> None:
        """Do phases for the rows at positions from lower to upper, one at a time."""

        def row(inner: Code, position: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            slot = inner.constant(0) if block is None else inner.scalar("sub", position, block)
            self._one_row(inner, rows, position, phases, slot, frame)
            return ()

        code.loop(lower, upper, 1, (), row)

    def _one_row(
        self,
        code: Code,
        rows: RowOrder,
        position: SSAValue,
        phases: Sequence[Phase],
        slot: SSAValue,
        frame: Frame | None = None,
    ) -> None:
        """Do phases for the row at one position."""
        at = Place(position)
        indices = self._split(code, rows.row(code, self.builder, at))
        frame = frame or self.frame
        frame = replace(frame, code=code, rows=indices, order=rows, at=at, slot=slot)
        self.row.prefetch.rows(frame, phases)
        for phase in phases:
            self.row.phase(frame, phase)

    def _split(self, code: Code, row: SSAValue) -> tuple[SSAValue, ...]:
        """The index in each row domain of a row's number."""
        indices: list[SSAValue] = []
        for dim in reversed(self.kernel.rows[1:]):
            extent = self.builder.size(dim)
            indices.append(code.scalar("mod", row, extent))
            row = code.scalar("floordiv", row, extent)
        return (row, *reversed(indices))

    def _block(
        self,
        code: Code,
        rows: RowOrder,
        start: SSAValue,
        height: int,
        tile: SSAValue | None = None,
    ) -> Block:
        """The block of rows that begins at a place; its first slot is that of the row, counted from
        the first of the `tile`."""
        place = rows.block(code, start, height)
        first = None if tile is None else code.scalar("sub", start, tile)

        def single(inner: Code, number: SSAValue) -> Frame:
            at, slot = rows.one_of(inner, place, number)
            slot = slot if first is None else inner.scalar("add", first, slot)
            row = rows.row(inner, self.builder, at)
            return replace(frame, code=inner, rows=(row,), at=at, slot=slot)

        def beyond(distance: int) -> Frame:
            at = rows.beyond(code, start, distance)
            return replace(frame, rows=(rows.row(code, self.builder, at),), at=at)

        row, slots = rows.row(code, self.builder, place), rows.slots(code, place)
        slots = slots if first is None else code.scalar("add", first, slots)
        frame = replace(self.frame, code=code, rows=(row,), order=rows, at=place, slot=slots)
        return Block(frame, height, single, beyond)

    def _product(self, phase: Phase) -> ProductEmitter:
        statement = phase.statements[0]
        assert phase.product is not None
        root = self.kernel.roots[statement]
        start, target = self.placement.start(statement, self.builder), None
        if self.placement.private.get(statement.result) != "registers":
            target = self.placement.storage(statement.result, self.builder)
        panels = self.placement.panels.get(statement)
        if self.kernel.machine.is_gpu and not rows_cover(statement, root):
            return AtomicProduct(statement, root, phase.product, start, target, panels)
        return ProductEmitter(statement, root, phase.product, start, target, panels)

    def _blocks(
        self, code: Code, rows: RowOrder, phases: Sequence[Phase], tile: SSAValue | None
    ) -> None:
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
                    self._row_loop(code, rows, start, upper, pending, tile or start)
                    pending = []
                if phase is not None:
                    self._product(phase).emit(self._block(code, rows, start, height, tile))
            return ()

        code.loop(rows.lower, rows.upper, height, (), block)

    def _scatter(self, code: Code, rows: RowOrder, phase: Phase, block: SSAValue | None) -> None:
        """Fill all rows of the task, then add what the elements of its block give."""
        assert block is not None
        statement = phase.statements[0]
        frame = replace(self.frame, code=code)

        def row(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self.row.fill(replace(frame, code=inner, rows=(at,)), statement)
            return ()

        code.loop(rows.lower, rows.upper, 1, (), row)
        emitter = ScatteredEmitter(self.kernel, self.builder, self.placement, self.row, phase)
        emitter.emit(code, frame, block)

    def _wide_product(
        self,
        code: Code,
        rows: RowOrder,
        phase: Phase,
        strip: SSAValue | None,
        tile: SSAValue | None,
    ) -> None:
        assert phase.product is not None
        emitter = self._product(phase)
        height = phase.product.shape.rows

        def blocks(scope: Scope) -> None:
            def block(code: Code, start: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                there = self._block(code, rows, start, height, tile)
                inner = replace(scope.inside(code), frame=there.frame)
                emitter.emit_strip(inner, there)
                return ()

            scope.code.loop(rows.lower, rows.upper, height, (), block)

        scope = Scope.of(replace(self.frame, code=code), emitter.statement, emitter.root)
        if strip is None:
            emitter.over_strips(scope, blocks)
            return
        width = phase.product.shape.lanes
        start = scope.code.scalar("mul", strip, scope.code.constant(width))
        blocks(emitter.strip_at(scope, start))
