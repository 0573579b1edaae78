"""ONNX operators that reduce along axes, and the normalisations made of them.

Enters: nodes such as `ReduceMean`, `Softmax`, `LayerNormalization`. Leaves: a statement for each
reduction and one for what is done with it at every element.

    m = ReduceMean(x, axes=[1])     s[i0, 0] += x[i0, i1];  m[i0, i1] = s[i0, i1] / 64
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.ir import SSAValue

from hectorite.dialects.graph import SoftmaxOp
from hectorite.frontend.onnx.import_elementwise import number
from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_reshape import reshape
from hectorite.frontend.onnx.import_values import (
    HERE,
    Graph,
    Tensor,
    Unsupported,
    at,
    axes,
    count_of,
    index,
    stretched,
)
from hectorite.ir.element import ELEMENTS, element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import TensorType
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()

Step = Callable[[Body, SSAValue], SSAValue]


def _same(body: Body, x: SSAValue) -> SSAValue:
    return x


def _square(body: Body, x: SSAValue) -> SSAValue:
    return body.apply("mul", x, x)


def _function(name: str) -> Step:
    return lambda body, x: body.apply(name, x)


_REDUCTIONS: dict[str, tuple[str, Step, Step]] = {
    "ReduceSum": ("add", _same, _same),
    "ReduceMean": ("add", _same, _same),
    "ReduceProd": ("mul", _same, _same),
    "ReduceMax": ("max", _same, _same),
    "ReduceMin": ("min", _same, _same),
    "ReduceL1": ("add", _function("abs"), _same),
    "ReduceL2": ("add", _square, _function("sqrt")),
    "ReduceSumSquare": ("add", _square, _same),
    "ReduceLogSum": ("add", _same, _function("log")),
}
"""How the elements are combined, what is done before that, and after it."""


@OPERATORS.of(*_REDUCTIONS)
def _reduce(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    kind, before, after = _REDUCTIONS[node.op]
    over = _axes(node, x)
    if over is None:
        return [graph.elementwise([x], lambda body, value: after(body, before(body, value)))]
    keep = bool(node.attribute("keepdims", 1))
    if node.op == "ReduceMean":
        return [_mean(graph, x, over, keep)]
    made = graph.reduce(kind, x, over, before, keep)
    return [made if after is _same else graph.elementwise([made], after)]


def _mean(graph: Graph, x: Tensor, over: Sequence[int], keep: bool = True) -> Tensor:
    """The mean along axes, summed in the type that the elements compute in; integers are cut
    off."""
    compute = x.element.compute
    total = graph.reduce("add", x, over, keep=keep, element=compute)
    name, dims = "div" if compute.is_float else "floordiv", [x.dims[axis] for axis in over]
    return graph.elementwise(
        [total], lambda body, s: body.apply(name, s, count_of(body, dims, compute)), x.element
    )


def _axes(node: Node, x: Tensor) -> list[int] | None:
    """The axes to reduce along; None if the node does nothing."""
    found = node.axes(1, x.rank)
    if found:
        return found
    return None if node.attribute("noop_with_empty_axes", 0) else list(range(x.rank))


@OPERATORS.of("ReduceLogSumExp")
def _log_sum_exp(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    over = _axes(node, x)
    if over is None:
        return [x]
    made = _log_total(graph, x, over)
    if node.attribute("keepdims", 1):
        return [made]
    return [reshape(graph, made, tuple(d for a, d in enumerate(made.dims) if a not in over))]


def _log_total(graph: Graph, x: Tensor, over: Sequence[int]) -> Tensor:
    """The logarithm of the sum of the powers, the greatest element taken out first."""
    top = graph.reduce("max", x, over)
    powers = graph.elementwise([x, top], lambda b, v, t: b.apply("exp", b.apply("sub", v, t)))
    total = graph.reduce("add", powers, over)
    return graph.elementwise([total, top], lambda b, v, t: b.apply("add", b.apply("log", v), t))


@OPERATORS.of("ArgMax", "ArgMin")
def _arg_extreme(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, axis = node.input(0), node.axis(0)
    kind = "max" if node.op == "ArgMax" else "min"
    last = node.attribute("select_last_index", 0)
    best = graph.reduce(kind, x, [axis])
    names = axes(x.rank)
    none = -1 if last else 2**31 - 1

    def write(body: Body) -> SSAValue:
        value = graph.read(body, x, at(names))
        is_best = body.apply(
            "eq", value, graph.read(body, best, stretched(best.dims, x.dims, names))
        )
        place = index(body, IndexExpr.of(names[axis]), ELEMENTS["i64"])
        return body.apply("select", is_best, place, number(body, none, place))

    keep = node.attribute("keepdims", 1)
    left = [HERE if a == axis else IndexExpr.of(n) for a, n in enumerate(names)]
    dims = [1 if a == axis else d for a, d in enumerate(x.dims)]
    if not keep:
        left.pop(axis)
        dims.pop(axis)
    variables = list(zip(names, x.dims, strict=True))
    return [
        graph.statement(
            "max" if last else "min", tuple(left), variables, tuple(dims), ELEMENTS["i64"], write
        )
    ]


@OPERATORS.of("Softmax")
def _softmax(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, axis = node.input(0), node.axis(-1)
    names = axes(x.rank)
    value = graph.value(x)
    assert isinstance(value.type, TensorType)
    keys = [IndexExpr.of(name) for place, name in enumerate(names) if place != axis]
    variables = list(zip(names, x.dims, strict=True))
    op = SoftmaxOp(value, at(names), keys, variables, value.type)
    op.result.name_hint = graph.hint
    graph.block.add_op(op)
    return [Tensor(x.dims, x.element, op.result)]


@OPERATORS.of("LogSoftmax")
def _log_softmax(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    total = _log_total(graph, x, [node.axis(-1)])
    return [graph.elementwise([x, total], lambda body, v, t: body.apply("sub", v, t))]


@OPERATORS.of("LayerNormalization")
def _layer_normalization(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, scale, bias = node.input(0), node.input(1), node.optional(2)
    over = list(range(node.axis(-1), x.rank))
    mean, centred, inverse = _moments(graph, x, over, node.attribute("epsilon", 1e-5))
    return [_scaled(graph, centred, inverse, scale, bias), mean, inverse]


@OPERATORS.of("RMSNormalization", "SimplifiedLayerNormalization")
def _rms_normalization(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, scale = node.input(0), node.input(1)
    over = list(range(node.axis(-1), x.rank))
    inverse = _inverse_root(graph, x, over, node.attribute("epsilon", 1e-5))
    return [_scaled(graph, x, inverse, scale, None), inverse]


@OPERATORS.of("InstanceNormalization")
def _instance_normalization(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    _, centred, inverse = _moments(graph, x, range(2, x.rank), node.attribute("epsilon", 1e-5))
    by_channel = [_by_channel(graph, node.input(place), x.rank) for place in (1, 2)]
    return [_scaled(graph, centred, inverse, *by_channel)]


@OPERATORS.of("GroupNormalization")
def _group_normalization(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, groups = node.input(0), node.attribute("num_groups")
    channels = x.extent(1, "the number of channels")
    apart = reshape(graph, x, (x.dims[0], groups, channels // groups, *x.dims[2:]))
    epsilon = node.attribute("epsilon", 1e-5)
    _, centred, inverse = _moments(graph, apart, range(2, apart.rank), epsilon)
    normal = graph.elementwise([centred, inverse], lambda body, v, s: body.apply("mul", v, s))
    normal = reshape(graph, normal, x.dims)
    factors = [node.input(1), node.input(2)]
    if node.opset < 21:
        factors = [_each_repeated(graph, factor, channels) for factor in factors]
    by_channel = [_by_channel(graph, factor, x.rank) for factor in factors]
    return [
        graph.elementwise(
            [normal, *by_channel], lambda b, v, s, t: b.apply("add", b.apply("mul", v, s), t)
        )
    ]


@OPERATORS.of("BatchNormalization")
def _batch_normalization(graph: Graph, node: Node) -> Sequence[Tensor]:
    if node.attribute("training_mode", 0):
        raise Unsupported("training_mode=1")
    x, scale, bias, mean, variance = (node.input(place) for place in range(5))
    epsilon = node.attribute("epsilon", 1e-5)

    def slope(body: Body, s: SSAValue, v: SSAValue) -> SSAValue:
        root = body.apply("rsqrt", body.apply("add", v, number(body, epsilon, v)))
        return body.apply("mul", s, root)

    def start(body: Body, b: SSAValue, m: SSAValue, s: SSAValue) -> SSAValue:
        return body.apply("sub", b, body.apply("mul", m, s))

    # What depends on parameters alone is apart, so that it can be computed once.
    slopes = graph.elementwise([scale, variance], slope)
    starts = graph.elementwise([bias, mean, slopes], start)
    by_channel = [_by_channel(graph, t, x.rank) for t in (slopes, starts)]
    return [
        graph.elementwise(
            [x, *by_channel], lambda b, v, s, t: b.apply("add", b.apply("mul", v, s), t), x.element
        )
    ]


def _moments(
    graph: Graph, x: Tensor, over: Sequence[int], epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation from it, and one over the standard deviation."""
    mean = _mean(graph, x, over)
    centred = graph.elementwise([x, mean], lambda body, v, m: body.apply("sub", v, m))
    return mean, centred, _inverse_root(graph, centred, over, epsilon)


def _inverse_root(graph: Graph, x: Tensor, over: Sequence[int], epsilon: float) -> Tensor:
    """One over the root of the mean square."""
    total = graph.reduce("add", x, over, _square, element=x.element.compute)
    dims = [x.dims[axis] for axis in over]

    def root(body: Body, sum: SSAValue) -> SSAValue:
        mean = body.apply("div", sum, count_of(body, dims, element_of(sum.type)))
        return body.apply("rsqrt", body.apply("add", mean, number(body, epsilon, mean)))

    return graph.elementwise([total], root)


def _scaled(graph: Graph, x: Tensor, inverse: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    def write(body: Body, v: SSAValue, s: SSAValue, *factors: SSAValue) -> SSAValue:
        value = body.apply("mul", body.apply("mul", v, s), factors[0])
        return value if len(factors) == 1 else body.apply("add", value, factors[1])

    others = [scale] if bias is None else [scale, bias]
    return graph.elementwise([x, inverse, *others], write)


def _by_channel(graph: Graph, x: Tensor, rank: int) -> Tensor:
    """One number for each channel, to be stretched over a batch and all places."""
    return reshape(graph, x, (*x.dims, *[1] * (rank - 2))) if rank > 2 else x


def _each_repeated(graph: Graph, x: Tensor, length: int) -> Tensor:
    """Each element for a stretch of the given length in all."""
    each = length // x.extent(0, "the number of groups")

    def access(names: list[str]) -> tuple[IndexExpr, ...]:
        return (IndexExpr.make(at(names)[0].terms, 0, ("floordiv", each)),)

    return graph.view(x, (length,), access)
