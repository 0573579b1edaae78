"""The mathematics of a `Dataflow`, a line for each node, for people.

Enters: a graph of statements (ir/dataflow.py). Leaves: lines in the notation of the language, as
`notation.py` writes them; of a concatenation, one line: `y = concat(a, b)`.
"""

from dataclasses import dataclass

from xdsl.ir import Operation

from hectorite.dialects.graph import FuncOp
from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.graph.lower_dataflow import type_of, write_body
from hectorite.lowering.graph.notation import Notation


@dataclass(frozen=True)
class Line:
    """A node as text: the name of its tensor, and the statement."""

    name: str
    text: str


def flow_lines(flow: Dataflow) -> dict[int, Line]:
    """A line for each statement, by the number of its node, operands first."""
    names = list(flow.inputs)
    inputs = [type_of(flow.nodes[number].shape) for number in flow.inputs.values()]
    results = [type_of(flow.nodes[number].shape) for number in flow.results]
    func = FuncOp("f", names, inputs, results)
    values = write_body(flow, func)
    notation = Notation(func)
    lines = dict[int, Line]()
    for number, node, form in flow.statements():
        name = notation.names[values[number]]
        if form.kind == "concat":
            parts = ", ".join(notation.names[values[operand]] for operand in node.operands)
            lines[number] = Line(name, f"{name} = concat({parts})")
            continue
        owner = values[number].owner
        text = notation.line(owner) if isinstance(owner, Operation) else None
        lines[number] = Line(name, text or name)
    return lines
