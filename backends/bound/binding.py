"""The sets of a program bound to data, and everything that is worked out from them once.

Enters: a schema, and for each set its size or its maps. Leaves: sizes, int32 maps whose every value
has been checked, derived sets, position sets (the parts of a set in a storage format), and
adjacency in any order, each built when first asked for and kept for as long as the binding. One
binding serves every function over its sets, from any thread.

Every fault in the data is found before anything runs, and all are told together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np

from hectorite.backends import order
from hectorite.backends.access import column, extent
from hectorite.backends.balance import row_parts, shares, spans
from hectorite.backends.bound.intake import MOST, Intake
from hectorite.backends.cpu.threads import pool
from hectorite.backends.derived import adjacency
from hectorite.backends.derived.elements import derive
from hectorite.backends.derived.plan import Adjacency
from hectorite.backends.formats import Part, build_parts, check_data
from hectorite.backends.slots import Slots, slots
from hectorite.ir.diagnostics import fail
from hectorite.ir.identity import by_identity
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Derivation, Encoded, Schema, SetDecl

Array = np.ndarray[Any, Any]
T = TypeVar("T")
Keys = Sequence[IndexExpr]
"""Sort keys: index expressions of one variable, whatever its name, over the set that is sorted."""

WORTH_CODE = 1 << 12
"""Elements that are worth machine code which finds where they begin."""

ELEMENTS = 1 << 20
"""Sets of up to so many elements share one array of these."""


class Binding(Adjacency):
    """Sets bound to data.

    `sets` gives for a set without fields its number of elements, and for a set with fields a
    mapping from each field to an array: NumPy, torch, or anything with the buffer protocol or
    DLPack, one-dimensional, int32 (kept without a copy if contiguous; do not change it while the
    binding is in use) or int64 (checked and narrowed). The size of a set with fields is the common
    length of its maps; `size` may repeat it. Derived sets are not given: they are built here.

        Binding(schema, {"node": 7262, "etype": 104, "edge": {"src": s, "dst": d, "type": t}})

    Raises `HectoriteError` listing every fault: a set or field that is missing or unknown, a wrong
    type, rank or length, a negative size, a map value outside its target set, an index type too
    narrow for a set.
    """

    def __init__(self, schema: Schema, sets: Mapping[str, Any]):
        if _joins(schema):
            pool().rouse()  # joins follow, once the data is checked
        taken = Intake(schema, sets)
        taken.report.raise_errors()
        self.schema = schema
        self._sizes: dict[str, int] = taken.sizes
        self._sizes |= {name: n for name, n in schema.sizes.items() if n is not None}
        self._maps = {key: _frozen(values) for key, values in taken.maps.items()}
        self._later: dict[tuple[str, str], Callable[[], Array]] = {}
        """Maps of derived sets that are written when someone looks."""
        self._built: set[str] = set()
        self._building: set[str] = set()
        self._known: dict[Hashable, Any] = {}
        self._adjacent: set[tuple[str, IndexExpr]] = set()
        """Sets and keys whose segments machine code found."""
        self._lock = threading.RLock()
        for name, format in _looked_at(schema):
            if format is None:
                self.size(name)
            else:
                check_data(self, name, format)

    @property
    def given(self) -> dict[str, Any]:
        """What was bound, in the form in which it is given: sizes, and maps by field."""
        sets = [decl for decl in self.schema.sets.values() if decl.given]
        return {
            decl.name: {field: self.map(decl.name, field) for field, _ in decl.fields}
            if decl.fields
            else self.size(decl.name)
            for decl in sets
        }

    def size(self, name: str) -> int:
        """Number of elements of a set, value of a fixed size or of a number. KeyError if it is none
        of these."""
        if name.isdecimal():
            return int(name)
        if name not in self._sizes:
            self._build(name)
        return self._sizes[name]

    def map(self, name: str, field: str) -> Array:
        """int32[|name|], read-only: where a field leads. Works for maps that derived and position
        sets add, too."""
        key = (name, field)
        if key not in self._maps:
            self._build(self._giver(name, field))
            if key in self._later:
                with self._lock:
                    if key not in self._maps:
                        self._add(name, [field], [self._later[key]()])
                        del self._later[key]
        return self._maps[key]

    def target(self, start: str, fields: tuple[str, ...]) -> str:
        """The set that a path out of `start` ends in."""
        known = _targets(self.schema)
        if (start, fields) not in known:
            known[start, fields] = self.schema.follow(start, fields)
        return known[start, fields]

    def path(self, start: str, fields: tuple[str, ...]) -> Array:
        """int32[|start|], read-only: where a path leads; without fields, the elements."""
        if not fields:
            return self._keep(("elements", start), lambda: _elements(self.size(start)))
        if len(fields) == 1:
            return self.map(start, fields[0])

        def compose() -> Array:
            last = self.map(self.target(start, fields[:-1]), fields[-1])
            return last[self.path(start, fields[:-1])]

        return self._keep(("path", start, fields), compose)

    def order(self, name: str, keys: Keys) -> Array | None:
        """The stable permutation, int32[|name|], that sorts a set by `keys`, the first key first;
        None if it is in that order already."""
        return self.sorting(name, keys).permutation

    def sorting(self, name: str, keys: Keys) -> order.Sorting:
        """As `order`, with the places where the keys change."""
        keys = _normal(keys)
        return self._keep(
            ("order", name, keys),
            lambda: order.sort(self._columns(name, keys), self._extents(name, keys)),
        )

    def along(self, name: str, keys: Keys, expr: IndexExpr) -> Array:
        """int32[|name|]: the values of `expr` over a set in the order of `keys` (of the set itself
        if there are none), contiguous, so that a kernel streams them.

        Raises `HectoriteError` if a value does not fit 32 bits, as only a sum or product can."""
        keys = _normal(keys)
        (expr,) = _normal([expr])

        def arrange() -> Array:
            values = _int32(column(self, name, expr), expr)
            return self.sorting(name, keys).arrange(values) if keys else values

        return self._keep(("along", name, keys, expr), arrange)

    def segments(self, name: str, keys: Keys) -> Array:
        """int32[extent + 1], extent being that of the first key (for a path, the size of the set it
        ends in): the elements whose first key is `v` stand at [v] .. [v + 1] - 1 of the order."""
        (first, *_) = _normal(keys)
        return self._keep(
            ("segments", name, first),
            lambda: order.segments(column(self, name, first), extent(self, name, first)),
        )

    def adjacent(self, name: str, path: IndexExpr) -> tuple[Array, Array | None]:
        (key,) = _normal([path])
        place = ("segments", name, key)
        if place not in self._known and self.size(name) >= WORTH_CODE:
            with self._lock:
                if place not in self._known:
                    values, limit = column(self, name, key), extent(self, name, key)
                    ends, ordered = adjacency.segments(values, limit)
                    self._adjacent.add((name, key))
                    self._add_segments(name, key, ends, ordered)
        return self.segments(name, [key]), self.order(name, [key])

    def _add_segments(self, name: str, key: IndexExpr, ends: Array, ordered: bool) -> None:
        """Keep where elements begin, and if they are in order, that they are."""
        if ordered:
            self._known.setdefault(("order", name, (key,)), order.sorted_already(ends))
        self._known["segments", name, key] = _frozen(ends)

    def runs(self, name: str, keys: Keys, limit: int) -> order.Runs:
        """Stretches of equal keys in the order of `keys`, none longer than `limit` elements."""
        keys = _normal(keys)
        return self._keep(
            ("runs", name, keys, limit),
            lambda: order.runs(
                self.sorting(name, keys),
                self._columns(name, keys),
                extent(self, name, keys[0]),
                limit,
            ),
        )

    def cuts(self, name: str, keys: Keys, parts: int) -> Array:
        """int32[parts + 1]: boundaries among the values of the first key that share out the
        elements of a set evenly."""
        (first, *_) = _normal(keys)

        def cut() -> Array:
            segments = self.segments(name, [first])
            by_code = (name, first) in self._adjacent and parts
            return adjacency.cuts(segments, parts) if by_code else order.cuts(segments, parts)

        return self._keep(("cuts", name, first, parts), cut)

    def pairs(self, name: str, keys: Keys, limit: int) -> Array:
        """int32[4 * tasks]: stretches of elements that reach each other by one sum for each value
        of the first key, at most about `limit` to a task."""
        (first, *_) = _normal(keys)
        return self._keep(
            ("pairs", name, first, limit),
            lambda: order.pairs(self.segments(name, [first]), limit),
        )

    def shares(self, name: str, keys: Keys, parts: int) -> Array:
        """int32[4 * tasks]: as `cuts`, but values of the first key that many elements have stand
        alone, each for several tasks."""
        (first, *_) = _normal(keys)
        return self._keep(
            ("shares", name, first, parts), lambda: shares(self.segments(name, [first]), parts)
        )

    def row_parts(self, name: str, keys: Keys, most: int) -> tuple[Array, Array]:
        """What `balance.row_parts` makes of the segments of the first key."""
        (first, *_) = _normal(keys)
        return self._keep(
            ("row parts", name, first, most), lambda: row_parts(self.segments(name, [first]), most)
        )

    def slots(self, name: str, keys: Keys, height: int) -> Slots:
        """The elements of a set in tables of `height` values of the first key."""
        keys = _normal(keys)
        return self._keep(
            ("slots", name, keys, height),
            lambda: slots(self._columns(name, keys), self._extents(name, keys), height),
        )

    def _of_slots(
        self, what: str, name: str, keys: Keys, path: IndexExpr | None, height: int
    ) -> Array:
        found = self.slots(name, keys, height)
        if what in ("slot_rows", "slot_groups"):
            return found.rows if what == "slot_rows" else found.block
        if what not in ("slot_along", "slot_key") or path is None:
            raise ValueError(f"there is no layout `{what}` of {name}")
        keys, (path,) = _normal(keys), _normal([path])

        def arrange() -> Array:
            values = self.along(name, (), path)
            return found.along(values) if what == "slot_along" else values[found.first]

        return self._keep((what, name, keys, height, path), arrange)

    def spans(self, name: str, keys: Keys, parts: int) -> tuple[Array, Array]:
        """What `balance.spans` makes of the segments of the first key."""
        (first, *_) = _normal(keys)
        return self._keep(
            ("spans", name, first, parts), lambda: spans(self.segments(name, [first]), parts)
        )

    def blocks(self, name: str, keys: Keys, height: int) -> order.Blocks:
        """The elements of a set by blocks of about `height` values of the first key, then by the
        other keys."""
        keys = _normal(keys)
        return self._keep(
            ("blocks", name, keys, height),
            lambda: order.blocks(self._columns(name, keys), self._extents(name, keys), height),
        )

    def _of_blocks(
        self, what: str, name: str, keys: Keys, path: IndexExpr | None, height: int
    ) -> Array:
        blocks = self.blocks(name, keys, height)
        if what == "block_rows":
            return blocks.bounds
        if what == "block_runs":
            return blocks.start
        if what == "block_groups":
            return blocks.block
        if what == "block_order":
            return self.path(name, ()) if blocks.permutation is None else blocks.permutation
        if what != "block_along" or path is None:
            raise ValueError(f"there is no layout `{what}` of {name}")
        keys, (path,) = _normal(keys), _normal([path])

        def arrange() -> Array:
            values = self.along(name, (), path)
            return values if blocks.permutation is None else values[blocks.permutation]

        return self._keep(("block_along", name, keys, height, path), arrange)

    def layout(
        self,
        what: str,
        name: str,
        keys: Keys = (),
        path: IndexExpr | None = None,
        limit: int | None = None,
    ) -> Array:
        """The int32 array that `tile.layout what of name by keys path path limit limit` stands for;
        the head of `dialects/tile_program.py` lists them."""
        if what == "order":
            order = self.order(name, keys)
            return self.path(name, ()) if order is None else order
        if what == "sorted":
            natural = self.order(name, keys) is None
            return self._keep(("sorted", natural), lambda: np.array([natural], np.int32))
        if what == "segments":
            return self.segments(name, keys)
        if what == "cuts":
            return self.cuts(name, keys, limit or 1)
        if what == "pairs":
            return self.pairs(name, keys, limit or MOST)
        if what == "shares":
            return self.shares(name, keys, limit or 1)
        if what in ("spans", "span_rows"):
            return self.spans(name, keys, limit or 1)[what == "span_rows"]
        if what in ("parts", "part_rows"):
            return self.row_parts(name, keys, limit or 1)[what == "part_rows"]
        if what in ("runs", "run_groups"):
            runs = self.runs(name, keys, limit or MOST)
            return runs.start if what == "runs" else runs.block
        if what.startswith("slot_"):
            return self._of_slots(what, name, keys, path, limit or MOST)
        if what.startswith("block_"):
            return self._of_blocks(what, name, keys, path, limit or MOST)
        if path is None or what not in ("map", "along", "run_key"):
            raise ValueError(f"there is no layout `{what}` of {name}")
        if what != "run_key":
            return self.along(name, keys if what == "along" else (), path)
        keys, (path,) = _normal(keys), _normal([path])
        start = self.runs(name, keys, limit or MOST).start
        return self._keep(
            ("run_key", name, keys, limit, path), lambda: self.along(name, keys, path)[start[:-1]]
        )

    def keep(self, key: Hashable, build: Callable[[], T]) -> T:
        """What others work out from the sets once: what `build` returned under `key`."""
        return self._keep(("of others", key), build)

    def extend(self, schema: Schema) -> None:
        """Let derived sets that a compiler added to the schema be asked for.

        Raises `ValueError` if one has the name of a known set that is declared otherwise.
        """
        with self._lock:
            self.schema = extended(self.schema, schema)

    def _columns(self, name: str, keys: Keys) -> list[Array]:
        return [column(self, name, key) for key in keys]

    def _extents(self, name: str, keys: Keys) -> list[int]:
        return [extent(self, name, key) for key in keys]

    def _giver(self, name: str, field: str) -> str:
        """The set that adds the map `field` to the set `name`, or that set itself."""
        for decl in self.schema.sets.values():
            derivation, encoded = decl.derivation, decl.encoded
            if derivation and (derivation.binders[0][1], derivation.position) == (name, field):
                return decl.name
            if encoded and (name, field) in [(owner, given) for owner, given, _ in encoded.gives]:
                return decl.name
        return name

    def _build(self, name: str) -> None:
        """Build a derived set or a position set, once."""
        with self._lock:
            if name in self._built:
                return
            decl: SetDecl = self.schema.sets[name]
            if decl.given:
                raise KeyError(name)
            if name in self._building:
                raise fail(f"the set `{name}` is derived from itself")
            self._building.add(name)
            if decl.encoded is not None:
                self._encode(decl, decl.encoded)
            elif decl.derivation is not None:
                self._derive(decl, decl.derivation)
            self._built.add(name)

    def _derive(self, decl: SetDecl, derivation: Derivation) -> None:
        made = derive(self, decl.name, derivation, [target for _, target in decl.fields])
        self._sizes[decl.name] = made.size
        for (field, _), values in zip(decl.fields, made.columns, strict=True):
            if callable(values):
                self._later[decl.name, field] = values
            else:
                self._add(decl.name, [field], [values])
        if derivation.position is not None and made.position is not None:
            self._add(derivation.binders[0][1], [derivation.position], [made.position])
        if made.segments is not None:
            (key,) = _normal([IndexExpr.of("e", decl.fields[0][0])])
            self._add_segments(decl.name, key, made.segments, ordered=True)

    def _encode(self, decl: SetDecl, encoded: Encoded) -> None:
        part = self.parts(encoded.of, encoded.format)[encoded.part]
        self._sizes[decl.name] = part.size
        self._add(decl.name, [field for field, _ in decl.fields], part.fields)
        for (owner, field, _), values in zip(encoded.gives, part.gives, strict=True):
            self._add(owner, [field], [values])

    def parts(self, name: str, format: str) -> dict[str, Part]:
        """The parts of the set `name` in a format, by what it calls them; built once.

        Raises `HectoriteError` if it is no format of this set, or the data breaks it.
        """
        return self._keep(("format", name, format), lambda: build_parts(self, name, format))

    def _add(self, owner: str, fields: Sequence[str], arrays: Sequence[Array]) -> None:
        for field, values in zip(fields, arrays, strict=True):
            self._maps[owner, field] = _frozen(values)

    def _keep(self, key: Hashable, build: Callable[[], T]) -> T:
        """What `build` returns, the first time it is asked for under `key`."""
        known = self._known.get(key)
        if known is not None:
            return known
        with self._lock:
            if key not in self._known:
                made = build()
                is_array = isinstance(made, np.ndarray)
                self._known[key] = _frozen(cast(Array, made)) if is_array else made
            return self._known[key]


@by_identity
def extended(known: Schema, added: Schema) -> Schema:
    """Both schemas in one; `known` itself if that has all. Raises `ValueError` if they differ in
    a set."""
    for name, decl in added.sets.items():
        if known.sets.get(name, decl) != decl:
            raise ValueError(f"two different sets are called {name}")
    sets, sizes = added.sets | known.sets, added.sizes | known.sizes
    if len(sets) == len(known.sets) and sizes == known.sizes:
        return known
    return Schema(known.sets | sets, sizes)


@by_identity
def _targets(schema: Schema) -> dict[tuple[str, tuple[str, ...]], str]:
    """The sets that paths end in, for those that were asked for."""
    return {}


@by_identity
def _looked_at(schema: Schema) -> list[tuple[str, str | None]]:
    """What binding looks at in any case: sets that data may be no good for, and formats that sets
    were declared with."""
    found = list[tuple[str, str | None]]()
    for decl in schema.sets.values():
        if may_be_refused(decl, schema):
            found.append((decl.name, None))
        if decl.format not in (None, "auto"):
            found.append((decl.name, decl.format))
    return found


def may_be_refused(decl: SetDecl, schema: Schema) -> bool:
    """Whether data may be no good for a set that is built from it, so that it has to be built to
    know. Others are built when they are asked for."""
    if decl.derivation is None:
        return not decl.given
    if decl.name in _sources(decl, schema):
        return True
    if _from_itself(decl.name, schema):
        return True
    sets = dict(decl.derivation.binders)
    for (_, target), key in zip(decl.fields, decl.derivation.keys, strict=True):
        path = key.path
        if path is None or schema.follow(sets[path.variable], path.fields) != target:
            return True
    return False


def _sources(decl: SetDecl, schema: Schema) -> set[str]:
    """The sets that a set is derived from, directly or not."""
    found, pending = set[str](), [decl]
    while pending:
        derivation = pending.pop().derivation
        fresh = {name for _, name in derivation.binders} - found if derivation else set[str]()
        found |= fresh
        pending += [schema.sets[name] for name in fresh if name in schema.sets]
    return found


def _from_itself(name: str, schema: Schema) -> bool:
    """Whether a set is derived from sets that are derived from it."""
    todo, seen = [name], set[str]()
    while todo:
        derivation = schema.sets[todo.pop()].derivation
        found = {over for _, over in derivation.binders} if derivation else set[str]()
        if name in found:
            return True
        todo += found - seen
        seen |= found
    return False


@by_identity
def _joins(schema: Schema) -> bool:
    """Whether sets are derived from several others."""
    derivations = (decl.derivation for decl in schema.sets.values())
    return any(derivation and len(derivation.binders) > 1 for derivation in derivations)


def _elements(count: int) -> Array:
    """The elements of a set of that size."""
    if count > ELEMENTS:
        return np.arange(count, dtype=np.int32)
    global _ascending
    if len(_ascending) < count:
        _ascending = _frozen(np.arange(max(count, 2 * len(_ascending)), dtype=np.int32))
    return _ascending[:count]


_ascending: Array = np.zeros(0, np.int32)


def _normal(keys: Keys) -> tuple[IndexExpr, ...]:
    """Keys that differ in the name of their variable only become equal."""
    return _all_nameless(tuple(keys))


@lru_cache(maxsize=4096)
def _all_nameless(keys: tuple[IndexExpr, ...]) -> tuple[IndexExpr, ...]:
    return tuple(map(_nameless, keys))


@lru_cache(maxsize=4096)
def _nameless(key: IndexExpr) -> IndexExpr:
    return key.rename(dict.fromkeys(key.variables, "_"))


def _int32(values: Array, expr: IndexExpr) -> Array:
    narrow = values.astype(np.int32, copy=False)
    if values.dtype != np.int32 and (narrow != values).any():
        raise fail(f"the values of {expr} do not fit 32 bits")
    return narrow


def _frozen(array: Array) -> Array:
    array = array.view()
    array.flags.writeable = False
    return array
