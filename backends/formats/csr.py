"""csr, csc and jagged: elements sorted by one field, and maybe by a second."""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Bound, Part, inverse
from hectorite.backends.order import sort
from hectorite.ir.diagnostics import fail


def build_csr(bound: Bound) -> dict[str, Part]:
    """Elements in the order of `f`, then of `g`, else as they were."""
    (row,), by = bound.format.fields, bound.format.by
    keys = [row] if by is None else [row, by]
    sorting = sort([bound.map(key) for key in keys], [bound.extent(key) for key in keys])
    elem = sorting.permutation
    if elem is None:
        elem = np.arange(bound.size, dtype=np.int32)
    return {"element": Part(bound.size, bound.positions(elem), (inverse(elem),))}


def build_jagged(bound: Bound) -> dict[str, Part]:
    """Elements as they are. Raises `HectoriteError` if they are not in the order of their row."""
    check_jagged(bound)
    elem = np.arange(bound.size, dtype=np.int32)
    return {"element": Part(bound.size, bound.positions(elem), (elem,))}


def check_jagged(bound: Bound) -> None:
    """Raises `HectoriteError` naming the first element that stands before an element of an earlier
    row."""
    (row,) = bound.format.fields
    rows = bound.map(row)
    back = rows[1:] < rows[:-1]
    if back.any():
        at = int(np.argmax(back)) + 1
        over, element = _given_as(bound, at)
        part = "" if over == bound.over else "a part of "
        raise fail(
            f"{part}`{over} as {bound.format}` is out of order: {over}.{row}[{element}] is "
            f"{rows[at]}, after {rows[at - 1]}",
            expected=f"elements in the order of `{row}`",
            hint=f"sort them, or declare it csr({row}), which sorts them when they are bound",
        )


def _given_as(bound: Bound, at: int) -> tuple[str, int]:
    """The set that is given, and which of its elements an element of a part of it stands for."""
    source, over = bound.source, bound.over
    while (encoded := source.schema.sets[over].encoded) is not None:
        fields = source.schema.sets[over].fields
        elem = next(name for name, target in fields[::-1] if target == encoded.of)
        over, at = encoded.of, int(source.map(over, elem)[at])
    return over, at
