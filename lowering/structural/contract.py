"""`contract-first` and `aggregate-first`: in which order a product of many factors is summed.

Enters: a graph of statements. Leaves: matches, one for each way to sum some of the factors of a
product first, products across statements taken as one (`flatten.py`). What is summed first is
computed on the smallest domain that it has, so that one step takes a contraction out, reorders it,
and shares it between elements that are alike. With

    z[e, o] += h[e.dst, i] * W[e.type, i, o]
    s[e] += z[e, o] * a[e.type, o]

the weights may be contracted first, `order=W a`:

    s_W_a[u, i] += W[u, i, o] * a[u, o]
    s[e] += h[e.dst, i] * s_W_a[e.type, i]

A set that is summed over may also be summed within groups of elements that the other factors and
the left cannot tell apart: `aggregate-first`. From `y[e.dst, o] += h[e.src, i] * W[e.type, i, o]`

    y_h[e.type_dst, i] += h[e.src, i]
    y[u.dst, o] += y_h[u, i] * W[u.type, i, o]

Floats are added and multiplied in another order by this; integers are exact in any. A group may
have no elements, and then its sum is zero: a factor that could be infinite or undefined there is
not multiplied by it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from math import prod

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.element import ELEMENTS
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Apply, Formula, Read, rebuild, walk
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Shape
from hectorite.lowering.search.step import Match
from hectorite.lowering.structural.domains import Domain, by_slice, domains, is_set
from hectorite.lowering.structural.factor import stays_inside
from hectorite.lowering.structural.flatten import Flat, flats, whole
from hectorite.lowering.structural.onto import named, substituted
from hectorite.lowering.structural.place import Placed, declare, smallest
from hectorite.lowering.structural.remember import Remembered, producers
from hectorite.lowering.structural.statement import (
    Statement,
    computed,
    index_list,
    opened,
    paths_in,
    put,
    variables_in,
)
from hectorite.lowering.structural.terms import Factor, product_formula

MOST_SUBSETS = 6
"""Up to so many factors every subset is tried, beyond only pairs."""

LOOKED_AT = 2
"""For each match that is offered, so many splits are placed on their domains."""


@dataclass(frozen=True)
class Split:
    """What is summed first, and the rest, in which the first is read as `SLOT`."""

    flat: Flat
    first: Placed
    rest: Statement
    group: Domain | None
    detail: str
    work: float


SLOT = -1
"""Stands for the node of what is summed first until there is one."""


@dataclass
class ContractFirst:
    """Sum some factors of a product first."""

    extents: Extents
    most: int | None = 8
    """How many matches a statement has at most, those with the least work; None for all."""
    known: Remembered = field(default_factory=Remembered, repr=False)
    name = "contract-first"
    family = "order"
    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """The orders with the least work first."""
        yield from self.known.matches(
            flow, producers(flow, number), lambda: self._new(flow, number)
        )

    def _new(self, flow: Dataflow, number: int) -> Iterator[Match]:
        self.extents.declare(flow.schema)
        taken = flats(flow, number)
        tasks = [p for flat in taken for p in problems(flow, self.extents, flat) if p.contractible]
        tasks.sort(key=lambda problem: problem.least_work)
        few = tasks if self.most is None else tasks[: LOOKED_AT * self.most]
        found = [problem.contracted() for problem in few]
        found += [split for flat in taken for split in self._together(flow, flat)]
        yield from best(self, flow, number, found, self.most)

    def _together(self, flow: Dataflow, flat: Flat) -> list[Split]:
        """All factors in one statement, where several statements are taken in."""
        sums = flat.statement.reduced
        if not flat.through or not pairwise(flow, flat.statement, flat.factors, sums):
            return []
        statement = whole(flat, computed(flow, flat.statement.body))
        work = _work(self.extents, statement, flat.factors, {})
        placed = Placed(statement, (), (), "")
        return [Split(flat, placed, statement, None, f"order=all{_via(flow, flat)}", work)]


@dataclass
class AggregateFirst:
    """Sum a set within groups before the rest of a product."""

    extents: Extents
    most: int | None = 4
    known: Remembered = field(default_factory=Remembered, repr=False)
    name = "aggregate-first"
    family = "order"
    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """The orders with the least work first."""
        if flow.schema.sets:
            yield from self.known.matches(
                flow, producers(flow, number), lambda: self._new(flow, number)
            )

    def _new(self, flow: Dataflow, number: int) -> Iterator[Match]:
        self.extents.declare(flow.schema)
        found = [
            split
            for flat in flats(flow, number)
            for problem in problems(flow, self.extents, flat)
            for variable in problem.groupable
            for split in problem.aggregated(variable)
        ]
        yield from best(self, flow, number, found, self.most)


def best(
    rule: ContractFirst | AggregateFirst,
    flow: Dataflow,
    number: int,
    found: list[Split],
    most: int | None,
) -> Iterator[Match]:
    """Matches for the splits with the least work, no two with the same detail."""
    found.sort(key=lambda split: (split.work, split.detail))
    chosen = dict[str, Split]()
    for split in found:
        chosen.setdefault(split.detail, split)
    for split in list(chosen.values())[:most]:
        yield Match(
            rule.name,
            rule.family,
            (number, *split.flat.through),
            split.detail,
            _apply(number, split),
        )


def _apply(number: int, split: Split) -> Callable[[Dataflow], Sequence[int]]:
    def apply(flow: Dataflow) -> Sequence[int]:
        made = list[int]()
        rest = split.rest
        if split.group is not None:
            split.group.declare(flow)
        if rest is not split.first.statement:
            made.append(declare(flow, split.first))
            rest = replace(rest, body=_filled(rest.body, made[0]))
        made.append(put(flow, rest))
        flow.replace(number, made[-1])
        return made

    return apply


def _filled(body: Formula, number: int) -> Formula:
    return rebuild(
        body, lambda p: Read(number, p.access) if isinstance(p, Read) and p.slot == SLOT else None
    )


def problems(flow: Dataflow, extents: Extents, flat: Flat) -> Iterator["Problem"]:
    """The ways to take a part of the factors first."""
    factors = flat.factors
    movable = [k for k, f in enumerate(factors) if variables_in(f.formula)]
    for size in range(1, len(movable) + 1):
        if len(movable) > MOST_SUBSETS and size not in (1, 2):
            continue
        for chosen in combinations(movable, size):
            inside = [factors[k] for k in chosen]
            outside = [f for k, f in enumerate(factors) if k not in chosen]
            if not all(factor.divides for factor in inside):
                yield Problem(flow, extents, flat, inside, outside)


@dataclass
class Problem:
    """Factors to sum first and those that stay."""

    flow: Dataflow
    extents: Extents
    flat: Flat
    inside: Sequence[Factor]
    outside: Sequence[Factor]

    def __post_init__(self) -> None:
        statement = self.flat.statement
        self.statement = statement
        self.element = computed(self.flow, statement.body)
        self.within = variables_in(*(factor.formula for factor in self.inside))
        self.beyond = variables_in(*(factor.formula for factor in self.outside))
        self.left = dict.fromkeys(n for index in statement.left for n in index.variables)
        self.shared = [
            v for v in statement.dims if v in self.within and (v in self.beyond or v in self.left)
        ]
        self.summed = [v for v in self.within if v not in self.shared]

    @property
    def groupable(self) -> list[str]:
        """Sets that are summed over, and that both parts or the left depend on."""
        statement = self.statement
        return [
            v
            for v in self.shared
            if v not in statement.alone and is_set(self.flow.schema, statement.dims[v])
        ]

    @property
    def contractible(self) -> bool:
        """Whether there is something to sum that only the inner factors depend on, and then
        something left to do."""
        useful = bool(self.summed) and (bool(self.outside) or not self._same_left)
        return useful and self._pairwise and self._finite_beside(self.summed)

    @property
    def _pairwise(self) -> bool:
        return pairwise(self.flow, self.statement, self.inside, self.summed)

    @property
    def least_work(self) -> float:
        """The work of the rest, wherever the first part is computed."""
        summed = set(self.summed)
        dims = [dim for name, dim in self.statement.dims.items() if name not in summed]
        return prod(map(self.extents.of, dims)) * (len(self.outside) + 1)

    def contracted(self) -> Split:
        """Sum what only these factors depend on."""
        first = self._first(self.shared, {})
        placed = smallest(self.flow, self.extents, first)
        rest = self._rest(Read(SLOT, placed.access), self.statement)
        return self._split(placed, rest, None)

    @property
    def _same_left(self) -> bool:
        """Whether nothing would be left to do after the sum."""
        return self.statement.plain_left and set(self.shared) == set(self.left)

    def aggregated(self, variable: str) -> Iterator[Split]:
        """Sum a set within the groups that the other factors and the left tell apart."""
        statement, flow = self.statement, self.flow
        outer = [*statement.left, *index_list(*(f.formula for f in self.outside))]
        paths = paths_in(variable, outer)
        over = statement.dims[variable]
        if not self.beyond or not paths or () in paths or not self._pairwise:
            return
        body = replace(statement, body=self._product(self.outside))
        ordered = by_slice(flow, body, variable, paths, self.extents)
        for group in domains(flow, self.extents, over, ordered):
            if not stays_inside(flow, body, variable, group):
                continue
            if not group.reaches_all and not self._all_finite(self.outside):
                continue
            kept = list(self.shared)
            at = {variable: IndexExpr.of(variable, *group.factor.position)}
            first = self._first(kept, at, {variable: group.factor.set_name})
            access = tuple(map(IndexExpr.of, kept))
            rest = self._rest(Read(SLOT, access), self.statement)
            # The read is at the group itself, so it is no path through the old set.
            marked = Domain(
                group.text,
                replace(group.factor, rest={**group.factor.rest, (): ()}),
                group.decl,
                group.elements,
                group.reaches_all,
            )
            rest, _ = substituted(rest, variable, marked)
            yield self._split(Placed(first, (), (), ""), self._settled(rest), group)
            return

    def _first(
        self, kept: Sequence[str], at: dict[str, IndexExpr], over: dict[str, str] | None = None
    ) -> Statement:
        """The statement of the inner factors; `at` says where sums within groups go."""
        statement = self.statement
        dims: dict[str, Dim] = {v: statement.dims[v] for v in statement.dims if v in self.within}
        dims = {v: dims[v] for v in (*kept, *(v for v in dims if v not in kept))}
        left = tuple(at.get(v, IndexExpr.of(v)) for v in kept)
        extents = tuple((over or {}).get(v, statement.dims[v]) for v in kept)
        body = self._product(self.inside)
        kind = "add" if self.summed or at else "assign"
        name = named(statement.name, _suffix(self.flow, self.inside))
        return Statement(kind, left, dims, Shape(extents, self.element), body, None, name)

    def _rest(self, read: Read, statement: Statement) -> Statement:
        """The statement of the outer factors times what was summed first."""
        factors = [Factor(read), *self.outside]
        body = product_formula(factors, self.element, self.flat.negative)
        dims = {v: d for v, d in statement.dims.items() if v not in self.summed}
        return self._settled(replace(statement, body=body, dims=dims))

    def _settled(self, rest: Statement) -> Statement:
        """As an assignment where nothing is left to sum."""
        done = rest.plain_left and not rest.reduced and rest.init is None
        return replace(rest, kind="assign") if done and self.element == rest.shape.element else rest

    def _product(self, factors: Sequence[Factor]) -> Formula:
        return product_formula(factors, self.element)

    def _finite_beside(self, summed: Sequence[str]) -> bool:
        """Whether the outer factors may be multiplied by a sum that could be empty."""
        dims = self.statement.dims
        sets = [v for v in summed if is_set(self.flow.schema, dims[v])]
        return not sets or self._all_finite(self.outside)

    def _all_finite(self, factors: Sequence[Factor]) -> bool:
        if not ELEMENTS[self.element].is_float:
            return True
        return all(not f.divides and finite(self.flow, f.formula) for f in factors)

    def _split(self, placed: Placed, rest: Statement, group: Domain | None) -> Split:
        used = placed.domains if group is None else (group,)
        new = {domain.factor.set_name: domain.elements for domain in used}
        work = _work(self.extents, placed.statement, self.inside, new)
        work += _work(self.extents, rest, self.outside, new)
        names = " ".join(_name(self.flow, factor) for factor in self.inside)
        where = f" by {group.text}" if group is not None else ""
        if placed.text:
            where += f" domain={placed.text}"
        detail = f"order={names}{where}{_via(self.flow, self.flat)}"
        return Split(self.flat, placed, rest, group, detail, work)


def pairwise(
    flow: Dataflow, statement: Statement, factors: Sequence[Factor], summed: Iterable[str]
) -> bool:
    """Whether all sums over dimensions that are no sets run through the same factors. Otherwise,
    as in `k[d] * W[d, f] * q[f]`, taking the factors in pairs is less work."""
    own = [variables_in(factor.formula) for factor in factors]
    dense = [v for v in summed if not is_set(flow.schema, statement.dims[v])]
    through = {tuple(v in variables for variables in own) for v in dense}
    return len(through) <= 1


def finite(flow: Dataflow, formula: Formula, depth: int = 4) -> bool:
    """Whether a value is surely finite for finite inputs, as far as sums and products go."""
    for part in walk(formula):
        if isinstance(part, Apply) and part.function not in ("add", "mul", "sub", "neg"):
            return False
        if isinstance(part, Read) and flow.nodes[part.slot].form is not None:
            inner = opened(flow, part.slot)
            if inner is None or depth == 0 or inner.kind not in ("add", "assign"):
                return False
            if not finite(flow, inner.body, depth - 1):
                return False
    return True


def _work(
    extents: Extents, statement: Statement, factors: Sequence[Factor], new: Mapping[str, float]
) -> float:
    """Multiplications and elements written, roughly; `new` are sizes of sets that are not declared
    yet."""

    def size(dims: Iterable[Dim]) -> float:
        return prod(new[d] if d in new else extents.of(d) for d in dims)  # type: ignore[index]

    points = size(statement.dims.values())
    return points * max(1, len(factors)) + 2 * size(statement.shape.dims)


def _name(flow: Dataflow, factor: Factor) -> str:
    reads = [part.slot for part in walk(factor.formula) if isinstance(part, Read)]
    names = [flow.nodes[slot].name or "?" for slot in reads]
    return f"{'/' if factor.divides else ''}{'+'.join(names)}"


def _suffix(flow: Dataflow, factors: Sequence[Factor]) -> str:
    names = [flow.nodes[f.formula.slot].name for f in factors if isinstance(f.formula, Read)]
    return "_".join(name for name in names if name and len(name) <= 12) or "part"


def _via(flow: Dataflow, flat: Flat) -> str:
    names = [flow.nodes[number].name or "?" for number in flat.through]
    return f" through {' '.join(names)}" if names else ""
