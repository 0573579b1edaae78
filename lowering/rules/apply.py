"""Puts the target of a rule in the place of its source.

Enters: a graph, a rule, a binding and the statements that it replaces. Leaves: the changed graph,
and the nodes that are new. Where the target cannot be built nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import (
    NARY,
    Access,
    Apply,
    Cast,
    Formula,
    Read,
    children,
    nary,
    rebuild,
    walk,
)
from hectorite.lowering.rules.binding import Binding
from hectorite.lowering.rules.build import Unfit, build
from hectorite.lowering.rules.smart import put
from hectorite.lowering.rules.term import Law


def applied(flow: Dataflow, law: Law, binding: Binding, olds: Sequence[int]) -> Sequence[int]:
    """Replace statements by what the target makes of them."""
    start = len(flow.edits)
    news = _built(flow, law, binding)
    for old, new in zip(olds if news else (), news, strict=True):
        if old in flow.nodes:
            flow.replace(old, new)
    return created(flow, start)


def applied_sum(
    flow: Dataflow,
    law: Law,
    binding: Binding,
    number: int,
    olds: Sequence[int],
    access: Access,
) -> Sequence[int]:
    """Replace terms of a sum, which a statement reads at one access, by what stands for all."""
    start = len(flow.edits)
    news = _built(flow, law, binding)
    if not news:
        return ()
    (new,) = news
    node = flow.nodes[number]
    form = node.form
    assert form is not None and form.body is not None
    slots = {node.operands.index(old) for old in olds}
    fresh = Read(len(node.operands), access)

    def change(part: Formula) -> Formula | None:
        if not isinstance(part, Apply) or part.function != "add":
            return None
        rest, left = list[Formula](), set(slots)
        for term in part.arguments:
            if isinstance(term, Read) and term.slot in left and term.access == access:
                left.remove(term.slot)
            else:
                rest.append(rebuild(term, change))
        return None if left else nary("add", [*rest, fresh])

    body = rebuild(form.body, change)
    whole = isinstance(body, Read) and form.kind == "assign" and body.access == form.left
    if not (whole and flow.nodes[new].shape == node.shape):
        operands = [*node.operands, new]
        new = put(
            flow, form.kind, form.left, dict(form.dims), form.shape, body, operands, node.name
        )
    flow.replace(number, new)
    return created(flow, start)


def applied_inside(
    flow: Dataflow,
    law: Law,
    binding: Binding,
    number: int,
    place: int,
    rest: Sequence[Formula],
    access: Access,
) -> Sequence[int]:
    """Replace factors of a product in a body by what stands for them, read at an access."""
    start = len(flow.edits)
    news = _built(flow, law, binding)
    if not news:
        return ()
    (new,) = news
    operands = [*flow.nodes[number].operands, new]
    by = nary("mul", [*rest, Read(len(operands) - 1, access)])
    put_inside(flow, number, place, by, operands)
    return created(flow, start)


def put_inside(
    flow: Dataflow, number: int, place: int, by: Formula, operands: Sequence[int]
) -> None:
    """Replace a statement by one that has another formula at a place of its body."""
    node = flow.nodes[number]
    form = node.form
    assert form is not None and form.body is not None
    body = part_replaced(form.body, place, by)
    over = dict(form.dims)
    new = put(flow, form.kind, form.left, over, form.shape, body, operands, node.name)
    flow.replace(number, new)


def part_replaced(body: Formula, place: int, by: Formula) -> Formula:
    """The body with another part at a place, counted as `walk` visits."""
    if place == 0:
        return by
    place -= 1
    inside = list[Formula]()
    for child in children(body):
        size = sum(1 for _ in walk(child))
        inside.append(part_replaced(child, place, by) if 0 <= place < size else child)
        place -= size
    if isinstance(body, Cast):
        return Cast(inside[0], body.element)
    assert isinstance(body, Apply)
    return applied_to(body.function, inside)


def applied_to(function: str, arguments: Sequence[Formula]) -> Formula:
    """A function of formulas, sums and products of many taken together."""
    if function in NARY:
        return nary(function, list(arguments))
    return Apply(function, tuple(arguments))


def created(flow: Dataflow, start: int) -> Sequence[int]:
    """What was added since `flow.edits` had a length; what nothing uses is dropped."""
    made = dict.fromkeys(e.result for e in flow.edits[start:] if e.method == "add")
    found = [number for number in made if number is not None and number in flow.nodes]
    for number in reversed(found):
        flow.drop(number)
    return [number for number in found if number in flow.nodes]


def _built(flow: Dataflow, law: Law, binding: Binding) -> Sequence[int]:
    """What stands for the target, none where it cannot be built: the graph is then as it was."""
    start = len(flow.edits)
    try:
        return build(flow, law, law.target, binding.copy())
    except Unfit:
        created(flow, start)
        return ()
