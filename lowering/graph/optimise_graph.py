"""`optimise-graph`: all rewrites from graph to graph-opt as one pass.

Enters: the `graph` dialect. Leaves: the same, where work is done once for what is alike. The passes
and their order are those of `pipelines.py`; sizes stay as they are. They are done again until
nothing changes, so that a program that came out of this pass stays as it is. A compiler does them
once: what a second time changes is mostly names, and parts that the first could not see.

    z[e, o] += h[e.src, i] * W[i, o]
    s[e] += z[e, o] * a[o]
    y[e.dst] += exp(s[e])

becomes

    s_W_a[i] += W[i, o] * a[o]
    s_src[u] += s_W_a[i] * h[u, i]
    y_exp_src[u] = exp(s_src[u])
    y[e.dst] += y_exp_src[e.src]
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import rewrite


@dataclass(frozen=True)
class OptimiseGraph(ModulePass):
    """All rewrites from graph to graph-opt."""

    name = "optimise-graph"

    reassociate: bool = True
    """Allow floats to be added in another order."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""
    search: bool = True
    """Choose structural rewrites by cost; none otherwise."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        options = Options(self.reassociate, self.cardinalities, self.search)
        seen = list[str]()
        while (text := str(op)) not in seen:
            seen.append(text)
            rewrite(op, options, lambda name, module: None)
        # Should programs follow each other in a circle, the first by its text stands for all.
        chosen = min(seen[seen.index(text) :])
        while str(op) != chosen:
            rewrite(op, options, lambda name, module: None)
