"""Instances and mutants of scalar laws, for `check.py`.

Enters: a scalar law and a number. Leaves: a graph with one statement that has the left side in its
body, and the right side in its place. The names stand for reads with and without broadcasting.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.formula import Apply, Constant, Formula, Read, children, nary, rebuild, walk
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Shape
from hectorite.lowering.rules.apply import applied_to, part_replaced
from hectorite.lowering.rules.scalar import ScalarLaw
from hectorite.lowering.rules.smart import put

Sides = tuple[Dataflow, int, dict[int, Formula]]
_OTHERS = {"add": ("sub", "mul"), "sub": ("add",), "mul": ("add",), "div": ("mul",)}


def scalar_instance(law: ScalarLaw, number: int) -> Sides:
    """A graph without results, a number for drawing a body, and what the names stand for."""
    drawn = random.Random(f"{law.name} {number}")
    element = "i32" if number % 5 == 4 and "field" not in law.algebra else "f32"
    extents = [drawn.choice((1, 2, 3, 5, 0)) for _ in range(3)]
    flow, found = Dataflow(), dict[int, Formula]()
    for hole, name in enumerate(law.names):
        axes = [a for a in range(3) if name not in law.fixed or drawn.random() < 0.5]
        dims = tuple(extents[a] for a in axes)
        fixed = name in law.fixed
        flow.input(name, Shape(dims, element), fixed)
        access = tuple(IndexExpr.of(f"i{a}") for a in axes)
        found[hole] = Read(hole, access)
    flow.input("extra", Shape(tuple(extents), element))
    return flow, number, found


def with_side(law: ScalarLaw, side: Formula, place: Sides) -> Dataflow:
    """The graph of an instance with a side of the law inside of a body."""
    flow, number, found = place[0].copy(), place[1], place[2]
    extra = flow.inputs["extra"]
    shape = flow.nodes[extra].shape
    left = tuple(IndexExpr.of(f"i{a}") for a in range(3))

    def change(part: Formula) -> Formula | None:
        if isinstance(part, Read):
            return found[part.slot]
        return Constant(part.number, shape.element) if isinstance(part, Constant) else None

    body: Formula = rebuild(side, change)
    if number % 3 == 1:
        body = Apply("relu", (body,))
    elif number % 3 == 2:
        body = nary("mul", [Apply("neg", (body,)), Read(len(law.names), left)])
    over = {f"i{a}": dim for a, dim in enumerate(shape.dims)}
    flow.give([put(flow, "assign", left, over, shape, body, list(flow.inputs.values()))])
    return flow


def scalar_mutants(law: ScalarLaw) -> Iterator[tuple[Formula, str]]:
    """Right sides with one fault."""
    target = law.target
    seen = {target, law.source}
    for place, part in enumerate(walk(target)):
        for other, fault in _faults(part, len(law.names)):
            changed = part_replaced(target, place, other)
            if changed not in seen:
                seen.add(changed)
                yield changed, fault


def _faults(part: Formula, names: int) -> Iterator[tuple[Formula, str]]:
    if isinstance(part, Read):
        for slot in range(names):
            yield Read(slot, None), "one name for another"
        yield Apply("neg", (part,)), "the wrong sign"
    if isinstance(part, Apply):
        inside = children(part)
        for function in _OTHERS.get(part.function, ()):
            yield applied_to(function, inside[:2]), f"{function} for {part.function}"
        for number in range(len(inside)):
            rest = (*inside[:number], *inside[number + 1 :])
            if rest:
                yield applied_to("add", rest), "a part left out"
        yield Apply(part.function, inside[::-1]), "operands in the other order"
