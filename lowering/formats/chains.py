"""Reductions that go on from the row of an element through maps of the rows.

Enters: a statement over a set. Leaves: two, the first of which reduces by row, which formats serve,
and the second over the rows, of which there are fewer.

    y[e.dst.group, o] += a[e] * x[e.src, o]

becomes

    y_rows[e.dst, o] += a[e] * x[e.src, o]
    y[n.group, o] += y_rows[n, o]                            n: node

A row without elements adds the identity. That is another order of the terms, as it is in blocks.
"""

from __future__ import annotations

from hectorite.dialects.graph import StatementOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.lowering.formats.format_use import extent, unused
from hectorite.lowering.graph.statement_body import Body, hint, replace_statement, temporary


def reduced_at(op: StatementOp, variable: str) -> str | None:
    """The field of an element through which alone it decides where it is reduced."""
    places = [index for index in op.access.data if variable in index.variables]
    fields = {i.path.fields[0] if i.path and i.path.fields else None for i in places}
    return fields.pop() if len(fields) == 1 else None


def goes_on(op: StatementOp, variable: str) -> bool:
    """Whether a statement reduces behind the row of an element, which `reduced_at` tells."""
    places = [index.path for index in op.access.data if variable in index.variables]
    return len(places) > 1 or any(path is not None and len(path.fields) > 1 for path in places)


def by_row(op: StatementOp, variable: str, schema: Schema) -> StatementOp:
    """Put a reduction by row, and one over the rows, in the place of a statement that `goes_on`.
    Returns the first."""
    field, dims = reduced_at(op, variable), dict(op.variables.data)
    over = dims[variable]
    assert field is not None and isinstance(over, str)
    rows = extent(schema.fields_of(over)[field])
    kept = [
        (name, dim)
        for name, dim in op.variables.data
        if name != variable and any(name in index.variables for index in op.access.data)
    ]
    body = Body()
    left = [IndexExpr.of(variable, field), *(IndexExpr.of(name) for name, _ in kept)]
    type = temporary(op.value.type, [rows, *(dim for _, dim in kept)])
    first = body.statement(
        op.kind.data,
        left,
        op.variables.data,
        type,
        body.copy(op.value),
        name=hint(op.result, "rows"),
    )
    row = unused("n", dims)

    def behind(path: Path) -> IndexExpr:
        if path.variable != variable:
            return IndexExpr.of(path.variable, *path.fields)
        return IndexExpr.of(row, *path.fields[1:])

    body = Body()
    value = body.read(first.result, [IndexExpr.of(row), *(IndexExpr.of(n) for n, _ in kept)])
    access = [index.substitute(behind) for index in op.access.data]
    pairs: list[tuple[str, Dim]] = [(row, rows), *kept]
    second = body.statement(op.kind.data, access, pairs, op.type, value, op.init)
    replace_statement(op, first, second)
    return first
