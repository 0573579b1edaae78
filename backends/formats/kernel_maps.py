"""segmented, bitmask and coded_csr: the pairs (in, out, offset) of a sparse convolution.

segmented   pairs by offset, each run rounded up to a tile, so that a tile has one offset
bitmask     out rows with like offsets together: a tile of rows goes through the offsets that one of
            its rows has, once for each group of offsets, for which rows are sorted anew
coded_csr   pairs by offset; for each in row the slots it is copied to, for each out row those that
            are added up
"""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import (
    Array,
    Bound,
    Part,
    check_positions,
    int32,
    inverse,
    starts,
    within,
)
from hectorite.backends.order import sort
from hectorite.ir.diagnostics import fail

WORD = 31
"""Offsets to one integer of a mask."""

MOST_MASK = 1 << 28
"""Most bits of all masks together."""


def build_segmented(bound: Bound) -> dict[str, Part]:
    """Slots by offset; padding repeats the last pair of its run."""
    (offset,), (tile,) = bound.format.fields, bound.format.numbers
    keys, count = bound.map(offset), bound.extent(offset)
    elements = sort([keys], [count]).arrange(np.arange(bound.size, dtype=np.int32))
    length = np.bincount(keys, minlength=count)
    padded = -(-length // tile) * tile
    size = check_positions(bound, int(padded.sum()))
    lane, own = within(padded), np.repeat(length, padded)
    elem = elements[np.repeat(starts(length)[:-1], padded) + np.minimum(lane, own - 1)]
    full = lane < own
    place = np.empty(bound.size, np.int64)
    place[elem[full]] = np.flatnonzero(full)
    return {"slot": Part(size, (*bound.positions(elem), int32(full)), (int32(place),))}


def build_coded_csr(bound: Bound) -> dict[str, Part]:
    """Slots by offset, and who reads and who writes each."""
    source, out, offset = bound.format.fields
    elements = np.arange(bound.size, dtype=np.int32)
    elem = sort([bound.map(offset)], [bound.extent(offset)]).arrange(elements)
    place = inverse(elem)
    made = {"slot": Part(bound.size, bound.positions(elem), (place,))}
    for part, field in (("read", source), ("write", out)):
        keys = bound.map(field)[elem]
        sorting = sort([keys], [bound.extent(field)])
        fields = (int32(sorting.arrange(keys)), int32(sorting.arrange(elements)))
        made[part] = Part(bound.size, fields)
    return made


def build_bitmask(bound: Bound) -> dict[str, Part]:
    """Slots by (group of offsets, tile of rows, offset, row)."""
    _, out, offset = bound.format.fields
    tile, groups = bound.format.numbers
    rows, keys = bound.map(out).astype(np.int64), bound.map(offset).astype(np.int64)
    offsets, repeats = _numbered_offsets(bound, rows, keys)
    group = keys * groups // max(1, bound.extent(offset))
    elem_parts: list[Array] = []
    row_parts: list[Array] = []
    full_parts: list[Array] = []
    key_parts: list[Array] = []
    for number in range(groups):
        chosen = np.flatnonzero(group == number)
        if not len(chosen):
            continue
        elem, row, key = _tiles(bound, rows[chosen], offsets[chosen], tile)
        full = elem >= 0
        # Padding repeats the last pair before it, so that no in row is that of much padding.
        last = np.maximum.accumulate(np.where(full, np.arange(len(full)), 0))
        elem_parts.append(chosen[np.maximum(elem[last], 0)])
        row_parts.append(row)
        key_parts.append(repeats[key])
        full_parts.append(full)
    elem, row, key, full = (
        np.concatenate([np.zeros(0, np.int64), *parts])
        for parts in (elem_parts, row_parts, key_parts, full_parts)
    )
    check_positions(bound, len(elem))
    place = np.empty(bound.size, np.int64)
    place[elem[full > 0]] = np.flatnonzero(full)
    fields = bound.positions(elem, {out: row, offset: key})
    return {"slot": Part(len(elem), (*fields, int32(full)), (int32(place),))}


def _numbered_offsets(bound: Bound, rows: Array, keys: Array) -> tuple[Array, Array]:
    """Numbers for the offsets such that no row has one twice, and the offset that each stands for:
    a pair that stands again is a further number of the same offset."""
    extent = max(1, bound.extent(bound.format.fields[2]))
    sorting = sort([rows, keys], [bound.extent(bound.format.fields[1]), extent])
    length = np.diff(np.flatnonzero(sorting.first), append=bound.size)
    again = np.empty(bound.size, np.int64)
    order = slice(None) if sorting.permutation is None else sorting.permutation
    again[order] = within(length)
    stride = int(again.max(initial=0)) + 1
    known, number = np.unique(keys * stride + again, return_inverse=True)
    return number, known // stride


def _tiles(bound: Bound, rows: Array, offsets: Array, tile: int) -> tuple[Array, Array, Array]:
    """(pair or -1, row, offset) for each slot of one group of offsets."""
    known, row = np.unique(rows, return_inverse=True)
    used, offset = np.unique(offsets, return_inverse=True)
    if len(known) * len(used) > MOST_MASK:
        raise fail(
            f"`{bound.over} as {bound.format}` would need {len(known) * len(used)} bits",
            expected=f"at most {MOST_MASK}",
            hint="more groups, or segmented, which has no masks",
        )
    has = np.zeros((len(known), len(used)), np.bool_)
    has[row, offset] = True
    order = _by_mask(has)
    pair = np.full(has.shape, -1, np.int64)
    pair[row, offset] = np.arange(len(rows))
    begin = np.arange(0, len(known), tile)
    wanted = np.logical_or.reduceat(has[order], begin, axis=0)
    at_tile, at_offset = np.nonzero(wanted)
    length = np.diff(begin, append=len(known))[at_tile]
    place = order[np.repeat(begin[at_tile], length) + within(length)]
    column = np.repeat(at_offset, length)
    return pair[place, column], known[place], used[column]


def _by_mask(has: Array) -> Array:
    """The stable order of rows by their offsets, the first offset as the greatest bit."""
    words: list[Array] = []
    for start in range(0, has.shape[1], WORD):
        bits = has[:, start : start + WORD]
        words.append(bits @ (1 << np.arange(bits.shape[1], dtype=np.int64)[::-1]))
    permutation = sort(words, [1 << WORD] * len(words)).permutation
    return np.arange(len(has)) if permutation is None else permutation
