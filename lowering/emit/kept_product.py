"""Write a product with what is kept of a tensor, as kernels of a CPU.

    C[m, n] += V[m, g, s] * X[4*g + code(m, g, s), n]

    pack        panels[strip, k, lane] = X[k, strip * 64 + lane]
    product     a task does some rows m of a strip of n: for k a block at a time, whose part of the
                panel stays near, and each row: %sum += splat(V) * panels[strip, 4*g + code, :]

Enters: a `KeptProduct` and where its tensors are in the host program. Leaves: the bodies of both.
Entries are written out as many at a time as fill whole bytes with their codes, so that a code is
taken from its byte by known shifts. An entry that is 0 stands for nothing: it adds nothing where
the panel is finite, which packing finds out, and else is left out by a test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.tile import LanesOp, LoadOp, ReduceOp, StoreOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import like
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.kernels.kept_codes import EntryCodes, split_point
from hectorite.lowering.kernels.kept_plan import PACKED_STEPS, TASK_ROWS, KeptPlan
from hectorite.lowering.kernels.kernel_builder import KernelBuilder
from hectorite.lowering.kernels.tile_code import Code


def emit_panels(
    builder: KernelBuilder, plan: KeptPlan, source: SSAValue, panels: SSAValue, flags: SSAValue
) -> None:
    """The kernel that packs the dense tensor, a part of a panel for each task. All are values of
    the host program."""
    code, product = builder.code, plan.product
    given, packed, marks = (builder.parameter(value) for value in (source, panels, flags))
    part = code.scalar("mod", builder.task, code.constant(plan.parts))
    rest = code.scalar("floordiv", builder.task, code.constant(plan.parts))
    first = code.scalar("mul", part, code.constant(PACKED_STEPS))
    last = code.scalar("min", code.plus(first, PACKED_STEPS), code.constant(plan.depth))
    strip = code.scalar("mod", rest, code.constant(plan.strips))
    rest = code.scalar("floordiv", rest, code.constant(plan.strips))
    at = split_point(code, builder, rest, plan.panel_loops, plan.dims)
    start = code.scalar("mul", strip, code.constant(plan.width))
    left = code.scalar("sub", code.constant(plan.extent), start)
    valid = code.scalar("min", left, code.constant(plan.width))
    access = [e.variable for e in product.dense.access.data]
    outer = [at[name] for name in plan.panel_loops]
    turned = product.inner_axis == len(access) - 1
    near = builder.local(TensorType.of(plan.type, (plan.width, TURNED))) if turned else None
    panel = _Panel(plan, given, packed, [*outer, strip], (first, last), start, valid, at, near)
    zeros = code.constant(0, plan.lanes)
    seen = panel.across(code, zeros) if turned else panel.along(code, zeros)
    total = code.add(ReduceOp("add", seen))
    code.block.add_op(StoreOp(total, marks, [*outer, strip, part]))


TURNED = 16
"""Elements of a row that are turned into lanes at a time: they fill a cache line."""


@dataclass(frozen=True)
class _Panel:
    """A part of a panel being packed: where it lies, and which steps and lanes of the dense tensor
    it takes."""

    plan: KeptPlan
    given: SSAValue
    packed: SSAValue
    place: list[SSAValue]
    steps: tuple[SSAValue, SSAValue]
    start: SSAValue
    valid: SSAValue
    at: Mapping[str, SSAValue]
    near: SSAValue | None = None
    """Memory for `across`."""

    def along(self, code: Code, zeros: SSAValue) -> SSAValue:
        """Steps k one by one. Gives a vector that is NaN in some lane if something is not
        finite, else 0."""
        plan, type = self.plan, VectorType(self.element, [self.plan.width])

        def row(inner: Code, k: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            places, axis = self._at(k, self.start)
            value = inner.add(LoadOp(self.given, places, type, axis, valid=self.valid))
            return (self._put(inner, k, inner.cast(value, plan.type), carried[0]),)

        return code.loop(*self.steps, 1, (zeros,), row)[0]

    def across(self, code: Code, zeros: SSAValue) -> SSAValue:
        """As `along`, where the lanes are far apart and steps k side by side: several steps of all
        lanes are copied to memory near by, from which lanes are loaded."""
        plan, near = self.plan, self.near
        assert near is not None

        def block(there: Code, k: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            left = there.scalar("sub", self.steps[1], k)
            steps = there.scalar("min", left, there.constant(TURNED))

            def lane(inner: Code, number: SSAValue, _: object) -> tuple[()]:
                places, _ = self._at(k, inner.scalar("add", self.start, number))
                type = VectorType(self.element, [TURNED])
                load = LoadOp(self.given, places, type, plan.product.inner_axis, valid=steps)
                value = inner.cast(inner.add(load), plan.type)
                inner.block.add_op(StoreOp(value, near, [number, inner.constant(0)], 1))
                return ()

            there.loop(there.constant(0), self.valid, 1, (), lane)

            def step(inner: Code, number: SSAValue, seen: Sequence[SSAValue]) -> Sequence[SSAValue]:
                load = LoadOp(near, [inner.constant(0), number], plan.lanes, 0, valid=self.valid)
                k_now = inner.scalar("add", k, number)
                return (self._put(inner, k_now, inner.add(load), seen[0]),)

            return there.loop(there.constant(0), steps, 1, carried, step)

        return code.loop(*self.steps, TURNED, (zeros,), block)[0]

    @property
    def element(self) -> Attribute:
        return self.plan.product.dense.type.element

    def _at(self, k: SSAValue, lane: SSAValue) -> tuple[list[SSAValue], int]:
        """Indices of step k of a lane, and the dimension of the lanes."""
        product = self.plan.product
        access = [e.variable for e in product.dense.access.data]
        axis = access.index(product.lanes)
        places = [
            k if i == product.inner_axis else lane if i == axis else self.at[str(name)]
            for i, name in enumerate(access)
        ]
        return places, axis

    def _put(self, code: Code, k: SSAValue, value: SSAValue, seen: SSAValue) -> SSAValue:
        """Write a row of the panel; 0 in lanes that are not there."""
        plan, zeros = self.plan, code.constant(0, self.plan.lanes)
        if plan.extent % plan.width:
            inside = code.scalar("lt", code.add(LanesOp(plan.width)), self.valid)
            value = code.scalar("select", inside, value, zeros)
        place = [*self.place, k, code.constant(0)]
        code.block.add_op(StoreOp(value, self.packed, place, len(place) - 1))
        return code.scalar("add", seen, code.scalar("mul", value, zeros)) if plan.is_float else seen


@dataclass(frozen=True)
class KeptTensors:
    """Where tensors are, as parameters of the kernel. `start` is what the result goes on from."""

    values: SSAValue
    codes: SSAValue
    panels: SSAValue
    flags: SSAValue
    target: SSAValue
    start: SSAValue | None


def kept_tasks(plan: KeptPlan, size: Callable[[Dim], SSAValue], code: Code) -> SSAValue:
    """The number of tasks of the product, in the host program."""
    rows = code.plus(size(plan.dims[plan.product.rows]), TASK_ROWS - 1)
    tasks = code.scalar("floordiv", rows, code.constant(TASK_ROWS))
    for name in plan.product.loops:
        tasks = code.scalar("mul", tasks, size(plan.dims[name]))
    return code.scalar("mul", tasks, code.constant(plan.strips))


@dataclass
class KeptEmitter:
    """Writes the kernel of the product."""

    plan: KeptPlan
    builder: KernelBuilder
    tensors: KeptTensors

    def emit(self) -> None:
        """The whole kernel."""
        plan, builder, code = self.plan, self.builder, self.builder.code
        strip = code.scalar("mod", builder.task, code.constant(plan.strips))
        rest = code.scalar("floordiv", builder.task, code.constant(plan.strips))
        rows = builder.size(plan.dims[plan.product.rows])
        blocks = code.scalar("floordiv", code.plus(rows, TASK_ROWS - 1), code.constant(TASK_ROWS))
        first = code.scalar("mul", code.scalar("mod", rest, blocks), code.constant(TASK_ROWS))
        last = code.scalar("min", code.plus(first, TASK_ROWS), rows)
        rest = code.scalar("floordiv", rest, blocks)
        self.at = split_point(code, builder, rest, plan.product.loops, plan.dims)
        self.strip, self.first, self.last = strip, first, last
        self.panel = [*(self.at[name] for name in plan.panel_loops), strip]
        self.sums = builder.local(TensorType.of(plan.type, (TASK_ROWS, plan.width)))
        if not plan.is_float:
            self._all(code, False)
            return
        zero = code.constant(0, plan.type)

        def part(inner: Code, number: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
            flag = inner.add(LoadOp(self.tensors.flags, [*self.panel, number], plan.type))
            return (inner.scalar("add", carried[0], flag),)

        flag = code.loop(code.constant(0), code.constant(plan.parts), 1, (zero,), part)[0]
        finite = code.scalar("eq", flag, zero)
        code.choose(finite, lambda yes: self._all(yes, False), lambda no: self._all(no, True))

    def _all(self, code: Code, careful: bool) -> None:
        """All entries; `careful` leaves out those that are 0."""
        plan = self.plan
        zeros, bound = code.constant(0, plan.lanes), code.constant(plan.chunks)

        def clear(inner: Code, row: SSAValue, _: object) -> tuple[()]:
            self._put(inner, row, zeros)
            return ()

        code.loop(self.first, self.last, 1, (), clear)

        def block(there: Code, lower: SSAValue, _: object) -> tuple[()]:
            upper = there.scalar("min", there.plus(lower, plan.steps), bound)

            def row(inner: Code, number: SSAValue, _: object) -> tuple[()]:
                def chunk(
                    deep: Code, at: SSAValue, carried: Sequence[SSAValue]
                ) -> Sequence[SSAValue]:
                    return self._entries(deep, number, at, plan.chunk_groups, carried, careful)

                start = [self._get(inner, number), *[zeros] * (plan.sums - 1)]
                self._put(inner, number, _added(inner, inner.loop(lower, upper, 1, start, chunk)))
                return ()

            there.loop(self.first, self.last, 1, (), row)
            return ()

        if plan.chunks:
            code.loop(code.constant(0), bound, plan.steps, (), block)
        self._finish(code, careful)

    def _finish(self, code: Code, careful: bool) -> None:
        """The entries that are no whole chunk, and the result."""
        plan = self.plan
        start = code.scalar("mul", self.strip, code.constant(plan.width))
        left = code.scalar("sub", code.constant(plan.extent), start)
        valid = code.scalar("min", left, code.constant(plan.width))
        access = [str(e.variable) for e in plan.statement.access.data]
        turned = access[-1] == plan.product.rows
        rest = plan.groups % plan.chunk_groups

        def row(inner: Code, number: SSAValue, _: object) -> tuple[()]:
            total = self._get(inner, number)
            if rest:
                at = inner.constant(plan.chunks)
                (total,) = self._entries(inner, number, at, rest, (total,), careful)
            if turned:
                self._put(inner, number, total)
            else:
                lanes = plan.product.lanes
                assert lanes is not None
                known = {**self.at, plan.product.rows: number, lanes: start}
                places, axis = [known[name] for name in access], access.index(lanes)
                self._store(inner, total, places, axis, valid if plan.extent % plan.width else None)
            return ()

        if rest or not turned:
            code.loop(self.first, self.last, 1, (), row)
        if turned:
            self._turn(code, access, start, valid)

    def _turn(self, code: Code, access: Sequence[str], start: SSAValue, valid: SSAValue) -> None:
        """Write the result where rows are side by side in it, several rows of a lane at a time."""
        plan = self.plan

        def rows(there: Code, first: SSAValue, _: object) -> tuple[()]:
            left = there.scalar("sub", self.last, first)
            count = there.scalar("min", left, there.constant(TURNED))

            def lane(inner: Code, number: SSAValue, _: object) -> tuple[()]:
                at = [inner.scalar("sub", first, self.first), number]
                type = VectorType(plan.type, [TURNED])
                total = inner.add(LoadOp(self.sums, at, type, 0, valid=count))
                lane = inner.scalar("add", start, number)
                known = {**self.at, plan.product.rows: first, plan.product.lanes: lane}
                places = [known[name] for name in access]
                self._store(inner, total, places, len(places) - 1, count)
                return ()

            there.loop(there.constant(0), valid, 1, (), lane)
            return ()

        code.loop(self.first, self.last, TURNED, (), rows)

    def _store(
        self,
        code: Code,
        total: SSAValue,
        places: list[SSAValue],
        axis: int,
        valid: SSAValue | None,
    ) -> None:
        """Write sums to the result, what it goes on from added."""
        target, start = self.tensors.target, self.tensors.start
        element = cast(TensorType, target.type).element
        if start is not None:
            old = LoadOp(start, places, like(total.type, element), axis, valid=valid)
            total = code.scalar("add", total, code.cast(code.add(old), self.plan.type))
        value = code.cast(total, element)
        code.block.add_op(StoreOp(value, target, places, axis, valid=valid))

    def _get(self, code: Code, row: SSAValue) -> SSAValue:
        place = [code.scalar("sub", row, self.first), code.constant(0)]
        return code.add(LoadOp(self.sums, place, self.plan.lanes, 1))

    def _put(self, code: Code, row: SSAValue, value: SSAValue) -> None:
        place = [code.scalar("sub", row, self.first), code.constant(0)]
        code.block.add_op(StoreOp(value, self.sums, place, 1))

    def _entries(
        self,
        code: Code,
        row: SSAValue,
        chunk: SSAValue,
        groups: int,
        sums: Sequence[SSAValue],
        careful: bool,
    ) -> Sequence[SSAValue]:
        """Add the entries of the first `groups` groups of a chunk, in turn to each sum."""
        plan, product = self.plan, self.plan.product
        keep, group = product.format.keep, product.format.group
        outer = [self._index(code, e, row) for e in product.outer]
        codes = EntryCodes(product.format, product.chunk, self.tensors.codes, code, outer, chunk)
        first = code.scalar("mul", chunk, code.constant(product.chunk))
        base = code.scalar("mul", chunk, code.constant(plan.chunk_groups * group))
        zeros, new = code.constant(0, plan.lanes), list(sums)
        for entry in range(groups * keep):
            place = [*outer, code.plus(first, entry)]
            stored = LoadOp(self.tensors.values, place, product.values.type.element)
            value = code.cast(code.add(stored), plan.type)
            k = code.scalar("add", code.plus(base, entry // keep * group), codes.code(entry))
            at = [*self.panel, k, code.constant(0)]
            dense = code.add(LoadOp(self.tensors.panels, at, plan.lanes, len(at) - 1))
            if careful:
                is_kept = code.scalar("ne", value, code.constant(0, plan.type))
                is_kept = code.spread(is_kept, plan.width)
                dense = code.scalar("select", is_kept, dense, zeros)
            term = code.scalar("mul", code.spread(value, plan.width), dense)
            new[entry % len(new)] = code.scalar("add", new[entry % len(new)], term)
        return new

    def _index(self, code: Code, expression: IndexExpr, row: SSAValue) -> SSAValue:
        name = str(expression.variable)
        return row if name == self.plan.product.rows else self.at[name]


def _added(code: Code, sums: Sequence[SSAValue]) -> SSAValue:
    """The sum of sums, in pairs."""
    left = list(sums)
    while len(left) > 1:
        pairs = zip(left[::2], left[1::2], strict=False)
        rest = left[len(left) // 2 * 2 :]
        left = [*(code.scalar("add", *pair) for pair in pairs), *rest]
    return left[0]


def panel_count(plan: KeptPlan, size: Callable[[Dim], SSAValue], code: Code) -> SSAValue:
    """The number of parts of panels, in the host program."""
    total = code.constant(plan.strips * plan.parts)
    for name in plan.panel_loops:
        total = code.scalar("mul", total, size(plan.dims[name]))
    return total
