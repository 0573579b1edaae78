"""Steepest descent: as long as a match makes the graph cheaper, take the one that saves most.

Each round tries every match near the last changes, then applies all that save something, the best
first, as long as they do not touch each other. The first and the last round look everywhere.
"""

from collections.abc import Iterable

from hectorite.lowering.search.step import Match
from hectorite.lowering.search.workspace import Workspace

Candidate = tuple[int, str, tuple[int, ...], str, int, Match]
"""Saving (negative), rule, nodes, detail, where it is found, match: sorts best first."""


def descend(workspace: Workspace, start: Iterable[int] | None = None) -> None:
    """Apply matches that save until none does. With `start`, look near those nodes only."""
    order = workspace.flow.order
    places = order() if start is None else list(workspace.around(start))
    complete = start is not None
    while not workspace.budget.spent:
        touched = _round(workspace, places)
        if touched:
            places, complete = list(workspace.around(touched)), start is not None
        elif complete:
            return
        else:
            places, complete = order(), True


def _round(workspace: Workspace, places: Iterable[int]) -> dict[int, None]:
    """Apply what saves and does not touch each other; gives the nodes to look near next."""
    touched = dict[int, None]()
    for _, _, nodes, _, place, match in candidates(workspace, places):
        if workspace.budget.spent:
            break
        if any(number in touched or number not in workspace.flow.nodes for number in nodes):
            continue
        # Two matches that are sound one by one may make a cycle together, so ask the rule again.
        found = workspace.again(place, match) if touched else match
        if found is None:
            continue
        trial = workspace.attempt(found)
        if workspace.saves(trial.delta) and not workspace.too_large:
            workspace.keep(trial)
            touched.update(dict.fromkeys(trial.touched))
        else:
            workspace.undo(trial)
    return touched


def candidates(workspace: Workspace, places: Iterable[int]) -> list[Candidate]:
    """All matches at some places that save, the best first."""
    found = list[Candidate]()
    for place in places:
        if place not in workspace.flow.nodes:
            continue
        for match in list(workspace.matches(place)):
            if workspace.budget.spent:
                break
            delta = workspace.measure(match).delta
            if workspace.saves(delta):
                found.append((delta, match.rule, match.nodes, match.detail, place, match))
    return sorted(found, key=lambda entry: entry[:5])
