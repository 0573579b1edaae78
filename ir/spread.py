"""How statements are spread over the rows of kernels, and which two of them share a kernel.

Enters: forms. Leaves: what the tile level will do with them, predicted from one statement or from
two neighbours, so that costs stay local.

    y[e.dst, o] += a[e] * z[e.src, o]      a visit of edges by dst, rows: node
    a[e] = p[e] / s[e.dst]                 over elements: joins a visit of edges
    z[n, o] = relu(y[n, o])                rows: n
    C[i, j] += A[i, k] * B[k, j]           a block product, rows: i
    y[e.dst, o] += x[e.src, i] * W[e.type, i, o]    on a CPU the same, rows e, added to those of dst
    g[e.type, i, o] += x[e.src, i] * d[e.dst, o]    outer products, added up for each type

Two statements share a kernel, and what one gives the other never leaves the cache, if they have
the same rows and the reader names its own row (or its own element of a visit).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from hectorite.ir.element import ELEMENTS
from hectorite.ir.formula import Access, Cast, Formula, Read, factors, variables
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Form

STRIP_BYTES, LINE_BYTES = 256, 64
"""Bytes of a strip of lanes, and of a cache line."""

SMALLEST = 4
"""Products with fewer terms than this along their inner dimensions are ordinary loops."""

PACKED_ROWS = 32
"""For fewer rows weights are not copied into panels."""

MUCH = 4
"""How many times more than its own an element gathers before it is visited by what it gathers."""

ENOUGH_ROWS = 256
"""Further loops become rows until there are as many."""


@dataclass(frozen=True)
class Block:
    """A product of blocks: variables of rows, columns (`lanes`) and terms (`inner`, `outer`), the
    read of the weights, and the paths of the row that select weights."""

    row: str
    lanes: str
    inner: str
    outer: tuple[str, ...]
    loops: tuple[str, ...]
    weights: Read
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Spread:
    """`rows` are what rows range over, `row_variables` the variables that stand for them. In a
    visit of `visit` = (set, key), `element` is the variable of the elements. `over_elements` tells
    that each element of a set with maps is a row, which a visit of that set may take over. With a
    `block` besides, each element is a row of the product that is added to the row it leads to;
    `outer` are the variables of rows and columns of outer products that are added up."""

    rows: tuple[Dim, ...]
    row_variables: tuple[str, ...] = ()
    visit: tuple[str, tuple[str, ...]] | None = None
    element: str | None = None
    over_elements: bool = False
    block: Block | None = None
    gathered: tuple[str, ...] | None = None
    outer: tuple[str, str] | None = None

    @property
    def scattered(self) -> bool:
        """Whether rows of a product are added where they lead to."""
        return self.block is not None and self.visit is not None


def spread(form: Form, schema: Schema, extent: Callable[[Dim], float], gpu: bool = False) -> Spread:
    """How a statement is spread. `extent` gives the size of a dimension. On a GPU products are not
    summed where they are multiplied, unless a schedule says so."""
    dims = dict(form.dims)
    block = block_of(form, schema, extent)
    if block is not None:
        return Spread((dims[block.row],), (block.row,), block=block)
    for index in (*form.keys, *form.left):
        path = index.path
        if path is not None and path.fields:
            owner = str(dims[path.variable])
            rows: tuple[Dim, ...] = (schema.follow(owner, path.fields),)
            if form.kind == "softmax":
                return Spread((owner,), (path.variable,), over_elements=True)
            visit = owner, path.fields
            block = None if gpu else scattered_of(form, path, schema, extent)
            outer = None if block else outer_of(form, path.variable, schema, extent)
            return Spread(rows, (), visit, path.variable, block=block, outer=outer)
    if form.kind == "concat":
        return Spread(form.shape.dims[:1] if form.axis else ())
    plain = [i.variable for i in (form.keys or form.left) if i.variable is not None]
    if form.kind == "assign":
        plain = [name for name, _ in form.dims]
    names = _leading(list(dict.fromkeys(plain)), dims, schema, extent)
    if form.kind != "assign" and _sums_along_rows(form, names, plain, schema):
        names = list(dict.fromkeys(plain))
        names = names[-1:] if dims[names[-1]] in schema.sets else names
    owners = [dims[name] for name in names]
    elements = len(names) == 1 and owners[0] in schema.sets
    elements = elements and bool(schema.fields_of(str(owners[0])))
    gathered = _most_gathered(form, names[0], extent) if elements else None
    return Spread(tuple(owners), tuple(names), over_elements=elements, gathered=gathered)


def _most_gathered(
    form: Form, element: str, extent: Callable[[Dim], float]
) -> tuple[str, ...] | None:
    """The path through which a statement gathers most for an element, if that is much more than
    the element has of its own."""
    own = prod(extent(dim) for dim in form.shape.dims[1:])
    best, found = 0.0, None
    for read in form.reads:
        first = read.access[0].path if read.access else None
        if first is None or first.variable != element or not read.access:
            continue
        names = {name for index in read.access[1:] for name in index.variables}
        size = prod(extent(form.extents[name]) for name in sorted(names))
        if not first.fields:
            own = max(own, size)
        elif size > best:
            best, found = size, first.fields
    return found if best >= MUCH * own else None


def _leading(
    names: list[str], dims: dict[str, Dim], schema: Schema, extent: Callable[[Dim], float]
) -> list[str]:
    """The first variable, and the next until there are rows enough; the last is for lanes. Where
    there are several others, those with one value are no rows."""
    more = [name for name in names if dims[name] != 1]
    names = more if len(more) > 1 else names
    chosen, rows = list[str](), 1.0
    for position, name in enumerate(names):
        last = position == len(names) - 1
        if rows >= ENOUGH_ROWS or (last and (chosen or dims[name] not in schema.sets)):
            break
        chosen.append(name)
        rows = ENOUGH_ROWS if dims[name] in schema.sets else rows * extent(dims[name])
    return chosen


def _sums_along_rows(form: Form, leading: list[str], plain: list[str], schema: Schema) -> bool:
    """Whether a reduction reads nothing along its last left variable, but along a reduced one."""
    dims = form.extents
    if not plain or plain[-1] in leading or any(dims[name] in schema.sets for name in leading):
        return False
    along = {n for r in form.reads if r.access for n in r.access[-1].variables}
    across = any(n in along and dims[n] not in schema.sets for n in form.reduced)
    return across and plain[-1] not in along


def block_of(form: Form, schema: Schema, extent: Callable[[Dim], float]) -> Block | None:
    """The statement as a product of blocks: one factor moves along columns and terms, and no other
    does along columns."""
    left = [index.variable for index in form.left]
    if form.kind != "add" or form.body is None or None in left or len(set(left)) != len(left):
        return None
    parts = list(factors(form.body))
    rows = {
        name: PACKED_ROWS if dim in schema.sets else min(extent(dim), PACKED_ROWS)
        for name, dim in form.dims
    }
    for row in sorted((name for name in left if name is not None), key=lambda name: -rows[name]):
        for part in parts:
            read = part.argument if isinstance(part, Cast) else part
            if not isinstance(read, Read) or not read.access:
                continue
            others = [other for other in parts if other is not part]
            found = _block(form, read, others, row, schema, extent)
            if found is not None:
                return found
    return None


def scattered_of(
    form: Form, target: Path, schema: Schema, extent: Callable[[Dim], float]
) -> Block | None:
    """The statement as a product of blocks whose rows are elements of a set, each of which is
    added to the row that `target` leads to."""
    paths = [index.path for index in form.left]
    over = schema.sets[str(form.extents[target.variable])]
    if form.kind != "add" or form.body is None or form.shape.pad is not None:
        return None
    if not serves_sums(over.format):
        return None
    if any(path is None or (path.fields and path != target) for path in paths):
        return None
    parts = list(factors(form.body))
    for part in parts:
        read = part.argument if isinstance(part, Cast) else part
        if isinstance(read, Read) and read.access:
            others = [other for other in parts if other is not part]
            found = _block(form, read, others, target.variable, schema, extent)
            if found is not None:
                return found
    return None


def serves_sums(format: str | None) -> bool:
    """Whether a set in a format serves any sum over it, blocks and distinct rows not."""
    return format is None or format.partition("(")[0] not in ("sgt", "bsr", "dedup", "permute")


def outer_of(
    form: Form, element: str, schema: Schema, extent: Callable[[Dim], float]
) -> tuple[str, str] | None:
    """The variables of rows and columns of a statement that adds up outer products over the
    elements of a set: each factor depends on one of them at most."""
    dims = form.extents
    if form.kind != "add" or form.body is None or form.init:
        return None
    alone = [n for n in form.alone if dims[n] not in schema.sets and extent(dims[n]) >= SMALLEST]
    if len(alone) < 2:
        return None
    rows, columns = alone[-2:]
    used = [set(variables(part)) for part in factors(form.body)]
    both = any({rows, columns} <= names for names in used)
    each = all(any(name in names for names in used) for name in (rows, columns))
    known = all(dims[n] not in schema.sets or n == element for n in form.reduced)
    return (rows, columns) if each and known and not both else None


def _block(
    form: Form,
    weights: Read,
    others: list[Formula],
    row: str,
    schema: Schema,
    extent: Callable[[Dim], float],
) -> Block | None:
    dims, left = dict(form.dims), form.alone
    depends = {name for other in others for name in variables(other)}
    access = weights.access
    if not access:
        return None

    def serves(name: str) -> bool:
        dim = dims[name]
        return dim not in schema.sets and extent(dim) >= SMALLEST and _moves(access, name)

    lanes = [n for i in reversed(access) for n in i.variables if n in left and n != row]
    columns = next((name for name in lanes if serves(name)), None)
    if columns is None or columns in depends or row not in depends:
        return None
    terms = [name for name in form.reduced if name in depends and serves(name)]
    paths = [path for index in access for path in index.paths if path.variable == row]
    if not terms or any(not path.fields for path in paths):
        return None
    inner = max(terms, key=lambda name: any(_last(other, name) for other in others))
    packs = dims[row] in schema.sets or extent(dims[row]) >= PACKED_ROWS
    if columns not in access[-1].variables and not (packs and _alone(access, columns, inner)):
        return None
    outer = tuple(name for name in form.reduced if name not in (inner, row))
    loops = tuple(name for name in left if name not in (row, columns))
    if any(dims[name] in schema.sets for name in (*outer, *loops)):
        return None
    groups = tuple(dict.fromkeys(path.fields for path in paths))
    return Block(row, columns, inner, outer, loops, weights, groups)


def _moves(access: Access, name: str) -> bool:
    """Whether a read moves along one dimension as a variable grows, one element at a time."""
    places = [index for index in access if name in index.variables]
    return len(places) == 1 and _unit_step(places[0], name)


def _unit_step(index: IndexExpr, name: str) -> bool:
    terms = [t for t in index.terms if t.path is not None and t.path.variable == name]
    plain = len(terms) == 1 and index.division is None
    return plain and terms[0].coefficient == 1 and terms[0].path == Path(name)


def _alone(access: Access, *names: str) -> bool:
    """Whether each variable is an index by itself, so that weights can be copied into panels."""
    return all(any(index.variable == name for index in access) for name in names)


def _last(part: Formula, name: str) -> bool:
    """Whether a factor moves along its last dimension with a variable."""
    read = part.argument if isinstance(part, Cast) else part
    return isinstance(read, Read) and bool(read.access) and name in read.access[-1].variables


def shares_kernel(source: Form, made: Spread, reader: Form, used: Spread, slot: int) -> bool:
    """Whether the reader finds, in the same kernel, each element of `source` that it reads in
    `slot`. The spreads are those of the two forms."""
    accesses = [read.access for read in reader.reads if read.slot == slot]
    if reader.init and slot == reader.operands - 1:
        accesses = [reader.left]
    if made.block and used.block:
        # What is scattered has an order of its own, and takes rows in any.
        if made.scattered and used.scattered:
            return False
        kept = [() if s.scattered else s.block.groups for s in (made, used) if s.block]
        if kept[0] != kept[1]:
            return False
    if made.block and used.over_elements:
        return False  # the reader joins a visit, which goes through the elements in another order
    if reader.kind == "concat":
        return bool(used.rows) and used.rows == made.rows and made.visit is None
    return bool(accesses) and all(
        access is not None and _at_hand(source, made, used, access) for access in accesses
    )


def hands_on(source: Form, made: Spread, reader: Form, used: Spread, slot: int) -> bool:
    """Whether a CPU hands each row of `source` on to its elements as soon as it is summed, so that
    no tensor of these rows exists. Nobody else may need them."""
    if made.visit is None or used.visit is None or made.scattered or used.scattered:
        return False
    if made.visit[0] != used.visit[0] or made.rows == used.rows or source.init:
        return False
    accesses = [read.access for read in reader.reads if read.slot == slot]
    place = _place(source, Path(made.element or "", made.visit[1]))
    row = Path(used.element or "", made.visit[1])
    if place is None or place == len(source.left) - 1 or not strips_of(reader):
        return False
    return source.shape.dims[-1] == reader.shape.dims[-1] and all(
        access is not None and access[place].path == row and access[-1] == reader.left[-1]
        for access in accesses
    )


def strips_of(form: Form) -> int:
    """Strips of the lanes that tasks have for themselves in two steps over one set: of up to 256
    bytes, and no part of a cache line; 0 if there would be one only."""
    extent, size = form.shape.dims[-1], ELEMENTS[form.shape.element].storage.itemsize
    if not isinstance(extent, int) or form.left[-1].variable is None:
        return 0
    width = STRIP_BYTES // size
    while width > LINE_BYTES // size and extent < 2 * width:
        width //= 2
    return -(-extent // width) if extent > width else 0


def _at_hand(source: Form, made: Spread, used: Spread, access: Access) -> bool:
    if made.visit is not None:
        place = _place(source, Path(made.element or "", made.visit[1]))
        return place is not None and _names_row(made, used, access[place].path)
    if used.scattered and made.over_elements:
        return False
    if made.over_elements and used.visit is not None and used.visit[0] == made.rows[0]:
        place = _place(source, Path(made.row_variables[0]))
        return place is not None and access[place].variable == used.element
    if not made.row_variables:
        return False
    if used.visit is not None or (used.over_elements and used.rows != made.rows):
        place = _place(source, Path(made.row_variables[0]))
        one = len(made.rows) == 1 and place is not None and used.visit is not None
        key = Path(used.element or "", used.visit[1]) if used.visit else None
        return one and used.rows == made.rows and access[place or 0].path == key
    same = used.rows == made.rows and len(used.row_variables) == len(made.row_variables)
    return same and all(
        (place := _place(source, Path(theirs))) is not None and access[place].variable == mine
        for mine, theirs in zip(used.row_variables, made.row_variables, strict=True)
    )


def _names_row(made: Spread, used: Spread, path: Path | None) -> bool:
    """Whether a path is the row of the visit that `made` sums over."""
    assert made.visit is not None
    if used.scattered and used.visit is not None and made.rows == used.visit[:1]:
        return path == Path(used.element or "")  # summed for a few rows, just before the product
    if used.visit is not None:
        return used.visit == made.visit and path == Path(used.element or "", used.visit[1])
    if used.over_elements and used.rows[0] == made.visit[0]:
        return path == Path(used.row_variables[0], made.visit[1])
    own = len(used.rows) == 1 and used.rows == made.rows
    return own and path == Path(used.row_variables[0])


def _place(form: Form, path: Path) -> int | None:
    """The dimension of the result that a path selects."""
    return next((i for i, index in enumerate(form.left) if index.path == path), None)
