"""The arrays that `tile.layout` stands for, from bound data.

Enters: a binding, and what a `tile.layout` operation asks for. Leaves: one int32 array, contiguous,
which belongs to the binding and must not be written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hectorite.backends.access import column
from hectorite.backends.binding import Binding
from hectorite.ir.index import IndexExpr

Array = np.ndarray[Any, Any]


def layout_data(
    binding: Binding,
    what: str,
    of: str,
    keys: tuple[IndexExpr, ...] = (),
    path: IndexExpr | None = None,
    limit: int = 0,
) -> Array:
    """The layout `what` of the set `of`; `dialects/tile_program.py` says what each is."""
    if what == "map":
        values = column(binding, of, _given(path))
    elif what == "order":
        permutation = binding.order(of, keys)
        values = binding.path(of, ()) if permutation is None else permutation
    elif what == "along":
        values = binding.along(of, keys, _given(path))
    elif what == "segments":
        values = binding.segments(of, keys)
    elif what == "cuts":
        values = binding.cuts(of, keys, limit)
    else:
        values = _of_runs(binding, what, of, keys, path, limit)
    return np.ascontiguousarray(values, np.int32)


def _of_runs(
    binding: Binding,
    what: str,
    of: str,
    keys: tuple[IndexExpr, ...],
    path: IndexExpr | None,
    limit: int,
) -> Array:
    runs = binding.runs(of, keys, limit)
    if what == "runs":
        return runs.start
    if what == "run_groups":
        return runs.block
    permutation = binding.order(of, keys)
    first = runs.start[:-1] if permutation is None else permutation[runs.start[:-1]]
    return column(binding, of, _given(path))[first]


def _given(path: IndexExpr | None) -> IndexExpr:
    assert path is not None, "the verifier of tile.layout asks for a path"
    return path
