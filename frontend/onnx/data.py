"""What an imported model brings to a call: its arrays, and the sets that its indices are.

Enters: the initialisers and index sets of a model, and what a caller or a data file gives. Leaves:
what `bind` and functions take. A file may replace initialisers; an input of indices that nobody
gives is drawn from the seed, within range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.frontend.compiled.signature import Signature
from hectorite.frontend.data.file import Data
from hectorite.frontend.data.inputs import DEFAULT_SIZE
from hectorite.ir.diagnostics import fail

Array = np.ndarray[Any, Any]
Dim = int | str


@dataclass(frozen=True)
class IndexSet:
    """A set whose map `at` is an array of indices into `rows` rows, which are the set `target`.

    `source` is the array, or the name of the graph input that it is; negative indices count from
    the end."""

    name: str
    target: str
    rows: Dim
    source: str | Array


@dataclass(frozen=True)
class Given:
    """`arrays` by parameter; `inputs` gives the parameter of each input of the model."""

    arrays: Mapping[str, Array]
    index_sets: tuple[IndexSet, ...]
    inputs: Mapping[str, str]

    def sets(self, arguments: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
        """What `bind` takes, from arguments by parameter. Raises `HectoriteError` for an index that
        no row has."""
        found = dict[str, Any]()
        for each in self.index_sets:
            source, name = each.source, each.name
            if isinstance(source, str):
                source, name = np.asarray(arguments[self.inputs[source]]), source
            rows = each.rows if isinstance(each.rows, int) else sizes[each.rows]
            found[each.target] = rows
            found[each.name] = {"at": _positions(source, rows, name)}
        return found

    def data(
        self, data: Data | None, signature: Signature, sizes: Mapping[str, int], seed: int
    ) -> Data:
        """Data with all that the model brings beside what is given."""
        held = dict[str, Array](self.arrays)
        if data is not None:
            held |= {key: data[key] for key in data.keys}
        by_name = {parameter.name: parameter for parameter in signature.parameters}
        known = dict(sizes)
        for name, array in held.items():
            if name in by_name:
                for dim, length in zip(by_name[name].dims, array.shape, strict=False):
                    known.setdefault(str(dim), length)
        for each in self.index_sets:
            name = self.inputs[each.source] if isinstance(each.source, str) else None
            if name is not None and name not in held:
                rows = known.setdefault(str(each.rows), DEFAULT_SIZE)
                rows = each.rows if isinstance(each.rows, int) else rows
                parameter = by_name[name]
                shape = [
                    dim if isinstance(dim, int) else known.setdefault(dim, DEFAULT_SIZE)
                    for dim in parameter.dims
                ]
                drawn = np.random.default_rng(seed % 2**64).integers(0, max(rows, 1), shape)
                held[name] = drawn.astype(parameter.element.storage)
        sets = self.sets(held, known)
        for each in self.index_sets:
            held[each.target] = np.asarray(sets[each.target])
            held[f"{each.name}.at"] = sets[each.name]["at"]
        return Data("the model" if data is None else data.source, held)


def _positions(indices: Array, rows: int, name: str) -> Array:
    """Indices as positions; those below zero count from the end."""
    flat = indices.ravel().astype(np.int64)
    if flat.size and not (-rows <= flat.min() and flat.max() < rows):
        wrong = flat[(flat < -rows) | (flat >= rows)][0]
        raise fail(f"`{name}` holds the index {wrong}", expected=f"{-rows} to {rows - 1}")
    return np.where(flat < 0, flat + rows, flat).astype(np.int32)
