"""`split-fixed`: what depends on arguments that never change becomes a function of its own.

Enters: the `graph` dialect, and names of arguments that are the same in every call (trained
weights). Leaves: for each function that has such an argument and computes something from them
alone, a second function `NAME_fixed` that computes it, to be called once; the function itself takes
its results instead, after its other arguments.

With `split-fixed{fixed=W,a}`

    v[i] += W[i, o] * a[o]
    s[n] += h[n, i] * v[i]

becomes

    s[n] += h[n, i] * v[i]
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, ReturnOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.dataflow import Dataflow
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower, type_of


@dataclass(frozen=True)
class SplitFixed(ModulePass):
    """Move what depends on fixed arguments alone into a function of its own."""

    name = "split-fixed"

    fixed: tuple[str, ...] = ()
    """Names of arguments that are the same in every call."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for func in [func for func in op.ops if isinstance(func, FuncOp)]:
            split_fixed(op, func, self.fixed)


def fixed_name(function: str) -> str:
    """The name of the function that computes what is the same in every call."""
    return f"{function}_fixed"


def split_fixed(
    module: ModuleOp, func: FuncOp, fixed: Collection[str], reassociate: bool = False
) -> tuple[str, ...]:
    """Split one function in place; the names of the arguments that it takes now instead, in the
    order in which the other function gives them; none if there is nothing to compute."""
    flow = lift(func, schema_of(module), reassociate, fixed)
    border = [number for number in flow.order() if _is_border(flow, number)]
    if not border:
        return ()
    names = _names(flow, border, set(func.names))
    once = flow.copy()
    once.give(border)
    _put(module, func, once, fixed_name(func.sym_name.data), _used(once))
    for number in border:
        given = flow.input(names[number], flow.nodes[number].shape)
        flow.replace(number, given)
    kept = [name for name in func.names if name not in fixed or name in _used(flow)]
    _put(module, func, flow, func.sym_name.data, [*kept, *names.values()])
    func.detach()
    func.erase()
    return tuple(names.values())


def _is_border(flow: Dataflow, number: int) -> bool:
    """Whether this is computed from fixed arguments and something else wants it."""
    node = flow.nodes[number]
    if node.form is None or not node.fixed:
        return False
    return number in flow.results or any(not flow.nodes[u].fixed for u in flow.users[number])


def _names(flow: Dataflow, border: list[int], taken: set[str]) -> Mapping[int, str]:
    names = dict[int, str]()
    for number in border:
        wanted = flow.nodes[number].name or "folded"
        name, count = wanted, 2
        while name in taken:
            name, count = f"{wanted}_{count}", count + 1
        taken.add(name)
        names[number] = name
    return names


def _used(flow: Dataflow) -> list[str]:
    """Inputs that something reads or that are results themselves."""
    found = flow.inputs.items()
    return [name for name, number in found if flow.users[number] or number in flow.results]


def _put(module: ModuleOp, func: FuncOp, flow: Dataflow, name: str, arguments: list[str]) -> None:
    """A function of these statements before `func`."""
    types = [type_of(flow.nodes[flow.inputs[argument]].shape) for argument in arguments]
    results = [type_of(flow.nodes[number].shape) for number in flow.results]
    made = FuncOp(f"{name}_new", arguments, types, results)
    made.body.block.add_op(ReturnOp())
    module.body.block.insert_op_before(made, func)
    lower(flow, module, f"{name}_new")
    made.properties["sym_name"] = type(func.sym_name)(name)
