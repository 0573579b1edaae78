"""`widen-accumulators`: scatter into a tensor of the type that the sum is computed in.

Enters: the `graph` dialect. Leaves: the same, where a statement that reaches one element through
several assignments of its left variables accumulates in the type of its body, and a copy rounds
the result once, as its meaning asks.

With x and y of the type f16

    y[e.dst] += f32(x[e.src])

becomes, with y_wide of the type f32,

    y_wide[e.dst] += f32(x[e.src])
    y[d0] = f16(y_wide[d0])
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.graph import StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.graph.statement_body import Body, hint, plain_left, replace_statement


@dataclass(frozen=True)
class WidenAccumulators(ModulePass):
    """Scatter into a tensor of the type that the sum is computed in."""

    name = "widen-accumulators"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            rounds = statement.value.type != statement.type.element
            # Other integers wrap alike whether each step does or only the last.
            is_lossy = element_of(statement.type.element).kind in ("float", "sign")
            if (
                statement.kind.data != "assign"
                and rounds
                and is_lossy
                and not plain_left(statement)
            ):
                _widen(statement)


def _widen(statement: StatementOp) -> None:
    type = statement.type
    wide = TensorType(statement.value.type, type.shape, type.pad, type.format)
    before: list[StatementOp] = []
    init = statement.init
    if init is not None:
        before.append(_converted(init, type.dims, wide, hint(init, "wide")))
        init = before[0].result
    body = Body()
    total = body.statement(
        statement.kind.data,
        statement.access.data,
        statement.variables.data,
        wide,
        body.copy(statement.value),
        init,
        hint(statement.result, "wide"),
    )
    result = _converted(total.result, type.dims, type, statement.result.name_hint)
    replace_statement(statement, *before, total, result)


def _converted(
    source: SSAValue, dims: tuple[Dim, ...], type: TensorType, name: str | None
) -> StatementOp:
    """A copy of a tensor in another element type."""
    variables = [(f"d{position}", dim) for position, dim in enumerate(dims)]
    access = [IndexExpr.of(variable) for variable, _ in variables]
    body = Body()
    element: Attribute = type.element
    return body.statement(
        "assign", access, variables, type, body.cast(body.read(source, access), element), name=name
    )
