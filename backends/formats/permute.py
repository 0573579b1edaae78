"""permute: the rows of a set in another order, and its elements by where their rows stand."""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Array, Bound, Part, int32, inverse
from hectorite.backends.order import sort
from hectorite.ir.diagnostics import fail


def build_permute(bound: Bound) -> dict[str, Part]:
    """The rows, and the elements. Raises `HectoriteError` for a given order that is none."""
    (row,) = bound.format.fields
    rows, count = bound.map(row), bound.extent(row)
    if bound.format.by == "degree":
        order = _by_degree(rows, count)
    elif bound.format.by == "similar":
        order = _by_columns(bound, rows, count)
    else:
        order = _given(bound, count)
    place = inverse(order)
    at = place[rows]
    elements = np.arange(bound.size, dtype=np.int32)
    elem = sort([at], [count]).arrange(elements)
    fields = bound.positions(elem, {row: at[elem]})
    return {
        "rows": Part(count, (int32(order),), (place,)),
        "element": Part(bound.size, fields, (inverse(elem),)),
    }


def _by_degree(rows: Array, count: int) -> Array:
    """Rows with the most elements first, else as they were."""
    return np.argsort(-np.bincount(rows, minlength=count), kind="stable")


def _by_columns(bound: Bound, rows: Array, count: int) -> Array:
    """Rows by the most frequent of their columns, the most frequent of all first: rows that share
    it stand together. Rows without elements come last."""
    others = [name for name in bound.targets if name != bound.format.fields[0]]
    if not others:
        return _by_degree(rows, count)
    columns = bound.map(others[0]).astype(np.int64)
    extent = max(1, bound.extent(others[0]))
    frequency = np.bincount(columns, minlength=extent)[columns]
    best = np.full(count, -1, np.int64)
    np.maximum.at(best, rows, frequency * extent + columns)
    return np.argsort(-best, kind="stable")


def _given(bound: Bound, count: int) -> Array:
    """The order in which a map of the rows has them."""
    target, field = bound.targets[bound.format.fields[0]], str(bound.format.by)
    place = bound.source.map(target, field)
    times = np.bincount(place, minlength=count)
    if (times != 1).any():
        twice = int(np.argmax(times > 1))
        first, second = np.flatnonzero(place == twice)[:2]
        raise fail(
            f"`{bound.over} as {bound.format}`: {target}.{field}[{first}] and "
            f"{target}.{field}[{second}] are both {twice}",
            expected=f"every place from 0 to {count - 1} once",
        )
    return inverse(place)
