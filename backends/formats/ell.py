"""ell: as many slots for each row as the fullest row has elements, or the fullest of its slice: of
so many rows that stand next to each other.

Padding has the row it stands in; its other maps are those of the first element of the row, or where
it has none of the next row that has one, so that no value of them is that of much padding.
"""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Array, Bound, Part, check_positions, int32, starts
from hectorite.backends.order import sort


def build_ell(bound: Bound) -> dict[str, Part]:
    """Slots row by row, those of one slice all of one number."""
    (row,), (slice,) = bound.format.fields, bound.format.numbers
    rows, count = bound.map(row), bound.extent(row)
    degree = np.bincount(rows, minlength=count)
    width = widths(degree, slice)
    slot_begin = starts(width)
    size = check_positions(bound, int(slot_begin[-1]))
    sorting = sort([rows], [count])
    elements = sorting.arrange(np.arange(bound.size, dtype=np.int32))
    begin = starts(degree)
    slot_row = np.repeat(np.arange(count, dtype=np.int32), width)
    elem = np.repeat(elements[np.minimum(begin[:-1], bound.size - 1)], width) if size else elements
    slots = np.arange(bound.size) + (slot_begin - begin)[sorting.arrange(rows)]
    elem[slots] = elements
    full = np.zeros(size, np.int32)
    full[slots] = 1
    place = np.empty(bound.size, np.int32)
    place[elements] = slots
    return {"slot": Part(size, (*bound.positions(elem, {row: slot_row}), full), (int32(place),))}


def widths(degree: Array, slice: int) -> Array:
    """int64[rows]: the slots of each row, from its number of elements and those of its slice, which
    is so many rows, or all of them if that is 0."""
    if not len(degree):
        return degree
    height = slice or len(degree)
    fullest = np.maximum.reduceat(degree, np.arange(0, len(degree), height))
    return np.repeat(fullest, height)[: len(degree)]
