"""Searches reach the optimum of an exact solver on small graphs, or are near it."""

import pytest
from toy import RULES, ToyCosts, evaluate, layers, random_flow

from benchmarks.networks import NETWORKS
from benchmarks.oracle import Alternatives, explored, optimum
from benchmarks.superopt import flow_of
from hectorite.ir.cost import CostModel
from hectorite.ir.devices import DEVICES
from hectorite.lowering.graph.superoptimise import all_rules
from hectorite.lowering.search.ledger import ATTOSECOND, Ledger
from hectorite.lowering.search.portfolio import optimise
from hectorite.lowering.search.replay import renumbered
from hectorite.lowering.search.workspace import Budget, Workspace

GRAPHS = 150
WORST, MEAN = 1.05, 1.01
"""How many times dearer than the optimum one outcome, and all of them in the mean, may be."""


def workspace(flow, rules=RULES, model=None):
    return Workspace(renumbered(flow)[0], rules, model or ToyCosts(), Budget(10**9))


def gap(flow, found):
    """How many times the optimum the portfolio's outcome costs, by exact prices."""
    best = min(found.cost, Ledger(flow, ToyCosts()).total)
    return round(optimise(flow, RULES, ToyCosts()).after / ATTOSECOND) / best


def test_outcomes_are_near_the_optimum_of_random_graphs():
    gaps, proved = list[float](), 0
    for seed in range(12):
        flow = random_flow(seed, 6)
        found = optimum(workspace(flow), GRAPHS, 8)
        gaps.append(gap(flow, found))
        proved += found.proved
    assert proved >= 6
    assert max(gaps) <= WORST
    assert sum(gaps) / len(gaps) <= MEAN


def test_a_proved_optimum_is_reached():
    found = optimum(workspace(layers(1)), 400)
    assert found.proved
    assert gap(layers(1), found) == pytest.approx(1.0, abs=1e-9)


def test_the_optimum_is_an_equal_graph():
    import numpy as np

    flow = random_flow(3, 6)
    found = optimum(workspace(flow), GRAPHS, 8)
    for one, other in zip(evaluate(flow), evaluate(found.flow), strict=True):
        assert np.allclose(one, other)
    assert found.cost == Ledger(found.flow, ToyCosts()).total


def test_halves_of_different_graphs_are_combined():
    start = workspace(layers(3))
    few, complete = explored(start, Alternatives(), 20)
    found = optimum(start, 20)
    assert found.cost < min(space.total for space in few)
    assert not complete
    assert not found.proved


@pytest.mark.parametrize(
    ("name", "device"), [("gcn_aggregate_first", "cpu"), ("gat_scores", "h200")]
)
def test_layers_on_graphs_reach_what_the_solver_finds(name, device):
    flow, extents = flow_of(NETWORKS[name](scale=0.02))
    rules, model = all_rules(extents), CostModel(DEVICES[device], extents)
    found = optimum(workspace(flow, rules, model), 25, 3)
    outcome = optimise(flow, rules, model)
    assert outcome.after <= found.cost * ATTOSECOND * WORST
