"""Write the kernel of a statement that walks through the sets of a join.

Enters: a `JoinWalk` and its statement, the builder of a kernel, and the buffers. Leaves: the
kernel's body, with the loops that the head of `kernels/join_walk.py` shows, and how many tasks it
has.

A task has a stretch of rows, and, if elements are found, a row of the table, which holds places in
the order of the rows. It is cleared once: what an earlier row has entered is below the places of a
later one. Where a row's elements are derived from all that is looked up, it need not be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from xdsl.dialects.builtin import IntegerType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LoadOp, StoreOp, index
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Condition, Schema
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.emit.nest import emit_nest, over, strips
from hectorite.lowering.emit.values import Frame, Scope
from hectorite.lowering.graph.derived_sets import Fields
from hectorite.lowering.graph.statement_body import Body
from hectorite.lowering.kernels.join_walk import ROW, JoinWalk, Step
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, Storage, element_path
from hectorite.lowering.kernels.kernel_plan import Root
from hectorite.lowering.kernels.product_shape import vector_lanes
from hectorite.lowering.kernels.tile_code import Code

TASKS = 16
"""Tasks of a walk: each has a table of its own, and rows may take times that differ much."""

LANES = 64
"""Elements of the table that are cleared together."""

FIRST, AFTER = 0, 1
"""What the table has about a key: the first place, and the one after the last."""

LOWEST = "the first place"
"""Stands for the first place of the row among loops."""

NOWHERE = Root((), ())
COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
PLACE = IntegerType(32)


def table_type(finder: Step, target: Dim) -> TensorType:
    """The table of every task: for each element of `target`, the first place of what is found by
    it, and the place after the last, if there may be several."""
    return TensorType.of(PLACE, (TASKS, 2 if finder.several else 1, target))


def walk_cuts(walk: JoinWalk) -> Layout:
    """The rows of the tasks, with like numbers of elements of the first binder."""
    first = walk.steps[0]
    return Layout("cuts", first.set, (element_path(first.key),), None, TASKS)


def resolved_statement(walk: JoinWalk, statement: StatementOp) -> StatementOp:
    """The statement over the binders of the join, detached; erase it once it is written."""
    body = Body(walk.resolved)
    variables = [(n, dim) for n, dim in statement.variables.data if n != walk.element]
    variables += [(step.binder, step.set) for step in walk.steps]
    access = tuple(map(walk.resolved, statement.access.data))
    value = body.copy(statement.value)
    return body.statement(statement.kind.data, access, variables, statement.type, value)


@dataclass(frozen=True)
class JoinEmitter:
    """Writes one walk. `table` is the kernel's parameter, None if nothing is found; `start` and
    `target` are those of the statement's result."""

    walk: JoinWalk
    statement: StatementOp
    sets: Schema
    builder: KernelBuilder
    values: Mapping[SSAValue, SSAValue]
    table: SSAValue | None
    target: Storage
    start: Storage | None

    def emit(self) -> None:
        """The body of the kernel."""
        code, builder = self.builder.code, self.builder
        cuts = builder.layout(walk_cuts(self.walk))
        lower = code.cast(code.add(LoadOp(cuts, [builder.task])), index)
        upper = code.cast(code.add(LoadOp(cuts, [code.plus(builder.task, 1)])), index)
        self._clear(code)

        def row(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            self._row(inner, at)
            return ()

        code.loop(lower, upper, 1, (), row)

    def _row(self, code: Code, row: SSAValue) -> None:
        finder = self.walk.finder
        if self.start != self.target:
            self._fill(code, row)
        scope = self._scope(code).with_loop(ROW.variable, row)
        if finder is not None:
            scope = scope.with_loop(LOWEST, self._enter(code, row, finder))
        self._step(scope, 0)

    def _scope(self, code: Code) -> Scope:
        frame = Frame(code, self.builder, self.values)
        binders = tuple(step.binder for step in self.walk.steps)
        return Scope.of(frame, self.statement, Root((), binders))

    def _bound(self, scope: Scope, code: Code, element: SSAValue) -> Scope:
        """The scope inside of a block, with an element for the next binder."""
        frame = replace(scope.frame, code=code, rows=(*scope.frame.rows, element))
        return replace(scope, frame=frame, cache=dict(scope.cache))

    # The table ----------------------------------------------------------------------------------

    def _clear(self, code: Code) -> None:
        finder, table = self.walk.finder, self.table
        if finder is None or table is None or finder.certain:
            return
        extent = self.builder.size(cast(TensorType, table.type).dims[2])
        nothing = code.spread(code.constant(-1, PLACE), LANES)

        def clear(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            left = inner.scalar("sub", extent, at)
            valid = inner.scalar("min", left, inner.constant(LANES))
            place = self._slot(inner, FIRST, at)
            inner.block.add_op(StoreOp(nothing, table, place, 2, valid=valid))
            return ()

        code.loop(code.constant(0), extent, LANES, (), clear)

    def _enter(self, code: Code, row: SSAValue, finder: Step) -> SSAValue:
        """Enter the places of a row's elements into the table; the first of them."""
        table = self.table
        assert finder.own is not None and table is not None
        keys = _order_of(finder)
        along = self.builder.layout(Layout("along", finder.set, keys, element_path(finder.key)))

        lower, upper = self._segment(code, finder.set, finder.own, row)
        last = code.scalar("add", lower, code.plus(upper, -1))

        def enter(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            if finder.several:
                key = inner.cast(inner.add(LoadOp(along, [at])), index)
                after = inner.cast(inner.plus(at, 1), PLACE)
                slot = self._slot(inner, AFTER, key)
                inner.block.add_op(StoreOp(after, table, slot))
                # Equal ones stand together: the first of them is entered last.
                at = inner.scalar("sub", last, at)
            key = inner.cast(inner.add(LoadOp(along, [at])), index)
            place = inner.cast(at, PLACE)
            slot = self._slot(inner, FIRST, key)
            inner.block.add_op(StoreOp(place, table, slot))
            return ()

        code.loop(lower, upper, 1, (), enter)
        return code.cast(lower, PLACE)

    def _slot(self, code: Code, which: int, key: SSAValue) -> list[SSAValue]:
        """Where the table of the task has something about a key."""
        return [self.builder.task, code.constant(which), key]

    def _element(
        self, code: Code, of: str, keys: tuple[IndexExpr, ...], place: SSAValue
    ) -> SSAValue:
        """The element at a place in the order of some paths; that is its number, where the first
        of these is the first field of a derived set and there is no other."""
        decl = self.sets.sets[of]
        if decl.derivation is not None and keys == (element_path((decl.fields[0][0],)),):
            return place
        names = self.builder.layout(Layout("order", of, keys))
        return code.cast(code.add(LoadOp(names, [place])), index)

    # What the row starts from -------------------------------------------------------------------

    def _fill(self, code: Code, row: SSAValue) -> None:
        """Fill what the row owns."""
        if self.walk.owner is None:
            self._fill_at(self._scope(code), self._place_of_row(), row)
            return
        binder, fields = self.walk.owner
        over_set = dict(self.statement.variables.data)[binder]
        access = self.statement.access.data
        place = next(i for i, at in enumerate(access) if at.variable == binder)

        def each(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            element = self._element(inner, str(over_set), (element_path(fields),), at)
            self._fill_at(self._scope(inner), place, element)
            return ()

        code.loop(*self._segment(code, str(over_set), fields, row), 1, (), each)

    def _place_of_row(self) -> int:
        """The dimension of the result that the row stands in."""
        rows = self.walk.row_paths
        return next(i for i, at in enumerate(self.statement.access.data) if at.path in rows)

    def _fill_at(self, scope: Scope, place: int, element: SSAValue) -> None:
        """Fill all that has `element` in one dimension."""
        dims = {f"d{i}": dim for i, dim in enumerate(self.statement.type.dims)}
        access = tuple(IndexExpr.of(name) for name in dims)
        names = [name for i, name in enumerate(dims) if i != place]
        type = self.statement.value.type
        inner = Scope.over(scope.frame, NOWHERE, dims, dims).with_loop(f"d{place}", element)

        def point(at: Scope) -> None:
            if self.start is None:
                value = at.code.constant(element_of(type).identity(self.statement.kind.data), type)
            else:
                value = at.load(self.start, access)
            at.store(value, self.target, access)

        def last(at: Scope) -> None:
            if names:
                strips(at, names[-1], vector_lanes(type, self.builder.machine), point)
            else:
                point(at)

        over(inner, names[:-1], last)

    # The walk -----------------------------------------------------------------------------------

    def _step(self, scope: Scope, number: int) -> None:
        """Binders from number `number` on."""
        if number == len(self.walk.steps):
            emit_nest(scope, self.statement, self.target, self.target)
            return
        step = self.walk.steps[number]
        if step.found:
            self._find(scope, step, number)
        else:
            self._visit(scope, step, number)

    def _find(self, scope: Scope, step: Step, number: int) -> None:
        assert self.table is not None
        code = scope.code
        key = self._known(scope, step.source)
        place = code.add(LoadOp(self.table, self._slot(code, FIRST, key)))

        def go_on(inner: Code) -> None:
            first = inner.cast(place, index)
            if not step.several:
                at(inner, first, ())
                return
            assert self.table is not None
            after = inner.add(LoadOp(self.table, self._slot(inner, AFTER, key)))
            inner.loop(first, inner.cast(after, index), 1, (), at)

        def at(inner: Code, where: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            element = self._element(inner, step.set, _order_of(step), where)
            self._filtered(self._bound(scope, inner, element), step, number)
            return ()

        if step.certain:
            go_on(code)
            return
        there = code.scalar("ge", place, scope.loops[LOWEST])
        code.choose(there, go_on, lambda _: None)

    def _visit(self, scope: Scope, step: Step, number: int) -> None:
        """All elements tied to what is known; one loop for sets that are in order already."""
        keys = (element_path(step.key),)
        value = self._known(scope, step.source)
        bounds = self._segment(scope.code, step.set, step.key, value)
        flags = self.builder.layout(Layout("sorted", step.set, keys))
        flag = scope.code.add(LoadOp(flags, [scope.code.constant(0)]))
        is_sorted = scope.code.scalar("ne", flag, scope.code.constant(0, PLACE))

        def loop(code: Code, in_order: bool) -> None:
            def each(inner: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                element = at
                if not in_order:
                    names = self.builder.layout(Layout("order", step.set, keys))
                    element = inner.cast(inner.add(LoadOp(names, [at])), index)
                there = self._bound(scope, inner, element)
                there.cache[Path(step.binder, step.key)] = value
                for fields in self._paths(step):
                    along = Layout("along", step.set, keys, element_path(fields))
                    read = inner.add(LoadOp(self.builder.layout(along), [at]))
                    there.cache[Path(step.binder, fields)] = inner.cast(read, index)
                self._filtered(there, step, number)
                return ()

            code.loop(*bounds, 1, (), each)

        scope.code.choose(is_sorted, lambda c: loop(c, True), lambda c: loop(c, False))

    def _paths(self, step: Step) -> list[Fields]:
        """Paths of a binder that are needed, but for the one by which it is visited."""
        used = [s.source for s in self.walk.steps]
        used += [p for s in self.walk.steps for c in s.filters for p in _paths_of(c)]
        for op in (self.statement, *self.statement.body.block.ops):
            for attribute in op.properties.values():
                for at in getattr(attribute, "data", ()):
                    used += at.paths if isinstance(at, IndexExpr) else ()
        mine = (p.fields for p in used if p.variable == step.binder and p.fields)
        return [fields for fields in dict.fromkeys(mine) if fields != step.key]

    def _filtered(self, scope: Scope, step: Step, number: int) -> None:
        """Go on where the conditions of a step hold."""
        if not step.filters:
            self._step(scope, number + 1)
            return
        code = scope.code
        condition, rest = step.filters[0], step.filters[1:]
        left, right = (scope.index_value(side) for side in (condition.left, condition.right))
        holds = code.scalar(COMPARISONS[condition.operator], left, right)
        fewer = replace(step, filters=rest)
        code.choose(
            holds, lambda inner: self._filtered(scope.inside(inner), fewer, number), lambda _: None
        )

    def _known(self, scope: Scope, path: Path) -> SSAValue:
        return scope.loops[ROW.variable] if path == ROW else scope.follow(path)

    def _segment(
        self, code: Code, of: str, key: Fields, value: SSAValue
    ) -> tuple[SSAValue, SSAValue]:
        """Places of the elements whose path is a value."""
        pointers = self.builder.layout(Layout("segments", of, (element_path(key),)))
        low = code.cast(code.add(LoadOp(pointers, [value])), index)
        high = code.cast(code.add(LoadOp(pointers, [code.plus(value, 1)])), index)
        return low, high


def _order_of(finder: Step) -> tuple[IndexExpr, ...]:
    """What places in the table are an order of: the row, and where that leaves several, the key."""
    assert finder.own is not None
    own = element_path(finder.own)
    return (own, element_path(finder.key)) if finder.several else (own,)


def _paths_of(condition: Condition) -> tuple[Path, ...]:
    return (*condition.left.paths, *condition.right.paths)
