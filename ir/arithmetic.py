"""Parts of the scalar functions that are made of simpler operations, for every machine.

Enters: numbers as `ir/elementary.py` describes them. Leaves: quotients and rests of integers and of
floats, powers of integers. The meaning is that of `ir/scalar.py`.
"""

from __future__ import annotations

from hectorite.ir.elementary import N


def rounded_down(quotient: N, rest: N, divisor: N) -> tuple[N, N]:
    """Quotient and rest of signed integers with the quotient rounded down, from those with it
    rounded towards zero."""
    above = rest.differs(0) & ((rest ^ divisor) < 0)
    quotient_down = above.choose(quotient - 1, quotient)
    return quotient_down, above.choose(rest + divisor, rest)


def float_quotient_and_rest(a: N, b: N, rest: N) -> tuple[N, N]:
    """As NumPy defines them: the rest has the sign of b, and a = quotient * b + rest.

    `rest` is what the division of a by b, rounded towards zero, leaves.
    """
    quotient = (a - rest) / b
    above = rest.differs(0) & ((rest < 0) ^ (b < 0))
    rest_down, quotient_down = above.choose(rest + b, rest), above.choose(quotient - 1, quotient)
    rest = rest.equal(0).choose(rest.with_sign_of(b), rest_down)
    whole = quotient_down.floor()
    whole = (quotient_down - whole > 0.5).choose(whole + 1, whole)
    zero = a.splat(0).with_sign_of(a / b)
    whole = quotient_down.equal(0).choose(zero, whole)
    return b.equal(0).choose(a / b, whole), rest


def power_step(total: N, square: N, is_set: N) -> tuple[N, N]:
    """One bit of an exponent in a power by squaring: `square` is the base to that bit's weight."""
    return is_set.choose(total * square, total), square * square


def inverse_power(base: N, exponent: N, power: N) -> N:
    """A power of integers from the one for exponents that are not negative: an inverse is 0, but
    for 1 and -1."""
    even = (exponent & 1).equal(0)
    unit = even.choose(base.splat(1), base)
    inverse = (base.equal(1) | base.equal(-1)).choose(unit, base.splat(0))
    return (exponent < 0).choose(inverse, power)
