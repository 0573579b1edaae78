"""Where the elements of a block lie in shared memory, so that no two threads meet in one bank.

Enters: a `tile.shared` and the number of threads of a task. Leaves: its `SharedLayout`, and with a
builder of PTX the addresses of its elements.

Rows are whole chunks of 16 bytes. In a block that only copies fill and only products of blocks
read, chunk c of row r lies at place c xor f(r) of its row:

    f(r) = factor * (r >> shift), modulo the chunks of a row, or 8 if it has more

A load of matrices takes one chunk of each of 8 rows; with f(r) = r (rows of 128 bytes or more)
these are 8 different places, so all 32 banks. The other loads of tensor instructions take two
chunks of each of four rows, which f(r) = 2 r tells apart. Rows whose chunks are no power of two are
an odd number of chunks long instead. Rows that come in bulk cannot be spread; they are one chunk
(two where f is 2 r) further apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import CopyOp, SharedOp
from hectorite.lowering.gpu.product_plan import MmaPlan, Plan, WgmmaPlan, product_plan, uses_wgmma
from hectorite.lowering.ptx.writer import At, PtxCode

CHUNK = 16
LINE = 128
"""Bytes that all banks together have side by side."""


@dataclass(frozen=True)
class SharedLayout:
    """`stages` blocks of `rows` rows, each `pitch` bytes from the next. A block for descriptors
    whose rows are longer than a line is cut into `panels`, one after the other, of a line each."""

    stages: int
    rows: int
    item: int
    pitch: int
    mask: int = 0
    factor: int = 0
    shift: int = 0
    panels: int = 1

    @property
    def panel_bytes(self) -> int:
        return self.rows * self.pitch

    @property
    def stage_bytes(self) -> int:
        return self.panels * self.panel_bytes

    @property
    def bytes(self) -> int:
        return self.stages * self.stage_bytes

    @property
    def period(self) -> int:
        """After so many rows f takes the same values again."""
        return max(1, (self.mask + 1) // max(1, self.factor)) << self.shift

    def chunk(self, row: int, chunk: int) -> int:
        """The place of a chunk in its row."""
        return chunk ^ (self.factor * (row >> self.shift) & self.mask)

    def offset(self, row: int, column: int) -> int:
        """Bytes from the start of a stage to an element."""
        panel, column = self.panel(column * self.item)
        chunk, rest = divmod(column, CHUNK)
        return panel + row * self.pitch + self.chunk(row, chunk) * CHUNK + rest

    def panel(self, column: int) -> tuple[int, int]:
        """Where the panel of a byte of a row begins, and the byte's place in its row there."""
        if self.panels == 1:
            return 0, column
        return column // LINE * self.panel_bytes, column % LINE


def is_swizzled(op: SharedOp, threads: int) -> bool:
    """Whether only copies and products of blocks use it, which know where its elements are."""
    users = [use.operation for use in op.result.uses]
    return all(
        isinstance(user, CopyOp)
        or isinstance(user, ProductOp)
        and product_plan(user, threads) is not None
        for user in users
    )


def shared_layout(op: SharedOp, threads: int, in_rows: bool | None = None) -> SharedLayout:
    """How a block lies; `in_rows` if its rows must be whole (None: if copies come in bulk)."""
    type = op.result.type
    *stages, rows, columns = cast(tuple[int, ...], (1, *type.dims))
    item = type.element_type.storage.itemsize
    if not is_swizzled(op, threads):
        return SharedLayout(prod(stages), rows, item, columns * item)
    pitch = -(-columns * item // CHUNK) * CHUNK
    chunks = pitch // CHUNK
    if chunks & (chunks - 1):
        return SharedLayout(prod(stages), rows, item, pitch + CHUNK * (1 - chunks % 2))
    factor, shift = _spread(op, threads)
    if in_rows is None:
        in_rows = _comes_in_bulk(op)
    if in_rows and not _has_descriptor(op, threads):
        return SharedLayout(prod(stages), rows, item, pitch + CHUNK * factor)
    panels = 1
    if pitch > LINE and _has_descriptor(op, threads):
        panels, pitch = pitch // LINE, LINE
    mask = min(chunks, LINE // CHUNK) - 1 if factor else 0
    if shift is None:
        shift = max(0, (LINE // pitch).bit_length() - 1)
    return SharedLayout(prod(stages), rows, item, pitch, mask, factor, shift, panels)


def _comes_in_bulk(op: SharedOp) -> bool:
    users = [use.operation for use in op.result.uses]
    return any(isinstance(user, CopyOp) and user.is_bulk for user in users)


def _has_descriptor(op: SharedOp, threads: int) -> bool:
    users = [use.operation for use in op.result.uses]
    return any(isinstance(user, ProductOp) and uses_wgmma(user, threads) for user in users)


def shared_alignment(op: SharedOp, threads: int) -> int:
    """Bytes that the address of a block must be a multiple of: descriptors count on the bits that
    spread its chunks."""
    return 1024 if _has_descriptor(op, threads) else CHUNK


def _spread(op: SharedOp, threads: int) -> tuple[int, int | None]:
    """Factor and shift of f; no shift: by the rows in a line."""
    for use in op.result.uses:
        user = use.operation
        if isinstance(user, ProductOp):
            plan = product_plan(user, threads)
            return _spread_for(cast(Plan, plan), user.b is op.result)
    return 0, None


def _spread_for(plan: Plan, is_b: bool) -> tuple[int, int | None]:
    operands = plan.operands
    size = operands.b.storage.itemsize
    along_k = operands.b_transposed if is_b else not operands.a_transposed
    if isinstance(plan, WgmmaPlan):
        return 1, None
    if isinstance(plan, MmaPlan):
        if size == 2 or along_k:
            return 1, None
        return (2, None) if size == 4 else (2, 2)
    # Threads side by side read a row along k each, or one row side by side, whatever it is.
    return (1, None) if along_k else (0, None)


class SharedPlace:
    """Addresses of elements of a block, from the element (`row`, `column` bytes) of each thread on.

    Both are registers, None for 0. Moving along a row must not carry into bits that the thread's
    own place has. What `at` gives is computed where it is first asked for, so ask where the kernel
    starts; `in_stage` then moves addresses to another stage.
    """

    def __init__(
        self,
        code: PtxCode,
        layout: SharedLayout,
        base: SSAValue,
        row: SSAValue | None,
        column: SSAValue | None,
    ):
        self.code, self.layout, self.row = code, layout, row
        self.start = base
        if row is not None:
            self.start = code.op("mad.lo.s32", row, layout.pitch, base)
        self.chunk = None
        if column is not None and layout.panels > 1:
            panel = code.op("shr.u32", column, LINE.bit_length() - 1)
            self.start = code.op("mad.lo.s32", panel, layout.panel_bytes, self.start)
            column = code.op("and.b32", column, LINE - 1)
        if column is not None and layout.mask:
            self.chunk = code.op("shr.u32", column, CHUNK.bit_length() - 1)
            column = code.op("and.b32", column, CHUNK - 1)
        if column is not None:
            self.start = code.op("add.s32", self.start, column)
        self.made: dict[tuple[int, int], SSAValue] = {}

    def at(self, rows: int, columns: int) -> At:
        """The address so many rows and bytes of a row further on, in stage 0."""
        key, far = self.split(rows, columns)
        if key not in self.made:
            self.made[key] = self._address(*key)
        return At(self.made[key], far)

    def split(self, rows: int, columns: int) -> tuple[tuple[int, int], int]:
        """What an address is computed from, and how far it is from there."""
        layout = self.layout
        panel, columns = layout.panel(columns)
        chunk, rest = divmod(columns, CHUNK)
        near = chunk & layout.mask
        far = panel + rows * layout.pitch + (chunk - near) * CHUNK + rest
        return (rows % layout.period, near), far

    def in_stage(self, stage: SSAValue | None) -> InStage:
        """The same places in the stage of that number."""
        return InStage(self, stage)

    def _address(self, rows: int, near: int) -> SSAValue:
        code, layout = self.code, self.layout
        if not layout.mask:
            return self.start
        spread, place = self._spread(rows), self.chunk
        if isinstance(spread, int):
            near ^= spread
        else:
            place = spread if place is None else code.op("xor.b32", place, spread)
        if place is None:
            return code.op("add.s32", self.start, near * CHUNK) if near else self.start
        if near:
            place = code.op("xor.b32", place, near)
        return code.op("mad.lo.s32", place, CHUNK, self.start)

    def _spread(self, rows: int) -> SSAValue | int:
        """f of the thread's row and so many more."""
        code, layout = self.code, self.layout
        if self.row is None:
            return layout.factor * (rows >> layout.shift) & layout.mask
        row = code.op("add.s32", self.row, rows) if rows else self.row
        if layout.shift:
            row = code.op("shr.u32", row, layout.shift)
        if layout.factor != 1:
            row = code.op("mul.lo.s32", row, layout.factor)
        return code.op("and.b32", row, layout.mask)


class InStage:
    """Addresses of a `SharedPlace` in one stage, each computed once. `place.at` must have been
    asked for them before."""

    def __init__(self, place: SharedPlace, stage: SSAValue | None):
        self.place = place
        self.offset = None
        if stage is not None:
            self.offset = place.code.op("mul.lo.s32", stage, place.layout.stage_bytes)
        self.made: dict[tuple[int, int], SSAValue] = {}

    def at(self, rows: int, columns: int) -> At:
        """As `SharedPlace.at`."""
        key, far = self.place.split(rows, columns)
        if key not in self.made:
            start = self.place.made[key]
            offset, code = self.offset, self.place.code
            self.made[key] = start if offset is None else code.op("add.s32", start, offset)
        return At(self.made[key], far)
