"""Products of what is kept on a GPU, gathered from shared memory."""

import numpy as np
import pytest

import hectorite

TEXT = """def f(W: f32[M, K] as nm({n}, {m}), X: f32[K, N], b: f32[N]) -> f32[M, N] {{
  C[m, n] = b[n]
  C[m, n] += W[m, k] * X[k, n]
  return C
}}
"""
SIZES = {"M": 19, "K": 45, "N": 37}


@pytest.mark.parametrize("format", [(2, 8)], ids=str)
def test_rows_of_a_block_are_gathered(format):
    n, m = format
    generator = np.random.default_rng(4)
    groups = -(-SIZES["K"] // m)
    rank = generator.random((SIZES["M"], groups, m)).argsort(-1).argsort(-1)
    few = rank < generator.integers(0, n + 1, (SIZES["M"], groups, 1))
    kept = few.reshape(SIZES["M"], -1)[:, : SIZES["K"]]
    W = np.where(kept, generator.integers(-4, 5, kept.shape), 0).astype(np.float32)
    X = generator.integers(-4, 5, (SIZES["K"], SIZES["N"])).astype(np.float32)
    b = generator.integers(-4, 5, SIZES["N"]).astype(np.float32)
    call = hectorite.compile(TEXT.format(n=n, m=m), target="ptx", sizes=SIZES).f
    np.testing.assert_array_equal(call(W=W, X=X, b=b), W @ X + b)
    X[~W.any(0)] = np.inf
    np.testing.assert_array_equal(call(W=W, X=X, b=b), W @ np.where(np.isinf(X), 0, X) + b)


@pytest.mark.parametrize("target", ["sm_90"])
def test_assembles(target):
    ptx = hectorite.emit(TEXT.format(n=1, m=4), "ptx", sizes=SIZES, target=target)
    assert "ld.shared" in ptx
    assert hectorite.emit(ptx, "sass", target=target)
