"""The element type tf32 on every target: what is rounded, when, and what is not."""

import numpy as np
import pytest

import hectorite
from hectorite.dialects.tile import ProductOp
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.rounding import round_to_tf32

TARGETS = pytest.mark.parametrize("target", ["reference", "tile", "cpu", "ptx"])

ELEMENTWISE = """
def read(x: tf32[N]) -> f32[N] {
  y[i] = x[i]
  return y
}

def written(x: f32[N]) -> tf32[N] {
  y[i] = x[i]
  return y
}

def casts(x: f32[N]) -> f32[N] {
  y[i] = f32(tf32(x[i]))
  return y
}

def same(x: tf32[N]) -> (tf32[N], tf32[N]) {
  return x, x
}

def once(x: tf32[N]) -> (tf32[N], f32[N]) {
  y[i] = (x[i] + 0.001) * 3 - x[i]
  z[i] = f32(y[i])
  return y, z
}

def number(x: f32[N], c: tf32) -> (f32[N], tf32) {
  y[i] = x[i] * f32(c)
  return y, c
}

def padded(x: tf32[N] pad 0.1) -> f32[N] {
  y[i] = x[i + 1]
  return y
}

def greatest(x: tf32[N, 5]) -> (tf32[N], f32) {
  y[n] max= x[n, j]
  s += f32(x[n, j])
  return y, s
}
"""

DENSE = """
def both(A: tf32[M, K], B: tf32[K, N]) -> f32[M, N] {
  C[m, n] += A[m, k] * B[k, n]
  return C
}

def one(A: tf32[M, K], B: f32[K, N]) -> f32[M, N] {
  C[m, n] += f32(A[m, k]) * B[k, n]
  return C
}

def left(A: f32[M, K], B: tf32[K, N]) -> f32[M, N] {
  C[m, n] += tf32(A[m, k] * 2 + 0.1) * B[k, n]
  return C
}

def locals(A: f32[M, K], B: f32[K, N]) -> f32[M, N] {
  a[m, k] = tf32(A[m, k])
  b[k, n] = tf32(B[k, n])
  C[m, n] += a[m, k] * b[k, n]
  return C
}

def made(A: f32[M, K], B: f32[K, N]) -> tf32[M, N] {
  C[m, n] += tf32(A[m, k]) * tf32(B[k, n])
  return C
}
"""

SPARSE = """
set node
set edge { src: node, dst: node }

def spmm(v: f32[edge], B: tf32[node, J]) -> f32[node, J] {
  C[e.dst, j] += v[e] * f32(B[e.src, j])
  return C
}

def gathered(h: tf32[node, K], B: tf32[K, N]) -> tf32[node, N] {
  C[e.dst, n] += h[e.src, k] * B[k, n]
  return C
}
"""

PROGRAMS = (
    (ELEMENTWISE, ("once", "number", "padded", "greatest", "same")),
    (DENSE, ("both", "one", "left", "locals", "made")),
    (SPARSE, ("spmm", "gathered")),
)

SIZES = {"M": 64, "N": 64, "K": 64}


def bits(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint32).view(np.float32)


def samples(count: int = 300) -> np.ndarray:
    """Float32 with all 23 bits, halves, and what is special."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal(count) * 2.0 ** rng.integers(-20, 20, count)).astype(np.float32)
    halves = (x.view(np.uint32) & np.uint32(0xFFFFF000) | np.uint32(0x1000)).view(np.float32)
    special = [0, -0.0, np.inf, -np.inf, np.nan, 3.4028235e38, -3.4028235e38, 65504, 1 + 2.0**-11]
    nans = bits(0x7F800001, 0xFFFFFFFF, 0x7FBFFFFF)
    return np.concatenate([x, halves, np.array(special, np.float32), nans])


def same(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == np.float32
    np.testing.assert_array_equal(actual, expected)
    finite = ~np.isnan(expected)
    assert (np.signbit(actual) == np.signbit(expected))[finite].all()


@TARGETS
@pytest.mark.filterwarnings("ignore:invalid value")  # signalling NaN
@pytest.mark.parametrize("function", ["read", "written", "casts", "same"])
def test_elements_round_when_they_are_loaded_stored_and_cast(target, function):
    x = samples()
    kept = x.copy()
    call = getattr(hectorite.compile(ELEMENTWISE, target=target), function)
    made = call(x=x)
    for y in made if isinstance(made, tuple) else (made,):
        same(y, round_to_tf32(x))
    assert kept.tobytes() == x.tobytes()  # the caller's array stays


@TARGETS
def test_a_statement_rounds_once_at_its_end(target):
    x = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    y, z = hectorite.compile(ELEMENTWISE, target=target).once(x=x)
    loaded = round_to_tf32(x).astype(np.float64)
    exact = (loaded + np.float32(0.001)) * 3 - loaded
    same(y, z)
    same(y, round_to_tf32(y))
    assert (np.abs(y - exact) <= (2.0**-11 + 2.0**-20) * np.abs(exact) + 2.0**-20).all()
    assert (y == round_to_tf32(exact)).mean() > 0.95


@TARGETS
def test_numbers_and_pads(target):
    program = hectorite.compile(ELEMENTWISE, target=target)
    x = np.ones(7, np.float32)
    y, c = program.number(x=x, c=1.00048828125)
    np.testing.assert_array_equal(y, np.full(7, 1 + 2.0**-10, np.float32))
    assert c == 1 + 2.0**-10
    np.testing.assert_array_equal(program.padded(x=x)[5:], [1, round_to_tf32(np.float32(0.1))])


@TARGETS
def test_reductions(target):
    x = samples(200)[:200].reshape(40, 5)
    y, s = hectorite.compile(ELEMENTWISE, target=target).greatest(x=x)
    same(y, round_to_tf32(x).max(1))
    np.testing.assert_allclose(s, round_to_tf32(x).astype(np.float64).sum(), rtol=1e-4)


def products(rng, m, k, n):
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n)))
    return a, b, round_to_tf32(a).astype(np.float64), round_to_tf32(b).astype(np.float64)


@TARGETS
@pytest.mark.parametrize("m, k, n", [(5, 3, 2), (33, 20, 17)])
def test_products(target, m, k, n):
    program = hectorite.compile(DENSE, target=target)
    a, b, a_loaded, b_loaded = products(np.random.default_rng(1), m, k, n)
    exact, one = a_loaded @ b_loaded, a_loaded @ b
    np.testing.assert_allclose(program.both(A=a, B=b), exact, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(program.one(A=a, B=b), one, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(program.locals(A=a, B=b), exact, rtol=2e-6, atol=2e-6)
    left = round_to_tf32(a * 2 + np.float32(0.1)).astype(np.float64) @ b_loaded
    np.testing.assert_allclose(program.left(A=a, B=b), left, rtol=1e-5, atol=1e-5)
    made = program.made(A=a, B=b)
    same(made, round_to_tf32(made))
    np.testing.assert_allclose(made, exact, rtol=2.0**-10.9, atol=2e-6)


@TARGETS
def test_sparse_products(target):
    rng = np.random.default_rng(2)
    program = hectorite.compile(SPARSE, target=target)
    src, dst = rng.integers(0, 9, (2, 40)).astype(np.int32)
    graph = program.bind(node=9, edge={"src": src, "dst": dst})
    h, b, h_loaded, b_loaded = products(rng, 9, 12, 6)
    v = rng.standard_normal(40).astype(np.float32)
    exact = np.zeros((9, 12))
    np.add.at(exact, dst, v[:, None].astype(np.float64) * h_loaded[src])
    np.testing.assert_allclose(program.spmm(graph, v=v, B=h), exact, rtol=1e-5, atol=1e-5)
    exact = np.zeros((9, 6))
    np.add.at(exact, dst, h_loaded[src] @ b_loaded)
    made = program.gathered(graph, h=h, B=b)
    same(made, round_to_tf32(made))
    np.testing.assert_allclose(made, exact, rtol=2.0**-10.9, atol=1e-4)


@pytest.mark.parametrize(
    "function, target",
    [("both", None), ("locals", None)]
    + [(f, t) for f in ("both", "locals", "left") for t in ("sm_80", "sm_90")],
)
def test_both_operands_of_a_product_stay_tf32_and_its_sum_is_f32(function, target):
    text = hectorite.emit(DENSE, "tile", SIZES, function, target=target)
    found = [op for op in hectorite.parse(text).walk() if isinstance(op, ProductOp)]
    assert found
    for op in found:
        assert [str(op.a.type.element), str(op.b.type.element)] == ["tf32", "tf32"]
        assert str(op.result.type.element_type) == "f32"


def test_only_what_is_declared_is_tf32():
    text = DENSE.replace("tf32", "f32")
    for target in ("sm_80", "sm_90"):
        emitted = hectorite.emit(text, "ptx", SIZES, "both", target=target)
        assert "tf32" not in emitted


def test_verify_agrees():
    for text, functions in PROGRAMS:
        for function in functions:
            assert hectorite.verify(text, function=function).ok, function


def test_arrays_are_float32():
    program = hectorite.compile(ELEMENTWISE, target="reference")
    np.testing.assert_array_equal(program.read(x=[1, 2.5]), [1, 2.5])
    with pytest.raises(HectoriteError) as error:
        program.read(x=np.ones(3, np.float16))
    assert "tf32[N]: a float32 array" in str(error.value)


def test_tf32_and_f32_meet_in_products_only():
    text = """
def f(x: tf32[N], y: f32[N]) -> f32[N] {
  z[i] = x[i] * y[i]
  return z
}
"""
    x, y = samples(), samples()[::-1].copy()
    z = hectorite.compile(text).f(x=x, y=y)
    same(z, round_to_tf32(x) * round_to_tf32(y))
    with pytest.raises(HectoriteError) as error:
        hectorite.compile(text.replace("*", "+"))
    assert "`+` mixes tf32 and f32" in str(error.value)
    assert "write f32(x[i])" in str(error.value)
