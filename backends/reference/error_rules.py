"""The error of each scalar function on floats, for error analysis.

    rule(value, unit, operand, ...) -> (error, magnitude)

Enters: the exact value of the function, the rounding step of one operation, and for each operand
its value, error and magnitude. Leaves: a bound on the error of the result, infinite or NaN if there
is none, and the magnitude of the result. Functions that only pass a value on round nothing.
"""

from collections.abc import Callable

import numpy as np

from hectorite.ir.scalar import Array

Operand = tuple[Array, Array, Array]
Rule = Callable[..., tuple[Array, Array]]

ULPS = 4.0
"""Rounding steps that an elementary function may be off by."""

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
EXACT = ("neg", "abs", "min", "max", "relu", "select")
"""Functions whose result is one of their operands, up to its sign, or zero."""


def _passed_on(value: Array, unit: float, a: Operand) -> tuple[Array, Array]:
    return a[1], a[2]


def _either(value: Array, unit: float, a: Operand, b: Operand) -> tuple[Array, Array]:
    return np.maximum(a[1], b[1]), np.maximum(a[2], b[2])


def _add(value: Array, unit: float, a: Operand, b: Operand) -> tuple[Array, Array]:
    magnitude = a[2] + b[2]
    return a[1] + b[1] + unit * magnitude, magnitude


def _mul(value: Array, unit: float, a: Operand, b: Operand) -> tuple[Array, Array]:
    magnitude = a[2] * b[2]
    return a[2] * b[1] + b[2] * a[1] + a[1] * b[1] + unit * magnitude, magnitude


def _div(value: Array, unit: float, a: Operand, b: Operand) -> tuple[Array, Array]:
    magnitude = a[2] / np.abs(b[0])
    least = np.abs(b[0]) - b[1]
    error = np.where(least > 0, (a[1] + magnitude * b[1]) / least, np.inf)
    return error + unit * magnitude, magnitude


def _floordiv(value: Array, unit: float, a: Operand, b: Operand) -> tuple[Array, Array]:
    quotient = a[0] / b[0]
    error, _ = _div(quotient, unit, a, b)
    return _step(value, np.floor, quotient, error), np.abs(value)


def _mod(value: Array, unit: float, a: Operand, b: Operand) -> tuple[Array, Array]:
    quotient = a[0] / b[0]
    error, _ = _div(quotient, unit, a, b)
    whole = np.abs(np.floor(quotient))
    stable = _step(np.floor(quotient), np.floor, quotient, error) == 0
    error = a[1] + whole * b[1] + unit * (a[2] + whole * b[2])
    return np.where(stable, error, np.inf), np.abs(value)


def _pow(value: Array, unit: float, x: Operand, y: Operand) -> tuple[Array, Array]:
    size = np.abs(value)
    logarithm = np.abs(np.log(np.where(x[0] == 0, 1.0, np.abs(x[0]))))
    base = np.abs(y[0]) * x[1] / (np.abs(x[0]) - x[1])
    base = np.where(x[1] == 0, 0.0, np.where(np.abs(x[0]) > x[1], base, np.inf))
    exponent = np.where(y[1] == 0, 0.0, logarithm * y[1])
    rounding = ULPS * unit * (1 + np.abs(y[0]) * logarithm)
    return size * (np.expm1(base + exponent) + rounding), size


def _exp(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
    return value * (np.expm1(x[1]) + ULPS * unit), value


def _log(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
    size = np.abs(value)
    error = np.where(x[0] > x[1], x[1] / (x[0] - x[1]), np.inf)
    return error + ULPS * unit * (1 + size), size


def _sqrt(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
    error = np.where(x[1] == 0, 0.0, np.where(x[0] >= x[1], x[1] / value, np.inf))
    return error + unit * value, value


def _rsqrt(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
    error = np.where(x[0] > x[1], 0.5 * x[1] * (x[0] - x[1]) ** -1.5, np.inf)
    return error + ULPS * unit * value, value


def _wave(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
    return x[1] + ULPS * unit * (1 + np.abs(x[0])), np.abs(value)


def _sigmoid(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
    error = np.minimum(x[1] / 4, value * np.expm1(x[1]))
    return error + ULPS * unit * value, value


def _leaky_relu(value: Array, unit: float, x: Operand, slope: Operand) -> tuple[Array, Array]:
    steepest = np.maximum(1.0, np.abs(slope[0]) + slope[1])
    error = steepest * x[1] + np.abs(x[0]) * slope[1] + unit * np.abs(value)
    return error, steepest * x[2]


def _smooth(slope: float, rounds_like_operand: bool = False) -> Rule:
    """A function that is nowhere steeper than `slope`."""

    def rule(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
        size = np.abs(value)
        base = np.abs(x[0]) if rounds_like_operand else size
        return slope * x[1] + ULPS * unit * base, size

    return rule


def _stepwise(function: Callable[[Array], Array]) -> Rule:
    def rule(value: Array, unit: float, x: Operand) -> tuple[Array, Array]:
        return _step(value, function, x[0], x[1]), np.abs(value)

    return rule


def _step(value: Array, function: Callable[[Array], Array], at: Array, error: Array) -> Array:
    """How far a step function can be off, if its operand is."""
    return np.maximum(np.abs(function(at + error) - value), np.abs(value - function(at - error)))


RULES: dict[str, Rule] = {
    "neg": _passed_on,
    "abs": _passed_on,
    "relu": _passed_on,
    "min": _either,
    "max": _either,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "div": _div,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _pow,
    "exp": _exp,
    "log": _log,
    "sqrt": _sqrt,
    "rsqrt": _rsqrt,
    "sin": _wave,
    "cos": _wave,
    "sigmoid": _sigmoid,
    "leaky_relu": _leaky_relu,
    "tanh": _smooth(1.0),
    "erf": _smooth(1.13),
    # These two cancel for negative operands.
    "gelu": _smooth(1.13, rounds_like_operand=True),
    "silu": _smooth(1.1, rounds_like_operand=True),
    "floor": _stepwise(np.floor),
    "ceil": _stepwise(np.ceil),
    "round": _stepwise(np.round),
}
"""The rule of each function on floats; `select` and comparisons are decided apart."""
