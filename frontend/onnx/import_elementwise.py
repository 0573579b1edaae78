"""ONNX operators that work element by element.

Enters: nodes such as `Add`, `Gelu`, `Where`, with tensors that are stretched to one shape. Leaves:
one statement for each.

    y = Add(a, b)        y[i0, i1] = a[i0, i1] + b[i1]        b is one row
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from xdsl.ir import SSAValue

from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_types import element_of_code
from hectorite.frontend.onnx.import_values import Graph, Tensor, Unsupported
from hectorite.ir.element import ELEMENTS, element_of
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()
BOOL = ELEMENTS["bool"]

_SAME_NAME = {
    "Sqrt": "sqrt",
    "Erf": "erf",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Exp": "exp",
    "Log": "log",
    "Abs": "abs",
    "Neg": "neg",
    "Floor": "floor",
    "Ceil": "ceil",
    "Round": "round",
    "Relu": "relu",
    "Sin": "sin",
    "Cos": "cos",
    "Not": "not",
}
_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "And": "and", "Or": "or"}
_COMPARISONS = {
    "Equal": "eq",
    "Less": "lt",
    "LessOrEqual": "le",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
    "Xor": "ne",
}
_VARIADIC = {"Sum": "add", "Max": "max", "Min": "min", "Mean": "add"}


def number(body: Body, value: float, like: SSAValue) -> SSAValue:
    """A number of the type of another value."""
    return body.constant(value, like.type)


@OPERATORS.of(*_SAME_NAME)
def _unary(graph: Graph, node: Node) -> Sequence[Tensor]:
    name, x = _SAME_NAME[node.op], node.input(0)
    if name in ("floor", "ceil", "round") and not x.element.is_float:
        raise Unsupported(f"on {x.element.name}")
    return [graph.elementwise([x], lambda body, value: body.apply(name, value))]


@OPERATORS.of(*_BINARY)
def _binary(graph: Graph, node: Node) -> Sequence[Tensor]:
    name = _BINARY[node.op]
    return [graph.elementwise([node.input(0), node.input(1)], lambda b, x, y: b.apply(name, x, y))]


@OPERATORS.of(*_COMPARISONS)
def _comparison(graph: Graph, node: Node) -> Sequence[Tensor]:
    name, inputs = _COMPARISONS[node.op], [node.input(0), node.input(1)]
    return [graph.elementwise(inputs, lambda b, x, y: b.apply(name, x, y), BOOL)]


@OPERATORS.of(*_VARIADIC)
def _variadic(graph: Graph, node: Node) -> Sequence[Tensor]:
    name = _VARIADIC[node.op]

    def combine(body: Body, first: SSAValue, *rest: SSAValue) -> SSAValue:
        for value in rest:
            first = body.apply(name, first, value)
        if node.op == "Mean":
            first = body.apply("div", first, number(body, len(node.given), first))
        return first

    return [graph.elementwise(node.given, combine)]


@OPERATORS.of("Div")
def _div(graph: Graph, node: Node) -> Sequence[Tensor]:
    inputs = [node.input(0), node.input(1)]
    if inputs[0].element.is_float:
        return [graph.elementwise(inputs, lambda body, x, y: body.apply("div", x, y))]

    def towards_zero(body: Body, x: SSAValue, y: SSAValue) -> SSAValue:
        zero = number(body, 0, x)
        size = body.apply("floordiv", body.apply("abs", x), body.apply("abs", y))
        differ = body.apply("ne", body.apply("lt", x, zero), body.apply("lt", y, zero))
        return body.apply("select", differ, body.apply("neg", size), size)

    return [graph.elementwise(inputs, towards_zero)]


@OPERATORS.of("Mod")
def _mod(graph: Graph, node: Node) -> Sequence[Tensor]:
    inputs = [node.input(0), node.input(1)]
    if not node.attribute("fmod", 0):
        return [graph.elementwise(inputs, lambda body, x, y: body.apply("mod", x, y))]

    def like_dividend(body: Body, x: SSAValue, y: SSAValue) -> SSAValue:
        rest = body.apply("mod", body.apply("abs", x), body.apply("abs", y))
        negative = body.apply("lt", x, number(body, 0, x))
        return body.apply("select", negative, body.apply("neg", rest), rest)

    return [graph.elementwise(inputs, like_dividend)]


@OPERATORS.of("Pow")
def _pow(graph: Graph, node: Node) -> Sequence[Tensor]:
    base, exponent = node.input(0), node.input(1)
    fixed = None if exponent.value is not None else exponent.number
    if fixed in (2, 3):
        return [graph.elementwise([base], lambda body, x: _times(body, x, int(fixed)), dims=None)]
    if fixed == 0.5:
        return [graph.elementwise([base], lambda body, x: body.apply("sqrt", x))]

    def power(body: Body, x: SSAValue, y: SSAValue) -> SSAValue:
        # An integer to the power of a float is computed in floats and cut off.
        wide = x.type if element_of(x.type).is_float or not element_of(y.type).is_float else y.type
        return body.cast(body.apply("pow", body.cast(x, wide), body.cast(y, wide)), x.type)

    return [graph.elementwise([base, exponent], power)]


def _times(body: Body, x: SSAValue, count: int) -> SSAValue:
    power = x
    for _ in range(count - 1):
        power = body.apply("mul", power, x)
    return power


@OPERATORS.of("Where")
def _where(graph: Graph, node: Node) -> Sequence[Tensor]:
    inputs = [node.input(place) for place in range(3)]

    def choose(body: Body, condition: SSAValue, x: SSAValue, y: SSAValue) -> SSAValue:
        return body.apply("select", condition, x, y)

    return [graph.elementwise(inputs, choose, inputs[1].element)]


@OPERATORS.of("Clip")
def _clip(graph: Graph, node: Node) -> Sequence[Tensor]:
    bounds = [(name, node.optional(place)) for place, name in ((1, "max"), (2, "min"))]
    there = [(name, tensor) for name, tensor in bounds if tensor is not None]

    def clip(body: Body, value: SSAValue, *limits: SSAValue) -> SSAValue:
        for (name, _), limit in zip(there, limits, strict=True):
            value = body.apply(name, value, limit)
        return value

    return [graph.elementwise([node.input(0), *(tensor for _, tensor in there)], clip)]


@OPERATORS.of("Cast", "CastLike")
def _cast(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    element = node.input(1).element if node.op == "CastLike" else None
    element = element or element_of_code(node.attribute("to"))
    if element == x.element:
        return [x]
    made = graph.elementwise([x], lambda body, value: body.cast(value, element.xdsl), element)
    if element.is_integer and x.element.is_integer:
        made.origin = x.origin
    return [made]


@OPERATORS.of("Identity", "Dropout")
def _identity(graph: Graph, node: Node) -> Sequence[Tensor]:
    training = node.optional(2)
    if training is not None and (training.number is None or training.number):
        raise Unsupported("in training mode")
    return [node.input(0)]


@OPERATORS.of("Gelu")
def _gelu(graph: Graph, node: Node) -> Sequence[Tensor]:
    def by_tanh(body: Body, x: SSAValue) -> SSAValue:
        cube = body.apply("mul", number(body, 0.044715, x), _times(body, x, 3))
        scale = number(body, math.sqrt(2 / math.pi), x)
        bent = body.apply("tanh", body.apply("mul", scale, body.apply("add", x, cube)))
        half = body.apply("mul", number(body, 0.5, x), x)
        return body.apply("mul", half, body.apply("add", number(body, 1, x), bent))

    if node.attribute("approximate", "none") == "tanh":
        return [graph.elementwise([node.input(0)], by_tanh)]
    return [graph.elementwise([node.input(0)], lambda body, x: body.apply("gelu", x))]


def _smooth(compute: Callable[[Node, Body, SSAValue], SSAValue]) -> Any:
    """A handler from the formula of a function of one float."""

    def handler(graph: Graph, node: Node) -> Sequence[Tensor]:
        return [graph.elementwise([node.input(0)], lambda body, x: compute(node, body, x))]

    return handler


def _reciprocal(node: Node, body: Body, x: SSAValue) -> SSAValue:
    return body.apply("div", number(body, 1, x), x)


def _softplus(node: Node, body: Body, x: SSAValue) -> SSAValue:
    falling = body.apply("exp", body.apply("neg", body.apply("abs", x)))
    rest = body.apply("log", body.apply("add", number(body, 1, x), falling))
    return body.apply("add", body.apply("relu", x), rest)


def _leaky_relu(node: Node, body: Body, x: SSAValue) -> SSAValue:
    return body.apply("leaky_relu", x, number(body, node.attribute("alpha", 0.01), x))


def _elu(node: Node, body: Body, x: SSAValue) -> SSAValue:
    """Elu, Selu and Celu: exponential below zero."""
    selu = node.op == "Selu"
    alpha = node.attribute("alpha", 1.6732632 if selu else 1.0)
    gamma = node.attribute("gamma", 1.0507010) if selu else 1.0
    slower = body.apply("div", x, number(body, alpha, x)) if node.op == "Celu" else x
    below = body.apply("sub", body.apply("exp", slower), number(body, 1, x))
    below = body.apply("mul", number(body, alpha, x), below)
    bent = body.apply("select", body.apply("gt", x, number(body, 0, x)), x, below)
    return bent if gamma == 1.0 else body.apply("mul", number(body, gamma, x), bent)


def _hard_sigmoid(node: Node, body: Body, x: SSAValue) -> SSAValue:
    swish = node.op == "HardSwish"
    alpha = 1 / 6 if swish else node.attribute("alpha", 0.2)
    beta = 0.5 if swish else node.attribute("beta", 0.5)
    line = body.apply("mul", number(body, alpha, x), x)
    line = body.apply("add", line, number(body, beta, x))
    flat = body.apply("max", body.apply("min", line, number(body, 1, x)), number(body, 0, x))
    return body.apply("mul", x, flat) if swish else flat


def _swish(node: Node, body: Body, x: SSAValue) -> SSAValue:
    alpha = node.attribute("alpha", 1.0)
    if alpha == 1.0:
        return body.apply("silu", x)
    inner = body.apply("mul", number(body, alpha, x), x)
    return body.apply("mul", x, body.apply("sigmoid", inner))


def _sign(node: Node, body: Body, x: SSAValue) -> SSAValue:
    zero, one = number(body, 0, x), number(body, 1, x)
    below = body.apply("select", body.apply("lt", x, zero), body.apply("neg", one), x)
    return body.apply("select", body.apply("gt", x, zero), one, below)


OPERATORS["Reciprocal"] = _smooth(_reciprocal)
OPERATORS["Softplus"] = _smooth(_softplus)
OPERATORS["LeakyRelu"] = _smooth(_leaky_relu)
OPERATORS["Elu"] = OPERATORS["Selu"] = OPERATORS["Celu"] = _smooth(_elu)
OPERATORS["HardSigmoid"] = OPERATORS["HardSwish"] = _smooth(_hard_sigmoid)
OPERATORS["Swish"] = _smooth(_swish)
OPERATORS["Sign"] = _smooth(_sign)


@OPERATORS.of("PRelu")
def _prelu(graph: Graph, node: Node) -> Sequence[Tensor]:
    def bent(body: Body, x: SSAValue, slope: SSAValue) -> SSAValue:
        below = body.apply("mul", x, slope)
        return body.apply("select", body.apply("lt", x, number(body, 0, x)), below, x)

    return [graph.elementwise([node.input(0), node.input(1)], bent)]


@OPERATORS.of("IsNaN")
def _is_nan(graph: Graph, node: Node) -> Sequence[Tensor]:
    return [graph.elementwise([node.input(0)], lambda body, x: body.apply("ne", x, x), BOOL)]
