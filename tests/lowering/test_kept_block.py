"""Two of four by tensor instructions: which products, what they are made of, and what they give."""

import numpy as np
import pytest

import hectorite
from hectorite.frontend.data.drawing import draw
from hectorite.ir.element import ELEMENTS

TEXT = """def f(W: {e}[M, K] as nm({n}, 4), X: {e}[{x}], b: f32[M]) -> f32[{c}] {{
  C[{left}] += f32(W[m, k]) * f32(X[{read}])
  return C
}}
"""
SIDES = {
    "right": {"x": "K, N", "c": "M, N", "left": "m, n", "read": "k, n"},
    "left": {"x": "N, K", "c": "N, M", "left": "n, m", "read": "n, k"},
}
SIZES = {"M": 40, "K": 128, "N": 20}


def program(side="right", e="f16", n=2):
    return TEXT.format(e=e, n=n, **SIDES[side])


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_assembles_to_sparse_tensor_instructions(target):
    sass = hectorite.emit(program(e="bf16"), "sass", sizes=SIZES, target=target)
    assert "HMMA.SP" in sass
    assert "HMMA.1" not in sass


@pytest.mark.parametrize(
    ("change", "sizes"),
    [({"e": "f32"}, {}), ({"n": 1}, {}), ({}, {"K": 96}), ({}, {"M": 9})],
    ids=["f32", "1 of 4", "K", "M"],
)
def test_other_products_are_done_otherwise(change, sizes):
    assert "mma.sp" not in hectorite.emit(program(**change), "ptx", sizes=SIZES | sizes)


def test_exact_sums_need_no_zero_times_infinity():
    text = hectorite.emit(program(), "ptx", sizes=SIZES, reassociate=False)
    assert "mma.sp" not in text


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("target", ["tile", "ptx", "ptx:sm_90"])
def test_groups_that_are_not_full(side, target):
    generator = np.random.default_rng(5)
    W = draw("W", (SIZES["M"], SIZES["K"]), ELEMENTS["f16"], 1, format="nm(2, 4)")
    W = np.where(generator.random(W.shape) < 0.6, np.round(W * 40), 0).astype(np.float16)
    shape = [SIZES[name.strip()] for name in SIDES[side]["x"].split(",")]
    X = generator.integers(-8, 9, shape).astype(np.float16)
    result = hectorite.compile(program(side), target=target, sizes=SIZES).f(
        W=W, X=X, b=np.zeros(SIZES["M"], np.float32)
    )
    wide, dense = W.astype(np.float32), X.astype(np.float32)
    np.testing.assert_array_equal(result, dense @ wide.T if side == "left" else wide @ dense)


@pytest.mark.parametrize(("side", "target"), [("right", "sm_80"), ("left", "sm_90")])
def test_integers(side, target):
    text = program(side, e="i8").replace("f32", "i32")
    assert "IMMA.SP" in hectorite.emit(text, "sass", sizes=SIZES, target=target)
    generator = np.random.default_rng(6)
    W = draw("W", (SIZES["M"], SIZES["K"]), ELEMENTS["i8"], 1, format="nm(2, 4)") * np.int8(12)
    shape = [SIZES[name.strip()] for name in SIDES[side]["x"].split(",")]
    X = generator.integers(-128, 128, shape).astype(np.int8)
    result = hectorite.compile(text, target=f"ptx:{target}", sizes=SIZES).f(
        W=W, X=X, b=np.zeros(SIZES["M"], np.int32)
    )
    wide, dense = W.astype(np.int32), X.astype(np.int32)
    np.testing.assert_array_equal(result, dense @ wide.T if side == "left" else wide @ dense)


def test_every_level_agrees():
    assert hectorite.verify(program(), sizes=SIZES)
