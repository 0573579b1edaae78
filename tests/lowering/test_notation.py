"""Statements in the notation of the language."""

import pytest


@pytest.mark.parametrize(
    "text",
    [
        "a[e] + b[e] * a[e]",
        "(a[e] + b[e]) * a[e]",
        "a[e] - (b[e] - a[e])",
        "a[e] - b[e] - a[e]",
        "a[e] / (b[e] * a[e])",
        "-(a[e] * b[e])",
        "-a[e] * -1.0",
        "exp(a[e] + 1.0) // b[e] % 2.0",
        "x[e.src, 2] * v[]",
    ],
)
def test_expressions(program, lines_of, text):
    parameters = "a: f32[edge], b: f32[edge], x: f32[node, 3], v: f32[]"
    line = f"y[e] = {text.replace('v[]', 'v[()]')} | e: edge | f32[edge]"
    module = program(parameters, line, "y")
    assert lines_of(module) == [f"y[e] = {text.replace('v[]', 'v')}"]


def test_statements(program, lines_of):
    lines = """
        y[e.dst, (i + 1) // 2] max= f16x[e, i] | e: edge, i: 4 | f32[node, 3]
        y[n, i] *= y[n, i] | n: node, i: 3 | f32[node, 3]
        s = softmax a[e] by [e.dst, e.type] | e: edge | f32[edge]
        t[] += s[e] | e: edge | f32[]
    """
    module = program("f16x: f16[edge, 4], a: f32[edge]", lines, "y_next t")
    assert lines_of(module) == [
        "y[e.dst, (i + 1) // 2] max= f32(f16x[e, i])",
        "y_next[n, i] *= y[n, i] from y",
        "s[e] = softmax(a[e] by e.dst, e.type)",
        "t += s[e]",
    ]


CONDITION = """
graph.set @edge
graph.func @f(%x: !hec.tensor<f32[edge]>, %eps: f32) -> !hec.tensor<f32[edge]> {
  %y = graph.statement assign [e] for (e: edge) : !hec.tensor<f32[edge]> {
    %0 = graph.read %x[e] : f32
    %1 = scalar.lt %0, %eps : f32
    %2 = scalar.not %1 : i1
    %3 = scalar.ge %eps, %0 : f32
    %4 = scalar.and %2, %3 : i1
    %5 = scalar.or %4, %1 : i1
    %6 = graph.index e + 1 : i32
    %7 = graph.size "edge" : i32
    %8 = scalar.add %6, %7 : i32
    %9 = scalar.cast %8 : i32 to f32
    %10 = scalar.select %5, %0, %9 : f32
    graph.yield %10 : f32
  }
  graph.return %y : !hec.tensor<f32[edge]>
}
"""


def test_conditions_indices_and_sizes(ir, lines_of):
    condition = "not x[e] < eps and eps >= x[e] or x[e] < eps"
    assert lines_of(ir(CONDITION)) == [
        f"y[e] = where({condition}, x[e], f32((e + 1) + size(edge)))"
    ]
