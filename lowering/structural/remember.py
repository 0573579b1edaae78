"""What a rule found, kept for as long as the statements around a node stay as they are.

Enters: nodes that matches depend on. Leaves: the matches, found again only if one of the nodes or
the sets have changed. A search asks for the matches of a node whenever something near changes, and
most of these changes are far enough away.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.schema import Schema
from hectorite.lowering.search.step import Match

Around = tuple[tuple[int, Node], ...]
"""Nodes by their numbers; equal if nothing about them has changed."""

DEPTH = 4
"""How far back products are taken in (`flatten.py`), and one further."""


@dataclass
class Remembered:
    """Matches by what they depend on, for one schema at a time."""

    _schema: Schema | None = None
    _found: dict[Around, list[Match]] = field(default_factory=dict[Around, list[Match]])

    def matches(
        self, flow: Dataflow, around: Around, find: Callable[[], Iterable[Match]]
    ) -> list[Match]:
        """The matches for these surroundings."""
        if self._schema is not flow.schema:
            self._schema = flow.schema
            self._found.clear()
        if around not in self._found:
            self._found[around] = list(find())
        return self._found[around]


def producers(flow: Dataflow, number: int) -> Around:
    """A node and the sums that it is made from, as far as products are taken in."""
    found = {number: flow.nodes[number]}
    last = [number]
    for _ in range(DEPTH):
        last = [
            operand
            for here in last
            if flow.nodes[here].form is not None
            for operand in flow.nodes[here].operands
            if operand not in found
        ]
        found.update((operand, flow.nodes[operand]) for operand in last)
    return tuple(found.items())


def readers(flow: Dataflow, number: int) -> Around:
    """A node, what it reads, and the nodes that read it."""
    node = flow.nodes[number]
    near = [number, *node.operands, *sorted(flow.users[number])]
    return tuple((n, flow.nodes[n]) for n in near)
