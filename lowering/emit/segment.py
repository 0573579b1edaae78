"""Write a segment product on a CPU: the outer products of all elements of a row, added up.

    d[e.type, i, o] += x[e.src, i] * g[e.dst, o]

    scf.for %first = ...                      so many elements of the row at a time
      scf.for %i = ...                        6 rows i by 64 lanes o
        %sums = tile.load %d[%row, %i + 0 ... 5, ...]           zeros for the first elements
        scf.for %place = ...                  the elements, with the sums in registers
          %y = tile.load %g[%dst, ...] -> vector<64xf32>
          %x = tile.load %x[%src, %i + 0]     and 5 more, each repeated, times %y, added
        tile.store %sums, %d[%row, ...]

Enters: the frame of a row, and a phase with a `Segment`. Leaves: that code. A side that is more
than a read of the type of the sums is computed into local memory first, for the elements at hand.
Sums of another type than the result's are in local memory until the row is done.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.dialects.scf import IfOp, YieldOp
from xdsl.ir import Block, SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.dialects.tile import LoadOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.nest import Body, over, strips
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.emit.visit import VisitEmitter
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Root, Segment
from hectorite.lowering.kernels.place_tensors import Placement, fits_locally, row_position
from hectorite.lowering.kernels.product_shape import powers_of_two, vector_lanes
from hectorite.lowering.kernels.segment_shape import block_height
from hectorite.lowering.kernels.tile_code import Code


@dataclass(frozen=True)
class Side:
    """One side of the product, over `variables` for each element, the last of which is r or j. With
    `memory`, its values are there for the elements at hand, a row
    for each, the first of which is the element at the place `start`."""

    factors: tuple[SSAValue, ...]
    variables: tuple[str, ...]
    memory: SSAValue | None
    start: SSAValue

    def value(self, scope: Scope) -> SSAValue:
        """The side at the element and the lanes (or the row) of a scope."""
        if self.memory is None:
            return self.computed(scope)
        code, element = scope.code, cast(TensorType, self.memory.type).element
        assert scope.frame.place is not None
        slot = code.scalar("sub", scope.frame.place, self.start)
        at = [slot, *(scope.loops[name] for name in self.variables)]
        if scope.lanes is None:
            return code.add(LoadOp(self.memory, at))
        type = VectorType(element, [scope.lanes.count])
        return code.add(LoadOp(self.memory, at, type, axis=len(self.variables)))

    def computed(self, scope: Scope) -> SSAValue:
        """The same, from its factors."""
        values = [scope.evaluate(factor) for factor in self.factors]
        return reduce(lambda a, b: scope.code.scalar("mul", a, b), values)


@dataclass(frozen=True)
class SegmentEmitter:
    """Writes segment products of one kernel."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement

    def visit(self, frame: Frame, phase: Phase) -> None:
        """The phase's statement, for one row."""
        statement, visit, segment = phase.statements[0], phase.visit, phase.segment
        assert visit is not None and segment is not None
        root = self.kernel.roots[statement]
        writer = _Writer(self.builder, self.placement, statement, segment)
        scope = _scope(replace(frame, visit=visit), statement, root)
        self.builder.remark(frame.code, statement)
        writer.begin(scope)
        visits = VisitEmitter(self.kernel, self.builder, self.placement)
        lower, upper = visits.segment(frame, visit)

        def step(there: Frame) -> None:
            assert there.place is not None
            end = there.code.plus(there.place, segment.shape.depth)
            end = there.code.scalar("min", end, upper)
            is_first = there.code.scalar("eq", there.place, lower)
            writer.step(_scope(there, statement, root), there.place, end, is_first)

        if writer.rounds_each_time:
            writer.step(scope, lower, upper, None)
        else:
            # A row without elements has a step, too, which puts zeros into the result.
            last = frame.code.scalar("max", upper, frame.code.plus(lower, 1))
            visits.elements(frame, phase, visit, (lower, last), segment.shape.depth, step)
        writer.end(scope)


class _Writer:
    """Writes one statement."""

    def __init__(
        self,
        builder: KernelBuilder,
        placement: Placement,
        statement: StatementOp,
        segment: Segment,
    ):
        self.builder, self.placement = builder, placement
        self.statement, self.segment = statement, segment
        self.type, self.access = statement.value.type, statement.access.data
        self.pad = statement.type.pad_value
        self.target = placement.storage(statement.result, builder)
        self.first = placement.start(statement, builder)
        self.total = self._total()
        self.rounds_each_time = self.total == self.target and statement.type.element != self.type
        self.memories = self._memory(0), self._memory(1)
        self.is_first: SSAValue | None = None

    # Where sums and sides are -------------------------------------------------------------------

    def _total(self) -> Storage:
        """Where sums are: in the result, unless that would round them and they fit elsewhere."""
        statement, placement = self.statement, self.placement
        position = row_position(statement, placement.kernel.roots[statement])
        dims = [d for i, d in enumerate(statement.type.dims) if i != position]
        fits = position is not None and fits_locally(self.type, dims, self.builder.machine)
        if statement.type.element == self.type or not fits:
            return self.target
        return Storage("local", self.builder.local(TensorType.of(self.type, (1, *dims))), position)

    def _memory(self, side: int) -> SSAValue | None:
        """Memory for a side that is worth being computed once: more than a read, and used by
        several blocks."""
        segment, dims = self.segment, dict(self.statement.variables.data)
        direct = (segment.direct_left, segment.direct_right)[side]
        own, other = (segment.rows, segment.lanes)[:: 1 if side == 0 else -1]
        extents = [int(dims[name]) for name in (*segment.inner, own)]
        blocks = int(dims[other]) > (segment.shape.lanes, segment.shape.rows)[side]
        plain = isinstance(direct, ReadOp) and direct.result.type == self.type
        if plain or not blocks or self.rounds_each_time:
            return None
        return self.builder.local(TensorType.of(self.type, (segment.shape.depth, *extents)))

    # Around the elements ------------------------------------------------------------------------

    def begin(self, scope: Scope) -> None:
        """Bring what the sums start from to where they are; zeros need not be there."""
        first = self.first
        if first is not None and first != self.total:
            self._points(
                scope,
                lambda at: at.store(
                    at.load(first, self.access, self.pad), self.total, self.access, self.pad
                ),
            )

    def end(self, scope: Scope) -> None:
        """Round the sums once, into the result."""
        if self.total != self.target:
            self._points(
                scope,
                lambda at: at.store(at.load(self.total, self.access), self.target, self.access),
            )

    def _points(self, scope: Scope, body: Body) -> None:
        segment, width = self.segment, vector_lanes(self.type, self.builder.machine)
        names = [*segment.loops, segment.rows]
        over(scope, names, lambda at: strips(at, segment.lanes, width, body))

    # The elements at hand -----------------------------------------------------------------------

    def step(self, scope: Scope, start: SSAValue, end: SSAValue, is_first: SSAValue | None) -> None:
        """The elements from the place `start` to `end`; the first step, always so if nothing says
        whether it is, begins with what the sums start from."""
        segment, self.is_first = self.segment, is_first

        def point(at: Scope) -> None:
            names = (*segment.inner, segment.rows), (*segment.inner, segment.lanes)
            left = Side(segment.left, names[0], self.memories[0], start)
            right = Side(segment.right, names[1], self.memories[1], start)
            for side in (left, right):
                if side.memory is not None:
                    self._fill(at, side, side.memory, end)
            self._strips(at, lambda s, widths: self._rows(s, widths, left, right, end))

        over(scope, segment.loops, point)

    def _fill(self, scope: Scope, side: Side, memory: SSAValue, end: SSAValue) -> None:
        """Compute a side for the elements at hand."""
        storage = Storage("local", memory, None, self.segment.shape.depth)
        width = vector_lanes(self.type, self.builder.machine)

        def element(code: Code, place: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            slot = code.scalar("sub", place, side.start)

            def lanes(point: Scope) -> None:
                value = side.computed(point)
                there = replace(point, frame=replace(point.frame, slot=slot))
                there.store(value, storage, [IndexExpr.of(name) for name in side.variables])

            *outer, last = side.variables
            over(_at_place(scope, code, place), outer, lambda at: strips(at, last, width, lanes))
            return ()

        scope.code.loop(side.start, end, 1, (), element)

    def _strips(self, scope: Scope, body: Callable[[Scope, Sequence[int]], None]) -> None:
        """Run `body` where each strip of lanes begins, with the widths of its vectors."""
        name, width = self.segment.lanes, self.segment.shape.lanes
        extent = int(scope.dims[name])
        _blocks(scope, name, extent // width, width, lambda at: body(at, powers_of_two(width)))
        if rest := extent % width:
            last = scope.with_loop(name, scope.code.constant(extent - rest))
            body(last, powers_of_two(rest))

    def _rows(
        self, scope: Scope, widths: Sequence[int], left: Side, right: Side, end: SSAValue
    ) -> None:
        """All rows of a strip, block by block."""
        name = self.segment.rows
        extent = int(scope.dims[name])
        size = element_of(self.type).storage.itemsize
        height = block_height(extent, widths, size, self.builder.machine)

        def block(at: Scope, height: int) -> None:
            self._block(at, height, widths, left, right, end)

        part = scope.frame.part
        _blocks(scope, name, extent // height, height, lambda at: block(at, height), part)
        if not (rest := extent % height):
            return

        def last(at: Scope) -> None:
            block(at.with_loop(name, at.code.constant(extent - rest)), rest)

        if part is None:
            last(scope)
            return
        is_last = scope.code.scalar("eq", scope.code.plus(part[0], 1), part[1])
        scope.code.choose(is_last, lambda code: last(scope.inside(code)), lambda code: None)

    def _block(
        self,
        scope: Scope,
        height: int,
        widths: Sequence[int],
        left: Side,
        right: Side,
        end: SSAValue,
    ) -> None:
        """One block of sums, in registers while the elements at hand pass by."""
        rows_of, lanes_of = left.variables[-1], right.variables[-1]
        row, lane = scope.loops[rows_of], scope.loops[lanes_of]

        def rows(at: Scope) -> list[Scope]:
            return [at.with_loop(rows_of, at.code.plus(row, i)) for i in range(height)]

        def parts(at: Scope) -> list[Scope]:
            starts = [sum(widths[:i]) for i in range(len(widths))]
            return [
                at.with_lanes(Lanes(lanes_of, width), at.code.plus(lane, start))
                for width, start in zip(widths, starts, strict=True)
            ]

        points = [point for at in rows(scope) for point in parts(at)]
        sums = self._before(scope, points)

        def outer_product(at: Scope, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
            across = [right.value(part) for part in parts(at)]
            down = [left.value(each) for each in rows(at)]
            terms = [at.code.scalar("mul", x, y) for x in down for y in across]
            return [at.code.scalar("add", *pair) for pair in zip(sums, terms, strict=True)]

        def element(code: Code, place: SSAValue, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
            at = _at_place(scope, code, place)
            return _added_up(at, self.segment.inner, sums, outer_product)

        sums = scope.code.loop(left.start, end, 1, sums, element)
        for point, value in zip(points, sums, strict=True):
            point.store(value, self.total, self.access, self.pad)

    def _before(self, scope: Scope, points: Sequence[Scope]) -> Sequence[SSAValue]:
        """The sums of a block before a step."""
        code = scope.code
        types = [VectorType(self.type, [p.lanes.count]) for p in points if p.lanes is not None]

        def known(inner: Code) -> list[SSAValue]:
            there = [replace(p, frame=replace(p.frame, code=inner)) for p in points]
            loaded = [at.load(self.total, self.access, self.pad) for at in there]
            return [inner.cast(value, self.type) for value in loaded]

        if self.first is not None:
            return known(code)
        zeros = [code.constant(0, type) for type in types]
        if self.is_first is None:
            return zeros
        blocks = Block(), Block()
        blocks[0].add_op(YieldOp(*zeros))
        blocks[1].add_op(YieldOp(*known(Code(blocks[1], code.entry, code.constants))))
        op = IfOp(self.is_first, types, [blocks[0]], [blocks[1]])
        code.block.add_op(op)
        return op.results


def _scope(frame: Frame, statement: StatementOp, root: Root) -> Scope:
    """The scope of a statement, of which blocks are long enough for loops around them."""
    return replace(Scope.of(frame, statement, root), written_out=frozenset())


def _at_place(scope: Scope, code: Code, place: SSAValue) -> Scope:
    """The scope of another element, for which nothing is known yet."""
    return replace(scope, frame=replace(scope.frame, code=code, place=place), cache={})


def _added_up(
    scope: Scope,
    variables: Sequence[str],
    sums: Sequence[SSAValue],
    body: Callable[[Scope, Sequence[SSAValue]], Sequence[SSAValue]],
) -> Sequence[SSAValue]:
    """Loops over variables that are reduced for each element, which carry the sums."""
    if not variables:
        return body(scope, sums)
    name, rest = variables[0], variables[1:]

    def one(code: Code, at: SSAValue, sums: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return _added_up(scope.inside(code).with_loop(name, at), rest, sums, body)

    upper = scope.kernel.size(scope.dims[name])
    return scope.code.loop(scope.code.constant(0), upper, 1, sums, one)


def _blocks(
    scope: Scope,
    variable: str,
    count: int,
    size: int,
    body: Callable[[Scope], None],
    part: tuple[SSAValue, SSAValue] | None = None,
) -> None:
    """Run `body` with a variable at the beginning of each of `count` blocks, or of those that one
    of several parts has."""
    code = scope.code
    if part is None and count <= scope.kernel.machine.unrolled_strips:
        for number in range(count):
            body(scope.with_loop(variable, code.constant(number * size)))
        return

    def block(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
        body(scope.inside(inner).with_loop(variable, at))
        return ()

    bounds = [code.constant(0), code.constant(count * size)]
    if part is not None:
        number, parts = part
        for end, place in enumerate((number, code.plus(number, 1))):
            done = code.scalar("mul", place, code.constant(count))
            done = code.scalar("floordiv", done, parts)
            bounds[end] = code.scalar("mul", done, code.constant(size))
    code.loop(bounds[0], bounds[1], size, (), block)
