"""`hoist-factors`: multiply once by what every term of a sum has in common.

Enters: the `graph` dialect. Leaves: the same, where a sum of products that makes each element of
a tensor no longer multiplies its terms by factors, nor divides them by divisors, that do not depend
on the reduced variables.

    s[e] += k[e.src, f] * q[e.dst, f] * mu[e.type]

becomes

    s_part[e] += k[e.src, f] * q[e.dst, f]
    s[e] = s_part[e] * mu[e.type]

Floats are rounded at other places by this; `reassociate=false` forbids it. Integers wrap alike
either way.
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.graph import StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.scalar import OPERATIONS
from hectorite.lowering.statement_body import (
    Body,
    hint,
    inner_op,
    plain_left,
    replace_statement,
    temporary,
    variables_of,
)

Factor = tuple[str, SSAValue]
"""`mul` or `div`, and the operand."""


@dataclass(frozen=True)
class HoistFactors(ModulePass):
    """Multiply once by what every term of a sum has in common."""

    name = "hoist-factors"

    reassociate: bool = True

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            is_float = element_of(statement.value.type).is_float
            if self.reassociate or not is_float:
                _hoist(statement)


def _hoist(statement: StatementOp) -> None:
    is_sum = statement.kind.data == "add" and statement.init is None and plain_left(statement)
    reduced = set(statement.reduced)
    if not is_sum or not reduced:
        return
    factors = factors_of(statement.value)
    inner = [factor for factor in factors if variables_of(factor[1]) & reduced]
    outer = [factor for factor in factors if factor not in inner]
    if not outer or not inner or inner[0][0] == "div":
        return
    body = Body()
    value = body.copy(inner[0][1])
    for operator, factor in inner[1:]:
        value = body.apply(operator, value, body.copy(factor))
    variables, access = statement.variables.data, statement.access.data
    part_type = temporary(statement.value.type, statement.type.dims)
    name = hint(statement.result, "part")
    part = body.statement("add", access, variables, part_type, value, name=name)
    body = Body()
    value = body.read(part.result, access)
    for operator, factor in outer:
        value = body.apply(operator, value, body.copy(factor))
    kept = [pair for pair in variables if pair[0] not in reduced]
    scaled = body.statement("assign", access, kept, statement.type, value)
    replace_statement(statement, part, scaled)


def factors_of(value: SSAValue) -> list[Factor]:
    """Factors and divisors of a tree of multiplications and divisions, from left to right."""
    op = inner_op(value)
    if isinstance(op, OPERATIONS["mul"]):
        return [*factors_of(op.operands[0]), *factors_of(op.operands[1])]
    if isinstance(op, OPERATIONS["div"]):
        return [*factors_of(op.operands[0]), ("div", op.operands[1])]
    return [("mul", value)]
