"""Arguments that are fixed: what follows from them is computed once."""

import numpy as np
import pytest

import hectorite
from hectorite.ir.diagnostics import HectoriteError

PROGRAM = """
set node
set edge { src: node, dst: node }
def layer(x: f32[node, I], W: f32[I, H], V: f32[H, O], a: f32[O]) -> f32[node, O] {
  w[i, o] += W[i, h] * V[h, o]
  b[o] = exp(a[o])
  y[e.dst, o] += x[e.src, i] * w[i, o] * b[o]
  return y
}
def other(x: f32[node, I]) -> f32[node, I] {
  y[n, i] = x[n, i] + 1.0
  return y
}
"""


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    edges = {"src": rng.integers(0, 5, 11), "dst": rng.integers(0, 5, 11)}
    shapes = {"x": (5, 40), "W": (40, 30), "V": (30, 20), "a": (20,)}
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return {"node": 5, "edge": edges}, arrays


@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_fixed_functions_agree(data, target):
    sets, arrays = data
    usual = hectorite.compile(PROGRAM, target)
    expected = usual.layer(usual.bind(**sets), **arrays)
    fixed = {name: arrays[name] for name in "WVa"}
    prog = hectorite.compile(PROGRAM, target, fixed=fixed)
    binding = prog.bind(**sets)
    for scale in (1, 2):
        found = prog.layer(binding, x=arrays["x"] * np.float32(scale))
        np.testing.assert_allclose(found, expected * scale, rtol=1e-4, atol=1e-4)
    assert prog.layer.signature.names == ["x"] or prog.layer.signature.names == ("x",)
    assert prog.other(binding, x=arrays["x"]).shape == (5, 40)


def test_what_is_fixed_is_computed_once(data):
    sets, arrays = data
    prog = hectorite.compile(PROGRAM, fixed={name: arrays[name] for name in "WVa"})
    binding = prog.bind(**sets)
    prog.layer(binding, x=arrays["x"])
    (split,) = prog.layer._splits.values()
    assert split.once is not None
    assert not set(split.function.signature.names) & set("WVa")
    again = prog.bind(**sets)
    prog.layer(again, x=arrays["x"])
    assert len(prog.layer._splits) == 1
    assert len(prog.layer._prepared) == 2


def test_functions_without_sets(data):
    text = "def f(x: f32[N], w: f32[N]) -> f32[N] {\n  y[n] = x[n] * exp(w[n])\n  return y\n}\n"
    w, x = np.ones(3, np.float32), np.arange(3, dtype=np.float32)
    prog = hectorite.compile(text, fixed={"w": w})
    for _ in range(2):
        np.testing.assert_allclose(prog.f(x=x), x * np.exp(w), rtol=1e-6)
    assert len(prog.f._prepared) == 1


def test_all_arguments_may_be_fixed():
    text = "def f(w: f32[N]) -> f32[N] {\n  y[n] = exp(w[n])\n  return y\n}\n"
    w = np.arange(3, dtype=np.float32)
    np.testing.assert_allclose(hectorite.compile(text, fixed={"w": w}).f(), np.exp(w), rtol=1e-6)


def test_wrong_use(data):
    sets, arrays = data
    with pytest.raises(HectoriteError, match="no function has a parameter `Q`"):
        hectorite.compile(PROGRAM, fixed={"Q": arrays["W"]})
    prog = hectorite.compile(PROGRAM, fixed={"W": arrays["W"]})
    binding = prog.bind(**sets)
    with pytest.raises(HectoriteError, match="`W` is fixed"):
        prog.layer(binding, **arrays)
    rest = {name: arrays[name] for name in "xVa"}
    with pytest.raises(HectoriteError, match="`W` has 40 in dimension 0"):
        prog.layer(binding, **{**rest, "x": arrays["x"][:, :3].copy()})
    with pytest.raises(HectoriteError, match="`V` is missing"):
        prog.layer(binding, x=arrays["x"], a=arrays["a"])


@pytest.mark.parametrize("fixed", ["W", "x", "Wx"])
def test_a_fixed_argument_may_be_a_result(fixed):
    text = """
def f(x: f32[N], W: f32[N, M]) -> (f32[N, M], f32[N], f32[N]) {
  s[n] += W[n, m]
  return W, s, x
}
"""
    arrays = {"x": np.ones(2, np.float32), "W": np.arange(6, dtype=np.float32).reshape(2, 3)}
    prog = hectorite.compile(text, fixed={name: arrays[name] for name in fixed})
    for _ in range(2):
        w, s, x = prog.f(**{name: arrays[name] for name in arrays if name not in fixed})
        np.testing.assert_array_equal(w, arrays["W"])
        np.testing.assert_array_equal(s, [3, 12])
        np.testing.assert_array_equal(x, [1, 1])
        # What a caller does to a result changes no later call.
        w[...] = s[...] = x[...] = 7


def test_what_is_fixed_is_not_printed(data):
    prog = hectorite.compile(PROGRAM, fixed={"W": data[1]["W"]})
    assert repr(prog.layer).startswith("<function layer(x: f32[node, I], V: f32[H, O]")
