"""Plans of derived sets for machine code: loops over binders, with everything summed up ahead.

Enters: a `Derivation` and bound maps. Leaves: a `JoinPlan`, or None where this way does not serve.

    c = distinct(x.row, y.col) for x: a, y: b where x.col == y.row

    for each group of elements x with one row        the leading keys: those of the first binder
      for each x of the group
        for each y with y.row == x.col               a stage: found at a code, or all elements
          add y.col to the row's set                 the code of the other keys

Conditions and keys are affine, so each is a sum of what every binder adds to it: a column of
numbers, made once. Equalities of a binder with those before it become one number, a code, by which
its elements are found: directly where codes are dense, else through a hash table. Binders are
joined in the order that makes least assignments.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from itertools import permutations
from math import prod
from typing import Any

import numpy as np

from hectorite.backends.access import Maps, column
from hectorite.backends.cpu.threads import pool
from hectorite.backends.order import sort
from hectorite.ir.identity import by_identity
from hectorite.ir.index import IndexExpr, Term
from hectorite.ir.schema import Condition, Derivation

Array = np.ndarray[Any, Any]

WIDEST = 1 << 62
"""Codes are below this."""

DENSE = 4
"""Codes are dense if there are at most so many times more of them than elements, or few of them."""

FEW_CODES = 1 << 16
MOST_BINDERS = 5
"""More of them are not put in order by trying."""

COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class Adjacency(ABC):
    """What a binding has besides maps: its sets in order of a path, built once."""

    @abstractmethod
    def adjacent(self, name: str, path: IndexExpr) -> tuple[Array, Array | None]:
        """int32[extent + 1]: where the elements with each value of a path begin, in that order; and
        the elements so, None if they are in order already."""


@dataclass(frozen=True)
class Parts:
    """An affine expression as what each binder adds to it (int64[its set]), and the rest."""

    columns: dict[str, Array]
    constant: int = 0

    @property
    def variables(self) -> set[str]:
        return set(self.columns)

    def bounds(self) -> tuple[int, int]:
        """The least and greatest value that assignments could have, (0, -1) if there are none."""
        if any(not len(values) for values in self.columns.values()):
            return 0, -1
        low = self.constant + sum(int(values.min()) for values in self.columns.values())
        return low, self.constant + sum(int(values.max()) for values in self.columns.values())


@dataclass
class Sum:
    """A number that is added up along the stages: `columns` by the number of the binder. `role` is
    `key`, `tie` (the code by which binder `of` is found), or a comparison with 0."""

    role: str
    columns: dict[int, Array]
    constant: int
    of: int = -1

    @property
    def complete(self) -> int:
        """The last binder that adds to it."""
        return max(self.columns, default=0)


@dataclass
class Stage:
    """How the elements of one binder are gone through: `all` of them; those at a code, `direct` in
    `begin[code] .. begin[code + 1]`; or `hash`, by distinct codes with the same bounds. `elements`
    are in that order; None: as they are."""

    kind: str
    count: int
    elements: Array | None = None
    begin: Array | None = None
    codes: Array | None = None

    @property
    def most(self) -> int:
        """The most elements that one code has."""
        if self.begin is None:
            return self.count
        return int(np.diff(self.begin).max(initial=0))


@dataclass
class JoinPlan:
    """Loops over binders in order. Group g of the first binder has its elements `groups[g]` ..
    `groups[g + 1]`, and the leading keys `lead[k][g]`; `trailing` are the extents of the other
    keys, of whose tuples `key` is the number. `unique`: no two assignments have the same keys."""

    stages: list[Stage]
    sums: list[Sum]
    groups: Array
    lead: list[Array]
    trailing: list[int]
    unique: bool
    complete: bool = False
    """Whether there is a group for each element of the first key's target."""

    @cached_property
    def span(self) -> int:
        """Distinct tuples of the trailing keys that there could be."""
        return prod(self.trailing)


def plan_join(
    maps: Maps, derivation: Derivation, targets: Sequence[str], work: int = 0
) -> JoinPlan | None:
    """The plan, or None if keys or conditions are not of the kind described above, codes are too
    wide, a key might lie outside of its target, or `work` assignments are likely not reached."""
    try:
        return _Planner(maps, derivation, targets).plan(work)
    except _NotServed:
        return None


class _NotServed(Exception):
    """This derivation is built in another way."""


@dataclass(frozen=True)
class Order:
    """Binders in order, for each the equalities that tie it to those before it, and the conditions
    of several binders that are none of these."""

    names: tuple[str, ...]
    ties: tuple[tuple[Condition, ...], ...]
    others: tuple[Condition, ...]


class Form:
    """What a derivation is before there is any data."""

    def __init__(self, derivation: Derivation):
        conditions = derivation.conditions
        self.sets = dict(derivation.binders)
        self.own = [c for c in conditions if len(c.variables) == 1]
        self.never = [c for c in conditions if not c.variables]
        self.joint = [c for c in conditions if len(c.variables) > 1]
        self.plain = {key.variable for key in derivation.keys}
        few = len(self.sets) <= MOST_BINDERS
        self.orders = [self.order(names) for names in permutations(self.sets)] if few else []

    def order(self, names: tuple[str, ...]) -> Order:
        ties = list[tuple[Condition, ...]]()
        for place, name in enumerate(names):
            before = set(names[: place + 1])
            tied = [c for c in self.joint if c.operator == "==" and name in c.variables]
            ties.append(tuple(c for c in tied if c.variables <= before))
        others = list[Condition]()
        for condition in self.joint:
            last = max(names.index(name) for name in condition.variables)
            if condition not in ties[last]:
                others.append(condition)
        return Order(names, tuple(ties), tuple(others))


form_of = by_identity(Form)
"""The form of a derivation."""


class _Planner:
    def __init__(self, maps: Maps, derivation: Derivation, targets: Sequence[str]):
        self.maps, self.derivation = maps, derivation
        self.form = form = form_of(derivation)
        self.extents = [maps.size(target) for target in targets]
        self.sets, self.targets = form.sets, targets
        self.keys = [self.parts(key) for key in derivation.keys]
        self.differences: dict[int, Parts] = {}
        self.kept = {name: self.filtered(name) for name in self.sets}

    def plan(self, work: int) -> JoinPlan:
        if self.form.never or not self.form.orders:
            raise _NotServed
        for key, parts, target in zip(self.derivation.keys, self.keys, self.targets, strict=True):
            path = key.path
            if path and self.maps.target(self.sets[path.variable], path.fields) == target:
                continue
            low, high = parts.bounds()
            if high >= low and (low < 0 or high >= self.maps.size(target)):
                raise _NotServed
        order, cost = self.best_order()
        if cost < work:
            raise _NotServed
        pool().rouse()  # the join follows
        return self.build(order)

    # Expressions as sums of columns.

    def parts(self, expr: IndexExpr) -> Parts:
        if expr.division is not None and len(expr.variables) > 1:
            raise _NotServed
        if len(expr.variables) == 1:
            (name,) = expr.variables
            return Parts({name: self.values(name, expr)})
        columns = dict[str, Array]()
        for name in expr.variables:
            terms = [t for t in expr.terms if t.path is not None and t.path.variable == name]
            columns[name] = self.values(name, IndexExpr.make(terms))
        constant = expr.constant
        for term in expr.terms:
            constant += 0 if term.path is not None else _scaled(self.maps, term)
        if expr.division is not None:
            raise _NotServed
        return Parts(columns, constant)

    def values(self, name: str, expr: IndexExpr) -> Array:
        values = column(self.maps, self.sets[name], expr)
        if values.dtype == object:
            raise _NotServed
        return values

    def difference(self, condition: Condition) -> Parts:
        """Left side minus right side."""
        if id(condition) not in self.differences:
            self.differences[id(condition)] = self.subtracted(condition)
        return self.differences[id(condition)]

    def subtracted(self, condition: Condition) -> Parts:
        left, right = self.parts(condition.left), self.parts(condition.right)
        columns = {name: values.astype(np.int64) for name, values in left.columns.items()}
        for name, values in right.columns.items():
            columns[name] = columns.get(name, 0) - values.astype(np.int64)
        return Parts(columns, left.constant - right.constant)

    def filtered(self, name: str) -> Array | None:
        """Elements of a binder's set that satisfy the conditions on it alone; None: all."""
        keep: Array | None = None
        for condition in self.form.own:
            if condition.variables == {name}:
                parts = self.difference(condition)
                holds = COMPARE[condition.operator](parts.columns[name] + parts.constant, 0)
                keep = holds if keep is None else keep & holds
        return None if keep is None else np.flatnonzero(keep).astype(np.int32)

    def count(self, name: str) -> int:
        kept = self.kept[name]
        return self.maps.size(self.sets[name]) if kept is None else len(kept)

    # The order of binders.

    def leader(self) -> str | None:
        """The binder that alone the first key depends on."""
        variables = self.keys[0].variables
        return next(iter(variables)) if len(variables) == 1 else None

    def best_order(self) -> tuple[Order, int]:
        """The order with least assignments, and how many these are likely to be. One that does not
        begin with the leading binder makes one group, which is one task."""
        leader = self.leader()
        costs = [
            (self.cost(order) * (1 if order.names[0] == leader else 16), place)
            for place, order in enumerate(self.form.orders)
        ]
        cost, place = min(costs)
        return self.form.orders[place], cost

    def cost(self, order: Order) -> int:
        rows = total = self.count(order.names[0])
        for name, ties in zip(order.names[1:], order.ties[1:], strict=True):
            count = self.count(name)
            codes = prod(self.codes(tie, name) for tie in ties)
            rows = rows * count // max(1, min(count, codes)) if count else 0
            total += rows
        return total

    def codes(self, tie: Condition, name: str) -> int:
        """How many values what a binder adds to an equality could have, roughly."""
        paths = (*tie.left.paths, *tie.right.paths)
        fields = next(path.fields for path in paths if path.variable == name)
        return self.maps.size(self.maps.target(self.sets[name], fields))

    # The plan.

    def build(self, order: Order) -> JoinPlan:
        names, sums, stages = order.names, list[Sum](), list[Stage]()
        lead, groups, first, others = self.grouped(names)
        stages.append(first)
        for place, ties in enumerate(order.ties[1:], 1):
            stages.append(self.stage(names, place, ties, sums))
        for condition in order.others:
            parts = self.difference(condition)
            columns = {names.index(name): parts.columns[name] for name in parts.columns}
            sums.append(Sum(condition.operator, columns, parts.constant))
        trailing = [self.extents[k] for k in others]
        sums.append(self.key(names, others, trailing))
        for total in sums:
            for number, values in total.columns.items():
                total.columns[number] = _arranged(values, stages[number].elements)
        unique = self.form.plain >= set(names)
        plan = JoinPlan(stages, sums, groups, lead, trailing, unique)
        plan.complete = len(lead) == 1 and len(groups) == self.extents[0] + 1
        return plan

    def grouped(self, order: Sequence[str]) -> tuple[list[Array], Array, Stage, list[int]]:
        """Leading keys of each group, where groups begin, the first stage, and the other keys."""
        name, kept = order[0], self.kept[order[0]]
        count = self.count(name)
        leading = list[int]()
        while len(leading) < len(self.keys) and self.keys[len(leading)].variables == {name}:
            leading.append(len(leading))
        others = list(range(len(leading), len(self.keys)))
        if leading == [0] and kept is None and (adjacent := self.rows(name)) is not None:
            return *adjacent, others
        columns = [_arranged(self.keys[k].columns[name], kept) for k in leading]
        if not leading:
            return [], np.array([0, count], np.int32), Stage("all", count, kept), others
        if self.derivation.keys[0].variable == name:
            elements, first = kept, np.arange(count)
        else:
            sorting = sort(columns, [self.extents[k] for k in leading])
            elements = sorting.permutation
            if kept is not None:
                elements = kept if elements is None else kept[elements]
            columns = [sorting.arrange(values) for values in columns]
            first = np.flatnonzero(sorting.first)
        lead = [np.ascontiguousarray(values[first], np.int32) for values in columns]
        groups = np.append(first, count).astype(np.int32)
        return lead, groups, Stage("all", count, elements), others

    def rows(self, name: str) -> tuple[list[Array], Array, Stage] | None:
        """The groups where the only leading key is a path, in whose order kernels may ask for the
        set as well."""
        key, over = self.derivation.keys[0], self.sets[name]
        if key.path is None or not key.path.fields or not isinstance(self.maps, Adjacency):
            return None
        target = self.maps.target(over, key.path.fields)
        if not _dense(self.maps.size(target), self.count(name)):
            return None
        begin, elements = self.maps.adjacent(over, key)
        return [self.maps.path(target, ())], begin, Stage("all", self.count(name), elements)

    def stage(
        self, order: Sequence[str], place: int, ties: Sequence[Condition], sums: list[Sum]
    ) -> Stage:
        """How a binder is found, with the sum that is its code."""
        name, kept = order[place], self.kept[order[place]]
        count = self.count(name)
        if not ties:
            return Stage("all", count, kept)
        if len(ties) == 1 and kept is None:
            stage = self.adjacent(order, place, ties[0], sums)
            if stage is not None:
                return stage
        code, before, constant, width = np.zeros(count, np.int64), dict[int, Array](), 0, 1
        for parts in map(self.difference, reversed(ties)):
            old = Parts({n: v for n, v in parts.columns.items() if n != name}, parts.constant)
            mine = -_arranged(parts.columns[name], kept)
            low, high = old.bounds()
            if len(mine):
                low, high = min(low, int(mine.min())), max(high, int(mine.max()))
            code += width * (mine - low)
            for other, values in old.columns.items():
                at = order.index(other)
                before[at] = before.get(at, 0) + width * values
            constant += width * (old.constant - low)
            width *= max(1, high - low + 1)
            if width >= WIDEST:
                raise _NotServed
        sums.append(Sum("tie", before, constant, place))
        return self.found(code, width, kept)

    def adjacent(
        self, order: Sequence[str], place: int, tie: Condition, sums: list[Sum]
    ) -> Stage | None:
        """A binder with a path that is one of an earlier binder: its set is adjacent to the set in
        which they end, in an order that kernels may ask for as well."""
        name = order[place]
        sides = {side.path.variable: side for side in (tie.left, tie.right) if side.path}
        other = next((n for n in sides if n != name), None)
        if other is None or name not in sides or not isinstance(self.maps, Adjacency):
            return None
        ends = [self.maps.target(self.sets[n], sides[n].paths[0].fields) for n in (name, other)]
        if self.maps.size(ends[1]) > self.maps.size(ends[0]):
            return None
        if not _dense(self.maps.size(ends[0]), max(self.count(name), self.count(other))):
            return None
        begin, elements = self.maps.adjacent(self.sets[name], sides[name])
        sums.append(Sum("tie", {order.index(other): self.values(other, sides[other])}, 0, place))
        return Stage("direct", self.count(name), elements, begin)

    def found(self, code: Array, width: int, kept: Array | None) -> Stage:
        """The elements by their codes, which are below `width`."""
        try:
            sorting = sort([code], [width])
        except ValueError:
            raise _NotServed from None
        elements = sorting.permutation
        if kept is not None:
            elements = kept if elements is None else kept[elements]
        if _dense(width, len(code)):
            begin = np.zeros(width + 1, np.int32)
            np.cumsum(np.bincount(code, minlength=width), out=begin[1:])
            return Stage("direct", len(code), elements, begin)
        first = np.flatnonzero(sorting.first)
        begin = np.append(first, len(code)).astype(np.int32)
        return Stage("hash", len(code), elements, begin, sorting.arrange(code)[first])

    def key(self, order: Sequence[str], others: Sequence[int], extents: Sequence[int]) -> Sum:
        """The number of the tuple of the other keys."""
        columns, constant, width = dict[int, Array](), 0, 1
        for k, extent in zip(reversed(others), reversed(extents), strict=True):
            parts = self.keys[k]
            for name, values in parts.columns.items():
                at = order.index(name)
                scaled = values if width == 1 else width * values.astype(np.int64)
                columns[at] = columns[at] + scaled if at in columns else scaled
            constant += width * parts.constant
            width *= extent
            if width >= WIDEST:
                raise _NotServed
        return Sum("key", columns, constant)


def _dense(codes: int, elements: int) -> bool:
    return codes <= max(FEW_CODES, DENSE * elements)


def _arranged(values: Array, elements: Array | None) -> Array:
    return values if elements is None else values[elements]


def _scaled(maps: Maps, term: Term) -> int:
    return reduce(operator.mul, (maps.size(name) for name in term.sizes), term.coefficient)
