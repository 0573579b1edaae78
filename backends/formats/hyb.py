"""hyb: parts of the columns, and in each rows by their number of elements.

A row of d elements goes to the bucket of the least width 1, 2, .. 2^k that holds it, a longer one
in pieces of 2^k. Each bucket is an ell: slots row by row, all of its width. Which buckets there are
follows from the format alone; one may be empty.
"""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Array, Bound, Part, int32
from hectorite.backends.order import runs, sort


def build_hyb(bound: Bound) -> dict[str, Part]:
    """One position set of slots for each part and bucket."""
    row, col = bound.format.fields
    parts, buckets = bound.format.numbers
    rows, share = bound.map(row), max(1, -(-bound.extent(col) // parts))
    part = bound.map(col) // share
    sorting = sort([part, rows], [parts, bound.extent(row)])
    elements = sorting.arrange(np.arange(bound.size, dtype=np.int32))
    pieces = runs(sorting, [part, rows], parts, 1 << buckets)
    begin = pieces.start[:-1].astype(np.int64)
    length = np.diff(pieces.start)
    bucket = _bucket(length, pieces.keys, buckets)
    made: dict[str, Part] = {}
    for number in range(parts):
        for power in range(buckets + 1):
            chosen = np.flatnonzero((pieces.keys[0] == number) & (bucket == power))
            made[f"slot_{number}_{1 << power}"] = _slots(
                bound, elements, begin[chosen], length[chosen], 1 << power
            )
    return made


def _bucket(length: Array, keys: tuple[Array, ...], most: int) -> Array:
    """The power of two that holds each piece; pieces of a row that is cut are all in the last."""
    power = np.ceil(np.log2(np.maximum(length, 1))).astype(np.int64)
    if len(length) > 1:
        same = (keys[0][1:] == keys[0][:-1]) & (keys[1][1:] == keys[1][:-1])
        power[1:][same] = most
    return power


def _slots(bound: Bound, elements: Array, begin: Array, length: Array, width: int) -> Part:
    lane = np.arange(width)
    inside = lane[None, :] < length[:, None]
    at = begin[:, None] + np.minimum(lane[None, :], length[:, None] - 1)
    elem = elements[at.ravel()]
    return Part(len(elem), (*bound.positions(elem), int32(inside.ravel())))
