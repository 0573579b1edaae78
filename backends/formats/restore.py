"""The way back from a format: the maps of a set from its position sets.

Enters: a format, the fields of its set, and the parts that binding built. Leaves: for each field
that the parts know of, int32[elements] as it was given. That is every field, but of `sgt` and `bsr`
only the row and the column; of `dedup`, elements come back row by row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hectorite.backends.formats.parts import Array, Part, int32, starts, within
from hectorite.ir.set_format import SetFormat

Maps = dict[str, Array]


def restore(format: SetFormat, fields: Sequence[str], parts: Mapping[str, Part]) -> Maps:
    """The maps of the elements, in their order. `coo` has no parts, and nothing comes back."""
    if format.kind == "sgt":
        return _from_windows(format, parts)
    if format.kind == "bsr":
        return _from_blocks(format, parts)
    if format.kind == "dedup":
        return _from_unique(format, fields, parts)
    if format.kind == "permute":
        back = _from_copies(fields, [parts["element"]])
        (row,) = format.fields
        return back | {row: parts["rows"].fields[0][back[row]]}
    return _from_copies(fields, [p for name, p in parts.items() if name not in ("read", "write")])


def _from_copies(fields: Sequence[str], parts: Sequence[Part]) -> Maps:
    """Positions that stand for elements say of which."""
    chosen = [_full(part, len(fields)) for part in parts]
    size = sum(len(elem) for elem, _ in chosen)
    maps: Maps = {}
    for number, field in enumerate(fields):
        maps[field] = np.empty(size, np.int32)
        for part, (elem, full) in zip(parts, chosen, strict=True):
            maps[field][elem] = part.fields[number][full]
    return maps


def _full(part: Part, fields: int) -> tuple[Array, Array]:
    """Elements, and the positions that hold them."""
    elem = part.fields[fields]
    full = part.fields[fields + 1] if len(part.fields) > fields + 1 else np.ones(part.size)
    positions = np.flatnonzero(full)
    return elem[positions], positions


def _from_windows(format: SetFormat, parts: Mapping[str, Part]) -> Maps:
    (window, columns), (column, lane) = parts["column"].fields, parts["column"].gives
    row, col = format.fields
    return {row: int32(window[column] * format.numbers[0] + lane), col: columns[column]}


def _from_blocks(format: SetFormat, parts: Mapping[str, Part]) -> Maps:
    (band, strip), (block, down, across) = parts["block"].fields, parts["block"].gives
    (row, col), (height, width) = format.fields, format.numbers
    return {
        row: int32(band[block] * height + down),
        col: int32(strip[block] * width + across),
    }


def _from_unique(format: SetFormat, fields: Sequence[str], parts: Mapping[str, Part]) -> Maps:
    """Rows with what the unique row that stands for each holds, row by row."""
    (unique,), (owner, *kept) = parts["unique"].gives, parts["element"].fields
    rest = [field for field in fields if field != format.fields[0]]
    degree = np.bincount(owner, minlength=parts["unique"].size)
    begin = starts(degree)[:-1][unique]
    at = np.repeat(begin, degree[unique]) + within(degree[unique])
    maps: Maps = {format.fields[0]: int32(np.repeat(np.arange(len(unique)), degree[unique]))}
    return maps | {field: kept[number][at] for number, field in enumerate(rest)}
