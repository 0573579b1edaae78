"""The functions of the language by name, and how each becomes functions of the scalar dialect."""

from __future__ import annotations

from hectorite.ir.element import ELEMENTS

FLOAT_FUNCTIONS = {
    **dict.fromkeys(("exp", "log", "sqrt", "rsqrt", "sin", "cos", "tanh", "sigmoid"), 1),
    **dict.fromkeys(("gelu", "silu", "erf"), 1),
    "leaky_relu": 2,
}
"""Defined on floats only: name -> number of arguments."""

NUMBER_FUNCTIONS = {"relu": 1, "abs": 1, "pow": 2}
"""Defined on floats and integers; integers below 32 bits widen."""

ROUNDING_FUNCTIONS = ("floor", "ceil", "round")
"""On integers these change nothing."""

EXTREMES = ("min", "max")
"""Of two or more arguments."""

OTHERS = ("where", "size", "quantize", "dequantize", "softmax", "mean")

OPERATORS = {
    "+": "add",
    "-": "sub",
    "*": "mul",
    "/": "div",
    "//": "floordiv",
    "%": "mod",
    "**": "pow",
    "==": "eq",
    "!=": "ne",
    "<": "lt",
    "<=": "le",
    ">": "gt",
    ">=": "ge",
    "and": "and",
    "or": "or",
}
"""Binary operators -> functions of the scalar dialect."""

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")

FUNCTIONS = (
    *FLOAT_FUNCTIONS,
    *NUMBER_FUNCTIONS,
    *ROUNDING_FUNCTIONS,
    *EXTREMES,
    *OTHERS,
)


def is_builtin_call(name: str) -> bool:
    """Whether `name(...)` means something in the language itself."""
    return name in FUNCTIONS or name in ELEMENTS
