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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.schema import Schema
from hectorite.lowering.search.step import Rule

MANY_USERS = 32
"""Nodes with more users than this connect places that have little to do with each other."""

MADE_FROM = 4
"""Steps back along operands that surroundings go at least."""


KNOWN = 4
"""How many matches whose effect is known count as one that is tried."""


@dataclass
class Budget:
    """How many more matches may be tried."""

    left: int

    @property
    def spent(self) -> bool:
        return self.left <= 0


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
    before: dict[Group, tuple[Effect, ...]]
    """What was known in rounds before this one."""

    def taken(self, group: Group, budget: Budget) -> tuple[Effect, ...] | None:
        """What a group of rules is known to offer, for a part of what it costs to try it, or for
        all of it the first time in a round; None if that is not known or too much."""
        effects = self.effects.get(group)
        if effects is not None:
            if len(effects) > KNOWN * budget.left:
                return None if effects else effects
            budget.left -= -(-len(effects) // KNOWN)
            return effects
        effects = self.before.get(group)
        if effects is None or len(effects) >= budget.left:
            return None
        budget.left -= len(effects)
        self.effects[group] = effects
        return effects

    def offers(self, effects: Iterable[Effect], moves: int) -> tuple[Offer, ...]:
        """Effects at this place, after so many moves."""
        nodes, found = self.nodes, list[Offer]()
        for rule, touched, rank, delta, priced in effects:
            at = tuple([nodes[number] for number in touched])
            whose = None if priced is None else tuple([nodes[number] for number in priced])
            found.append(Offer(nodes[0], rule, at, rank, delta, whose, moves))
        return tuple(found)

    def learn(self, group: Group, offers: Sequence[Offer]) -> None:
        """Keep all that a group of rules offers here, unless it concerns nodes further away."""
        if not offers:
            self.effects[group] = self.before[group] = ()
            return
        at = {number: index for index, number in enumerate(self.nodes)}
        if all(number in at for offer in offers for number in offer.nodes):
            found = tuple([_effect(offer, at) for offer in offers])
            self.effects[group] = self.before[group] = found


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
    _finds: dict[tuple[int, bytes], dict[int, bool]] = field(
        default_factory=dict[tuple[int, bytes], dict[int, bool]]
    )
    _effects: dict[tuple[int, bytes], dict[Group, tuple[Effect, ...]]] = field(
        default_factory=dict[tuple[int, bytes], dict[Group, tuple[Effect, ...]]]
    )

    _before: dict[tuple[int, bytes], dict[Group, tuple[Effect, ...]]] = field(
        default_factory=dict[tuple[int, bytes], dict[Group, tuple[Effect, ...]]]
    )
    """The effects of all rounds."""

    def next_round(self) -> "Known":
        """The same for another round, which is charged for effects as if none were known."""
        return Known(self._codes, self._schemas, self._finds, _before=self._before)

    def finds(self, flow: Dataflow, place: int) -> dict[int, bool]:
        """For the identities of local rules whether they find something at a node, if that is
        known of one that is made from the same and read by the same; to be filled."""
        nodes, codes = flow.nodes, self._codes
        at = {place: 0}
        _made_from(flow, at)
        line = array("i")
        for number in at:
            node = nodes[number]
            what = (node.form or node.shape, node.fixed)
            line.append(codes.setdefault(what, len(codes)))
            line.extend([at.get(operand, -1) for operand in node.operands])
        readers = list[tuple[int, ...]]()
        for user in flow.users[place]:
            node = nodes[user]
            code = codes.setdefault(node.form, len(codes))
            readers.append((code, *[operand == place for operand in node.operands]))
        for reader in sorted(readers):
            line.extend(reader)
        self._schemas[id(flow.schema)] = flow.schema
        return self._finds.setdefault((id(flow.schema), line.tobytes()), {})

    def around(self, flow: Dataflow, place: int) -> Surroundings:
        """The surroundings of a node, and what is known of others like them."""
        at, schema = _nearby(flow, place), id(flow.schema)
        codes, nodes, results, users = self._codes, flow.nodes, flow.results, flow.users
        line, place_of = list[int](), at.get
        for number in at:
            node = nodes[number]
            what = (node.form or node.shape, node.fixed, len(users[number]), number in results)
            line.append(codes.setdefault(what, len(codes)))
            for operand in node.operands:
                line.append(place_of(operand, -1))
        self._schemas[schema] = flow.schema
        key = schema, array("i", line).tobytes()
        effects = self._effects.setdefault(key, {})
        return Surroundings(list(at), effects, self._before.setdefault(key, {}))


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
    _made_from(flow, at)
    return at


def _made_from(flow: Dataflow, at: dict[int, int]) -> None:
    """Number what the first of the nodes is made from."""
    nodes = flow.nodes
    last = list(at)[:1]
    for _ in range(MADE_FROM):
        last = list(dict.fromkeys([o for number in last for o in nodes[number].operands]))
        for operand in last:
            at.setdefault(operand, len(at))
