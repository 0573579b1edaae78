"""Which copies go in bulk, and in which pieces.

Enters: the copies of a pipeline, before they are made asynchronous, and a target. Leaves: those
that a bulk copy does with fewer instructions than `cp.async`.

A bulk copy is one instruction of one thread for as many bytes as lie side by side in both memories:
a whole block if its rows are those of the tensor and nothing is left between them, else a row. It
takes no part in choosing places: chunks of 16 bytes cannot be spread over the banks on their way
(`shared_layout.py`). Rows of a block then are whole, 16 or 32 bytes apart where products would meet
in one bank, so blocks for descriptors, whose chunks must be spread, stay with `cp.async` unless
their source lies as they want it (`pack_operands.py`).

`cp.async` takes `COPY` instructions of each warp for 512 bytes of its threads: itself, and an
address of 64 bits. A piece takes `PIECE` of the one warp whose thread asks for it; every warp looks
at the barrier object, keeps its phase, and passes by what one warp alone does (`LOOK`); one warp
says what to expect (`EXPECT`). So many the assembler makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from hectorite.dialects.tile_async import BULK_UNIT, CopyOp, SharedOp
from hectorite.dialects.tile_bulk import MOST_BYTES
from hectorite.ir.layout import Layout
from hectorite.ir.space import TensorType
from hectorite.ir.target import Target
from hectorite.lowering.gpu.copy_layout import neighbours
from hectorite.lowering.gpu.layouts import blocked
from hectorite.lowering.gpu.shared_layout import SharedLayout, shared_layout

PIECE, LOOK, EXPECT = 9, 10, 4
"""Warp instructions of a bulk copy, of waiting for one, of saying how many bytes will come."""

COPY = 3
"""Warp instructions of a `cp.async` and its address."""

GROUP_COST = 5
"""Warp instructions of ending a group and waiting for one, where all copies are `cp.async`."""


@dataclass(frozen=True)
class Pieces:
    """`count` pieces of `bytes` each: one for each row, or one for all."""

    count: int
    bytes: int

    def layout(self, threads: int) -> Layout:
        """Which threads ask for which pieces: each row has one thread."""
        return blocked((self.count, 1), threads, 1)


def pieces(op: CopyOp, threads: int) -> Pieces | None:
    """The pieces of a copy in bulk; None if it cannot be one."""
    item = cast(TensorType, op.source.type).element_type.storage.itemsize
    rows, columns = op.block
    if op.valid or op.is_padded or neighbours(op) * item != BULK_UNIT or op.byte_count > MOST_BYTES:
        return None
    owner = op.target.owner
    assert isinstance(owner, SharedOp)
    layout = shared_layout(owner, threads, in_rows=True)
    if not op.is_spread and (layout.mask or layout.panels > 1):
        return None
    if _is_whole(op, layout, item):
        return Pieces(1, op.byte_count)
    return Pieces(rows, columns * item)


def _is_whole(op: CopyOp, layout: SharedLayout, item: int) -> bool:
    """Whether a block's rows follow each other without a gap, in both memories."""
    columns = op.block[1]
    dims = cast(TensorType, op.source.type).dims
    in_order = op.rows_along is not None and op.rows_along == op.column_axis - 1
    return in_order and dims[-1] == columns and layout.pitch == columns * item


def chosen_for_bulk(copies: Sequence[CopyOp], threads: int, target: Target) -> list[CopyOp]:
    """The copies of one stage that go in bulk on a target."""
    if not target.has("bulk_copy"):
        return []
    warps = threads // target.threads_per_warp
    gains = {op: _gain_of(op, threads, warps) for op in copies}
    chosen = [op for op, gain in gains.items() if gain > 0]
    shared = _shared_gain(warps, len(chosen) == len(copies))
    return chosen if sum(gains[op] for op in chosen) + shared > 0 else []


def saved_by_panels(
    bytes: Sequence[int], counts: Sequence[int], threads: int, target: Target
) -> int:
    """Warp instructions that a step of a task saves with all its copies in bulk, so many bytes and
    pieces of each operand."""
    warps = threads // target.threads_per_warp
    gains = [_gain(*each, threads, warps) for each in zip(bytes, counts, strict=True)]
    return sum(gains) + _shared_gain(warps, True)


def _shared_gain(warps: int, alone: bool) -> int:
    """What a task saves with all its copies in bulk together: it waits for a barrier object, and if
    there are no others, not for groups."""
    return (warps * GROUP_COST if alone else 0) - warps * LOOK - EXPECT


def _gain_of(op: CopyOp, threads: int, warps: int) -> int:
    found = pieces(op, threads)
    return 0 if found is None else _gain(op.byte_count, found.count, threads, warps)


def _gain(bytes: int, count: int, threads: int, warps: int) -> int:
    """Warp instructions that a task saves with copies in bulk, without what all of them share."""
    return -(-bytes // (BULK_UNIT * threads)) * warps * COPY - count * PIECE
