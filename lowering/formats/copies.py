"""Formats whose positions are elements in another order, with or without padding: csr, csc, jagged,
ell, hyb and those of kernel maps.

Enters: a function, and a set in such a format. Leaves: the function, where sums over the set, and
tensors over it that they take, are over its position sets.

    y[e.dst, o] += a[e] * x[e.src, o]                           e: edge as ell(dst)

becomes

    y[e.dst, o] += where(e.full == 1, a[e.elem] * x[e.src, o], 0)    e: edge_slot

A position of padding repeats some element, and its value is replaced by the identity of the
statement, whatever the body makes of it. On a CPU a scattered product (`match/scattered.py`) stays
with the elements where there is padding, which it would multiply for nothing. Where a format has
several position sets, as hyb has one for each width, a statement becomes one for each, each going
on from the last. A tensor over the set that such a statement reads is made in the order of
positions as well, so that softmax over the edges of a node stays one kernel; its elements in their
own order are gathered from there if anything asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import FuncOp, IndexOp, ReadOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.space import AccessAttr, TensorType
from hectorite.lowering.formats.format_use import (
    FormatUse,
    Outcome,
    gives,
    over_set,
    place_of,
    readers,
)
from hectorite.lowering.graph.statement_body import (
    Body,
    hint,
    plain_left,
    replace_statement,
    statements,
    temporary,
)
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.scattered import scattered_product


@dataclass(frozen=True)
class Copy:
    """A position set whose positions stand for elements: its map back to them, and the map that is
    1 where there is one, if the set has padding."""

    name: str
    elem: str
    full: str | None
    fields: tuple[str, ...]


def serve_copies(func: FuncOp, use: FormatUse) -> Outcome:
    """Rewrite one function in place."""
    copies = [_copy_of(use, decl.name) for decl in use.parts if _is_copy(decl.fields, use)]
    writer = _Writer(use, copies)
    todo = statements(func)
    padded = any(copy.full is not None for copy in copies)
    moved = _moved(todo, use.over)
    for op in todo:
        variable = over_set(op, use.over)
        if padded and _is_scattered(op, use):
            continue
        if variable is not None and op in moved:
            writer.outcome.served += 1
            place = place_of(op, variable)
            if place is None:
                writer.reduce(op, variable)
            else:
                writer.move(op, variable, place)
    return writer.outcome


def _is_copy(fields: Sequence[tuple[str, str]], use: FormatUse) -> bool:
    """Whether a part has the maps of the set; the others serve to find their way."""
    return tuple(name for name, _ in fields)[: len(use.fields)] == use.fields


def _copy_of(use: FormatUse, name: str) -> Copy:
    count = len(use.fields)
    own = [field for field, _ in use.schema.sets[name].fields]
    return Copy(name, own[count], own[count + 1] if len(own) > count + 1 else None, use.fields)


def _moved(todo: Sequence[StatementOp], over: str) -> set[StatementOp]:
    """The statements that are computed over positions: those that reduce over the set, those that
    gather and reduce for each element, and those that make what one of these reads for its own
    element."""
    moved: set[StatementOp] = set()
    for op in reversed(todo):
        variable = over_set(op, over)
        if variable is None:
            continue
        place = place_of(op, variable)
        if place is None:
            if op.kind.data != "assign":
                moved.add(op)
        elif op.reduced or any(
            _takes(user, read, place, moved, over) for user, read in readers(op)
        ):
            moved.add(op)
    return moved


def _is_scattered(op: StatementOp, use: FormatUse) -> bool:
    """Whether a CPU multiplies a statement where it is summed, block by block of target rows."""
    return not use.tensor_cores and scattered_product(op, use.schema, Machine.cpu()) is not None


def _takes(user: StatementOp, read: ReadOp, place: int, moved: set[StatementOp], over: str) -> bool:
    return user in moved and read.access.data[place].variable == over_set(user, over)


@dataclass
class _Writer:
    """Writes the statements over positions."""

    use: FormatUse
    copies: list[Copy]
    outcome: Outcome = field(default_factory=Outcome)
    versions: dict[SSAValue, tuple[int, list[SSAValue]]] = field(
        default_factory=dict[SSAValue, tuple[int, list[SSAValue]]]
    )
    """Tensors over the set that exist in the order of positions, one for each copy, and which of
    their dimensions is the set."""

    def reduce(self, op: StatementOp, variable: str) -> None:
        """A statement that reduces over the set, as one for each copy."""
        made: list[StatementOp] = []
        init = op.init
        for number, copy in enumerate(self.copies):
            change = _along(copy, variable)
            body = _PositionBody(change, self._reads(number, variable))
            value = _masked(body, body.copy(op.value), copy, variable, op.kind.data)
            left = tuple(map(change, op.access.data))
            name = hint(op.result, f"part{number}") if number + 1 < len(self.copies) else None
            variables = _with(op, variable, copy)
            made.append(
                body.statement(op.kind.data, left, variables, op.type, value, init, name=name)
            )
            init = made[-1].result
        replace_statement(op, *made)

    def move(self, op: StatementOp, variable: str, place: int) -> None:
        """A tensor over the set, as one for each copy, and the tensor itself from these."""
        made: list[Operation] = []
        own: list[SSAValue] = []
        for number, copy in enumerate(self.copies):
            type = _of_positions(op.type, place, copy)
            init = None
            if op.init is not None:
                init = self._start(op.init, number, copy, place, made)
            change = _along(copy, variable)
            body = _PositionBody(change, self._reads(number, variable))
            value = body.copy(op.value)
            suffix = self.use.format.kind + (str(number) if len(self.copies) > 1 else "")
            made.append(
                body.statement(
                    op.kind.data,
                    op.access.data,
                    _with(op, variable, copy),
                    type,
                    value,
                    init,
                    name=hint(op.result, suffix),
                )
            )
            own.append(made[-1].results[0])
        made += self._back(op, place, own)
        result = made[-1].results[0]
        replace_statement(op, *made)
        self.versions[result] = place, own

    def _start(
        self, init: SSAValue, number: int, copy: Copy, place: int, made: list[Operation]
    ) -> SSAValue:
        """What a statement goes on from, in the order of positions."""
        if init in self.versions and self.versions[init][0] == place:
            return self.versions[init][1][number]
        type = init.type
        assert isinstance(type, TensorType)
        names = [f"d{i}" for i in range(len(type.dims))]
        moved = _of_positions(type, place, copy)
        access = [IndexExpr.of(name) for name in names]
        source = list(access)
        source[place] = IndexExpr.of(names[place], copy.elem)
        body = Body()
        value = body.read(init, source)
        pairs = list(zip(names, moved.dims, strict=True))
        made.append(body.statement("assign", access, pairs, moved, value))
        made[-1].results[0].name_hint = hint(init, "start")
        return made[-1].results[0]

    def _back(self, op: StatementOp, place: int, own: Sequence[SSAValue]) -> list[StatementOp]:
        """The tensor in its own order: gathered if there is a map to positions, else scattered."""
        names = [f"d{i}" for i in range(len(op.type.dims))]
        if plain_left(op):
            names = [str(index.variable) for index in op.access.data]
        access = [IndexExpr.of(name) for name in names]
        positions = gives(self.use.schema.sets[self.copies[0].name])
        if positions:
            body = Body()
            source = list(access)
            source[place] = IndexExpr.of(names[place], positions[0])
            value = body.read(own[0], source)
            pairs = list(zip(names, op.type.dims, strict=True))
            return [body.statement("assign", access, pairs, op.type, value)]
        made: list[StatementOp] = []
        init: SSAValue | None = None
        kind = "max" if element_of(op.type.element).kind in ("bool", "sign") else "add"
        for copy, source in zip(self.copies, own, strict=True):
            body = Body()
            value = _masked(body, body.read(source, access), copy, names[place], kind)
            left = tuple(map(_along(copy, names[place]), access))
            pairs = list(zip(names, _of_positions(op.type, place, copy).dims, strict=True))
            name = hint(op.result, "placed")
            made.append(body.statement(kind, left, pairs, op.type, value, init, name=name))
            init = made[-1].result
        made[-1].result.name_hint = None
        return made

    def _reads(self, number: int, variable: str) -> Callable[[ReadOp], SSAValue | None]:
        """The tensor to read instead, where one is there for positions."""

        def version(read: ReadOp) -> SSAValue | None:
            place, own = self.versions.get(read.tensor, (0, []))
            if own and read.access.data[place].variable == variable:
                return own[number]
            return None

        return version


class _PositionBody(Body):
    """Copies a body, taking tensors in the order of positions where they are there."""

    def __init__(
        self,
        change: Callable[[IndexExpr], IndexExpr],
        version: Callable[[ReadOp], SSAValue | None],
    ):
        super().__init__(change)
        self.version = version

    def _copied(self, op: Operation) -> Operation:
        new = super()._copied(op)
        tensor = self.version(op) if isinstance(op, ReadOp) else None
        if tensor is None or not isinstance(op, ReadOp):
            return new
        at = tensor.type
        assert isinstance(at, TensorType)
        # The index that is the element itself now is the position.
        access = [
            index if dim != old and index.variable is not None else self.change(index)
            for index, dim, old in zip(op.access.data, at.dims, op.type.dims, strict=True)
        ]
        new.operands[0] = tensor
        new.properties["access"] = AccessAttr(tuple(access))
        return new


def _along(copy: Copy, variable: str) -> Callable[[IndexExpr], IndexExpr]:
    """Index expressions over elements, as they are over positions."""

    def follow(path: Path) -> IndexExpr:
        if path.variable != variable or path.fields and path.fields[0] in copy.fields:
            return IndexExpr.of(path.variable, *path.fields)
        return IndexExpr.of(variable, copy.elem, *path.fields)

    return lambda index: index.substitute(follow)


def _with(op: StatementOp, variable: str, copy: Copy) -> list[tuple[str, int | str]]:
    return [(name, copy.name if name == variable else dim) for name, dim in op.variables.data]


def _of_positions(type: TensorType, place: int, copy: Copy) -> TensorType:
    dims = list(type.dims)
    dims[place] = copy.name
    return temporary(type.element, dims)


def _masked(body: Body, value: SSAValue, copy: Copy, variable: str, kind: str) -> SSAValue:
    """A value, the identity at padding."""
    if copy.full is None:
        return value
    full = body.add(IndexOp(IndexExpr.of(variable, copy.full)))
    is_full = body.apply("eq", full, body.constant(1, IntegerType(32)))
    return body.apply(
        "select", is_full, value, body.constant(element_of(value.type).identity(kind), value.type)
    )
