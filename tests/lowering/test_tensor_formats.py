"""Statements over what is kept of tensors in a format: at every level, and those that cannot be."""

import re

import numpy as np
import pytest
from xdsl.context import Context

import hectorite
from hectorite import HectoriteError
from hectorite.dialects.graph import FuncOp
from hectorite.lowering.formats import apply_tensor_formats
from hectorite.lowering.formats.apply_tensor_formats import ApplyTensorFormats
from hectorite.lowering.graph.notation import function_lines

FORMATS = [(1, 4), (2, 4), (2, 8), (4, 8), (1, 16)]
ONE = "def f(W: {e}[M, K] as nm({n}, {m}), X: {x}) -> {y} {{\n  {body}\n  return Y\n}}\n"
STATEMENTS = {
    "right": ("Y[m, n] += W[m, k] * X[k, n]", "[K, N]", "[M, N]"),
    "left": ("Y[n, m] += X[n, k] * W[m, k]", "[N, K]", "[N, M]"),
    "vector": ("Y[m] += W[m, k] * X[k]", "[K]", "[M]"),
    "batch": ("Y[b, m, n] += W[m, k] * X[b, k, n]", "[B, K, N]", "[B, M, N]"),
    "factor": ("Y[m, n] += W[m, k] * X[k, n] * relu(X[k, 0])", "[K, N]", "[M, N]"),
    "alone": ("Y[m] += W[m, k]", "[K]", "[M]"),
    "place": ("Y[m] += W[m, k] * X[k] * k", "[K]", "[M]"),
}


def program(name: str, element: str, n: int, m: int) -> str:
    body, x, y = STATEMENTS[name]
    return ONE.format(e=element, n=n, m=m, x=element + x, y=element + y, body=body)


def test_example():
    module = hectorite.parse(
        "def f(W: f32[8, 16] as nm(1, 4), X: f32[16, N]) -> f32[8, N] {\n"
        "  C[m, n] += W[m, k] * X[k, n]\n  return C\n}\n"
    )
    ApplyTensorFormats().apply(Context(), module)
    module.verify()
    (func,) = (op for op in module.ops if isinstance(op, FuncOp))
    (line,) = function_lines(func)
    text = re.sub(r"\s+", " ", apply_tensor_formats.__doc__ or "")
    assert re.sub(r"\s+", " ", line) in text


SIZES = {"M": 18, "K": 21, "N": 9, "B": 2}


@pytest.mark.parametrize(
    ("name", "element", "format"),
    [("right", "f32", (2, 8)), ("left", "f16", (2, 4)), ("batch", "i32", (1, 4))],
)
def test_every_level_agrees(name, element, format):
    names = {"M", "K", "N", *(["B"] if name == "batch" else [])}
    sizes = {size: SIZES[size] for size in names}
    assert hectorite.verify(program(name, element, *format), sizes=sizes)


@pytest.mark.parametrize(
    ("name", "target"),
    [("vector", "ptx"), ("place", "tile"), ("factor", "tile"), ("factor", "ptx"), ("alone", "cpu")],
)
def test_every_statement_agrees(name, target):
    generator = np.random.default_rng(3)
    W = pruned(generator, (12, 19), 2, 4, np.float32)
    shape = [{"M": 12, "K": 19, "N": 5}[d] for d in re.findall(r"\w+", STATEMENTS[name][1])]
    X = generator.integers(-9, 10, shape).astype(np.float32)
    text = program(name, "f32", 2, 4)
    expected = hectorite.compile(text, target="reference").f(W=W, X=X)
    result = hectorite.compile(text, target=target).f(W=W, X=X)
    np.testing.assert_array_equal(result, expected)


def pruned(generator, shape, keep, group, dtype):
    """A tensor with at most `keep` of each `group` elements along the last axis."""
    *outer, extent = shape
    groups = -(-extent // group)
    rank = generator.random((*outer, groups, group)).argsort(-1).argsort(-1)
    few = generator.integers(0, keep + 1, (*outer, groups, 1))
    kept = (rank < few).reshape(*outer, -1)[..., :extent]
    return np.where(kept, generator.integers(-4, 5, shape), 0).astype(dtype)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        *(("right", each) for each in FORMATS),
        *((name, (3, 5)) for name in ("left", "vector", "batch")),
        *(("right", (8, group)) for group in (33, 64, 100, 128, 200, 256)),
        *((name, (5, 77)) for name in ("left", "vector", "batch")),
    ],
    ids=str,
)
def test_products_are_exact(name, format):
    """Small integers make sums of floats exact, so the product has to be that of the weights."""
    generator = np.random.default_rng(7)
    dims = {"M": 140, "K": 83, "N": 19, "B": 2}
    W = pruned(generator, (dims["M"], dims["K"]), *format, np.float32)
    _, x, _ = STATEMENTS[name]
    shape = tuple(dims[dim] for dim in re.findall(r"\w+", x))
    X = generator.integers(-9, 10, shape).astype(np.float32)
    call = hectorite.compile(program(name, "f32", *format)).f
    expected = X @ W.T if name == "left" else W @ X
    for given in (W, hectorite.nm(W, *format)):
        np.testing.assert_array_equal(call(W=given, X=X), expected)


@pytest.mark.parametrize("format", [(1, 40), (1, 128), (3, 65), (2, 256)])
@pytest.mark.parametrize("target", ["tile", "ptx"])
def test_groups_of_many_are_exact_on_a_gpu(target, format):
    generator = np.random.default_rng(8)
    W = pruned(generator, (9, 300), *format, np.float32)
    X = generator.integers(-9, 10, (300, 40)).astype(np.float32)
    call = hectorite.compile(program("right", "f32", *format), target=target).f
    np.testing.assert_array_equal(call(W=W, X=X), W @ X)


@pytest.mark.parametrize("name", ["right", "left", "vector"])
def test_what_is_not_kept_adds_nothing(name):
    W = np.zeros((9, 16), np.float32)
    W[:, 1] = 2
    X = np.full(tuple({"K": 16, "N": 33}[d] for d in re.findall(r"\w+", STATEMENTS[name][1])), 3.0)
    X = X.astype(np.float32)
    for place, value in enumerate((np.inf, -np.inf, np.nan)):
        X[(slice(None), 4 * place) if name == "left" else 4 * place] = value
    result = hectorite.compile(program(name, "f32", 2, 4)).f(W=W, X=X)
    np.testing.assert_array_equal(result, np.full(result.shape, 6.0))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("Y[m, k] = W[m, k] * 2", "stays on the left"),
        ("Y[m, k] max= W[m, k] * X[k, k]", "stays on the left"),
        ("Y[m, n: K] max= W[m, k] * X[k, n]", "counts elements not kept"),
        ("Y[m, n: K] += exp(W[m, k]) * X[k, n]", "need not be 0"),
        ("Y[m, n: K] += W[m, k] * W[m, n] * X[k, n]", "different indices"),
        ("Y[m, n: K] += W[m, (k: K) % 4] * X[k, n]", "not an index variable alone"),
    ],
)
def test_statements_that_need_what_is_not_kept(body, why):
    text = (
        f"def f(W: f32[8, K] as nm(2, 4), X: f32[K, K]) -> f32[8, K] {{\n  {body}\n  return Y\n}}"
    )
    with pytest.raises(HectoriteError, match=r"`W` is stored as nm\(2, 4\)") as error:
        hectorite.compile(text + "\n", sizes={"K": 16})
    assert why in str(error.value)


def test_a_last_axis_that_is_a_set():
    text = "set s\ndef f(W: f32[4, s] as nm(2, 4)) -> f32[4] {\n  y[m] += W[m, k]\n  return y\n}\n"
    with pytest.raises(HectoriteError, match="its last axis is the set `s`"):
        program = hectorite.compile(text)
        program.f(program.bind(s=4), W=np.zeros((4, 4), np.float32))
