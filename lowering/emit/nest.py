"""Write the loops of one statement, for one row or one visited element.

    S[z] += A[z] * P[z.row, k] * Q[z.col, k]

    %acc = scalar.constant 0.0 : vector<64xf32>
    %v = ... tile.load ... : vector<64xf32>          k in lanes, 64 at a time
    %sum = tile.reduce "add" %v
    tile.store %sum, %S[%z]

Variables of the left side are outer loops, the last of them in lanes if it stands alone there.
Variables that are only reduced are inner loops that carry the accumulator; if no left variable is
in lanes, one that moves along the last dimension of a read is, with a vector for accumulator.
"""

from collections.abc import Callable, Sequence

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import ReduceOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.kernels.kernel_builder import Storage
from hectorite.lowering.kernels.kernel_plan import Root
from hectorite.lowering.kernels.lane_choice import left_lanes, reduced_lanes
from hectorite.lowering.kernels.place_tensors import written_slice
from hectorite.lowering.kernels.product_shape import powers_of_two, vector_lanes
from hectorite.lowering.kernels.tile_code import Code

Body = Callable[[Scope], None]


def over(scope: Scope, variables: Sequence[str], body: Body) -> None:
    """Loops over variables, from the outermost in; short fixed ones are written out."""
    if not variables:
        body(scope)
        return
    name, rest = variables[0], variables[1:]
    extent = scope.dims[name]
    if isinstance(extent, int) and name in scope.written_out:
        for number in range(extent):
            over(scope.with_loop(name, scope.code.constant(number)), rest, body)
        return

    def iteration(code: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        over(scope.inside(code).with_loop(name, at), rest, body)
        return ()

    scope.code.loop(scope.code.constant(0), scope.kernel.size(extent), 1, (), iteration)


def strips(scope: Scope, variable: str, width: int, body: Body) -> None:
    """Run `body` with a variable in lanes, `width` at a time; the last strip may be narrower."""
    extent = scope.dims[variable]
    code = scope.code
    if not isinstance(extent, int):
        _dynamic_strips(scope, variable, width, body)
        return
    whole = extent // width
    if whole <= scope.kernel.machine.unrolled_strips:
        for number in range(whole):
            body(scope.with_lanes(Lanes(variable, width), code.constant(number * width)))
    else:

        def strip(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            body(scope.inside(inner).with_lanes(Lanes(variable, width), at))
            return ()

        code.loop(code.constant(0), code.constant(whole * width), width, (), strip)
    start = whole * width
    for count in powers_of_two(extent - start):
        body(scope.with_lanes(Lanes(variable, count), code.constant(start)))
        start += count


def _dynamic_strips(scope: Scope, variable: str, width: int, body: Body) -> None:
    extent = scope.kernel.size(scope.dims[variable])

    def strip(code: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        left = code.scalar("sub", extent, at)
        valid = code.scalar("min", left, code.constant(width))
        body(scope.inside(code).with_lanes(Lanes(variable, width, valid), at))
        return ()

    scope.code.loop(scope.code.constant(0), extent, width, (), strip)


def over_slice(
    frame: Frame,
    statement: StatementOp,
    root: Root,
    body: Callable[[Scope, Sequence[IndexExpr]], None],
) -> None:
    """Run `body` at each point of a row's part of the result, the last dimension in lanes."""
    variables, access, slice_root = written_slice(statement, root)
    scope = Scope.over(frame, slice_root, variables, variables)
    names = [name for name in variables if name not in slice_root.bound]
    width = vector_lanes(statement.value.type, scope.kernel.machine)

    def row(at: Scope) -> None:
        if names:
            strips(at, names[-1], width, lambda point: body(point, access))
        else:
            body(at, access)

    over(scope, names[:-1], row)


def emit_nest(scope: Scope, statement: StatementOp, start: Storage | None, target: Storage) -> None:
    """All points of a statement within a scope's frame.

    The accumulator of each left point starts from `start` (None: from the identity) and ends in
    `target`. A left point that several assignments of loop variables reach needs `start` and
    `target` to be the same.
    """
    scope.kernel.remark(scope.code, statement)
    bound = set(scope.root.bound)
    names = [name for name, _ in statement.variables.data if name not in bound]
    access = statement.access.data
    outer = [n for n in names if any(n in index.variables for index in access)]
    inner = [n for n in names if n not in outer]
    lanes = left_lanes(statement, scope.root.bound, scope.dims, scope.kernel.machine)
    loops = [name for name in outer if name != lanes]

    def point(at: Scope) -> None:
        emit_point(at, statement, inner, start, target)

    def row(at: Scope) -> None:
        if lanes is None:
            point(at)
        else:
            strips(at, lanes, vector_lanes(statement.value.type, scope.kernel.machine), point)

    over(scope, loops, row)


def emit_point(
    scope: Scope,
    statement: StatementOp,
    inner: list[str],
    start: Storage | None,
    target: Storage,
) -> None:
    """One point of the left side, or the points that lie in the lanes of the scope; `inner` are
    the variables that are reduced."""
    access, pad = statement.access.data, statement.type.pad_value
    if statement.kind.data == "assign":
        scope.store(scope.evaluate(statement.value), target, access, pad)
        return
    first = _first(scope, statement, start)
    if inner and scope.lanes is None and (lanes := reduced_lanes(statement, inner, scope.dims)):
        total = _reduce_across(scope, statement, [n for n in inner if n != lanes], lanes, first)
    else:
        if scope.lanes is not None:
            first = scope.code.spread(first, scope.lanes.count)
        total = emit_reduction(scope, statement, inner, first)
    scope.store(total, target, access, pad)


def emit_combined(
    scope: Scope, statement: StatementOp, inner: Sequence[str], target: Storage
) -> None:
    """The points of the left side that lie in the lanes of the scope, combined with what is there
    as one step each, since other tasks or lanes may reach the same elements."""
    kind, type = statement.kind.data, statement.value.type
    assert scope.lanes is not None
    first = scope.code.constant(
        element_of(type).identity(kind), VectorType(type, [scope.lanes.count])
    )
    value = emit_reduction(scope, statement, inner, first)
    access, pad = statement.access.data, statement.type.pad_value
    scope.store(value, target, access, pad, combine=kind)


def _first(scope: Scope, statement: StatementOp, start: Storage | None) -> SSAValue:
    type = statement.value.type
    if start is None:
        return scope.code.constant(element_of(type).identity(statement.kind.data), type)
    pad = statement.type.pad_value
    return scope.code.cast(scope.load(start, statement.access.data, pad), type)


def emit_reduction(
    scope: Scope, statement: StatementOp, inner: Sequence[str], total: SSAValue
) -> SSAValue:
    """Loops over reduced variables that carry the accumulator."""
    kind = statement.kind.data
    if not inner:
        value = scope.evaluate(statement.value)
        return scope.code.scalar(kind, total, value)
    name, rest = inner[0], inner[1:]
    extent = scope.dims[name]
    if isinstance(extent, int) and name in scope.written_out:
        for number in range(extent):
            at = scope.with_loop(name, scope.code.constant(number))
            total = emit_reduction(at, statement, rest, total)
        return total

    def iteration(code: Code, at: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        there = scope.inside(code).with_loop(name, at)
        return (emit_reduction(there, statement, rest, carried[0]),)

    upper = scope.kernel.size(extent)
    return scope.code.loop(scope.code.constant(0), upper, 1, (total,), iteration)[0]


def _reduce_across(
    scope: Scope, statement: StatementOp, inner: Sequence[str], lanes: str, first: SSAValue
) -> SSAValue:
    """The reduction with one reduced variable in lanes: a vector accumulator for the whole strips
    and one for the rest, each combined across its lanes at the end."""
    kind, type = statement.kind.data, statement.value.type
    extent, width = scope.dims[lanes], vector_lanes(type, scope.kernel.machine)
    assert isinstance(extent, int)
    code = scope.code
    total = first
    whole = extent - extent % width
    parts = [(width, 0, whole)] if whole else []
    for count in powers_of_two(extent % width):
        parts.append((count, whole, whole + count))
        whole += count
    for count, lower, upper in parts:
        start = code.constant(element_of(type).identity(kind), VectorType(type, [count]))

        def strip(
            inner_code: Code, at: SSAValue, carried: Sequence[SSAValue], count: int = count
        ) -> Sequence[SSAValue]:
            there = scope.inside(inner_code).with_lanes(Lanes(lanes, count), at)
            return (emit_reduction(there, statement, inner, carried[0]),)

        if upper - lower == count:
            there = scope.with_lanes(Lanes(lanes, count), code.constant(lower))
            vector = emit_reduction(there, statement, inner, start)
        else:
            bounds = code.constant(lower), code.constant(upper)
            vector = code.loop(*bounds, count, (start,), strip)[0]
        total = code.scalar(kind, total, code.add(ReduceOp(kind, vector)))
    return total
