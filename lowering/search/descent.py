"""Steepest descent: as long as a match makes the graph cheaper, take the one that saves most.

Each round looks at the places near the last changes and applies the matches that save something,
the best first, as long as they do not touch each other. The first and the last round look
everywhere. A patient descent takes only the best match of all in each round, which may be worth it
where one match takes from others what they would save.
"""

from collections.abc import Collection, Iterable

from hectorite.lowering.search.surroundings import Offer
from hectorite.lowering.search.workspace import Workspace


def descend(
    workspace: Workspace, start: Iterable[int] | None = None, patient: bool = False
) -> None:
    """Apply matches that save until none does. With `start`, look near those nodes only. If it is
    `patient`, look everywhere after each match."""
    order = workspace.flow.order
    places = order() if start is None else list(workspace.around(start))
    complete = start is not None
    while not workspace.budget.spent:
        near = _round(workspace, places, patient)
        if near and patient:
            places, complete = order(), True
        elif near:
            places, complete = list(near), start is not None
        elif complete:
            return
        else:
            places, complete = order(), True


def settle(workspace: Workspace, free: Collection[str]) -> None:
    """Apply matches that save anything at all, and those of some families that cost nothing, until
    there are none. The families must come to an end by themselves."""
    places = workspace.flow.order()
    while places and not workspace.budget.spent:
        places = list(_round(workspace, places, False, free))


def _round(
    workspace: Workspace,
    places: Iterable[int],
    patient: bool,
    free: Collection[str] | None = None,
) -> dict[int, None]:
    """Apply what saves and does not touch each other; gives the places to look at next. With
    families that are free, also what saves next to nothing, or is free and costs nothing."""
    touched, near = dict[int, None](), dict[int, None]()

    def wanted(offer: Offer, delta: int) -> bool:
        if free is None or delta > 0:
            return workspace.saves(delta)
        return delta < 0 or offer.rule.family in free

    for offer in workspace.offers(places):
        if workspace.budget.spent or offer.delta > 0:
            break
        if not wanted(offer, offer.delta):
            continue
        nodes = (offer.place, *offer.nodes)
        if any(number in touched or number not in workspace.flow.nodes for number in nodes):
            continue
        # Two matches that are sound one by one may make a cycle together, so ask the rule again.
        match = workspace.again(offer)
        if match is None:
            continue
        trial = workspace.attempt(match)
        if wanted(offer, trial.delta) and not workspace.too_large:
            near |= workspace.keep(trial)
            if patient:
                break
            touched |= dict.fromkeys(trial.touched)
        else:
            workspace.undo(trial)
    return near
