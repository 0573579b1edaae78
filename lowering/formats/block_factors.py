"""Statements that are products with a sparse matrix, and what their factors depend on.

Enters: a statement over a set with a row and a column for each element. Leaves: its factors by
side, or `NotServed` with the factor that has none.

    C[z.row, j] += a[z] * w[z.type] * B[z.col, j]    own: a, w     gathered: B
    S[z] += a[z] * P[z.row, i] * Q[z.col, i]         own: a        sides: P by row, Q by col

Variables besides the element that its own factors depend on are shared, as heads are in
`C[z.row, h, j] += a[z, h] * B[z.col, h, j]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.scalar import OPERATIONS, CastOp
from hectorite.lowering.formats.chains import reduced_at
from hectorite.lowering.graph.notation import Notation
from hectorite.lowering.graph.statement_body import inner_op, paths_of, plain_left, variables_of

Factor = tuple[str, SSAValue]
"""`mul` or `div`, and the operand."""


class NotServed(Exception):
    """Why a format cannot compute a statement."""


@dataclass(frozen=True)
class Summed:
    """A sum over elements, added up at the field `scattered`: `own` factors belong to an element
    and depend on the variables `shared`, `rows` are read at the field `gathered`."""

    scattered: str
    gathered: str
    own: tuple[Factor, ...]
    rows: tuple[Factor, ...]
    shared: tuple[str, ...]


@dataclass(frozen=True)
class Sampled:
    """A sum of products for each element: factors that it has of its own, and those of each side,
    which depend on the element only through one field."""

    own: tuple[Factor, ...]
    sides: tuple[Factor, ...]


def match_summed(op: StatementOp, variable: str, fields: Sequence[str]) -> Summed:
    """`op` as a product of the matrix with rows of a tensor. Raises `NotServed`."""
    if op.kind.data != "add":
        raise NotServed(f"products of blocks are added up, and `{_SIGN[op.kind.data]}` is no sum")
    scattered = _scattered(op, variable, fields)
    (gathered,) = (name for name in fields if name != scattered)
    factors = _factors(op)
    through = [_first_fields(variable, value) for _, value in factors]
    extra = [variables_of(value) - {variable} for _, value in factors]
    shared: set[str] = set()
    for names, variables in zip(through, extra, strict=True):
        if names - {gathered}:
            shared |= variables
    # A product with a vector has rows of one number.
    is_vector = not any(extra)
    rows = [
        not names or (names == {gathered} and (is_vector or bool(variables - shared)))
        for names, variables in zip(through, extra, strict=True)
    ]
    if not any(row and names for row, names in zip(rows, through, strict=True)):
        raise NotServed(_no_rows(op, variable, factors, through, extra, gathered))
    own = [factor for factor, row in zip(factors, rows, strict=True) if not row]
    for _, value in own:
        shared |= variables_of(value) - {variable}
    order = [name for name, _ in op.variables.data if name in shared]
    taken = [factor for factor, row in zip(factors, rows, strict=True) if row]
    return Summed(scattered, gathered, tuple(own), tuple(taken), tuple(order))


def match_sampled(op: StatementOp, variable: str, fields: Sequence[str]) -> Sampled:
    """`op` as a product of rows for each element. Raises `NotServed`."""
    reduced = set(op.reduced)
    if op.kind.data != "add":
        raise NotServed(f"products of blocks are added up, and `{_SIGN[op.kind.data]}` is no sum")
    if not plain_left(op):
        raise NotServed("it writes elements in places that are no plain variables")
    factors = _factors(op)
    own = tuple(factor for factor in factors if not variables_of(factor[1]) & reduced)
    sides = tuple(factor for factor in factors if factor not in own)
    seen: set[str] = set()
    for _, value in sides:
        names = _first_fields(variable, value)
        if len(names) > 1 or not names <= set(fields):
            raise NotServed(
                f"its factor `{_text(op, value)}` depends on {_listed(op, variable, value)}, and a "
                f"factor of a block depends on {variable}.{fields[0]} or on {variable}.{fields[1]}"
            )
        seen |= names
    if seen != set(fields):
        missing = next(name for name in fields if name not in seen)
        raise NotServed(f"none of its factors is read at {variable}.{missing}")
    return Sampled(own, sides)


def own_type(factors: Sequence[Factor]) -> Attribute | None:
    """The type of the only factor before it is cast to a wider one; None if there are several."""
    if len(factors) != 1 or factors[0][0] != "mul":
        return None
    value = factors[0][1]
    op = inner_op(value)
    if isinstance(op, CastOp) and element_of(op.input.type).bits <= element_of(value.type).bits:
        return op.input.type
    return value.type


_SIGN = {"add": "+=", "mul": "*=", "max": "max=", "min": "min=", "assign": "="}


def _scattered(op: StatementOp, variable: str, fields: Sequence[str]) -> str:
    """The field that the left side adds at, or that it goes on from."""
    found = reduced_at(op, variable)
    if found is None or found not in fields:
        places = [index for index in op.access.data if variable in index.variables]
        where = " and ".join(map(str, places)) or "one place"
        raise NotServed(
            f"it adds up at {where}, and the format serves sums at {variable}.{fields[0]} and at "
            f"{variable}.{fields[1]}"
        )
    return found


def _factors(op: StatementOp) -> list[Factor]:
    """The factors of the body. Integers are not regrouped around a division."""
    factors = list(_factors_of(op.value))
    is_float = element_of(op.value.type).is_float
    if not is_float and any(operator == "div" for operator, _ in factors):
        return [("mul", op.value)]
    return factors


def _factors_of(value: SSAValue) -> Iterator[Factor]:
    """Factors and divisors of a tree of multiplications and divisions, from left to right."""
    op = inner_op(value)
    if isinstance(op, OPERATIONS["mul"]):
        yield from _factors_of(op.operands[0])
        yield from _factors_of(op.operands[1])
    elif isinstance(op, OPERATIONS["div"]):
        yield from _factors_of(op.operands[0])
        yield "div", op.operands[1]
    else:
        yield "mul", value


def _first_fields(variable: str, value: SSAValue) -> set[str]:
    """The fields through which a value depends on an element; `` if on the element itself."""
    return {path.fields[0] if path.fields else "" for path in paths_of(variable, value)}


def _no_rows(
    op: StatementOp,
    variable: str,
    factors: Sequence[Factor],
    through: Sequence[set[str]],
    extra: Sequence[set[str]],
    gathered: str,
) -> str:
    """Why no factor is a row of a tensor that many elements share."""
    wide = [
        v
        for (_, v), names, more in zip(factors, through, extra, strict=True)
        if names == {gathered} and more
    ]
    for (_, value), names, variables in zip(factors, through, extra, strict=True):
        if not (names - {gathered} and variables):
            continue
        listed = " and ".join(sorted(variables))
        if wide:
            return (
                f"its factor `{_text(op, value)}` differs from element to element and along "
                f"{listed}, and a place of a block holds one number for {listed}"
            )
        return (
            f"its factor `{_text(op, value)}` depends on {_listed(op, variable, value)}, and rows "
            f"of data are read at {variable}.{gathered}"
        )
    return f"no factor is a row of data that is read at {variable}.{gathered}"


def _text(op: StatementOp, value: SSAValue) -> str:
    func = op.parent_op()
    assert isinstance(func, FuncOp)
    return Notation(func).expression(value)


def _listed(op: StatementOp, variable: str, value: SSAValue) -> str:
    return " and ".join(sorted({str(path) for path in paths_of(variable, value)}))
