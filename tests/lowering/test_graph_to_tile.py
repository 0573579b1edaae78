"""`graph-to-tile`, and the two rewrites that prepare for it."""

import re

from hectorite.backends.reference.interpreter import find_function
from hectorite.dialects.graph_sets import schema_of
from hectorite.lowering.graph import widen_accumulators
from hectorite.lowering.graph.widen_accumulators import WidenAccumulators
from hectorite.lowering.kernels import explicit_starts, graph_to_tile
from hectorite.lowering.kernels.tile_code import PREFETCH_ELEMENTS
from hectorite.lowering.machine import Machine


def example_of(file) -> tuple[list[str], list[str]]:
    """The lines before and after in the docstring of a file."""
    before, after = (
        [line.strip() for line in part.splitlines() if line.startswith("    ")]
        for part in re.split(r"\nbecomes.*\n", file.__doc__)
    )
    return before, after


def test_graph_to_tile_example(program, ir, lines_of):
    line = "y[e.dst, o] += x[e.src, o] | e: edge, o: 8 | f32[node, 8]"
    module = program("x: f32[node, 8]", line, "y")
    before, after = example_of(graph_to_tile)
    assert lines_of(module) == before
    tile = graph_to_tile.graph_to_tile(module, "f")
    tile.verify()
    assert str(ir(str(tile))) == str(tile)
    written = iter(str(tile).splitlines())
    for start in after:  # in this order, other lines between them
        assert any(line.strip().startswith(start) for line in written), start


def test_long_rows_are_not_asked_for_whole(program):
    """Each line that is asked for is an instruction, so code would grow with the row."""
    line = "y[e.dst, o] += x[e.src, o] | e: edge, o: 1000000 | f32[node, 1000000]"
    module = program("x: f32[node, 1000000]", line, "y")
    text = str(graph_to_tile.graph_to_tile(module, "f"))
    counts = [int(count) for count in re.findall(r"tile\.prefetch .* count (\d+)", text)]
    assert counts
    assert max(counts) == PREFETCH_ELEMENTS


def test_starts_example(program, lines_of):
    module = program("x: f32[node]", "y[n + 2] = x[n] | n: node | f32[9]", "y")
    before, after = example_of(explicit_starts)
    assert lines_of(module) == before
    explicit_starts.make_starts_explicit(
        find_function(module, "f"), schema_of(module), Machine.cpu()
    )
    module.verify()
    assert lines_of(module) == after


def test_parts_of_a_row_start_with_it(program, lines_of):
    line = "y[e.dst, o + 1] += x[e.src, o] | e: edge, o: 8 | f32[node, 9]"
    module = program("x: f32[node, 8]", line, "y")
    before = lines_of(module)
    explicit_starts.make_starts_explicit(
        find_function(module, "f"), schema_of(module), Machine.cpu()
    )
    assert lines_of(module) == before


def test_widen_example(program, rewritten, lines_of):
    before, after = example_of(widen_accumulators)
    module = program("x: f16[node]", "y[e.dst] += x[e.src] | e: edge | f16[node]", "y")
    assert lines_of(module) == before
    assert rewritten(module, WidenAccumulators(), 1e-2) == after


def test_plain_sums_are_not_widened(program, rewritten, lines_of):
    line = "y[n] += x[n, i] | n: node, i: 4 | f16[node]"
    module = program("x: f16[node, 4]", line, "y")
    before = lines_of(module)
    assert rewritten(module, WidenAccumulators(), 1e-2) == before
