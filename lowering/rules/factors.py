"""Products inside of bodies, seen as statements of their own.

    y[n, o] = relu(z[n, o] * s[o] + b[o])      the product is  t[n, o] = z[n, o] * s[o]

Enters: a graph and a statement. Leaves: its products of one operand that changes between calls and
of others that do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.form_views import recognised
from hectorite.ir.formula import Access, Apply, Constant, Formula, Read, nary, variables, walk
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Form, Shape, form


@dataclass(frozen=True)
class Factors:
    """Some factors of a product: the statement that computes them, where the product stands in the
    body, its other factors, and the access at which the statement would be read."""

    node: Node
    place: int
    rest: tuple[Formula, ...]
    access: Access


@cache
def _products(made: Form) -> tuple[tuple[int, Apply], ...]:
    """The products of a body that are not all of it, with their places."""
    if made.body is None or not recognised(made):
        return ()
    return tuple(
        (place, part)
        for place, part in enumerate(walk(made.body))
        if place and isinstance(part, Apply) and part.function == "mul"
    )


def scaled_inside(flow: Dataflow, number: int) -> Iterator[Factors]:
    """For each product its only varying factor with all that are fixed."""
    node = flow.nodes[number]
    if node.form is None:
        return
    for place, part in _products(node.form):
        kept, rest = list[Formula](), list[Formula]()
        varying = list[Read]()
        for factor in part.arguments:
            fixed = isinstance(factor, Constant) or (
                isinstance(factor, Read) and flow.nodes[node.operands[factor.slot]].fixed
            )
            if isinstance(factor, Read) and not fixed:
                varying.append(factor)
            (kept if fixed else rest).append(factor)
        if len(varying) != 1 or not any(isinstance(factor, Read) for factor in kept):
            continue
        found = _as_statement(node, varying[0], kept)
        if found is not None:
            rest.remove(varying[0])
            yield Factors(found, place, tuple(rest), _plain(varying[0]) or ())


def _plain(read: Read) -> Access | None:
    names = [index.variable for index in read.access or ()]
    return None if None in names or len(set(names)) != len(names) else read.access


def _as_statement(node: Node, varying: Read, fixed: list[Formula]) -> Node | None:
    access, body = _plain(varying), nary("mul", [varying, *fixed])
    assert node.form is not None
    names = [index.variable or "" for index in access or ()]
    if access is None or not set(variables(body)) <= set(names):
        return None
    over = {name: node.form.extents[name] for name in names}
    shape = Shape(tuple(over.values()), node.form.shape.element)
    made, slots, _ = form("assign", tuple(map(IndexExpr.of, names)), over, shape, body)
    return Node(made, tuple(node.operands[slot] for slot in slots), shape, None, "", False)
