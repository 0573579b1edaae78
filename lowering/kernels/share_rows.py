"""Share the rows of a kernel out among its tasks.

    chunks    task t does rows [96 t, 96 t + 96)                 a CPU, without visits
    cuts      task t does rows [cuts[t], cuts[t + 1])            a CPU, with visits
    spans     the same, or a part of the elements of a long row  a CPU, long rows merged
    shares    the same, a part of it if a row is long            a CPU, with a segment product
    windows   task t does elements [256 t, 256 t + 256)          a GPU, long rows split
    parts     task t does a row, or a part of one that is long   a GPU, long rows merged
    runs      task t does places [runs[t], runs[t + 1])          grouped rows
    strips    task t does all rows, strip t                      a CPU, two steps over one set
    pairs     task t sums elements [pairs[4 t], pairs[4 t + 1]), a GPU, the same
              and hands on to [pairs[4 t + 2], pairs[4 t + 3])
    targets   task t does rows [rows[t], rows[t + 1])            a CPU, with a scattered product
    rows      task t does row t                                  a GPU, without a product
    lanes     task t does rows [128 t, 128 t + 128)              a GPU, where rows are short
    blocks    task t does block t / strips, strip t % strips     a GPU, with a product, also one
              whose rows are scattered, each block to rows of its own
              or a block of the outer products of a row          a GPU, with a segment product

Enters: a planned kernel, its builder and the host program. Leaves: `Tasks`, with what it takes
written into the host program.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from xdsl.ir import SSAValue

from hectorite.dialects.tile import LoadOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.emit.merge import in_parts, parts_layout
from hectorite.lowering.emit.owned_rows import slot_layout
from hectorite.lowering.emit.scattered_product import target_blocks
from hectorite.lowering.gpu.schedule_orders import is_merged, is_split, work_of
from hectorite.lowering.kernels.host_program import HostProgram
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Segment, Visit
from hectorite.lowering.kernels.place_tensors import rows_in_lanes
from hectorite.lowering.kernels.product_shape import powers_of_two
from hectorite.lowering.kernels.row_order import RowOrder
from hectorite.lowering.kernels.segment_shape import row_blocks
from hectorite.lowering.kernels.tile_code import Code

LEAST_BLOCKS = 4
"""Blocks of a segment product's rows that are worth being shared out."""
USUAL_SIZE = 1024
"""What the size of a set is taken for."""


@dataclass(frozen=True)
class Share:
    """What one task does: its `rows` (None: the kernel has no rows), the number of a `strip` of
    lanes if strips are tasks of their own, and the values of a product's `loops` if those are. With
    a `window`, it does only those elements of its rows that have these places in the visit.
    What a task makes of them goes to the row, or to the `piece` of it of that number if that is not
    negative. Of two steps over one set, the second has the elements `handed_on`. `block` is the
    number of its block of rows, if a product is scattered into it; `part` which part, of how many,
    of what long rows make."""

    rows: RowOrder | None
    strip: SSAValue | None = None
    loops: Mapping[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    window: tuple[SSAValue, SSAValue] | None = None
    piece: SSAValue | None = None
    handed_on: tuple[SSAValue, SSAValue] | None = None
    block: SSAValue | None = None
    part: tuple[SSAValue, SSAValue] | None = None


@dataclass(frozen=True)
class Tasks:
    """All tasks of a kernel: how many, a value of the host program, and what writes the share of
    one into the kernel, given its number."""

    count: SSAValue
    share: Callable[[Code, SSAValue], Share]


def share_rows(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """The tasks of a kernel."""
    if not plan.rows:
        return Tasks(host.code.constant(1), lambda code, number: Share(None))
    if plan.scattered is not None and plan.machine.is_gpu:
        return _owned(plan.scattered, builder, host)
    if plan.phases[0].product is not None and plan.machine.is_gpu:
        return _blocks(plan, builder, host)
    if plan.phases[0].segment is not None and plan.machine.is_gpu:
        return _segment_blocks(plan, plan.phases[0].segment, builder, host)
    if rows_in_lanes(plan):
        return _lanes(plan, builder, host)
    if plan.phases[0].strip:
        return _strip_tasks(plan, builder, host)
    if plan.phases[0].group:
        return _pairs(plan, builder, host)
    if plan.scattered is not None:
        return _target_blocks(plan.scattered, plan, builder, host)
    if plan.groups:
        return _runs(plan, builder, host)
    visit = next((phase.visit for phase in plan.phases if phase.visit is not None), None)
    if visit is not None and is_split(plan):
        return _windows(plan, visit, builder, host)
    if visit is not None and in_parts(plan):
        return _merged(plan, builder, host)
    if visit is not None and has_parts(plan):
        return _shares(plan, visit, builder, host)
    if visit is not None and (not plan.machine.is_gpu or work_of(plan) == "window"):
        return _cuts(plan, visit, builder, host)
    return _rows(plan, host) if plan.machine.is_gpu else _chunks(plan, builder, host)


def _bounds(
    code: Code, builder: KernelBuilder, request: Layout, number: SSAValue
) -> tuple[SSAValue, SSAValue]:
    """Row bounds from a layout that has one entry more than there are parts."""
    lower = _entry(code, builder, request, number)
    return lower, _entry(code, builder, request, code.plus(number, 1))


def _entry(code: Code, builder: KernelBuilder, request: Layout, place: SSAValue) -> SSAValue:
    """One number of a layout."""
    return code.cast(code.add(LoadOp(builder.layout(request), [place])), builder.task.type)


def _parts(host: HostProgram, request: Layout) -> SSAValue:
    return host.code.plus(host.length(request), -1)


def _runs(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """Rows of one group, at most so many."""
    keys, runs = _grouping(plan, plan.machine.group_rows)

    def share(code: Code, number: SSAValue) -> Share:
        return Share(RowOrder(*_bounds(code, builder, runs, number), runs.of, keys))

    return Tasks(_parts(host, runs), share)


def _grouping(plan: Kernel, limit: int) -> tuple[tuple[IndexExpr, ...], Layout]:
    keys = tuple(IndexExpr.of("e", *path.fields) for path in plan.groups)
    return keys, Layout("runs", str(plan.rows[0]), keys, None, limit)


def _cuts(plan: Kernel, visit: Visit, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """Rows that have together as many elements as those of the other tasks."""
    keys = (IndexExpr.of("e", *visit.key),)
    cuts = Layout("cuts", visit.set, keys, None, plan.machine.visit_tasks)

    def share(code: Code, number: SSAValue) -> Share:
        return Share(RowOrder(*_bounds(code, builder, cuts, number), plan.owner))

    return Tasks(_parts(host, cuts), share)


def has_parts(plan: Kernel) -> bool:
    """Whether several tasks of a CPU can do one row together, each some blocks of its product: that
    is all that the kernel does, and nothing has to be done before or after the elements. Windows of
    rows are never long."""
    phase = plan.phases[0]
    if plan.machine.is_gpu or phase.segment is None or len(plan.phases) > 1:
        return False
    segment, statement = phase.segment, phase.statements[0]
    plain = statement.init is None and statement.type.element == statement.value.type
    rows = _fixed(dict(statement.variables.data)[segment.rows])
    size = element_of(statement.value.type).storage.itemsize
    widths = powers_of_two(segment.shape.lanes)
    blocks = row_blocks(rows, widths, size, plan.machine)
    return plain and segment.stride is None and blocks >= LEAST_BLOCKS


def _shares(plan: Kernel, visit: Visit, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """As `_cuts`, but a row with a large share of the elements is several tasks."""
    keys = (IndexExpr.of("e", *visit.key),)
    shares = Layout("shares", visit.set, keys, None, plan.machine.visit_tasks)

    def share(code: Code, number: SSAValue) -> Share:
        start = code.scalar("mul", number, code.constant(4))
        lower, upper, part, parts = (
            _entry(code, builder, shares, code.plus(start, i)) for i in range(4)
        )
        return Share(RowOrder(lower, upper, plan.owner), part=(part, parts))

    tasks = host.code.scalar("floordiv", host.length(shares), host.code.constant(4))
    return Tasks(tasks, share)


def _target_blocks(phase: Phase, plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """Rows that a scattered product sums into, a block for each task."""
    of, keys, height = target_blocks(phase)
    rows = Layout("block_rows", of, keys, None, height)

    def share(code: Code, number: SSAValue) -> Share:
        order = RowOrder(*_bounds(code, builder, rows, number), plan.owner)
        return Share(order, block=number)

    return Tasks(_parts(host, rows), share)


def _strip_tasks(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """All rows, for one strip of the lanes."""
    phase = plan.phases[0]
    strips = -(-_fixed(phase.statements[-1].type.dims[-1]) // phase.strip)

    def share(code: Code, number: SSAValue) -> Share:
        order = RowOrder(code.constant(0), builder.size(plan.rows[0]), plan.owner)
        return Share(order, strip=number)

    return Tasks(host.code.constant(strips), share)


def _pairs(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """Rows with few elements, or of one row some that are summed and some that are handed on to."""
    phase = plan.phases[0]
    assert phase.visit is not None
    keys = (IndexExpr.of("e", *phase.visit.key),)
    pairs = Layout("pairs", phase.visit.set, keys, None, phase.group)
    row_of = Layout("along", phase.visit.set, keys, keys[0])

    def share(code: Code, number: SSAValue) -> Share:
        start = code.scalar("mul", number, code.constant(4))
        places = [_entry(code, builder, pairs, code.plus(start, i)) for i in range(4)]
        first = _entry(code, builder, row_of, places[0])
        last = _entry(code, builder, row_of, code.plus(places[1], -1))
        order = RowOrder(first, code.plus(last, 1), plan.owner)
        return Share(order, window=(places[0], places[1]), handed_on=(places[2], places[3]))

    tasks = host.code.scalar("floordiv", host.length(pairs), host.code.constant(4))
    return Tasks(tasks, share)


def _windows(plan: Kernel, visit: Visit, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """As many elements as those of the other tasks; of the first and last row perhaps a part."""
    keys, size = (IndexExpr.of("e", *visit.key),), plan.machine.split_elements
    row_of = Layout("along", visit.set, keys, keys[0])

    def share(code: Code, number: SSAValue) -> Share:
        lower = code.scalar("mul", number, code.constant(size))
        upper = code.scalar("min", code.plus(lower, size), builder.size(visit.set))
        first = _entry(code, builder, row_of, lower)
        last = _entry(code, builder, row_of, code.plus(upper, -1))
        return Share(RowOrder(first, code.plus(last, 1), plan.owner), window=(lower, upper))

    return Tasks(host.parts(host.size(visit.set), size), share)


def _merged(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """One row, on a CPU several, or if that is long one of its parts, for each task."""
    parts = parts_layout(plan, rows=False)

    def share(code: Code, number: SSAValue) -> Share:
        start = code.scalar("mul", number, code.constant(4))
        row, lower, upper, piece = (
            _entry(code, builder, parts, code.plus(start, i)) for i in range(4)
        )
        if not plan.machine.is_gpu:
            # Where the piece is none, the second number is the row to which the task goes.
            order = RowOrder(row, lower, plan.owner)
            return Share(order, window=(lower, upper), piece=piece)
        order = RowOrder(row, code.plus(row, 1), plan.owner)
        return Share(order, window=(lower, upper), piece=piece)

    return Tasks(host.code.scalar("floordiv", host.length(parts), host.code.constant(4)), share)


def _count(code: Code, plan: Kernel, builder: KernelBuilder) -> SSAValue:
    """The number of rows, inside the kernel."""
    count = builder.size(plan.rows[0])
    for dim in plan.rows[1:]:
        count = code.scalar("mul", count, builder.size(dim))
    return count


def _chunks(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """Equal parts of the rows, and strips of the kernel's only product."""
    strips, chunk = _strips_of(plan), _chunk(plan)

    def share(code: Code, task: SSAValue) -> Share:
        count, number = _count(code, plan, builder), task
        if strips > 1:
            number = code.scalar("floordiv", number, code.constant(strips))
        lower = code.scalar("mul", number, code.constant(chunk))
        order = RowOrder(lower, code.scalar("min", code.plus(lower, chunk), count), plan.owner)
        if strips == 1:
            return Share(order)
        return Share(order, code.scalar("mod", task, code.constant(strips)))

    tasks = host.parts(host.count(plan.rows), chunk)
    if strips > 1:
        tasks = host.code.scalar("mul", tasks, host.code.constant(strips))
    return Tasks(tasks, share)


def _chunk(plan: Kernel) -> int:
    """Rows of one task: enough to be worth the start of a task."""
    points = 0
    for statement in plan.statements:
        bound = plan.roots[statement].bound
        sizes = [dim for name, dim in statement.variables.data if name not in bound]
        points += prod(dim if isinstance(dim, int) else USUAL_SIZE for dim in sizes)
    least, most = plan.machine.chunk_rows
    return max(least, min(most, plan.machine.task_points // max(1, points)))


def _strips_of(plan: Kernel) -> int:
    """Strips of lanes that are tasks of their own: all of a wide product's, if it is all that the
    kernel does and they are of one width; else 1."""
    phase = plan.phases[0]
    product, statement = phase.product, phase.statements[0]
    if len(plan.phases) > 1 or product is None or plan.groups or product.loops:
        return 1
    if not product.shape.wide:
        return 1
    extent, width = dict(statement.variables.data)[product.lanes], product.shape.lanes
    assert isinstance(extent, int)
    return -(-extent // width) if product.packed or extent % width == 0 else 1


def _rows(plan: Kernel, host: HostProgram) -> Tasks:
    """One row for each task."""

    def share(code: Code, number: SSAValue) -> Share:
        return Share(RowOrder(number, code.plus(number, 1), plan.owner))

    return Tasks(host.count(plan.rows), share)


def _lanes(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """As many rows as there are lanes."""
    width = plan.machine.row_lanes

    def share(code: Code, number: SSAValue) -> Share:
        lower = code.scalar("mul", number, code.constant(width))
        return Share(RowOrder(lower, _count(code, plan, builder), plan.owner))

    return Tasks(host.parts(host.count(plan.rows), width), share)


def _owned(phase: Phase, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """A block of the rows that a scattered product sums into, at one strip and point."""
    counts = _inside_blocks(phase)

    def share(code: Code, number: SSAValue) -> Share:
        values, number = _taken_apart(code, number, counts)
        strip = values.pop(next(iter(counts)))
        return Share(RowOrder(number, code.plus(number, 1)), strip, values, block=number)

    blocks = _parts(host, slot_layout(phase, "slot_groups"))
    return Tasks(_times(host, blocks, prod(counts.values())), share)


def _inside_blocks(phase: Phase) -> dict[str, int]:
    """How many tasks a block of a product's rows has along its lanes and its other variables."""
    product, dims = phase.product, dict(phase.statements[0].variables.data)
    assert product is not None
    counts = {product.lanes: -(-_fixed(dims[product.lanes]) // product.shape.lanes)}
    return counts | {name: _fixed(dims[name]) for name in reversed(product.loops)}


def _blocks(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Tasks:
    """A block of rows, at one strip of lanes and one point of the product's loops."""
    phase = plan.phases[0]
    product = phase.product
    assert product is not None
    height, counts = product.shape.rows, _inside_blocks(phase)
    keys, runs = _grouping(plan, height)

    def share(code: Code, number: SSAValue) -> Share:
        values, number = _taken_apart(code, number, counts)
        strip = values.pop(product.lanes)
        if plan.groups:
            order = RowOrder(*_bounds(code, builder, runs, number), runs.of, keys)
        else:
            lower = code.scalar("mul", number, code.constant(height))
            upper = code.scalar("min", code.plus(lower, height), builder.size(plan.rows[0]))
            order = RowOrder(lower, upper, plan.owner)
        return Share(order, strip, values)

    tasks = _parts(host, runs) if plan.groups else host.parts(host.size(plan.rows[0]), height)
    inner = prod(counts.values())
    return Tasks(_times(host, tasks, inner), share)


def _segment_blocks(
    plan: Kernel, segment: Segment, builder: KernelBuilder, host: HostProgram
) -> Tasks:
    """One block of the product of a row, or of as many rows as the schedule says."""
    visit, dims = plan.phases[0].visit, dict(plan.statements[0].variables.data)
    assert visit is not None
    counts = {segment.lanes: -(-_fixed(dims[segment.lanes]) // segment.shape.lanes)}
    counts[segment.rows] = -(-_fixed(dims[segment.rows]) // segment.shape.rows)
    counts |= {name: _fixed(dims[name]) for name in reversed(segment.loops)}
    if is_split(plan):
        whole = _windows(plan, visit, builder, host)
    elif is_merged(plan):
        whole = _merged(plan, builder, host)
    elif work_of(plan) == "window":
        whole = _cuts(plan, visit, builder, host)
    else:
        whole = _rows(plan, host)

    def share(code: Code, number: SSAValue) -> Share:
        values, number = _taken_apart(code, number, counts)
        return replace(whole.share(code, number), loops=values)

    return Tasks(_times(host, whole.count, prod(counts.values())), share)


def _taken_apart(
    code: Code, number: SSAValue, counts: Mapping[str, int]
) -> tuple[dict[str, SSAValue], SSAValue]:
    """Which of the blocks along each variable a task does, and what is left of its number."""
    values = dict[str, SSAValue]()
    for name, count in counts.items():
        values[name] = code.constant(0)
        if count > 1:
            values[name] = code.scalar("mod", number, code.constant(count))
            number = code.scalar("floordiv", number, code.constant(count))
    return values, number


def _times(host: HostProgram, count: SSAValue, factor: int) -> SSAValue:
    return count if factor == 1 else host.code.scalar("mul", count, host.code.constant(factor))


def _fixed(dim: Dim) -> int:
    assert isinstance(dim, int)
    return dim
