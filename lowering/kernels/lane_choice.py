"""Choose the variable of a statement that lies in the lanes of a vector.

    y[n, o] += x[n, i] * W[i, o]     o, of the left side: one accumulator for each lane
    s[z]    += p[z.row, k] * ..      k, which is reduced: the lanes are combined at the end
    d[t, i] += W[t, i, o] * a[t, o]  a CPU: i; a GPU: o, since W lies along it

Enters: a statement, and which of its variables are bound to a row or an element. Leaves: the
variable of the left side that is in lanes, or None; then one that is reduced may be.
"""

from collections.abc import Mapping, Sequence

from hectorite.dialects.graph import StatementOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import runs_along


def left_lanes(
    statement: StatementOp, bound: Sequence[str], dims: Mapping[str, Dim], machine: Machine
) -> str | None:
    """The variable of the left side that lies in lanes, if there is one."""
    access = statement.access.data
    names = [name for name, _ in statement.variables.data if name not in bound]
    outer = [n for n in names if any(n in index.variables for index in access)]
    lanes = _last_alone(outer, access)
    if lanes is None:
        return None
    across = reduced_lanes(statement, [n for n in names if n not in outer], dims)
    return (
        None if across is not None and _better(statement, lanes, across, dims, machine) else lanes
    )


def reduced_lanes(
    statement: StatementOp, inner: Sequence[str], dims: Mapping[str, Dim]
) -> str | None:
    """A reduced variable of fixed extent that moves along the last dimension of some read."""
    for name in reversed(inner):
        extent = dims[name]
        if isinstance(extent, int) and extent >= 2 and _lies_along(statement, name):
            return name
    return None


def _last_alone(outer: list[str], access: Sequence[IndexExpr]) -> str | None:
    """The last left variable, if it stands alone there and nowhere else on the left."""
    for index in reversed(access):
        name = index.variable
        if name in outer and sum(name in other.variables for other in access) == 1:
            return name
    return None


def _better(
    statement: StatementOp, lanes: str, across: str, dims: Mapping[str, Dim], machine: Machine
) -> bool:
    """Whether a reduced variable makes better vectors than one of the left side: because that is
    short, or, where neighbouring threads should read neighbouring elements, lies along nothing."""
    extent, width = dims[lanes], dims[across]
    if not isinstance(extent, int) or not isinstance(width, int):
        return False
    if extent < machine.few_lanes:
        return width > extent
    return machine.is_gpu and width >= machine.few_lanes and not _lies_along(statement, lanes)


def _lies_along(statement: StatementOp, variable: str) -> bool:
    """Whether a variable moves along the last dimension of some read."""
    return any(
        read.access.data and runs_along(read, variable) == len(read.access.data) - 1
        for read in statement.reads
    )
