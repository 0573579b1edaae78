"""Number formats of PTX in NumPy: decoding bits, and rounding to a format in every mode.

Formats below 32 bits are kept as their bits (`uint16` for f16 and bf16, `uint8` for 8-bit floats);
arithmetic happens in float32 or float64, whose results are then rounded here. f16 alone has a NumPy
type that rounds to nearest itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

DTYPES: dict[str, tuple[str, int]] = {
    "pred": ("?", 1),
    **{f"u{bits}": (f"u{bits // 8}", 1) for bits in (8, 16, 32, 64)},
    **{f"b{bits}": (f"u{bits // 8}", 1) for bits in (8, 16, 32, 64)},
    **{f"s{bits}": (f"i{bits // 8}", 1) for bits in (8, 16, 32, 64)},
    "b128": ("u8", 2),
    "f16": ("f2", 1),
    "f32": ("f4", 1),
    "f64": ("f8", 1),
    "bf16": ("u2", 1),
    "tf32": ("u4", 1),
    "f16x2": ("f2", 2),
    "bf16x2": ("u2", 2),
    "s16x2": ("i2", 2),
    "u16x2": ("u2", 2),
    "f32x2": ("f4", 2),
    "e4m3": ("u1", 1),
    "e5m2": ("u1", 1),
    "e4m3x2": ("u1", 2),
    "e5m2x2": ("u1", 2),
}
"""For each PTX type, the NumPy type of its elements and how many it has."""


@dataclass(frozen=True)
class Format:
    """A float format: bits of mantissa kept, least exponent of a normal number, largest number."""

    mantissa: int
    least_exponent: int
    largest: float


FORMATS = {
    "f16": Format(10, -14, 65504.0),
    "bf16": Format(7, -126, float.fromhex("0x1.fep127")),
    "tf32": Format(10, -126, float.fromhex("0x1.ffcp127")),
    "f32": Format(23, -126, float.fromhex("0x1.fffffep127")),
    "e4m3": Format(3, -6, 448.0),
    "e5m2": Format(2, -14, 57344.0),
}

_E4M3 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
_E5M2 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e5m2).astype(np.float32)


def decode(bits: Array, type: str) -> Array:
    """The float32 numbers (float64 of f64) that bits of a format stand for."""
    if type == "bf16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if type == "e4m3":
        return _E4M3[bits]
    if type == "e5m2":
        return _E5M2[bits]
    if type == "tf32":
        # The tensor cores read no more than the upper 19 bits.
        return (bits & np.uint32(0xFFFFE000)).view(np.float32)
    if type == "f16":
        return bits.view(np.float16).astype(np.float32)
    return bits.view(np.float64 if type == "f64" else np.float32)


def encode(values: Array, type: str, mode: str = "rn", saturate: bool = False) -> Array:
    """The bits of numbers rounded to a format (f16 and f32 and f64 as numbers, not bits).

    `mode` is rn, rz, rm, rp or rna. `saturate` (satfinite) makes what is too large the largest
    number; otherwise it becomes infinity.
    """
    if type == "f64":
        return values.astype(np.float64)
    if type == "f32" and mode == "rn":
        return values.astype(np.float32)
    if type == "f16" and mode == "rn" and not saturate:
        return values.astype(np.float16)
    if type in ("bf16", "tf32") and values.dtype == np.float32 and not saturate:
        return _shortened(values, 16 if type == "bf16" else 13, mode)
    rounded = round_to(values.astype(np.float64), FORMATS[type], mode, saturate)
    if type == "f32":
        return rounded.astype(np.float32)
    if type == "f16":
        return rounded.astype(np.float16)
    if type == "tf32":
        return rounded.astype(np.float32).view(np.uint32)
    if type == "bf16":
        return (rounded.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    kind = ml_dtypes.float8_e4m3fn if type == "e4m3" else ml_dtypes.float8_e5m2
    return rounded.astype(np.float32).astype(kind).view(np.uint8)


def round_to(values: Array, format: Format, mode: str, saturate: bool = False) -> Array:
    """float64 numbers rounded to those of a format that has at most 24 bits of mantissa."""
    _, exponent = np.frexp(values)
    exponent = np.maximum(exponent - 1, format.least_exponent) - format.mantissa
    scaled = np.ldexp(values, -exponent)
    if mode == "rz":
        whole = np.trunc(scaled)
    elif mode == "rm":
        whole = np.floor(scaled)
    elif mode == "rp":
        whole = np.ceil(scaled)
    elif mode == "rna":
        whole = np.copysign(np.floor(np.abs(scaled) + 0.5), values)
    else:
        whole = np.rint(scaled)
    result = np.where(np.isfinite(values), np.ldexp(whole, exponent), values)
    result = np.copysign(result, values)
    over = np.abs(result) > format.largest
    if not over.any():
        return result
    limit = np.full_like(result, np.inf)
    if saturate or mode == "rz":
        limit[:] = format.largest
    elif mode in ("rm", "rp"):
        limit[(result > 0) == (mode == "rm")] = format.largest
    if not saturate:
        limit[np.isinf(values)] = np.inf
    return np.where(over, np.copysign(limit, result), result)


def _shortened(values: Array, dropped: int, mode: str) -> Array:
    """float32 without its lowest `dropped` bits: bits of bf16 (16 dropped) or tf32 (13)."""
    bits = values.view(np.uint32)
    unit = np.uint32(1 << dropped)
    if mode == "rn":
        odd = (bits >> np.uint32(dropped)) & np.uint32(1)
        rounded = bits + (unit // 2 - 1 + odd)
    elif mode == "rna":
        rounded = bits + unit // 2
    elif mode == "rz":
        rounded = bits
    else:
        away = (values < 0) == (mode == "rm")
        rounded = np.where(away, bits + (unit - 1), bits)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    if special.any():
        nan = (bits & np.uint32(0x007FFFFF)) != 0
        rounded = np.where(special, np.where(nan, bits | np.uint32(0x00400000), bits), rounded)
    if dropped == 16:
        return (rounded >> np.uint32(16)).astype(np.uint16)
    return rounded & ~(unit - np.uint32(1))


def to_odd(high: Array, error: Array) -> Array:
    """float64 sums rounded to odd, given the rounded sum and what it is short of."""
    bits = high.view(np.int64)
    even = (bits & 1) == 0
    fix = even & (error != 0) & np.isfinite(high)
    # Away from zero if the rest has the sign of the sum, else towards it.
    step = np.where((error > 0) == (high > 0), 1, -1)
    return np.where(fix, bits + step, bits).view(np.float64)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded sum of float64 numbers and its exact error."""
    high = a + b
    part = high - a
    return high, (a - (high - part)) + (b - part)


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """The rounded product of float64 numbers and its exact error (without overflow)."""
    high = a * b
    a1, a2 = _halves(a)
    b1, b2 = _halves(b)
    error = a2 * b2 - (((high - a1 * b1) - a2 * b1) - a1 * b2)
    return high, np.where(np.isfinite(high), error, 0.0)


def _halves(value: Array) -> tuple[Array, Array]:
    """A float64 as the sum of two whose products are exact."""
    scaled = value * 134217729.0
    upper = scaled - (scaled - value)
    return upper, value - upper
