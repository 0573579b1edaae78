"""`annotate-forms`: write the name of its form on each statement.

Enters: the `graph` dialect. Leaves: the same, where statements whose form has a name carry it as
the attribute `form`. Nothing depends on it.

    %z = graph.statement add [u, o] for (u: pair, o: 8, i: 4) : !hec.tensor<f32[pair, 8]> {

becomes

    %z = graph.statement add [u, o] for (u: pair, o: 8, i: 4) : !hec.tensor<f32[pair, 8]>
        attributes {"form" = "typed-linear m=(u) n=(o) k=(i) by=(u.type)"} {
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass

from hectorite.lowering.recognise import recognise_all


@dataclass(frozen=True)
class AnnotateForms(ModulePass):
    """Write the name of its form on each statement."""

    name = "annotate-forms"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for statement, form in recognise_all(op).items():
            statement.attributes["form"] = StringAttr(str(form))
