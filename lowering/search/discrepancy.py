"""Limited discrepancy: search again with one or two rule families held back, then released.

    descend:                  fold-sums fires first and leaves nothing to merge
    delay fold-sums, descend: merge-products fires; released, fold-sums fires where it still can

What a greedy search takes first can stand in the way of something better; families stand for the
kinds of things it can take.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import combinations

from hectorite.lowering.search.workspace import Workspace

Improve = Callable[[Workspace], None]
"""Makes a graph cheaper in place."""


def discrepancies(
    start: Workspace, fired: Iterable[str], improve: Improve, most: int
) -> Iterator[Workspace]:
    """Searches from the start with each family delayed that fired, then each two of them; at most
    so many."""
    families = sorted(fired)
    delays = [*combinations(families, 1), *combinations(families, 2)]
    for delayed in delays[:most]:
        if start.budget.spent:
            return
        other = start.fork([rule for rule in start.rules if rule.family not in delayed])
        improve(other)
        other.rules = start.rules
        improve(other)
        yield other
