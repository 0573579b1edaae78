"""Every scalar function of the language as LLVM instructions, on one number or on many lanes.

Enters: an `ir.IRBuilder`, the name of a function as `ir.scalar.FUNCTIONS` has it, and its
arguments as kernels hold them (`conversion.py` says how each element type is held). Leaves:
the value of the function, in the same number of lanes. The meaning is that of `ir.scalar`:
integers wrap, division by zero gives 0 for integers, minimum and maximum propagate NaN.

    y = emit(builder, "exp", [x], ELEMENTS["f32"])
    z = emit(builder, "select", [condition, x, y], ELEMENTS["f32"])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from hectorite.backends.cpu import elementary
from hectorite.backends.cpu.conversion import wrap
from hectorite.backends.cpu.lanes import Lanes, intrinsic, where
from hectorite.backends.cpu.lanes import element as lane_type
from hectorite.ir.arithmetic import (
    float_quotient_and_rest,
    inverse_power,
    power_step,
    rounded_down,
)
from hectorite.ir.element import ElementType

Emitter = Callable[[ElementType, Sequence[Lanes]], Lanes]


def emit(
    builder: ir.IRBuilder,
    name: str,
    arguments: Sequence[ir.Value],
    element: ElementType,
    flags: Sequence[str] = ("contract",),
) -> ir.Value:
    """The scalar function `name` of the arguments; `element` is the type of the last of them.

    The result is of the same type, or i1 for comparisons and logic. `flags` are the fast-math
    flags of sums, differences, products and quotients; functions like `exp` are not affected.
    """
    lanes = [Lanes(builder, argument, flags) for argument in arguments]
    return EMITTERS[name](element, lanes).value


def _elementary(name: str) -> Emitter:
    return lambda element, x: elementary.call(name, x[0])


def _arithmetic(operation: Callable[[Lanes, Lanes], Lanes]) -> Emitter:
    return lambda element, x: wrap(operation(x[0], x[1]), element)


def _comparison(relation: str) -> Emitter:
    def emitter(element: ElementType, x: Sequence[Lanes]) -> Lanes:
        return x[0].compare(relation, x[1], element.kind in ("uint", "bool"))

    return emitter


def _rounding(name: str) -> Emitter:
    return lambda element, x: intrinsic(name, x[0])


def _extreme(name: str) -> Emitter:
    """`min` or `max`."""

    def emitter(element: ElementType, x: Sequence[Lanes]) -> Lanes:
        if element.kind == "bool":
            return x[0] & x[1] if name == "min" else x[0] | x[1]
        if element.is_float:
            return intrinsic(f"llvm.{name}imum", x[0], x[1], flags=("nsz",))
        letter = "u" if element.kind == "uint" else "s"
        return intrinsic(f"llvm.{letter}{name}", x[0], x[1])

    return emitter


def _negative(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    return wrap(-x[0], element)


def _absolute(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    if element.is_float:
        return intrinsic("llvm.fabs", x[0])
    if element.kind == "uint":
        return x[0]
    wrapping = ir.Constant(ir.IntType(1), 0)
    return wrap(intrinsic("llvm.abs", x[0], more=[wrapping]), element)


def _relu(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    if element.kind == "uint":
        return x[0]
    return where(x[0] < 0, x[0].splat(0), x[0])


def _leaky_relu(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    return where(x[0] > 0, x[0], x[0] * x[1])


def _square_root(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    return intrinsic("llvm.sqrt", x[0])


def _inverse_square_root(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    return 1.0 / _square_root(element, x)


def _floor_division(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    if element.is_float:
        return _float_quotient_and_rest(*x)[0]
    return wrap(_quotient_and_rest(element, *x)[0], element)


def _modulo(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    if element.is_float:
        return _float_quotient_and_rest(*x)[1]
    return _quotient_and_rest(element, *x)[1]


def _quotient_and_rest(element: ElementType, a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Rounded down; both 0 where b is 0. The least integer by -1 wraps to itself."""
    builder, zero, none = a.builder, a.splat(0), b.equal(0)
    if element.kind == "uint":
        divisor = where(none, a.splat(1), b)
        quotient = Lanes(builder, builder.udiv(a.value, divisor.value))
        rest = a - quotient * divisor
    else:
        overflow = a.equal(_least(a)) & b.equal(-1)
        divisor = where(none | overflow, a.splat(1), b)
        quotient = Lanes(builder, builder.sdiv(a.value, divisor.value))
        rest = a - quotient * divisor
        quotient, rest = rounded_down(quotient, rest, divisor)
    return where(none, zero, quotient), where(none, zero, rest)


def _least(x: Lanes) -> int:
    return -(1 << (lane_type(x.type).width - 1))


def _float_quotient_and_rest(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    rest = Lanes(a.builder, a.builder.frem(a.value, b.value))
    return float_quotient_and_rest(a, b, rest)


def _power(element: ElementType, x: Sequence[Lanes]) -> Lanes:
    if element.is_float:
        return intrinsic("llvm.pow", x[0], x[1])
    return wrap(_integer_power(element, *x), element)


def _integer_power(element: ElementType, base: Lanes, exponent: Lanes) -> Lanes:
    """By squaring, a step for each bit of an exponent; with a negative one the rounded inverse."""
    total, square = base.splat(1), base
    bits = element.bits - (element.kind != "uint")
    for bit in range(bits):
        total, square = power_step(total, square, (exponent & (1 << bit)).differs(0))
    return total if element.kind == "uint" else inverse_power(base, exponent, total)


EMITTERS: dict[str, Emitter] = {
    "add": _arithmetic(lambda a, b: a + b),
    "sub": _arithmetic(lambda a, b: a - b),
    "mul": _arithmetic(lambda a, b: a * b),
    "div": _arithmetic(lambda a, b: a / b),
    "floordiv": _floor_division,
    "mod": _modulo,
    "pow": _power,
    "neg": _negative,
    "abs": _absolute,
    "min": _extreme("min"),
    "max": _extreme("max"),
    "eq": _comparison("=="),
    "ne": _comparison("!="),
    "lt": _comparison("<"),
    "le": _comparison("<="),
    "gt": _comparison(">"),
    "ge": _comparison(">="),
    "and": lambda element, x: x[0] & x[1],
    "or": lambda element, x: x[0] | x[1],
    "not": lambda element, x: x[0].equal(0),
    "select": lambda element, x: where(*x),
    "sqrt": _square_root,
    "rsqrt": _inverse_square_root,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "floor": _rounding("llvm.floor"),
    "ceil": _rounding("llvm.ceil"),
    "round": _rounding("llvm.roundeven"),
    **{name: _elementary(name) for name in elementary.SINGLE},
}
"""How each scalar function is emitted."""
