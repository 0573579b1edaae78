"""Follow the orders of a program's `schedule { ... }` on a GPU, or refuse them with a reason.

Enters: planned kernels, whose statements carry the orders. Leaves: how the work of a kernel is
shared out, or a `HectoriteError` at the statement that an order is about. A CPU's tiles and tasks
follow from its registers and cores, so there orders change nothing, but for `work(merge)`, which
sums that are a kernel of their own follow (`lowering/emit/merge.py`).

A statement may have become several kernels. Each order has to fit one of them.
"""

from collections.abc import Sequence

from xdsl.dialects.builtin import FileLineColLoc

from hectorite.dialects.graph import StatementOp
from hectorite.ir.diagnostics import HectoriteError, Source, Span, fail
from hectorite.ir.schedule import Schedule
from hectorite.lowering.kernels.kernel_plan import Kernel, Product, Root, Segment
from hectorite.lowering.kernels.place_tensors import (
    adds_to_memory,
    element_level,
    fits_locally,
    is_regular,
    row_position,
    rows_cover,
)
from hectorite.lowering.kernels.product_shape import LEAST_LANES, LEAST_ROWS, MOST_ACCUMULATORS
from hectorite.lowering.machine import Machine

Found = list[tuple[StatementOp, Kernel]]


def refuse(statement: StatementOp, message: str, expected: str | None = None) -> HectoriteError:
    """An order that cannot be followed, at the statement."""
    place = statement.location
    if not isinstance(place, FileLineColLoc):
        return fail(message, expected=expected)
    line, column = place.line.data, place.column.data
    source = Source(place.filename.data, "")
    return fail(message, span=Span(line, column, line, column), source=source, expected=expected)


def work_of(kernel: Kernel) -> str:
    """How the rows of a kernel are shared out: `row`, if no order says otherwise."""
    orders: dict[str, tuple[Schedule, StatementOp]] = {}
    for statement in kernel.statements:
        schedule = Schedule.on(statement)
        if schedule is None or schedule.work is None:
            continue
        if not schedule.chosen or wants_merge(statement, kernel.roots[statement], kernel.machine):
            orders[schedule.work] = schedule, statement
    if len(orders) > 1:
        names = " and ".join(f"`{schedule.of}`" for schedule, _ in orders.values())
        works = " and ".join(f"`work({work})`" for work in orders)
        _, last = list(orders.values())[-1]
        raise refuse(last, f"{names} are one kernel, which cannot have {works}", "one of them")
    return next(iter(orders), "row")


def wants_split(statement: StatementOp, root: Root, machine: Machine) -> bool:
    """Whether rows of a sum over a visit are to be done by several tasks each, which add to memory,
    and can be."""
    fixed = all(isinstance(dim, int) for dim in statement.type.dims[1:])
    return _has_parts(statement, root, machine, "split") and adds_to_memory(statement) and fixed


def wants_merge(statement: StatementOp, root: Root, machine: Machine) -> bool:
    """Whether parts of such rows are to be put together by a second kernel, and can be."""
    if not _has_parts(statement, root, machine, "merge") or statement.type.pad_value is not None:
        return False
    position = row_position(statement, root)
    rest = [dim for number, dim in enumerate(statement.type.dims) if number != position]
    return fits_locally(statement.value.type, rest, machine)


def _has_parts(statement: StatementOp, root: Root, machine: Machine, work: str) -> bool:
    schedule = Schedule.on(statement) if machine.is_gpu else None
    if schedule is None or schedule.work != work or root.visit is None:
        return False
    return is_regular(statement, root) and not element_level(statement, root)


def is_split(kernel: Kernel) -> bool:
    """Whether long rows of a kernel are split, and their parts added to memory."""
    if any(phase.group for phase in kernel.phases):
        return True
    return any(wants_split(s, kernel.roots[s], kernel.machine) for s in kernel.statements)


def is_merged(kernel: Kernel) -> bool:
    """Whether they are put together by a second kernel."""
    return any(wants_merge(s, kernel.roots[s], kernel.machine) for s in kernel.statements)


def wants_parts(statement: StatementOp, root: Root, machine: Machine) -> bool:
    """Whether several tasks do one row, so that nothing else can be done with it."""
    return wants_split(statement, root, machine) or wants_merge(statement, root, machine)


def check_rows(kernel: Kernel) -> None:
    """Refuse to share out the work of a kernel whose tasks are no rows in any but its own way."""
    work, statement = work_of(kernel), kernel.statements[0]
    if kernel.machine.is_gpu and work != "row":
        raise refuse(
            statement,
            f"`work({work})` cannot be followed: the tasks of this kernel are parts of a product "
            "or a sum, not rows",
            "`work(row)`",
        )


def check_orders(kernels: Sequence[Kernel]) -> None:
    """Refuse orders that no kernel can follow."""
    found: dict[str, Found] = {}
    for kernel in kernels:
        if not kernel.machine.is_gpu:
            return
        for statement in kernel.statements:
            schedule = Schedule.on(statement)
            if schedule is not None and not schedule.chosen:
                found.setdefault(schedule.of, []).append((statement, kernel))
    for places in found.values():
        _check_product(places)
        _check_work(places)


def _check_product(places: Found) -> None:
    statement = places[-1][0]
    schedule = Schedule.on(statement)
    assert schedule is not None
    products = [(s, p) for s, kernel in places if (p := _product(s, kernel)) is not None]
    tiled = set[str]()
    for own, product in products:
        rows = _rows(own, places)
        left = [name for i in own.access.data for name in i.variables]
        row = next(name for name in left if name in rows)
        tiled |= {str(row), product.lanes, product.inner}
        _check_shape(own, product, schedule, str(row))
    segments = [segment for s, kernel in places if (segment := _segment(s, kernel)) is not None]
    for segment in segments:
        tiled |= {segment.rows, segment.lanes, segment.element}
        _check_segment(statement, segment, schedule)
    name = schedule.of
    for variable in schedule.tile:
        if variable not in tiled:
            known = ", ".join(f"`{v}`" for v in sorted(tiled))
            raise refuse(
                statement,
                f"`tile({variable} = {schedule.tile[variable]})` of `{name}` cannot be followed: "
                + (f"its product has no tiles along `{variable}`" if tiled else _NO_PRODUCT),
                f"tiles of {known}" if tiled else None,
            )
    if schedule.pipeline is not None and not products and not segments:
        raise refuse(statement, f"`pipeline` of `{name}` cannot be followed: {_NO_PRODUCT}")


def _check_shape(statement: StatementOp, product: Product, schedule: Schedule, row: str) -> None:
    """Blocks have as many rows and lanes as tensor instructions do, and fit in registers."""
    tile, (rows, lanes) = schedule.tile, (product.shape.rows, product.shape.lanes)
    if row in tile and rows < LEAST_ROWS:
        raise refuse(statement, f"`tile({row} = {rows})`: a GPU has blocks of 16 to 256 rows")
    if product.lanes in tile and lanes < LEAST_LANES:
        name = product.lanes
        raise refuse(statement, f"`tile({name} = {lanes})`: a GPU has blocks of 8 to 256 lanes")
    if rows * lanes > MOST_ACCUMULATORS:
        raise refuse(
            statement,
            f"a block of {rows} x {lanes} does not fit in registers",
            f"at most {MOST_ACCUMULATORS} accumulators",
        )


def _check_segment(statement: StatementOp, segment: Segment, schedule: Schedule) -> None:
    """Blocks of a segment product have 8 or 16 rows at least, and fit in registers."""
    shape = segment.shape
    sizes = {segment.rows: shape.rows, segment.lanes: shape.lanes, segment.element: shape.depth}
    for name, size in sizes.items():
        if name in schedule.tile and not LEAST_LANES <= size <= MOST_SEGMENT_TILE:
            raise refuse(
                statement,
                f"`tile({name} = {size})`: a product of segments has tiles of {LEAST_LANES} to "
                f"{MOST_SEGMENT_TILE}",
            )
    if shape.rows * shape.lanes > MOST_SEGMENT_POINTS:
        raise refuse(
            statement,
            f"a block of {shape.rows} x {shape.lanes} does not fit in registers",
            f"at most {MOST_SEGMENT_POINTS} accumulators",
        )


def _segment(statement: StatementOp, kernel: Kernel) -> Segment | None:
    return next((p.segment for p in kernel.phases if statement in p.statements), None)


MOST_SEGMENT_TILE, MOST_SEGMENT_POINTS = 128, 128 * 64

_NO_PRODUCT = "it is computed without a block product"


def _product(statement: StatementOp, kernel: Kernel) -> Product | None:
    return next((p.product for p in kernel.phases if statement in p.statements), None)


def _rows(statement: StatementOp, places: Found) -> tuple[str, ...]:
    """The variables of rows, or of the elements of a visit."""
    return next(kernel for s, kernel in places if s is statement).roots[statement].bound


def _adds_rows(statement: StatementOp, kernel: Kernel) -> bool:
    """Whether a statement is a product whose blocks are added to any rows."""
    return _product(statement, kernel) is not None and not rows_cover(
        statement, kernel.roots[statement]
    )


def _check_work(places: Found) -> None:
    statement = places[-1][0]
    schedule = Schedule.on(statement)
    assert schedule is not None
    parts = any(is_split(kernel) or _adds_rows(s, kernel) for s, kernel in places)
    if schedule.work == "merge":
        parts = any(is_merged(kernel) for _, kernel in places)
    if schedule.work in ("split", "merge") and not parts:
        raise refuse(
            statement,
            f"`work({schedule.work})` of `{schedule.of}` cannot be followed: no row of it is a sum "
            "over elements of its own that can be added up in parts",
            "`work(row)` or `work(persistent)`",
        )
    if schedule.work == "window" and not any(
        phase.visit for _, kernel in places for phase in kernel.phases
    ):
        raise refuse(
            statement,
            f"`work({schedule.work})` of `{schedule.of}` cannot be followed: no row of it has a "
            "number of elements of its own",
            "`work(row)` or `work(persistent)`",
        )
