"""Great angles modulo a quarter turn, exactly (after Payne and Hanek).

Enters: any f64. Leaves: how many quarter turns it is, modulo 4, and the rest in [-pi/4, pi/4] to
twice the precision. x = m * 2^e, m an integer: the bits of 2 / pi whose product with x is a
multiple of 4 do not matter, the 192 bits after them do, and their product with m is a few
multiplications.

The bits are a table in global memory that comes with the module.
"""

from __future__ import annotations

from hectorite.dialects.ptx import VariableOp
from hectorite.lowering.ptx.number import PtxNumber
from hectorite.lowering.ptx.writer import At

HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
"""pi / 2 as the sum of three doubles."""

_TWO_OVER_PI = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e0"
    "06492eea09d1921cfe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f4"
    "9c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d"
    "7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)
"""The first 1216 bits of 2 / pi after the point."""

_ZEROS = 64
"""Zeros before them, for arguments below 2^54, whose window begins before the point."""


def _table() -> str:
    """The zeros and 2 / pi as the bytes of words of 64 bits, in hexadecimal."""
    bits = _TWO_OVER_PI.to_bytes((_ZEROS + 1216) // 8, "big")
    return b"".join(bits[at : at + 8][::-1] for at in range(0, len(bits), 8)).hex()


def reduced_exactly(x: PtxNumber) -> tuple[PtxNumber, PtxNumber, PtxNumber]:
    """(n, r, low) with x = n * pi / 2 + r + low modulo a turn, for 2^16 <= |x|; n is an s64.
    Infinity and NaN give NaN."""
    bits = x.magnitude().bits()
    exponent = (bits >> 52) - 1075
    mantissa = (bits & (2**52 - 1)) | 2**52
    top, middle, bottom = _product(mantissa, _window(exponent + (_ZEROS - 2)))
    count = _unsigned_shift(top + 2**61, 62)
    high = (top << 2) | _unsigned_shift(middle, 62)
    low = (middle << 2) | _unsigned_shift(bottom, 62)
    r, rest = _angle(high, low)
    undefined = x - x
    negative = x < 0.0
    count = negative.choose(-count, count)
    return count, negative.choose(-r, r) + undefined, negative.choose(-rest, rest)


def _window(place: PtxNumber) -> list[PtxNumber]:
    """Three words of 2 / pi from a bit on, the highest first."""
    code = place.code
    table = VariableOp("global", "hec_two_over_pi", (_ZEROS + 1216) // 8, 8, _table())
    code.block.add_op(table)
    index = _low(place >> 6)
    address = code.op("mad.wide.s32", index.value, 8, table.result)
    words = [
        PtxNumber(code, code.op("ld.global.u64", At(address, 8 * word)), "s64") for word in range(4)
    ]
    shift = _low(place & 63)
    back = 64 - shift  # a shift by 64 gives 0
    return [(words[i] << shift) | _unsigned_shift(words[i + 1], back) for i in range(3)]


def _product(m: PtxNumber, window: list[PtxNumber]) -> tuple[PtxNumber, PtxNumber, PtxNumber]:
    """m times three words, modulo 2^192."""
    high, middle, low = window
    bottom = m * low
    carried = m.emit("mul.hi.u64", m, low)
    second = carried + m * middle
    overflow = second.emit("setp.lt.u64", second, carried, kind="pred")
    top = m * high + m.emit("mul.hi.u64", m, middle)
    return overflow.choose(top + 1, top), second, bottom


def _angle(high: PtxNumber, low: PtxNumber) -> tuple[PtxNumber, PtxNumber]:
    """A signed fraction of 128 bits of a quarter turn, in radians, as a sum of two doubles."""
    first = high.emit("cvt.rn.f64.s64", high, kind="f64")
    rest = high - first.emit("cvt.rzi.s64.f64", first, kind="s64")
    second = rest.emit("cvt.rn.f64.s64", rest, kind="f64") * 2.0**64
    second = second + low.emit("cvt.rn.f64.u64", low, kind="f64")
    first, second = first * 2.0**-64, second * 2.0**-128
    fraction = first + second
    lost = second - (fraction - first)
    r = fraction * HALF_PI[0]
    return r, fraction.fma(HALF_PI[1], lost.fma(HALF_PI[0], fraction.fma(HALF_PI[0], -r)))


def _low(x: PtxNumber) -> PtxNumber:
    return x.emit("cvt.u32.u64", x, kind="s32")


def _unsigned_shift(x: PtxNumber, count: PtxNumber | int) -> PtxNumber:
    value = count if isinstance(count, int) else count.value
    return PtxNumber(x.code, x.code.op("shr.u64", x.value, value), x.kind)
