"""Formats that lay elements out in dense blocks: sgt, whose windows of rows keep the columns that
occur in them side by side, and bsr.

Enters: a function, and a set in such a format, of a sparse matrix with a row and a column for each
element. Leaves: the function, where products by rows or columns of the matrix are products of
blocks.

    y[e.dst, o] += a[e] * x[e.src, o]                        e: edge as sgt(dst, src, 16, 8)

becomes, k being the columns of windows,

    y_blocks[e.column, e.lane] += a[e]
    y[16*k.window + r, o] += y_blocks[k, r] * x[k.src, o]

and a product for each element, `s[e] += a[e] * q[e.dst, i] * x[e.src, i]`,

    q_windows[w, r, i] = q[16*w + r, i]                      0 past the end
    s_blocks[k, r] += q_windows[k.window, r, i] * x[k.src, i]
    s[e] = s_blocks[e.column, e.lane] * a[e]

What goes on from a row, as `y[e.dst.group, o] +=`, is added up by row first (`chains.py`), and what
is read so, as `q[e.dst.type, i]`, becomes a tensor by rows.

Places of a block without an element are 0, and the rows that the last window has too many are
dropped. So a sum takes in products with zero, and its terms are in another order; with
`reassociate=false` that is refused. Statements that multiply no rows of data, such as softmax over
the edges of a node, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import FunctionType, StringAttr
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.rewriter import Rewriter

from hectorite.dialects.graph import FuncOp, ReadOp, ReturnOp, StatementOp
from hectorite.ir.element import ELEMENTS, element_of
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.space import AccessAttr, Dim, TensorType
from hectorite.lowering.formats.block_factors import (
    Factor,
    NotServed,
    Sampled,
    Summed,
    match_sampled,
    match_summed,
    own_type,
)
from hectorite.lowering.formats.chains import by_row, goes_on
from hectorite.lowering.formats.format_use import (
    FormatUse,
    Outcome,
    extent,
    gives,
    over_set,
    place_of,
    unused,
)
from hectorite.lowering.graph.statement_body import (
    Body,
    hint,
    replace_statement,
    statements,
    temporary,
)

_TF32 = ELEMENTS["tf32"].xdsl
_F32 = ELEMENTS["f32"].xdsl

Pairs = list[tuple[str, Dim]]
Chains = dict[int, tuple[str, ...]]


def serve_blocks(func: FuncOp, use: FormatUse) -> Outcome:
    """Rewrite one function in place."""
    writer = _Writer(func, _grid_of(use), use.tensor_cores)
    outcome = Outcome()
    for op in statements(func):
        variable = over_set(op, use.over)
        place = None if variable is None else place_of(op, variable)
        # What makes each element by itself, or writes each place once, is no product.
        if variable is None or not (op.reduced if place is not None else op.kind.data != "assign"):
            continue
        try:
            if place is None:
                found = match_summed(op, variable, use.format.fields)
                at = by_row(op, variable, use.schema) if goes_on(op, variable) else op
                found = found if at is op else match_summed(at, variable, use.format.fields)
                writer.summed(at, variable, found)
            else:
                writer.sampled(op, variable, match_sampled(op, variable, use.format.fields))
            outcome.served += 1
        except NotServed as reason:
            outcome.refused.append((op, str(reason)))
    return outcome


@dataclass(frozen=True)
class _Side:
    """Where the places of blocks stand in one field of the matrix: at the map `field` of a block,
    which leads to `target`; if `extent` is not None, so many for each of these."""

    field: str
    target: str
    extent: int | None = None
    number: int = 0
    """Which variable of a block counts them."""
    of: Dim | None = None
    """What is cut into blocks, if anything is."""

    def index(self, block: str, within: Sequence[str]) -> IndexExpr:
        """The index, from the variable of blocks and those of a block. It may be past the end,
        unless it is a path."""
        if self.extent is None:
            return IndexExpr.of(block, self.field)
        own = Term(1, Path(within[self.number]))
        return IndexExpr.make([Term(self.extent, Path(block, (self.field,))), own])

    def cut(self, block: str, within: Sequence[str]) -> tuple[IndexExpr, IndexExpr]:
        """The same as two indices: which part of the target, and what is left."""
        return IndexExpr.of(block, self.field), IndexExpr.of(within[self.number])


@dataclass(frozen=True)
class _Grid:
    """Where elements lie, each in a place of its own: the set of blocks (of columns, for sgt), and
    the maps of elements into it and into a block."""

    blocks: str
    cell: tuple[str, ...]
    within: tuple[int, ...]
    """Extents of a block."""
    sides: dict[str, _Side]
    """By field of the matrix."""


def _grid_of(use: FormatUse) -> _Grid:
    row, col = use.format.fields
    height, width = use.format.numbers
    decl = use.parts[-1]
    down, across = decl.fields
    of = {field: extent(use.schema.fields_of(use.over)[field]) for field in (row, col)}
    sides = {row: _Side(*down, height, 0, of[row]), col: _Side(*across, width, 1, of[col])}
    if use.format.kind == "bsr":
        return _Grid(decl.name, gives(decl), (height, width), sides)
    return _Grid(decl.name, gives(decl), (height,), sides | {col: _Side(*across)})


@dataclass(frozen=True)
class _Target:
    """What a sum by blocks is written to: the access, the type, and how an access to the result of
    the statement is one to that, None if it is that result."""

    left: list[IndexExpr]
    type: TensorType
    back: Callable[[list[IndexExpr]], list[IndexExpr]] | None = None


@dataclass
class _Writer:
    """Writes the statements over blocks of one function."""

    func: FuncOp
    grid: _Grid
    tensor_cores: bool
    copies: dict[tuple[SSAValue, tuple[object, ...]], SSAValue] = field(
        default_factory=dict[tuple[SSAValue, tuple[object, ...]], SSAValue]
    )
    """Copies of tensors that are read where blocks are, by the tensor and what is done to it."""

    def summed(self, op: StatementOp, variable: str, found: Summed) -> None:
        """`C[z.row, j] += a(z) * B[z.col, j]`."""
        block, within = self._variables(op)
        shared = [pair for pair in op.variables.data if pair[0] in found.shared]
        dense = [
            pair
            for pair in op.variables.data
            if pair[0] not in found.shared and pair[0] != variable
        ]
        own = [within[number] for number in self._inner_order(found)]
        places = [IndexExpr.of(name) for name in (block, *own, *(n for n, _ in shared))]
        extents = list(zip(within, self.grid.within, strict=True))
        target = self._target(op, variable, found, block, within)
        cells = self._cells(op, variable, found, shared)
        pieces = self._pieces(op, found, cells)
        init = op.init if target.back is None and target.type == op.type else None
        made: list[StatementOp] = []
        for number, piece in enumerate(pieces):
            body = _BlockBody(self, op, variable, block, within)
            value = body.cast(body.read(piece.result, places), op.value.type)
            for operator, factor in found.rows:
                value = body.apply(operator, value, body.copy(factor))
            pairs: Pairs = [(block, self.grid.blocks), *extents, *shared, *dense]
            name = hint(op.result, f"piece{number}") if number + 1 < len(pieces) else None
            made.append(
                body.statement("add", target.left, pairs, target.type, value, init, name=name)
            )
            init = made[-1].result
        for earlier in dict.fromkeys((cells, *pieces)):
            _insert_before(op, earlier)
        self._replace(op, made, target)

    def _target(
        self, op: StatementOp, variable: str, found: Summed, block: str, within: Sequence[str]
    ) -> _Target:
        """Where a sum is written: to the result, where it can be added up for one map of the blocks
        or as a segment product; else to a tensor with the places of blocks side by side."""
        side = self.grid.sides[found.scattered]
        left = [self.follow(variable, block, within)(index) for index in op.access.data]
        if side.extent is None:
            return _Target(left, op.type)
        if self._is_segment_product(op, variable, found):
            type = op.type if op.type.pad_value is not None else _padded(op.type)
            return _Target(left, type)
        at = next(i for i, index in enumerate(op.access.data) if variable in index.variables)
        extent, dims = side.extent, list(op.type.dims)
        left[at : at + 1] = side.cut(block, within)
        dims[at : at + 1] = [side.target, extent]
        element = op.type.element if op.init is None else op.value.type

        def back(access: list[IndexExpr]) -> list[IndexExpr]:
            terms = access[at].terms
            places = [IndexExpr.make(terms, 0, (how, extent)) for how in ("floordiv", "mod")]
            return [*access[:at], *places, *access[at + 1 :]]

        return _Target(left, temporary(element, dims), back)

    def _is_segment_product(self, op: StatementOp, variable: str, found: Summed) -> bool:
        """Whether the blocks are added up by windows as one product (`match_segment`): every
        variable stands on the left, and the rows of data are long enough."""
        names = [i.variable for i in op.access.data if variable not in i.variables]
        dims = dict(op.variables.data)
        extents = [dims[name] for name in names if name is not None]
        height = self.grid.sides[found.scattered].extent
        if height is None or height < 2 or {*names, variable} != set(dims):
            return False
        dense = [dims[name] for name in names if name is not None and name not in found.shared]
        long = [n for n in dense if isinstance(n, int) and n >= max(4, 64 // height)]
        is_wide = element_of(op.value.type).is_float or element_of(op.value.type).bits >= 32
        return is_wide and bool(long) and all(isinstance(n, int) for n in extents)

    def sampled(self, op: StatementOp, variable: str, found: Sampled) -> None:
        """`S[z] += a(z) * P[z.row, i] * Q[z.col, i]`."""
        block, within = self._variables(op)
        heads: Pairs = [
            pair for pair in op.variables.data if pair[0] != variable and pair[0] not in op.reduced
        ]
        reduced: Pairs = [pair for pair in op.variables.data if pair[0] in op.reduced]
        own: Pairs = [(block, self.grid.blocks), *zip(within, self.grid.within, strict=True)]
        kept: Pairs = [*own, *heads]
        body = _BlockBody(self, op, variable, block, within)
        value = _product(body, found.sides, op.value.type)
        type = temporary(op.value.type, [dim for _, dim in kept])
        access = [IndexExpr.of(name) for name, _ in kept]
        name = hint(op.result, "blocks")
        blocks = body.statement("add", access, [*kept, *reduced], type, value, name=name)
        body = Body()
        cell = [IndexExpr.of(variable, place) for place in self.grid.cell]
        value = body.read(blocks.result, [*cell, *(IndexExpr.of(name) for name, _ in heads)])
        for operator, factor in found.own:
            value = body.apply(operator, value, body.copy(factor))
        kept = [pair for pair in op.variables.data if pair[0] not in op.reduced]
        kind = "assign" if op.init is None else "add"
        taken = body.statement(kind, op.access.data, kept, op.type, value, op.init)
        _insert_before(op, blocks)
        replace_statement(op, taken)

    def padded_of(self, tensor: SSAValue) -> SSAValue:
        """A tensor that may be read past its end: itself, if it is only read, else a copy."""
        type = tensor.type
        assert isinstance(type, TensorType)
        if type.pad_value is not None:
            return tensor
        users, maker = [use.operation for use in tensor.uses], tensor.owner
        is_own = not isinstance(maker, StatementOp) or maker.init is None
        is_plain = not isinstance(type.format, StringAttr)
        if is_own and is_plain and all(isinstance(user, ReadOp) for user in users):
            return self._retyped(tensor, _padded(type))
        if (tensor, ()) not in self.copies:
            body = Body()
            pairs: Pairs = [(f"d{i}", dim) for i, dim in enumerate(type.dims)]
            access = [IndexExpr.of(name) for name, _ in pairs]
            value = body.read(tensor, access)
            copy = body.statement("assign", access, pairs, _padded(type), value)
            copy.result.name_hint = hint(tensor, "padded")
            self.copies[tensor, ()] = self._put(copy, tensor)
        return self.copies[tensor, ()]

    def table_of(self, tensor: SSAValue, side: _Side, chains: Chains) -> SSAValue:
        """A tensor that is read through maps of the rows, or columns, of blocks, by these: what is
        at [.., z.row.type, ..] is at [z.row, .., ..] of it. `chains` are the maps by dimension."""
        type = tensor.type
        assert isinstance(type, TensorType) and side.of is not None
        key = (tensor, (side.of, tuple(chains.items())))
        if key not in self.copies:
            rest = [i for i in range(len(type.dims)) if i not in chains]
            names = {i: f"d{number}" for number, i in enumerate(rest, 1)}
            pairs: Pairs = [("d0", side.of), *((names[i], type.dims[i]) for i in rest)]
            source = [
                IndexExpr.of("d0", *chains[i]) if i in chains else IndexExpr.of(names[i])
                for i in range(len(type.dims))
            ]
            body = Body()
            value, access = body.read(tensor, source), [IndexExpr.of(name) for name, _ in pairs]
            made = TensorType.of(type.element, [dim for _, dim in pairs], type.pad_value)
            copy = body.statement("assign", access, pairs, made, value)
            copy.result.name_hint = hint(tensor, f"by_{side.of}")
            self.copies[key] = self._put(copy, tensor)
        return self.copies[key]

    def cut_of(self, tensor: SSAValue, place: int, side: _Side) -> SSAValue:
        """A tensor with one dimension cut where blocks are: [.., 16*w + r, ..] is at [.., w, r, ..]
        of it, so that products read it with no end to mind."""
        padded, extent = self.padded_of(tensor), side.extent
        type, key = padded.type, (padded, (place, side.field))
        assert isinstance(type, TensorType) and extent is not None
        if key not in self.copies:
            body = Body()
            cut = [*type.dims[:place], side.target, extent, *type.dims[place + 1 :]]
            pairs: Pairs = [(f"d{i}", dim) for i, dim in enumerate(cut)]
            access = [IndexExpr.of(name) for name, _ in pairs]
            terms = (Term(extent, Path(f"d{place}")), Term(1, Path(f"d{place + 1}")))
            source = [*access[:place], IndexExpr.make(terms), *access[place + 2 :]]
            value = body.read(padded, source)
            copy = body.statement("assign", access, pairs, temporary(type.element, cut), value)
            copy.result.name_hint = hint(tensor, f"{side.field}s")
            self.copies[key] = self._put(copy, padded)
        return self.copies[key]

    def _retyped(self, tensor: SSAValue, type: TensorType) -> SSAValue:
        """A value with another type."""
        new = Rewriter.replace_value_with_new_type(tensor, type)
        self.copies = {
            (new if of is tensor else of, how): new if copy is tensor else copy
            for (of, how), copy in self.copies.items()
        }
        self._retype()
        return new

    def _put(self, copy: StatementOp, source: SSAValue) -> SSAValue:
        """Put the copy of a tensor right behind that."""
        block, maker = self.func.body.block, source.owner
        if isinstance(maker, Operation):
            block.insert_op_after(copy, maker)
        else:
            assert block.first_op is not None
            block.insert_op_before(copy, block.first_op)
        return copy.result

    def _variables(self, op: StatementOp) -> tuple[str, tuple[str, ...]]:
        """Names for the blocks and the places of a block."""
        taken = {name for name, _ in op.variables.data}
        names: list[str] = []
        for wanted in ("k", "r", "c")[: 1 + len(self.grid.within)]:
            names.append(unused(wanted, taken))
            taken.add(names[-1])
        return names[0], tuple(names[1:])

    def follow(
        self, variable: str, block: str, within: Sequence[str]
    ) -> Callable[[IndexExpr], IndexExpr]:
        """Index expressions over elements, as they are over places of blocks."""

        def follow(path: Path) -> IndexExpr:
            if path.variable != variable:
                return IndexExpr.of(path.variable, *path.fields)
            index = self.grid.sides[path.fields[0]].index(block, within)
            if len(path.fields) == 1:
                return index
            if index.path is None:
                raise NotServed(f"it takes {path} for a number, or into one with others")
            return IndexExpr.of(block, *index.path.fields, *path.fields[1:])

        return lambda index: index.substitute(follow)

    def _cells(self, op: StatementOp, variable: str, found: Summed, shared: Pairs) -> StatementOp:
        """The blocks with the factors of the elements in their places."""
        body = Body()
        value = _product(body, found.own, op.value.type)
        first, *inner = self.grid.cell
        order = self._inner_order(found)
        cell = [IndexExpr.of(variable, place) for place in (first, *(inner[n] for n in order))]
        access = [*cell, *(IndexExpr.of(name) for name, _ in shared)]
        over = next(pair for pair in op.variables.data if pair[0] == variable)
        extents = [self.grid.within[number] for number in order]
        dims = [self.grid.blocks, *extents, *(dim for _, dim in shared)]
        type = temporary(self._element(op, found), dims)
        name = hint(op.result, "blocks")
        return body.statement("add", access, [over, *shared], type, value, name=name)

    def _inner_order(self, found: Summed) -> list[int]:
        """Which dimension of a block is stored before which: the one that sums stay apart in is the
        last, where a product reads them side by side."""
        own = self.grid.sides[found.scattered].number
        return sorted(range(len(self.grid.within)), key=lambda number: number == own)

    def _element(self, op: StatementOp, found: Summed) -> Attribute:
        """The type of the numbers in blocks: that which they are cast from, so that the product is
        one of short types, since each stands alone in its place."""
        type = own_type(found.own or found.rows)
        if type is None:
            return op.value.type
        # Of these types not every one has a zero, or adds up.
        return op.value.type if element_of(type).kind in ("sign", "bool") else type

    def _pieces(self, op: StatementOp, found: Summed, cells: StatementOp) -> list[StatementOp]:
        """Tensors that add up to the blocks, in types that the target multiplies fast: numbers of
        f32 are two of tf32 where the other factor is of tf32."""
        fits = cells.type.element == _F32 == op.type.element and own_type(found.rows) == _TF32
        if not self.tensor_cores or not fits:
            return [cells]
        pairs: Pairs = [(f"d{i}", dim) for i, dim in enumerate(cells.type.dims)]
        access = [IndexExpr.of(name) for name, _ in pairs]
        type = temporary(_TF32, cells.type.dims)
        body = Body()
        value = body.cast(body.read(cells.result, access), _TF32)
        high = body.statement("assign", access, pairs, type, value, name=hint(op.result, "high"))
        body = Body()
        value = body.cast(body.read(high.result, access), _F32)
        value = body.apply("sub", body.read(cells.result, access), value)
        value = body.cast(value, _TF32)
        low = body.statement("assign", access, pairs, type, value, name=hint(op.result, "low"))
        return [high, low]

    def _replace(self, op: StatementOp, made: list[StatementOp], target: _Target) -> None:
        """Put the statements in the place of one. A result that drops what is written past its end
        stands for the old one if it is only read or returned, else it is copied."""
        users = [use.operation for use in op.result.uses]
        is_result = target.type == op.type or (
            op.init is None and all(isinstance(u, ReadOp | ReturnOp) for u in users)
        )
        if target.back is None and is_result:
            replace_statement(op, *made)
            self._retype()
            return
        body = Body()
        pairs: Pairs = [(f"d{i}", dim) for i, dim in enumerate(op.type.dims)]
        access = [IndexExpr.of(name) for name, _ in pairs]
        source = access if target.back is None else target.back(access)
        value = body.cast(body.read(made[-1].result, source), op.value.type)
        if op.init is not None:
            value = body.apply("add", body.cast(body.read(op.init, access), op.value.type), value)
        made[-1].result.name_hint = hint(op.result, "windows")
        copy = body.statement("assign", access, pairs, op.type, value)
        replace_statement(op, *made, copy)

    def _retype(self) -> None:
        """Let the function's type say what it takes and returns."""
        inputs = [value.type for value in self.func.body.block.args]
        outputs = [value.type for value in self.func.return_op.operands]
        self.func.properties["function_type"] = FunctionType.from_lists(inputs, outputs)


class _BlockBody(Body):
    """Copies factors, reading tensors that may be read past their end where a place may be."""

    def __init__(
        self, writer: _Writer, op: StatementOp, variable: str, block: str, within: Sequence[str]
    ):
        super().__init__(writer.follow(variable, block, within))
        self.writer, self.variable = writer, variable
        self.places = block, within

    def _copied(self, op: Operation) -> Operation:
        read = self._by_side(op) if isinstance(op, ReadOp) else None
        if read is None:
            return self._moved(op)
        new = self._moved(read)
        read.erase()
        return new

    def _by_side(self, op: ReadOp) -> ReadOp | None:
        """A read that goes on from a row or column of a block, as one of what is found there."""
        found = {
            place: index.path
            for place, index in enumerate(op.access.data)
            if self.variable in index.variables
        }
        paths = [path for path in found.values() if path is not None]
        fields = {path.fields[0] for path in paths}
        if len(paths) < len(found) or len(fields) != 1 or all(len(p.fields) == 1 for p in paths):
            return None
        side = self.writer.grid.sides[next(iter(fields))]
        if side.extent is None:
            return None
        chains = {place: path.fields[1:] for place, path in found.items() if path is not None}
        table = self.writer.table_of(op.tensor, side, chains)
        rest = (index for place, index in enumerate(op.access.data) if place not in found)
        access = IndexExpr.of(self.variable, *fields), *rest
        return ReadOp(table, access, op.picked and op.picked.data, op.pick)

    def _moved(self, op: Operation) -> Operation:
        new = super()._copied(op)
        if not isinstance(op, ReadOp) or not isinstance(new, ReadOp):
            return new
        moved = [
            place
            for place, (old, index) in enumerate(zip(op.access.data, new.access.data, strict=True))
            if self.variable in old.variables and index.path is None
        ]
        side = self._side(op, moved)
        if side is not None:
            at = moved[0]
            access = list(new.access.data)
            access[at : at + 1] = side.cut(*self.places)
            new.operands[0] = self.writer.cut_of(new.tensor, at, side)
            new.properties["access"] = AccessAttr(tuple(access))
        elif moved:
            new.operands[0] = self.writer.padded_of(new.tensor)
        return new

    def _side(self, op: ReadOp, moved: Sequence[int]) -> _Side | None:
        """The side of blocks by which a tensor is cut, if it is read just there."""
        path = op.access.data[moved[0]].path if len(moved) == 1 else None
        if path is None or op.type.pad_value not in (None, 0) or op.picked is not None:
            return None
        # What is read past another end has none in the copy.
        if op.type.pad_value == 0 and any(index.path is None for index in op.access.data):
            return None
        return self.writer.grid.sides[path.fields[0]]


def _product(body: Body, factors: Sequence[Factor], type: Attribute) -> SSAValue:
    """The product of factors, 1 if there are none."""
    if not factors or factors[0][0] == "div":
        value, rest = body.constant(1, type), factors
    else:
        value, rest = body.copy(factors[0][1]), factors[1:]
    for operator, factor in rest:
        value = body.apply(operator, value, body.copy(factor))
    return value


def _padded(type: TensorType) -> TensorType:
    """The type of a tensor that reads 0 outside and drops what is written there."""
    return TensorType.of(type.element, type.dims, 0)


def _insert_before(op: StatementOp, new: StatementOp) -> None:
    block = op.parent_block()
    assert block is not None
    new.location = op.location
    block.insert_op_before(new, op)
