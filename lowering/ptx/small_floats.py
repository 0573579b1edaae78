"""Floats of 8 bits in software, for GPUs that have no instructions for them.

Enters: an f32, or the 8 bits in the low end of an s32. Leaves: the other of the two. Rounding is to
nearest even; beyond its range f8e4m3 has NaN and f8e5m2 infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hectorite.lowering.ptx.number import PtxNumber

_INFINITY = 0x7F800000  # the bits of an f32
_MANTISSA = 23


@dataclass(frozen=True)
class _Format:
    mantissa: int
    bias: int
    greatest: int
    """What numbers beyond the range become: the code of infinity or NaN."""


SMALL_FLOATS = {"f8e4m3": _Format(3, 7, 0x7F), "f8e5m2": _Format(2, 15, 0x7C)}
"""The formats by the name of their element type."""


def small_float_bits(x: PtxNumber, name: str) -> PtxNumber:
    """The 8 bits of an f32 rounded to a small float."""
    form = SMALL_FLOATS[name]
    dropped = _MANTISSA - form.mantissa
    bits, size = x.bits(), x.magnitude()
    magnitude = bits & 0x7FFFFFFF
    magnitude = magnitude.emit("min.s32", magnitude, _INFINITY)
    odd = (magnitude >> dropped) & 1
    code = (magnitude + odd + ((1 << (dropped - 1)) - 1)) >> dropped
    code = code - ((127 - form.bias) << form.mantissa)
    # In a sum with this, the last bit is worth as much as that of the least numbers.
    anchor = x.splat(2.0 ** (1 - form.bias + dropped))
    below = (size + anchor).bits() - anchor.bits()
    code = (size < 2.0 ** (1 - form.bias)).choose(below, code)
    code = code.emit("min.s32", code, form.greatest)
    code = x.equal(x).choose(code, code.splat(0x7F))
    return code | ((bits >> 24) & 0x80)


def small_float_value(bits: PtxNumber, name: str) -> PtxNumber:
    """The f32 that 8 bits stand for, exactly; the other bits must be 0."""
    form = SMALL_FLOATS[name]
    code = bits & 0x7F
    shifted = code << (_MANTISSA - form.mantissa)
    value = shifted.from_bits() * 2.0 ** (127 - form.bias)  # also where it is denormal
    if name == "f8e4m3":
        value = code.equal(0x7F).choose(value.splat(math.nan), value)
    else:
        value = (code >= 0x7C).choose((shifted | _INFINITY).from_bits(), value)
    return (value.bits() | ((bits & 0x80) << 24)).from_bits()
