"""All searches together: `optimise` gives the cheapest graph that any of them finds.

    small graphs:      descent and discrepancies over the whole graph
    each region:       descent, chains, discrepancies, best first   equal regions once
    again with shifted borders; all of it again from what was found, until nothing is gained

Every search starts from the cheapest graph so far or from the one given, and replaces the cheapest
only by something cheaper, so the outcome is never dearer than the input, whatever the budget. A
budget is a number of matches that each round may try, not a time: the outcome is the same on every
machine. An outcome searched again stays as it is, since its last round has found nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.rules.matching import LawRule
from hectorite.lowering.search.best_first import best_first
from hectorite.lowering.search.collecting import rarely_collected
from hectorite.lowering.search.descent import descend, settle
from hectorite.lowering.search.discrepancy import discrepancies
from hectorite.lowering.search.ledger import ATTOSECOND, Ledger
from hectorite.lowering.search.lookahead import look_ahead
from hectorite.lowering.search.regions import Region, regions
from hectorite.lowering.search.replay import Places, carry_over, redo, renumbered
from hectorite.lowering.search.step import Costs, Outcome, Refusal, Rule, Step
from hectorite.lowering.search.surroundings import Known
from hectorite.lowering.search.workspace import Budget, Move, Workspace

BUDGET = 2_500
PAIRS = 3
"""How many times as much may be tried with siblings in pairs, of which there are many."""
REGION = 256
"""Matches that may be tried in one region; or a half, a quarter ... of that if there are many, so
that a region that was solved before has often been solved for the same budget."""
ALPHAS = (Fraction(105, 100), Fraction(12, 10))
POPS = 25
"""Graphs that each best-first search takes."""
FREE = ("views",)
"""Families that make statements simpler at no cost, and come to an end by themselves."""
SMALL = 1_000
"""Nodes of a graph in which families are delayed as a whole, not only in regions."""

Moves = list[Move]
Solved = dict[tuple[str, int, Fraction | int | None], tuple[Moves, int]]
"""For the key of a region, a budget and a limit of folded bytes: the moves to its solution, and
what was tried. That is charged again where a solution is used, so that what has been solved before
changes no outcome."""


@dataclass(frozen=True)
class Forbidden:
    """Rules and families that may not be used, by name."""

    names: Collection[str] = ()

    def allowed(self, rules: Sequence[Rule]) -> list[Rule]:
        """The other rules, in an order that does not depend on how they were collected."""
        kept = [r for r in rules if r.name not in self.names and r.family not in self.names]
        return sorted(kept, key=lambda rule: (rule.family, rule.name))


def optimise(
    flow: Dataflow,
    rules: Sequence[Rule],
    model: Costs,
    budget: int = BUDGET,
    forbid: Collection[str] = (),
) -> Outcome:
    """The cheapest graph found that is equal to this one. The graph itself stays as it is."""
    with rarely_collected():
        return _optimised(flow, Forbidden(forbid).allowed(rules), model, budget)


def _optimised(flow: Dataflow, chosen: Sequence[Rule], model: Costs, budget: int) -> Outcome:
    original, _ = renumbered(flow)
    current = Workspace(original, chosen, model, Budget(0))
    before, tried, known = current.total, 0, Known()
    while budget > 0:
        fresh, numbers = renumbered(current.flow)
        start = Workspace(fresh, chosen, model, Budget(budget), known=known.next_round())
        best = _round(start)
        tried += budget - start.budget.left
        if not start.saves(best.total - start.total):
            break
        back = {new: old for old, new in numbers.items()}
        current = current.fork()
        if not carry_over(current, best.moves, Places(back)):
            break
    start, _ = renumbered(flow)
    return outcome_of(start, current.moves, model, before, tried)


def _round(start: Workspace) -> Workspace:
    """Every search once, from one graph. A large one is searched in regions first, since what its
    equal parts have in common is found once there."""
    best, solved = start, Solved()
    if len(start.flow.nodes) <= SMALL:
        best = _whole(start)
    apart = start.fork()
    _solve_regions(apart, solved)
    descend(apart)
    best = _cheapest(best, apart)
    for shift in (0, 1):
        if best is start and not shift:
            continue  # solved just now
        again = best.fork()
        _solve_regions(again, solved, shift)
        descend(again, [n for n in again.flow.nodes if n not in best.flow.nodes])
        best = _cheapest(best, again)
    return _cheapest(best, _settled(best)) if len(start.flow.nodes) <= SMALL else best


def _settled(start: Workspace) -> Workspace:
    """Take what costs nothing and makes statements simpler, everywhere, with a budget of its own:
    a statement that reads through a view may be one that another rule knows."""
    settled = start.fork()
    settled.budget = Budget(BUDGET)
    settle(settled, FREE)
    if not start.saves(settled.total - start.total):
        return start
    other = start.fork()
    needed = _needed(settled.moves[len(start.moves) :])
    carry_over(other, needed, Places({number: number for number in start.flow.nodes}))
    return other if other.total <= settled.total else settled


def _needed(moves: Moves) -> Moves:
    """Moves without those of free families that no other builds on."""
    used, found = set[int | None](), Moves()
    for move in reversed(moves):
        made = {edit.result for edit in move.edits}
        if move.family not in FREE or not used.isdisjoint(made):
            found.append(move)
            used.update(move.nodes)
            for edit in move.edits:
                if edit.method == "add":
                    used.update(edit.arguments[1])
                elif edit.method == "replace":
                    used.update(edit.arguments)
    return found[::-1]


def _whole(start: Workspace) -> Workspace:
    """Descent over a whole graph, then with families delayed."""
    own = Budget(PAIRS * start.budget.left)
    start.offers(start.flow.order())
    greedy = start.fork()
    descend(greedy)
    if greedy.oversize:
        greedy = start.fork()
        greedy.slack = 1
        descend(greedy)
    best = _cheapest(start, greedy)
    best = _cheapest(best, _in_pairs(start, own))
    fired = {move.family for move in greedy.moves}
    share = start.budget.left // 2
    return _cheapest(best, discrepancies(start, fired, descend, share))


def _in_pairs(start: Workspace, budget: Budget) -> Workspace:
    """Descent with siblings two at a time, with a budget of its own: some of a group may
    have something better to do than to be merged with all the others."""
    rules = [rule.in_pairs if isinstance(rule, LawRule) else rule for rule in start.rules]
    flow, ledger = start.flow.copy(), start.ledger.copy()
    pairs = Workspace(flow, rules, start.model, budget, ledger, start.known)
    if rules != list(start.rules):
        descend(pairs, patient=True)
    return pairs


def _cheapest(best: Workspace, other: Workspace) -> Workspace:
    return other if best.saves(other.total - best.total) and not other.oversize else best


def _solve_regions(workspace: Workspace, solved: Solved, shift: int = 0) -> None:
    """Solve each region of a graph and bring the solution into it."""
    cut = regions(workspace.flow, shift)
    distinct = {region.key: region for region in cut}
    share = workspace.budget.left // (2 * len(distinct) + 1)
    each = min(REGION, 1 << share.bit_length() >> 1) if share > 0 else 0
    # What is a whole graph may fold as much as that; a part has the share of its own weights.
    most = workspace.ledger.most_folded if len(cut) == 1 else None
    for region in distinct.values():
        if (region.key, each, most) not in solved:
            part = Budget(each)
            moves = _solve(region, workspace, part, most)
            solved[region.key, each, most] = moves, each - part.left
        workspace.budget.left -= solved[region.key, each, most][1]
    became = dict[int, int]()
    for region in cut:
        places = Places(dict(region.places), became)
        carry_over(workspace, solved[region.key, each, most][0], places)
        became = places.became


def _solve(
    region: Region, outer: Workspace, budget: Budget, most_folded: Fraction | int | None
) -> Moves:
    """The moves to the cheapest graph found for one region."""
    start = Workspace(region.flow, outer.rules, outer.model, budget, known=outer.known)
    if most_folded is not None:
        start.ledger.most_folded = most_folded
    share = budget.left // 4
    start.offers(start.flow.order())
    best = start.fork()
    descend(best)
    fired = {move.family for move in best.moves}
    best = _cheapest(best, discrepancies(start, fired, descend, share))
    for alpha in ALPHAS:
        best = _cheapest(best, best_first(start, alpha, POPS, share))
    ahead = best.fork()
    while look_ahead(ahead, share):
        descend(ahead, [n for n in ahead.flow.touched if n in ahead.flow.nodes])
    best = _cheapest(best, ahead)
    return _cheapest(best, best_first(best, ALPHAS[0], POPS, budget.left)).moves


def outcome_of(flow: Dataflow, moves: Moves, model: Costs, before: int, tried: int) -> Outcome:
    """The moves from the start, as steps with names and costs."""
    ledger = Ledger(flow, model)
    places = Places({number: number for number in flow.nodes})
    steps = list[Step]()
    for move in moves:
        names = [flow.nodes[places.of(number, flow)].name for number in move.nodes]
        cost = ledger.total
        edits = redo(flow, move.edits, places)
        ledger.update(flow, tuple(flow.touched))
        steps.append(
            Step(
                move.rule,
                move.family,
                move.detail,
                tuple(dict.fromkeys(name for name in names if name)),
                cost * ATTOSECOND,
                ledger.total * ATTOSECOND,
                None,
                edits,
            )
        )
    after = ledger.total * ATTOSECOND
    return Outcome(flow, _chained(steps), before * ATTOSECOND, after, tried)


def _chained(steps: Sequence[Step]) -> list[Step]:
    """Steps with the losing chains numbered: from a step that loses to where it is made up for."""
    found, chain, level = list[Step](), 0, None
    for step in steps:
        if level is None and step.after > step.before:
            chain, level = chain + 1, step.before
        found.append(step if level is None else replace(step, chain=chain))
        if level is not None and step.after < level:
            level = None
    return found


def refusals(
    flow: Dataflow, rules: Sequence[Rule], model: Costs, forbid: Collection[str] = ()
) -> list[Refusal]:
    """What could still be applied to a graph and why it was not, the smallest loss first."""
    found = list[Refusal]()
    fresh, _ = renumbered(flow)
    workspace = Workspace(fresh, sorted(rules, key=lambda r: (r.family, r.name)), model, Budget(0))
    for place in fresh.order():
        for match in list(workspace.matches(place)):
            names = tuple(n for n in (fresh.nodes[m].name for m in match.nodes) if n)
            trial = workspace.attempt(match)
            grows = workspace.too_large
            workspace.undo(trial)
            forbidden = match.rule in forbid or match.family in forbid
            why = "forbidden" if forbidden else "folded tensors grow" if grows else "dearer"
            loss = trial.delta * ATTOSECOND
            found.append(Refusal(match.rule, match.family, match.detail, names, loss, why))
    return sorted(found, key=lambda refusal: (refusal.loss, refusal.rule, refusal.statements))
