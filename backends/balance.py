"""Shares of the tasks of a kernel, where a row may be much longer than the others.

Enters: pointers of segments. Leaves: the rows of each task of a CPU, and which part of what these
rows make it is to do (`shares`), or which of the elements of a long row (`spans`); or the elements
of each task of a GPU, and where what it makes of a part of a row is put (`row_parts`). Nothing here
depends on the number of threads, or on the device, so neither do results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hectorite.backends.order import cuts

Array = np.ndarray[Any, Any]

PARTS = 4
"""Tasks of a long row. Each visits all its elements, so more would visit them more often."""
LONG = 8
"""A row with more than this part of all elements is long: it is a task that others wait for."""
LEAST = 512
"""Elements that a long row has at least."""


def shares(pointers: Array, parts: int) -> Array:
    """int32[4 * tasks]: for each task the rows from and to which it goes, and which part of how
    many it does of what they make. Long rows stand alone and are several tasks, the others are
    shared out as `cuts` does."""
    lengths = np.diff(pointers)
    long = np.flatnonzero(lengths > max(LEAST, int(pointers[-1]) // LONG))
    bounds = np.unique(np.concatenate([cuts(pointers, parts), long, long + 1]))
    times = np.where(np.isin(bounds[:-1], long), PARTS, 1)
    ahead = np.cumsum(times) - times
    part = np.arange(int(times.sum())) - np.repeat(ahead, times)
    columns = (bounds[:-1], bounds[1:], None, times)
    spread = [part if each is None else np.repeat(each, times) for each in columns]
    return _frozen(np.stack(spread, axis=1))


SPLIT = 1 << 14
"""Elements of a row that is worth being put together from parts by a CPU."""
PIECES = 64
"""Parts of a row that has all elements; of all long rows together there are a few more."""


def spans(pointers: Array, parts: int) -> tuple[Array, Array]:
    """int32[4 * tasks]: for each task of a CPU the rows from and to which it goes, 0, -1; or of a
    long row its number, the places from and to which it does the row's elements, and the number of
    that part; and int32[3 * rows]: the long rows, with the parts from and to which they are."""
    lengths = np.diff(pointers).astype(np.int64)
    total = int(lengths.sum())
    long = np.flatnonzero(lengths > max(SPLIT, total // LONG))
    bounds = np.unique(np.concatenate([cuts(pointers, parts), long, long + 1]))
    whole = bounds[:-1][~np.isin(bounds[:-1], long)]
    after = bounds[1:][~np.isin(bounds[:-1], long)]
    counts = -(-PIECES * lengths[long] // max(1, total))
    row, places, ends = _in_parts(pointers, long, counts)
    short = np.stack([whole, after, np.zeros_like(whole), np.full_like(whole, -1)], axis=1)
    pieces = np.stack([row, *places, np.arange(len(row))], axis=1)
    return (
        _frozen(np.concatenate([pieces, short])),
        _frozen(np.stack([long, ends - counts, ends], axis=1)),
    )


def _in_parts(
    pointers: Array, long: Array, counts: Array
) -> tuple[Array, tuple[Array, Array], Array]:
    """The row of each part, the places from and to which it goes, and for each of the rows where
    its parts end, if they have so many."""
    ends = np.cumsum(counts)
    row, count = np.repeat(long, counts), np.repeat(counts, counts)
    number = np.arange(len(row)) - np.repeat(ends - counts, counts)
    begin = pointers[row].astype(np.int64)
    length = pointers[row + 1] - begin
    return row, (begin + number * length // count, begin + (number + 1) * length // count), ends


PART = 256
"""Elements of a part of a long row at least."""


def row_parts(pointers: Array, most: int) -> tuple[Array, Array]:
    """int32[4 * tasks]: for each task of a GPU its row, the places from and to which it does the
    row's elements, and the number of the part that these are, -1 if they are the whole row; and
    int32[3 * rows]: the rows that are in parts, with the parts from and to which they are.

    There are at most `most` parts. The longest of all rows come first, each in parts of as many
    elements as it has parts if it is so long, so that putting these together takes no longer.
    """
    lengths = np.diff(pointers).astype(np.int64)
    size = max(PART, -(-2 * int(lengths.sum()) // most))
    long = np.flatnonzero(lengths > size)
    sizes = np.maximum(size, np.ceil(np.sqrt(lengths[long])).astype(np.int64))
    counts = -(-lengths[long] // sizes)
    row, cut, ends = _in_parts(pointers, long, counts)
    slot = np.arange(len(row))
    rest = np.flatnonzero(lengths <= size)
    whole = rest, pointers[rest], pointers[rest + 1], np.full(len(rest), -1)
    pieces = [np.concatenate(pair) for pair in zip((row, *cut, slot), whole, strict=True)]
    return _frozen(np.stack(pieces, axis=1)), _frozen(np.stack([long, ends - counts, ends], axis=1))


def _frozen(table: Array) -> Array:
    found = table.astype(np.int32).ravel()
    found.flags.writeable = False
    return found
