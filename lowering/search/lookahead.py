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


def look_ahead(workspace: Workspace, share: int) -> bool:
    """Apply the first chain that pays; whether there was one. Starts that lose least go first; at
    most so many matches are tried."""
    end = max(0, workspace.budget.left - share)
    for start in workspace.offers(workspace.flow.order()):
        if workspace.budget.left <= end or start.delta > LOSS * workspace.total:
            return False
        match = workspace.again(start)
        if match is None:
            continue
        trial = workspace.attempt(match)
        chain = None if workspace.too_large else _go_on(workspace, [trial])
        workspace.undo(trial)
        if chain:
            for each in chain:
                # Numbers of nodes are given out in the same order again, so each is still valid.
                workspace.keep(workspace.attempt(each))
            return True
    return False


def _go_on(workspace: Workspace, chain: list[Trial]) -> list[Match] | None:
    """The matches of the cheapest chain that goes on from an applied one and pays."""
    so_far = sum(trial.delta for trial in chain)
    found = _continuations(workspace, chain, so_far)
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


def _continuations(workspace: Workspace, chain: list[Trial], so_far: int) -> list[Found]:
    """The matches that touch what a chain has made and do not lose too much, cheapest first."""
    found = list[Found]()
    made = {edit.result for trial in chain for edit in trial.edits if edit.method == "add"}
    for place in _near(workspace, made):
        for match in list(workspace.matches(place)):
            if workspace.budget.spent:
                break
            if not made.intersection(match.nodes) and place not in made:
                continue
            delta = workspace.measure(match)
            if so_far + delta <= LOSS * workspace.total:
                found.append((delta, match.rule, match.nodes, match.detail, match))
    return sorted(found, key=lambda entry: entry[:4])


def _near(workspace: Workspace, made: Iterable[int | None]) -> dict[int, None]:
    """Nodes, their operands and users."""
    flow, near = workspace.flow, dict[int, None]()
    for number in sorted(n for n in made if n is not None and n in flow.nodes):
        near[number] = None
        near |= dict.fromkeys(flow.nodes[number].operands)
        near |= dict.fromkeys(sorted(flow.users[number]))
    return near
