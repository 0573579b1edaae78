"""Copies to shared memory as PTX.

Enters: a `tile.copy` and the layout of its block. Leaves: for each run of a thread one `cp.async`
of 4, 8 or 16 bytes, which fills with zeros what is not valid; runs of 1 or 2 bytes, which it does
not copy, are loaded and stored. A copy in bulk is one instruction for each of its pieces, whole
blocks or rows, by the thread that has the piece.

    source = base + place of the thread + indices known before the loop (computed there)
             + indices of the loop + place of the register (a number, if the stride is one)
    target = place of the thread (computed where the kernel starts) + stage
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from xdsl.ir import Operation, SSAValue
from xdsl.traits import is_side_effect_free

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import (
    SPREAD_BYTES,
    SPREAD_ROWS,
    CommitOp,
    CopyOp,
    SharedOp,
    WaitOp,
)
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.layout import Layout
from hectorite.lowering.gpu.bulk_copies import Pieces, pieces
from hectorite.lowering.gpu.copy_layout import copy_layout
from hectorite.lowering.gpu.divisors import divisor
from hectorite.lowering.gpu.product_plan import uses_wgmma
from hectorite.lowering.gpu.shared_layout import SharedLayout, SharedPlace, shared_layout
from hectorite.lowering.gpu.tile_layouts import known_index
from hectorite.lowering.ptx import bulk as ptx_bulk
from hectorite.lowering.ptx.access import both, scaled_sum
from hectorite.lowering.ptx.kernel import Memory, PtxKernel, Stride
from hectorite.lowering.ptx.writer import At

LEAST_ASYNC = 4
"""Bytes that cp.async copies at least."""


@dataclass
class Prepared:
    """What is computed before a copy: where its threads write; and for the rows of a thread, by
    their place in the block, the source without the indices of dimensions in `missing`. `pieces`
    are those of a copy in bulk."""

    layout: Layout
    place: SharedPlace
    pieces: Pieces | None = None
    sources: dict[int, At] = field(default_factory=dict[int, At])
    missing: frozenset[int] = frozenset()


def prepare(kernel: PtxKernel, op: CopyOp) -> None:
    """Compute, where the kernel starts, where in shared memory the threads write."""
    found = pieces(op, kernel.threads) if op.is_bulk else None
    if op.is_bulk and found is None:
        raise fail("a bulk copy needs rows that lie side by side, and aligned to 16 bytes")
    layout = copy_layout(op, kernel.threads) if found is None else found.layout(kernel.threads)
    kernel.prepare(layout)
    row, column = kernel.place(layout)
    owner = op.target.owner
    assert isinstance(owner, SharedOp)
    memory = kernel.memories[op.target]
    bytes = None if column is None else kernel.code.op("mul.lo.s32", column, memory.item_bytes)
    shared = _as_it_comes(op, shared_layout(owner, kernel.threads))
    place = SharedPlace(kernel.code, shared, memory.base, row, bytes)
    prepared = Prepared(layout, place, found)
    for register in range(0, layout.register_count, _run(layout)):
        place.at(*_target(kernel, op, layout, register))
    kernel.prepared[op] = prepared


def _as_it_comes(op: CopyOp, layout: SharedLayout) -> SharedLayout:
    """The layout of a block that a copy fills: chunks of a source that has them spread go where
    they would without that."""
    if not op.is_spread:
        return layout
    period = layout.period
    if layout.pitch != SPREAD_BYTES or not layout.mask or period != SPREAD_ROWS:
        raise fail("a source that is spread goes to blocks for descriptors, of rows of 128 bytes")
    return replace(layout, mask=0, factor=0)


def prepare_sources(kernel: PtxKernel, loop: Operation) -> None:
    """Compute, before a loop, what the sources of its copies have in common in all iterations."""
    for op in loop.walk():
        if isinstance(op, CopyOp):
            known = {n for n, index in enumerate(op.indices) if _is_known(kernel, index)}
            vectors = {n for n, index in enumerate(op.indices) if shape_of(index.type)}
            if vectors <= known:
                _prepare_sources(kernel, op, known)


def _is_known(kernel: PtxKernel, index: SSAValue) -> bool:
    return index in kernel.registers or known_index(index) is not None


def _prepare_sources(kernel: PtxKernel, op: CopyOp, known: set[int]) -> None:
    prepared = kernel.prepared[op]
    prepared.missing = frozenset(range(len(op.indices))) - known
    prepared.sources = dict[int, At]()
    for register in range(0, prepared.layout.register_count, _run(prepared.layout)):
        row = prepared.layout.offset(register)[0]
        if row not in prepared.sources:
            prepared.sources[row] = _source(kernel, op, prepared.layout, register, sorted(known))


def copy(kernel: PtxKernel, op: CopyOp) -> None:
    """The copies of one block."""
    prepared = kernel.prepared[op]
    if prepared.pieces is not None and prepared.pieces.count == 1:
        ptx_bulk.once_for(kernel, op, lambda one: _runs(kernel, op, prepared, one))
    else:
        _runs(kernel, op, prepared, None)
    if op.is_async is None:
        if _waits(kernel, op) and not _waits_later(kernel, op):
            kernel.code.op("cp.async.wait_all")
        _show_to_descriptors(kernel)


def _waits(kernel: PtxKernel, op: CopyOp) -> bool:
    """Whether elements of a copy come by instructions that have to be waited for."""
    run, size = _run(kernel.prepared[op].layout), kernel.memories[op.source].item_bytes
    return op.is_async is None and run * size >= LEAST_ASYNC


def _waits_later(kernel: PtxKernel, op: CopyOp) -> bool:
    """Whether the next operation that does more than compute is a copy that waits for this one,
    too."""
    following = op.next_op
    while following is not None and is_side_effect_free(following):
        following = following.next_op
    return isinstance(following, CopyOp) and _waits(kernel, following)


def _runs(kernel: PtxKernel, op: CopyOp, prepared: Prepared, one: SSAValue | None) -> None:
    """The copies of a thread's runs; of a whole block, those of the thread `one`."""
    if not prepared.sources:
        _prepare_sources(kernel, op, set(range(len(op.indices))))
        sources, prepared.sources = prepared.sources, {}
    else:
        sources = {
            row: _moved_all(kernel, op, at, sorted(prepared.missing))
            for row, at in prepared.sources.items()
        }
    layout, run = prepared.layout, _run(prepared.layout)
    lines = _Lines(kernel, op, layout, run)
    stage = None
    if len(op.places) > 2 and known_index(op.places[0]) != 0:
        stage = kernel.value(op.places[0])
    place = prepared.place.in_stage(stage)
    memory = kernel.memories[op.source]
    bytes = run * memory.item_bytes
    for register in range(0, layout.register_count, run):
        row, column = layout.offset(register)
        source = _along(kernel, memory, op.column_axis, sources[row], column)
        target = place.at(*_target(kernel, op, layout, register))
        if prepared.pieces is not None:
            guard = lines.guard(register) if one is None else one
            ptx_bulk.copy_piece(kernel, op, target, source, prepared.pieces.bytes, guard)
        elif bytes < LEAST_ASYNC:
            _element(kernel, lines, register, memory, source, target, bytes)
        else:
            _async_run(kernel, lines, register, source, target, bytes)


def _async_run(
    kernel: PtxKernel, lines: _Lines, register: int, source: At, target: At, bytes: int
) -> None:
    """One `cp.async`."""
    cache = "cg" if bytes == 16 else "ca"
    size, full = lines.size(register), kernel.code.immediate(bytes)
    sizes = [full] if size is None else [full, size]
    guard = lines.guard(register)
    kernel.code.op(f"cp.async.{cache}.shared.global", target, source, *sizes, guard=guard)


def commit(kernel: PtxKernel, op: CommitOp) -> None:
    kernel.code.op("cp.async.commit_group")


def wait(kernel: PtxKernel, op: WaitOp) -> None:
    kernel.code.op("cp.async.wait_group", kernel.code.immediate(op.count))
    _show_to_descriptors(kernel)


def _show_to_descriptors(kernel: PtxKernel) -> None:
    """Groups of warps read shared memory by another way than threads write it."""
    if any(
        isinstance(op, ProductOp) and uses_wgmma(op, kernel.threads) for op in kernel.kernel.walk()
    ):
        kernel.code.op("fence.proxy.async.shared::cta")


def _run(layout: Layout) -> int:
    """Neighbours of a thread."""
    return layout.run(1)


def _element(
    kernel: PtxKernel,
    lines: _Lines,
    register: int,
    memory: Memory,
    source: At,
    target: At,
    bytes: int,
) -> None:
    """One run too short for cp.async; its elements are valid or not together."""
    code, type = kernel.code, f"u{8 * bytes}"
    valid, guard = lines.valid(register), lines.guard(register)
    zero = code.constant(0, "b32")
    loaded = code.op(
        f"ld.{memory.read_space}.{type}",
        source,
        guard=both(kernel, valid, guard),
        otherwise=[] if valid is None and guard is None else [zero],
        results=["b32"],
    )
    code.op(f"st.shared.{type}", target, loaded, guard=guard)


# Addresses ---------------------------------------------------------------------------------------


def _target(kernel: PtxKernel, op: CopyOp, layout: Layout, register: int) -> tuple[int, int]:
    """How many rows and bytes of a row from the thread's place a register is written."""
    row, column = layout.offset(register)
    first = [known_index(place) for place in op.places[-2:]]
    if None in first or len(op.places) > 3:
        raise fail("a copy goes to a fixed place of a stage", expected="constant indices")
    item = kernel.memories[op.target].item_bytes
    return row + (first[0] or 0), (column + (first[1] or 0)) * item


def _source(
    kernel: PtxKernel, op: CopyOp, layout: Layout, register: int, axes: Sequence[int]
) -> At:
    """The address of a register's row, with the indices of some dimensions."""
    memory = kernel.memories[op.source]
    row, column = kernel.place(layout)
    at = At(memory.base)
    if column is not None:
        at = _moved(kernel, memory, at, column, op.column_axis)
    if op.rows_along is not None:
        if row is not None:
            at = _moved(kernel, memory, at, row, op.rows_along)
        at = _along(kernel, memory, op.rows_along, at, layout.offset(register)[0])
    return _moved_all(kernel, op, at, axes, layout.slice_register(register))


def _moved_all(kernel: PtxKernel, op: CopyOp, at: At, axes: Sequence[int], lane: int = 0) -> At:
    memory = kernel.memories[op.source]
    for axis in axes:
        index = op.indices[axis]
        number = known_index(index)
        if number is not None:
            at = _along(kernel, memory, axis, at, number)
        else:
            picked = kernel.registers[index][lane if shape_of(index.type) else 0]
            at = _moved(kernel, memory, at, picked, axis)
    return at


def _moved(kernel: PtxKernel, memory: Memory, at: At, index: SSAValue, axis: int) -> At:
    return At(scaled_sum(kernel, memory, index, memory.strides[axis], 1, at.base), at.offset)


def _along(kernel: PtxKernel, memory: Memory, axis: int, at: At, count: int) -> At:
    """So many elements further along a dimension."""
    stride: Stride = memory.strides[axis]
    if stride.value is None:
        return at.plus(count * stride.factor)
    if not count:
        return at
    return At(kernel.code.op("mad.lo.s64", stride.value, count, at.base), at.offset)


# What is valid -----------------------------------------------------------------------------------


class _Lines:
    """Which runs of a thread are there, and how many of their bytes are valid."""

    def __init__(self, kernel: PtxKernel, op: CopyOp, layout: Layout, run: int):
        self.kernel, self.code = kernel, kernel.code
        self.op, self.layout, self.run = op, layout, run
        self.place = kernel.place(layout)
        self.item = kernel.memories[op.source].item_bytes
        self.made: dict[tuple[str, int], SSAValue] = {}

    def guard(self, register: int) -> SSAValue | None:
        """Whether a run belongs to the block and no other thread copies it; None if so."""
        found = self.kernel.copy(self.layout)
        for dim in (0, 1):
            if not self.layout.always_inside(register, dim):
                at = self._at(register, dim)
                below = self.code.op("setp.lt.s32", at, self.layout.shape[dim])
                found = both(self.kernel, found, below)
        return found

    def valid(self, register: int) -> SSAValue | None:
        """Whether the first element of a run is valid; None if it always is."""
        return both(self.kernel, self._rows(register), self._below(register, 1))

    def size(self, register: int) -> SSAValue | None:
        """How many bytes of a run are valid; None if all always are."""
        whole = self.run * self.item
        rows, columns = self._rows(register), self._count(1)
        if columns is None:
            return rows and self.code.op("selp.b32", whole, 0, rows)
        if self.run == 1 or divisor(self.op.valid[1]) % self.run == 0:
            valid = self.valid(register)
            assert valid is not None
            return self.code.op("selp.b32", whole, 0, valid)
        offset = self.layout.offset(register)[1]
        key = "size", offset
        if key not in self.made:
            left = self.code.op("sub.s32", columns, self._at(register, 1))
            bytes = self.code.op("mul.lo.s32", left, self.item)
            bytes = self.code.op("min.s32", bytes, whole)
            self.made[key] = self.code.op("max.s32", bytes, 0)
        bytes = self.made[key]
        return bytes if rows is None else self.code.op("selp.b32", bytes, 0, rows)

    def _rows(self, register: int) -> SSAValue | None:
        """Whether the row of a run is valid; None if it always is."""
        below = self._below(register, 0)
        if not self.op.is_padded:
            return below
        lane = self.layout.slice_register(register)
        for number, index in enumerate(self.op.indices):
            if shape_of(index.type):
                picked = self.kernel.registers[index][lane]
                key = f"there{number}", lane
                if key not in self.made:
                    self.made[key] = self.code.op("setp.ge.s32", picked, 0)
                below = both(self.kernel, below, self.made[key])
        return below

    def _below(self, register: int, dim: int) -> SSAValue | None:
        """Whether a run begins below the number of valid rows or columns."""
        count = self._count(dim)
        if count is None:
            return None
        key = f"below{dim}", self.layout.offset(register)[dim]
        if key not in self.made:
            self.made[key] = self.code.op("setp.lt.s32", self._at(register, dim), count)
        return self.made[key]

    def _count(self, dim: int) -> SSAValue | None:
        """The number of valid rows or columns; None if all are."""
        if not self.op.valid:
            return None
        number = known_index(self.op.valid[dim])
        if number is not None and number >= self.op.block[dim]:
            return None
        return self.kernel.value(self.op.valid[dim])

    def _at(self, register: int, dim: int) -> SSAValue:
        place, offset = self.place[dim], self.layout.offset(register)[dim]
        if place is None:
            return self.code.constant(offset)
        return self.code.op("add.s32", place, offset) if offset else place
