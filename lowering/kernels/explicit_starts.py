"""Give statements that write only a part of their tensor, in no part of a row's own, a start.

Enters: a function at the graph level. Leaves: the same, where every statement whose rows do not
share out its whole result continues a tensor made by a statement of its own.

    y[n + 2] = x[n]

becomes

    y_start[d0] = 0.0
    y[n + 2] = x[n] from y_start

A kernel fills the part of a result that belongs to a row while it does the row. Here some elements
belong to no row, or to several, so they are filled before.
"""

from xdsl.ir import SSAValue

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema
from hectorite.lowering.gpu.schedule_orders import wants_split
from hectorite.lowering.graph.statement_body import Body, hint
from hectorite.lowering.kernels.choose_roots import choose_roots
from hectorite.lowering.kernels.place_tensors import is_regular, rows_cover
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.segment import covers


def make_starts_explicit(function: FuncOp, schema: Schema, machine: Machine) -> None:
    """Rewrite a function in place."""
    choice = choose_roots(function, schema, machine)
    returned = set(function.return_op.operands)
    inside = set(choice.steps.values())
    for statement, root in choice.roots.items():
        if statement in inside or covers(statement, choice.segments.get(statement), schema):
            continue
        part = statement in choice.products and not is_regular(statement, root)
        split = wants_split(statement, root, machine)
        if part or split or not rows_cover(statement, root):
            _start(statement, returned)


def _start(statement: StatementOp, returned: set[SSAValue]) -> None:
    """Let a statement continue a tensor that nothing else needs."""
    init, type = statement.init, statement.type
    if init is not None and isinstance(init.owner, StatementOp) and init not in returned:
        read = any(read.tensor is init for read in statement.reads)
        if not read and {use.operation for use in init.uses} == {statement}:
            return
    variables = [(f"d{position}", dim) for position, dim in enumerate(type.dims)]
    access = [IndexExpr.of(variable) for variable, _ in variables]
    body = Body()
    if init is None:
        first = element_of(statement.value.type).identity(statement.kind.data)
        value = body.constant(first, statement.value.type)
    else:
        value = body.read(init, access)
    name = hint(statement.result, "start")
    start = body.statement("assign", access, variables, type, value, name=name)
    block = statement.parent_block()
    assert block is not None
    block.insert_op_before(start, statement)
    statement.operands = [start.result]
