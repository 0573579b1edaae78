"""How large things are: sizes, distinct images of maps, the busiest element of a map.

Enters: what is known (bound data, declared sizes, ranges), and the schema. Leaves: numbers for
every dimension, estimated where nothing is known:

    a size                        64
    a set without maps            1000 elements
    a set with maps               8 elements for each of its largest target
    distinct images of k maps     n balls in m bins, one for each tuple: m * (1 - exp(-n / m)),
                                  but at most half of a set that other maps tell apart
    the busiest image             4 times the mean

A range (low, high) counts as its geometric mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import expm1, prod, sqrt
from typing import Any

import numpy as np

from hectorite.ir.index import Path
from hectorite.ir.schema import Condition, Derivation, Encoded, Schema, SetDecl
from hectorite.ir.set_format import canonical
from hectorite.ir.space import Dim

Fields = tuple[str, ...]
Size = int | tuple[int, int]
"""A number of elements, or the least and the greatest that it may be."""

USUAL_SIZE = 64.0
USUAL_SET = 1000.0
USUAL_DEGREE = 8.0
USUAL_SKEW = 4.0
USUAL_REPEATS = 2.0


@dataclass
class Extents:
    """Sizes of what a program computes on.

    `sizes` are numbers of elements of sets and values of sizes; `distinct` numbers of distinct
    tuples of paths out of a set, `degree` the most elements that share one; `maps` are the maps
    themselves where data is bound, from which both are counted when they are first asked for.
    """

    schema: Schema = field(default_factory=Schema)
    sizes: Mapping[str, Size] = field(default_factory=dict[str, Size])
    counts: Mapping[tuple[str, frozenset[Fields]], int] = field(
        default_factory=dict[tuple[str, frozenset[Fields]], int]
    )
    degrees: Mapping[tuple[str, Fields], int] = field(default_factory=dict[tuple[str, Fields], int])
    maps: Mapping[tuple[str, str], Any] = field(default_factory=dict[tuple[str, str], Any])
    _known: dict[object, float] = field(default_factory=dict[object, float], repr=False)

    def of(self, dim: Dim) -> float:
        """Elements of a set, or the value of a size; at least 1."""
        if isinstance(dim, int):
            return float(max(dim, 1))
        if dim not in self._known:
            self._known[dim] = USUAL_SET  # what maps in a circle come back to
            self._known[dim] = max(1.0, self._extent(dim))
        return self._known[dim]

    def distinct(self, owner: str, paths: Sequence[Fields]) -> float:
        """Distinct tuples of these paths over the elements of a set."""
        key = (owner, frozenset(paths))
        if key not in self._known:
            self._known[key] = max(1.0, self._distinct(owner, key[1]))
        return self._known[key]

    def degree(self, owner: str, path: Fields) -> float:
        """Elements of a set that the busiest image of a path has."""
        key = (owner, path)
        if key not in self._known:
            self._known[key] = max(1.0, self._degree(owner, path))
        return self._known[key]

    def in_order(self, owner: str, path: Fields) -> bool:
        """Whether elements that share an image of a path are known to stand together, in the order
        of the images."""
        key = ("order", owner, path)
        if key not in self._known:
            images = None if self._sorted_by(owner, path) else self._images(owner, path)
            ordered = self._sorted_by(owner, path) or (
                images is not None and bool((images[1:] >= images[:-1]).all())
            )
            self._known[key] = float(ordered)
        return self._known[key] > 0.0

    def _sorted_by(self, owner: str, path: Fields) -> bool:
        """Whether a set is derived as the distinct values of this path first."""
        decl = self.schema.sets.get(owner)
        if decl is None or decl.derivation is None or not decl.fields:
            return False
        return path == (decl.fields[0][0],)

    def declare(self, schema: Schema) -> None:
        """Take a schema with more sets, or other ones; what was estimated is forgotten if a set
        has another meaning now."""
        old, self.schema = self.schema.sets, schema
        if any(old.get(name, decl) != decl for name, decl in schema.sets.items()):
            self._known.clear()

    def _extent(self, dim: str) -> float:
        known = self.sizes.get(dim, self.schema.sizes.get(dim))
        if isinstance(known, tuple):
            return sqrt(max(known[0], 1) * max(known[1], 1))
        if known is not None:
            return float(known)
        decl = self.schema.sets.get(dim)
        if decl is None:
            return USUAL_SIZE
        if decl.derivation is not None:
            return self._derived(decl, decl.derivation)
        if decl.encoded is not None:
            return self._encoded(decl, decl.encoded)
        if not decl.fields:
            return USUAL_SET
        return USUAL_DEGREE * max(self.of(target) for _, target in decl.fields)

    def _encoded(self, decl: SetDecl, encoded: Encoded) -> float:
        """Positions: as many as elements, where the format does not condense them."""
        if decl.fields:
            rows = encoded.part == "rows"
            return self.of(decl.fields[0][1] if rows else encoded.of)
        numbers = canonical(self.schema, encoded.of, encoded.format).numbers
        rows = max(self.of(target) for _, target in self.schema.sets[encoded.of].fields)
        return rows / numbers[0] if numbers else rows

    def _derived(self, decl: SetDecl, derivation: Derivation) -> float:
        paths = [key.path for key in derivation.keys]
        variables = {path.variable for path in paths if path is not None}
        if None not in paths and len(derivation.binders) == 1 and not derivation.conditions:
            owner = derivation.binders[0][1]
            return self.distinct(owner, [path.fields for path in paths if path is not None])
        if len(variables) == 1 and None not in paths:
            owner = dict(derivation.binders)[next(iter(variables))]
            return self.distinct(owner, [path.fields for path in paths if path is not None])
        bins = prod(self.of(target) for _, target in decl.fields)
        return _filled(self._joined(derivation), bins)

    def visited(self, join: str) -> tuple[float, bool]:
        """Assignments of binders that a walk through a join visits, and whether it looks up one
        binder more: one that two equalities tell."""
        derivation = self.schema.sets[join].derivation
        assert derivation is not None
        names = [name for name, _ in derivation.binders]
        found = next((n for n in reversed(names) if len(_ties(derivation, n)) > 1), None)
        if found is None or len(names) < 3:
            return self.of(join), False
        return self._joined(derivation, found), True

    def _joined(self, derivation: Derivation, without: str | None = None) -> float:
        """Assignments of binders: all that there are, less those that equal paths rule out, if
        values are spread evenly or where maps are known; at least as many as the largest set has
        elements."""
        sets = {name: over for name, over in derivation.binders if name != without}
        found, equalities = prod(map(self.of, sets.values())), 0
        for condition in derivation.conditions:
            paths = condition.left.path, condition.right.path
            known = [path for path in paths if path is not None and path.variable in sets]
            others = {*condition.left.variables, *condition.right.variables} - set(sets)
            if condition.operator != "==" or not known or others:
                continue
            equalities += 1
            met = self._met(sets, known) if len(sets) == 2 and equalities == 1 else None
            if met is not None:
                found = met
            else:
                found /= max(self.distinct(sets[path.variable], [path.fields]) for path in known)
        return max(found, *map(self.of, sets.values()))

    def _met(self, sets: Mapping[str, str], paths: Sequence[Path]) -> float | None:
        """Pairs of elements of two sets whose images are equal; None if a map is not known."""
        if len({path.variable for path in paths}) < 2 or not all(path.fields for path in paths):
            return None
        images = [self._images(sets[path.variable], path.fields) for path in paths]
        if any(each is None for each in images):
            return None
        counts = [np.bincount(each) for each in images]
        least = min(map(len, counts))
        return float(np.dot(counts[0][:least].astype(float), counts[1][:least].astype(float)))

    def _distinct(self, owner: str, paths: frozenset[Fields]) -> float:
        if () in paths:
            return self.of(owner)
        if (owner, paths) in self.counts:
            return float(self.counts[owner, paths])
        arrays = [self._images(owner, path) for path in sorted(paths)]
        if arrays and all(array is not None for array in arrays):
            return float(len(_distinct_rows([a for a in arrays if a is not None])[0]))
        known = self._position_size(owner, paths)
        if known is not None:
            return known
        elements, images = self.of(owner), 1.0
        for path in paths:
            images *= self.of(self.schema.follow(owner, path))
        found = _filled(elements, images)
        if owner in self.sizes or self._tells_apart(owner, paths):
            return found
        return min(found, elements / USUAL_REPEATS)

    def _tells_apart(self, owner: str, paths: frozenset[Fields]) -> bool:
        """Whether the paths lead through every map that a set was declared with."""
        first = {path[0] for path in paths}
        return first.issuperset(name for name, _ in self.schema.sets[owner].fields)

    def _position_size(self, owner: str, paths: frozenset[Fields]) -> float | None:
        """The elements of a derived set that the paths are the keys of, or that one leads to."""
        for decl in self.schema.sets.values():
            derivation = decl.derivation
            if derivation is None or derivation.position is None or decl.name not in self.sizes:
                continue
            keys = frozenset(key.path.fields for key in derivation.keys if key.path is not None)
            if derivation.binders[0][1] == owner and paths in (
                keys,
                frozenset({(derivation.position,)}),
            ):
                return self.of(decl.name)
        return None

    def _degree(self, owner: str, path: Fields) -> float:
        if (owner, path) in self.degrees:
            return float(self.degrees[owner, path])
        images = self._images(owner, path)
        if images is not None and len(images):
            return float(np.bincount(images).max())
        mean = self.of(owner) / self.distinct(owner, [path])
        return min(USUAL_SKEW * mean, self.of(owner))

    def _images(self, owner: str, path: Fields) -> Any:
        """Where each element is led to; None if a map is not known."""
        images: Any = None
        for name in path:
            images = self._step(owner, name, images)
            if images is None:
                return None
            owner = self.schema.follow(owner, (name,))
        return images

    def _step(self, owner: str, name: str, images: Any) -> Any:
        array = self.maps.get((owner, name))
        array = self._derived_map(owner, name) if array is None else np.asarray(array)
        return array if array is None or images is None else array[images]

    def _derived_map(self, owner: str, name: str) -> Any:
        """A map out of a derived set, or the position map into one."""
        for decl in self.schema.sets.values():
            derivation = decl.derivation
            if derivation is None or len(derivation.binders) != 1 or derivation.conditions:
                continue
            source = derivation.binders[0][1]
            is_field = decl.name == owner and decl.target(name) is not None
            if (source, name) != (owner, derivation.position) and not is_field:
                continue
            paths = [key.path for key in derivation.keys]
            arrays = [None if p is None else self._images(source, p.fields) for p in paths]
            if not arrays or any(array is None for array in arrays):
                return None
            first, place = _distinct_rows([array for array in arrays if array is not None])
            if not is_field:
                return place
            at = [field for field, _ in decl.fields].index(name)
            return np.asarray(arrays[at])[first]
        return None


def _ties(derivation: Derivation, binder: str) -> list[Condition]:
    """The equalities between a binder and other ones."""
    return [
        c
        for c in derivation.conditions
        if c.operator == "==" and binder in {*c.left.variables, *c.right.variables}
    ]


def _filled(balls: float, bins: float) -> float:
    """Bins that balls fill on average."""
    return bins * -expm1(-balls / bins)


def _distinct_rows(arrays: Sequence[Any]) -> tuple[Any, Any]:
    """Of the distinct tuples of arrays of one length, in lexicographic order: where each stands
    first, and which each place has."""
    first, place = np.unique(arrays[0], return_index=True, return_inverse=True)[1:]
    for array in arrays[1:]:
        _, numbers = np.unique(array, return_inverse=True)
        code = place.astype(np.int64) * (int(numbers.max(initial=0)) + 1) + numbers
        first, place = np.unique(code, return_index=True, return_inverse=True)[1:]
    return first, place
