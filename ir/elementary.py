"""Elementary functions, written once for every machine that numbers can be computed on.

Enters: numbers of one precision, in whatever way a machine has them: `Number` says what they can
do. Leaves: exp, log, tanh, sigmoid, silu, erf, gelu, sin and cos of them. There are no branches. In
f32, over all numbers, with infinities and NaN, they err by at most 4 units in the last place, exp
and log 2, gelu 6; in f64 gelu and sigmoid of great negative numbers by about as many.

    class Mine(Elementary): ...                    what a machine does better, it overrides
    y = Mine(SINGLE).tanh(x)

The coefficients and constants of each precision are in `elementary_tables.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, Protocol, Self, TypeVar

from hectorite.ir.elementary_tables import Precision

INFINITY, NAN = math.inf, math.nan

FUNCTIONS = ("exp", "log", "tanh", "sigmoid", "silu", "erf", "gelu", "sin", "cos")
"""The functions that are written here: methods of `Elementary`."""


class Number(Protocol):
    """A floating-point number, an integer or a truth value of some machine, or many of them.

    Python numbers mix with it. Comparisons are false on NaN, except `differs`; integers are signed,
    wrap, and `>>` keeps the sign.
    """

    def __add__(self, other: Self | float | int, /) -> Self: ...
    def __radd__(self, other: Self | float | int, /) -> Self: ...
    def __sub__(self, other: Self | float | int, /) -> Self: ...
    def __rsub__(self, other: Self | float | int, /) -> Self: ...
    def __mul__(self, other: Self | float | int, /) -> Self: ...
    def __rmul__(self, other: Self | float | int, /) -> Self: ...
    def __truediv__(self, other: Self | float | int, /) -> Self: ...
    def __neg__(self) -> Self: ...
    def __and__(self, other: Self | float | int, /) -> Self: ...
    def __or__(self, other: Self | float | int, /) -> Self: ...
    def __xor__(self, other: Self | float | int, /) -> Self: ...
    def __lshift__(self, count: Self | int, /) -> Self: ...
    def __rshift__(self, count: Self | int, /) -> Self: ...
    def __lt__(self, other: Self | float | int, /) -> Self: ...
    def __le__(self, other: Self | float | int, /) -> Self: ...
    def __gt__(self, other: Self | float | int, /) -> Self: ...
    def __ge__(self, other: Self | float | int, /) -> Self: ...

    def equal(self, other: Self | float | int, /) -> Self:
        """Whether both are the same number."""
        ...

    def differs(self, other: Self | float | int, /) -> Self:
        """Whether they are not the same number; true on NaN."""
        ...

    def choose(self, yes: Self, no: Self, /) -> Self:
        """`yes` where this truth value holds, else `no`."""
        ...

    def fma(self, factor: Self | float | int, addend: Self | float | int, /) -> Self:
        """self * factor + addend, with one rounding where the machine can."""
        ...

    def over(self, divisor: Self, /) -> Self:
        """self / divisor to 2 units in the last place, the divisor at least 1, or infinite."""
        ...

    def splat(self, number: float | int, /) -> Self:
        """A constant of this one's type."""
        ...

    def at_least(self, bound: float, /) -> Self:
        """The greater of this and a constant; NaN stays NaN."""
        ...

    def at_most(self, bound: float, /) -> Self:
        """The lesser of this and a constant; NaN stays NaN."""
        ...

    def magnitude(self) -> Self:
        """The absolute value of a float."""
        ...

    def with_sign_of(self, other: Self, /) -> Self:
        """The magnitude of this float with the sign of another."""
        ...

    def floor(self) -> Self:
        """The greatest integer that is not above this float, as a float."""
        ...

    def nearest(self) -> tuple[Self, Self]:
        """A float below 2^21 rounded to an integer, half to even: as a float, as an integer of the
        same width. Anything for NaN."""
        ...

    def to_float(self) -> Self:
        """An integer as a float of the same width."""
        ...

    def bits(self) -> Self:
        """A float's bits as an integer."""
        ...

    def from_bits(self) -> Self:
        """The float with an integer's bits."""
        ...


N = TypeVar("N", bound=Number)


def polynomial(x: N, coefficients: Sequence[float]) -> N:
    """The polynomial with these coefficients, the constant one first, by Horner's rule."""
    total = x.splat(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total.fma(x, coefficient)
    return total


class Elementary(Generic[N]):
    """The functions in one precision."""

    def __init__(self, precision: Precision):
        self.precision = precision

    def exp(self, x: N) -> N:
        return self.scaled(*self.exp_parts(x, self.precision.exp))

    def exp_parts(self, x: N, coefficients: tuple[float, ...]) -> tuple[N, N | None]:
        """(m, n) with e^x = m * 2^n, m between 0.7 and 1.5, n an integer that `scaled` takes; or
        (e^x, None)."""
        p = self.precision
        x = x.at_least(p.exp_least).at_most(p.exp_greatest)
        n, whole = (x * p.log2_e).nearest()
        r = n.fma(-p.ln2_low, n.fma(-p.ln2_high, x))
        return polynomial(r, (1.0, *coefficients)), whole

    def scaled(self, x: N, n: N | None) -> N:
        """x * 2^n for n of at most 1.25 times the greatest exponent, correctly rounded also below
        the normal numbers; x if n is None."""
        if n is None:
            return x
        half = n >> 1
        return x * self.power_of_two(half) * self.power_of_two(n - half)

    def power_of_two(self, n: N) -> N:
        p = self.precision
        return ((n + p.bias) << p.mantissa).from_bits()

    def log(self, x: N) -> N:
        p = self.precision
        tiny = x < p.tiny
        bits = tiny.choose(x * 2.0**p.mantissa, x).bits()
        exponent = (bits - p.root_half) >> p.mantissa
        f = (bits - (exponent << p.mantissa)).from_bits() - 1.0
        n = exponent.to_float() - tiny.choose(x.splat(float(p.mantissa)), x.splat(0.0))
        square = f * f
        rest = n.fma(p.ln2_low, (square * f).fma(polynomial(f, p.log), -0.5 * square))
        y = n.fma(p.ln2_high, f + rest)
        y = (x < INFINITY).choose(y, x)  # also NaN
        y = x.equal(0.0).choose(x.splat(-INFINITY), y)
        return (x < 0.0).choose(x.splat(NAN), y)

    def tanh(self, x: N) -> N:
        square, size = x * x, x.magnitude()
        near = (x * square).fma(polynomial(square, self.precision.tanh), x)
        far = 1.0 - x.splat(2.0).over(self.exp(size + size) + 1.0)
        return (size < self.precision.tanh_near).choose(near, far.with_sign_of(x))

    def sigmoid(self, x: N) -> N:
        power = self.exp(-x.magnitude())
        return (x < 0.0).choose(power, x.splat(1.0)).over(1.0 + power)

    def silu(self, x: N) -> N:
        p = self.precision
        m, n = self.exp_parts(-x.magnitude(), p.exp)
        # x is multiplied in before the power is scaled: the power alone may have lost its digits.
        below = (x > p.exp_least).choose(self.scaled(x * m, n), x * 0.0)
        return (x < 0.0).choose(below, x).over(1.0 + self.scaled(m, n))

    def upper_tail(self, a: N) -> tuple[N, N | None]:
        """The probability that a standard normal variable exceeds a >= 0, as (p, n) for p * 2^n."""
        p = self.precision
        a = a.at_most(p.tail_end)
        square = a * a
        lost = a.fma(a, -square)  # what rounding the square took away
        m, n = self.exp_parts(-0.5 * square, p.exp_fine)
        inverse = a.splat(1.0).over(a + p.tail_middle)
        ratio = polynomial(inverse.fma(-2.0 * p.tail_middle, 1.0), p.tail) * inverse
        return (m * lost).fma(-0.5, m) * ratio, n

    def erf(self, x: N) -> N:
        square, size = x * x, x.magnitude()
        near = x.fma(polynomial(square, self.precision.erf), x)
        far = 1.0 - 2.0 * self.scaled(*self.upper_tail(size * math.sqrt(2)))
        return (size < 1.0).choose(near, far.with_sign_of(x))

    def gelu(self, x: N) -> N:
        size = x.magnitude()
        p, n = self.upper_tail(size)
        small = size < self.precision.tail_end
        product = small.choose(self.scaled(x * p, n), x.at_most(0.0) * 0.0)
        return (x < 0.0).choose(product, x - product)

    def sin(self, x: N) -> N:
        return self.turned(x, 0)

    def cos(self, x: N) -> N:
        return self.turned(x, 1)

    def turned(self, x: N, quarter: int) -> N:
        """The sine of x plus a number of quarter turns."""
        p = self.precision
        turns, r, low = self.quarter_turns(x)
        count = turns + quarter
        square = r * r
        if low is None:
            sine = (r * square).fma(polynomial(square, p.sin), r)
        else:
            sine = r + (r * square).fma(polynomial(square, p.sin), low)
        cosine = (square * square).fma(polynomial(square, p.cos), square.fma(-0.5, 1.0))
        if low is not None:
            cosine = r.fma(-low, cosine)
        y = (count & 1).differs(0).choose(cosine, sine)
        return (count & 2).differs(0).choose(-y, y)

    def quarter_turns(self, x: N) -> tuple[N, N, N | None]:
        """(n, r, low) with x = n * pi / 2 + r + low, r in [-pi / 4, pi / 4], n an integer of which
        the two lowest bits count; `low` is what r rounds away, None if r is exact to the last bit.

        How far one has to go for this depends on the machine, so each has its own.
        """
        raise NotImplementedError(f"{type(self).__name__} reduces no angles")
