"""Programs as ONNX models: ONNX's evaluator gives what the reference gives, and what is imported
back does too."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.helper import make_node as node  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import hectorite  # noqa: E402
from hectorite.frontend.cli import main  # noqa: E402
from hectorite.frontend.data.inputs import inputs_for  # noqa: E402
from hectorite.frontend.onnx.importer import import_model  # noqa: E402
from hectorite.frontend.program_text import read_program  # noqa: E402
from hectorite.ir.diagnostics import HectoriteError  # noqa: E402
from tests.frontend.onnx_models import by_us, close, model_of  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*added once")
GRAPH = "set node\nset etype\nset edge { src: node, dst: node, type: etype }\n"
SETS = {
    "node": 5,
    "etype": 3,
    "edge": {
        "src": np.array([0, 0, 1, 4, 3, 3, 3]),
        "dst": np.array([1, 2, 2, 2, 0, 3, 3]),
        "type": np.array([0, 2, 1, 1, 0, 2, 2]),
    },
}
SIZES = {"I": 4, "O": 3, "K": 2, "N": 6, "M": 5}

DENSE = {
    "product": """(x: f32[N, K], w: f32[K, M]) -> f32[N, M] {
        y[n, m] += x[n, k] * w[k, m]; return y }""",
    "turned": """(x: f32[N, K], w: f32[M, K]) -> f32[M, N] {
        y[m, n] += w[m, k] * x[n, k]; return y }""",
    "batch": """(x: f32[O, N, K], w: f32[O, M, K], s: f32) -> f32[O, N, M] {
        y[o, n, m] += x[o, n, k] * w[o, m, k] * s; return y }""",
    "chain": """(x: f32[N], b: f32[N]) -> f32[N] {
        y[i] = gelu(x[i] + b[i]) * silu(x[i]) - leaky_relu(b[i], 0.1); return y }""",
    "functions": """(x: f32[N], k: i32[N]) -> (f32[N], i32[N], bool[N]) {
        a[i] = where(x[i] > 0, rsqrt(abs(x[i]) + 1), floor(x[i]) % 3.0)
        b[i] = (k[i] // 3) * (k[i] % 4) + i32(x[i] * 100) // (k[i] - k[i])
        c[i] = not (x[i] != 0 and k[i] >= 2 or i < size(N) // 2)
        return a, b, c }""",
    "reductions": """(x: f32[N, M], c: bool[N, M]) -> (f32[N], f32[M], f32, bool[N], bool[M]) {
        a[n] max= x[n, m]; b[m] min= x[n, m]; s += x[n, m] * x[n, m]
        d[n] max= c[n, m]; e[m] min= c[n, m]
        return a, b, s, d, e }""",
    "products": """(x: f32[N, M]) -> f32[N] {
        y[n] *= x[n, m]; y[n] += 1; y[n] = y[n] * 2; return y }""",
    "counted": "(x: f32[N]) -> f32[N] { y[n] += x[n] + (r: 3); return y }",
    "moved": """(x: f32[N, M]) -> (f32[M, N], f32[N], f32[4], f32[N, M]) {
        a[m, n] = x[n, m]; b[n] = x[size(N) - 1 - n, 0]
        c[j: 4] = x[j + 1, 2]; d[n, m] = x[n, (m + 2) % size(M)]
        return a, b, c, d }""",
    "diagonal": """(x: f32[N, N]) -> (f32[N], f32[N, N]) {
        d[i] = x[i, i]; e[i, i] += d[i]; return d, e }""",
    "reshaped": """(x: f32[N, 4]) -> (f32[24], f32[N, 2, 2]) {
        a[i] = x[i // 4, i % 4]; b[n, i, j] = x[n, 2*i + j]; return a, b }""",
    "pieces": """(x: f32[N], w: f32[M]) -> (f32[11], f32[12]) {
        y[i] = x[i]; y[i + size(N)] = w[i]
        z[2*i] = x[i]; z[2*i + 1] = -x[i]
        return y, z }""",
    "windows": """(x: f32[2, 3, 8] pad 0, w: f32[O, 3, 3]) -> (f32[2, O, 4], f32[2, 3, 3]) {
        y[n, o, p] += x[n, c, 2*p + r - 1] * w[o, c, r]
        z[n, c, p] max= x[n, c, 2*p + (r: 3)]
        return y, z }""",
    "depthwise": """(x: f32[2, 4, 7] pad 0, w: f32[8, 1, 3]) -> f32[2, 8, 7] {
        y[n, o, p] += x[n, o // 2, p + r - 1] * w[o, 0, r]; return y }""",
    "groups": """(x: f32[2, 6, 7], w: f32[4, 3, 3]) -> f32[2, 2, 2, 5] {
        y[n, g, o, p] += x[n, 3*g + c, p + r] * w[2*g + o, c, r]; return y }""",
    "dropped": "(x: f32[N]) -> f32[N] pad 0 { y[i + 2] += x[i]; return y }",
    "softmax": "(x: f32[N, M]) -> f32[N, M] { y[n, m] = softmax(x[n, m] by n); return y }",
    "wide": """(x: f16[N, M], k: i8[N]) -> (f16[N], i8[N]) {
        a[n] += x[n, m]; b[n] = k[n] * k[n]; return a, b }""",
}  # fmt: skip
ON_GRAPHS = {
    "gcn": """(x: f32[node, I], w: f32[I, O], e: f32[edge]) -> f32[node, O] {
        y[e.dst, o] += x[e.src, i] * w[i, o] * e[e]; return y }""",
    "rgcn": """(x: f32[node, I], w: f32[etype, I, O]) -> f32[node, O] {
        y[e.dst, o] += x[e.src, i] * w[e.type, i, o]; z[n, o] = relu(y[n, o]); return z }""",
    "gat": """(z: f32[node, K, O], al: f32[K, O], ar: f32[K, O]) -> f32[node, K, O] {
        s[e, k] += z[e.src, k, o] * al[k, o] + z[e.dst, k, o] * ar[k, o]
        a[e, k] = softmax(leaky_relu(s[e, k], 0.2) by e.dst, k)
        y[e.dst, k, o] += a[e, k] * z[e.src, k, o]; return y }""",
    "extremes": """(x: f32[node, I]) -> (f32[node, I], f32[node, I], f32[edge]) {
        a[e.dst, i] max= x[e.src, i]; b[e.dst, i] *= x[e.src, i]; c[e] = x[e.src, 0] + size(node)
        return a, b, c }""",
    "pairs": """(x: f32[edge], z: f32[node]) -> f32[node, node] {
        a[e.src, e.dst] += x[e] * z[e.src]; return a }""",
}


def exported(body, sets, sizes):
    """The ONNX model of a program; what it is called with; and what the reference gives."""
    text = (GRAPH if sets else "") + "def f" + body + "\n"
    program = hectorite.compile(text, "reference", sizes=sizes, cache=False)
    function = program["f"]
    binding = program.bind(**sets)
    inputs = inputs_for(function.signature, function.facts, binding, None, SIZES | sizes, 2)
    results = function(binding, **inputs.arguments)
    model = hectorite.to_onnx(text, sizes=sizes)
    onnx.checker.check_model(model)
    maps = {f"edge.{field}": array for field, array in sets.get("edge", {}).items()}
    names = {value.name for value in model.graph.input}
    given = {name: array for name, array in (inputs.arguments | maps).items() if name in names}
    return model, given, results if isinstance(results, tuple) else (results,)


def told(program):
    """The sizes that a program has."""
    text = read_program("def f" + program + "\n")
    from hectorite.frontend.compiled.load_facts import facts_of

    return {n: SIZES[n] for n in facts_of(text, None).signatures["f"].sizes}


@pytest.mark.parametrize("name", DENSE)
def test_dense_programs(name):
    model, given, wanted = exported(DENSE[name], {}, told(DENSE[name]))
    for want, got in zip(wanted, ReferenceEvaluator(model).run(None, given), strict=True):
        close(got, want)


@pytest.mark.parametrize("name", ON_GRAPHS)
@pytest.mark.parametrize("fixed", [True, False])
def test_programs_on_graphs(name, fixed):
    sizes = {n: SIZES[n] for n in "IOK" if f"{n}]" in ON_GRAPHS[name] or f"{n}," in ON_GRAPHS[name]}
    model, given, wanted = exported(ON_GRAPHS[name], SETS, sizes if fixed else {})
    for want, got in zip(wanted, ReferenceEvaluator(model).run(None, given), strict=True):
        close(got, want)


ONE_WAY = ("pieces", "diagonal", "dropped", "functions")
"""Programs that write at places by `ScatterND` without a reduction or at places that are computed,
or divide by zero, which ONNX leaves open."""


@pytest.mark.parametrize("name", [name for name in DENSE if name not in ONE_WAY])
def test_dense_programs_come_back(name):
    model, given, wanted = exported(DENSE[name], {}, told(DENSE[name]))
    for want, got in zip(wanted, by_us(import_model(model), given), strict=True):
        close(got, want)


@pytest.mark.parametrize("name", ["gcn", "rgcn"])
def test_programs_on_graphs_come_back(name):
    model, given, wanted = exported(ON_GRAPHS[name], SETS, {"I": 4, "O": 3})
    sizes = {"node": 5, "edge": 7} | ({"etype": 3} if name == "rgcn" else {})
    imported = import_model(model, sizes=sizes)
    for want, got in zip(wanted, by_us(imported, given), strict=True):
        close(got, want)


def test_structure_is_kept():
    kinds = {
        "product": {"MatMul", "Identity"},
        "turned": {"Einsum", "Identity"},
        "windows": {"Conv", "MaxPool", "Identity"},
        "depthwise": {"Conv", "Identity"},
        "groups": {"Conv", "Reshape", "Identity"},
        "softmax": {"Softmax", "Identity"},
        "reshaped": {"Reshape", "Identity"},
    }
    for name, wanted in kinds.items():
        model = exported(DENSE[name], {}, told(DENSE[name]))[0]
        assert {each.op_type for each in model.graph.node} == wanted


def test_models_come_back(tmp_path):
    rng = np.random.default_rng(1)
    weights = {"w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32)}
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])]
    x = {"x": rng.standard_normal((2, 3, 5, 5)).astype(np.float32)}
    imported = hectorite.from_onnx(model_of(nodes, x, weights, {"x": ["N", 3, 5, 5]}))
    path = str(tmp_path / "again.onnx")
    model = hectorite.to_onnx(imported, path)
    assert [t.name for t in model.graph.initializer] == ["w"]
    assert [v.name for v in model.graph.input] == ["x"]
    again = hectorite.from_onnx(path, target="reference")
    close(again(x["x"]), ReferenceEvaluator(model).run(None, x)[0])


def test_what_cannot_be_exported_is_told():
    text = """def f(x: f32[N] pad 0, k: u3[N]) -> f32[N] {
      y[i] = x[2*i - 1]
      return y
    }
    """
    with pytest.raises(HectoriteError, match="no elements of type u3"):
        hectorite.to_onnx(text)
    text = text.replace(", k: u3[N]", "")
    with pytest.raises(HectoriteError, match=r"`y\[i\] = ... for i: N` cannot be exported") as one:
        hectorite.to_onnx(text)
    assert len(one.value.diagnostics) == 1
    assert hectorite.to_onnx(text, sizes={"N": 4})
    with pytest.raises(HectoriteError, match="from which onnx cannot be made"):
        hectorite.to_onnx(hectorite.emit(text, "tile", sizes={"N": 4}))
    with pytest.raises(HectoriteError, match="is no text"):
        hectorite.emit(text, "onnx")


def test_the_command_line_writes_models(tmp_path, capsys):
    program, out = tmp_path / "p.hec", tmp_path / "p.onnx"
    program.write_text("def f" + DENSE["product"] + "\n")
    assert main(["emit", str(program), "--level", "onnx", "--out", str(out)]) == 0
    assert main(["check", str(out)]) == 0
    assert "f(x: f32[N, K], w: f32[K, M]) -> f32[N, M]" in capsys.readouterr().out
    one = out.read_bytes()
    assert main(["emit", str(program), "--level", "onnx", "--out", str(out)]) == 0
    assert out.read_bytes() == one
    assert main(["emit", str(program), "--level", "onnx", "--out", "/nowhere/p.onnx"]) == 1


def test_lengths_of_zero_stay():
    source = """def f(x: f32[1, 2, K, 0], b: f32[2, K, 0]) -> (f32[2, 1, K, 0], f32[K]) {
      y[j, i, k, l] = x[i, j, k, l] + b[j, k, l]; s[k] += x[0, j, k, l] * b[j, k, l]; return y, s }
    """
    for sizes in ({"K": 3}, {}):
        model = hectorite.to_onnx(source, sizes=sizes)
        given = {"x": np.zeros((1, 2, 3, 0), "f4"), "b": np.zeros((2, 3, 0), "f4")}
        y, s = ReferenceEvaluator(model).run(None, given)
        assert y.shape == (2, 1, 3, 0)
        np.testing.assert_array_equal(s, np.zeros(3))
