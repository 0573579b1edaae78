"""`permute`: sums over a set with the rows of its elements in another order.

Enters: a function, and a set in such a format. Leaves: the function, where sums over the set are
over its elements in that order. What they read or write by the row is read or written in the order
of the rows, so that a format of the elements, which may follow, finds its rows where they stand.

    y[e.dst, o] += a[e] * x[e.src, o]                  e: edge as permute(dst).by(degree)

becomes

    y_rows[e.dst, o] += a[e.elem] * x[e.src, o]                       e: edge_element
    y[n, o] = y_rows[n.place, o]

and a product for each element, `s[e] += q[e.dst, i] * x[e.src, i]`,

    q_rows[n, i] = q[n.elem, i]                                       n: edge_rows
    s_rows[e] += q_rows[e.dst, i] * x[e.src, i]
    s[e] = s_rows[e.place]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.space import AccessAttr, Dim, TensorType
from hectorite.lowering.formats.format_use import FormatUse, Outcome, gives, over_set, place_of
from hectorite.lowering.graph.statement_body import Body, hint, replace_statement, statements


def serve_permuted(func: FuncOp, use: FormatUse) -> Outcome:
    """Rewrite one function in place."""
    writer, outcome = _Writer(use), Outcome()
    for op in statements(func):
        variable = over_set(op, use.over)
        if variable is None:
            continue
        place = place_of(op, variable)
        if place is None and op.kind.data != "assign":
            writer.summed(op, variable)
        elif place is not None and op.reduced:
            writer.sampled(op, variable, place)
        else:
            continue
        outcome.served += 1
    return outcome


@dataclass
class _Writer:
    """Writes the statements over elements in the order of their rows."""

    use: FormatUse
    permuted: dict[tuple[SSAValue, tuple[int, ...]], SSAValue] = field(
        default_factory=dict[tuple[SSAValue, tuple[int, ...]], SSAValue]
    )
    """Tensors with some of their dimensions in the order of the rows."""

    def __post_init__(self) -> None:
        rows, element = self.use.part("rows"), self.use.part("element")
        self.row = self.use.format.fields[0]
        self.rows, self.element = rows.name, element.name
        self.row_elem, self.elem = rows.fields[0][0], element.fields[-1][0]
        (self.row_place,), (self.place,) = gives(rows), gives(element)

    def summed(self, op: StatementOp, variable: str) -> None:
        """A sum that the elements of the set scatter."""
        at = self.by_row(op.access.data, variable)
        made: list[Operation] = []
        init = op.init if op.init is None or not at else self.in_order(op.init, at, made)
        type = op.type if not at else _with_dims(op.type, at, self.rows)
        value = self._value(op, variable, made)
        left = [
            IndexExpr.of(variable, self.row) if i in at else self.follow(variable, index)
            for i, index in enumerate(op.access.data)
        ]
        name = hint(op.result, "rows") if at else None
        variables = self._variables(op, variable)
        made.append(
            value.body.statement(op.kind.data, left, variables, type, value.value, init, name)
        )
        if at:
            made.append(_gathered(made[-1].results[0], op.type, at, self.row_place))
        replace_statement(op, *made)

    def sampled(self, op: StatementOp, variable: str, place: int) -> None:
        """A sum for each element of the set."""
        made: list[Operation] = []
        init = None
        if op.init is not None:
            made.append(
                _gathered(op.init, _with_dims(op.type, (place,), self.element), (place,), self.elem)
            )
            init = made[-1].results[0]
        value = self._value(op, variable, made)
        type = _with_dims(op.type, (place,), self.element)
        variables, name = self._variables(op, variable), hint(op.result, "rows")
        made.append(
            value.body.statement(
                op.kind.data, op.access.data, variables, type, value.value, init, name
            )
        )
        made.append(_gathered(made[-1].results[0], op.type, (place,), self.place))
        replace_statement(op, *made)

    def _value(self, op: StatementOp, variable: str, made: list[Operation]) -> _Value:
        body = _ElementBody(self, variable, made)
        return _Value(body, body.copy(op.value))

    def _variables(self, op: StatementOp, variable: str) -> list[tuple[str, Dim]]:
        return [
            (name, self.element if name == variable else dim) for name, dim in op.variables.data
        ]

    def by_row(self, access: Sequence[IndexExpr], variable: str) -> tuple[int, ...]:
        """The dimensions that are accessed at the row of an element."""
        row = IndexExpr.of(variable, self.row)
        return tuple(i for i, index in enumerate(access) if index == row)

    def follow(self, variable: str, index: IndexExpr) -> IndexExpr:
        """An index over elements as they were given, as it is in their new order."""

        def along(path: Path) -> IndexExpr:
            if path.variable != variable:
                return IndexExpr.of(path.variable, *path.fields)
            first, *rest = path.fields or ("",)
            if first == self.row:
                return IndexExpr.of(variable, first, self.row_elem, *rest)
            if first in self.use.fields:
                return IndexExpr.of(variable, *path.fields)
            return IndexExpr.of(variable, self.elem, *path.fields)

        return index.substitute(along)

    def in_order(self, tensor: SSAValue, at: tuple[int, ...], made: list[Operation]) -> SSAValue:
        """A tensor with the dimensions `at` in the order of the rows."""
        known = self.permuted.get((tensor, at))
        if known is None:
            type = tensor.type
            assert isinstance(type, TensorType)
            made.append(_gathered(tensor, _with_dims(type, at, self.rows), at, self.row_elem))
            known = made[-1].results[0]
            known.name_hint = hint(tensor, "rows")
            self.permuted[tensor, at] = known
        return known


@dataclass(frozen=True)
class _Value:
    """What a statement yields, in a body of its own."""

    body: Body
    value: SSAValue


class _ElementBody(Body):
    """Copies a body for elements in the order of their rows."""

    def __init__(self, writer: _Writer, variable: str, made: list[Operation]):
        super().__init__(lambda index: writer.follow(variable, index))
        self.writer, self.variable, self.made = writer, variable, made

    def _copied(self, op: Operation) -> Operation:
        new = super()._copied(op)
        at = self.writer.by_row(op.access.data, self.variable) if isinstance(op, ReadOp) else ()
        if not at or not isinstance(op, ReadOp):
            return new
        row = IndexExpr.of(self.variable, self.writer.row)
        access = [row if i in at else self.change(index) for i, index in enumerate(op.access.data)]
        new.operands[0] = self.writer.in_order(op.tensor, at, self.made)
        new.properties["access"] = AccessAttr(tuple(access))
        return new


def _with_dims(type: TensorType, at: Sequence[int], name: str) -> TensorType:
    dims = [name if i in at else dim for i, dim in enumerate(type.dims)]
    return TensorType.of(type.element, dims, type.pad_value)


def _gathered(tensor: SSAValue, type: TensorType, at: Sequence[int], field: str) -> StatementOp:
    """A tensor of another type, the dimensions `at` read through a map."""
    body = Body()
    names = [f"d{i}" for i in range(len(type.dims))]
    access = [IndexExpr.of(n, field) if i in at else IndexExpr.of(n) for i, n in enumerate(names)]
    value = body.read(tensor, access)
    pairs = list(zip(names, type.dims, strict=True))
    return body.statement("assign", [IndexExpr.of(n) for n in names], pairs, type, value)
