"""The values that index expressions take on bound data, and whether they stay in range.

Enters: index expressions, and the sets their variables range over. Leaves: integer arrays, one
value for each element of a set, and for an access that leaves its tensor the first such place.

An affine access is a sum of parts that each depend on one variable, so its least and greatest value
are the sums of those of the parts: exact, without visiting every combination of the variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hectorite.ir.index import IndexExpr, Path, Term

Array = np.ndarray[Any, Any]

INT64 = 1 << 63
"""Values at or beyond this do not fit the arithmetic of NumPy integers."""

RESIDUE_PAIRS = 1 << 24
"""Most combinations of residues looked at for one `%` over several variables."""


class Maps(Protocol):
    """What this file needs of a binding."""

    def size(self, name: str) -> int:
        """Elements of a set, or value of a size."""
        ...

    def target(self, start: str, fields: tuple[str, ...]) -> str:
        """The set that a path ends in."""
        ...

    def path(self, start: str, fields: tuple[str, ...]) -> Array:
        """int32[|start|]: where a path leads, for each element."""
        ...


@dataclass(frozen=True)
class Violation:
    """An access out of range: its value, and the value of each index variable there.

    `exact` is False where too many combinations would have to be tried: then the access may be in
    range after all, and `value` is only a bound.
    """

    value: int
    where: dict[str, int]
    exact: bool = True

    def __str__(self) -> str:
        place = ", ".join(f"{name} = {value}" for name, value in self.where.items())
        return f"{self.value}" + (f" at {place}" if place else "")


def column(maps: Maps, over: str, expr: IndexExpr) -> Array:
    """Value of `expr` for each element of the set `over`, in which its one variable ranges.

    int32 for a path, which is then the bound array itself, else int64 (Python integers where that
    might not hold them).
    """
    if expr.path is not None:
        return maps.path(over, expr.path.fields)
    wide = _wide_type(maps, dict.fromkeys(expr.variables, over), expr)
    values = expr.evaluate(lambda p: _wide(maps, over, p, wide), maps.size)
    return np.broadcast_to(np.asarray(values), (maps.size(over),)).astype(wide)


def extent(maps: Maps, over: str, expr: IndexExpr) -> int:
    """A bound on the values of `expr` over a set: all lie in 0 .. extent - 1.

    For a path, the size of the set that it ends in. Raises `ValueError` if a value is negative.
    """
    if expr.path is not None:
        return maps.size(maps.target(over, expr.path.fields))
    low, high = _bounds(maps, dict.fromkeys(expr.variables, over), expr)
    if low >= 0:
        return high + 1
    values = column(maps, over, expr)
    if values.size and int(values.min()) < 0:
        raise ValueError(f"{expr} is negative somewhere in {over}")
    return int(values.max()) + 1 if values.size else 0


def check_access(
    maps: Maps, expr: IndexExpr, variables: Mapping[str, str | int], limit: int
) -> Violation | None:
    """Whether `expr` stays in 0 .. limit - 1 for every assignment of its variables.

    `variables` gives, for every index variable of the statement, the set it ranges over or its
    extent; sizes inside `expr` are looked up in `maps` (put those of a call in before, by
    `with_sizes`). Returns None if all is well (also when a
    variable ranges over nothing), else the least value below 0, or else the greatest beyond.
    """
    if any(_extent_of(maps, over) == 0 for over in variables.values()):
        return None
    low, high = _bounds(maps, variables, expr)
    if low >= 0 and high < limit:
        return None
    parts = _parts(maps, variables, expr)
    constant = sum(_scale(maps, term) for term in expr.terms if term.path is None)
    constant += expr.constant
    divisor = _divisor(maps, expr)
    if expr.division and expr.division[0] == "mod" and divisor:
        return _check_residues(parts, constant, divisor, limit)
    least = _extreme(parts, constant, np.argmin)
    greatest = _extreme(parts, constant, np.argmax)
    if expr.division:
        ends = [Violation(v.value // divisor if divisor else 0, v.where) for v in (least, greatest)]
        least, greatest = sorted(ends, key=lambda end: end.value)
    if least.value < 0:
        return least
    return greatest if greatest.value >= limit else None


@dataclass(frozen=True)
class _Part:
    """What one variable adds to an access: `values` for the elements at `places` (None: all)."""

    variable: str
    values: Array
    places: Array | None = None

    def place(self, index: int) -> int:
        return index if self.places is None else int(self.places[index])


def _parts(maps: Maps, variables: Mapping[str, str | int], expr: IndexExpr) -> list[_Part]:
    wide = _wide_type(maps, variables, expr)
    parts: list[_Part] = []
    for name in expr.variables:
        terms = [t for t in expr.terms if t.path is not None and t.path.variable == name]
        over = variables[name]
        if all(t.path is not None and not t.path.fields for t in terms):
            parts.append(_plain_part(maps, name, over, terms, wide, _period(maps, expr)))
            continue
        assert isinstance(over, str), f"{name} has fields, so it ranges over a set"
        total = np.zeros(maps.size(over), wide)
        for term in terms:
            assert term.path is not None
            total += _wide(maps, over, term.path, wide) * _scale(maps, term)
        parts.append(_Part(name, total))
    return parts


def _plain_part(
    maps: Maps, name: str, over: str | int, terms: Sequence[Term], wide: np.dtype[Any], period: int
) -> _Part:
    """A variable without maps moves evenly: its ends say all, or for `%` one period."""
    count = _extent_of(maps, over)
    places = np.arange(min(count, period)) if period else np.array([0, count - 1])
    scale = sum(_scale(maps, term) for term in terms)
    return _Part(name, places.astype(wide) * scale, places)


def _extreme(parts: Sequence[_Part], constant: int, pick: Any) -> Violation:
    value, where = constant, dict[str, int]()
    for part in parts:
        index = int(pick(part.values))
        value += int(part.values[index])
        where[part.variable] = part.place(index)
    return Violation(value, where)


def _check_residues(
    parts: Sequence[_Part], constant: int, divisor: int, limit: int
) -> Violation | None:
    """Every value that a sum modulo `divisor` takes: combine the residues variable by variable."""
    residues = np.array([constant % divisor])
    places: dict[str, Array] = {}
    for part in parts:
        own, first = np.unique(part.values % divisor, return_index=True)
        if len(residues) * len(own) > RESIDUE_PAIRS:
            return Violation(divisor - 1, {}, exact=False)
        sums = (residues[:, None] + own[None, :]) % divisor
        residues, index = np.unique(sums, return_index=True)
        before, here = np.divmod(index, len(own))
        places = {name: at[before] for name, at in places.items()}
        places[part.variable] = np.array([part.place(i) for i in first[here]])
    for index in (0, len(residues) - 1):
        if not 0 <= residues[index] < limit:
            where = {name: int(at[index]) for name, at in places.items()}
            return Violation(int(residues[index]), where)
    return None


def _bounds(maps: Maps, variables: Mapping[str, str | int], expr: IndexExpr) -> tuple[int, int]:
    """Bounds on the values of `expr` that hold whatever the data in the maps is."""
    low, high = _sum_bounds(maps, variables, expr)
    if expr.division is None:
        return low, high
    divisor = _divisor(maps, expr)
    if divisor == 0:
        return 0, 0
    if expr.division[0] == "mod":
        return (0, divisor - 1) if divisor > 0 else (divisor + 1, 0)
    first, second = low // divisor, high // divisor
    return min(first, second), max(first, second)


def _sum_bounds(maps: Maps, variables: Mapping[str, str | int], expr: IndexExpr) -> tuple[int, int]:
    low = high = expr.constant
    for term in expr.terms:
        scale = _scale(maps, term)
        reach = scale
        if term.path is not None:
            over = variables[term.path.variable]
            if term.path.fields:
                assert isinstance(over, str)
                over = maps.target(over, term.path.fields)
            reach = scale * max(0, _extent_of(maps, over) - 1)
        low += min(0, reach) if term.path is not None else reach
        high += max(0, reach) if term.path is not None else reach
    return low, high


def _wide_type(maps: Maps, variables: Mapping[str, str | int], expr: IndexExpr) -> np.dtype[Any]:
    """int64, or Python integers where a sum might not fit."""
    low, high = _sum_bounds(maps, variables, expr)
    return np.dtype(object if low < -INT64 // 2 or high >= INT64 // 2 else np.int64)


def _wide(maps: Maps, over: str, path: Path, wide: np.dtype[Any]) -> Array:
    return maps.path(over, path.fields).astype(wide)


def _scale(maps: Maps, term: Term) -> int:
    scale = term.coefficient
    for name in term.sizes:
        scale *= maps.size(name)
    return scale


def _divisor(maps: Maps, expr: IndexExpr) -> int:
    if expr.division is None:
        return 1
    divisor = expr.division[1]
    return maps.size(divisor) if isinstance(divisor, str) else divisor


def _period(maps: Maps, expr: IndexExpr) -> int:
    return abs(_divisor(maps, expr)) if expr.division and expr.division[0] == "mod" else 0


def _extent_of(maps: Maps, over: str | int) -> int:
    return maps.size(over) if isinstance(over, str) else over
