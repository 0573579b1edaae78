"""Share the rows of a kernel out among its tasks.

    chunks    task t does rows [96 t, 96 t + 96)                 a CPU, without visits
    cuts      task t does rows [cuts[t], cuts[t + 1])            a CPU, with visits
    runs      task t does places [runs[t], runs[t + 1])          grouped rows
    rows      task t does row t                                  a GPU, without a product
    lanes     task t does rows [128 t, 128 t + 128)              a GPU, where rows are short
    blocks    task t does block t / strips, strip t % strips     a GPU, with a product

Enters: a planned kernel, its builder and the host program. Leaves: a `Share`, with what it takes
written into the kernel and the host program.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from xdsl.ir import SSAValue

from hectorite.dialects.tile import LoadOp
from hectorite.ir.index import IndexExpr
from hectorite.lowering.host_program import HostProgram
from hectorite.lowering.kernel_builder import KernelBuilder, Layout
from hectorite.lowering.kernel_plan import Kernel
from hectorite.lowering.place_tensors import rows_in_lanes
from hectorite.lowering.row_order import RowOrder

USUAL_SIZE = 1024
"""What the size of a set is taken for."""


@dataclass(frozen=True)
class Share:
    """What one task does: its `rows` (None: the kernel has no rows), the number of a `strip` of
    lanes if strips are tasks of their own, and the values of a product's `loops` if those are.
    `tasks`, a value of the host program, is how many there are."""

    rows: RowOrder | None
    tasks: SSAValue
    strip: SSAValue | None = None
    loops: Mapping[str, SSAValue] = field(default_factory=dict[str, SSAValue])


def share_rows(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Share:
    """The share of one task, and how many tasks there are."""
    if not plan.rows:
        return Share(None, host.code.constant(1))
    if plan.machine.is_gpu:
        has_product = plan.phases[0].product is not None
        return _block(plan, builder, host) if has_product else _row(plan, builder, host)
    if plan.groups:
        return _runs(plan, builder, host, plan.machine.group_rows)
    visit = next((phase.visit for phase in plan.phases if phase.visit is not None), None)
    if visit is not None:
        keys = (IndexExpr.of("e", *visit.key),)
        cuts = Layout("cuts", visit.set, keys, None, plan.machine.visit_tasks)
        bounds, tasks = _bounds(builder, host, cuts, builder.task)
        return Share(RowOrder(*bounds, plan.owner), tasks)
    return _chunks(plan, builder, host)


def _bounds(
    builder: KernelBuilder, host: HostProgram, request: Layout, number: SSAValue
) -> tuple[tuple[SSAValue, SSAValue], SSAValue]:
    """Row bounds from a layout that has one entry more than there are parts, and their number."""
    code, index = builder.code, builder.task.type
    array = builder.layout(request)
    lower = code.cast(code.add(LoadOp(array, [number])), index)
    upper = code.cast(code.add(LoadOp(array, [code.plus(number, 1)])), index)
    return (lower, upper), host.code.plus(host.length(request), -1)


def _runs(plan: Kernel, builder: KernelBuilder, host: HostProgram, limit: int) -> Share:
    """Rows of one group, at most so many."""
    keys = tuple(IndexExpr.of("e", *path.fields) for path in plan.groups)
    owner = str(plan.rows[0])
    runs = Layout("runs", owner, keys, None, limit)
    bounds, tasks = _bounds(builder, host, runs, builder.task)
    return Share(RowOrder(*bounds, owner, keys), tasks)


def _chunks(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Share:
    """Equal parts of the rows, and strips of the kernel's only product."""
    code, strips = builder.code, _strips_of(plan)
    count = builder.size(plan.rows[0])
    rows = host.size(plan.rows[0])
    for dim in plan.rows[1:]:
        count = code.scalar("mul", count, builder.size(dim))
        rows = host.code.scalar("mul", rows, host.size(dim))
    chunk = _chunk(plan)
    number = builder.task
    if strips > 1:
        number = code.scalar("floordiv", number, code.constant(strips))
    lower = code.scalar("mul", number, code.constant(chunk))
    upper = code.scalar("min", code.plus(lower, chunk), count)
    tasks = host.parts(rows, chunk)
    order = RowOrder(lower, upper, plan.owner)
    if strips == 1:
        return Share(order, tasks)
    tasks = host.code.scalar("mul", tasks, host.code.constant(strips))
    return Share(order, tasks, code.scalar("mod", builder.task, code.constant(strips)))


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


def _row(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Share:
    """One row, or as many as there are lanes."""
    code = builder.code
    if rows_in_lanes(plan):
        width = plan.machine.row_lanes
        count = builder.size(plan.rows[0])
        for dim in plan.rows[1:]:
            count = code.scalar("mul", count, builder.size(dim))
        lower = code.scalar("mul", builder.task, code.constant(width))
        order = RowOrder(lower, count, plan.owner)
        return Share(order, host.parts(host.count(plan.rows), width))
    order = RowOrder(builder.task, code.plus(builder.task, 1), plan.owner)
    return Share(order, host.count(plan.rows))


def _block(plan: Kernel, builder: KernelBuilder, host: HostProgram) -> Share:
    """One block of rows, at one strip of lanes and one point of the product's loops."""
    code, phase = builder.code, plan.phases[0]
    product, dims = phase.product, dict(phase.statements[0].variables.data)
    assert product is not None
    extent, shape = dims[product.lanes], product.shape
    assert isinstance(extent, int)
    number, values, inner = builder.task, dict[str, SSAValue](), 1
    places: list[tuple[str, int]] = [(product.lanes, -(-extent // shape.lanes))]
    for name in reversed(product.loops):
        size = dims[name]
        assert isinstance(size, int)
        places.append((name, size))
    for name, count in places:
        values[name] = code.constant(0)
        if count > 1:
            values[name] = code.scalar("mod", number, code.constant(count))
            number = code.scalar("floordiv", number, code.constant(count))
        inner *= count
    strip = values.pop(product.lanes)
    if plan.groups:
        keys = tuple(IndexExpr.of("e", *path.fields) for path in plan.groups)
        runs = Layout("runs", str(plan.rows[0]), keys, None, shape.rows)
        bounds, blocks = _bounds(builder, host, runs, number)
        order = RowOrder(*bounds, str(plan.rows[0]), keys)
    else:
        count = builder.size(plan.rows[0])
        lower = code.scalar("mul", number, code.constant(shape.rows))
        upper = code.scalar("min", code.plus(lower, shape.rows), count)
        order = RowOrder(lower, upper, plan.owner)
        blocks = host.parts(host.size(plan.rows[0]), shape.rows)
    tasks = blocks if inner == 1 else host.code.scalar("mul", blocks, host.code.constant(inner))
    return Share(order, tasks, strip, values)
