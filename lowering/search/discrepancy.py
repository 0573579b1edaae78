"""Limited discrepancy: search again with some rule families first, or held back, then released.

    descend:                  fold-sums fires first and leaves nothing to merge
    delay fold-sums, descend: merge-products fires; released, fold-sums fires where it still can

What a greedy search takes first can stand in the way of something better; families stand for the
kinds of things it can take. Each family that saves anything at the start goes first once; then each
family that fired waits once; then those that it was best to delay wait together with another.
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
    end = max(0, start.budget.left - share)
    found = dict[tuple[str, ...], Workspace]()

    def search(delayed: Collection[str]) -> None:
        key = tuple(sorted(delayed))
        if key in found or start.budget.left <= end:
            return
        other = start.fork()
        other.delayed = key
        improve(other)
        other.delayed = ()
        improve(other)
        found[key] = other

    every = {rule.family for rule in start.rules}
    saving = {o.rule.family for o in start.offers(start.flow.order()) if start.saves(o.delta)}
    for family in sorted(saving):
        search(every - {family})
    known = set(fired)
    waiting = sorted(known)
    while waiting:
        search(waiting[:1])
        fresh = {move.family for other in found.values() for move in other.moves} - known
        known |= fresh
        waiting = waiting[1:] + sorted(fresh)
    singles = sorted((key for key in found if len(key) == 1), key=lambda key: found[key].total)
    for single in singles[:BEST]:
        for other in sorted(known):
            search({*single, other})
    allowed = (other for other in found.values() if not other.oversize)
    return min(allowed, key=lambda each: each.total, default=start)
