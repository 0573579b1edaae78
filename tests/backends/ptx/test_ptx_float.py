"""Floating-point instructions and conversions against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, 1e-40, -1e-40, 1e30, -1e30, 65504.0,
           65519.0, 65520.0, 448.0, 463.0, 465.0, 57344.0, 61440.0, 0.001, np.inf, -np.inf, np.nan,
           2.0**31, -(2.0**31), 2.0**63, 255.5, -128.5, 1.1754944e-38, 3.4e38]  # fmt: skip
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")


def singles(count):
    """float32 numbers of every magnitude."""
    values = RNG.standard_normal(count) * 2.0 ** RNG.integers(-60, 60, count)
    return values.astype("f4")


def exactly(value):
    return Fraction(float(value))


def nearest(value, dtype, mode):
    """A fraction rounded to a float type, found among neighbours."""
    rounded = dtype(float(value))
    candidates = sorted(
        {float(rounded), float(np.nextafter(rounded, dtype(-np.inf))),
         float(np.nextafter(rounded, dtype(np.inf)))}
    )  # fmt: skip
    below = max((c for c in candidates if exactly(c) <= value), default=candidates[0])
    above = min((c for c in candidates if exactly(c) >= value), default=candidates[-1])
    if mode == "rm":
        return below
    if mode == "rp":
        return above
    if mode == "rz":
        return below if value >= 0 else above
    if exactly(above) - value == value - exactly(below):
        even = dtype(below).view(f"i{dtype().itemsize}") & 1 == 0
        return below if even else above
    return below if value - exactly(below) < exactly(above) - value else above


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_rounding_of_single_arithmetic(evaluate, mode):
    a, b, c = singles(200), singles(200), singles(200)
    c[:100] = -(a[:100].astype("f8") * b[:100]).astype("f4")
    b[100:150] = a[100:150] * np.float32(2**-24) * RNG.standard_normal(50).astype("f4")
    got = evaluate(
        f"add.{mode}.f32 %s, %a, %b; sub.{mode}.f32 %m, %a, %b; mul.{mode}.f32 %p, %a, %b;"
        f"fma.{mode}.f32 %f, %a, %b, %c; div.{mode}.f32 %q, %a, %b;",
        dict.fromkeys("smpfq", "f32"), a=("f32", a), b=("f32", b), c=("f32", c),
    )  # fmt: skip
    for i in range(200):
        x, y, z = exactly(a[i]), exactly(b[i]), exactly(c[i])
        for name, value in (
            ("s", x + y),
            ("m", x - y),
            ("p", x * y),
            ("f", x * y + z),
            ("q", x / y),
        ):
            assert float(got[name][i]) == nearest(value, np.float32, mode), (name, i)


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_rounding_of_double_arithmetic(evaluate, mode):
    a, b = RNG.standard_normal(100), RNG.standard_normal(100) * 2.0 ** RNG.integers(-60, 60, 100)
    got = evaluate(
        f"add.{mode}.f64 %s, %a, %b; mul.{mode}.f64 %p, %a, %b;",
        {"s": "f64", "p": "f64"}, a=("f64", a), b=("f64", b),
    )  # fmt: skip
    for i in range(100):
        assert float(got["s"][i]) == nearest(exactly(a[i]) + exactly(b[i]), np.float64, mode)
        assert float(got["p"][i]) == nearest(exactly(a[i]) * exactly(b[i]), np.float64, mode)


def test_fused_products_round_once(evaluate):
    a, b = RNG.standard_normal(300), RNG.standard_normal(300)
    c = -(a * b) * (1 + RNG.integers(-2, 3, 300) * 2.0**-52)
    got = evaluate("fma.rn.f64 %d, %a, %b, %c;", {"d": "f64"}, a=("f64", a), b=("f64", b),
                   c=("f64", c))["d"]  # fmt: skip
    for i in range(300):
        value = exactly(a[i]) * exactly(b[i]) + exactly(c[i])
        assert float(got[i]) == nearest(value, np.float64, "rn")


@pytest.mark.parametrize("type", ["f16", "bf16"])
def test_half_arithmetic(evaluate, type):
    dtype = np.float16 if type == "f16" else ml_dtypes.bfloat16
    a, b, c = (RNG.standard_normal(200).astype(dtype) for _ in range(3))
    c[:100] = -(a[:100].astype("f4") * b[:100].astype("f4")).astype(dtype)
    got = evaluate(
        f"add.{type} %s, %a, %b; mul.{type} %p, %a, %b; fma.rn.{type} %f, %a, %b, %c;"
        f"min.{type} %l, %a, %b; neg.{type} %n, %a;",
        dict.fromkeys("spfln", type), **{n: (type, v if type == "f16" else v.view("u2"))
                                         for n, v in (("a", a), ("b", b), ("c", c))},
    )  # fmt: skip
    x, y, z = (v.astype("f8") for v in (a, b, c))
    for name, exact in (("s", x + y), ("p", x * y), ("f", x * y + z), ("l", np.minimum(x, y)),
                        ("n", -x)):  # fmt: skip
        assert (got[name].view(dtype) == exact.astype(dtype)).all(), name


def test_pairs(evaluate):
    a, b = (RNG.standard_normal((64, 2)).astype("f2") for _ in range(2))
    got = evaluate("add.f16x2 %d, %a, %b; max.f16x2 %m, %a, %b;",
                   {"d": "f16x2", "m": "f16x2"}, a=("f16x2", a), b=("f16x2", b))  # fmt: skip
    assert (got["d"] == a + b).all()
    assert (got["m"] == np.maximum(a, b)).all()


def test_minima(evaluate):
    a = np.repeat(np.array(SPECIAL, "f4"), len(SPECIAL))
    b = np.tile(np.array(SPECIAL, "f4"), len(SPECIAL))
    got = evaluate("min.f32 %l, %a, %b; max.NaN.f32 %g, %a, %b;", {"l": "f32", "g": "f32"},
                   a=("f32", a[:1024]), b=("f32", b[:1024]))  # fmt: skip
    assert np.array_equal(got["l"], np.fmin(a, b)[:1024], equal_nan=True)
    assert np.array_equal(got["g"], np.maximum(a, b)[:1024], equal_nan=True)
    zeros = evaluate("min.f32 %l, %a, %b;", {"l": "f32"}, a=("f32", [0.0]), b=("f32", [-0.0]))
    assert np.signbit(zeros["l"][0])


def test_functions(evaluate):
    a = np.abs(singles(200)) % np.float32(40) + np.float32(0.01)
    names = {"rcp.approx.ftz": lambda x: 1 / x, "sqrt.rn": np.sqrt,
             "rsqrt.approx": lambda x: x**-0.5,
             "sin.approx": np.sin, "cos.approx": np.cos, "ex2.approx.ftz": np.exp2,
             "lg2.approx": np.log2, "tanh.approx": np.tanh}  # fmt: skip
    for name, function in names.items():
        got = evaluate(f"{name}.f32 %d, %a;", {"d": "f32"}, a=("f32", a))["d"]
        assert np.allclose(got, function(a.astype("f8")), rtol=1e-6), name


def test_flushing_and_saturation(evaluate):
    a = np.array([1e-40, -1e-40, 2.0, -3.0, 0.5, np.nan], "f4")
    got = evaluate("add.ftz.f32 %z, %a, %a; add.sat.f32 %s, %a, %a;", {"z": "f32", "s": "f32"},
                   a=("f32", a))  # fmt: skip
    assert got["z"][:2].tolist() == [0.0, 0.0]
    assert got["s"].tolist() == [float(a[0] + a[0]), 0.0, 1.0, 0.0, 1.0, 0.0]


def test_flushing_of_doubles(evaluate):
    a = np.array([1.5e-308, -1.5e-308, 4.0, 1.5e308], "f8")
    got = evaluate("rcp.approx.ftz.f64 %r, %a; rsqrt.approx.ftz.f64 %s, %a;",
                   {"r": "f64", "s": "f64"}, a=("f64", a))  # fmt: skip
    assert got["r"].tolist() == [np.inf, -np.inf, 0.25, 0.0]
    assert got["s"][[0, 2]].tolist() == [np.inf, 0.5]


@pytest.mark.parametrize("to", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
@pytest.mark.parametrize(("mode", "function"), [("rni", np.rint), ("rzi", np.trunc),
                                                ("rmi", np.floor), ("rpi", np.ceil)])  # fmt: skip
def test_float_to_integer(evaluate, to, mode, function):
    a = np.array(SPECIAL, "f4")
    register = "s32" if to.endswith("8") else to
    got = evaluate(f"cvt.{mode}.{to}.f32 %d, %a;", {"d": register}, a=("f32", a))["d"]
    bits, signed = int(to[1:]), to[0] == "s"
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for value, result in zip(a, got.tolist(), strict=True):
        if np.isnan(value):
            assert result in (0, -(2**63), 2**63)
        elif np.isinf(value):
            assert result == (high if value > 0 else low)
        else:
            assert result == max(low, min(high, int(function(value))))


def _rounded(value, mode):
    """An integer as a float64, in a direction."""
    near = float(value)
    below = near if near <= value else np.nextafter(near, -np.inf)
    above = near if near >= value else np.nextafter(near, np.inf)
    towards_zero = below if value > 0 else above
    return Fraction(float({"rn": near, "rz": towards_zero, "rm": below, "rp": above}[mode]))


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
def test_integer_to_float(evaluate, mode):
    values = [0, 1, -1, 2**24 + 1, 2**31 - 1, -(2**31), 2**53 + 1, 2**62 + 2**38 + 1, 2**63 - 1,
              -(2**63), 16777217, 33554433, 2**40 + 2**16 + 1]  # fmt: skip
    a = np.array(values, "i8")
    got = evaluate(f"cvt.{mode}.f32.s64 %s, %a; cvt.{mode}.f64.s64 %d, %a;",
                   {"s": "f32", "d": "f64"}, a=("s64", a))  # fmt: skip
    for i, value in enumerate(values):
        assert float(got["s"][i]) == nearest(Fraction(value), np.float32, mode)
        assert Fraction(float(got["d"][i])) == _rounded(value, mode)


@pytest.mark.parametrize("type", ["f16", "bf16"])
@pytest.mark.parametrize("mode", ["rn", "rz"])
def test_narrowing(evaluate, type, mode):
    dtype = np.float16 if type == "f16" else ml_dtypes.bfloat16
    a = np.concatenate([np.array(SPECIAL, "f4"), singles(300) % np.float32(70000)])
    got = evaluate(f"cvt.{mode}.{type}.f32 %d, %a; cvt.f32.{type} %e, %d;",
                   {"d": type, "e": "f32"}, a=("f32", a))  # fmt: skip
    number = got["d"].view(dtype)
    assert np.array_equal(got["e"], number.astype("f4"), equal_nan=True)
    if mode == "rn":
        assert np.array_equal(number.astype("f4"), a.astype(dtype).astype("f4"), equal_nan=True)
    else:
        finite = np.isfinite(a)
        assert (np.abs(number.astype("f4")[finite]) <= np.abs(a[finite])).all()


def test_packed_conversions(evaluate):
    a, b = singles(300) % np.float32(600), np.concatenate([np.array(SPECIAL, "f4"), singles(268)])
    got = evaluate(
        "cvt.rn.bf16x2.f32 %h, %a, %b; cvt.rn.f16x2.f32 %f, %a, %b;"
        "cvt.rn.satfinite.e4m3x2.f32 %q, %a, %b; cvt.rn.satfinite.e5m2x2.f32 %r, %a, %b;"
        "cvt.rn.f16x2.e4m3x2 %u, %q;",
        {"h": "bf16x2", "f": "f16x2", "q": "e4m3x2", "r": "e5m2x2", "u": "f16x2"},
        a=("f32", a), b=("f32", b),
    )  # fmt: skip
    for column, x in ((0, b), (1, a)):
        halves = got["h"][:, column].view(ml_dtypes.bfloat16).astype("f4")
        assert np.array_equal(halves, x.astype(ml_dtypes.bfloat16).astype("f4"), equal_nan=True)
        assert np.array_equal(got["f"][:, column], x.astype("f2"), equal_nan=True)
        for name, kind, most in (
            ("q", ml_dtypes.float8_e4m3fn, 448),
            ("r", ml_dtypes.float8_e5m2, 57344),
        ):
            want = np.clip(x, -most, most).astype(kind).astype("f4")
            small = np.ascontiguousarray(got[name][:, column]).view(kind).astype("f4")
            assert np.array_equal(small, want, equal_nan=True), name
        exact = np.ascontiguousarray(got["q"][:, column]).view(ml_dtypes.float8_e4m3fn)
        assert np.array_equal(got["u"][:, column], exact.astype("f2"), equal_nan=True)


def test_tf32(evaluate):
    a = singles(300)
    got = evaluate("cvt.rna.tf32.f32 %a1, %a; cvt.rn.tf32.f32 %n, %a;", {"a1": "b32", "n": "b32"},
                   a=("f32", a))  # fmt: skip
    for name in ("a1", "n"):
        assert not (got[name] & 0x1FFF).any()
        error = np.abs(got[name].view("f4").astype("f8") - a)
        assert (error <= np.abs(a) * 2.0**-11).all()


def test_integer_conversions(evaluate):
    a = np.array([-1, 127, 128, 255, 256, -128, -129, 70000, -70000], "i4")
    got = evaluate(
        "cvt.s8.s32 %n, %a; cvt.sat.s8.s32 %s, %a; cvt.sat.u8.s32 %u, %a; cvt.u64.u32 %w, %a;"
        "cvt.s64.s32 %x, %a; cvt.pack.sat.u8.s32.b32 %p, %a, %a, 0;",
        {"n": "s32", "s": "s32", "u": "u32", "w": "u64", "x": "s64", "p": "u32"}, a=("s32", a),
    )  # fmt: skip
    assert got["n"].tolist() == a.astype("i1").tolist()
    assert got["s"].tolist() == np.clip(a, -128, 127).tolist()
    assert got["u"].tolist() == np.clip(a, 0, 255).tolist()
    assert got["w"].tolist() == a.view("u4").tolist()
    assert got["x"].tolist() == a.tolist()
    assert (got["p"] & 0xFFFF).tolist() == (np.clip(a, 0, 255) * 257).tolist()


def test_comparisons(evaluate):
    a = np.repeat(np.array([0.0, 1.0, np.nan], "f4"), 3)
    b = np.tile(np.array([0.0, 1.0, np.nan], "f4"), 3)
    nan = np.isnan(a) | np.isnan(b)
    ordered = {
        "eq": a == b,
        "ne": (a != b) & ~nan,
        "lt": a < b,
        "le": a <= b,
        "gt": a > b,
        "ge": a >= b,
    }
    for name, want in ordered.items():
        got = evaluate(f"setp.{name}.f32 %p, %a, %b; setp.{name}u.f32 %q, %a, %b;",
                       {"p": "pred", "q": "pred"}, a=("f32", a), b=("f32", b))  # fmt: skip
        assert (got["p"] == want).all(), name
        assert (got["q"] == (want | nan)).all(), name
    got = evaluate("setp.num.f32 %p, %a, %b; setp.nan.f32 %q, %a, %b;",
                   {"p": "pred", "q": "pred"}, a=("f32", a), b=("f32", b))  # fmt: skip
    assert (got["p"] == ~nan).all()
    assert (got["q"] == nan).all()


def test_comparisons_that_combine(evaluate):
    a = np.array([1, 2, 3, 4], "i4")
    c = np.array([1, 0, 1, 0], "u4")
    got = evaluate(
        "setp.lt.and.s32 %p|%q, %a, 3, %c; setp.lt.or.s32 %r, %a, 3, !%c; set.lt.u32.s32 %s, %a, 3;"
        "set.lt.f32.s32 %f, %a, 3; selp.s32 %t, 10, 20, %c; slct.s32.f32 %u, %a, 9, 0fBF800000;",
        {"p": "pred", "q": "pred", "r": "pred", "s": "u32", "f": "f32", "t": "s32", "u": "s32"},
        a=("s32", a), c=("pred", c),
    )  # fmt: skip
    assert got["p"].tolist() == [1, 0, 0, 0]
    assert got["q"].tolist() == [0, 0, 1, 0]
    assert got["r"].tolist() == [1, 1, 0, 1]
    assert got["s"].tolist() == [2**32 - 1, 2**32 - 1, 0, 0]
    assert got["f"].tolist() == [1.0, 1.0, 0.0, 0.0]
    assert got["t"].tolist() == [10, 20, 10, 20]
    assert got["u"].tolist() == [9, 9, 9, 9]


def test_moves_that_pack(evaluate):
    a = np.array([0x1122334455667788], "u8")
    got = evaluate(
        ".reg .b32 %lo, %hi; .reg .b16 %h<4>; mov.b64 {%lo, %hi}, %a; mov.b64 %s, {%hi, %lo};"
        "mov.b64 {%h0, %h1, %h2, %h3}, %a; mov.b32 %t, {%h3, %h0}; mov.b64 {_, %u}, %a;",
        {"s": "b64", "t": "b32", "u": "b32"}, a=("b64", a),
    )  # fmt: skip
    assert got["s"][0] == 0x5566778811223344
    assert got["t"][0] == 0x77881122
    assert got["u"][0] == 0x11223344


def test_classes_of_numbers(evaluate):
    a = np.array([1.0, np.inf, np.nan, 1e-40, 0.0], "f4")
    got = evaluate("testp.finite.f32 %p, %a; testp.subnormal.f32 %q, %a; copysign.f32 %d, %a, 1.0;",
                   {"p": "pred", "q": "pred", "d": "f32"}, a=("f32", -a))  # fmt: skip
    assert got["p"].tolist() == [1, 0, 0, 1, 1]
    assert got["q"].tolist() == [0, 0, 0, 1, 0]
    assert got["d"][:2].tolist() == [-1.0, -1.0]
