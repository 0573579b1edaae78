"""Large graphs cut into regions that are solved by themselves, equal ones once.

    layer 0: [attention, mlp]   layer 1: [attention, mlp]   ...      one problem, many places

A region is a stretch of the graph's order with few values alive at its ends. Its copy has an input
for each node it reads from outside, named by position, so that the copies of repeated layers are
equal and have the same key.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hectorite.ir.dataflow import Dataflow

LARGEST = 64
"""Statements in a region."""


@dataclass(frozen=True)
class Region:
    """A copy of a part of a graph: `places` gives the node of the graph for each of the copy."""

    flow: Dataflow
    places: dict[int, int]
    key: str


def regions(flow: Dataflow, shift: int = 0, largest: int = LARGEST) -> list[Region]:
    """Cut a graph; with a shift the borders lie that many pieces further on."""
    order = [number for number, _, _ in flow.statements()]
    pieces = _pieces(flow, order, largest)
    return [_region(flow, stretch) for stretch in _joined(flow, pieces, shift, largest)]


def _pieces(flow: Dataflow, order: Sequence[int], largest: int) -> list[list[int]]:
    """The shortest stretches between places with few live values."""
    live = _alive(flow, order)
    width = 1
    while True:
        cuts = [place for place, alive in enumerate(live) if alive <= width]
        ends = sorted({*cuts, len(order) - 1})
        starts = [0, *(end + 1 for end in ends[:-1])]
        pieces = [list(order[a : b + 1]) for a, b in zip(starts, ends, strict=True)]
        if all(len(piece) <= largest for piece in pieces):
            return pieces
        if width > len(order):
            return [list(order[a : a + largest]) for a in range(0, len(order), largest)]
        width *= 2


def _alive(flow: Dataflow, order: Sequence[int]) -> list[int]:
    """After each statement, how many values of calls are still needed."""
    place = {number: at for at, number in enumerate(order)}
    change = [0] * (len(order) + 1)
    for number in order:
        last = max((place[user] for user in flow.users[number]), default=place[number])
        if not flow.nodes[number].fixed and last > place[number]:
            change[place[number]] += 1
            change[last] -= 1
    alive, count = list[int](), 0
    for at in range(len(order)):
        count += change[at]
        alive.append(count)
    return alive


def _joined(
    flow: Dataflow, pieces: Sequence[list[int]], shift: int, largest: int
) -> list[list[int]]:
    """Neighbouring pieces together, as many as fit; a piece like the first of a region starts the
    next one, so that what repeats is cut alike."""
    stretches, first = list[list[int]](), ""
    for at, piece in enumerate(pieces):
        here = _outline(flow, piece)
        full = not stretches or len(stretches[-1]) + len(piece) > largest
        repeats = len(piece) > 1 and here == first and len(stretches[-1]) * 2 > largest
        if full or repeats or (shift and at == shift):
            stretches.append([])
            first = here
        stretches[-1] += piece
    return stretches


def _outline(flow: Dataflow, piece: Iterable[int]) -> str:
    forms = (flow.nodes[number].form for number in piece)
    return " ".join(form.digest for form in forms if form is not None)


def _region(flow: Dataflow, stretch: Sequence[int]) -> Region:
    inside = set(stretch)
    made = Dataflow(flow.schema, flow.reassociate)
    copies, lines = dict[int, int](), list[str]()
    for number in stretch:
        node = flow.nodes[number]
        assert node.form is not None
        for operand in node.operands:
            if operand not in copies:
                outer = flow.nodes[operand]
                name = f"{len(made.inputs)}"
                copies[operand] = made.input(name, outer.shape, outer.fixed)
                lines.append(f"{name}: {outer.shape} {outer.fixed} {outer.shape.format}")
        operands = [copies[operand] for operand in node.operands]
        copies[number] = made.add(node.form, operands, node.name, node.hints)
        lines.append(f"{copies[number]}: {node.form.digest} {operands}")
    seen = set(flow.results)
    results = [n for n in stretch if n in seen or any(u not in inside for u in flow.users[n])]
    made.give([copies[number] for number in results])
    lines.append(str(made.results))
    key = hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()
    return Region(made, {copy: number for number, copy in copies.items()}, key)
