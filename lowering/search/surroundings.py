"""What is known of places that look alike: the matches there and what each changes.

Enters: a graph and a node. Leaves: a key that is equal for nodes with equal surroundings, whatever
their names, in this graph or another, and what was found there before. Layers of a network, copies
of a region and graphs that differ in one move are priced once that way.

    layer 0: q0, k0, v0 read x0      key 17...   merge-siblings at (0, 1, 2): -40 us
    layer 1: q1, k1, v1 read x1      key 17...   the same at (0, 1, 2) around x1

The surroundings of a node are the statements up to two steps away, and what it is made from as far
as products are taken in. A cost that depends on something further away may be another one: it
decides in which order matches are tried, and each is priced exactly before it is kept.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.schema import Schema
from hectorite.lowering.search.step import Rule

MANY_USERS = 32
"""Nodes with more users than this connect places that have little to do with each other."""

MADE_FROM = 4
"""Steps back along operands that surroundings go at least."""


class Effect(NamedTuple):
    """A match of a rule: its nodes by their place in the surroundings, how many matches with the
    same nodes come before it, and what it changes."""

    rule: Rule
    nodes: tuple[int, ...]
    rank: int
    delta: int


@dataclass(frozen=True)
class Surroundings:
    """The nodes around one, in an order that its surroundings decide, and their key."""

    nodes: Sequence[int]
    key: bytes


@dataclass
class Known:
    """Effects by surroundings and rules, for all graphs of one search under one cost model."""

    _codes: dict[object, int] = field(default_factory=dict[object, int])
    _schemas: list[Schema] = field(default_factory=list[Schema])
    """Kept, so that their identities stay theirs."""
    _effects: dict[tuple[int, bytes, object], tuple[Effect, ...]] = field(
        default_factory=dict[tuple[int, bytes, object], tuple[Effect, ...]]
    )

    def effects(self, flow: Dataflow, key: bytes, rules: object) -> tuple[Effect, ...] | None:
        """What some rules offer in these surroundings; None if that is not known."""
        return self._effects.get((id(flow.schema), key, rules))

    def learn(
        self, flow: Dataflow, key: bytes, rules: object, effects: tuple[Effect, ...]
    ) -> None:
        """Keep what some rules offer in these surroundings."""
        if not any(schema is flow.schema for schema in self._schemas):
            self._schemas.append(flow.schema)
        self._effects[id(flow.schema), key, rules] = effects

    def around(self, flow: Dataflow, place: int) -> Surroundings:
        """The surroundings of a node."""
        at = _nearby(flow, place)
        codes, nodes, results = self._codes, flow.nodes, flow.results
        line = array("i")
        for number in at:
            node = nodes[number]
            what = (node.form or node.shape, node.fixed, len(flow.users[number]), number in results)
            line.append(codes.setdefault(what, len(codes)))
            line.extend([at.get(operand, -1) for operand in node.operands])
        return Surroundings(list(at), line.tobytes())


def _nearby(flow: Dataflow, place: int) -> dict[int, int]:
    """The nodes around one, numbered as they are met."""
    nodes, users = flow.nodes, flow.users
    at = {place: 0}
    last = [place]
    for hop in range(2):
        before = len(at)
        for number in last:
            for operand in nodes[number].operands:
                at.setdefault(operand, len(at))
            if hop == 0 or len(users[number]) <= MANY_USERS:
                for user in sorted(users[number]):
                    at.setdefault(user, len(at))
        last = list(at)[before:]
    last = [place]
    for _ in range(MADE_FROM):
        last = list(dict.fromkeys(o for number in last for o in nodes[number].operands))
        for operand in last:
            at.setdefault(operand, len(at))
    return at
