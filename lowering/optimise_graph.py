"""`optimise-graph`: all rewrites from graph to graph-opt as one pass.

Enters: the `graph` dialect. Leaves: the same, where work is done once for what is alike. The passes
and their order are those of `pipelines.py`; sizes stay as they are.

    z[e, o] += h[e.src, i] * W[i, o]
    s[e] += z[e, o] * a[o]
    y[e.dst] += exp(s[e])

becomes, in several rounds, since what one makes plain the next can use,

    s_weights[i] += W[i, o] * a[o]
    s_src[u] += h[u, i] * s_weights[i]
    y[e.dst] += exp(s_src[e.src])
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
