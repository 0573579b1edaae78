"""Write sums of rows that several tasks do, so that they are the same in every run.

    y[e.dst, o] += x[e.src, o]          long rows in parts of 256 elements or more

    task t: %row, %from, %to, %piece of parts[t]
      %sum = ...                                         the elements at %from .. %to - 1
      if %piece < 0   tile.store %sum, %y[%row, %0]      all of the row
      else            tile.store %sum, %parts[%piece, %0]
    then, a kernel of its own: %row, %first, %last of part_rows[t]
      %sum = scf.for %piece = %first to %last iter_args(%acc = ...) { ... %parts[%piece, %0] }
      tile.store %sum, %y[%row, %0]

A CPU's task does many rows, unless it does a part of a long one (`spans`, `span_rows`).

Enters: a kernel whose only statement is a sum `in_parts`. Leaves: the stores of the first kernel,
and the second one. Which rows are in how many parts follows from the data alone; parts are put
together in the order of the elements.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LoadOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.schedule import Schedule
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.nest import over_slice
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.gpu.schedule_orders import is_merged
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, Storage, element_path
from hectorite.lowering.kernels.kernel_plan import Kernel, Root
from hectorite.lowering.kernels.place_tensors import (
    Placement,
    element_level,
    fits_locally,
    is_regular,
    row_position,
)
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.machine import Machine

MOST_PARTS, LEAST_PARTS = 4096, 128
"""Parts of all rows together: several for each warp that a GPU holds, as far as they fit."""
PARTS_BYTES = 1 << 24
"""Memory for parts, at most."""


def in_parts(plan: Kernel) -> bool:
    """Whether long rows of a kernel are put together from parts, as `work(merge)` asks for: on a
    CPU if its only statement is a sum over elements whose parts are small."""
    if plan.machine.is_gpu:
        return is_merged(plan)
    phase, statement = plan.phases[0], plan.statements[0]
    root = plan.roots[statement]
    position = row_position(statement, root)
    own_way = phase.product or phase.segment or phase.is_two_steps or plan.groups
    if len(plan.statements) > 1 or phase.visit is None or own_way:
        return False
    schedule = Schedule.on(statement)
    if schedule is None or schedule.work != "merge":
        return False
    if not is_regular(statement, root) or element_level(statement, root) or position is None:
        return False
    rest = [dim for number, dim in enumerate(statement.type.dims) if number != position]
    fits = fits_locally(statement.value.type, rest, plan.machine)
    return fits and statement.type.pad_value is None


def parts_type(statement: StatementOp, root: Root, machine: Machine) -> TensorType:
    """The tensor of a statement's parts, in the type of its sums."""
    type, position = statement.value.type, row_position(statement, root)
    rest = [dim for number, dim in enumerate(statement.type.dims) if number != position]
    size = element_of(type).storage.itemsize * prod(dim for dim in rest if isinstance(dim, int))
    return TensorType.of(type, (most_parts(size) if machine.is_gpu else LEAST_PARTS, *rest))


def most_parts(size: int) -> int:
    """Parts of all rows together, of so many bytes each."""
    return max(LEAST_PARTS, min(MOST_PARTS, PARTS_BYTES // max(1, size)))


def parts_layout(plan: Kernel, rows: bool) -> Layout:
    """What tasks do of the visit of a kernel, or the rows that are in parts."""
    statement = plan.statements[0]
    root = plan.roots[statement]
    assert root.visit is not None
    most = parts_type(statement, root, plan.machine).dims[0]
    assert isinstance(most, int)
    what = ("parts", "part_rows")[rows]
    if not plan.machine.is_gpu:
        what, most = ("spans", "span_rows")[rows], plan.machine.visit_tasks
    return Layout(what, root.visit.set, (element_path(root.visit.key),), None, most)


def parts_storage(placement: Placement, statement: StatementOp, builder: KernelBuilder) -> Storage:
    """Where parts are put, by their number."""
    parts = builder.parameter(placement.parts[statement])
    position = row_position(statement, placement.kernel.roots[statement])
    return Storage("local", parts, position, LEAST_PARTS)


def put(
    scope: Scope,
    value: SSAValue,
    statement: StatementOp,
    access: Sequence[IndexExpr],
    placement: Placement,
) -> None:
    """Write what a task made at one point (or at the lanes of one) of a row or a part of it."""
    piece, code, builder = scope.frame.piece, scope.code, scope.kernel
    assert piece is not None
    target = placement.storage(statement.result, builder)
    start = placement.start(statement, builder)
    parts = parts_storage(placement, statement, builder)

    def whole(inner: Code) -> None:
        at, total = scope.inside(inner), value
        if start is not None:
            first = inner.cast(at.load(start, access), statement.value.type)
            total = inner.scalar(statement.kind.data, first, value)
        at.store(total, target, access)

    def part(inner: Code) -> None:
        _of_piece(scope.inside(inner), piece).store(value, parts, access)

    code.choose(code.scalar("lt", piece, code.constant(0)), whole, part)


def _of_piece(scope: Scope, piece: SSAValue) -> Scope:
    return replace(scope, frame=replace(scope.frame, slot=piece))


def emit_merge(plan: Kernel, builder: KernelBuilder, placement: Placement) -> None:
    """The body of the second kernel: one row, from its parts."""
    statement, code = plan.statements[0], builder.code
    root, kind, type = plan.roots[statement], statement.kind.data, statement.value.type
    table = builder.layout(parts_layout(plan, rows=True))
    at = code.scalar("mul", builder.task, code.constant(3))
    row, first, last = (
        code.cast(code.add(LoadOp(table, [code.plus(at, i)])), builder.task.type) for i in range(3)
    )
    target = placement.storage(statement.result, builder)
    start = placement.start(statement, builder)
    parts = parts_storage(placement, statement, builder)
    builder.remark(code, statement)

    def point(scope: Scope, access: Sequence[IndexExpr]) -> None:
        if start is None:
            total = scope.code.constant(element_of(type).identity(kind), type)
        else:
            total = scope.code.cast(scope.load(start, access), type)
        if scope.lanes is not None:
            total = scope.code.spread(total, scope.lanes.count)

        def step(inner: Code, piece: SSAValue, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
            value = _of_piece(scope.inside(inner), piece).load(parts, access)
            return (inner.scalar(kind, sums[0], value),)

        scope.store(scope.code.loop(first, last, 1, (total,), step)[0], target, access)

    frame = Frame(code, builder, placement.values, rows=(row,))
    over_slice(frame, statement, root, point)
