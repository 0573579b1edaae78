"""ell: as many slots for each row as the fullest row has elements.

Padding has the row it stands in; its other maps are those of the first element of the row, or of
element 0 where the row has none.
"""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Bound, Part, check_positions, int32, starts
from hectorite.backends.order import sort


def build_ell(bound: Bound) -> dict[str, Part]:
    """Slots row by row, all of one number."""
    (row,) = bound.format.fields
    rows, count = bound.map(row), bound.extent(row)
    degree = np.bincount(rows, minlength=count)
    width = int(degree.max(initial=0))
    size = check_positions(bound, count * width)
    sorting = sort([rows], [count])
    elements = sorting.arrange(np.arange(bound.size, dtype=np.int32))
    begin = starts(degree)
    first = np.zeros(count, np.int32)
    first[degree > 0] = elements[begin[:-1][degree > 0]]
    slot_row = np.repeat(np.arange(count, dtype=np.int32), width)
    elem = np.repeat(first, width)
    sorted_rows = sorting.arrange(rows).astype(np.int64)
    slots = np.arange(bound.size) + sorted_rows * width - begin[sorted_rows]
    elem[slots] = elements
    full = np.zeros(size, np.int32)
    full[slots] = 1
    place = np.empty(bound.size, np.int32)
    place[elements] = slots
    return {"slot": Part(size, (*bound.positions(elem, {row: slot_row}), full), (int32(place),))}
