"""split: elements of rows that have few, and those of rows that have many."""

from __future__ import annotations

import numpy as np

from hectorite.backends.formats.parts import Bound, Part, int32


def build_split(bound: Bound) -> dict[str, Part]:
    """Both parts, their elements in the order in which they were given."""
    (row,), (most,) = bound.format.fields, bound.format.numbers
    rows = bound.map(row)
    few = np.bincount(rows, minlength=bound.extent(row))[rows] <= most
    chosen = {"few": int32(np.flatnonzero(few)), "many": int32(np.flatnonzero(~few))}
    return {name: Part(len(elem), bound.positions(elem)) for name, elem in chosen.items()}
