"""Elementary functions of f32 and f64 as a GPU does them best.

Enters: a `PtxNumber`. Leaves: its exp, log, tanh, sigmoid, silu, erf, gelu, sin, cos, or a power.

Those are the functions of `ir/elementary.py`. In f32 the exponential is the machine's own power of
two, with what its argument rounds away made good: an error of 2 units in the last place at most
from the instruction, and less than one from the rest.
"""

from __future__ import annotations

import math
import struct

from hectorite.ir import elementary
from hectorite.ir.elementary_tables import DOUBLE, SINGLE
from hectorite.lowering.ptx.angles import HALF_PI, reduced_exactly
from hectorite.lowering.ptx.number import PtxNumber


def _nearest_single(number: float) -> float:
    return struct.unpack("<f", struct.pack("<f", number))[0]


LOG2_E = 1 / math.log(2)
LOG2_E_HIGH = _nearest_single(LOG2_E)
LOG2_E_LOW = _nearest_single(LOG2_E - LOG2_E_HIGH)


def _single_parts(parts: tuple[float, ...]) -> list[float]:
    """A sum of doubles as a sum of as many floats, each the nearest to what is left."""
    rest = list(parts)
    found: list[float] = []
    for _ in parts:
        found.append(_nearest_single(rest[0]))
        rest = [rest[0] - found[-1] + (rest[1] if len(rest) > 1 else 0.0), *rest[2:]]
    return found


HALF_PI_SINGLE = _single_parts(HALF_PI)

LIMIT = {"f32": 1.0e5, "f64": 2.0**30}
"""Up to this argument, quarter turns are subtracted as products of a count and pi / 2."""


class Elementary(elementary.Elementary[PtxNumber]):
    """The functions of one precision."""

    def quarter_turns(self, x: PtxNumber) -> tuple[PtxNumber, PtxNumber, PtxNumber | None]:
        quick = self.subtracted_turns(x)
        kinds = [part.kind for part in quick]
        far = ~(x.magnitude() < LIMIT[x.kind])  # also NaN

        def exact() -> list[PtxNumber]:
            wide = x.widened() if x.kind == "f32" else x
            return self.fitting(*reduced_exactly(wide))

        code = x.code
        values = code.when(
            far.value,
            lambda: [part.value for part in exact()],
            lambda: [part.value for part in quick],
        )
        parts = [PtxNumber(code, v, kind) for v, kind in zip(values, kinds, strict=True)]
        return parts[0], parts[1], parts[2] if len(parts) > 2 else None

    def subtracted_turns(self, x: PtxNumber) -> list[PtxNumber]:
        """What `quarter_turns` gives, for arguments within the limit."""
        raise NotImplementedError(f"{type(self).__name__} subtracts no quarter turns")

    def fitting(self, count: PtxNumber, r: PtxNumber, low: PtxNumber) -> list[PtxNumber]:
        """The result of an exact reduction as this precision has it."""
        raise NotImplementedError(f"{type(self).__name__} takes no exact reduction")


class SingleElementary(Elementary):
    """The functions of f32."""

    def exp_parts(self, x: PtxNumber, coefficients: tuple[float, ...]) -> tuple[PtxNumber, None]:
        """The whole power, not apart from its exponent."""
        p = self.precision
        x = x.at_least(p.exp_least).at_most(p.exp_greatest)
        exponent = x * LOG2_E_HIGH
        lost = x.fma(LOG2_E_LOW, x.fma(LOG2_E_HIGH, -exponent))
        return x.emit("ex2.approx.f32", exponent) * lost.fma(math.log(2), 1.0), None

    def sigmoid(self, x: PtxNumber) -> PtxNumber:
        power = self.exp(-x.magnitude())
        divisor = 1.0 + power
        inverse = x.splat(1.0).over(divisor)
        # A step of Newton's: with the error of the power there is no room for one of the inverse.
        inverse = inverse.fma((-divisor).fma(inverse, 1.0), inverse)
        return (x < 0.0).choose(power, x.splat(1.0)) * inverse

    def subtracted_turns(self, x: PtxNumber) -> list[PtxNumber]:
        n, count = (x * (2 / math.pi)).nearest()
        r = x
        for part in HALF_PI_SINGLE:
            r = n.fma(-part, r)
        return [count, r]

    def fitting(self, count: PtxNumber, r: PtxNumber, low: PtxNumber) -> list[PtxNumber]:
        return [count.emit("cvt.u32.u64", count, kind="s32"), r.narrowed()]


class DoubleElementary(Elementary):
    """The functions of f64."""

    def subtracted_turns(self, x: PtxNumber) -> list[PtxNumber]:
        n, count = (x * (2 / math.pi)).nearest()
        high, middle, least = HALF_PI
        first = n.fma(-high, x)  # exact
        r = n.fma(-middle, first)
        low = n.fma(-least, n.fma(-middle, first - r))
        return [count, r, low]

    def fitting(self, count: PtxNumber, r: PtxNumber, low: PtxNumber) -> list[PtxNumber]:
        return [count, r, low]


FUNCTIONS = {"f32": SingleElementary(SINGLE), "f64": DoubleElementary(DOUBLE)}


def elementary_function(name: str, x: PtxNumber) -> PtxNumber:
    """One of the functions of `elementary.FUNCTIONS`."""
    return getattr(FUNCTIONS[x.kind], name)(x)


def power(x: PtxNumber, y: PtxNumber) -> PtxNumber:
    """x to the y with the special values of IEEE 754: f32 to half a unit in the last place, f64
    with an error of as many units as the result's logarithm is great."""
    if x.kind == "f32":
        return power(x.widened(), y.widened()).narrowed()
    functions = FUNCTIONS["f64"]
    size = x.magnitude()
    power_of_size = functions.exp(y * functions.log(size))
    y_whole, half = y.floor().equal(y), y * 0.5
    is_one = size.equal(1.0) | y.equal(0.0)
    result = is_one.choose(x.splat(1.0), power_of_size)
    odd = y_whole & half.floor().differs(half)
    result = odd.choose(result.with_sign_of(x), result)
    undefined = (x < 0.0) & ~y_whole & (x > -math.inf)
    return undefined.choose(x.splat(math.nan), result)
