"""Chains through losing steps: a match that costs a little may uncover one that saves more.

    split a contraction        +1.3 us      each step touches a node that the chain has made
    move a part off the edges  -40 us       the chain as a whole pays

A chain has at most `DEPTH` steps, may lose at most `LOSS` of the cost of the graph on the way, and
of each level only the `BEAM` cheapest go on.
"""

from collections.abc import Iterable
from fractions import Fraction

from hectorite.lowering.search.step import Match
from hectorite.lowering.search.workspace import Offer, Trial, Workspace

DEPTH = 3
BEAM = 8
LOSS = Fraction(1, 50)


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
    longest = len(chain) + 1 >= DEPTH
    for offer in _continuations(workspace, chain, so_far)[:BEAM]:
        if workspace.budget.spent or (longest and not workspace.saves(so_far + offer.delta)):
            return None
        match = workspace.again(offer)
        if match is None:
            continue
        trial = workspace.attempt(match)
        if workspace.saves(so_far + trial.delta):
            workspace.undo(trial)
            return [*(each.match for each in chain), match]
        longer = None if longest or workspace.too_large else _go_on(workspace, [*chain, trial])
        workspace.undo(trial)
        if longer:
            return longer
    return None


def _continuations(workspace: Workspace, chain: list[Trial], so_far: int) -> list[Offer]:
    """The matches that touch what a chain has made and do not lose too much, cheapest first."""
    made = {edit.result for trial in chain for edit in trial.edits if edit.method == "add"}
    new = {number for number in made if number is not None}
    found = [o for place in _near(workspace, new) for o in workspace.touching(place, new)]
    few = [offer for offer in found if so_far + offer.delta <= LOSS * workspace.total]
    return sorted(few, key=lambda offer: offer.order)


def _near(workspace: Workspace, made: Iterable[int]) -> dict[int, None]:
    """Nodes, their operands and users."""
    flow, near = workspace.flow, dict[int, None]()
    for number in sorted(n for n in made if n in flow.nodes):
        near[number] = None
        near |= dict.fromkeys(flow.nodes[number].operands)
        near |= dict.fromkeys(sorted(flow.users[number]))
    return near
