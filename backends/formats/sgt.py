"""sgt: windows of rows, in which only the columns that occur are kept.

The distinct columns of each window stand in order, padded to a multiple of the width of a block by
repeating the last. An element is found at (the position of its column, its row in the window), and
no two at the same place: where several elements have one row and one column, the column stands as
often as there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hectorite.backends.formats.parts import (
    Array,
    Bound,
    Part,
    check_positions,
    int32,
    starts,
    within,
)
from hectorite.backends.order import sort


@dataclass(frozen=True)
class Condensed:
    """Distinct columns by window, each as often as the row that has it most often.

    `count` int64[windows] is how many each window has, `columns` int32[sum] are they, and `rank`
    int64[elements] is which of all those the column of each element is.
    """

    count: Array
    columns: Array
    rank: Array


def condense(rows: Array, columns: Array, extents: tuple[int, int], height: int) -> Condensed:
    """The distinct columns of each window of `height` rows; `extents` are rows and columns."""
    windows = -(-extents[0] // height)
    window, keys = rows // height, [windows, extents[1]]
    again = repeats(rows, columns, extents)
    if again is None:
        sorting = sort([window, columns], keys)
    else:
        sorting = sort([window, columns, again], [*keys, int(again.max()) + 1])
    found = sorting.arrange(columns)[sorting.first]
    count = np.bincount(sorting.arrange(window)[sorting.first], minlength=windows)
    rank = np.empty(len(rows), np.int64)
    ranks = np.cumsum(sorting.first) - 1
    if sorting.permutation is None:
        rank = ranks
    else:
        rank[sorting.permutation] = ranks
    return Condensed(count, found, rank)


def repeats(rows: Array, columns: Array, extents: tuple[int, int]) -> Array | None:
    """For each element, how many before it have its row and its column; None if none has any."""
    sorting = sort([rows, columns], list(extents))
    if sorting.first.all():
        return None
    begin = np.flatnonzero(sorting.first)
    number = np.arange(len(rows)) - np.repeat(begin, np.diff(begin, append=len(rows)))
    if sorting.permutation is None:
        return number
    again = np.empty(len(rows), np.int64)
    again[sorting.permutation] = number
    return again


def build_sgt(bound: Bound) -> dict[str, Part]:
    """The windows, and the positions of their columns."""
    row, col = bound.format.fields
    height, width = bound.format.numbers
    extents = (bound.extent(row), bound.extent(col))
    rows = bound.map(row)
    made = condense(rows, bound.map(col), extents, height)
    blocks = -(-made.count // width)
    padded = blocks * width
    size = check_positions(bound, int(padded.sum()))
    begin, packed = starts(padded), starts(made.count)
    last = np.maximum(np.repeat(made.count, padded) - 1, 0)
    source = np.repeat(packed[:-1], padded) + np.minimum(within(padded), last)
    window = np.repeat(np.arange(len(padded)), padded)
    owner = rows // height
    column = begin[owner] + made.rank - packed[owner]
    fields = (int32(window), int32(made.columns[source]))
    return {
        "window": Part(len(padded)),
        "column": Part(size, fields, (int32(column), int32(rows - owner * height))),
    }
