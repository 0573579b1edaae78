"""`canonicalize-graph`."""

import pytest

from hectorite.lowering.graph.canonicalize_graph import CanonicalizeGraph


def test_example(program, as_documented):
    module = program("x: f32[edge]", "y[e] = x[e] / sqrt(4.0) | e: edge | f32[edge]", "y")
    as_documented(module, CanonicalizeGraph())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x[e] * 1.0", "x[e]"),
        ("1.0 * x[e]", "x[e]"),
        ("x[e] * -1.0", "-x[e]"),
        ("x[e] - 0.0", "x[e]"),
        ("x[e] + (0.0 - 0.0) * -1.0", "x[e]"),
        ("x[e] / 1.0", "x[e]"),
        ("x[e] / -4.0", "x[e] * -0.25"),
        ("x[e] ** 2.0", "x[e] * x[e]"),
        ("x[e] ** 1.0", "x[e]"),
        ("-(-x[e])", "x[e]"),
        ("relu(relu(x[e]))", "relu(x[e])"),
        ("exp(2.0 - 2.0) * x[e]", "x[e]"),
    ],
)
def test_floats(program, rewritten, before, after):
    module = program("x: f32[edge]", f"y[e] = {before} | e: edge | f32[edge]", "y")
    assert rewritten(module, CanonicalizeGraph()) == [f"y[e] = {after}"]


@pytest.mark.parametrize("kept", ["x[e] + 0.0", "x[e] * 0.0", "x[e] - x[e]", "x[e] / 3.0"])
def test_what_would_change_zeros_or_nan_stays(program, rewritten, kept):
    module = program("x: f32[edge]", f"y[e] = {kept} | e: edge | f32[edge]", "y")
    assert rewritten(module, CanonicalizeGraph()) == [f"y[e] = {kept}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x[e] + 0", "x[e]"),
        ("x[e] * 0", "0"),
        ("x[e] // 1", "x[e]"),
        ("x[e] % 1", "0"),
        ("x[e] + 3 // 0", "x[e]"),
        ("x[e] + 2147483647 * 2", "x[e] + -2"),
    ],
)
def test_integers(program, rewritten, before, after):
    module = program("x: i32[edge]", f"y[e] = {before} | e: edge | i32[edge]", "y")
    assert rewritten(module, CanonicalizeGraph()) == [f"y[e] = {after}"]


CASTS = """
graph.set @edge
graph.func @f(%x: !hec.tensor<{source}[edge]>) -> !hec.tensor<{target}[edge]> {{
  %y = graph.statement assign [e] for (e: edge) : !hec.tensor<{target}[edge]> {{
    %0 = graph.read %x[e] : {source}
    %1 = scalar.cast %0 : {source} to {middle}
    %2 = scalar.cast %1 : {middle} to {target}
    graph.yield %2 : {target}
  }}
  graph.return %y : !hec.tensor<{target}[edge]>
}}
"""


@pytest.mark.parametrize(
    ("source", "middle", "target", "after"),
    [
        ("f16", "f32", "f16", "x[e]"),
        ("f16", "f32", "f64", "f64(x[e])"),
        ("i8", "i32", "i64", "i64(x[e])"),
        ("i8", "i32", "f32", "f32(x[e])"),
        ("f32", "f16", "f32", "f32(f16(x[e]))"),
        ("f32", "tf32", "f32", "f32(tf32(x[e]))"),
        ("tf32", "f32", "tf32", "x[e]"),
        ("tf32", "f16", "tf32", "tf32(f16(x[e]))"),
        ("bf16", "tf32", "f32", "f32(x[e])"),
        ("i16", "f32", "i8", "i8(f32(x[e]))"),
        ("i32", "i8", "i32", "i32(i8(x[e]))"),
    ],
)
def test_casts(ir, rewritten, source, middle, target, after):
    module = ir(CASTS.format(source=source, middle=middle, target=target))
    assert rewritten(module, CanonicalizeGraph()) == [f"y[e] = {after}"]


SELECT = """
graph.set @edge
graph.func @f(%x: !hec.tensor<f32[edge]>) -> !hec.tensor<f32[edge]> {
  %y = graph.statement assign [e] for (e: edge) : !hec.tensor<f32[edge]> {
    %0 = graph.read %x[e] : f32
    %1 = scalar.constant 1.0 : f32
    %2 = scalar.lt %1, %1 : f32
    %3 = scalar.not %2 : i1
    %4 = scalar.lt %0, %1 : f32
    %5 = scalar.and %3, %4 : i1
    %6 = scalar.or %5, %2 : i1
    %7 = scalar.select %6, %0, %1 : f32
    %8 = scalar.select %3, %7, %0 : f32
    graph.yield %8 : f32
  }
  graph.return %y : !hec.tensor<f32[edge]>
}
"""


def test_conditions(ir, rewritten):
    lines = rewritten(ir(SELECT), CanonicalizeGraph())
    assert lines == ["y[e] = where(x[e] < 1.0, x[e], 1.0)"]


def test_a_reduced_variable_that_nothing_uses_still_counts(program, rewritten):
    module = program("x: f32[node]", "y[n] += x[n] * 1.0 | n: node, i: 7 | f32[node]", "y")
    assert rewritten(module, CanonicalizeGraph()) == ["y[n] += x[n]"]
