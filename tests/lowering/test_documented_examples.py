"""Every pass has a before and after that fits on a glance, and `optimise-graph` gives its own."""

import importlib
import re

import pytest

from hectorite.frontend.registry import PASSES
from hectorite.lowering.graph.optimise_graph import OptimiseGraph

MOST_LINES = 12


@pytest.mark.parametrize("name", PASSES)
def test_files_of_passes_open_with_an_example(name):
    module, _ = PASSES[name]
    head = importlib.import_module(module).__doc__ or ""
    assert head.startswith(f"`{name}`: ")
    before, after = re.split(r"\nbecomes.*\n", head)
    example = [line for line in (before + after).splitlines() if line.startswith("    ")]
    assert 2 <= len(example) <= MOST_LINES
    assert "Enters: " in before and "Leaves: " in before


def test_optimise_example(program, as_documented):
    lines = """
        z[e, o] += h[e.src, i] * W[i, o] | e: edge, o: 32, i: 64 | f32[edge, 32]
        s[e] += z[e, o] * a[o] | e: edge, o: 32 | f32[edge]
        y[e.dst] += exp(s[e]) | e: edge | f32[node]
    """
    as_documented(
        program("h: f32[node, 64], W: f32[64, 32], a: f32[32]", lines, "y"), OptimiseGraph()
    )
