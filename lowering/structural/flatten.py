"""Products across statements as one product: the problem that contraction orders are chosen for.

Enters: a statement whose body is a product. Leaves: the same sum of products with sums that it
multiplies by taken in, each with how it came about.

    zs[e, o] += h[e.src, i] * W[e.type, i, o]
    s[e]     += zs[e, o] * al[e.type, o]

gives

    s[e] += zs[e, o] * al[e.type, o]
    s[e] += h[e.src, i] * W[e.type, i, o] * al[e.type, o]        through zs

A sum over the elements that a map leads to is taken in where the reader visits each once:

    a[e.dst, i] += x[e.src, i] * w[e]
    y[n, o]     += a[n, i] * W[i, o]

gives also `y[e.dst, o] += x[e.src, i] * w[e] * W[i, o]`. Only sums are taken in whose every element
is a product of its own, in the element type of the reader, so that no rounding comes between them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import Read, with_indices
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.structural.statement import (
    Statement,
    computed,
    followed,
    fresh,
    opened,
    product_of,
    shortened,
)
from hectorite.lowering.structural.terms import Factor, product_formula

MOST_FACTORS = 7
MOST_THROUGH = 3
"""How many factors a product may have, and how many statements may be taken in."""


@dataclass(frozen=True)
class Flat:
    """A statement as one product: its factors, whether it is subtracted, the other statements that
    were taken in, and the statement with `body` still the old one."""

    statement: Statement
    factors: tuple[Factor, ...]
    negative: bool
    through: tuple[int, ...] = ()


def flats(flow: Dataflow, number: int) -> list[Flat]:
    """The statement of a node as products, the plain one first; none if it is no product."""
    statement = opened(flow, number)
    if statement is None or statement.kind not in ("add", "assign"):
        return []
    term = product_of(flow, statement)
    if term is None or (statement.kind == "assign" and not statement.plain_left):
        return []
    found = [Flat(statement, term.factors, term.negative)]
    for flat in found:
        for k, factor in enumerate(flat.factors):
            wider = _taken_in(flow, flat, k, factor)
            if wider is not None and wider not in found:
                found.append(wider)
    return found


def _taken_in(flow: Dataflow, flat: Flat, position: int, factor: Factor) -> Flat | None:
    """The product with the sum that one factor reads in its place."""
    read, outer = factor.formula, flat.statement
    if factor.divides or not isinstance(read, Read) or read.access is None:
        return None
    inner = opened(flow, read.slot)
    if inner is None or inner.kind != "add" or inner.init is not None:
        return None
    term = product_of(flow, inner)
    element = computed(flow, outer.body)
    exact = computed(flow, inner.body) == inner.shape.element == element
    if term is None or not exact or not inner.is_plain_tensor or not inner.reduced:
        return None
    at, images = dict[str, IndexExpr](), dict[str, IndexExpr]()
    for mine, index in zip(inner.left, read.access, strict=True):
        if mine.variable is not None and mine.variable not in at:
            at[mine.variable] = index
        elif (
            mine.path is not None and _once(outer, index.variable) and index.variable not in images
        ):
            images[str(index.variable)] = mine
        else:
            return None
    dims = dict[str, Dim]()
    for name, dim in outer.dims.items():
        if name not in images:
            dims[name] = dim
            continue
        for own in images[name].variables:  # where the image was, so that axes keep their order
            if own not in at:
                new = fresh(own, {**dims, **outer.dims})
                dims[new] = inner.dims[own]
                at[own] = IndexExpr.of(new)
    for name in inner.reduced:
        if name not in at:
            new = fresh(name, {**dims, **outer.dims})
            dims[new] = inner.dims[name]
            at[name] = IndexExpr.of(new)
    change = followed(at)
    try:
        image = followed({name: change(index) for name, index in images.items()})
        taken = [_moved(flow, f, dims, change) for f in term.factors]
        kept = [_moved(flow, f, dims, image) for f in flat.factors]
        left = tuple(shortened(flow.schema, dims, image(index)) for index in outer.left)
    except ValueError:
        return None
    factors = (*kept[:position], *taken, *kept[position + 1 :])
    through = tuple(sorted({*flat.through, read.slot}))
    if len(factors) > MOST_FACTORS or len(through) > MOST_THROUGH:
        return None
    statement = replace(outer, kind="add", dims=dims, left=left)
    return Flat(statement, factors, flat.negative != term.negative, through)


def _once(outer: Statement, name: str | None) -> bool:
    """Whether a variable stands once on the left, alone, so that what is at different values of it
    is not added up."""
    return [name in index.variables for index in outer.left].count(
        True
    ) == 1 and name in outer.alone


def _moved(
    flow: Dataflow,
    factor: Factor,
    dims: Mapping[str, Dim],
    change: Callable[[IndexExpr], IndexExpr],
) -> Factor:
    def moved(index: IndexExpr) -> IndexExpr:
        return shortened(flow.schema, dims, change(index))

    return Factor(with_indices(factor.formula, moved), factor.divides)


def whole(flat: Flat, element: str) -> Statement:
    """The product as one statement."""
    body = product_formula(flat.factors, element, flat.negative)
    return replace(flat.statement, body=body)
