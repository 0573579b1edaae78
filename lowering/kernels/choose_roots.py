"""Choose, for every statement of a function, the rows that it is spread over.

Enters: a function at the graph level without softmax. Leaves: a `Root` for each statement, and a
`Product` for those that are block products, a `Segment` for sums of outer products.

    y[e.dst, o] += t[e, o]      rows: the target set of dst, visiting the edges of each
    s[e]         = f(t[e, o])   element by element in that same visit, if y or the like reads it
    s[z]        += p[z.row, k]  element by element, visiting those of each row
    z[n, o]      = relu(y)      rows: n
    C[i, j]     += A * B        rows: i, a block at a time
    W[e.t, i, o] += x * g       rows: the target set of t, the elements of a row together
    c[y + 1, k]  = ...          rows: all left variables, since `=` writes each point once
    t[2*i]      += x[i, j]      one row: the whole statement
    V[p.at]     += A[p.x] * ..  p of a join: a walk through its sets, see join_walk.py

Statements over the elements of a set take the visit of the statement that consumes them, so that
what is computed for an edge is used while it is at hand.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.lowering.kernels.join_walk import JoinWalk, join_walk
from hectorite.lowering.kernels.kept_plan import kept_product
from hectorite.lowering.kernels.kernel_plan import Product, Root, Segment, Visit
from hectorite.lowering.kernels.lane_choice import left_lanes, reduced_lanes
from hectorite.lowering.kernels.place_tensors import adds_in_lanes, adds_to_memory
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import PACKED_ROWS, match_product
from hectorite.lowering.match.scattered import scattered_product
from hectorite.lowering.match.segment import match_segment
from hectorite.lowering.match.two_step import two_steps

MUCH = 4
"""How many times more a statement gathers for an element than it reads and makes in the element's
own place, before elements are visited by what they gather."""


@dataclass(frozen=True)
class Roots:
    """The choice for every statement of one function."""

    roots: dict[StatementOp, Root]
    products: dict[StatementOp, Product]
    segments: dict[StatementOp, Segment]
    kept: frozenset[StatementOp] = frozenset()
    """Products with what is kept of a tensor, which have kernels of their own."""
    walks: Mapping[StatementOp, JoinWalk] = field(default_factory=dict[StatementOp, JoinWalk])
    """Statements that walk through the sets of a join, which have, too."""
    steps: Mapping[StatementOp, StatementOp] = field(default_factory=dict[StatementOp, StatementOp])
    """First steps by second ones, of what one kernel does there and back."""


def choose_roots(function: FuncOp, schema: Schema, machine: Machine) -> Roots:
    """Roots and products of all statements of a function, in order."""
    statements = [op for op in function.body.block.ops if isinstance(op, StatementOp)]
    roots: dict[StatementOp, Root] = {}
    products: dict[StatementOp, Product] = {}
    segments: dict[StatementOp, Segment] = {}
    walks: dict[StatementOp, JoinWalk] = {}
    for statement in statements:
        if (walk := join_walk(statement, schema, machine)) is not None:
            roots[statement], walks[statement] = Root((), ()), walk
            continue
        product = product_of(statement, machine) or scattered_product(statement, schema, machine)
        if product is not None and (product[1].direct or not machine.is_gpu):
            roots[statement], products[statement] = product
        elif (segment := segment_of(statement, schema, machine)) is not None:
            roots[statement], segments[statement] = segment
        else:
            roots[statement] = _root(statement, schema, machine)
    free = {s for s in statements if s not in products and _over_elements(s, roots[s], schema)}
    alone = set(segments) if machine.is_gpu else set[StatementOp]()
    for statement in reversed(statements):
        users = [pair for pair in _consumers(statement) if pair[0] not in alone]
        _adopt(statement, roots, free, users)
    for statement in statements:
        _gather_by_row(statement, roots, free, schema)
        _adopt(statement, roots, free, _producers(statement))
    steps = two_steps(function, roots, {*products, *segments, *walks}, machine)
    for second, first in steps.items():
        roots[second] = replace(roots[first], element=roots[second].element)
    kept = frozenset(s for s in statements if kept_product(s, machine) is not None)
    return Roots(roots, products, segments, kept, walks, steps)


def product_of(statement: StatementOp, machine: Machine) -> tuple[Root, Product] | None:
    """A statement as a block product, with its root; the rows are the first left variable that
    serves and has enough rows for blocks, else the one with most."""
    dims = dict(statement.variables.data)
    names = [index.variable for index in statement.access.data if index.variable is not None]
    for row in sorted(names, key=lambda name: -_block_rows(dims[name])):
        product = match_product(statement, row, machine)
        if product is not None:
            return Root((dims[row],), (row,)), product
    return None


def _block_rows(extent: Dim) -> int:
    return min(extent, PACKED_ROWS) if isinstance(extent, int) else PACKED_ROWS


def segment_of(
    statement: StatementOp, schema: Schema, machine: Machine
) -> tuple[Root, Segment] | None:
    """A statement as a product over the elements of segments, with its root. A GPU's reads both
    sides from memory, which `materialise_operands` sees to."""
    found = match_segment(statement, schema, machine)
    if found is None or machine.is_gpu and None in (found[1].direct_left, found[1].direct_right):
        return None
    return found


def _root(statement: StatementOp, schema: Schema, machine: Machine) -> Root:
    dims = dict(statement.variables.data)
    for index in statement.access.data:
        path = index.path
        if path is not None and path.fields:
            owner = dims[path.variable]
            assert isinstance(owner, str)
            visit = Visit(owner, path.fields)
            return Root((schema.follow(owner, path.fields),), (), visit, path.variable)
    plain = [index.variable for index in statement.access.data if index.variable is not None]
    if statement.kind.data == "assign":
        plain = [name for name, _ in statement.variables.data]
    if machine.is_gpu and adds_to_memory(statement):
        left = {name for index in statement.access.data for name in index.variables}
        everywhere = tuple(name for name in dims if name in left)
        scattered = Root(tuple(dims[name] for name in everywhere), everywhere)
        if adds_in_lanes(statement, scattered, machine):
            return scattered
    variables = _leading(list(dict.fromkeys(plain)), dims, machine)
    if not machine.is_gpu and _sums_along_rows(statement, variables, plain, dims):
        plain = list(dict.fromkeys(plain))
        variables = tuple(plain[-1:] if isinstance(dims[plain[-1]], str) else plain)
    if machine.is_gpu and statement.kind.data != "assign" and len(dims) > len(set(plain)):
        variables = _spread(variables, list(dict.fromkeys(plain)), statement, schema, machine)
    return Root(tuple(dims[name] for name in variables), variables)


def _sums_along_rows(
    statement: StatementOp, leading: Sequence[str], plain: Sequence[str], dims: Mapping[str, Dim]
) -> bool:
    """Whether a reduction, whose last left variable would lie in lanes, reads nothing along that
    but enough along a reduced one: then each row is summed along its own elements. Rows of a set
    stay what they are, since other kernels of that set may join; a last variable over a set makes
    the rows if there are few other ones."""
    if statement.kind.data == "assign" or not plain or plain[-1] in leading:
        return False
    if any(isinstance(dims[name], str) for name in leading):
        return False
    along = [
        read.access.data[-1].variables for read in statement.reads if len(read.access.data) > 0
    ]
    across = reduced_lanes(statement, [name for name in dims if name not in plain], dims)
    return across is not None and not any(plain[-1] in names for names in along)


def _spread(
    leading: tuple[str, ...],
    variables: list[str],
    statement: StatementOp,
    schema: Schema,
    machine: Machine,
) -> tuple[str, ...]:
    """Rows of a reduction on a GPU: all its left variables but that in lanes. The elements of a
    set that has maps stay rows of their own, which visits can take."""
    dims = dict(statement.variables.data)
    owners = [dim for dim in map(dims.get, leading) if isinstance(dim, str)]
    if any(owner in schema.sets and schema.fields_of(owner) for owner in owners):
        return leading
    lanes = left_lanes(statement, (), dims, machine)
    rest = tuple(name for name in variables if name != lanes)
    return rest or tuple(variables)


def _leading(variables: list[str], dims: dict[str, Dim], machine: Machine) -> tuple[str, ...]:
    """The first variable, and as many of the next as it takes to have enough rows. The last one
    is left for the lanes of a vector, unless it is the only one and not small. Where there are
    several others, those with one value are no rows."""
    more = [name for name in variables if dims[name] != 1]
    variables = more if len(more) > 1 else variables
    chosen: list[str] = []
    rows = 1
    for position, name in enumerate(variables):
        extent = dims[name]
        is_last = position == len(variables) - 1
        if rows >= machine.enough_rows or (is_last and _in_lanes(extent, bool(chosen), machine)):
            break
        chosen.append(name)
        rows = rows * extent if isinstance(extent, int) else machine.enough_rows
    return tuple(chosen)


def _in_lanes(extent: Dim, has_rows: bool, machine: Machine) -> bool:
    """Whether the last variable is left for the lanes. On a GPU, one that is short or very long
    makes rows: there rows lie in lanes as well, and strips are done one after the other."""
    if not machine.is_gpu:
        return has_rows or isinstance(extent, int)
    is_strip = isinstance(extent, int) and machine.few_lanes <= extent <= machine.most_strip
    return has_rows and is_strip


def _over_elements(statement: StatementOp, root: Root, schema: Schema) -> bool:
    """Whether a statement is done once for each element of a set that has maps, so that it could
    as well be done in a visit of those elements."""
    if root.visit is not None or len(root.row_variables) != 1:
        return False
    owner = root.rows[0]
    return isinstance(owner, str) and owner in schema.sets and bool(schema.fields_of(owner))


def _consumers(statement: StatementOp) -> list[tuple[StatementOp, ReadOp | None]]:
    """Statements that use the result, with the read, or None where they continue it."""
    found: list[tuple[StatementOp, ReadOp | None]] = []
    for use in statement.result.uses:
        user = use.operation
        if isinstance(user, ReadOp) and isinstance(user.parent_op(), StatementOp):
            parent = user.parent_op()
            assert isinstance(parent, StatementOp)
            found.append((parent, user))
        elif isinstance(user, StatementOp):
            found.append((user, None))
    return found


def _producers(statement: StatementOp) -> list[tuple[StatementOp, ReadOp | None]]:
    return [
        (read.tensor.owner, read)
        for read in statement.reads
        if isinstance(read.tensor.owner, StatementOp)
    ]


def _gather_by_row(
    statement: StatementOp,
    roots: dict[StatementOp, Root],
    free: set[StatementOp],
    schema: Schema,
) -> None:
    """Visit elements by the map through which a statement gathers most, if that is much more than
    each element has of its own: what the elements of one row gather is then read once."""
    mine = roots[statement]
    if statement not in free or mine.visit is not None:
        return
    element, owner = mine.row_variables[0], str(mine.rows[0])
    best: tuple[int, tuple[str, ...]] = (0, ())
    own = prod(dim for dim in statement.type.dims[1:] if isinstance(dim, int))
    for read in statement.reads:
        first = read.access.data[0].path if read.access.data else None
        size = prod(dim for dim in read.type.dims[1:] if isinstance(dim, int))
        if first is not None and first.variable == element:
            if first.fields:
                best = max(best, (size, first.fields), key=lambda pair: pair[0])
            else:
                own = max(own, size)
    gathered, fields = best
    if gathered >= MUCH * own:
        rows = (schema.follow(owner, fields),)
        roots[statement] = Root(rows, (), Visit(owner, fields), element)


def _adopt(
    statement: StatementOp,
    roots: dict[StatementOp, Root],
    free: set[StatementOp],
    neighbours: list[tuple[StatementOp, ReadOp | None]],
) -> None:
    """Let a statement over elements join the visit of a neighbour that uses the same elements."""
    if statement not in free or roots[statement].visit is not None:
        return
    mine = roots[statement]
    for neighbour, read in neighbours:
        root = roots[neighbour]
        if root.visit is None or root.visit.set != mine.rows[0] or read is None:
            continue
        variable = mine.row_variables[0] if read.parent_op() is statement else root.element
        paths = [path for index in read.access.data for path in index.paths]
        if any(path.variable == variable for path in paths):
            roots[statement] = Root(root.rows, (), root.visit, mine.row_variables[0])
            return
