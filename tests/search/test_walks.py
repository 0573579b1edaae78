"""Random walks over all rules, laws and structural ones, change no result of a network; optimised
networks have the same results, in every process, and stay what they are."""

import random
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.networks import NETWORKS
from benchmarks.superopt import flow_of
from hectorite.backends.reference.prime_field import PRIMES
from hectorite.frontend.rules.values import field_values, float_values, same_within_rounding
from hectorite.ir.cost import CostModel
from hectorite.ir.devices import DEVICES
from hectorite.lowering.graph.superoptimise import all_rules
from hectorite.lowering.search.best_first import outline
from hectorite.lowering.search.portfolio import optimise
from hectorite.lowering.search.replay import again

SMALL = {
    "lstm": {"scale": 0.02},
    "bert": {"scale": 0.03, "layers": 1},
    "llama_prefill": {"scale": 0.03, "layers": 1},
    "gcn_aggregate_first": {"scale": 0.004},
    "gcn_project_first": {"scale": 0.004},
    "gat_scores": {"scale": 0.00004},
}
"""Networks with extents of a few elements."""
STEPS = 8
BUDGET = 300


def network(name):
    made = NETWORKS[name](**SMALL[name])
    flow, extents = flow_of(made)
    sizes = {name: int(extents.of(name)) for name in flow.schema.sets}
    return flow, extents, sizes


def agree(one, other, sizes, seed):
    """Exactly in the two prime fields, and within the rounding bound in floats."""
    for prime in PRIMES:
        pair = (field_values(flow, sizes, seed, prime) for flow in (one, other))
        if not all(map(np.array_equal, *pair)):
            return False
    before, _ = float_values(one, sizes, seed)
    return same_within_rounding(before, *float_values(other, sizes, seed))


@pytest.mark.parametrize("name", SMALL)
def test_a_walk_over_all_rules_changes_no_result(name):
    flow, extents, sizes = network(name)
    walked, drawn, taken = flow.copy(), random.Random(name), list[str]()
    for _ in range(STEPS):
        rules = all_rules(extents)
        found = [m for n in walked.order() for rule in rules for m in rule.matches(walked, n)]
        if not found:
            break
        rule = drawn.choice(sorted({match.rule for match in found}))
        match = drawn.choice([m for m in found if m.rule == rule])
        match.apply(walked)
        taken.append(f"{match.rule} {match.detail}")
    assert len(taken) > 1
    assert agree(flow, walked, sizes, 1), taken


@pytest.mark.parametrize("name", SMALL)
def test_an_optimised_network_is_equal_and_stays(name):
    flow, extents, sizes = network(name)
    model = CostModel(DEVICES["h200"], extents)
    outcome = optimise(flow, all_rules(extents), model, BUDGET)
    assert outcome.after <= outcome.before
    assert agree(flow, outcome.flow, sizes, 2)
    assert outline(again(flow, outcome.steps)) == outline(outcome.flow)
    twice = optimise(outcome.flow, all_rules(extents), model, BUDGET)
    assert twice.steps == []


SHOWN = """
import sys
sys.path.insert(0, sys.argv[1])
from test_walks import BUDGET, DEVICES, CostModel, all_rules, network, optimise
for name in ("bert", "gat_scores"):
    flow, extents, _ = network(name)
    outcome = optimise(flow, all_rules(extents), CostModel(DEVICES["h200"], extents), BUDGET)
    for step in outcome.steps:
        print(step.rule, step.detail, step.statements, step.before, step.after, step.chain)
    for number, node, form in outcome.flow.statements():
        print(number, form.text, node.operands, node.name, node.label)
"""


def test_every_process_optimises_networks_alike(pytestconfig):
    folder = pytestconfig.rootpath / "tests" / "search"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SHOWN, str(folder)],
            stdout=subprocess.PIPE,
            cwd=pytestconfig.rootpath,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        for seed in ("1", "2")
    ]
    shown = [process.communicate()[0] for process in running]
    assert shown[0] == shown[1]
    assert shown[0]
