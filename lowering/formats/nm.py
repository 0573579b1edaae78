"""Rewrite statements over tensors in the format `nm(N, M)` into statements over what is kept.

Enters: a function of the graph level whose sizes are known, with parameters in that format.
Leaves: the same function over the parts of these, `ir/tensor_format.py` says which.

    C[m, n] += W[m, k] * X[k, n]          with W: f32[64, 32] as "nm(1, 4)"

becomes

    C[m, n] += where(W.values[m, k_group + k_kept] != 0,
                     W.values[m, k_group + k_kept] * X[4*k_group + k_place, n], 0)

where `k_place` is the code of the entry, taken from its bits in `W.codes`. Where a group keeps
fewer than N elements, the others are 0 and add nothing, whatever they would be multiplied with. A
statement that has a use for elements that are not kept cannot be served, and is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from xdsl.dialects.builtin import StringAttr, UnitAttr
from xdsl.ir import BlockArgument, Operation, SSAValue

from hectorite.dialects.graph import FuncOp, IndexOp, ReadOp, StatementOp
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ELEMENTS, element_of
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.tensor_format import CODES, VALUES, Nm
from hectorite.lowering.formats.format_use import unused
from hectorite.lowering.formats.parts import in_parts
from hectorite.lowering.graph.notation import Notation
from hectorite.lowering.graph.statement_body import (
    Body,
    operations_of,
    replace_statement,
    statements,
)

FINITE = "finite"
"""The attribute of a statement in which 0 times anything may be taken for 0."""

BYTE, CODE = (ELEMENTS[name].xdsl for name in ("u8", "i32"))


def format_of(value: SSAValue) -> Nm | None:
    """The format of a tensor, if it is of this family."""
    text = value.type.format if isinstance(value.type, TensorType) else None
    return Nm.of(text.data) if isinstance(text, StringAttr) else None


def apply_nm(function: FuncOp, finite: bool = False) -> None:
    """Rewrite a function in place; `finite` tells that 0 times anything may be taken for 0. Raises
    `HectoriteError` for a statement that has a use for elements that are not kept."""
    for argument in list(function.body.block.args):
        format = format_of(argument)
        if format is not None:
            _parameter(function, argument, format, finite)


def _parameter(function: FuncOp, argument: BlockArgument, format: Nm, finite: bool) -> None:
    """Put the parts of a parameter in its place."""
    notation = Notation(function)
    lines = {op: notation.line(op) or "" for op in statements(function)}
    type, name = cast(TensorType, argument.type), notation.names[argument]
    *outer, extent = type.dims
    if not isinstance(extent, int):
        raise fail(
            f"`{name}` cannot be stored as {format}: its last axis is the set `{extent}`",
            expected="a size, which is known when code is generated",
        )
    if element_of(type.element).kind == "sign":
        raise fail(f"`{name}` cannot be stored as {format}: i1 has no 0", hint="use i2")
    shapes = {
        VALUES: TensorType.of(type.element, (*outer, format.entries(extent))),
        CODES: TensorType.of(BYTE, (*outer, format.row_bytes(extent))),
    }

    def rewrite(user: StatementOp, parts: Sequence[SSAValue]) -> None:
        tensor = Kept(argument, parts[0], parts[1], format, name)
        _Rewriting(user, tensor, lines[user], finite).rewrite()

    hint = f"it is {format}: write a statement that sums over its last axis"
    in_parts(function, argument, name, shapes, rewrite, hint)


@dataclass(frozen=True)
class Kept:
    """A tensor in the format: the parameter, its parts, and what messages call it."""

    tensor: SSAValue
    values: SSAValue
    codes: SSAValue
    format: Nm
    name: str

    @property
    def extent(self) -> int:
        return cast(int, cast(TensorType, self.tensor.type).dims[-1])


@dataclass
class _Rewriting:
    """One statement over one tensor."""

    statement: StatementOp
    kept: Kept
    line: str
    finite: bool
    body: Body = field(default_factory=Body)

    def rewrite(self) -> None:
        """Replace the statement; raises `HectoriteError` if it cannot be served."""
        old, kept = self.statement, self.kept
        reads = [read for read in old.reads if read.tensor is kept.tensor]
        access, inner = self._accesses(reads)
        taken = {name for name, _ in old.variables.data}
        group, slot = (unused(f"{inner}_{what}", taken) for what in ("group", "kept"))
        variables: list[tuple[str, Dim]] = []
        for name, dim in old.variables.data:
            if name == inner:
                groups = kept.format.groups(kept.extent)
                variables += [(group, groups), (slot, kept.format.keep)]
            else:
                variables.append((name, dim))
        entry = IndexExpr.make((Term(kept.format.keep, Path(group)), Term(1, Path(slot))))
        value = self.body.read(kept.values, (*access, entry))
        place = decode(self.body, kept.codes, access, group, slot, kept.format)
        self._copy(inner, group, value, place)
        total = self.body.copied[old.value]
        if element_of(old.value.type).is_float:
            zero = self.body.constant(0, value.type)
            is_kept = self.body.apply("ne", value, zero)
            nothing = self.body.constant(0, old.value.type)
            total = self.body.apply("select", is_kept, total, nothing)
        parts = old.kind.data, old.access.data, variables, old.type, total, old.init
        new = self.body.statement(*parts, old.result.name_hint)
        if self.finite and element_of(old.value.type).is_float:
            new.attributes[FINITE] = UnitAttr()
        replace_statement(old, new)

    def _accesses(self, reads: Sequence[ReadOp]) -> tuple[tuple[IndexExpr, ...], str]:
        """Where the tensor is read without its last index, and the variable that this is."""
        old, kept = self.statement, self.kept
        access = reads[0].access.data
        if any(read.access.data != access for read in reads):
            raise self._refused("it stands there with different indices")
        inner = access[-1].variable
        if inner is None or any(inner in index.variables for index in access[:-1]):
            raise self._refused(f"its last index is `{access[-1]}`, not an index variable alone")
        if dict(old.variables.data)[inner] != kept.extent:
            raise self._refused(f"`{inner}` does not run over the whole of its last axis")
        if any(inner in index.variables for index in old.access.data):
            raise self._refused(
                f"`{inner}` stays on the left, where elements that are not kept have a place too"
            )
        if old.kind.data != "add":
            raise self._refused(f"`{old.kind.data}` over `{inner}` counts elements not kept, too")
        if not vanishes(old.value, kept.tensor):
            raise self._refused(f"where `{kept.name}` is 0, what is added need not be 0")
        return access[:-1], inner

    def _refused(self, why: str) -> Exception:
        return fail(
            f"`{self.kept.name}` is stored as {self.kept.format}, which cannot serve "
            f"`{self.line}`: {why}",
            expected=f"a sum over the last axis of `{self.kept.name}`, of which it is a factor",
            hint="take the format away from its type",
        )

    def _copy(self, inner: str, group: str, value: SSAValue, place: SSAValue) -> None:
        """Copy the body, `value` in the place of the tensor's elements."""
        name = unused(f"{inner}_place", {group, *dict(self.statement.variables.data)})
        start = Term(self.kept.format.group, Path(group))
        first, whole = IndexExpr.make((start,)), IndexExpr.make((start, Term(1, Path(name))))
        body = self.body

        def moved(by: IndexExpr) -> Callable[[IndexExpr], IndexExpr]:
            return lambda index: index.substitute(
                lambda path: (
                    by if path.variable == inner else IndexExpr.of(path.variable, *path.fields)
                )
            )

        for op in operations_of(self.statement.value):
            if isinstance(op, ReadOp) and op.tensor is self.kept.tensor:
                body.copied[op.result] = value
            elif isinstance(op, ReadOp) and any(inner in i.variables for i in op.access.data):
                if op.picked is not None:
                    raise self._refused("another tensor of the statement has the format, too")
                access = tuple(map(moved(whole), op.access.data))
                body.copied[op.result] = body.add(ReadOp(op.tensor, access, name, place))
            elif isinstance(op, IndexOp) and inner in op.index.data[0].variables:
                body.copied[op.result] = self._position(op, inner, moved(first), place)
            else:
                body.copy(op.results[0])

    def _position(
        self, op: IndexOp, inner: str, change: Callable[[IndexExpr], IndexExpr], place: SSAValue
    ) -> SSAValue:
        """The value of an index expression that the variable stands in."""
        index, body = op.index.data[0], self.body
        terms = [t for t in index.terms if t.path is not None and t.path.variable == inner]
        if index.division is not None or len(terms) != 1 or terms[0].sizes:
            raise self._refused(f"`{index}` is needed as a number")
        whole = body.add(IndexOp(change(index), op.result.type))
        more = body.cast(place, op.result.type)
        factor = body.constant(terms[0].coefficient, op.result.type)
        return body.apply("add", whole, body.apply("mul", more, factor))


def decode(
    body: Body, codes: SSAValue, access: Sequence[IndexExpr], group: str, slot: str, format: Nm
) -> SSAValue:
    """The code of an entry, an i32: from the byte it lies in, or the two, the bits from its own
    first one on."""
    bits = format.bits
    first = (Term(format.keep * bits, Path(group)), Term(bits, Path(slot)))

    def byte(more: int) -> SSAValue:
        place = IndexExpr.make(first, 8 * more, ("floordiv", 8))
        return body.cast(body.read(codes, (*access, place)), CODE)

    word = byte(0)
    if format.straddles:
        word = body.apply("add", word, body.apply("mul", byte(1), body.constant(256, CODE)))
    index = IndexExpr.make(first, 0, ("mod", 8))
    shifts = range(1, 8) if format.straddles else range(bits, 8, bits)
    at, shifted = body.add(IndexOp(index)), word
    for shift in shifts:
        here = body.apply("eq", at, body.constant(shift, CODE))
        down = body.apply("floordiv", word, body.constant(1 << shift, CODE))
        shifted = body.apply("select", here, down, shifted)
    return body.apply("mod", shifted, body.constant(1 << bits, CODE))


_OPERAND = ("neg", "abs", "relu", "sqrt", "sin", "tanh", "erf", "gelu", "silu", "floor", "ceil")
_FIRST = ("div", "floordiv", "mod", "leaky_relu")
_ALL = ("add", "sub", "min", "max", "or")


def vanishes(value: SSAValue, tensor: SSAValue) -> bool:
    """Whether a value of a statement's body is 0 (false) where the tensor's element is."""
    op = value.owner
    if not isinstance(op, Operation):
        return False
    if isinstance(op, ReadOp):
        return op.tensor is tensor
    if isinstance(op, CastOp):
        return element_of(value.type).kind != "sign" and vanishes(op.input, tensor)
    if isinstance(op, ConstantOp):
        return op.number == 0
    if not isinstance(op, ScalarOp):
        return False
    name, zero = op.FUNCTION.name, [vanishes(operand, tensor) for operand in op.operands]
    if name in ("mul", "and"):
        return any(zero)
    if name == "select":
        return zero[2] and (zero[0] or zero[1])
    if name in (*_OPERAND, "round", *_FIRST):
        return zero[0]
    if name == "ne":
        return all(zero)
    return name in _ALL and all(zero)
