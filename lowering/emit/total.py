"""Write a sum over everything as two kernels of a GPU: parts of it, and their sum.

    s[] += x[n] * y[n]

    parts    task t does n in [t * chunk, t * chunk + chunk), 128 at a time, into parts[t]
    total    one task loads all parts and reduces them

Enters: a kernel that has no rows and whose only statement makes a single value. Leaves: the bodies
of the two. Every run adds in the same order.
"""

from collections.abc import Sequence
from dataclasses import replace

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, ReduceOp, StoreOp
from hectorite.ir.element import element_of
from hectorite.lowering.emit.nest import emit_reduction
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.kernel_plan import Kernel, Root
from hectorite.lowering.kernels.place_tensors import Placement
from hectorite.lowering.kernels.tile_code import Code


def is_total(plan: Kernel) -> bool:
    """Whether a kernel does nothing but make one value of many, on a GPU."""
    if not plan.machine.is_gpu or plan.rows or len(plan.statements) != 1:
        return False
    statement = plan.statements[0]
    single = not statement.type.dims and statement.kind.data != "assign"
    return single and plan.phases[0].visit is None and bool(statement.variables.data)


def emit_parts(plan: Kernel, builder: KernelBuilder, placement: Placement, parts: SSAValue) -> None:
    """The part of one task, into its element of `parts`, a value of the host program."""
    statement, code = plan.statements[0], builder.code
    kind, type = statement.kind.data, statement.value.type
    chosen = _spread_variable(statement)
    inner = [name for name, _ in statement.variables.data if name != chosen]
    size, width = builder.size(dict(statement.variables.data)[chosen]), plan.machine.row_lanes
    count = code.constant(plan.machine.parts * width)
    strips = code.scalar("floordiv", code.plus(size, plan.machine.parts * width - 1), count)
    chunk = code.scalar("mul", strips, code.constant(width))
    lower = code.scalar("mul", builder.task, chunk)
    upper = code.scalar("min", code.scalar("add", lower, chunk), size)
    neutral = code.constant(element_of(type).identity(kind), VectorType(type, [width]))
    frame = Frame(code, builder, placement.values)
    _read_storages(statement, placement, builder)

    def strip(there: Code, at: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        left = there.scalar("sub", upper, at)
        valid = there.scalar("min", left, there.constant(width))
        scope = Scope.of(replace(frame, code=there), statement, Root((), ()))
        scope = scope.with_lanes(Lanes(chosen, width, valid), at)
        value = there.spread(emit_reduction(scope, statement, inner, neutral), width)
        inside = there.scalar("lt", there.add(LanesOp(width)), valid)
        return (there.scalar(kind, carried[0], there.scalar("select", inside, value, neutral)),)

    total = code.loop(lower, upper, width, (neutral,), strip)[0]
    part = code.add(ReduceOp(kind, total))
    code.block.add_op(StoreOp(part, builder.parameter(parts), [builder.task]))


def emit_total(plan: Kernel, builder: KernelBuilder, placement: Placement, parts: SSAValue) -> None:
    """The sum of the parts and of what the statement starts from, into its tensor."""
    statement, code = plan.statements[0], builder.code
    kind, type = statement.kind.data, statement.value.type
    scope = Scope.of(Frame(code, builder, placement.values), statement, Root((), ()))
    start = placement.start(statement, builder)
    total = code.constant(element_of(type).identity(kind), type)
    if start is not None:
        total = code.cast(scope.load(start, ()), type)
    width = plan.machine.row_lanes
    lanes = code.constant(element_of(type).identity(kind), VectorType(type, [width]))
    source = builder.parameter(parts)
    for at in range(0, plan.machine.parts, width):
        part = LoadOp(source, [code.constant(at)], VectorType(type, [width]), axis=0)
        lanes = code.scalar(kind, lanes, code.add(part))
    total = code.scalar(kind, total, code.add(ReduceOp(kind, lanes)))
    scope.store(total, placement.storage(statement.result, builder), ())


def _spread_variable(statement: StatementOp) -> str:
    """The variable that is shared out among tasks: one that may have the most values."""

    def extent(pair: tuple[str, int | str]) -> float:
        return float("inf") if isinstance(pair[1], str) else pair[1]

    return max(statement.variables.data, key=extent)[0]


def _read_storages(statement: StatementOp, placement: Placement, builder: KernelBuilder) -> None:
    """Tell the builder where the tensors live that the statement reads."""
    for read in statement.reads:
        placement.storage(read.tensor, builder)
