"""Write a visit whose statements make few values of each element, several elements at a time.

    m[e.dst, k] max= s[e, k]          4 heads k: 4 elements fill a register

    scf.for %place = ... step 4       as long as there are 4 more elements
      %s = tile.load %scores[%place + 0 ... 3, %0] axis 1 -> vector<4x4xf32>
      %max = scalar.max %acc, %s      4 accumulators for each k
    tile.store ...                    the accumulators together
    scf.for %place = ...              the elements that are left, one by one

Enters: a frame with a visit, and a phase of which `block_elements` are done together. Leaves: the
loop over whole blocks. Statements that make long values of an element follow those for all of the
block, element by element; sums go on from there into the row's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import LanesOp, LoadOp, SplatOp, StoreOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import scalar_type
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.values import Frame, Lanes, Scope
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase
from hectorite.lowering.kernels.place_tensors import Placement, few_values, is_costly
from hectorite.lowering.kernels.tile_code import Code, index

LEAST_ELEMENTS = 16
"""Elements of a row that is done in blocks, if each is soon done; else two blocks are enough."""


@dataclass(frozen=True)
class BlockScope(Scope):
    """A scope whose frame has a vector of places, one for each of `count` elements from `first`
    on: values are tiles, a row for each element."""

    count: int = 0
    first: SSAValue | None = None

    def _load_index(self, layout: Layout, at: SSAValue, lanes: Lanes | None = None) -> SSAValue:
        if at is not self.frame.place or self.first is None:
            return super()._load_index(layout, at, lanes)
        array = self.kernel.layout(layout)
        element = scalar_type(cast(TensorType, array.type).element)
        op = LoadOp(array, [self.first], VectorType(element, [self.count]), axis=0)
        return self.code.cast(self.code.add(op), index)

    def _own_place(self) -> SSAValue:
        first, shift = self.first, self.frame.shift
        assert first is not None
        first = first if shift is None else self.code.scalar("sub", first, shift)
        return self.code.scalar("add", first, self.code.add(LanesOp(self.count)))

    def _places(
        self, storage: Storage, access: Sequence[IndexExpr]
    ) -> tuple[list[SSAValue], int, int] | None:
        """Indices, axis and step of a tile; None for what all elements and lanes share."""
        indices, axis, step = self.address(storage, access)
        if not any(isinstance(each.type, VectorType) for each in indices):
            if axis is None:
                return None
            indices[0] = self.code.spread(indices[0], self.count)
        return (indices, len(indices) - 1, 0) if axis is None else (indices, axis, step)

    @property
    def shape(self) -> tuple[int, int]:
        assert self.lanes is not None
        return self.count, self.lanes.count

    def load(
        self, storage: Storage, access: Sequence[IndexExpr], pad: float | int | None = None
    ) -> SSAValue:
        if (places := self._places(storage, access)) is None:
            return super().load(storage, access, pad)
        indices, axis, step = places
        element = cast(TensorType, storage.tensor.type).element
        type = VectorType(element, self.shape)
        return self.code.add(LoadOp(storage.tensor, indices, type, axis, step))

    def tile(self, value: SSAValue) -> SSAValue:
        """A value, repeated if it is one for all elements and lanes."""
        is_tile = isinstance(value.type, VectorType)
        return value if is_tile else self.code.add(SplatOp(value, self.shape))


@dataclass(frozen=True)
class BlockEmitter:
    """Writes the whole blocks of one phase of a kernel, `count` elements each."""

    kernel: Kernel
    builder: KernelBuilder
    placement: Placement
    phase: Phase
    count: int

    def emit(
        self,
        frame: Frame,
        bounds: tuple[SSAValue, SSAValue],
        sums: dict[StatementOp, Storage],
        one: Callable[[Frame, Sequence[StatementOp]], None],
    ) -> SSAValue:
        """Blocks from the first place on, if there are enough elements, and where they end; `one`
        writes statements of one element, and `sums` are where those of the row go."""
        code, (lower, upper) = frame.code, bounds
        length = code.scalar("sub", upper, lower)
        left = code.scalar("mod", length, code.constant(self.count))
        costly = any(is_costly(statement) for statement in self.phase.statements)
        least = 2 * self.count if costly else max(4 * self.count, LEAST_ELEMENTS)
        many = code.scalar("le", code.constant(least), length)
        whole = code.scalar("sub", upper, left)

        def blocks(inner: Code) -> None:
            self._blocks(replace(frame, code=inner), lower, whole, sums, one)

        code.choose(many, blocks, lambda inner: None)
        return code.scalar("select", many, whole, lower)

    def _blocks(
        self,
        frame: Frame,
        lower: SSAValue,
        whole: SSAValue,
        sums: dict[StatementOp, Storage],
        one: Callable[[Frame, Sequence[StatementOp]], None],
    ) -> None:
        """The blocks of one row, and what they add to its sums."""
        code, visit = frame.code, self.phase.visit
        together = [s for s in self.phase.statements if few_values(self.kernel, s)]
        others = [s for s in self.phase.statements if s not in together]
        memories = {s: self._accumulators(code, s) for s in together if s in sums}

        def block(inner: Code, first: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
            slots = self._run(inner, inner.constant(0))
            places = self._run(inner, first)
            there = replace(frame, code=inner, visit=visit, place=places, within=slots)
            for statement in together:
                self._statement(there, first, statement, memories.get(statement))

            def each(one_code: Code, at: SSAValue, _: Sequence[SSAValue]) -> Sequence[SSAValue]:
                place = one_code.scalar("add", first, at)
                one(replace(there, code=one_code, place=place, within=at), others)
                return ()

            if others:
                inner.loop(inner.constant(0), inner.constant(self.count), 1, (), each)
            return ()

        code.loop(lower, whole, self.count, (), block)
        for statement, memory in memories.items():
            self._fold(replace(frame, visit=visit), statement, memory, sums[statement])

    def _run(self, code: Code, first: SSAValue) -> SSAValue:
        """`count` numbers from the first on."""
        return code.scalar("add", first, code.add(LanesOp(self.count)))

    def _scope(self, frame: Frame, statement: StatementOp) -> Scope:
        """The scope of one element, or of several if the frame has these, all values in lanes."""
        root = self.kernel.roots[statement]
        scope = Scope.of(frame, statement, root)
        (name,) = (n for n, _ in statement.variables.data if n not in root.bound)
        extent = scope.dims[name]
        assert isinstance(extent, int)
        return scope.with_lanes(Lanes(name, extent), frame.code.constant(0))

    def _statement(
        self, frame: Frame, first: SSAValue, statement: StatementOp, memory: SSAValue | None
    ) -> None:
        self.builder.remark(frame.code, statement)
        plain = self._scope(frame, statement)
        scope = BlockScope(
            frame, plain.root, plain.dims, plain.loops, plain.lanes, count=self.count, first=first
        )
        code, value = frame.code, scope.tile(scope.evaluate(statement.value))
        if memory is not None:
            indices = [self._run(code, code.constant(0)), code.constant(0)]
            total = code.add(LoadOp(memory, indices, value.type, axis=1))
            total = code.scalar(statement.kind.data, total, value)
            code.block.add_op(StoreOp(total, memory, indices, axis=1))
            return
        target = self.placement.storage(statement.result, self.builder)
        indices, axis, step = scope.address(target, statement.access.data)
        value = code.cast(value, cast(TensorType, target.tensor.type).element)
        code.block.add_op(StoreOp(value, target.tensor, indices, axis, step))

    def _accumulators(self, code: Code, statement: StatementOp) -> SSAValue:
        """Memory for a sum of each element of a block, filled with what a sum of nothing is."""
        type = statement.value.type
        extent = statement.type.dims[-1]
        memory = self.builder.local(TensorType.of(type, (self.count, extent)))
        zero = code.constant(0)
        first = code.constant(element_of(type).identity(statement.kind.data), type)
        assert isinstance(extent, int)
        value = code.add(SplatOp(first, [self.count, extent]))
        code.block.add_op(StoreOp(value, memory, [self._run(code, zero), zero], axis=1))
        return memory

    def _fold(
        self, frame: Frame, statement: StatementOp, memory: SSAValue, target: Storage
    ) -> None:
        """Bring the sums of the elements of a block into that of the row, in order."""
        scope, code = self._scope(frame, statement), frame.code
        access, type = statement.access.data, statement.value.type
        assert scope.lanes is not None
        total = scope.load(target, access)
        for number in range(self.count):
            places = [code.constant(number), code.constant(0)]
            part = code.add(LoadOp(memory, places, VectorType(type, [scope.lanes.count]), axis=1))
            total = code.scalar(statement.kind.data, total, part)
        scope.store(total, target, access)
