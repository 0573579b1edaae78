"""bsr: the blocks of a grid that hold an element, in order.

An element is found at (its block, its row in the block, its column in the block). Where several
elements have one place, the block is there as often as that.
"""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Bound, Part, int32
from hectorite.backends.formats.sgt import repeats
from hectorite.backends.order import sort


def build_bsr(bound: Bound) -> dict[str, Part]:
    """Bands of rows, strips of columns, and the blocks where one crosses another."""
    row, col = bound.format.fields
    height, width = bound.format.numbers
    rows, columns = bound.map(row), bound.map(col)
    bands, strips = -(-bound.extent(row) // height), -(-bound.extent(col) // width)
    band, strip = rows // height, columns // width
    again = repeats(rows, columns, (bound.extent(row), bound.extent(col)))
    keys, counts = [band, strip], [bands, strips]
    if again is not None:
        keys, counts = [*keys, again], [*counts, int(again.max()) + 1]
    sorting = sort(keys, counts)
    block = np.empty(bound.size, np.int64)
    order = slice(None) if sorting.permutation is None else sorting.permutation
    block[order] = np.cumsum(sorting.first) - 1
    fields = tuple(int32(sorting.arrange(each)[sorting.first]) for each in (band, strip))
    gives = (int32(block), int32(rows - band * height), int32(columns - strip * width))
    return {
        "band": Part(bands),
        "strip": Part(strips),
        "block": Part(sorting.count, fields, gives),
    }
