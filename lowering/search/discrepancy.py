"""Limited discrepancy: search again with one or two rule families held back, then released.

    descend:                  fold-sums fires first and leaves nothing to merge
    delay fold-sums, descend: merge-products fires; released, fold-sums fires where it still can

What a greedy search takes first can stand in the way of something better; families stand for the
kinds of things it can take. Every family that fired is delayed by itself, then together with each
other one if it was among the best.
"""

from collections.abc import Callable, Collection, Iterable

from hectorite.lowering.search.workspace import Workspace

BEST = 3
"""How many delayed families are tried together with others."""

Improve = Callable[[Workspace], None]
"""Makes a graph cheaper in place."""


def discrepancies(
    start: Workspace, fired: Iterable[str], improve: Improve, share: int
) -> Workspace:
    """The cheapest of the searches from the start with families delayed, of those that fired
    before; they try at most so many matches."""
    end = start.budget.left - share
    found = dict[tuple[str, ...], Workspace]()

    def search(delayed: Collection[str]) -> None:
        key = tuple(sorted(delayed))
        if key in found or start.budget.left <= max(0, end):
            return
        other = start.fork()
        other.delayed = key
        improve(other)
        other.delayed = ()
        improve(other)
        found[key] = other

    known = set(fired)
    waiting = sorted(known)
    while waiting:
        search(waiting[:1])
        fresh = {move.family for other in found.values() for move in other.moves} - known
        known |= fresh
        waiting = waiting[1:] + sorted(fresh)
    singles = sorted(found, key=lambda key: (found[key].total, key))
    for single in singles[:BEST]:
        for other in sorted(known):
            search({*single, other})
    return min(found.values(), key=lambda each: each.total, default=start)
