"""`annotate-forms`: write the name of its form on each statement.

Enters: the `graph` dialect. Leaves: the same, where statements whose form has a name carry it as
the attribute `form`. Nothing depends on it.

    z[e, o] += h[e.src, i] * W[e.type, i, o]

becomes, with `attributes {form = "typed-linear m=(e) n=(o) k=(i) by=(e.type)"}` on it,

    z[e, o] += h[e.src, i] * W[e.type, i, o]
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from hectorite.lowering.graph.recognise import recognise_all


@dataclass(frozen=True)
class AnnotateForms(ModulePass):
    """Write the name of its form on each statement."""

    name = "annotate-forms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for statement, form in recognise_all(op).items():
            statement.attributes["form"] = StringAttr(str(form))
