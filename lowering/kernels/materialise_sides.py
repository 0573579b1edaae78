"""Give the sides of a segment product statements of their own, where they are more than a read.

    d[e.type, i, o] += w[e] * x[e.src, i] * g[e.dst, o]

becomes

    d_left[e, i] = w[e] * x[e.src, i]
    d[e.type, i, o] += d_left[e, i] * g[e.dst, o]

Enters: a function at the graph level without softmax, its schema, and the machine. Leaves: the
same, where a GPU's segment products read both sides from memory. A CPU computes such sides for the
elements at hand, so there nothing changes.
"""

from collections.abc import Sequence

from xdsl.ir import SSAValue

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.schema import Schema
from hectorite.lowering.graph.statement_body import (
    Body,
    hint,
    plain,
    replace_statement,
    temporary,
    variables_of,
)
from hectorite.lowering.kernels.kernel_plan import Segment
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.segment import match_segment


def materialise_sides(function: FuncOp, schema: Schema, machine: Machine) -> None:
    """Rewrite a function in place."""
    if not machine.is_gpu:
        return
    for statement in list(function.body.block.ops):
        if isinstance(statement, StatementOp):
            found = match_segment(statement, schema, machine)
            if found is not None and None in (found[1].direct_left, found[1].direct_right):
                _materialise(statement, found[1])


def _materialise(statement: StatementOp, segment: Segment) -> None:
    whole, made, values = Body(), list[StatementOp](), list[SSAValue]()
    sides = (
        (segment.left, segment.direct_left, "left"),
        (segment.right, segment.direct_right, "right"),
    )
    for factors, direct, name in sides:
        if direct is None:
            made.append(_side(statement, factors, name))
            access = plain(list(made[-1].variables.data))
            values.append(whole.cast(whole.read(made[-1].result, access), statement.value.type))
        else:
            values.append(whole.copy(factors[0]))
    new = whole.statement(
        statement.kind.data,
        statement.access.data,
        statement.variables.data,
        statement.type,
        whole.apply("mul", *values),
        statement.init,
        statement.result.name_hint,
    )
    replace_statement(statement, *made, new)


def _side(statement: StatementOp, factors: Sequence[SSAValue], name: str) -> StatementOp:
    """The statement that computes a side."""
    depends = set[str]().union(*(variables_of(factor) for factor in factors))
    variables = [(v, dim) for v, dim in statement.variables.data if v in depends]
    body = Body()
    value = body.copy(factors[0])
    for factor in factors[1:]:
        value = body.apply("mul", value, body.copy(factor))
    type = temporary(value.type, [dim for _, dim in variables])
    return body.statement(
        "assign", plain(variables), variables, type, value, name=hint(statement.result, name)
    )
