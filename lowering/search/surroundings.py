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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.schema import Schema
from hectorite.lowering.search.step import Rule

MANY_USERS = 32
"""Nodes with more users than this connect places that have little to do with each other."""

MADE_FROM = 4
"""Steps back along operands that surroundings go at least."""


class Offer(NamedTuple):
    """A match that was tried: where a rule offers it, which nodes it touches, how many matches of
    the rule with the same nodes come before it, and what it changes. If it was tried here, `priced`
    has the nodes whose costs that changes, and `moves` how many moves there were."""

    place: int
    rule: Rule
    nodes: tuple[int, ...]
    rank: int
    delta: int
    priced: tuple[int, ...] | None = None
    moves: int = 0

    @property
    def order(self) -> tuple[int, str, tuple[int, ...], int, int]:
        """Sorts the cheapest first, and equal ones always alike."""
        return self.delta, self.rule.name, self.nodes, self.rank, self.place


class Effect(NamedTuple):
    """An offer without its place: nodes are numbered by their place in the surroundings."""

    rule: Rule
    nodes: tuple[int, ...]
    rank: int
    delta: int
    priced: tuple[int, ...] | None


Group = tuple[int, ...]
"""Identities of rules."""


@dataclass(frozen=True)
class Surroundings:
    """The nodes around one, which comes first, in an order that its surroundings decide, and what
    is known of all nodes with equal surroundings."""

    nodes: Sequence[int]
    effects: dict[Group, tuple[Effect, ...]]

    def offer(self, effect: Effect, moves: int) -> Offer:
        """An effect at this place, after so many moves."""
        nodes, priced = self.nodes, effect.priced
        at = tuple([nodes[number] for number in effect.nodes])
        whose = None if priced is None else tuple([nodes[number] for number in priced])
        return Offer(nodes[0], effect.rule, at, effect.rank, effect.delta, whose, moves)

    def learn(self, group: Group, offers: Sequence[Offer]) -> None:
        """Keep all that a group of rules offers here, unless it concerns nodes further away."""
        if not offers:
            self.effects[group] = ()
            return
        at = {number: index for index, number in enumerate(self.nodes)}
        if all(number in at for offer in offers for number in offer.nodes):
            self.effects[group] = tuple([_effect(offer, at) for offer in offers])


def _effect(offer: Offer, at: Mapping[int, int]) -> Effect:
    priced, nodes = offer.priced, tuple([at[number] for number in offer.nodes])
    near = priced is not None and all(number in at for number in priced)
    whose = tuple([at[number] for number in priced]) if near and priced is not None else None
    return Effect(offer.rule, nodes, offer.rank, offer.delta, whose)


@dataclass
class Known:
    """Effects by surroundings, for graphs that are searched with the same rules and costs."""

    _codes: dict[object, int] = field(default_factory=dict[object, int])
    _schemas: dict[int, Schema] = field(default_factory=dict[int, Schema])
    """By their identities, kept so that these stay theirs."""
    _effects: dict[tuple[int, bytes], dict[Group, tuple[Effect, ...]]] = field(
        default_factory=dict[tuple[int, bytes], dict[Group, tuple[Effect, ...]]]
    )

    def around(self, flow: Dataflow, place: int) -> Surroundings:
        """The surroundings of a node, and what is known of others like them."""
        at, schema = _nearby(flow, place), id(flow.schema)
        codes, nodes, results = self._codes, flow.nodes, flow.results
        line = array("i")
        for number in at:
            node = nodes[number]
            what = (node.form or node.shape, node.fixed, len(flow.users[number]), number in results)
            line.append(codes.setdefault(what, len(codes)))
            line.extend([at.get(operand, -1) for operand in node.operands])
        self._schemas[schema] = flow.schema
        return Surroundings(list(at), self._effects.setdefault((schema, line.tobytes()), {}))


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
