"""`superoptimise`: the cheapest equal form of each function that any search over all rules finds.

Enters: the `graph` dialect. Leaves: the same functions, rewritten by the rules of `lowering/rules/`
and `lowering/structural/` that pay on a device, for sizes that are known (`cardinalities`) or usual
ones; what depends on `fixed` arguments alone costs nothing. A function for which nothing is found
stays as it is, and one that came out of this pass does.

With `superoptimise{fixed=W,a}`

    z[n, o] += h[n, i] * W[i, o]
    s[n] += z[n, o] * a[o]

becomes

    t3[i] += W[i, j] * a[j]
    s[n] += h[n, i] * t3[i]
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.cost import CostModel
from hectorite.ir.device import Device
from hectorite.ir.devices import device_named
from hectorite.ir.extents import Extents
from hectorite.lowering.graph.cardinalities import parse_cardinalities
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower
from hectorite.lowering.rules.catalogue import rules
from hectorite.lowering.search.portfolio import BUDGET, optimise
from hectorite.lowering.search.step import Outcome, Rule
from hectorite.lowering.structural import structural_rules


@dataclass(frozen=True)
class Superoptimise(ModulePass):
    """The cheapest equal form of each function that any search over all rules finds."""

    name = "superoptimise"

    device: str = "cpu"
    """For which device: a name of `ir/devices.py`."""
    budget: int = BUDGET
    """How many matches each round of the search may try; with 0 nothing changes."""
    forbid: tuple[str, ...] = ()
    """Rules or families that may not be used."""
    reassociate: bool = True
    """Allow floats to be added in another order."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""
    fixed: tuple[str, ...] = ()
    """Names of arguments that are the same in every call."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        extents = parse_cardinalities(self.cardinalities).extents(schema_of(op))
        where = device_named(self.device)
        for func in list(op.ops):
            if isinstance(func, FuncOp):
                superoptimise(
                    op, func, where, extents, self.budget, self.forbid, self.reassociate, self.fixed
                )


def superoptimise(
    module: ModuleOp,
    func: FuncOp,
    device: Device,
    extents: Extents,
    budget: int = BUDGET,
    forbid: Collection[str] = (),
    reassociate: bool = True,
    fixed: Collection[str] = (),
) -> Outcome:
    """Rewrite one function of a module in place; gives the steps and costs in seconds."""
    flow = lift(func, schema_of(module), reassociate, fixed)
    outcome = optimise(flow, all_rules(extents), CostModel(device, extents), budget, forbid)
    if outcome.steps:
        lower(outcome.flow, module, func.sym_name.data)
    return outcome


def all_rules(extents: Extents) -> Sequence[Rule]:
    """The laws between terms and the rewrites that know of sets."""
    return [*rules(), *structural_rules(extents)]
