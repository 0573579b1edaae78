"""Sets made up to check a program on: empty, tiny, uneven, skewed.

Enters: a schema, the name of a shape, and a seed. Leaves: what `bind` takes. Every shape exists for
every program, whatever its sets are called and however they map into each other:

    empty   no set has an element
    bare    sets that others map into have a few, sets that map have none
    tiny    one to three elements
    uneven  sizes that are no multiples of anything; maps uniform, so that some targets are missed
    skewed  most elements map to one target; many are equal; half of the targets are missed
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.set_format import resolve

Array = np.ndarray[Any, Any]
SHAPES = ("empty", "bare", "tiny", "uneven", "skewed")

TARGETS = (23, 5, 11, 37, 3)
"""Sizes of sets that others map into, by turns."""

MAPPING = 277
"""Elements of a set that maps into others and into which nothing maps."""


def generate_sets(schema: Schema, shape: str, seed: int) -> dict[str, Any]:
    """Sizes and int32 maps for every set of a schema that is not derived."""
    generator = np.random.default_rng([seed % 2**64, SHAPES.index(shape)])
    given = [decl for decl in schema.sets.values() if decl.given]
    mapped_into = {target for decl in given for _, target in decl.fields}
    sizes = {
        decl.name: _size(shape, bool(decl.fields) and decl.name not in mapped_into, turn, generator)
        for turn, decl in enumerate(given)
    }
    # A map needs somewhere to lead: without targets there are no elements.
    for _ in given:
        for decl in given:
            if any(sizes[target] == 0 for _, target in decl.fields):
                sizes[decl.name] = 0
    sets: dict[str, Any] = {}
    for decl in given:
        if not decl.fields:
            sets[decl.name] = sizes[decl.name]
            continue
        count = sizes[decl.name]
        sets[decl.name] = {
            field: _map(shape, count, sizes[target], generator) for field, target in decl.fields
        }
        _keep_format(decl, sets[decl.name])
    return sets


def _keep_format(decl: SetDecl, maps: dict[str, Array]) -> None:
    """A jagged set has its elements in the order of their rows."""
    if decl.format is not None and decl.format.startswith("jagged"):
        (row,) = resolve(list(maps), decl.format).fields
        maps[row] = np.sort(maps[row])


def _size(shape: str, only_maps: bool, turn: int, generator: np.random.Generator) -> int:
    if shape == "empty" or (shape == "bare" and only_maps):
        return 0
    if shape in ("bare", "tiny"):
        return int(generator.integers(1, 4))
    return MAPPING + turn if only_maps else TARGETS[turn % len(TARGETS)]


def _map(shape: str, count: int, targets: int, generator: np.random.Generator) -> Array:
    if count == 0:
        return np.zeros(0, np.int32)
    values = generator.integers(0, targets, count)
    if shape == "skewed":
        popular = generator.integers(0, targets)
        values = np.where(generator.random(count) < 0.7, popular, values // 2 * 2 % targets)
    return values.astype(np.int32)
