"""Recurrent cells, unrolled: NasRNN with weights for each step or shared ones, and an LSTM.

Enters: a scale for widths and steps. Leaves: networks.

The NasRNN cell is the one that TASO's examples run: eight sums of two products each, then a fixed
tree of element-wise functions. There every step has its own weights.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.networks.network import Net, Network, scaled

WIDTH = 512
STEPS = 5

# What is done with two of the eight sums: outer function, both inner ones, and which sums.
_FIRST = (
    ("Add", "Relu", 0, "Sigmoid", 3),
    ("Add", "Sigmoid", 1, "Tanh", 2),
    ("Mul", "Sigmoid", 4, "Tanh", 5),
    ("Mul", "Sigmoid", 6, "Relu", 7),
)
_THEN = (
    ("Add", "Sigmoid", 1, "Tanh", 2),
    ("Mul", "Tanh", 0, "Tanh", 3),
    ("Mul", "Tanh", 4, "Tanh", 5),
)


def nas_rnn(scale: float = 1.0, steps: int = STEPS) -> Network:
    """Five steps of a NasRNN cell of width 512, each with weights of its own."""
    return _nas_rnn("nas_rnn", scale, steps, shared=False)


def nas_rnn_shared(scale: float = 1.0, steps: int = STEPS) -> Network:
    """The same with one set of weights for all steps."""
    return _nas_rnn("nas_rnn_shared", scale, steps, shared=True)


def _nas_rnn(name: str, scale: float, steps: int, shared: bool) -> Network:
    net, width = Net(name), scaled(WIDTH, scale)
    inputs = [net.input([1, width], f"x{step}") for step in range(steps)]
    state = net.weight([1, width], 1, name="state")
    fresh: Callable[[], list[str]] = lambda: [net.weight([width, width]) for _ in range(16)]  # noqa: E731
    weights = fresh() if shared else []
    for x in inputs:
        state = _nas_cell(net, x, state, weights or fresh())
    return net.network(state)


def _nas_cell(net: Net, x: str, state: str, weights: list[str]) -> str:
    sums = [
        net.op("Add", net.op("MatMul", x, weights[2 * gate]),
               net.op("MatMul", state, weights[2 * gate + 1]))
        for gate in range(8)
    ]  # fmt: skip
    middle = list[str]()
    for outer, one, a, other, b in _FIRST:
        middle.append(net.op(outer, net.op(one, sums[a]), net.op(other, sums[b])))
    for outer, one, a, other, b in _THEN:
        middle.append(net.op(outer, net.op(one, middle[a]), net.op(other, middle[b])))
    return net.op("Tanh", middle[-1])


def lstm(scale: float = 1.0, steps: int = 8, width: int = WIDTH) -> Network:
    """An LSTM unrolled over its steps, gate by gate, with shared weights."""
    net, size = Net("lstm"), scaled(width, scale)
    inputs = [net.input([1, size], f"x{step}") for step in range(steps)]
    of_x = [net.weight([size, size]) for _ in range(4)]
    of_h = [net.weight([size, size]) for _ in range(4)]
    biases = [net.bias(size) for _ in range(4)]
    h = net.weight([1, size], 1, name="h")
    c = net.weight([1, size], 1, name="c")
    for x in inputs:
        gates = list[str]()
        for gate, function in enumerate(("Sigmoid", "Sigmoid", "Sigmoid", "Tanh")):
            both = net.op("Add", net.op("MatMul", x, of_x[gate]), net.op("MatMul", h, of_h[gate]))
            gates.append(net.op(function, net.op("Add", both, biases[gate])))
        entry, forget, output, new = gates
        c = net.op("Add", net.op("Mul", forget, c), net.op("Mul", entry, new))
        h = net.op("Mul", output, net.op("Tanh", c))
    return net.network(h, c)
