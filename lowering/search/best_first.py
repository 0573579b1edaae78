"""Best-first search: a queue of graphs, the cheapest taken first, dearer ones tolerated.

Each graph that is taken offers its matches; a graph that costs less than `alpha` times the cheapest
so far joins the queue. A match that lies apart from the last move changes the cost as much as it
did before, so only those near it are tried again.

With pairwise rules and `alpha` 1 or 1.05 this is the backtracking search of TASO (Jia et al., SOSP
2019), against which the benchmark compares.
"""

import heapq
from fractions import Fraction

from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.search.workspace import Offer, Workspace


def best_first(start: Workspace, alpha: Fraction, most: int, share: int) -> Workspace:
    """The cheapest graph met while taking at most so many graphs from the queue and trying at most
    so many matches."""
    end = max(0, start.budget.left - share)
    best, waiting, seen = start, 0, {outline(start.flow)}
    queue = list[tuple[int, int, Workspace, Offer]]()
    fresh: Workspace | None = start
    while start.budget.left > end:
        if fresh is not None:
            for offer in fresh.offers(fresh.flow.order()):
                cost = fresh.total + offer.delta
                if cost >= alpha * best.total:
                    break
                heapq.heappush(queue, (cost, waiting, fresh, offer))
                waiting += 1
        if not queue or most <= 0 or queue[0][0] >= alpha * best.total:
            break
        _, _, parent, taken = heapq.heappop(queue)
        fresh = _child(parent, taken)
        if fresh is None or (shape := outline(fresh.flow)) in seen:
            fresh = None
            continue
        seen.add(shape)
        most -= 1
        if best.saves(fresh.total - best.total) and not fresh.oversize:
            best = fresh
    return best


def _child(parent: Workspace, offer: Offer) -> Workspace | None:
    child = parent.fork()
    match = child.again(offer)
    if match is None:
        return None
    trial = child.attempt(match)
    if child.too_large:
        return None
    child.keep(trial)
    return child


def outline(flow: Dataflow) -> int:
    """A number that is the same for graphs of the same structure, in every process."""
    known = {number: place for place, number in enumerate(flow.inputs.values())}
    for number, node, form in flow.statements():
        known[number] = hash((int(form.digest, 16), *(known[o] for o in node.operands)))
    return hash(tuple(known[result] for result in flow.results))
