"""Give the left operand of a product a statement of its own, where it is more than a read.

    y[n, o] += gelu(t[n, i]) * W[i, o]

becomes

    y_left[n, i] = gelu(t[n, i])
    y[n, o] += y_left[n, i] * W[i, o]

Enters: a function at the graph level without softmax, and the machine. Leaves: the same, where a
GPU's products read both operands from memory, as copies into shared memory and tensor
instructions have them. What reads outside its tensor stays: a copy of it would be many times as
large as what it reads. A CPU computes such operands block by block, so there nothing changes.
"""

from xdsl.ir import SSAValue

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.rounding import holds
from hectorite.ir.scalar import CastOp
from hectorite.lowering.graph.statement_body import (
    Body,
    factors,
    hint,
    operations_of,
    plain,
    replace_statement,
    temporary,
    variables_of,
)
from hectorite.lowering.kernels.choose_roots import product_of
from hectorite.lowering.kernels.kernel_plan import Product
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import plain_read


def materialise_operands(function: FuncOp, machine: Machine) -> None:
    """Rewrite a function in place."""
    if not machine.is_gpu:
        return
    for statement in list(function.body.block.ops):
        if isinstance(statement, StatementOp):
            found = product_of(statement, machine)
            if found is not None and found[1].direct is None:
                _materialise(statement, found[1])


def _materialise(statement: StatementOp, product: Product) -> None:
    parts = list(factors(statement.value))
    weights = next(part for part in parts if plain_read(part) is product.weights)
    others = [part for part in parts if part is not weights]
    if any(_is_padded(part) for part in others):
        return
    depends = set[str]().union(*(variables_of(part) for part in others))
    variables = [(name, dim) for name, dim in statement.variables.data if name in depends]
    body = Body()
    if len(others) == 1:
        others = [_unwidened(others[0])]
    value = _multiplied(body, [body.copy(part) for part in others])
    type = temporary(value.type, [dim for _, dim in variables])
    name = hint(statement.result, "left")
    left = body.statement("assign", plain(variables), variables, type, value, name=name)
    whole = Body()
    read = whole.read(left.result, plain(variables))
    operands = [whole.cast(read, statement.value.type), whole.copy(weights)]
    new = whole.statement(
        statement.kind.data,
        statement.access.data,
        statement.variables.data,
        statement.type,
        _multiplied(whole, operands),
        statement.init,
        statement.result.name_hint,
    )
    replace_statement(statement, left, new)


def _multiplied(body: Body, values: list[SSAValue]) -> SSAValue:
    total = values[0]
    for value in values[1:]:
        total = body.apply("mul", total, value)
    return total


def _unwidened(value: SSAValue) -> SSAValue:
    """What a value is before a cast that changes nothing: a tensor of that type is read in less
    time, and by tensor instructions."""
    op = value.owner
    if isinstance(op, CastOp) and holds(element_of(value.type), element_of(op.input.type)):
        return op.input
    return value


def _is_padded(value: SSAValue) -> bool:
    reads = [op for op in operations_of(value) if isinstance(op, ReadOp)]
    return any(read.type.pad_value is not None for read in reads)
