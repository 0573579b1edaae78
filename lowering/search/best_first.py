"""Best-first search: a queue of graphs, the cheapest taken first, dearer ones tolerated.

Each graph that is taken offers its matches; a graph that costs less than `alpha` times the cheapest
so far joins the queue. A match that lies apart from the last move changes the cost as much as it
did before, so only those near it are tried again.

With pairwise rules and `alpha` 1 or 1.05 this is the backtracking search of TASO (Jia et al., SOSP
2019), against which the benchmark compares.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.search.step import Match
from hectorite.lowering.search.workspace import Workspace


@dataclass(frozen=True)
class Offer:
    """A match in some graph: where to find it, what it changes, and what it depends on."""

    place: int
    match: Match
    delta: int
    affected: frozenset[int]


@dataclass(frozen=True)
class _State:
    workspace: Workspace
    offers: list[Offer]


def best_first(start: Workspace, alpha: Fraction, most: int) -> Workspace:
    """The cheapest graph met while taking at most so many graphs from the queue."""
    best, waiting, seen = start, 0, {outline(start.flow)}
    queue = list[tuple[int, int, _State, Offer]]()
    first = _State(start, _offers(start, start.flow.order()))
    fresh = [first]
    while not start.budget.spent:
        for state in fresh:
            for offer in state.offers:
                cost = state.workspace.total + offer.delta
                if cost < alpha * best.total:
                    heapq.heappush(queue, (cost, waiting, state, offer))
                    waiting += 1
        if not queue or most <= 0 or queue[0][0] >= alpha * best.total:
            break
        _, _, parent, taken = heapq.heappop(queue)
        child = _child(parent.workspace, taken)
        fresh = []
        if child is None or (shape := outline(child.flow)) in seen:
            continue
        seen.add(shape)
        most -= 1
        fresh = [_State(child, _inherited(parent, child))]
        if best.saves(child.total - best.total):
            best = child
    return best


def _child(parent: Workspace, offer: Offer) -> Workspace | None:
    child = parent.fork()
    match = child.again(offer.place, offer.match) if offer.place in child.flow.nodes else None
    if match is None:
        return None
    trial = child.attempt(match)
    if child.too_large:
        return None
    child.keep(trial)
    return child


def _inherited(parent: _State, child: Workspace) -> list[Offer]:
    """The offers of a child: those of its parent that its last move left alone, and new ones."""
    touched = child.flow.touched
    near = child.around(touched)
    kept = [o for o in parent.offers if o.place not in near and o.affected.isdisjoint(touched)]
    return kept + _offers(child, near)


def _offers(workspace: Workspace, places: Iterable[int]) -> list[Offer]:
    found = list[Offer]()
    for place in places:
        for match in list(workspace.matches(place)):
            if workspace.budget.spent:
                return found
            trial = workspace.measure(match)
            found.append(Offer(place, match, trial.delta, trial.affected))
    return found


def outline(flow: Dataflow) -> int:
    """A number that is the same for graphs of the same structure, in every process."""
    known = {number: place for place, number in enumerate(flow.inputs.values())}
    for number, node, form in flow.statements():
        known[number] = hash((int(form.digest, 16), *(known[o] for o in node.operands)))
    return hash(tuple(known[result] for result in flow.results))
