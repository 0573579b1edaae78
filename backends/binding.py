"""The sets of a program bound to data, and everything that is worked out from them once.

Enters: a schema, and for each set its size or its maps. Leaves: sizes, int32 maps whose every value
has been checked, derived sets, and adjacency in any order, each built when first asked for and kept
for as long as the binding. One binding serves every function over its sets, from any thread.

Every fault in the data is found before anything runs, and all are told together.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from hectorite.backends import order
from hectorite.backends.access import column, extent
from hectorite.backends.derive import Derived, derive
from hectorite.backends.intake import MOST, Intake
from hectorite.ir.diagnostics import fail
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema, SetDecl

Array = np.ndarray[Any, Any]
T = TypeVar("T")
Keys = Sequence[IndexExpr]
"""Sort keys: index expressions of one variable, whatever its name, over the set that is sorted."""


class Binding:
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
        taken = Intake(schema, sets)
        taken.report.raise_errors()
        self.schema = schema
        self._sizes: dict[str, int] = taken.sizes
        self._sizes |= {name: n for name, n in schema.sizes.items() if n is not None}
        self._maps = {key: _frozen(values) for key, values in taken.maps.items()}
        self._derived: dict[str, Derived] = {}
        self._building: set[str] = set()
        self._known: dict[Hashable, Any] = {}
        self._lock = threading.RLock()
        for decl in schema.sets.values():
            if decl.derivation is not None:
                self.size(decl.name)

    @property
    def given(self) -> dict[str, Any]:
        """What was bound, in the form in which it is given: sizes, and maps by field."""
        sets = [decl for decl in self.schema.sets.values() if decl.derivation is None]
        return {
            decl.name: {field: self.map(decl.name, field) for field, _ in decl.fields}
            if decl.fields
            else self.size(decl.name)
            for decl in sets
        }

    def size(self, name: str) -> int:
        """Number of elements of a set, or value of a fixed size. KeyError if it is neither."""
        if name not in self._sizes:
            self._sizes[name] = self._build(name).size
        return self._sizes[name]

    def map(self, name: str, field: str) -> Array:
        """int32[|name|], read-only: where a field leads. Works for position fields too."""
        if (name, field) not in self._maps:
            owner = name
            for decl in self.schema.sets.values():
                derivation = decl.derivation
                if derivation and derivation.position == field:
                    owner = decl.name if derivation.binders[0][1] == name else owner
            self._build(owner)
        return self._maps[name, field]

    def target(self, start: str, fields: tuple[str, ...]) -> str:
        """The set that a path out of `start` ends in."""
        return self.schema.follow(start, fields)

    def path(self, start: str, fields: tuple[str, ...]) -> Array:
        """int32[|start|], read-only: where a path leads; without fields, the elements."""
        if not fields:
            return self._keep(
                ("elements", start), lambda: np.arange(self.size(start), dtype=np.int32)
            )
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
        return self._keep(
            ("cuts", name, first, parts), lambda: order.cuts(self.segments(name, [first]), parts)
        )

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
        if what in ("runs", "run_groups"):
            runs = self.runs(name, keys, limit or MOST)
            return runs.start if what == "runs" else runs.block
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
            for name, decl in schema.sets.items():
                if self.schema.sets.get(name, decl) != decl:
                    raise ValueError(f"two different sets are called {name}")
            self.schema = Schema(self.schema.sets | schema.sets, schema.sizes | self.schema.sizes)

    def _columns(self, name: str, keys: Keys) -> list[Array]:
        return [column(self, name, key) for key in keys]

    def _extents(self, name: str, keys: Keys) -> list[int]:
        return [extent(self, name, key) for key in keys]

    def _build(self, name: str) -> Derived:
        """Build a derived set, once."""
        with self._lock:
            if name not in self._derived:
                decl: SetDecl = self.schema.sets[name]
                derivation = decl.derivation
                if derivation is None:
                    raise KeyError(name)
                if name in self._building:
                    raise fail(f"the set `{name}` is derived from itself")
                self._building.add(name)
                made = derive(self, name, derivation, [target for _, target in decl.fields])
                self._derived[name] = made
                for (field, _), values in zip(decl.fields, made.fields, strict=True):
                    self._maps[name, field] = _frozen(values)
                if derivation.position is not None and made.position is not None:
                    over = derivation.binders[0][1]
                    self._maps[over, derivation.position] = _frozen(made.position)
            return self._derived[name]

    def _keep(self, key: Hashable, build: Callable[[], T]) -> T:
        """What `build` returns, the first time it is asked for under `key`."""
        if key not in self._known:
            with self._lock:
                if key not in self._known:
                    made = build()
                    self._known[key] = _frozen(made) if isinstance(made, np.ndarray) else made
        return self._known[key]


def _normal(keys: Keys) -> tuple[IndexExpr, ...]:
    """Keys that differ in the name of their variable only become equal."""
    return tuple(key.rename(dict.fromkeys(key.variables, "_")) for key in keys)


def _int32(values: Array, expr: IndexExpr) -> Array:
    narrow = values.astype(np.int32, copy=False)
    if values.dtype != np.int32 and (narrow != values).any():
        raise fail(f"the values of {expr} do not fit 32 bits")
    return narrow


def _frozen(array: Array) -> Array:
    array = array.view()
    array.flags.writeable = False
    return array
