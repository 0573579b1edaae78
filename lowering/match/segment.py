"""Recognise statements that add up outer products over the elements of a segment.

Enters: a statement at the graph level. Leaves: its `Segment` and root, or None.

    d[e.type, i, o]     += x[e.src, i] * g[e.dst, o]       segments: types, r = i, j = o
    c[16*k.window + r, j] += D[k, r] * B[k.col, j]         segments: windows of 16 rows
    d[e.type, h, i, o]  += a[e, h] * x[e.src, i] * g[e, h, o]    the same for each h

    y[16*k.row + r, o]  += D[k, r, c] * x[8*k.col + c, o]        blocks of 16 x 8 elements

The element stands in one index of the left side, as a path alone or, times a number, in front of
r; variables that do not stand on the left are added up for each element. Each factor may depend on
r or on j, not on both; factors of the element alone belong to the side with the shorter rows.
Nothing is matched by name.
"""

from collections.abc import Iterator, Sequence

from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schedule import Schedule
from hectorite.ir.schema import Schema
from hectorite.ir.set_format import resolve
from hectorite.ir.space import Dim
from hectorite.lowering.graph.statement_body import factors, variables_of
from hectorite.lowering.kernels.kernel_plan import Root, Segment, Visit
from hectorite.lowering.kernels.segment_shape import segment_shape
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import plain_read, runs_along

LEAST_ROWS, LEAST_LANES, LEAST_POINTS = 2, 4, 64
"""Outer products of fewer rows, lanes or points are left to the ordinary visit."""


def match_segment(
    statement: StatementOp, schema: Schema, machine: Machine
) -> tuple[Root, Segment] | None:
    """`statement` as a segment product with its root, or None."""
    if statement.kind.data != "add" or _is_short(statement):
        return None
    place = _segment_of(statement.access.data)
    if place is None:
        return None
    path, stride, rows = place
    dims = dict(statement.variables.data)
    plain = [index.variable for index in statement.access.data if index.variable is not None]
    left = [*plain, *([] if rows is None else [rows])]
    if len(set(left)) != len(left) or path.variable in left or _picks(statement):
        return None
    if any(not isinstance(dims[name], int) for name in dims if name != path.variable):
        return None
    if stride is not None and dims[str(rows)] != stride:
        return None  # segments would overlap, or leave rows between them
    owner = dims[path.variable]
    if not isinstance(owner, str) or owner not in schema.sets:
        return None
    if schema.follow(owner, path.fields) not in schema.sets:
        return None
    found = _sides(statement, path.variable, left, rows, stride, machine)
    if found is None:
        return None
    visit = Visit(owner, path.fields)
    return Root((schema.follow(owner, path.fields),), (), visit, path.variable), found


WINDOWS = {"window": 0, "band": 0, "strip": 1}
"""Parts of formats that have an element for each h of the target of a field, and the last fewer:
which field that is, and which number of the format is h."""


def covers(statement: StatementOp, segment: Segment | None, schema: Schema) -> bool:
    """Whether segments of a segment product that stand h rows apart are known to be all rows."""
    if segment is None or segment.stride is None:
        return False
    access = statement.access.data
    position = next(i for i, index in enumerate(access) if segment.element in index.variables)
    for index, dim in zip(access, statement.type.dims, strict=True):
        whole = index.variable is None or dict(statement.variables.data)[index.variable] == dim
        if not whole:
            return False
    path = next(path for path in access[position].paths if path.variable == segment.element)
    owner = dict(statement.variables.data)[segment.element]
    part = schema.sets[schema.follow(str(owner), path.fields)].encoded
    place = None if part is None else WINDOWS.get(part.part)
    if part is None or place is None:
        return False
    fields = schema.fields_of(part.of)
    format = resolve(tuple(fields), part.format)
    height = format.numbers[place] if len(format.numbers) > place else None
    target = fields.get(format.fields[place]) if len(format.fields) > place else None
    return height == segment.stride and target == statement.type.dims[position]


def _is_short(statement: StatementOp) -> bool:
    """Whether sums are of integers that a step of a product could not widen."""
    element = element_of(statement.value.type)
    return not element.is_float and element.storage.itemsize < 4


def _picks(statement: StatementOp) -> bool:
    """Whether values of the body say what is read."""
    return any(read.picked is not None for read in statement.reads)


def _segment_of(access: Sequence[IndexExpr]) -> tuple[Path, int | None, str | None] | None:
    """The path that names the segment; if it stands in `h*e.w + r`, h and r too. All other indices
    must be plain variables."""
    found: tuple[Path, int | None, str | None] | None = None
    for index in access:
        if index.variable is not None:
            continue
        here = _alone(index) or _strided(index)
        if here is None or found is not None:
            return None
        found = here
    return found


def _alone(index: IndexExpr) -> tuple[Path, None, None] | None:
    path = index.path
    return None if path is None or not path.fields else (path, None, None)


def _strided(index: IndexExpr) -> tuple[Path, int, str] | None:
    """An index `h*e.w + r`: the path, h, and r."""
    terms = index.terms
    if index.division is not None or index.constant or len(terms) != 2:
        return None
    if any(term.sizes or term.path is None for term in terms):
        return None
    places = [(term.path, term.coefficient) for term in terms if term.path is not None]
    segments = [place for place in places if place[0].fields]
    rows = [path.variable for path, factor in places if not path.fields and factor == 1]
    return (*segments[0], rows[0]) if len(segments) == len(rows) == 1 else None


def _sides(
    statement: StatementOp,
    element: str,
    left: Sequence[str],
    rows: str | None,
    stride: int | None,
    machine: Machine,
) -> Segment | None:
    """The factors on the side of r and of j, for the last j and the greatest r that tell them
    apart."""
    parts = list(factors(statement.value))
    depends = [variables_of(part) for part in parts]
    dims = dict(statement.variables.data)
    for r, j in _pairs(left, rows, dims):
        if any({r, j} <= names for names in depends):
            continue
        if not all(any(name in names for names in depends) for name in (r, j)):
            continue
        shorter = j if int(dims[j]) < int(dims[r]) else r
        is_first = [r in names or j not in names and shorter == r for names in depends]
        first = [part for part, left in zip(parts, is_first, strict=True) if left]
        second = [part for part, left in zip(parts, is_first, strict=True) if not left]
        direct = _direct(first, r), _direct(second, j)
        if machine.is_gpu and None in direct and not _can_be_made(parts):
            continue
        return _segment(statement, element, (r, j), (first, second), direct, stride, machine)
    return None


def _pairs(
    left: Sequence[str], rows: str | None, dims: dict[str, Dim]
) -> Iterator[tuple[str, str]]:
    for j in reversed(left):
        others = [name for name in left if name != j]
        choices = others if rows is None else [rows]
        for r in sorted(choices, key=lambda name: -int(dims[name])):
            if r == j or int(dims[r]) < LEAST_ROWS or int(dims[j]) < LEAST_LANES:
                continue
            if int(dims[r]) * int(dims[j]) >= LEAST_POINTS:
                yield r, j


def _direct(side: Sequence[SSAValue], variable: str) -> ReadOp | None:
    """The read that a whole side is, along one dimension of a tensor."""
    read = plain_read(side[0]) if len(side) == 1 else None
    return None if read is None or runs_along(read, variable) is None else read


def _can_be_made(parts: Sequence[SSAValue]) -> bool:
    """Whether sides may become tensors of their own: none reads outside of what it reads from."""
    return all(not _is_padded(part) for part in parts)


def _is_padded(value: SSAValue) -> bool:
    op = value.owner
    if isinstance(op, ReadOp):
        return op.type.pad_value is not None
    return isinstance(op, Operation) and any(_is_padded(operand) for operand in op.operands)


def _segment(
    statement: StatementOp,
    element: str,
    names: tuple[str, str],
    sides: tuple[list[SSAValue], list[SSAValue]],
    direct: tuple[ReadOp | None, ReadOp | None],
    stride: int | None,
    machine: Machine,
) -> Segment:
    dims = dict(statement.variables.data)
    left = {name for index in statement.access.data for name in index.variables}
    others = [name for name in dims if name not in (element, *names)]
    loops = tuple(name for name in others if name in left)
    inner = tuple(name for name in others if name not in left)
    schedule = Schedule.on(statement)
    wanted = [None if schedule is None else schedule.tile.get(n) for n in (*names, element)]
    extents = int(dims[names[0]]), int(dims[names[1]])
    inputs = [read.type.element for read in direct if read is not None]
    shape = segment_shape(*extents, statement.value.type, inputs, machine, wanted)
    first, second = tuple(sides[0]), tuple(sides[1])
    return Segment(element, *names, loops, inner, first, second, *direct, stride, shape)
