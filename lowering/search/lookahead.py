"""Chains through losing steps: a match that costs a little may uncover one that saves more.

    split a contraction        +1.3 us      each step touches a node that the chain has made
    move a part off the edges  -40 us       the chain as a whole pays

A chain has at most `DEPTH` steps, may lose at most `LOSS` of the cost of the graph on the way, and
of each level only the `BEAM` cheapest go on.
"""

from collections.abc import Iterable
from fractions import Fraction

from hectorite.lowering.search.step import Match
from hectorite.lowering.search.workspace import Trial, Workspace

DEPTH = 3
BEAM = 8
LOSS = Fraction(1, 50)

Found = tuple[int, str, tuple[int, ...], str, Match]
"""Change of the cost, rule, nodes, detail, match: sorts cheapest first."""


def look_ahead(workspace: Workspace, places: Iterable[int] | None = None) -> bool:
    """Apply the first chain that pays, of those that start at some places (all, if not given);
    whether there was one. Starts that lose least are tried first."""
    if places is None:
        places = workspace.flow.order()
    offered = [match for place in places for match in workspace.matches(place)]
    for start in _tried(workspace, offered):
        if workspace.budget.spent:
            return False
        trial = workspace.attempt(start[-1])
        chain = None if workspace.too_large else _go_on(workspace, [trial])
        workspace.undo(trial)
        if chain:
            _apply(workspace, chain)
            return True
    return False


def _go_on(workspace: Workspace, chain: list[Trial]) -> list[Match] | None:
    """The matches of the cheapest chain that goes on from an applied one and pays."""
    so_far = sum(trial.delta for trial in chain)
    made = {edit.result for trial in chain for edit in trial.edits if edit.method == "add"}
    offered = list[Match]()
    for place in workspace.around(chain[-1].touched):
        offered += (m for m in workspace.matches(place) if made.intersection(m.nodes))
    found = _tried(workspace, offered, so_far)
    if found and workspace.saves(so_far + found[0][0]):
        return [*(trial.match for trial in chain), found[0][-1]]
    if len(chain) + 1 >= DEPTH:
        return None
    for entry in found[:BEAM]:
        if workspace.budget.spent:
            return None
        trial = workspace.attempt(entry[-1])
        longer = None if workspace.too_large else _go_on(workspace, [*chain, trial])
        workspace.undo(trial)
        if longer:
            return longer
    return None


def _tried(workspace: Workspace, offered: Iterable[Match], so_far: int = 0) -> list[Found]:
    """What each match would change, the cheapest first, without those that lose too much."""
    found = list[Found]()
    for match in offered:
        if workspace.budget.spent:
            break
        delta = workspace.measure(match).delta
        if so_far + delta <= LOSS * workspace.total:
            found.append((delta, match.rule, match.nodes, match.detail, match))
    return sorted(found, key=lambda entry: entry[:4])


def _apply(workspace: Workspace, chain: list[Match]) -> None:
    """Apply matches that were found one after the other, each in the graph that the last left.

    Numbers of nodes are given out in the same order again, so the matches are still valid."""
    for match in chain:
        workspace.keep(workspace.attempt(match))
