"""Our own re-implementation of TASO's search, on our rules and costs, to compare with.

Enters: a graph of statements, a cost model. Leaves: the cheapest graph found. A priority queue of
graphs, the cheapest first; each graph taken is rewritten in every possible way, and what costs less
than alpha times the best so far joins the queue (Jia et al., SOSP 2019). As in TASO's rules,
siblings are merged two at a time.
"""

from __future__ import annotations

from fractions import Fraction

from hectorite.ir.cost import CostModel
from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.rules.catalogue import rules
from hectorite.lowering.rules.matching import LawRule
from hectorite.lowering.search.best_first import best_first
from hectorite.lowering.search.replay import renumbered
from hectorite.lowering.search.step import Rule
from hectorite.lowering.search.surroundings import Known
from hectorite.lowering.search.workspace import Budget, Workspace
from hectorite.lowering.structural import structural_rules


def pairwise_rules(model: CostModel) -> list[Rule]:
    """All rules, those with siblings two at a time."""
    every = rules()
    pairs = [LawRule(rule.law, most=2) if isinstance(rule, LawRule) else rule for rule in every]
    return [*pairs, *structural_rules(model.extents)]


def backtrack(
    flow: Dataflow, model: CostModel, alpha: Fraction, pops: int, tries: int
) -> tuple[Dataflow, int]:
    """The cheapest graph met, and how many matches were tried; at most `tries` are."""
    chosen = sorted(pairwise_rules(model), key=lambda rule: (rule.family, rule.name))
    start = Workspace(renumbered(flow)[0], chosen, model, Budget(tries), known=Known())
    best = best_first(start, alpha, pops, tries)
    return best.flow, tries - start.budget.left
