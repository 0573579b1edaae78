"""Rewrite statements over matrices in the format `bsr(h, w)` into statements over their blocks.

Enters: a module of the graph level whose sizes are known, with parameters in that format. Leaves:
the same over the blocks of these, and the declarations of the sets of blocks, which calls bring.

    C[m, n] += W[m, k] * X[k, n]          with W: f32[64, 32] as "bsr(16, 8)"

becomes

    C[16*b.row + r, n] += W.blocks[b, r, s] * X[8*b.column + s, n]

with b: f.W.block. Elements outside of the blocks add nothing, so a statement that has a use for
them cannot be served, and is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.ir import BlockArgument, SSAValue

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.dialects.graph_sets import SetOp
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.tensor_format import BLOCK, BLOCKS, COLUMNS, ROWS, Bsr
from hectorite.lowering.formats.format_use import unused
from hectorite.lowering.formats.nm import vanishes
from hectorite.lowering.formats.parts import in_parts
from hectorite.lowering.graph.notation import Notation
from hectorite.lowering.graph.statement_body import (
    Body,
    operations_of,
    replace_statement,
    statements,
)


def apply_bsr(module: ModuleOp, function: FuncOp) -> None:
    """Rewrite a function of a module in place. Raises `HectoriteError` for a statement that has a
    use for elements outside of the blocks."""
    for argument in list(function.body.block.args):
        text = argument.type.format if isinstance(argument.type, TensorType) else None
        format = Bsr.of(text.data) if isinstance(text, StringAttr) else None
        if format is not None:
            _parameter(module, function, argument, format)


def _parameter(module: ModuleOp, function: FuncOp, argument: BlockArgument, format: Bsr) -> None:
    """Put the blocks of a parameter in its place."""
    notation = Notation(function)
    lines = {op: notation.line(op) or "" for op in statements(function)}
    type, name = cast(TensorType, argument.type), notation.names[argument]
    fault = "it is no matrix of known sizes"
    if len(type.dims) == 2 and all(isinstance(dim, int) for dim in type.dims):
        fault = format.fault(*cast(tuple[int, int], type.dims))
    if element_of(type.element).kind == "sign":
        fault = "i1 has no 0"
    if fault is not None:
        raise fail(f"`{name}` cannot be stored as {format}: {fault}")
    owner = f"{function.sym_name.data}.{name}"
    rows, columns, block = (owner + suffix for suffix in (ROWS, COLUMNS, BLOCK))
    fields = {"row": rows, "column": columns}
    declared = [SetOp(rows), SetOp(columns), SetOp(block, fields)]
    for op in reversed(declared):
        first = module.body.block.first_op
        assert first is not None
        module.body.block.insert_op_before(op, first)
    part = TensorType.of(type.element, (block, format.height, format.width))

    def rewrite(user: StatementOp, parts: Sequence[SSAValue]) -> None:
        _Rewriting(user, _Kept(argument, parts[0], block, format, name), lines[user]).rewrite()

    hint = f"it is {format}: write a statement that sums over it"
    in_parts(function, argument, name, {BLOCKS: part}, rewrite, hint)


@dataclass(frozen=True)
class _Kept:
    """A matrix: the parameter, its blocks, their set, and what messages call it."""

    tensor: SSAValue
    blocks: SSAValue
    set: str
    format: Bsr
    name: str


@dataclass
class _Rewriting:
    """One statement over one matrix."""

    statement: StatementOp
    kept: _Kept
    line: str
    places: dict[str, IndexExpr] = field(default_factory=dict[str, IndexExpr])
    """What stands for its row and its column."""

    def rewrite(self) -> None:
        """Replace the statement; raises `HectoriteError` if it cannot be served."""
        old, kept, format = self.statement, self.kept, self.kept.format
        rows, columns = self._variables()
        taken = set(dict(old.variables.data))
        names: list[str] = []
        for wanted in (f"{rows}_block", f"{rows}_inside", f"{columns}_inside"):
            names.append(unused(wanted, taken))
            taken.add(names[-1])
        block, down, across = names
        for name, size, path, inside in (
            (rows, format.height, "row", down),
            (columns, format.width, "column", across),
        ):
            terms = Term(size, Path(block, (path,))), Term(1, Path(inside))
            self.places[name] = IndexExpr.make(terms)
        variables: list[tuple[str, Dim]] = []
        for name, dim in old.variables.data:
            if name == rows:
                variables += [(block, kept.set), (down, format.height)]
            else:
                variables.append((across, format.width) if name == columns else (name, dim))
        body = Body(self._moved)
        value = body.read(kept.blocks, tuple(map(IndexExpr.of, names)))
        for op in operations_of(old.value):
            if isinstance(op, ReadOp) and op.tensor is kept.tensor:
                body.copied[op.result] = value
        total = body.copy(old.value)
        access = tuple(map(self._moved, old.access.data))
        parts = old.kind.data, access, variables, old.type, total, old.init
        replace_statement(old, body.statement(*parts, old.result.name_hint))

    def _moved(self, index: IndexExpr) -> IndexExpr:
        def place(path: Path) -> IndexExpr:
            there = None if path.fields else self.places.get(path.variable)
            return IndexExpr.of(path.variable, *path.fields) if there is None else there

        return index.substitute(place)

    def _variables(self) -> tuple[str, str]:
        """The variables of the matrix's rows and columns."""
        old, kept = self.statement, self.kept
        reads = [read for read in old.reads if read.tensor is kept.tensor]
        access = reads[0].access.data
        names = [index.variable for index in access]
        if any(read.access.data != access for read in reads):
            raise self._refused("it stands there with different indices")
        if None in names or names[0] == names[1]:
            raise self._refused("its indices are not two index variables")
        rows, columns = (str(name) for name in names)
        dims = dict(old.variables.data)
        if (dims[rows], dims[columns]) != cast(TensorType, kept.tensor.type).dims:
            raise self._refused("its indices do not run over the whole of it")
        if old.kind.data != "add":
            raise self._refused(f"`{old.kind.data}` counts elements outside of its blocks, too")
        if not vanishes(old.value, kept.tensor):
            raise self._refused(f"where `{kept.name}` is 0, what is added need not be 0")
        return rows, columns

    def _refused(self, why: str) -> Exception:
        return fail(
            f"`{self.kept.name}` is stored as {self.kept.format}, which cannot serve "
            f"`{self.line}`: {why}",
            expected=f"a sum, of which `{self.kept.name}` is a factor",
            hint="take the format away from its type",
        )
