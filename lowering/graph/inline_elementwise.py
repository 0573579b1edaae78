"""`inline-elementwise`: compute an element where it is read, if it is read once.

Enters: the `graph` dialect. Leaves: the same, where a statement that only makes each element of a
tensor from its own place is part of the one statement that reads it. That happens only if the
reader visits each element exactly once, so that nothing is computed twice; the value is rounded to
the element type of the tensor as before.

    s[e] = a[e.src] + b[e.dst]
    l[q] = leaky_relu(s[q], 0.2)

becomes

    l[q] = leaky_relu(a[q.src] + b[q.dst], 0.2)
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.schedule import ATTRIBUTE
from hectorite.lowering.graph.statement_body import Body, plain_left


@dataclass(frozen=True)
class InlineElementwise(ModulePass):
    """Compute an element where it is read, if it is read once."""

    name = "inline-elementwise"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            if _is_elementwise(statement):
                _inline(statement)


def _is_elementwise(op: StatementOp) -> bool:
    free = ATTRIBUTE not in op.attributes  # what has a schedule stays a statement of its own
    return free and op.kind.data == "assign" and op.init is None and plain_left(op)


def _inline(producer: StatementOp) -> None:
    reads = [use.operation for use in producer.result.uses]
    readers = {read.parent_op() for read in reads}
    accesses = {read.properties.get("access") for read in reads}
    if len(readers) != 1 or len(accesses) != 1:
        return
    read = reads[0]
    if not isinstance(read, ReadOp) or not _visits_once(producer, read):
        return
    at = {str(i.variable): j for i, j in zip(producer.access.data, read.access.data, strict=True)}
    names = {name: str(index.variable) for name, index in at.items()}
    body = Body(lambda index: index.rename(names))
    value = body.cast(body.copy(producer.value), producer.type.element)
    block = read.parent
    assert block is not None
    first = next(op for op in block.ops if op in reads)
    for op in list(body.block.ops):
        op.detach()
        block.insert_op_before(op, first)
    for use in list(producer.result.uses):
        use.operation.results[0].replace_all_uses_with(value)
        use.operation.detach()
        use.operation.erase()
    producer.detach()
    producer.erase()


def _visits_once(producer: StatementOp, read: ReadOp) -> bool:
    """Whether the reader's variables are the producer's, one for one."""
    reader = read.parent_op()
    if not isinstance(reader, StatementOp):
        return False
    names = [index.variable for index in read.access.data]
    over = dict(reader.variables.data)
    if None in names or len(set(names)) != len(names) or len(names) != len(over):
        return False
    return [over[str(name)] for name in names] == _extents(producer, producer.access.data)


def _extents(op: StatementOp, access: tuple[IndexExpr, ...]) -> list[object]:
    over = dict(op.variables.data)
    return [over[str(index.variable)] for index in access]
