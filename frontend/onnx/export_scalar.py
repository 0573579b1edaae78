"""Scalar functions as ONNX nodes.

Enters: a scalar operation with its operands as values. Leaves: the value of the nodes that compute
it, with the semantics of `scalar`: integer division rounds down and gives 0 by zero, floats to
integers saturate, NaN to 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from xdsl.ir import Operation

from hectorite.frontend.onnx.export_values import Emitter, Impossible, Value, code_of
from hectorite.ir.element import ELEMENTS, ElementType, element_of
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp

_DIRECT = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "neg": "Neg",
    "abs": "Abs",
    "min": "Min",
    "max": "Max",
    "eq": "Equal",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "and": "And",
    "or": "Or",
    "not": "Not",
    "select": "Where",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "sin": "Sin",
    "cos": "Cos",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "relu": "Relu",
    "erf": "Erf",
    "gelu": "Gelu",
    "floor": "Floor",
    "ceil": "Ceil",
    "round": "Round",
}
_ON_BOOL = {"min": "And", "max": "Or", "eq": "Equal"}


def scalar(
    emitter: Emitter, op: Operation, operands: Sequence[Value], order: Sequence[str]
) -> Value:
    """The value of an operation; `order` is that of the index variables."""
    element = element_of(op.results[0].type)
    if isinstance(op, ConstantOp):
        return Value(emitter.number(op.number, element))
    labels = tuple(label for label in order if any(label in v.labels for v in operands))
    names = [emitter.aligned(value, labels) for value in operands]
    if isinstance(op, CastOp):
        return Value(cast(emitter, names[0], element_of(op.input.type), element), labels)
    if not isinstance(op, ScalarOp):
        raise Impossible(f"{op.name} has no ONNX form")
    name, last = op.FUNCTION.name, element_of(op.operands[-1].type)
    if last.kind == "bool" and name in _ON_BOOL:
        return Value(emitter.op(_ON_BOOL[name], *names), labels)
    if name in _WRITTEN:
        return Value(_WRITTEN[name](emitter, last, *names), labels)
    if name not in _DIRECT:
        raise Impossible(f"scalar.{name} has no ONNX form")
    return Value(emitter.op(_DIRECT[name], *names), labels)


def cast(emitter: Emitter, name: str, source: ElementType, target: ElementType) -> str:
    """A value in another type."""
    if source == target:
        return name
    code = code_of(target)
    if not source.is_float or target.kind not in ("int", "uint"):
        return emitter.op("Cast", name, to=code)
    if source.is_short:
        source, name = ELEMENTS["f32"], emitter.op("Cast", name, to=code_of(ELEMENTS["f32"]))
    least, greatest = target.bounds
    # The greatest number of the float type that the integer type holds.
    top = source.storage.type(greatest)
    top = np.nextafter(top, top * 0) if int(top) > greatest else top
    low, high = (emitter.number(float(bound), source) for bound in (least, top))
    zero = emitter.number(0.0, source)
    known = emitter.op("Where", emitter.op("IsNaN", name), zero, name)
    done = emitter.op("Cast", emitter.op("Clip", known, low, high), to=code)
    if int(top) == greatest:
        return done
    beyond = emitter.op("Greater", known, high)
    return emitter.op("Where", beyond, emitter.number(greatest, target), done)


def _not_equal(emitter: Emitter, last: ElementType, a: str, b: str) -> str:
    if last.kind == "bool":
        return emitter.op("Xor", a, b)
    return emitter.op("Not", emitter.op("Equal", a, b))


def _guarded(emitter: Emitter, last: ElementType, b: str) -> tuple[str, str]:
    """Where a divisor is zero, and the divisor with 1 there."""
    zero = emitter.op("Equal", b, emitter.number(0, last))
    return zero, emitter.op("Where", zero, emitter.number(1, last), b)


def _mod(emitter: Emitter, last: ElementType, a: str, b: str) -> str:
    if last.is_float:
        whole = emitter.op("Floor", emitter.op("Div", a, b))
        return emitter.op("Sub", a, emitter.op("Mul", whole, b))
    zero, divisor = _guarded(emitter, last, b)
    return emitter.op("Where", zero, emitter.number(0, last), emitter.op("Mod", a, divisor))


def _floordiv(emitter: Emitter, last: ElementType, a: str, b: str) -> str:
    if last.is_float:
        return emitter.op("Floor", emitter.op("Div", a, b))
    zero, divisor = _guarded(emitter, last, b)
    whole = emitter.op("Sub", a, emitter.op("Mod", a, divisor))
    return emitter.op("Where", zero, emitter.number(0, last), emitter.op("Div", whole, divisor))


def _rsqrt(emitter: Emitter, last: ElementType, x: str) -> str:
    return emitter.op("Reciprocal", emitter.op("Sqrt", x))


def _leaky_relu(emitter: Emitter, last: ElementType, x: str, slope: str) -> str:
    positive = emitter.op("Greater", x, emitter.number(0, last))
    return emitter.op("Where", positive, x, emitter.op("Mul", x, slope))


def _silu(emitter: Emitter, last: ElementType, x: str) -> str:
    return emitter.op("Mul", x, emitter.op("Sigmoid", x))


_WRITTEN: dict[str, Callable[..., str]] = {
    "ne": _not_equal,
    "mod": _mod,
    "floordiv": _floordiv,
    "rsqrt": _rsqrt,
    "leaky_relu": _leaky_relu,
    "silu": _silu,
}
