"""A graph under search: try a match, see what it costs, keep it or take it back.

    trial = workspace.attempt(match)     the graph is changed, trial.delta says by how much
    workspace.undo(trial)                as if nothing had been

All stages of the search work through this. What they keep is recorded as moves, which `replay.py`
does again on another graph of the same structure.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hectorite.ir.dataflow import Dataflow, Edit
from hectorite.lowering.search.ledger import Ledger, Undo
from hectorite.lowering.search.step import Costs, Match, Rule
from hectorite.lowering.search.surroundings import MANY_USERS, Budget, Group, Known, Offer

SLACK = 2
"""How many times more folded bytes than in the end there may be on the way: weights that several
steps share are kept beside what is made of them until the last step has been rewritten."""

NOTHING: Mapping[Any, Any] = {}

LEAST = 10**7
"""A saving smaller than the cost of the graph over this is none."""


@dataclass(frozen=True)
class Move:
    """A match that was kept: what it did and where, in the numbers of its graph."""

    rule: str
    family: str
    detail: str
    nodes: tuple[int, ...]
    edits: tuple[Edit, ...]


@dataclass(frozen=True)
class Trial:
    """A match that is applied for now. `delta` is in attoseconds, negative if the graph is cheaper
    with it."""

    match: Match
    delta: int
    touched: tuple[int, ...]
    edits: tuple[Edit, ...]
    mark: int
    undo: Undo

    @property
    def move(self) -> Move:
        match = self.match
        return Move(match.rule, match.family, match.detail, match.nodes, self.edits)


class Workspace:
    """A graph, its ledger, the rules in force and the moves that were kept. Owns the graph."""

    def __init__(
        self,
        flow: Dataflow,
        rules: Sequence[Rule],
        model: Costs,
        budget: Budget,
        ledger: Ledger | None = None,
        known: Known | None = None,
    ):
        self.flow, self.rules, self.model, self.budget = flow, rules, model, budget
        self.ledger = ledger or Ledger(flow, model)
        self.known = known
        """What was found in other graphs under the same model; rules must not ask for names."""
        self.moves = list[Move]()
        self.delayed: Collection[str] = ()
        """Families that wait."""
        self.slack = SLACK
        self._offers = dict[int, dict[str, tuple[Offer, ...]]]()
        """What families offer at places, and"""
        self._past = dict[int, dict[str, tuple[Offer, ...]]]()
        """what they did before something near changed."""
        self._changed = dict[int, int]()
        """For nodes that moves have changed, how many moves there were then."""
        self._families = dict[str, tuple[Group, list[Rule]]]()
        for family in dict.fromkeys(rule.family for rule in rules):
            members = [rule for rule in rules if rule.family == family]
            self._families[family] = tuple(map(id, members)), members

    @property
    def total(self) -> int:
        """The cost of the graph in attoseconds."""
        return self.ledger.total

    def fork(self) -> "Workspace":
        """A copy to go another way from here; it shares the budget."""
        made = copy(self)
        made.flow, made.ledger = self.flow.copy(), self.ledger.copy()
        made.moves = list(self.moves)
        made._offers, made._past = dict(self._offers), dict(self._past)
        made._changed = dict(self._changed)
        return made

    def matches(self, number: int) -> Iterator[Match]:
        """What the rules offer at a node."""
        for rule in self.rules:
            yield from rule.matches(self.flow, number)

    def offers(self, places: Iterable[int]) -> list[Offer]:
        """What the rules offer at some places and what each match would change, the cheapest first.

        What was found before is kept until something near changes; a match may then be gone, so
        ask `again` before it is applied."""
        found = list[Offer]()
        wanted = [family for family in self._families if family not in self.delayed]
        for place in places:
            if place not in self.flow.nodes:
                continue
            if self.budget.spent:
                break
            at = self._offers.get(place, NOTHING)
            if len(at) < len(self._families):
                at = self._completed(place, at, wanted)
            for family, offers in at.items():
                if offers and family not in self.delayed:
                    found += offers
        return sorted(found, key=lambda offer: offer.order)

    def _completed(
        self, place: int, at: Mapping[str, tuple[Offer, ...]], wanted: Sequence[str]
    ) -> Mapping[str, tuple[Offer, ...]]:
        """What families offer at a place, those included that were not asked there yet."""
        missing = [family for family in wanted if family not in at]
        if missing:
            past = self._past.pop(place, {})
            at = self._offers[place] = {**at, **self._tried(place, missing, past)}
            if len(missing) < len(past):
                self._past[place] = {f: past[f] for f in past if f not in at}
        return at

    def touching(self, place: int, nodes: Set[int]) -> list[Offer]:
        """What the rules offer at a place as the graph is now, of what has to do with some nodes;
        none of it is kept."""
        if self.known is None:
            every = [rule for _, rules in self._families.values() for rule in rules]
            return list(self._measured(place, every, touching=nodes))
        every = self._tried(place, self._families).values()
        found = [offer for offers in every for offer in offers]
        return [o for o in found if place in nodes or not nodes.isdisjoint(o.nodes)]

    def _tried(
        self, place: int, families: Iterable[str], past: Mapping[str, tuple[Offer, ...]] = NOTHING
    ) -> dict[str, tuple[Offer, ...]]:
        """What families offer at a place; taken from where it looks alike if that is known, or from
        what they offered in the past."""
        flow, budget, found = self.flow, self.budget, dict[str, tuple[Offer, ...]]()
        near = None if self.known is None else self.known.around(flow, place)
        finds: dict[int, bool] | None = None
        for family in families:
            group, rules = self._families[family]
            effects = None if near is None else near.taken(group, budget)
            if near is not None and effects is not None:
                found[family] = near.offers(effects, len(self.moves)) if effects else ()
                continue
            if self.known is not None and finds is None:
                finds = self.known.finds(flow, place)
            still = self._unchanged(past.get(family, ()))
            found[family] = offers = self._measured(place, rules, finds, still=still)
            if near is not None and not budget.spent:
                near.learn(group, offers)
        return found

    def _unchanged(self, past: Iterable[Offer]) -> dict[object, Offer]:
        """Those offers of which no move has changed the price."""
        changed = self._changed
        return {
            (offer.rule.name, offer.nodes, offer.rank): offer
            for offer in past
            if offer.priced is not None
            and all(changed.get(number, 0) <= offer.moves for number in offer.priced)
        }

    def _measured(
        self,
        place: int,
        rules: Iterable[Rule],
        finds: dict[int, bool] | None = None,
        touching: Set[int] = frozenset(),
        still: Mapping[object, Offer] = NOTHING,
    ) -> tuple[Offer, ...]:
        """What rules offer at a place, priced unless that is still known; if nodes are given, only
        matches that touch them."""
        found = list[Offer]()
        everything = not touching or place in touching
        for rule in rules:
            if finds is not None and not finds.get(id(rule), True):
                continue
            matches = list(rule.matches(self.flow, place))
            if finds is not None and rule.local:
                finds[id(rule)] = bool(matches)
            ranks = dict[tuple[int, ...], int]()
            for match in matches:
                if self.budget.spent:
                    break
                rank = ranks[match.nodes] = ranks.get(match.nodes, -1) + 1
                if not everything and touching.isdisjoint(match.nodes):
                    continue
                known = still.get((rule.name, match.nodes, rank))
                if known is not None:
                    self.budget.left -= 1
                found.append(known or self._priced(place, rule, match, rank))
        return tuple(found)

    def _priced(self, place: int, rule: Rule, match: Match, rank: int) -> Offer:
        trial = self.attempt(match)
        self.undo(trial)
        priced = (*match.nodes, *[n for n, old in trial.undo.items() if old is not None])
        return Offer(place, rule, match.nodes, rank, trial.delta, priced, len(self.moves))

    def again(self, offer: Offer) -> Match | None:
        """The match of an offer, found in the graph as it is now; None if it is gone."""
        if offer.place not in self.flow.nodes:
            return None
        found = offer.rule.matches(self.flow, offer.place)
        same = (match for match in found if match.nodes == offer.nodes)
        return next(islice(same, offer.rank, None), None)

    def attempt(self, match: Match) -> Trial:
        """Apply a match until `undo` or `keep`; several are ended the latest first."""
        flow = self.flow
        self.budget.left -= 1
        before, mark = self.total, flow.mark()
        flow.listen()
        match.apply(flow)
        drop_unused(flow)
        touched, edits = tuple(flow.touched), tuple(flow.edits)
        undo = self.ledger.update(flow, touched)
        return Trial(match, self.total - before, touched, edits, mark, undo)

    def undo(self, trial: Trial) -> None:
        """Take a trial back."""
        self.flow.take_back(trial.mark)
        self.ledger.restore(trial.undo)

    def keep(self, trial: Trial) -> dict[int, None]:
        """Make a trial a move; gives the places where matches are other ones now."""
        self.flow.keep(trial.mark)
        self.moves.append(trial.move)
        return self.forget(trial.touched, trial.undo)

    def forget(self, touched: Iterable[int], priced: Iterable[int]) -> dict[int, None]:
        """Moves have touched some nodes and changed the costs of some; gives the places near them,
        where matches are other ones now."""
        self._changed |= dict.fromkeys((*touched, *priced), len(self.moves))
        near = self.around(touched)
        for place in (*near, *touched):
            offers = self._offers.pop(place, None)
            if offers:
                self._past[place] = self._past.get(place, {}) | offers
        return near

    def saves(self, delta: int) -> bool:
        """Whether a change of the cost is worth having."""
        return delta * LEAST < -self.total

    @property
    def too_large(self) -> bool:
        """Whether there are more folded bytes than allowed on the way."""
        return self.ledger.folded > self.slack * self.ledger.most_folded

    @property
    def oversize(self) -> bool:
        """Whether there are more folded bytes than allowed in the end."""
        return self.ledger.folded > self.ledger.most_folded

    def around(self, touched: Iterable[int]) -> dict[int, None]:
        """The nodes from which a match that has to do with these may be found, in order."""
        flow = self.flow
        near = dict.fromkeys(sorted(n for n in touched if n in flow.nodes))
        for hop in range(2):
            for number in list(near):
                near.update(dict.fromkeys(flow.nodes[number].operands))
                if hop == 0 or len(flow.users[number]) <= MANY_USERS:
                    near.update(dict.fromkeys(sorted(flow.users[number])))
        return near


def drop_unused(flow: Dataflow) -> None:
    """Remove what a change made or left without users."""
    for number in sorted(flow.touched):
        flow.drop(number)
