"""`dedup`: rows that hold the same are computed once.

Enters: a function, and a set in this format. Leaves: the function, where sums by row are over the
distinct rows, and each row takes that of its like.

    y[v.row, d] += table[v.token, d]                         v: value as dedup(row)

becomes

    y_unique[v.unique, d] += table[v.token, d]               v: value_element
    y[u, d] = y_unique[u.unique, d]

What goes on from the rows, as `y[v.user.group, d] +=`, is first reduced by row (`chains.py`). Only
what a row holds may decide about its sum: a statement that reads a number of each element, or
of the row itself, is refused. So is a sum for each element.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.space import Dim
from hectorite.lowering.formats.chains import by_row, goes_on, reduced_at
from hectorite.lowering.formats.format_use import (
    FormatUse,
    Outcome,
    gives,
    over_set,
    place_of,
    unused,
)
from hectorite.lowering.graph.statement_body import (
    Body,
    hint,
    paths_of,
    replace_statement,
    statements,
    temporary,
)


def serve_dedup(func: FuncOp, use: FormatUse) -> Outcome:
    """Rewrite one function in place."""
    outcome = Outcome()
    for op in statements(func):
        variable = over_set(op, use.over)
        if variable is None or place_of(op, variable) is not None and not op.reduced:
            continue
        reason = _refusal(op, variable, use)
        if reason is None:
            at = by_row(op, variable, use.schema) if goes_on(op, variable) else op
            _serve(at, variable, use)
            outcome.served += 1
        else:
            outcome.refused.append((op, reason))
    return outcome


def _refusal(op: StatementOp, variable: str, use: FormatUse) -> str | None:
    """Why a statement is not the same for rows that hold the same."""
    (row,) = use.format.fields
    given = use.schema.given_fields(use.over)
    places = [index for index in op.access.data if variable in index.variables]
    own = [p for i in places for p in i.paths if p.variable == variable and _is_element(p, given)]
    if own:
        return (
            f"it makes a number for each {variable}, and the format serves what is reduced at "
            f"{variable}.{row}"
        )
    where = " and ".join(map(str, places)) or "one place"
    if op.kind.data == "assign" or reduced_at(op, variable) != row:
        return (
            f"it is reduced at {where}, and the format serves what is reduced at {variable}.{row}"
        )
    is_exact = op.kind.data in ("max", "min") or not element_of(op.value.type).is_float
    if goes_on(op, variable) and not use.reassociate and not is_exact:
        return f"it adds up rows at {where}, and floats may not be added in another order"
    for path in paths_of(variable, op.value):
        if _is_element(path, given):
            return f"it reads a number of each {variable}, so rows that hold the same may differ"
        if path.fields[0] not in given or path.fields[0] == row:
            return f"it depends on {path}, so rows that hold the same may differ"
    return None


def _is_element(path: Path, given: Sequence[str]) -> bool:
    """Whether a path is an element itself, for a part of a format as one of the whole set."""
    return all(field not in given for field in path.fields)


def _serve(op: StatementOp, variable: str, use: FormatUse) -> None:
    unique, element = use.parts[0], use.parts[-1]
    place = next(i for i, index in enumerate(op.access.data) if variable in index.variables)
    left, dims = list(op.access.data), list(op.type.dims)
    left[place] = IndexExpr.of(variable, element.fields[0][0])
    dims[place] = unique.name
    body = Body()
    variables: list[tuple[str, Dim]] = [
        (name, element.name if name == variable else dim) for name, dim in op.variables.data
    ]
    stored = op.type.element if op.init is None else op.value.type
    made = body.statement(
        op.kind.data,
        left,
        variables,
        temporary(stored, dims),
        body.copy(op.value),
        name=hint(op.result, "unique"),
    )
    replace_statement(op, made, _spread(op, made.result, place, gives(unique)[0]))


def _spread(op: StatementOp, sums: SSAValue, place: int, field: str) -> StatementOp:
    """Each row's own sum, from that of its like."""
    names: list[str] = []
    for number in range(len(op.type.dims)):
        names.append(unused("u" if number == place else f"d{number}", names))
    access = [IndexExpr.of(name) for name in names]
    source = list(access)
    source[place] = IndexExpr.of(names[place], field)
    body = Body()
    value = body.read(sums, source)
    if op.init is not None:
        before = body.cast(body.read(op.init, access), op.value.type)
        value = body.apply(op.kind.data, before, value)
    pairs: list[tuple[str, Dim]] = list(zip(names, op.type.dims, strict=True))
    return body.statement("assign", access, pairs, op.type, value)
