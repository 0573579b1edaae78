"""Matrices of which whole blocks are kept: there and back, statements over them, what cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite import HectoriteError

TEXT = """def f(W: f32[M, K] as bsr({h}, {w}), X: f32[{x}]) -> f32[{c}] {{
  C[{left}] += {body}
  return C
}}
"""
STATEMENTS = {
    "right": ("K, N", "M, N", "m, n", "W[m, k] * X[k, n]", lambda W, X: W @ X),
    "left": ("N, K", "N, M", "n, m", "X[n, k] * W[m, k]", lambda W, X: X @ W.T),
    "transposed": ("M, N", "K, N", "k, n", "W[m, k] * X[m, n]", lambda W, X: W.T @ X),
    "vector": ("K", "M", "m", "W[m, k] * X[k]", lambda W, X: W @ X),
    "sampled": ("M, K", "M, K", "m, k", "W[m, k] * X[m, k]", lambda W, X: W * X),
}
SIZES = {"M": 32, "K": 48, "N": 20}


def program(name, h=16, w=8):
    x, c, left, body, _ = STATEMENTS[name]
    return TEXT.format(h=h, w=w, x=x, c=c, left=left, body=body)


def blocks_of(generator, rows, columns, h, w, share=0.4):
    whole = generator.integers(-4, 5, (rows // h, h, columns // w, w))
    kept = generator.random((rows // h, 1, columns // w, 1)) < share
    return (whole * kept).reshape(rows, columns).astype(np.float32)


@settings(max_examples=40)
@given(
    h=st.integers(1, 5), w=st.integers(1, 5), rows=st.integers(0, 4), columns=st.integers(0, 4),
    seed=st.integers(0, 9),
)  # fmt: skip
def test_there_and_back(h, w, rows, columns, seed):
    array = blocks_of(np.random.default_rng(seed), rows * h, columns * w, h, w)
    operand = hectorite.bsr(array, h, w)
    np.testing.assert_array_equal(operand.dense(), array)
    assert operand.blocks.any(axis=(1, 2)).all()
    assert (np.diff(operand.row.astype(int) * max(columns, 1) + operand.column) > 0).all()


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *((name, "cpu") for name in STATEMENTS),
        ("left", "tile"),
        ("right", "ptx"),
        ("vector", "ptx"),
    ],
)
def test_statements_are_exact(name, target):
    x, _, _, _, result = STATEMENTS[name]
    generator = np.random.default_rng(2)
    W = blocks_of(generator, SIZES["M"], SIZES["K"], 16, 8)
    X = generator.integers(-4, 5, [SIZES[s] for s in x.split(", ")]).astype(np.float32)
    operand = hectorite.bsr(W, 16, 8)
    call = hectorite.compile(program(name), target=target).f
    for given_ in (W, operand, operand):
        np.testing.assert_array_equal(call(W=given_, X=X), result(W, X))


def test_every_level_agrees():
    assert hectorite.verify(program("right", 8, 4), sizes={"M": 16, "K": 12, "N": 5})


def test_a_matrix_without_blocks():
    call = hectorite.compile(program("right")).f
    W, X = np.zeros((32, 48), np.float32), np.ones((48, 3), np.float32)
    np.testing.assert_array_equal(call(W=W, X=X), np.zeros((32, 3)))


def test_two_operands_beside_sets():
    text = """set node
set edge { src: node, dst: node }
def f(x: f32[node, K], W: f32[O, K] as bsr(4, 4), V: f32[O, K] as bsr(2, 4)) -> f32[node, O] {
  z[n, o] += x[n, k] * W[o, k]
  y[e.dst, o] += z[e.src, o] + x[e.src, k] * V[o, k]
  return y
}
"""
    generator = np.random.default_rng(3)
    W, V = (blocks_of(generator, 8, 12, h, 4) for h in (4, 2))
    x = generator.integers(-4, 5, (3, 12)).astype(np.float32)
    with pytest.warns(UserWarning, match="once for each"):
        program = hectorite.compile(text)
    bound = program.bind(node=3, edge={"src": [0, 1, 1], "dst": [2, 0, 2]})
    with pytest.raises(HectoriteError, match="what is added need not be 0"):
        program.f(bound, x=x, W=W, V=V)
    program = hectorite.compile(text.replace("z[e.src, o] + ", ""))
    bound = program.bind(node=3, edge={"src": [0, 1, 1], "dst": [2, 0, 2]})
    expected = np.zeros((3, 8), np.float32)
    np.add.at(expected, [2, 0, 2], (x @ V.T)[[0, 1, 1]])
    np.testing.assert_array_equal(program.f(bound, x=x, W=W, V=V), expected)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("C[m, n] += exp(W[m, k]) * X[k, n]", "need not be 0"),
        ("C[m, n] max= W[m, k] * X[k, n]", "counts elements outside of its blocks"),
        ("C[m, n] += W[m, k] * X[k, n] * W[n: M, k]", "different indices"),
    ],
)
def test_statements_that_need_what_is_not_kept(body, why):
    text = "def f(W: f32[M, K] as bsr(2, 4), X: f32[K, M]) -> f32[M, M] {\n  "
    with pytest.raises(HectoriteError, match=r"`W` is stored as bsr\(2, 4\)") as error:
        hectorite.compile(f"{text}{body}\n  return C\n}}\n", sizes={"M": 8, "K": 16})
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4)), "its 3 rows are no multiple of 2"),
        (np.zeros((4, 6)), "its 6 columns are no multiple of 4"),
        (np.zeros(4), "1 dimensions"),
    ],
)
def test_what_is_no_matrix_of_blocks(array, message):
    with pytest.raises(HectoriteError, match=message):
        hectorite.bsr(array, 2, 4)
