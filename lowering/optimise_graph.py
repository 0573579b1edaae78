"""`optimise-graph`: all rewrites from graph to graph-opt as one pass.

Enters: the `graph` dialect. Leaves: the same, where work is done once for what is alike. The passes
and their order are those of `pipelines.py`; sizes stay as they are. A score

    s[e] += zs[e, o] * al[e.type, o] + zd[e, o] * ar[e.type, o]

needs several rounds: only once zs and zd are computed on distinct pairs do the two parts of the
score depend on one pair each.
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.lowering.pipelines import Options, rewrite


@dataclass(frozen=True)
class OptimiseGraph(ModulePass):
    """All rewrites from graph to graph-opt."""

    name = "optimise-graph"

    reassociate: bool = True
    """Allow floats to be added in another order."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements, as `SET=INTEGER`."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        rewrite(op, Options(self.reassociate, self.cardinalities), lambda name, module: None)
