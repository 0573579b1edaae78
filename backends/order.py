"""Adjacency in the order a kernel wants, from plain integer columns.

Enters: columns of keys, one value for each element of a set. Leaves: the stable permutation that
sorts the elements by those keys, where each run of equal keys starts, and boundaries that share
the work out evenly. Nothing here depends on the number of threads, so neither do results.

One idea makes it fast: a key tuple and the position of its element are packed into one 64-bit
integer. Sorting those needs no indirection, is stable because positions differ, and gives both the
permutation (the low bits) and the sorted keys (the high bits). A million elements take 10 ms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

PACKED_BITS = 63
"""Bits of a non-negative 64-bit integer."""


class Sorting:
    """Elements in the order of their keys.

    `permutation` is int32[n], or None if they are in order already, so that a kernel can do
    without indirection. `first` is bool[n]: whether the key tuple differs from the one before. It
    is worked out when someone looks.
    """

    def __init__(self, permutation: Array | None, first: Callable[[], Array]):
        self.permutation = permutation
        self._first = first

    @cached_property
    def first(self) -> Array:
        return self._first()

    @property
    def count(self) -> int:
        """How many different key tuples there are."""
        return int(np.count_nonzero(self.first))

    def arrange(self, values: Array) -> Array:
        """`values` (one for each element) in this order; `values` itself if that is no change."""
        return values if self.permutation is None else values[self.permutation]


@dataclass(frozen=True)
class Runs:
    """Stretches of equal keys, in sorted order, none longer than a limit.

    Run `r` covers the sorted elements `start[r] .. start[r + 1] - 1`, all of which have the keys
    `keys[0][r], keys[1][r], ...`. The runs of the value `b` of the first key are
    `block[b] .. block[b + 1] - 1`. All arrays are int32 and, like those of a sorting, read-only.
    """

    start: Array
    keys: tuple[Array, ...]
    block: Array

    def __len__(self) -> int:
        return len(self.start) - 1


def sort(columns: Sequence[Array], extents: Sequence[int]) -> Sorting:
    """Sort elements lexicographically by their keys, stably.

    `columns` are integer arrays of one length, `columns[k]` with values in 0 .. extents[k] - 1.
    """
    count = len(columns[0])
    if count == 0:
        return Sorting(None, lambda: np.zeros(0, np.bool_))
    if len(columns) == 1 and not (columns[0][1:] < columns[0][:-1]).any():
        return Sorting(None, lambda: _first(columns, None))
    width = PACKED_BITS - _bits(count)
    order: Array | None = None
    # From the last keys to the first, each pass sorting by as many keys as fit one integer.
    stop = len(columns)
    while stop:
        start = _fitting(extents, stop, width)
        if start == stop:
            raise ValueError(f"a key of extent {extents[stop - 1]} is too wide to sort by")
        code = pack(columns[start:stop], extents[start:stop])
        order = _pass(code if order is None else code[order], order)
        stop = start
    # What one pass moved a later one may have moved back.
    if order is not None and bool((order == np.arange(count)).all()):
        order = None
    return Sorting(None if order is None else _frozen(order), lambda: _first(columns, order))


def _first(columns: Sequence[Array], order: Array | None) -> Array:
    """Which elements differ from the one before in that order."""
    first = np.zeros(len(columns[0]), np.bool_)
    first[:1] = True
    for column in columns:
        values = column if order is None else column[order]
        first[1:] |= values[1:] != values[:-1]
    return first


def pack(columns: Sequence[Array], extents: Sequence[int]) -> Array:
    """int64[n]: key tuples as single numbers in the same order, if their extents' product fits."""
    code = columns[0].astype(np.int64)
    for column, extent in zip(columns[1:], extents[1:], strict=True):
        code *= extent
        code += column
    return code


def segments(column: Array, extent: int) -> Array:
    """int32[extent + 1]: elements with the value `v` stand at [v] .. [v + 1] - 1 once sorted."""
    pointers = np.zeros(extent + 1, np.int32)
    np.cumsum(np.bincount(column, minlength=extent), out=pointers[1:])
    return pointers


def sorted_already(pointers: Array) -> Sorting:
    """The sorting of elements that stand in order of a key, from what `segments` makes of it."""

    def first() -> Array:
        found = np.zeros(int(pointers[-1]), np.bool_)
        found[pointers[:-1][pointers[1:] > pointers[:-1]]] = True
        return found

    return Sorting(None, first)


def runs(sorting: Sorting, columns: Sequence[Array], extent: int, limit: int) -> Runs:
    """The runs of equal keys under `sorting`, which sorted these columns, cut into pieces of at
    most `limit` elements. `extent` bounds the first key."""
    count = len(sorting.first)
    start = np.flatnonzero(sorting.first)
    length = np.diff(start, append=count)
    pieces = -(-length // limit)
    if (pieces > 1).any():
        ahead = np.cumsum(pieces) - pieces
        within = np.arange(int(pieces.sum())) - np.repeat(ahead, pieces)
        start = np.repeat(start, pieces) + limit * within
    element = start if sorting.permutation is None else sorting.permutation[start]
    keys = tuple(column[element].astype(np.int32) for column in columns)
    bounds = np.append(start, count).astype(np.int32)
    frozen = tuple(_frozen(values) for values in keys)
    return Runs(_frozen(bounds), frozen, _frozen(segments(keys[0], extent)))


def cuts(work: int | Array, parts: int) -> Array:
    """int32[parts + 1]: row boundaries that share rows out evenly.

    `work` is a number of equal rows, or pointers int32[rows + 1] as of `segments`: then a part
    gets about the same number of rows plus elements, so that rows without elements count too.
    """
    shares = np.arange(parts + 1, dtype=np.int64)
    if isinstance(work, int):
        return (shares * work // max(parts, 1)).astype(np.int32)
    rows = len(work) - 1
    done = work.astype(np.int64) + np.arange(rows + 1)
    bounds = np.searchsorted(done, shares * int(done[-1]) // max(parts, 1), side="left")
    bounds[0], bounds[-1] = 0, rows
    return bounds.astype(np.int32)


MERGED = 4
"""Groups of a long row whose sums a task makes into one before it hands that on."""


def pairs(pointers: Array, limit: int) -> Array:
    """int32[4 * tasks]: what each task sums, then hands on, of rows that reach each other by one
    sum each: two stretches of places (lower, upper, lower, upper) in the order of the segments
    `pointers`.

    Rows with at most `limit` elements go together with their neighbours, fewer than twice the limit
    in all, and hand on to the very elements that they sum. A longer row is cut into like groups of
    at most so many elements that it hands on to, and of at most four times as many that it sums;
    each of these sums is handed on to each of those groups by a task of its own.
    """
    rows = np.flatnonzero(np.diff(pointers))
    begin, end = pointers[rows].astype(np.int64), pointers[rows + 1].astype(np.int64)
    is_short = end - begin <= limit
    place = (begin + rows)[is_short] // limit  # rows count as well: a task passes by empty ones
    first = np.append(True, place[1:] != place[:-1])[: len(place)]
    last = np.append(first[1:], True)[: len(place)]
    ends = begin[is_short][first], end[is_short][last]
    short = np.stack([*ends, *ends], axis=1)
    long = [_crossings(*row, limit) for row in zip(begin[~is_short], end[~is_short], strict=True)]
    tasks = np.concatenate([short, *long])
    return tasks[np.lexsort((tasks[:, 2], tasks[:, 0]))].astype(np.int32).ravel()


def _crossings(begin: int, end: int, limit: int) -> Array:
    """The stretches that the tasks of one long row sum and hand on to."""
    count = int(end - begin)
    sums, groups = -(-count // (MERGED * limit)), -(-count // limit)
    read, written = (begin + np.arange(n + 1) * count // n for n in (sums, groups))
    i, j = (part.ravel() for part in np.indices((sums, groups)))
    return np.stack([read[i], read[i + 1], written[j], written[j + 1]], axis=1)


FEW_BLOCKS, MANY_BLOCKS = 8, 64
"""Blocks that rows are cut into at least, where runs become short, and where they do not."""

LONG_RUN = 32
"""Elements of a run that are worth what is fetched for it."""


@dataclass(frozen=True)
class Blocks:
    """Elements by blocks of target rows, and in each block by their other keys.

    Block `b` has the rows `bounds[b] .. bounds[b + 1] - 1`, and the runs `block[b] ..
    block[b + 1] - 1`; the elements of run `r`, alike in all keys but the first, stand at
    `start[r] .. start[r + 1] - 1` of the order, in order of their rows. All arrays are int32;
    `permutation` is None if the elements are in order already.
    """

    bounds: Array
    permutation: Array | None
    start: Array
    block: Array


def blocks(columns: Sequence[Array], extents: Sequence[int], height: int) -> Blocks:
    """The blocks of the first column's values, about `height` of them or fewer each, with like
    numbers of values and elements; `columns` and `extents` are as for `sort`."""
    rows, others = extents[0], list(columns[1:])
    parts = _block_count(rows, len(columns[0]), extents[1:], height)
    bounds = cuts(segments(columns[0], rows), parts)
    of_row = np.repeat(np.arange(parts, dtype=np.int32), np.diff(bounds))
    block = of_row[columns[0]]
    keys = [block, *others]
    sorting = sort([*keys, columns[0]], [parts, *extents[1:], rows])
    in_order = [key if sorting.permutation is None else key[sorting.permutation] for key in keys]
    first = np.zeros(len(block), np.bool_)
    first[:1] = True
    for key in in_order:
        first[1:] |= key[1:] != key[:-1]
    start = np.flatnonzero(first)
    pointers = segments(in_order[0][start], parts)
    ends = np.append(start, len(block)).astype(np.int32)
    return Blocks(_frozen(bounds), sorting.permutation, _frozen(ends), _frozen(pointers))


def _block_count(rows: int, elements: int, others: Sequence[int], height: int) -> int:
    """Enough blocks for many cores, unless each would have few elements of a kind."""
    kinds = max(1, math.prod(others))
    parts = min(max(elements // (kinds * LONG_RUN), FEW_BLOCKS), MANY_BLOCKS)
    return max(min(parts, rows), -(-rows // max(1, height)))


def _frozen(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _bits(count: int) -> int:
    """Bits that hold 0 .. count - 1."""
    return max(0, count - 1).bit_length()


def _fitting(extents: Sequence[int], stop: int, width: int) -> int:
    """Least `start` such that the keys start .. stop - 1 together fit `width` bits."""
    product, start = 1, stop
    while start and (product := product * max(1, extents[start - 1])) <= 1 << width:
        start -= 1
    return start


def _pass(code: Array, order: Array | None) -> Array | None:
    """The permutation `order` followed by a stable sort by `code`; consumes `code`."""
    if not (code[1:] < code[:-1]).any():
        return order
    bits = _bits(len(code))
    code <<= bits
    code |= np.arange(len(code))
    code.sort()
    code &= (1 << bits) - 1
    permutation = code.astype(np.int32)
    return permutation if order is None else order[permutation]
