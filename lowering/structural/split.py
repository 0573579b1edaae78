"""`split-sum`: sum the parts of a sum that depend on an element through different maps apart.

Enters: a graph of statements. Leaves: for a reduction of a sum one match, which makes a reduction
of each part, computed on the smallest domain that it has, and a sum of these. Terms that depend on
the kept variables through the same maps stay together.

    s[e] += z[e.src, o] * al[o] + z[e.dst, o] * ar[o]

becomes

    s_part1_src[u] += z[u, o] * al[o]
    s_part2_dst[u] += z[u, o] * ar[o]
    s[e] = s_part1_src[e.src] + s_part2_dst[e.dst]

Each part keeps all reduced variables, so that a part which does not depend on one is still added
once for each of its values. Floats are added in another order by this.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Cast, Formula, Read, nary
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Shape
from hectorite.lowering.graph.derived_sets import independent
from hectorite.lowering.search.step import Match
from hectorite.lowering.structural.domains import is_set
from hectorite.lowering.structural.onto import named
from hectorite.lowering.structural.place import Placed, declare, smallest
from hectorite.lowering.structural.statement import (
    Statement,
    computed,
    index_list,
    opened,
    paths_in,
    put,
    sum_of,
)
from hectorite.lowering.structural.terms import Term, sum_formula


@dataclass
class SplitSum:
    """Sum the parts of a sum apart that depend on an element through different maps."""

    extents: Extents
    name = "split-sum"
    family = "split"
    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """At most one match."""
        statement = opened(flow, number)
        if statement is None or statement.kind != "add" or not statement.reduced:
            return
        terms = sum_of(flow, statement)
        if terms is None or len(terms) < 2:
            return
        groups = dict[str, list[Term]]()
        for term in terms:
            groups.setdefault(_signature(flow, statement, term), []).append(term)
        if len(groups) < 2:
            return
        parts = [self._part(flow, statement, k, g) for k, g in enumerate(groups.values(), 1)]
        detail = ", ".join(part.text or "in place" for part in parts)

        def apply(flow: Dataflow) -> Sequence[int]:
            made = [declare(flow, part) for part in parts]
            whole = put(flow, _total(flow, statement, parts, made))
            flow.replace(number, whole)
            return (*made, whole)

        yield Match(self.name, self.family, (number,), f"parts on {detail}", apply)

    def _part(
        self, flow: Dataflow, statement: Statement, position: int, terms: Sequence[Term]
    ) -> Placed:
        element = computed(flow, statement.body)
        left = statement.left
        # What a sum adds outside of a padded tensor is lost, and so it is for its parts.
        pad = None if statement.plain_left else statement.shape.pad
        shape = Shape(statement.shape.dims, element, pad)
        name = named(statement.name, f"part{position}")
        body = sum_formula(terms, element)
        part = Statement("add", left, statement.dims, shape, body, None, name)
        return smallest(flow, self.extents, part)


def _signature(flow: Dataflow, statement: Statement, term: Term) -> str:
    """Through which paths a term depends on each variable on the left."""
    found = list[str]()
    inside = index_list(*(factor.formula for factor in term.factors))
    kept = dict.fromkeys(name for index in statement.left for name in index.variables)
    for name in kept:
        paths = paths_in(name, inside)
        if paths and paths != [()] and is_set(flow.schema, statement.dims[name]):
            paths = independent(flow.schema, str(statement.dims[name]), paths)
        found += sorted(".".join((name, *path)) for path in paths)
    return " ".join(found)


def _total(
    flow: Dataflow, statement: Statement, parts: Sequence[Placed], made: Sequence[int]
) -> Statement:
    """The sum of the parts, and of what the statement starts from."""
    names = [f"p{k}" for k in range(len(statement.left))]
    plain = [index.variable for index in statement.left]
    if statement.plain_left:
        names = [str(variable) for variable in plain]
    element = computed(flow, statement.body)
    terms = list[Formula]()
    if statement.init is not None:
        start = Read(statement.init, tuple(IndexExpr.of(name) for name in names))
        same = flow.nodes[statement.init].shape.element == element
        terms.append(start if same else Cast(start, element))
    for part, number in zip(parts, made, strict=True):
        access = part.access if statement.plain_left else tuple(map(IndexExpr.of, names))
        terms.append(Read(number, access))
    body = nary("add", terms)
    if statement.shape.element != element:
        body = Cast(body, statement.shape.element)
    dims = dict(zip(names, statement.shape.dims, strict=True))
    left = tuple(map(IndexExpr.of, names))
    return replace(statement, kind="assign", left=left, dims=dims, body=body, init=None)
