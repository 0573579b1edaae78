"""Every scalar function of the language as PTX instructions of one thread.

Enters: a `PtxCode` cursor, the name of a function as `ir.scalar.FUNCTIONS` has it, and its
arguments in registers, as `convert.py` says. Leaves: the value of the function. The meaning is
that of `ir/scalar.py`; sums and products may be fused to multiply-adds by the assembler.

    y = apply(code, "exp", ELEMENTS["f32"], [x])
    z = apply(code, "select", ELEMENTS["f32"], [condition, x, y])
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from hectorite.ir import elementary
from hectorite.ir.arithmetic import (
    float_quotient_and_rest,
    inverse_power,
    power_step,
    rounded_down,
)
from hectorite.ir.element import ElementType
from hectorite.lowering.ptx.convert import number_kind, wrap
from hectorite.lowering.ptx.elementary import elementary_function, power
from hectorite.lowering.ptx.number import PtxNumber, constant_of
from hectorite.lowering.ptx.writer import PtxCode

Numbers = Sequence[PtxNumber]
Emitter = Callable[[ElementType, Numbers], PtxNumber]


def apply(
    code: PtxCode, name: str, element: ElementType, arguments: Sequence[SSAValue]
) -> SSAValue:
    """The scalar function `name` of the arguments; `element` is the type of the last of them.

    The result is of the same type, or a predicate for comparisons and logic. Floats shorter than 32
    bits are computed with as f32 and not rounded.
    """
    kind = number_kind(element)
    numbers = [PtxNumber(code, argument, kind) for argument in arguments]
    if name == "select":
        numbers[0] = PtxNumber(code, arguments[0], "pred")
    return EMITTERS[name](element, numbers).value


def _arithmetic(name: str) -> Emitter:
    """`add`, `sub` or `mul`. Without a rounding in its name, the assembler may fuse it."""

    def emitter(element: ElementType, x: Numbers) -> PtxNumber:
        low = "lo." if name == "mul" and not x[0].is_float else ""
        return wrap(x[0].emit(f"{name}.{low}{x[0].kind}", *x), element)

    return emitter


def _comparison(relation: str) -> Emitter:
    def emitter(element: ElementType, x: Numbers) -> PtxNumber:
        if element.kind == "bool":
            return _LOGIC[relation](*x)
        return x[0].differs(x[1]) if relation == "ne" else x[0].compare(relation, x[1])

    return emitter


_LOGIC: dict[str, Callable[[PtxNumber, PtxNumber], PtxNumber]] = {
    "eq": lambda a, b: ~(a ^ b),
    "ne": lambda a, b: a ^ b,
    "lt": lambda a, b: ~a & b,
    "le": lambda a, b: ~a | b,
    "gt": lambda a, b: a & ~b,
    "ge": lambda a, b: a | ~b,
}


def _extreme(name: str) -> Emitter:
    """`min` or `max`; NaN is passed on."""

    def emitter(element: ElementType, x: Numbers) -> PtxNumber:
        a, b = x
        if element.kind == "bool":
            return a & b if name == "min" else a | b
        if a.kind == "f32":
            return a.emit(f"{name}.NaN.f32", a, b)
        extreme = a.emit(f"{name}.{a.kind}", a, b)
        return a.compare("num", b).choose(extreme, a + b) if a.is_float else extreme

    return emitter


def _negative(element: ElementType, x: Numbers) -> PtxNumber:
    return wrap(-x[0], element)


def _absolute(element: ElementType, x: Numbers) -> PtxNumber:
    return x[0] if element.kind == "uint" else wrap(x[0].emit(f"abs.{x[0].kind}", x[0]), element)


def _relu(element: ElementType, x: Numbers) -> PtxNumber:
    if element.kind == "uint":
        return x[0]
    return x[0].at_least(0) if x[0].is_float else x[0].emit(f"max.{x[0].kind}", x[0], 0)


def _leaky_relu(element: ElementType, x: Numbers) -> PtxNumber:
    return (x[0] > 0).choose(x[0], x[0] * x[1])


def _inverse_square_root(element: ElementType, x: Numbers) -> PtxNumber:
    if x[0].kind == "f32":
        return x[0].emit("rsqrt.approx.f32", x[0])
    return x[0].splat(1.0) / _square_root(element, x)


def _square_root(element: ElementType, x: Numbers) -> PtxNumber:
    return x[0].emit(f"sqrt.rn.{x[0].kind}", x[0])


def _rounding(mode: str) -> Emitter:
    def emitter(element: ElementType, x: Numbers) -> PtxNumber:
        return x[0].emit(f"cvt.{mode}.{x[0].kind}.{x[0].kind}", x[0])

    return emitter


def _elementary(name: str) -> Emitter:
    return lambda element, x: elementary_function(name, x[0])


# Division -----------------------------------------------------------------------------------------


def _floor_division(element: ElementType, x: Numbers) -> PtxNumber:
    if element.is_float:
        return float_quotient_and_rest(x[0], x[1], _remainder(*x))[0]
    return wrap(_quotient_and_rest(element, *x)[0], element)


def _modulo(element: ElementType, x: Numbers) -> PtxNumber:
    if element.is_float:
        return float_quotient_and_rest(x[0], x[1], _remainder(*x))[1]
    return _quotient_and_rest(element, *x)[1]


def _quotient_and_rest(
    element: ElementType, a: PtxNumber, b: PtxNumber
) -> tuple[PtxNumber, PtxNumber]:
    """Rounded down; both 0 where b is 0. The least integer by -1 wraps to itself."""
    known = constant_of(b.value)
    if known is not None and known > 0:
        return _by_constant(element, a, int(known))
    none = b.equal(0)
    unusable = none
    if element.kind != "uint" and element.bits >= 32:
        unusable = none | (a.equal(-(1 << (element_bits(a) - 1))) & b.equal(-1))
    divisor = unusable.choose(a.splat(1), b)
    quotient = a.emit(f"div.{a.kind}", a, divisor)
    rest = a - quotient * divisor
    if element.kind != "uint":
        quotient, rest = rounded_down(quotient, rest, divisor)
    zero = a.splat(0)
    return none.choose(zero, quotient), none.choose(zero, rest)


def element_bits(x: PtxNumber) -> int:
    """The width of an integer's register."""
    return int(x.kind[1:])


def _by_constant(element: ElementType, a: PtxNumber, b: int) -> tuple[PtxNumber, PtxNumber]:
    if b & (b - 1) == 0:
        return a >> (b.bit_length() - 1), a & (b - 1)
    quotient = a.emit(f"div.{a.kind}", a, b)
    rest = a - quotient * b
    if element.kind == "uint":
        return quotient, rest
    below = rest < 0
    return below.choose(quotient - 1, quotient), below.choose(rest + b, rest)


_CHUNK = {"f32": 24, "f64": 48}
"""Bits of a quotient that one step of a long division finds."""
_STEPS = {"f32": 12, "f64": 44}
"""Steps for the greatest quotient."""
_BIAS = {"f32": (127, 23), "f64": (1023, 52)}


def _remainder(a: PtxNumber, b: PtxNumber) -> PtxNumber:
    """What the division of floats, rounded towards zero, leaves: exactly, with the sign of a.

    One step does where the quotient is short; for others there is a loop, which subtracts
    multiples of b * 2^k from the greatest k on. Each subtraction is exact.
    """
    code, size, divisor = a.code, a.magnitude(), b.magnitude()
    short = size / divisor
    is_long = ~(short < 2.0 ** _CHUNK[a.kind])

    def loop() -> Sequence[SSAValue]:
        return code.loop(
            0, _STEPS[a.kind], 1, [size.value], lambda i, rest: _long_step(i, rest, divisor)
        )

    def step() -> Sequence[SSAValue]:
        return [_without(size, short, divisor).value]

    (value,) = code.when(is_long.value, loop, step)
    rest = PtxNumber(code, value, a.kind)
    undefined = ~(size < math.inf) | ~(divisor > 0.0)
    return undefined.choose(a.splat(math.nan), rest.with_sign_of(a))


def _without(size: PtxNumber, quotient: PtxNumber, divisor: PtxNumber) -> PtxNumber:
    """size modulo divisor, from a quotient that may have been rounded up; the divisor may be
    infinite. Both differences are exact."""
    rest = (-quotient.floor()).fma(divisor, size)
    rest = (rest < 0.0).choose(rest + divisor, rest)
    return (size < divisor).choose(size, rest)


def _long_step(index: SSAValue, carried: Sequence[SSAValue], divisor: PtxNumber) -> list[SSAValue]:
    code, kind = divisor.code, divisor.kind
    rest = PtxNumber(code, carried[0], kind)
    bias, mantissa = _BIAS[kind]
    third = (_STEPS[kind] - 1 - PtxNumber(code, index, "s32")) * (_CHUNK[kind] // 3)
    if kind == "f64":
        third = third.emit("cvt.s64.s32", third, kind="s64")
    factor = ((third + bias) << mantissa).from_bits()
    multiple = divisor * factor * factor * factor
    return [_without(rest, rest / multiple, multiple).value]


# Powers -------------------------------------------------------------------------------------------

_MOST_FACTORS = 8
"""Up to this exponent, a power of a float is a product."""


def _power(element: ElementType, x: Numbers) -> PtxNumber:
    known = constant_of(x[1].value)
    if element.is_float:
        return power(*x) if known is None else _known_power(element, x, known)
    return wrap(_integer_power(element, *x), element)


def _known_power(element: ElementType, x: Numbers, exponent: float) -> PtxNumber:
    if abs(exponent) == 0.5:
        # A power is positive where a root is -0 or undefined.
        base = x[0].equal(-math.inf).choose(x[0].splat(math.inf), x[0] + 0.0)
        return (_square_root if exponent > 0 else _inverse_square_root)(element, [base])
    if 1 <= abs(exponent) <= _MOST_FACTORS and exponent == int(exponent):
        return _short_power(x[0], int(exponent))
    return power(*x)


def _short_power(x: PtxNumber, exponent: int) -> PtxNumber:
    total = _product_of_equals(x, abs(exponent))
    return total if exponent > 0 else x.splat(1.0) / total


def _product_of_equals(x: PtxNumber, count: int) -> PtxNumber:
    if count == 1:
        return x
    half = _product_of_equals(x, count // 2)
    return half * half * x if count & 1 else half * half


def _integer_power(element: ElementType, base: PtxNumber, exponent: PtxNumber) -> PtxNumber:
    """By squaring, a step for each bit that the exponent has."""
    code, kind = base.code, base.kind
    bits = element_bits(base)
    leading = PtxNumber(code, code.op(f"clz.b{bits}", exponent.value), "s32")
    # A negative exponent has no leading zeros; what the steps then make does not count.
    steps = bits - leading

    def step(index: SSAValue, carried: Sequence[SSAValue]) -> list[SSAValue]:
        total, square, rest = (PtxNumber(code, value, kind) for value in carried)
        new = power_step(total, square, (rest & 1).differs(0))
        return [*(number.value for number in new), (rest >> 1).value]

    start = [base.splat(1).value, base.value, exponent.value]
    total = PtxNumber(code, code.loop(0, steps.value, 1, start, step)[0], kind)
    return total if element.kind == "uint" else inverse_power(base, exponent, total)


EMITTERS: dict[str, Emitter] = {
    "add": _arithmetic("add"),
    "sub": _arithmetic("sub"),
    "mul": _arithmetic("mul"),
    "div": lambda element, x: x[0] / x[1],
    "floordiv": _floor_division,
    "mod": _modulo,
    "pow": _power,
    "neg": _negative,
    "abs": _absolute,
    "min": _extreme("min"),
    "max": _extreme("max"),
    **{name: _comparison(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "and": lambda element, x: x[0] & x[1],
    "or": lambda element, x: x[0] | x[1],
    "not": lambda element, x: ~x[0],
    "select": lambda element, x: x[0].choose(x[1], x[2]),
    "sqrt": _square_root,
    "rsqrt": _inverse_square_root,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "floor": _rounding("rmi"),
    "ceil": _rounding("rpi"),
    "round": _rounding("rni"),
    **{name: _elementary(name) for name in elementary.FUNCTIONS},
}
"""How each scalar function is emitted."""
