"""Elements in tables with a place for each row: what a GPU multiplies block by block.

Enters: for each element the row that it is summed into, and what else it has in common with others
(the offset of a sparse convolution, a type). Leaves: `Slots`. Rows are in blocks of `height`; a
block has an entry for each other key that its elements have, with the element of each of its rows
that has one. Where a row has several elements alike, there are several entries.

    pairs (row, k): (0, a) (0, b) (1, b) (2, a) (2, a)       blocks of 4 rows
    entry   row 0   1   2   3
      a       0     -   3   -
      a       -     -   4   -
      b       1     2   -   -
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.backends.order import sort

Array = np.ndarray[Any, Any]

MASK_BITS = 62
"""Keys that rows can be put in order of."""
WORTH_AN_ORDER = 0.9
"""Rows stand in another order if that takes fewer entries by this factor: where they stand is where
their neighbours are."""


@dataclass(frozen=True)
class Slots:
    """Blocks of `rows` (int32[blocks * height], -1 past the last row). Block `b` has the entries
    `block[b] .. block[b + 1] - 1`; `element` (int32[entries * height]) are their elements, -1
    where a row has none, and `first` (int32[entries]) is an element of each."""

    rows: Array
    block: Array
    element: Array
    first: Array

    def along(self, values: Array) -> Array:
        """int32[entries * height]: a value of each element, -1 where there is none."""
        if not len(values):
            return self.element
        return frozen(np.where(self.element < 0, -1, values[self.element]))


def slots(columns: Sequence[Array], extents: Sequence[int], height: int) -> Slots:
    """The slots of elements whose rows are the first column; columns are as for `order.sort`."""
    rows, count, others = extents[0], len(columns[0]), list(columns[1:])
    key, kinds = np.zeros(count, np.int64), 1
    if others and count:
        sorting = sort(others, list(extents[1:]))
        number = np.cumsum(sorting.first) - 1
        kinds = int(number[-1]) + 1
        key[_places(sorting.permutation, count)] = number
    again = _repeats(columns[0].astype(np.int64) * kinds + key)
    place = _order(columns[0], key, rows, kinds, height)
    blocks = -(-rows // height)
    times = int(again.max(initial=0)) + 1
    at = place[columns[0]]
    code = (at // height * kinds + key) * times + again
    entries, entry = np.unique(code, return_inverse=True)
    element = np.full(len(entries) * height, -1, np.int64)
    element[entry * height + at % height] = np.arange(count)
    table = np.full(blocks * height, -1, np.int64)
    table[place] = np.arange(rows)
    block = np.searchsorted(entries, np.arange(blocks + 1) * kinds * times)
    first = np.zeros(len(entries), np.int64)
    first[entry] = np.arange(count)
    return Slots(*map(frozen, (table, block, element, first)))


def _order(row: Array, key: Array, rows: int, kinds: int, height: int) -> Array:
    """The place of each row: its own, or beside rows with the same keys if that saves entries."""
    own = np.arange(rows)
    if kinds > MASK_BITS or not len(row):
        return own
    mask = np.zeros(rows, np.int64)
    np.bitwise_or.at(mask, row, np.left_shift(1, key))
    alike = np.empty(rows, np.int64)
    alike[np.argsort(mask, kind="stable")] = own
    after, before = (_entries(place[row], key, kinds, height) for place in (alike, own))
    return alike if after < WORTH_AN_ORDER * before else own


def _entries(place: Array, key: Array, kinds: int, height: int) -> int:
    return len(np.unique(place.astype(np.int64) // height * kinds + key))


def _repeats(code: Array) -> Array:
    """How many elements before each have the same code."""
    order = np.argsort(code, kind="stable")
    in_order = code[order]
    starts = np.flatnonzero(np.append(True, in_order[1:] != in_order[:-1]))[: len(code)]
    lengths = np.diff(np.append(starts, len(code)))
    found = np.empty(len(code), np.int64)
    found[order] = np.arange(len(code)) - np.repeat(starts, lengths)
    return found


def _places(permutation: Array | None, count: int) -> Array:
    return np.arange(count) if permutation is None else permutation


def frozen(array: Array) -> Array:
    """A read-only int32 array."""
    found = np.ascontiguousarray(array, dtype=np.int32)
    found.flags.writeable = False
    return found
