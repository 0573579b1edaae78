"""ONNX operators that go along a sequence: `LSTM`, `GRU`, `RNN`.

Enters: nodes over a sequence whose length is known. Leaves: the products of all inputs as one
statement, then the statements of one step after another.

    y, h, c = LSTM(x, w, r, b)
    x_in[t, b, g] += x[t, b, i] * w[0, g, i]
    h_in[b, g] += h[b, k] * r[0, g, k]                  and so on, for each step
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from hectorite.frontend.onnx.import_elementwise import number
from hectorite.frontend.onnx.import_layout import single
from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_values import (
    Access,
    Graph,
    Tensor,
    Unsupported,
    affine,
    at,
    axes,
)
from hectorite.ir.index import IndexExpr
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()

_ACTIVATIONS = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}
_DEFAULTS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}


@dataclass
class Cell:
    """One direction: its weights, and what is the same in all steps. `x_in` are the products of the
    inputs, [t, b, g]; `bias_x` and `bias_h` are positions in the biases."""

    graph: Graph
    node: Node
    direction: int
    hidden: int
    activations: Sequence[str]
    x_in: Tensor
    r: Tensor
    bias: Tensor | None

    @property
    def batch(self) -> int | str:
        return self.x_in.dims[1]

    def statement(self, write: Callable[[Body], SSAValue]) -> Tensor:
        """A tensor [b, k] of the hidden size, element by element."""
        dims = (self.batch, self.hidden)
        variables = [("b", self.batch), ("k", self.hidden)]
        element = self.x_in.element
        return self.graph.statement("assign", at("bk"), variables, dims, element, write)

    def recurrent(self, h: Tensor, first: int, gates: int) -> Tensor:
        """The products of the state for some gates: [b, g]."""
        length = gates * self.hidden
        of_r = (
            affine({}, self.direction),
            affine({"g": 1}, first * self.hidden),
            IndexExpr.of("j"),
        )

        def write(body: Body) -> SSAValue:
            left = self.graph.read(body, h, at("bj"))
            return body.apply("mul", left, self.graph.read(body, self.r, of_r))

        variables = [("b", self.batch), ("g", length), ("j", self.hidden)]
        return self.graph.statement(
            "add", at("bg"), variables, (self.batch, length), self.x_in.element, write
        )

    def input(self, body: Body, step: int, gate: int) -> SSAValue:
        """What the inputs and their bias give for one gate at [b, k]."""
        place = affine({"k": 1}, gate * self.hidden)
        source: Access = (affine({}, step), IndexExpr.of("b"), place)
        return self.with_bias(body, self.graph.read(body, self.x_in, source), place)

    def state(self, body: Body, h_in: Tensor | None, gate: int, first: int = 0) -> SSAValue:
        """What the state and its bias give for one gate; `h_in` begins with the gate `first`."""
        gates = self.x_in.dims[2]
        assert isinstance(gates, int)
        place = affine({"k": 1}, gates + gate * self.hidden)
        if h_in is None:
            zero = body.constant(0, self.x_in.element.compute.xdsl)
            return self.with_bias(body, zero, place)
        own = affine({"k": 1}, (gate - first) * self.hidden)
        value = self.graph.read(body, h_in, (IndexExpr.of("b"), own))
        return self.with_bias(body, value, place)

    def with_bias(self, body: Body, value: SSAValue, place: IndexExpr) -> SSAValue:
        if self.bias is None:
            return value
        bias = self.graph.read(body, self.bias, (affine({}, self.direction), place))
        return body.apply("add", value, bias)

    def both(self, body: Body, step: int, h_in: Tensor | None, gate: int) -> SSAValue:
        return body.apply("add", self.input(body, step, gate), self.state(body, h_in, gate))

    def bent(self, body: Body, which: int, value: SSAValue) -> SSAValue:
        return body.apply(self.activations[which], value)


@OPERATORS.of("LSTM", "GRU", "RNN")
def _recurrent(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, w, r = node.input(0), node.input(1), node.input(2)
    node.refuse("layout", 0)
    node.refuse("clip")
    node.refuse("input_forget", 0)
    if node.optional(7) is not None:
        raise Unsupported("with peepholes")
    steps = x.extent(0, "the length of a sequence")
    lengths = node.optional(4)
    if lengths is not None and (lengths.known is None or any(lengths.known != steps)):
        raise Unsupported("with sequences of other lengths")
    hidden = r.extent(2, "the hidden size")
    direction = node.attribute("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    activations = _activations(node, count)
    ends = list[list[Tensor]]()
    sequences = list[Tensor]()
    for place in range(count):
        x_in = _inputs(graph, x, w, place)
        each = len(activations) // count
        chosen = activations[place * each : place * each + each]
        cell = Cell(graph, node, place, hidden, chosen, x_in, r, node.optional(3))
        backwards = direction == "reverse" or place == 1
        order = range(steps)[::-1] if backwards else range(steps)
        state = [_start(graph, node, number, place) for number in (5, 6)]
        found = dict[int, Tensor]()
        for step in order:
            state = list(_STEPS[node.op](cell, step, *state))
            assert state[0] is not None
            found[step] = state[0]
        sequences.append(stack(graph, [found[step] for step in range(steps)], 0))
        ends.append([part for part in state if part is not None])
    finals = [stack(graph, list(parts), 0) for parts in zip(*ends, strict=True)]
    return [stack(graph, sequences, 1), *finals]


def _activations(node: Node, directions: int) -> list[str]:
    given = node.attribute("activations")
    if given is None:
        return [*_DEFAULTS[node.op]] * directions
    names = [name.decode() if isinstance(name, bytes) else name for name in given]
    for name in names:
        if name.lower() not in _ACTIVATIONS:
            raise Unsupported(f"with the activation {name}")
    return [_ACTIVATIONS[name.lower()] for name in names]


def _inputs(graph: Graph, x: Tensor, w: Tensor, direction: int) -> Tensor:
    """The products of all steps: [t, b, g]."""

    def write(body: Body) -> SSAValue:
        of_w = (affine({}, direction), *at("gi"))
        return body.apply("mul", graph.read(body, x, at("tbi")), graph.read(body, w, of_w))

    steps, batch, length = x.dims
    variables = [("t", steps), ("b", batch), ("g", w.dims[1]), ("i", length)]
    return graph.statement("add", at("tbg"), variables, (steps, batch, w.dims[1]), x.element, write)


def _start(graph: Graph, node: Node, position: int, direction: int) -> Tensor | None:
    """An initial state, None if it is zero."""
    tensor = node.optional(position)
    return None if tensor is None else single(graph, tensor, 0, direction)


def _lstm(cell: Cell, step: int, h: Tensor | None, c: Tensor | None) -> tuple[Tensor, Tensor]:
    h_in = None if h is None else cell.recurrent(h, 0, 4)

    def memory(body: Body) -> SSAValue:
        entry = cell.bent(body, 0, cell.both(body, step, h_in, 0))
        value = body.apply("mul", entry, cell.bent(body, 1, cell.both(body, step, h_in, 3)))
        if c is None:
            return value
        forget = cell.bent(body, 0, cell.both(body, step, h_in, 2))
        kept = body.apply("mul", forget, cell.graph.read(body, c, at("bk")))
        return body.apply("add", kept, value)

    new = cell.statement(memory)

    def output(body: Body) -> SSAValue:
        gate = cell.bent(body, 0, cell.both(body, step, h_in, 1))
        return body.apply("mul", gate, cell.bent(body, 2, cell.graph.read(body, new, at("bk"))))

    return cell.statement(output), new


def _gru(cell: Cell, step: int, h: Tensor | None, _: Tensor | None) -> tuple[Tensor, None]:
    graph, linear = cell.graph, cell.node.attribute("linear_before_reset", 0)
    h_in = None if h is None else cell.recurrent(h, 0, 3 if linear else 2)

    def gate(which: int) -> Callable[[Body], SSAValue]:
        return lambda body: cell.bent(body, 0, cell.both(body, step, h_in, which))

    update, reset = cell.statement(gate(0)), cell.statement(gate(1))
    part: Tensor | None = None
    if h is not None and not linear:
        old = h
        kept = cell.statement(
            lambda body: body.apply(
                "mul", graph.read(body, reset, at("bk")), graph.read(body, old, at("bk"))
            )
        )
        part = cell.recurrent(kept, 2, 1)

    def candidate(body: Body) -> SSAValue:
        if linear:
            of_state = cell.state(body, h_in, 2)
            of_state = body.apply("mul", graph.read(body, reset, at("bk")), of_state)
        else:
            of_state = cell.state(body, part, 2, 2)
        return cell.bent(body, 1, body.apply("add", cell.input(body, step, 2), of_state))

    new = cell.statement(candidate)

    def mixed(body: Body) -> SSAValue:
        share = graph.read(body, update, at("bk"))
        rest = body.apply("sub", number(body, 1, share), share)
        value = body.apply("mul", rest, graph.read(body, new, at("bk")))
        if h is None:
            return value
        return body.apply("add", value, body.apply("mul", share, graph.read(body, h, at("bk"))))

    return cell.statement(mixed), None


def _rnn(cell: Cell, step: int, h: Tensor | None, _: Tensor | None) -> tuple[Tensor, None]:
    h_in = None if h is None else cell.recurrent(h, 0, 1)
    return cell.statement(lambda b: cell.bent(b, 0, cell.both(b, step, h_in, 0))), None


_STEPS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def stack(graph: Graph, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors of one shape beside each other along a new axis."""
    dims = (*parts[0].dims[:axis], len(parts), *parts[0].dims[axis:])
    names = axes(len(dims))
    made: Tensor | None = None
    for place, part in enumerate(parts):
        left = list(at(names))
        left[axis] = affine({names[axis]: 1}, place)
        own = at(names[:axis] + names[axis + 1 :])
        variables = [
            (n, 1 if a == axis else d) for a, (n, d) in enumerate(zip(names, dims, strict=True))
        ]
        made = graph.statement(
            "assign",
            tuple(left),
            variables,
            dims,
            part.element,
            lambda body, part=part, own=own: body.read(graph.value(part), own),
            init=made,
        )
    assert made is not None
    return made
