"""Names and values in IR text that only the whole module can tell to be right.

Enters: a module that has been parsed and verified, operation by operation. Leaves: a diagnostic for
each set, field or launched kernel that is not declared, and the first operation that uses a value
before it is made. Programs of the language need no such check: their names are resolved before
there is a module.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, OpResult, SSAValue
from xdsl.irdl.dominance import strictly_dominates

from hectorite.dialects.graph import IndexOp, ReadOp, SoftmaxOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_program import LaunchOp, LayoutOp
from hectorite.ir.diagnostics import Diagnostic, Report, Source, did_you_mean
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema

Dim = int | str


def check_names(module: ModuleOp, source: Source) -> None:
    """Raises `HectoriteError` naming everything that is used and not declared."""
    checker = _Checker(schema_of(module), source)
    checker.declarations()
    if checker.report.has_errors:
        checker.report.raise_errors()
    kernels = {op.sym_name.data for op in module.ops if isinstance(op, KernelOp)}
    for op in module.walk():
        if isinstance(op, StatementOp):
            checker.paths(op.access.data, dict(op.variables.data))
            for inner in op.body.block.ops:
                if isinstance(inner, ReadOp):
                    picked = {} if inner.picked is None else {inner.picked.data: 0}
                    checker.paths(inner.access.data, dict(op.variables.data) | picked)
                elif isinstance(inner, IndexOp):
                    checker.paths(inner.index.data, dict(op.variables.data))
        elif isinstance(op, SoftmaxOp):
            checker.paths(op.keys.data, dict(op.variables.data))
        elif isinstance(op, LayoutOp):
            checker.layout(op)
        elif isinstance(op, LaunchOp):
            checker.known("kernel", op.kernel.root_reference.data, kernels)
    checker.report.raise_errors()


def used_too_early(module: ModuleOp) -> tuple[Operation, SSAValue] | None:
    """The first operation with an operand that is made further down, or where the operation cannot
    see it; xDSL's parser lets both pass."""
    for op in module.walk():
        for value in op.operands:
            if not _is_made(value, op):
                return op, value
    return None


def _is_made(value: SSAValue, user: Operation) -> bool:
    """Whether a value is there when `user` runs."""
    block = value.owner.parent_block() if isinstance(value, OpResult) else value.owner
    assert block is None or not isinstance(block, Operation)
    region = None if block is None else block.parent
    place: Operation | None = user
    while place is not None and place.parent_region() is not region:
        place = place.parent_op()
    at = None if place is None else place.parent_block()
    if block is None or place is None or at is None:
        return False
    if at is not block:
        return strictly_dominates(block, at)
    return not isinstance(value, OpResult) or value.owner.is_before_in_block(place)


class _Checker:
    """Collects what is not declared."""

    def __init__(self, schema: Schema, source: Source):
        self.schema = schema
        self.source = source
        self.report = Report()

    def known(self, what: str, name: str, names: Iterable[str]) -> bool:
        """Whether a name is among those declared; told if not."""
        names = list(names)
        if name not in names:
            listed = ", ".join(f"`{n}`" for n in names) or "none"
            self.report.add(
                Diagnostic(
                    f"there is no {what} `{name}`",
                    source=self.source,
                    expected=listed,
                    hint=did_you_mean(name, names),
                )
            )
        return name in names

    def declarations(self) -> None:
        """Fields lead to sets, and derived sets are made from sets."""
        sets = self.schema.sets
        for decl in sets.values():
            for _, target in decl.fields:
                if not target.isdecimal():
                    self.known("set", target, sets)
            derivation = decl.derivation
            if derivation is None:
                continue
            binders = dict(derivation.binders)
            if all(self.known("set", over, sets) for over in binders.values()):
                sides = [side for c in derivation.conditions for side in (c.left, c.right)]
                self.paths((*derivation.keys, *sides), dict(derivation.binders))

    def layout(self, op: LayoutOp) -> None:
        if self.known("set", op.of.data, self.schema.sets):
            path = () if op.path is None else op.path.data
            for expr in (*op.keys.data, *path):
                self.paths((expr,), dict.fromkeys(expr.variables, op.of.data))

    def paths(self, access: Iterable[IndexExpr], over: Mapping[str, Dim]) -> None:
        """Every path follows fields that are there."""
        for path in (path for expr in access for path in expr.paths):
            here: Dim | None = over.get(path.variable)
            if here is None:
                self.known("index variable", path.variable, over)
                continue
            for field in path.fields:
                if not isinstance(here, str) or not self.known("set", here, self.schema.sets):
                    break
                fields = self.schema.fields_of(here)
                if not self.known(f"field of `{here}` called", field, fields):
                    break
                here = fields[field]
