"""dedup: rows with equal contents are stored once.

Rows are equal if the other maps of their elements are, element by element in their order. Unique
rows are numbered as they first occur; rows without elements are all equal.
"""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Array, Bound, Part, int32, starts, within
from hectorite.backends.order import sort

_SEED = 0x9E3779B97F4A7C15


def build_dedup(bound: Bound) -> dict[str, Part]:
    """The unique rows, and the elements of each."""
    (row,) = bound.format.fields
    rows, count = bound.map(row), bound.extent(row)
    sorting = sort([rows], [count])
    elements = sorting.arrange(np.arange(bound.size, dtype=np.int32))
    degree = np.bincount(rows, minlength=count)
    begin = starts(degree)
    rest = [name for name in bound.targets if name != row]
    # Where an element of a part leads back to is no content of its row.
    given = [name for name in bound.source.schema.given_fields(bound.over) if name != row]
    contents = np.stack([bound.map(name)[elements] for name in given] or [elements * 0], axis=1)
    first = _representatives(contents, degree, begin)
    kept, unique = np.unique(first, return_inverse=True)
    chosen = np.repeat(begin[kept], degree[kept]) + within(degree[kept])
    elem = elements[chosen]
    own = (bound.map(name)[elem] for name in rest)
    owner = np.repeat(np.arange(len(kept)), degree[kept])
    fields = tuple(map(int32, (owner, *own, elem)))
    return {
        "unique": Part(len(kept), (), (int32(unique),)),
        "element": Part(len(elem), fields),
    }


def _representatives(contents: Array, degree: Array, begin: Array) -> Array:
    """int64[rows]: the first row with the same contents.

    Rows are matched by a hash, which is then checked against the contents themselves.
    """
    _, code = np.unique(_hashes(contents, degree, begin), return_inverse=True)
    count = int(code.max(initial=-1)) + 1
    first = np.full(count, len(degree), np.int64)
    np.minimum.at(first, code, np.arange(len(degree)))
    first = first[code]
    if _differ(contents, degree, begin, first):
        return _exactly(contents, degree, begin)
    return first


def _hashes(contents: Array, degree: Array, begin: Array) -> Array:
    """uint64[rows]: a number that is equal for equal rows."""
    lane = within(degree).astype(np.uint64)
    mixed = _mix(lane)
    for values in contents.T:
        mixed = _mix(mixed ^ values.astype(np.uint64))
    total = np.zeros(len(mixed) + 1, np.uint64)
    np.cumsum(mixed, out=total[1:])
    return _mix((total[begin[1:]] - total[begin[:-1]]) ^ degree.astype(np.uint64))


def _mix(values: Array) -> Array:
    """Each bit of a result depends on every bit of its value."""
    values = (values + np.uint64(_SEED)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _differ(contents: Array, degree: Array, begin: Array, first: Array) -> bool:
    """Whether some row is not what its representative is."""
    if (degree != degree[first]).any():
        return True
    at = np.repeat(begin[first], degree) + within(degree)
    return bool((contents[at] != contents).any())


def _exactly(contents: Array, degree: Array, begin: Array) -> Array:
    """The same without hashes, row by row, for data on which they fail."""
    known: dict[bytes, int] = {}
    rows = range(len(degree))
    keys = (contents[begin[row] : begin[row] + degree[row]].tobytes() for row in rows)
    return np.array([known.setdefault(key, row) for row, key in zip(rows, keys, strict=True)])
