"""IR that uses values before they are made, which xDSL's parser takes, is refused with a place."""

import pytest

import hectorite
from hectorite.frontend.program_text import parse_ir
from hectorite.ir.diagnostics import HectoriteError

PROGRAM = """
set node
set edge { src: node, dst: node }
def f(x: f32[node], y: f32[node]) -> f32[node] {
  z[v] = exp(x[v] * y[v])
  w[e.dst] += z[e.src]
  return w
}
"""


def swapped(text: str, first: str) -> str:
    """The text with the line that holds `first`, and the one behind it, the other way round."""
    lines = text.splitlines()
    place = next(number for number, line in enumerate(lines) if first in line)
    lines[place : place + 2] = reversed(lines[place : place + 2])
    return "\n".join(lines)


@pytest.mark.parametrize("level", ["graph", "graph-opt", "sparse", "tile", "ptx-ir"])
def test_what_is_emitted_is_in_order(level):
    target = {"target": "sm_80"} if level == "ptx-ir" else {}
    text = hectorite.emit(PROGRAM, level=level, **target)
    parse_ir(text[text.index("builtin.module") :], "emitted")


@pytest.mark.parametrize("level", ["graph", "graph-opt"])
def test_a_value_above_the_line_that_makes_it(level):
    text = swapped(hectorite.emit(PROGRAM, level=level), "scalar.mul")
    line = next(n for n, line in enumerate(text.splitlines(), 1) if "scalar.exp" in line)
    message = rf"swapped:{line}:.*operand 0 of `scalar.exp` is used before it is made"
    with pytest.raises(HectoriteError, match=message):
        parse_ir(text, "swapped")


def test_a_value_out_of_sight():
    text = """
graph.set @node
graph.func @f(%x: !hec.tensor<f32[node]>) -> !hec.tensor<f32[node]> {
  %y = graph.statement assign [v] for (v: node) : !hec.tensor<f32[node]> {
    %0 = graph.read %x[v] : f32
    graph.yield %0 : f32
  }
  %z = graph.statement assign [v] for (v: node) : !hec.tensor<f32[node]> {
    %1 = scalar.exp %0 : f32
    graph.yield %1 : f32
  }
  graph.return %z : !hec.tensor<f32[node]>
}
"""
    with pytest.raises(HectoriteError, match="not defined: .%0"):
        parse_ir(text, "hidden")
