"""Rounding to tf32, against its definition in rational numbers."""

from fractions import Fraction

import numpy as np
import pytest

from hectorite.ir.element import ELEMENTS
from hectorite.ir.rounding import greatest, holds, loaded, nearest, round_to_tf32, smallest, stored
from hectorite.ir.scalar import convert

TF32 = ELEMENTS["tf32"]


def by_definition(x: float) -> float:
    """The nearest number with 10 bits behind the point, halves away from zero."""
    exponent = max(-126, int(np.floor(np.log2(abs(x))))) if x else 0
    step = Fraction(2) ** (exponent - 10)
    whole = abs(Fraction(x)) / step
    rounded = (whole + Fraction(1, 2)).__floor__() * step
    value = np.inf if rounded >= Fraction(2) ** 128 else float(rounded)
    return float(np.copysign(value, x))


def samples() -> np.ndarray:
    """Any bits, and numbers that lie half way, also below the least normal one."""
    rng = np.random.default_rng(5)
    bits = rng.integers(0, 2**32, 4000, np.uint64).astype(np.uint32)
    halves = bits & np.uint32(0xFFFFF000) | np.uint32(0x1000)
    below = halves & np.uint32(0x807FFFFF)
    x = np.concatenate([bits, halves, below]).view(np.float32)
    return x[np.isfinite(x)]


def test_float32_and_float64_round_to_the_same_as_defined():
    x = samples()
    expected = [by_definition(float(value)) for value in x]
    assert round_to_tf32(x).dtype == np.float32
    np.testing.assert_array_equal(round_to_tf32(x).astype(np.float64), expected)
    np.testing.assert_array_equal(round_to_tf32(x.astype(np.float64)), expected)
    assert (np.signbit(round_to_tf32(x)) == np.signbit(x)).all()


def test_a_double_rounds_once():
    x = np.array([1 + 2.0**-11 - 2.0**-40, -1 - 2.0**-11, 2.0**-137 * (1 - 2.0**-50), 2.0**-137])
    np.testing.assert_array_equal(round_to_tf32(x), [1, -1 - 2.0**-10, 0, 2.0**-136])


def test_special_values():
    signalling = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32).view(np.float32)
    assert np.isnan(round_to_tf32(signalling)).all()
    x = np.array([np.inf, -np.inf, 0.0, -0.0, 3.4e38, 3.4028235e38, -3.4028235e38], np.float32)
    expected = [np.inf, -np.inf, 0.0, -0.0, 3.3995006e38, np.inf, -np.inf]
    for values in (x, x.astype(np.float64)):
        rounded = round_to_tf32(values)
        np.testing.assert_array_equal(rounded.astype(np.float32), np.float32(expected))
        assert (np.signbit(rounded) == np.signbit(x)).all()
    assert np.isnan(round_to_tf32(np.nan))


def test_rounding_again_changes_nothing():
    once = stored(samples(), TF32)
    np.testing.assert_array_equal(loaded(once, TF32), once)


def test_memory_of_other_types_is_taken_as_it_is():
    x = samples()
    assert loaded(x, ELEMENTS["f32"]) is x
    np.testing.assert_array_equal(stored([1, -1], ELEMENTS["i1"]), [1, -1])
    assert stored(0.1, ELEMENTS["f16"]).dtype == np.float16
    assert nearest(0.1, ELEMENTS["f16"]) == float(np.float16(0.1))
    assert nearest(0.1, TF32) == by_definition(0.1) and nearest(3, ELEMENTS["u4"]) == 3


@pytest.mark.parametrize("source", ["f64", "f32", "i64", "i8", "bool"])
def test_casts_round(source: str):
    element = ELEMENTS[source]
    x = np.array([0, 1, 1, 0]) != 0 if source == "bool" else np.array([0, 3, -7, 127])
    if not element.is_float and element.bits >= 32:
        x = x * 12345
    x = x * 1.0001 if element.is_float else x
    expected = [by_definition(float(value)) for value in x]
    np.testing.assert_array_equal(convert(x, element, TF32), expected)


def test_which_types_hold_which():
    floats = [name for name, element in ELEMENTS.items() if element.is_float]
    held = {
        target: [s for s in floats if holds(ELEMENTS[target], ELEMENTS[s])] for target in floats
    }
    assert held["f64"] == floats and held["f32"] == floats[1:] and held["tf32"] == floats[2:]
    assert "bf16" not in held["f16"] and "f16" not in held["bf16"] and "tf32" not in held["f16"]
    assert greatest(TF32) == by_definition(3.4011621e38) and smallest(TF32) == by_definition(
        2.0**-137
    )
