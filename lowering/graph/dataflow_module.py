"""A `Dataflow` that came from no module, as a module with one function.

Enters: a graph of statements. Leaves: a module of the `graph` dialect that declares its sets and
sizes and has one function, whose parameters are the inputs of the graph in their order.
"""

from xdsl.dialects.builtin import ModuleOp

from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import DeriveOp, DimOp, SetOp
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.schema import SetDecl
from hectorite.lowering.graph.lower_dataflow import lower, type_of


def module_of(flow: Dataflow, name: str = "f") -> ModuleOp:
    """The module; the graph is left as it is."""
    sets = [_set(decl) for decl in flow.schema.sets.values()]
    sizes = [DimOp(size, value) for size, value in flow.schema.sizes.items()]
    names = list(flow.inputs)
    types = [type_of(flow.nodes[number].shape) for number in flow.inputs.values()]
    results = [type_of(flow.nodes[number].shape) for number in flow.results]
    module = ModuleOp([*sets, *sizes, FuncOp(name, names, types, results)])
    lower(flow, module, name)
    return module


def _set(decl: SetDecl) -> SetOp | DeriveOp:
    derivation = decl.derivation
    if derivation is None:
        return SetOp(decl.name, dict(decl.fields), decl.format)
    return DeriveOp(
        decl.name,
        dict(decl.fields),
        derivation.keys,
        derivation.binders,
        derivation.conditions,
        position=derivation.position,
        format=decl.format,
    )
