"""Graphs of any number of nodes, for measuring how searches scale.

Enters: a name, a number of nodes. Leaves: a graph of statements: one network after the other, the
result of each going into the next; `bert layers` are alike, and no two `nas steps` share weights.
"""

from __future__ import annotations

from benchmarks.networks import NETWORKS
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.lowering.graph.lift_dataflow import lift

SOURCES = {"bert layers": ("bert", 0.25), "nas steps": ("nas_rnn", 1.0)}


def repeated(name: str, nodes: int) -> tuple[Dataflow, Extents]:
    """A chain of copies of a network, each with inputs of its own except for one that has the shape
    of the result."""
    network, scale = SOURCES[name]
    made = NETWORKS[network](scale=scale)
    func = next(op for op in made.module.ops if isinstance(op, FuncOp))
    part = lift(func, schema_of(made.module), True, made.fixed)
    shape = part.nodes[part.results[0]].shape
    joint = next(
        (name for name, number in part.inputs.items() if part.nodes[number].shape == shape), None
    )
    flow, here = Dataflow(part.schema), None
    for copy in range(max(1, nodes // len(part.nodes))):
        numbers = dict[int, int]()
        for label, number in part.inputs.items():
            node = part.nodes[number]
            if label == joint and here is not None:
                numbers[number] = here
            else:
                numbers[number] = flow.input(f"{label}_{copy}", node.shape, node.fixed)
        for number, node, form in part.statements():
            operands = [numbers[operand] for operand in node.operands]
            numbers[number] = flow.add(form, operands, node.name, node.hints)
        here = numbers[part.results[0]]
    flow.give([here] if here is not None else [])
    return flow, Extents(flow.schema)
