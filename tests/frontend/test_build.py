"""What built programs mean, against plain NumPy, and what their IR looks like."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import FileLineColLoc
from xdsl.parser import Parser

from hectorite.backends.reference.interpreter import run_reference
from hectorite.dialects.context import make_context
from hectorite.dialects.graph import FuncOp
from hectorite.frontend.to_graph.program import load_source

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.hec"))
GRAPH = "set node\nset edge { src: node, dst: node }\n"
SRC = np.array([0, 1, 2, 0, 3], np.int32)
DST = np.array([1, 1, 0, 2, 2], np.int32)
X = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def run(text: str, sizes: dict[str, int] | None = None, **arguments: Any) -> Any:
    """Results of the last function, by the reference; the graph above is bound where declared."""
    module = load_source(text)
    name = [op.sym_name.data for op in module.ops if isinstance(op, FuncOp)][-1]
    maps = {("edge", "src"): SRC, ("edge", "dst"): DST} if "set edge" in text else {}
    known = ({"node": 4, "edge": 5} if maps else {}) | (sizes or {})
    results = run_reference(module, name, known, maps, arguments)
    return results if len(results) > 1 else results[0]


def function(parameters: str, result: str, *statements: str, head: str = "") -> str:
    body = "\n  ".join(statements)
    return f"{head}def f({parameters}) -> {result} {{\n  {body}\n}}\n"


def softmax(x: Any, axis: int) -> Any:
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


class TestMeaning:
    def test_mean_assignment_is_zero_where_nothing_is(self):
        text = function(
            "x: f32[node, I]",
            "f32[node, I]",
            "y[e.dst, i] mean= x[e.src, i]",
            "return y",
            head=GRAPH,
        )
        expected = np.zeros((4, 3))
        for node in set(DST):
            expected[node] = X[SRC[node == DST]].mean(0)
        np.testing.assert_allclose(run(text, x=X), expected)

    def test_mean_of_everything(self):
        text = function("x: f32[N, I]", "f32", "m mean= x[n, i]", "return m")
        np.testing.assert_allclose(run(text, x=X), X.mean(), rtol=1e-6)

    def test_mean_by_group(self):
        text = function(
            "x: f32[N, I]", "f32[N, I]", "y[n, i] = x[n, i] - mean(x[n, i] by n)", "return y"
        )
        np.testing.assert_allclose(run(text, x=X), X - X.mean(1, keepdims=True), atol=1e-7)

    def test_softmax_inside_mean(self):
        text = function(
            "x: f32[N, I]",
            "f32[N, I]",
            "y[n, i] = softmax(2 * x[n, i] by n) + mean(softmax(x[n, i] by i) by)",
            "return y",
        )
        expected = softmax(2 * X, 1) + softmax(X, 0).mean()
        np.testing.assert_allclose(run(text, x=X), expected, rtol=1e-5)

    def test_softmax_counts_all_points_of_the_statement(self):
        text = function(
            "s: f32[N]", "f32[N, K]", "y[n, k] = softmax(s[n] by k) + 0 * (k: K)", "return y"
        )
        result = run(text, sizes={"K": 2}, s=X[0])
        np.testing.assert_allclose(result, np.stack([softmax(X[0], 0)] * 2, 1), rtol=1e-6)

    def test_quantisation(self):
        text = function(
            "x: f32[N, I]",
            "(i8[N, I], f32[N, I])",
            "q[n, i] = quantize(x[n, i], 0.01, 3, i8)",
            "d[n, i] = dequantize(q[n, i], 0.01, 3)",
            "return q, d",
        )
        q, d = run(text, x=X)
        expected = np.clip(np.round(X / 0.01) + 3, -128, 127)
        np.testing.assert_array_equal(q, expected)
        np.testing.assert_allclose(d, (expected - 3) * 0.01)

    def test_integers(self):
        text = function(
            "a: i8[A]",
            "(i32[A], f32[A], i32[A], i32[A])",
            "p[i] = a[i] * a[i]",
            "q[i] = a[i] / 4",
            "r[i] = a[i] // 3 + a[i] % 4",
            "t[i] = where(a[i] > 2 and not a[i] == 5, i * size(A), -1)",
            "return p, q, r, t",
        )
        a = np.array([100, -7, 5, 3, 0], np.int8)
        wide = a.astype(np.int32)
        p, q, r, t = run(text, a=a)
        np.testing.assert_array_equal(p, wide * wide)
        np.testing.assert_array_equal(q, wide / 4)
        np.testing.assert_array_equal(r, wide // 3 + wide % 4)
        np.testing.assert_array_equal(t, [0, -1, -1, 15, -1])

    def test_calls_scalars_and_sizes(self):
        head = (
            "def g(x: f32[N, I], s: f32, k: i32) -> f32[N, I] {\n"
            "  y[n, i] = x[n, i] * s + f32(k * size(I))\n  return y\n}\n"
        )
        text = function(
            "x: f32[A, B], c: f32",
            "f32[A, B]",
            "a = g(x, c * 2, 3)",
            "t = 2.5",
            "b = g(a, t, k=size(A))",
            "return b",
            head=head,
        )
        expected = (X * 4 + 9) * 2.5 + 12
        np.testing.assert_allclose(run(text, x=X, c=np.float32(2)), expected, rtol=1e-6)

    def test_callee_pads_what_the_caller_does_not(self):
        head = "def g(x: f32[N] pad 7) -> f32[N] {\n  y[n] = x[n - 1]\n  return y\n}\n"
        text = function("x: f32[M]", "f32[M]", "a = g(x)", "return a", head=head)
        np.testing.assert_allclose(run(text, x=X[0]), [7, *X[0, :2]])

    def test_padded_result_drops(self):
        text = function("x: f32[N]", "f32[N] pad 0", "y[n - 1] += x[n]", "return y")
        np.testing.assert_allclose(run(text, x=X[0]), [*X[0, 1:], 0])

    def test_pieces(self):
        text = function(
            "a: f32[A], b: f32[B]",
            "f32[C]",
            "y[i] = a[i]",
            "y[i + size(A)] = 2 * b[i] + i",
            "return y",
        )
        result = run(text, sizes={"C": 5}, a=X[0], b=X[1, :2])
        np.testing.assert_allclose(result, [*X[0], 2 * X[1, 0], 2 * X[1, 1] + 1], rtol=1e-6)

    def test_later_statement_continues_and_a_later_assignment_replaces(self):
        text = function(
            "x: f32[N]",
            "(f32[N], f32[N])",
            "y[i] = x[i]",
            "y[i] += 2 * y[i]",
            "y[i] max= 0",
            "z[i] = 5",
            "z[i] = y[i]",
            "return y, z",
        )
        y, z = run(text, x=X[0])
        np.testing.assert_allclose(y, np.maximum(3 * X[0], 0), rtol=1e-6)
        np.testing.assert_array_equal(y, z)

    def test_index_arithmetic(self):
        text = function(
            "x: f32[N]",
            "(f32[N], f32[N])",
            "y[i] = x[i // 2]",
            "z[i] = x[(2 * i + 1) % size(N)]",
            "return y, z",
        )
        y, z = run(text, x=X[:, 0])
        np.testing.assert_array_equal(y, X[[0, 0, 1, 1], 0])
        np.testing.assert_array_equal(z, X[[1, 3, 1, 3], 0])

    def test_derived_set(self):
        head = GRAPH + (
            "set two { a: node, b: node } = distinct(x.src, y.dst) for x: edge, y: edge\n"
            "  where x.dst == y.src and x.src != y.dst\n"
        )
        text = function(
            "x: f32[node]",
            "(i32[two], i32)",
            "y[t] = 10 * t.a + t.b",
            "n = size(two)",
            "return y, n",
            head=head,
        )
        y, n = run(text, x=X[:, 0])
        edges = list(zip(SRC, DST, strict=True))
        pairs = {(s, d) for s, m in edges for k, d in edges if m == k and s != d}
        np.testing.assert_array_equal(y, [10 * a + b for a, b in sorted(pairs)])
        assert n == len(pairs)


class TestModule:
    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
    def test_example_prints_and_parses_back(self, path: Path):
        text = str(load_source(path))
        assert str(Parser(make_context(), text).parse_module()) == text
        assert text == str(load_source(path))

    def test_there_is_an_example_for_every_program_of_the_language(self):
        names = "gcn sage_mean gat rgcn rgat hgt spmm sddmm spmv nm_spmm lowbit hypergraph conv2d"
        expected = {*names.split(), "sparse_conv", "batch_reduce"}
        assert expected <= {path.stem for path in EXAMPLES}

    def test_every_operation_knows_where_it_comes_from(self):
        module = load_source(next(path for path in EXAMPLES if path.stem == "hgt"))
        lines = {
            op.location.line.data
            for top in module.ops
            for op in top.walk()
            if isinstance(op.location, FileLineColLoc)
        }
        assert all(isinstance(op.location, FileLineColLoc) for t in module.ops for op in t.walk())
        assert lines == {2, 3, 4, 5, 6, 7, 9, *range(14, 24)}

    def test_softmax_of_a_tensor_is_one_operation(self):
        module = load_source(
            function("x: f32[N, K]", "f32[N, K]", "y[n, k] = softmax(x[n, k] by n)", "return y")
        )
        func = next(op for op in module.ops if isinstance(op, FuncOp))
        assert [op.name for op in func.body.block.ops] == ["graph.softmax", "graph.return"]
