"""The networks of the benchmarks: small ones give what ONNX gives, all are what they are said to
be."""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402

import hectorite  # noqa: E402
from benchmarks.networks import FROM_FILES, NETWORKS  # noqa: E402
from hectorite.backends.reference.interpreter import run_reference  # noqa: E402

OPERATOR_GRAPHS = Path(os.environ.get("HECTORITE_DATA", "nowhere"))
ON_GRAPHS = ("gcn_aggregate_first", "gcn_project_first", "gat_scores")
BUILT = [name for name in NETWORKS if name not in FROM_FILES]
DENSE = [name for name in BUILT if name not in ON_GRAPHS]


@pytest.mark.parametrize("name", DENSE)
def test_small_networks_agree_with_onnx(name):
    network = NETWORKS[name](scale=0.06)
    arguments = network.arguments(3)
    inputs = {i.name: arguments[i.name] for i in network.model.graph.input}
    wanted = ReferenceEvaluator(network.model).run(None, inputs)
    found = run_reference(network.module, network.function, network.sizes, {}, arguments)
    for want, got in zip(wanted, found, strict=True):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("name", ["nas_rnn_shared", "vit_published", "llama_decode", "gat_scores"])
def test_networks_are_the_same_every_time(name):
    one, two = (NETWORKS[name](scale=0.02) for _ in range(2))
    assert str(one.module) == str(two.module)
    assert one.fixed and set(one.fixed) < set(one.draws) | set(one.constants)
    for key, array in one.arguments(7).items():
        np.testing.assert_array_equal(array, two.arguments(7)[key])


@pytest.mark.parametrize("name", ON_GRAPHS)
def test_layers_on_graphs_run(name):
    network = NETWORKS[name](scale=0.002)
    program = hectorite.compile(str(network.module) + "\n", "reference", cache=False)
    binding = program.bind(**network.sets(1))
    assert np.isfinite(program[network.function](binding, **network.arguments(1))).all()


def test_deeper_networks_have_more_of_the_same():
    assert NETWORKS["nas_rnn"](scale=0.02, steps=7).statements == 7 * 46
    layers = [NETWORKS["vit_published"](scale=0.25, layers=n).statements for n in (8, 16)]
    assert layers[1] == 2 * layers[0]


def test_sizes_are_those_published():
    # TASO's NasRNN: 16 products, 8 sums, 8 functions of sums, and 14 more to a step.
    assert NETWORKS["nas_rnn"]().statements == 5 * 46
    assert NETWORKS["nas_rnn_shared"]().statements == 5 * 46
    # Queries, keys, values and the projection that is put in the wrong place.
    published = NETWORKS["bert_published"](scale=0.25)
    assert len(published.fixed) == 2 * 4
    assert len(published.model.graph.output) == 1 + 2
    assert len(NETWORKS["bert_published"](scale=0.25, alive=False).model.graph.output) == 1


@pytest.mark.parametrize("name", FROM_FILES)
def test_networks_of_operator_graphs(name):
    if not OPERATOR_GRAPHS.is_dir():
        pytest.skip("$HECTORITE_DATA names no folder of operator graphs")
    network = NETWORKS[name](scale=0.03, data_dir=OPERATOR_GRAPHS)
    arguments = network.arguments(0)
    (found,) = run_reference(network.module, network.function, {}, {}, arguments)
    assert np.isfinite(found).all()
    assert found.shape[0] == 1
