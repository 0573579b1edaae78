"""ONNX operators that look at windows: convolutions, pools, LRN.

Enters: nodes such as `Conv`, `MaxPool`. Leaves: a statement that reads its input at affine indices;
what lies outside is the pad of the input's type.

    y = Conv(x, w, strides=[2], pads=[1, 1])
    y[n, o, p0] += x[n, c, 2*p0 + r0 - 1] * w[o, c, r0]            x: f32[1, 3, 9] pad 0
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from hectorite.frontend.onnx.import_elementwise import number
from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_reshape import reshape
from hectorite.frontend.onnx.import_values import (
    HERE,
    Access,
    Graph,
    Tensor,
    Unsupported,
    affine,
    at,
    axes,
    count_of,
    index,
    integer,
)
from hectorite.ir.element import ELEMENTS
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()


@dataclass(frozen=True)
class Window:
    """Windows along one axis: window `p` has its tap `r` at `stride*p + dilation*r - before`."""

    place: str
    tap: str
    length: int
    taps: int
    count: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def index(self) -> IndexExpr:
        return affine({self.place: self.stride, self.tap: self.dilation}, -self.before)

    @property
    def is_inside(self) -> bool:
        """Whether every tap meets an element."""
        last = (self.count - 1) * self.stride + (self.taps - 1) * self.dilation - self.before
        return self.before <= 0 and last < self.length

    @property
    def is_padded_inside(self) -> bool:
        """Whether every tap meets an element or the padding that was asked for."""
        last = (self.count - 1) * self.stride + (self.taps - 1) * self.dilation - self.before
        return last < self.length + self.after


def windows(node: Node, x: Tensor, shape: Sequence[int]) -> list[Window]:
    """The windows of a node over the axes after the second."""
    rank = len(shape)
    strides = node.attribute("strides") or [1] * rank
    dilations = node.attribute("dilations") or [1] * rank
    pads = node.attribute("pads") or [0] * 2 * rank
    auto = node.attribute("auto_pad", "NOTSET")
    found = list[Window]()
    for axis in range(rank):
        length = x.extent(axis + 2, "a length that windows go along")
        stride, span = strides[axis], (shape[axis] - 1) * dilations[axis] + 1
        before, after = pads[axis], pads[axis + rank]
        if auto == "VALID":
            before = after = 0
        elif auto.startswith("SAME"):
            total = max((-(-length // stride) - 1) * stride + span - length, 0)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            after = total - before
        room = length + before + after - span
        count = room // stride + 1
        if node.attribute("ceil_mode", 0) and auto == "NOTSET":
            count = -(-room // stride) + 1
            # A window that begins beyond the last element is left out.
            count -= (count - 1) * stride >= length + before
        if count < 1:
            raise Unsupported(f"a window of {span} over {length + before + after} elements")
        found.append(
            Window(f"p{axis}", f"r{axis}", length, shape[axis], count, stride, dilations[axis],
                   before, after)
        )  # fmt: skip
    return found


def _input(graph: Graph, x: Tensor, over: Sequence[Window], pad: float | int) -> Tensor:
    """What windows read: padded if they leave the tensor."""
    if all(window.is_inside for window in over):
        return Tensor(x.dims, x.element, graph.value(x))
    return Tensor(x.dims, x.element, graph.padded(x, pad))


def _places(over: Sequence[Window]) -> list[tuple[str, Dim]]:
    return [(window.place, window.count) for window in over]


def _taps(over: Sequence[Window]) -> list[tuple[str, Dim]]:
    return [(window.tap, window.taps) for window in over]


@OPERATORS.of("Conv")
def _conv(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, w, bias = node.input(0), node.input(1), node.optional(2)
    shape = [w.extent(axis, "the shape of a kernel") for axis in range(2, w.rank)]
    over = windows(node, x, shape)
    groups = node.attribute("group", 1)
    outputs, inner = w.extent(0, "a number of channels"), w.extent(1, "a number of channels")
    if x.extent(1, "a number of channels") != groups * inner or outputs % groups:
        raise Unsupported(f"{x.dims[1]} channels in {groups} groups of {inner}")
    source = _input(graph, x, over, 0)
    made = _convolution(graph, source, w, over, groups, outputs // groups, inner)
    if bias is not None:
        places = [window.count for window in over]
        names = ["n", "o", *(window.place for window in over)]
        dims = (x.dims[0], outputs, *places)

        def add(body: Body) -> SSAValue:
            value = graph.read(body, made, at(names))
            return body.apply("add", value, graph.read(body, bias, at("o")))

        variables = list(zip(names, dims, strict=True))
        return [graph.statement("assign", at(names), variables, dims, x.element, add)]
    return [made]


def _convolution(
    graph: Graph, x: Tensor, w: Tensor, over: Sequence[Window], groups: int, outer: int, inner: int
) -> Tensor:
    """The sum over taps and channels; `outer` outputs and `inner` inputs to a group."""
    places, taps = _places(over), _taps(over)
    indices = [window.index for window in over]
    kept: list[tuple[str, Dim]] = [("n", x.dims[0]), ("o", groups * outer), *places]
    channel, output = IndexExpr.of("c"), IndexExpr.of("o")
    summed: list[tuple[str, Dim]] = [("c", inner), *taps]
    if groups > 1 and inner == 1:
        # One input to a group: the output tells which.
        channel = output if outer == 1 else IndexExpr.make(output.terms, 0, ("floordiv", outer))
        summed = taps
    elif groups > 1 and outer == 1:
        channel = affine({"o": inner, "c": 1})
    elif groups > 1:
        kept[1:2] = [("g", groups), ("o", outer)]
        channel, output = affine({"g": inner, "c": 1}), affine({"g": outer, "o": 1})

    def write(body: Body) -> SSAValue:
        left = graph.read(body, x, (IndexExpr.of("n"), channel, *indices))
        of_input = HERE if ("c", inner) not in summed else IndexExpr.of("c")
        right = graph.read(body, w, (output, of_input, *at([name for name, _ in taps])))
        return body.apply("mul", left, right)

    dims = tuple(dim for _, dim in kept)
    made = graph.statement(
        "add", at([name for name, _ in kept]), [*kept, *summed], dims, x.element, write
    )
    return reshape(graph, made, (x.dims[0], groups * outer, *(count for _, count in places)))


@OPERATORS.of("ConvTranspose")
def _conv_transpose(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, w, bias = node.input(0), node.input(1), node.optional(2)
    node.refuse("group", 1)
    node.refuse("auto_pad", "NOTSET", "VALID")
    node.refuse("output_shape")
    rank = w.rank - 2
    strides = node.attribute("strides") or [1] * rank
    dilations = node.attribute("dilations") or [1] * rank
    pads = node.attribute("pads") or [0] * 2 * rank
    more = node.attribute("output_padding") or [0] * rank
    shape = [w.extent(axis + 2, "the shape of a kernel") for axis in range(rank)]
    lengths = [x.extent(axis + 2, "a length that windows go along") for axis in range(rank)]
    dims: tuple[Dim, ...] = (x.dims[0], w.dims[1])
    left: list[IndexExpr] = [IndexExpr.of("n"), IndexExpr.of("o")]
    for axis in range(rank):
        span = (shape[axis] - 1) * dilations[axis] + 1
        lost = pads[axis] + pads[axis + rank]
        dims += (strides[axis] * (lengths[axis] - 1) + more[axis] + span - lost,)
        steps = {f"p{axis}": strides[axis], f"r{axis}": dilations[axis]}
        left.append(affine(steps, -pads[axis]))
    places = list(zip(axes(rank, "p"), x.dims[2:], strict=True))
    taps = list(zip(axes(rank, "r"), shape, strict=True))

    def write(body: Body) -> SSAValue:
        one = graph.read(body, x, at(["n", "c", *(name for name, _ in places)]))
        other = graph.read(body, w, at(["c", "o", *(name for name, _ in taps)]))
        return body.apply("mul", one, other)

    variables = [("n", x.dims[0]), ("o", w.dims[1]), *places, ("c", x.dims[1]), *taps]
    # What falls outside of a tensor with a pad is dropped.
    made = graph.statement("add", tuple(left), variables, dims, x.element, write, pad=0)
    if bias is not None:
        bias = reshape(graph, bias, (*bias.dims, *[1] * rank))
        return [graph.elementwise([made, bias], lambda body, v, b: body.apply("add", v, b))]
    return [made]


@OPERATORS.of("MaxPool")
def _max_pool(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    over = windows(node, x, node.attribute("kernel_shape"))
    least = -math.inf if x.element.is_float else x.element.bounds[0]
    return [_pooled(graph, "max", _input(graph, x, over, least), over)]


@OPERATORS.of("AveragePool")
def _average_pool(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    over = windows(node, x, node.attribute("kernel_shape"))
    total = _pooled(graph, "add", _input(graph, x, over, 0), over)
    all_count = node.attribute("count_include_pad", 0)
    uneven = [w for w in over if not (w.is_padded_inside if all_count else w.is_inside)]
    even = math.prod(w.taps for w in over if w not in uneven)
    counts = [_tap_count(graph, window, bool(all_count)) for window in uneven]
    names = ["n", "c", *(window.place for window in over)]

    def write(body: Body) -> SSAValue:
        value = graph.read(body, total, at(names))
        count = number(body, even, value)
        for window, each in zip(uneven, counts, strict=True):
            there = body.cast(graph.read(body, each, at([window.place])), value.type)
            count = body.apply("mul", count, there)
        return body.apply("div", value, count)

    variables = list(zip(names, total.dims, strict=True))
    return [graph.statement("assign", at(names), variables, total.dims, x.element, write)]


def _tap_count(graph: Graph, window: Window, padding_counts: bool) -> Tensor:
    """How many taps of each window count along one axis."""
    i32 = ELEMENTS["i32"]
    first = -window.before if padding_counts else 0
    end = window.length + (window.after if padding_counts else 0)

    def write(body: Body) -> SSAValue:
        place = index(body, window.index)
        low = body.apply("ge", place, body.constant(first, i32.xdsl))
        high = body.apply("lt", place, body.constant(end, i32.xdsl))
        return body.cast(body.cast(body.apply("and", low, high), i32.xdsl), ELEMENTS["f32"].xdsl)

    variables = [(window.place, window.count), (window.tap, window.taps)]
    return graph.statement(
        "add", at([window.place]), variables, (window.count,), ELEMENTS["f32"], write
    )


def _pooled(graph: Graph, kind: str, x: Tensor, over: Sequence[Window]) -> Tensor:
    kept: list[tuple[str, Dim]] = [("n", x.dims[0]), ("c", x.dims[1]), *_places(over)]
    names = [name for name, _ in kept]
    source: Access = (*at("nc"), *(window.index for window in over))
    return graph.statement(
        kind,
        at(names),
        [*kept, *_taps(over)],
        tuple(dim for _, dim in kept),
        x.element,
        lambda body: graph.read(body, x, source),
    )


@OPERATORS.of("GlobalMaxPool", "GlobalAveragePool")
def _global_pool(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    over = range(2, x.rank)
    if node.op == "GlobalMaxPool":
        return [graph.reduce("max", x, over)]
    total, compute = graph.reduce("add", x, over, element=x.element.compute), x.element.compute
    dims = x.dims[2:]
    return [
        graph.elementwise(
            [total], lambda b, s: b.apply("div", s, count_of(b, dims, compute)), x.element
        )
    ]


@OPERATORS.of("LRN")
def _lrn(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, size = node.input(0), node.attribute("size")
    alpha, beta = node.attribute("alpha", 1e-4), node.attribute("beta", 0.75)
    bias = node.attribute("bias", 1.0)
    names = axes(x.rank)
    near = (IndexExpr.of("i0"), affine({"i1": 1, "j": 1}, -((size - 1) // 2)), *at(names[2:]))
    integer(size, "the size")
    around = Tensor(x.dims, x.element, graph.padded(x, 0))

    def square(body: Body) -> SSAValue:
        value = graph.read(body, around, near)
        return body.apply("mul", value, value)

    variables = list(zip(names, x.dims, strict=True))
    total = graph.statement(
        "add", at(names), [*variables, ("j", size)], x.dims, x.element.compute, square
    )

    def normal(body: Body, value: SSAValue, sum: SSAValue) -> SSAValue:
        root = body.apply("mul", number(body, alpha / size, sum), sum)
        root = body.apply("add", number(body, bias, root), root)
        return body.apply("div", value, body.apply("pow", root, number(body, beta, root)))

    # Retyping may have given the input another value.
    return [graph.elementwise([around, total], normal, x.element)]
