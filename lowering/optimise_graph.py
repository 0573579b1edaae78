"""`optimise-graph`: the rewrites of a graph program, in their order, until nothing changes.

Enters: the `graph` dialect without `graph.softmax`. Leaves: the same, where work is done once for
what is alike. A score `s[e] += zs[e, o] * al[e.type, o] + zd[e, o] * ar[e.type, o]` needs several
rounds: only once zs and zd are computed on distinct pairs do the two parts of the score depend on
one pair each.
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.lowering.canonicalize_graph import CanonicalizeGraph
from hectorite.lowering.compose_gathers import ComposeGathers
from hectorite.lowering.drop_dead_statements import DropDeadStatements
from hectorite.lowering.factor_through_maps import FactorThroughMaps
from hectorite.lowering.inline_elementwise import InlineElementwise
from hectorite.lowering.merge_statements import MergeStatements
from hectorite.lowering.simplify_access import SimplifyAccess
from hectorite.lowering.split_contraction import SplitContraction
from hectorite.lowering.split_sum import SplitSum

ROUNDS = 16
"""More than any program needs; a bound in case two rewrites should undo each other."""


@dataclass(frozen=True)
class OptimiseGraph(ModulePass):
    """The rewrites of a graph program, in their order, until nothing changes."""

    name = "optimise-graph"

    reassociate: bool = True
    """Allow floats to be added in another order."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements, as `SET=INTEGER`."""

    @property
    def passes(self) -> tuple[ModulePass, ...]:
        """One round."""
        return (
            # Simple bodies and shared values show what depends on what.
            CanonicalizeGraph(),
            SimplifyAccess(),
            ComposeGathers(),
            MergeStatements(),
            # What is split is worth splitting only for the factoring after it.
            SplitSum(self.reassociate, self.cardinalities),
            SplitContraction(self.reassociate, self.cardinalities),
            FactorThroughMaps(self.cardinalities),
            # The gathers that factoring leaves go into their readers before the next round.
            SimplifyAccess(),
            ComposeGathers(),
            DropDeadStatements(),
            MergeStatements(),
        )

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        before = ""
        for _ in range(ROUNDS):
            text = str(op)
            if text == before:
                break
            before = text
            for rewrite in self.passes:
                rewrite.apply(ctx, op)
        # Inlining comes last: it would put a sum that can be split behind a function.
        InlineElementwise().apply(ctx, op)
        CanonicalizeGraph().apply(ctx, op)
        MergeStatements().apply(ctx, op)
