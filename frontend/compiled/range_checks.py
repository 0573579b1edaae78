"""Accesses that might leave their tensors, found once and checked before anything runs.

Enters: a function of the graph level. Leaves: a `Check` for each index expression that its sets do
not already keep in range, and on bound data an error for the first place where one leaves its
tensor. Binding checks the values of maps, so paths need no check; sums such as `2*y + r - 1` do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hectorite.backends.access import check_access
from hectorite.backends.bound.binding import Binding
from hectorite.ir.diagnostics import Diagnostic, Report
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema

if TYPE_CHECKING:
    from hectorite.dialects.graph import FuncOp, ReadOp

Dim = int | str


@dataclass(frozen=True)
class Check:
    """`index` must stay below the extent `dim`, dimension number `axis` of `tensor`, for every
    assignment of `variables`. `verb` is "read" or "written"."""

    tensor: str
    verb: str
    axis: int
    index: IndexExpr
    variables: tuple[tuple[str, Dim], ...]
    dim: Dim

    def with_sizes(self, sizes: Mapping[str, int]) -> Check:
        """The same for known sizes."""
        variables = tuple((name, _known(over, sizes)) for name, over in self.variables)
        index, dim = self.index.with_sizes(sizes), _known(self.dim, sizes)
        return replace(self, index=index, variables=variables, dim=dim)


def find_checks(func: FuncOp, schema: Schema) -> tuple[Check, ...]:
    """The accesses of a function that only bound data can tell to be in range."""
    from hectorite.dialects.graph import StatementOp

    found: dict[Check, None] = {}
    for op in func.body.block.ops:
        if isinstance(op, StatementOp):
            found |= dict.fromkeys(_of_statement(op, schema))
    return tuple(found)


def _of_statement(op: object, schema: Schema) -> Iterable[Check]:
    from hectorite.dialects.graph import StatementOp

    assert isinstance(op, StatementOp)
    own = op.variables.data
    accesses = [("written", op.result.name_hint, op.type, op.access.data, own)]
    for read in op.reads:
        variables = (*own, *_picked(read))
        accesses.append(("read", read.tensor.name_hint, read.type, read.access.data, variables))
    for verb, hint, type, access, variables in accesses:
        if type.pad_value is not None:
            continue
        name = hint or "a tensor"
        for axis, (index, dim) in enumerate(zip(access, type.dims, strict=True)):
            if not _stays_inside(index, dict(variables), dim, schema):
                used = tuple((n, over) for n, over in variables if n in index.variables)
                yield Check(name, verb, axis, index, used, dim)


def _picked(read: ReadOp) -> Iterable[tuple[str, Dim]]:
    """What a read picks, as a variable: its values are below what it is the remainder by, else any
    index."""
    from hectorite.ir.scalar import OPERATIONS, ConstantOp

    if read.picked is None or read.pick is None:
        return
    maker, extent = read.pick.owner, 1 << 31
    if isinstance(maker, OPERATIONS["mod"]) and isinstance(maker.operands[1].owner, ConstantOp):
        extent = int(maker.operands[1].owner.number)
    yield read.picked.data, extent


def _stays_inside(index: IndexExpr, over: Mapping[str, Dim], dim: Dim, schema: Schema) -> bool:
    """Whether the declarations alone keep an access in range."""
    path = index.path
    if path is None:
        return False
    start = over[path.variable]
    if path.fields:
        return isinstance(start, str) and schema.follow(start, path.fields) == str(dim)
    if isinstance(start, int) and isinstance(dim, int):
        return start <= dim
    return start == dim


def run_checks(checks: Sequence[Check], binding: Binding, sizes: Mapping[str, int]) -> None:
    """Raises `HectoriteError` naming every access that leaves its tensor."""
    report = Report()
    for check in (check.with_sizes(sizes) for check in checks):
        limit = check.dim if isinstance(check.dim, int) else binding.size(check.dim)
        violation = check_access(binding, check.index, dict(check.variables), limit)
        if violation is not None:
            may_be = "is" if violation.exact else "may be"
            report.add(
                Diagnostic(
                    f"`{check.tensor}` is {check.verb} out of range: "
                    f"{_text(check.index)} {may_be} {violation}",
                    expected=f"0 to {limit - 1} in dimension {check.axis}"
                    if limit
                    else f"no access at all, as dimension {check.axis} is empty",
                    hint="declare it `pad 0` to let accesses out of range "
                    + ("read that" if check.verb == "read" else "be dropped"),
                )
            )
    report.raise_errors()


def _text(index: IndexExpr) -> str:
    """An index expression as the language spells it."""
    return str(index).replace("@", "").replace(" floordiv ", " // ").replace(" mod ", " % ")


def _known(over: Dim, sizes: Mapping[str, int]) -> Dim:
    return sizes.get(over, over) if isinstance(over, str) else over
