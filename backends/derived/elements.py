"""Derived sets: one element for each distinct tuple of keys.

    set c { row: row, col: col } = distinct(x.row, y.col) for x: a, y: b where x.col == y.row

Enters: a `Derivation` and the maps of the sets its binders range over. Leaves: the fields of the
new set, in lexicographic order of the tuples, and with one binder the element that each element of
its set became.

Where there are enough assignments, machine code does it (`plan.py`, `native.py`); the
rest of this file is what that is compared with, and serves what it does not: keys that depend on
several binders in other ways than by sums, codes that do not fit 62 bits, small sets.

Binders are joined one after the other. Equalities between a new binder and those before it are
joined by sorting and searching; what remains of the conditions filters the pairs. Pairs are made a
bounded chunk at a time, depth first, and each chunk leaves only its distinct keys: a product of two
sets takes time, but memory only for its result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hectorite.backends.access import Maps, column
from hectorite.backends.derived.native import Joined, check_size, run_join
from hectorite.backends.derived.plan import COMPARE, JoinPlan, plan_join
from hectorite.backends.order import Sorting, sort
from hectorite.ir.diagnostics import fail
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Condition, Derivation

Array = np.ndarray[Any, Any]
Table = dict[str, Array]
"""Assignments of binders: for each variable the element, one row for each assignment."""

CHUNK = 1 << 22
"""Assignments made at a time."""

NATIVE = 1 << 15
"""Assignments that are worth machine code."""


@dataclass(frozen=True)
class Derived:
    """A derived set: int32[size] for each field, or what makes that, and int32[|binder's set|] of
    positions if the derivation has a single binder and no condition, else None. `segments`, if
    known: where the elements with each value of the first field begin."""

    size: int
    columns: tuple[Array | Callable[[], Array], ...]
    position: Array | None
    segments: Array | None = None

    @property
    def fields(self) -> tuple[Array, ...]:
        """int32[size] for each field."""
        return tuple(column() if callable(column) else column for column in self.columns)


def derive(maps: Maps, name: str, derivation: Derivation, targets: Sequence[str]) -> Derived:
    """Build the set `name`, whose fields map into `targets`.

    Raises `HectoriteError` if a key lies outside the set its field maps into, or if there are more
    elements than int32 can number.
    """
    extents = [maps.size(target) for target in targets]
    if len(derivation.binders) == 1 and not derivation.conditions:
        return _factor(maps, name, derivation, targets)
    plan = plan_join(maps, derivation, targets, NATIVE)
    if plan is not None:
        return _joined(name, plan, extents)
    found: list[tuple[Array, ...]] = []
    pending = 0
    for table in _assignments(maps, derivation):
        keys = tuple(_values(maps, derivation, table, key) for key in derivation.keys)
        for field_keys, target in zip(keys, targets, strict=True):
            _check_range(maps, name, field_keys, target)
        found.append(_distinct(keys, extents))
        pending += len(found[-1][0])
        if pending > 2 * CHUNK:
            found = [_merged(found, extents)]
            pending = len(found[0][0])
    fields = _merged(found, extents) if found else (np.zeros(0, np.int32),) * len(targets)
    check_size(name, len(fields[0]))
    return Derived(len(fields[0]), fields, None)


def _joined(name: str, plan: JoinPlan, extents: Sequence[int]) -> Derived:
    """The set by machine code."""
    made = run_join(plan, name)
    segments = None
    if plan.complete:
        segments = made.ends
    elif plan.lead:
        segments = made.ends[np.searchsorted(plan.lead[0], np.arange(extents[0] + 1))]
    leading = [partial(_leading, made, k) for k in range(len(plan.lead))]
    return Derived(made.size, (*leading, *made.trailing), None, segments)


def _leading(made: Joined, number: int) -> Array:
    return made.lead[number]


def _factor(maps: Maps, name: str, derivation: Derivation, targets: Sequence[str]) -> Derived:
    """One binder, no condition: a sort gives the elements and the position map at once."""
    over = derivation.binders[0][1]
    columns = [column(maps, over, key) for key in derivation.keys]
    for values, target in zip(columns, targets, strict=True):
        _check_range(maps, name, values, target)
    sorting = sort(columns, [maps.size(target) for target in targets])
    ordinal = np.cumsum(sorting.first, dtype=np.int32)
    ordinal -= 1
    position = ordinal
    if sorting.permutation is not None:
        position = np.empty_like(ordinal)
        position[sorting.permutation] = ordinal
    fields = _representatives(sorting, columns)
    return Derived(sorting.count, fields, position)


def _distinct(keys: Sequence[Array], extents: Sequence[int]) -> tuple[Array, ...]:
    return _representatives(sort(keys, extents), keys)


def _representatives(sorting: Sorting, columns: Sequence[Array]) -> tuple[Array, ...]:
    """Each distinct key tuple once, in order."""
    rows = np.flatnonzero(sorting.first)
    if sorting.permutation is not None:
        rows = sorting.permutation[rows]
    return tuple(values[rows].astype(np.int32) for values in columns)


def _merged(found: Sequence[tuple[Array, ...]], extents: Sequence[int]) -> tuple[Array, ...]:
    if len(found) == 1:
        return found[0]
    return _distinct([np.concatenate(parts) for parts in zip(*found, strict=True)], extents)


def _assignments(maps: Maps, derivation: Derivation) -> Iterator[Table]:
    """Every assignment of the binders that satisfies the conditions, in chunks."""
    order = _join_order(derivation)
    conditions = list(derivation.conditions)
    bound: set[str] = set()
    stages: list[tuple[str, list[Condition]]] = []
    for variable in order:
        bound.add(variable)
        ready = [c for c in conditions if c.variables <= bound]
        conditions = [c for c in conditions if c not in ready]
        stages.append((variable, ready))

    def extend(table: Table, depth: int) -> Iterator[Table]:
        if depth == len(stages):
            yield table
            return
        variable, ready = stages[depth]
        for wider in _join(maps, derivation, table, variable, ready):
            if len(wider[variable]):
                yield from extend(wider, depth + 1)

    yield from extend({}, 0)


def _join_order(derivation: Derivation) -> list[str]:
    """Binders in order, except that one tied by an equality to those before goes first."""
    left = [variable for variable, _ in derivation.binders]
    order = [left.pop(0)]
    while left:
        tied = (
            variable
            for variable in left
            if any(_sides(c, set(order), variable) for c in derivation.conditions)
        )
        order.append(next(tied, left[0]))
        left.remove(order[-1])
    return order


def _sides(
    condition: Condition, bound: set[str], variable: str
) -> tuple[IndexExpr, IndexExpr] | None:
    """(side over bound variables, side over the new one) if an equality ties them."""
    if condition.operator != "==":
        return None
    for old, new in (
        (condition.left, condition.right),
        (condition.right, condition.left),
    ):
        if set(new.variables) == {variable} and old.variables and set(old.variables) <= bound:
            return old, new
    return None


def _join(
    maps: Maps, derivation: Derivation, table: Table, variable: str, conditions: list[Condition]
) -> Iterator[Table]:
    """The assignments in `table` extended by `variable`, those that satisfy `conditions`."""
    over = dict(derivation.binders)[variable]
    own = [c for c in conditions if c.variables <= {variable}]
    candidates = _filtered(
        maps, derivation, {variable: np.arange(maps.size(over), dtype=np.int32)}, own
    )
    if not table:
        yield candidates
        return
    ties = [sides for c in conditions if (sides := _sides(c, set(table), variable))]
    rest = [c for c in conditions if c not in own and not _sides(c, set(table), variable)]
    element = candidates[variable]
    if ties:
        new = [_values(maps, derivation, candidates, side) for _, side in ties]
        old = [_values(maps, derivation, table, side) for side, _ in ties]
        element, begin, count = _matches(element, new, old)
    else:
        begin = np.zeros(len(next(iter(table.values()))), np.int64)
        count = np.full(len(begin), len(element))
    for start, stop in _chunks(count):
        rows = np.repeat(np.arange(start, stop), count[start:stop])
        ahead = np.cumsum(count[start:stop]) - count[start:stop]
        within = np.arange(len(rows)) - np.repeat(ahead, count[start:stop])
        wider = {name: values[rows] for name, values in table.items()}
        wider[variable] = element[begin[rows] + within]
        yield _filtered(maps, derivation, wider, rest)


def _matches(
    element: Array, new: Sequence[Array], old: Sequence[Array]
) -> tuple[Array, Array, Array]:
    """Equal keys of two sides: `element` sorted by its keys `new`, and for each row of `old` where
    its partners begin in that and how many there are."""
    codes_new, codes_old = _ranked(new[0], old[0])
    for left, right in zip(new[1:], old[1:], strict=True):
        next_new, next_old = _ranked(left, right)
        width = len(element) + 1
        codes_new, codes_old = _ranked(codes_new * width + next_new, codes_old * width + next_old)
    order = np.argsort(codes_new, kind="stable")
    codes_new = codes_new[order]
    begin = np.searchsorted(codes_new, codes_old, side="left")
    return element[order], begin, np.searchsorted(codes_new, codes_old, side="right") - begin


def _ranked(new: Array, old: Array) -> tuple[Array, Array]:
    """Numbers 0 .. len(new) - 1 that are equal where the values are; len(new) for values of `old`
    that are not among those of `new`."""
    known, rank = np.unique(new, return_inverse=True)
    at = np.searchsorted(known, old)
    if not len(known):
        return rank, np.zeros(len(old), np.int64)
    hit = known[np.minimum(at, len(known) - 1)] == old
    return rank, np.where(hit, at, len(new))


def _chunks(count: Array) -> Iterator[tuple[int, int]]:
    """Stretches of rows whose counts add up to about CHUNK, at least one row each."""
    done = np.cumsum(count)
    start = 0
    while start < len(count):
        before = int(done[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(done, before + CHUNK, side="right")))
        yield start, stop
        start = stop


def _filtered(
    maps: Maps, derivation: Derivation, table: Table, conditions: Sequence[Condition]
) -> Table:
    for condition in conditions:
        left = _values(maps, derivation, table, condition.left)
        right = _values(maps, derivation, table, condition.right)
        keep = COMPARE[condition.operator](left, right)
        table = {name: values[keep] for name, values in table.items()}
    return table


def _values(maps: Maps, derivation: Derivation, table: Table, expr: IndexExpr) -> Array:
    """Value of `expr`, over any number of binders, for each row of `table`."""
    sets = dict(derivation.binders)

    def follow(path: Path) -> Array:
        here = table[path.variable]
        if path.fields:
            here = maps.path(sets[path.variable], path.fields)[here]
        return here if expr.path is not None else here.astype(np.int64)

    values = expr.evaluate(follow, maps.size)
    return np.broadcast_to(np.asarray(values), next(iter(table.values())).shape)


def _check_range(maps: Maps, name: str, values: Array, target: str) -> None:
    limit = maps.size(target)
    bad = (values < 0) | (values >= limit)
    if bad.any():
        value = values[int(np.argmax(bad))]
        raise fail(
            f"a key of the derived set `{name}` is {value}, which is not an element of `{target}`",
            expected=f"values from 0 to {limit - 1}" if limit else f"none: `{target}` is empty",
        )
