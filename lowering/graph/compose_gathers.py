"""`compose-gathers`: read through copies.

Enters: the `graph` dialect. Leaves: the same, where no statement reads a tensor that another
statement only copied: it reads the original at the composed access. Copies that nothing reads any
more are left to `dce`. A copy into a padded tensor stays, since reads outside of it mean its pad.

    t[e, o] = x[e.src, o]
    y[p.e.dst, o] += t[p.e, o]

becomes

    t[e, o] = x[e.src, o]
    y[p.e.dst, o] += x[p.e.src, o]
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import BlockArgument, Operation, OpResult
from xdsl.passes import ModulePass

from hectorite.dialects.graph import ReadOp, ReturnOp, StatementOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schedule import ATTRIBUTE
from hectorite.ir.space import AccessAttr


@dataclass(frozen=True)
class ComposeGathers(ModulePass):
    """Read through copies."""

    name = "compose-gathers"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for statement in [inner for inner in op.walk() if isinstance(inner, StatementOp)]:
            source = copied_read(statement)
            if source is not None:
                _compose(statement, source)


def copied_read(op: StatementOp) -> ReadOp | None:
    """The read whose value a statement copies, if it does nothing else."""
    if op.kind.data != "assign" or op.init is not None or op.type.pad_value is not None:
        return None
    if ATTRIBUTE in op.attributes:
        return None
    if any(index.variable is None for index in op.access.data):
        return None
    source = op.value.op if isinstance(op.value, OpResult) else None
    if not isinstance(source, ReadOp) or source.type.element != op.type.element:
        return None
    return source


def composed(source: ReadOp, copy: StatementOp, reader: ReadOp) -> AccessAttr | None:
    """Where to read the original instead of the copy; None if that is not an index expression."""
    access = reader.access.data
    statement = reader.parent_op()
    assert isinstance(statement, StatementOp)
    over = dict(statement.variables.data)
    own = dict(copy.variables.data)
    at = {str(left.variable): index for left, index in zip(copy.access.data, access, strict=True)}

    def follow(path: Path) -> IndexExpr:
        index = at[path.variable]
        if not path.fields:
            return index
        if index.path is None:
            raise ValueError(f"{index} is no element of a set")
        if not index.path.fields and over[index.path.variable] != own[path.variable]:
            # A plain number may stand where elements are counted, but no map starts from it.
            raise ValueError(f"{index} is no element of {own[path.variable]}")
        return IndexExpr.of(index.path.variable, *index.path.fields, *path.fields)

    try:
        return AccessAttr(tuple(index.substitute(follow) for index in source.access.data))
    except ValueError:
        return None


def _compose(copy: StatementOp, source: ReadOp) -> None:
    identity = source.access == copy.access and source.tensor.type == copy.result.type
    for use in list(copy.result.uses):
        reader = use.operation
        if isinstance(reader, ReadOp):
            access = composed(source, copy, reader)
            if access is not None:
                reader.operands[0] = source.tensor
                reader.access = access
        elif identity and not _is_result_of_its_own(reader, source):
            reader.operands[use.index] = source.tensor


def _is_result_of_its_own(reader: Operation, source: ReadOp) -> bool:
    """Whether a copy is made to be returned: a parameter is not returned as it is."""
    return isinstance(reader, ReturnOp) and isinstance(source.tensor, BlockArgument)
