"""`merge-statements` and `drop-dead-statements`."""

from hectorite.lowering.graph.drop_dead_statements import DropDeadStatements
from hectorite.lowering.graph.merge_statements import MergeStatements


def test_example(program, as_documented):
    module = program(
        "x: f32[node, 8], w: f32[8]",
        """
        a[n] += x[n, i] * w[i] | n: node, i: 8 | f32[node]
        b[m] += w[j] * x[m, j] | m: node, j: 8 | f32[node]
        c[n] = a[n] - b[n] | n: node | f32[node]
        """,
        "c",
    )
    as_documented(module, MergeStatements())


def test_differences_that_matter(program, rewritten):
    module = program(
        "x: f32[node, 8], v: f32[8]",
        """
        a[n] += x[n, i] * v[i] | n: node, i: 8 | f32[node]
        b[n] max= x[n, i] * v[i] | n: node, i: 8 | f32[node]
        c[n] += x[n, i] - v[i] | n: node, i: 8 | f32[node]
        d[n] += v[i] - x[n, i] | n: node, i: 8 | f32[node]
        k[n] += x[n, i] * v[i] | n: node, i: 8, j: 2 | f32[node]
        l[n] += x[n, i] * v[i] | n: node, i: 4 | f32[node]
        m[n] += x[n, i] * v[i] | n: node, i: 8 | f64[node]
        p[n] += x[n, 7 - i] * v[i] | n: node, i: 8 | f32[node]
        """,
        "a b c d k l m p",
    )
    assert len(rewritten(module, MergeStatements())) == 8


def test_starts_matter(program, rewritten):
    module = program(
        "x: f32[node]",
        """
        a[n] += x[n] | n: node | f32[node]
        b[n] += x[n] | n: node | f32[node]
        a[n] += x[n] | n: node | f32[node]
        """,
        "a_next b",
    )
    lines = rewritten(module, MergeStatements())
    assert lines == ["a[n] += x[n]", "a_next[n] += x[n] from a"]


def test_dead_example(program, as_documented):
    module = program(
        "x: f32[node]",
        """
        a[n] += exp(x[n]) | n: node | f32[node]
        b[n] = a[n] | n: node | f32[node]
        c[n] = x[n] | n: node | f32[node]
        """,
        "c",
    )
    as_documented(module, DropDeadStatements())


def test_dead_operations_inside_a_statement_go(ir, rewritten):
    text = """
graph.set @node
graph.func @f(%x: !hec.tensor<f32[node]>) -> !hec.tensor<f32[node]> {
  %y = graph.statement assign [n] for (n: node) : !hec.tensor<f32[node]> {
    %0 = graph.read %x[n] : f32
    %1 = scalar.exp %0 : f32
    %2 = scalar.exp %1 : f32
    graph.yield %1 : f32
  }
  graph.return %y : !hec.tensor<f32[node]>
}
"""
    assert rewritten(ir(text), DropDeadStatements()) == ["y[n] = exp(x[n])"]
