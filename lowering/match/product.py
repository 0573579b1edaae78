"""Recognise statements that are block products: dense, gathered, typed or batched.

Enters: a statement at the graph level. Leaves: its `Product`, or None.

    y[e, o] += h[e.src, i] * W[e.type, i, o]     rows e, k = i, n = o, grouped by e.type
    z[n, k, o] += relu(x[n, i]) * W[i, k, o]     rows n, k = i, n = o, loop over k, computed a

One factor must be a plain read that moves along n and k (the weights); all other factors must not
depend on n. Nothing is matched by name.
"""

from typing import cast

from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.scalar import CastOp
from hectorite.ir.schedule import Schedule
from hectorite.lowering.graph.statement_body import factors, variables_of
from hectorite.lowering.kernels.kernel_plan import Product
from hectorite.lowering.kernels.product_shape import block_shape
from hectorite.lowering.machine import Machine

SMALLEST = 4
"""Products with fewer terms than this along k or n are not worth a block kernel."""

WIDE = 128
"""Weights with longer rows than this are copied into panels."""

RAGGED = 4
"""So are rows longer than this that are no power of two, which panels round up."""

PACKED_ROWS = 32
"""With fewer rows than this, copying the weights costs more than it saves."""


def plain_read(value: SSAValue) -> ReadOp | None:
    """The read that a factor is, looking through a widening cast."""
    op = value.owner
    if isinstance(op, CastOp):
        op = op.input.owner
    if not isinstance(op, ReadOp) or op.type.pad_value is not None or op.pick is not None:
        return None
    return op


def _affine_in(index: IndexExpr, variable: str) -> bool:
    """Whether an index is `variable` plus something that does not involve it."""
    terms = [t for t in index.terms if t.path is not None and t.path.variable == variable]
    if index.division is not None or len(terms) != 1:
        return False
    term = terms[0]
    return term.coefficient == 1 and not term.sizes and term.path == Path(variable)


def runs_along(read: ReadOp, variable: str) -> int | None:
    """The dimension along which a read moves one element when the variable grows by one, if the
    variable stands in that dimension alone."""
    places = [i for i, index in enumerate(read.access.data) if variable in index.variables]
    if len(places) == 1 and _affine_in(read.access.data[places[0]], variable):
        return places[0]
    return None


def match_product(statement: StatementOp, row: str, machine: Machine) -> Product | None:
    """`statement` as a product over rows `row`, or None."""
    return product_at(statement, row, [index.variable for index in statement.access.data], machine)


def product_at(
    statement: StatementOp, row: str, left: list[str | None], machine: Machine
) -> Product | None:
    """`statement` as a product over rows `row`, whose results stand at `left`, or None."""
    dims = dict(statement.variables.data)
    type = statement.value.type
    is_short = isinstance(type, IntegerType) and cast(IntegerType, type).width.data < 32
    if statement.kind.data != "add" or is_short:
        return None
    if None in left or row not in left or len(set(left)) != len(left):
        return None
    reduced = [name for name in dims if name not in left]
    parts = list(factors(statement.value))
    for part in parts:
        weights = plain_read(part)
        if weights is None or not weights.access.data:
            continue
        others = [other for other in parts if other is not part]
        product = _with_weights(weights, others, row, left, reduced, statement, machine)
        if product is not None:
            return product
    return None


def _with_weights(
    weights: ReadOp,
    others: list[SSAValue],
    row: str,
    left: list[str | None],
    reduced: list[str],
    statement: StatementOp,
    machine: Machine,
) -> Product | None:
    dims = dict(statement.variables.data)
    lanes = _lanes(weights, row, left, dims)
    if lanes is None or not others:
        return None
    depends = set[str]().union(*(variables_of(other) for other in others))
    if lanes in depends or row not in depends:
        return None
    inner = _inner(weights, others, reduced, dims)
    groups = _groups(weights, row)
    if inner is None or groups is None:
        return None
    outer = tuple(name for name in reduced if name != inner)
    loops = tuple(name for name in left if name not in (row, lanes) and name is not None)
    if any(not isinstance(dims[name], int) for name in (*outer, *loops)):
        return None
    direct = plain_read(others[0]) if len(others) == 1 else None
    if direct is not None and runs_along(direct, inner) is None:
        direct = None
    lane_axis, inner_axis = runs_along(weights, lanes), runs_along(weights, inner)
    assert lane_axis is not None and inner_axis is not None
    is_last = lane_axis == len(weights.access.data) - 1
    rows, extent = dims[row], dims[lanes]
    few = isinstance(rows, int) and rows < PACKED_ROWS
    if few and not is_last and machine.packs:
        return None
    aligned = all(_is_variable(weights, axis) for axis in (lane_axis, inner_axis))
    ragged = not groups and int(extent) > RAGGED and int(extent).bit_count() > 1
    packed = not few and aligned and (not is_last or int(extent) > WIDE or ragged)
    packed = packed and machine.packs
    if not is_last and not packed and machine.packs:
        return None
    axes = lane_axis, inner_axis
    schedule = Schedule.on(statement)
    tile = dict[str, int]() if schedule is None else schedule.tile
    wanted = tile.get(row), tile.get(lanes)
    shape = block_shape(rows, int(extent), statement.value.type, packed, machine, wanted)
    return Product(weights, lanes, inner, outer, loops, direct, groups, *axes, packed, shape)


def _lanes(
    weights: ReadOp, row: str, left: list[str | None], dims: dict[str, int | str]
) -> str | None:
    """The variable n: one of the left that the weights move along, best along the last dimension
    of theirs."""
    for index in reversed(weights.access.data):
        for name in index.variables:
            extent = dims[name]
            usable = name in left and name != row and isinstance(extent, int)
            if usable and int(extent) >= SMALLEST and runs_along(weights, name) is not None:
                return name
    return None


def _is_variable(read: ReadOp, axis: int) -> bool:
    """Whether an index is one plain variable, over the whole dimension."""
    return read.access.data[axis].variable is not None


def _inner(
    weights: ReadOp, others: list[SSAValue], reduced: list[str], dims: dict[str, int | str]
) -> str | None:
    """The reduced variable k: it moves along one dimension of the weights, and the last one that
    moves along the last dimension of another factor is best."""
    usable = [
        name
        for name in reduced
        if runs_along(weights, name) is not None
        and isinstance(dims[name], int)
        and int(dims[name]) >= SMALLEST
        and any(name in variables_of(other) for other in others)
    ]

    def contiguous(name: str) -> bool:
        reads = [read for read in map(plain_read, others) if read is not None]
        return any(runs_along(read, name) == len(read.access.data) - 1 for read in reads)

    return max(usable, key=contiguous, default=None)


def _groups(weights: ReadOp, row: str) -> tuple[Path, ...] | None:
    """Paths of the row that the weights depend on; None if they depend on the row itself."""
    paths = [p for index in weights.access.data for p in index.paths if p.variable == row]
    if any(not path.fields for path in paths):
        return None
    return tuple(dict.fromkeys(paths))
