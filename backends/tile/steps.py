"""The operations of a kernel as Python closures, for the tile interpreter.

Enters: the block of a `tile.kernel`, and the slots that its arguments stand in. Leaves: one closure
for each operation, which reads and writes a list of values ("slots"); slot 0 holds the task. An
`index` is a Python integer, any other value what the reference's arithmetic carries it in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
from xdsl.dialects.builtin import IndexType
from xdsl.dialects.scf import ForOp, IfOp
from xdsl.dialects.scf import YieldOp as LoopYieldOp
from xdsl.ir import Block, Operation, SSAValue

from hectorite.backends.reference.arithmetic import Arithmetic
from hectorite.backends.tile.async_steps import async_handlers
from hectorite.backends.tile.watched_memory import Memory, Places
from hectorite.dialects.tile import (
    EndOp,
    LanesOp,
    LocalOp,
    PrefetchOp,
    ProductOp,
    ReduceOp,
    SizeOp,
    SplatOp,
)
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp, shape_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.scalar import FUNCTIONS, CastOp, ConstantOp, ScalarOp, scalar_type, wrap
from hectorite.ir.space import TensorType

Array = np.ndarray[Any, Any]
Slots = list[Any]
Step = Callable[[Slots], None]

TASK = 0
"""The slot that holds the number of the task."""

ARITHMETIC = Arithmetic(own_types=True)


def _quotient(a: int, b: int) -> int:
    return a // b if b else 0


def _remainder(a: int, b: int) -> int:
    return a % b if b else 0


def _either(condition: bool, a: int, b: int) -> int:
    return a if condition else b


INDEX_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floordiv": _quotient,
    "mod": _remainder,
    "min": min,
    "max": max,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "select": _either,
}
"""Functions of single indices, which are plain Python integers."""

REDUCE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


class KernelSteps:
    """Turns operations into closures. `places` gives the slot of every value seen so far."""

    def __init__(
        self,
        size: Callable[[str], int],
        allocate: Callable[[SSAValue], Memory],
        places: dict[SSAValue, int],
        slots: Slots,
    ):
        self.size = size
        self.allocate = allocate
        self.places = places
        self.slots = slots
        self.handlers: dict[type[Operation], Callable[[Any], Step]] = {
            ConstantOp: self.constant,
            CastOp: self.cast,
            SizeOp: lambda op: self.fixed(op.result, self.size(op.of.data)),
            LanesOp: lambda op: self.fixed(op.result, np.arange(*shape_of(op.result.type))),
            LoadOp: self.load,
            StoreOp: self.store,
            LocalOp: self.local,
            SplatOp: self.splat,
            ReduceOp: self.reduce,
            ProductOp: self.product,
            ForOp: self.loop,
            IfOp: self.branch,
            PrefetchOp: lambda op: lambda slots: None,
        }
        self.handlers |= async_handlers(self)

    def block(self, block: Block) -> list[Step]:
        """The steps of a block, its terminator apart."""
        return [self.step(op) for op in block.ops if not isinstance(op, EndOp | LoopYieldOp)]

    def step(self, op: Operation) -> Step:
        """What one operation does."""
        if isinstance(op, ScalarOp):
            return self.scalar(op)
        handler = self.handlers.get(type(op))
        if handler is None:
            raise fail(f"the tile interpreter cannot run {op.name}")
        return handler(op)

    def new(self, value: SSAValue) -> int:
        """A slot for a value."""
        self.places[value] = len(self.slots)
        self.slots.append(None)
        return self.places[value]

    def of(self, values: Sequence[SSAValue]) -> tuple[int, ...]:
        return tuple(self.places[value] for value in values)

    def fixed(self, value: SSAValue, constant: Any) -> Step:
        """A value that is known now."""
        self.slots[self.new(value)] = constant
        return lambda slots: None

    def constant(self, op: ConstantOp) -> Step:
        type = op.result.type
        if isinstance(type, IndexType):
            return self.fixed(op.result, int(op.number))
        value = ARITHMETIC.constant(op.number, element_of(scalar_type(type)))[0]
        return self.fixed(op.result, np.broadcast_to(value, shape_of(type))[()])

    def scalar(self, op: ScalarOp) -> Step:
        inputs, name = self.of(op.operands), op.FUNCTION.name
        element = element_of(scalar_type(op.operands[-1].type))
        output = self.new(op.result)
        if isinstance(op.operands[-1].type, IndexType) and name in INDEX_FUNCTIONS:
            function = INDEX_FUNCTIONS[name]
        else:
            function = _evaluation(name, element)

        def run(slots: Slots) -> None:
            slots[output] = function(*[slots[i] for i in inputs])

        return run

    def cast(self, op: CastOp) -> Step:
        (source,) = self.of([op.input])
        output = self.new(op.result)
        before, after = (element_of(scalar_type(v.type)) for v in (op.input, op.result))
        to_index = isinstance(op.result.type, IndexType)

        def run(slots: Slots) -> None:
            value = slots[source]
            slots[output] = int(value) if to_index else ARITHMETIC.cast((value,), before, after)[0]

        return run

    def load(self, op: LoadOp) -> Step:
        tensor, *indices = self.of([op.tensor, *op.indices])
        shape, pad = shape_of(op.result.type), op.pad_value
        output = self.new(op.result)
        if not shape and pad is None and op.valid is None:

            def run_one(slots: Slots) -> None:
                value = slots[tensor].element_at([slots[i] for i in indices], slots[TASK])
                slots[output] = value

            return run_one
        places = self.places_of(op, shape)

        def run(slots: Slots) -> None:
            slots[output] = slots[tensor].read(places(slots), pad, slots[TASK])

        return run

    def store(self, op: StoreOp) -> Step:
        value, tensor = self.of([op.value, op.tensor])
        places = self.places_of(op, shape_of(op.value.type))
        clip = op.pad is not None
        kind = None if op.combine is None else op.combine.data
        own = op.own is not None

        def run(slots: Slots) -> None:
            if kind is None:
                slots[tensor].write(places(slots), slots[value], clip, slots[TASK])
            else:
                slots[tensor].combine(kind, places(slots), slots[value], clip, slots[TASK], own)

        return run

    def places_of(self, op: ElementAccess, shape: tuple[int, ...]) -> Callable[[Slots], Places]:
        """Where the lanes of a load or store lie."""
        tensor, *indices = self.of([op.tensor, *op.indices])
        valid = None if op.valid is None else self.places[op.valid]
        axis = op.lane_axis
        lanes = np.arange(shape[-1]) * op.lane_step if shape else 0
        rows = [len(shape) == 2 and shape_of(index.type) != () for index in op.indices]
        picks = list(zip(indices, rows, strict=True))

        def run(slots: Slots) -> Places:
            where = [slots[i][:, None] if is_rows else slots[i] for i, is_rows in picks]
            if axis is not None:
                where[axis] = where[axis] + lanes
            count = None if valid is None else slots[valid]
            return Places.of(slots[tensor], where, shape, count)

        return run

    def local(self, op: LocalOp) -> Step:
        output = self.new(op.result)

        def run(slots: Slots) -> None:
            slots[output] = self.allocate(op.result)

        return run

    def splat(self, op: SplatOp) -> Step:
        (source,) = self.of([op.input])
        output, shape = self.new(op.result), shape_of(op.result.type)

        def run(slots: Slots) -> None:
            slots[output] = np.broadcast_to(slots[source], shape)

        return run

    def reduce(self, op: ReduceOp) -> Step:
        (source,) = self.of([op.input])
        valid = None if op.valid is None else self.places[op.valid]
        output = self.new(op.result)
        function, element = REDUCE[op.kind.data], element_of(op.result.type)
        (start,) = (s for _, s in ARITHMETIC.folds(op.kind.data, element))

        def run(slots: Slots) -> None:
            lanes = slots[source] if valid is None else slots[source][: max(0, slots[valid])]
            total = function.reduce(lanes, dtype=lanes.dtype, initial=start)
            slots[output] = wrap(total, element)

        return run

    def product(self, op: ProductOp) -> Step:
        a, b, extent = self.of([op.a, op.b, op.extent])
        a_indices, b_indices = self.of(op.a_indices), self.of(op.b_indices)
        init = None if op.init is None else self.places[op.init]
        valid = None if op.columns is None else self.places[op.columns]
        output = self.new(op.result)
        rows, columns = shape_of(op.result.type)
        element = element_of(scalar_type(op.result.type))
        sources = [cast(TensorType, tensor.type).element_type for tensor in (op.a, op.b)]
        place_of = None if op.codes is None else self._places_of_kept(op, rows)

        def run(slots: Slots) -> None:
            depth = int(slots[extent])
            kept = depth if place_of is None else depth // 2
            k, steps = np.arange(kept), np.arange(depth)
            left = [np.reshape(slots[i], (-1, 1)) for i in a_indices]
            left[op.a_axis.value.data] = left[op.a_axis.value.data] + k
            right = [slots[i] for i in b_indices]
            right[op.b_axis.value.data] = right[op.b_axis.value.data] + steps[:, None]
            right[op.column_axis] = right[op.column_axis] + np.arange(columns)
            tiles = list[Array]()
            for memory, indices, shape, count, source in (
                (slots[a], left, (rows, kept), None, sources[0]),
                (slots[b], right, (depth, columns), valid, sources[1]),
            ):
                lanes = None if count is None else slots[count]
                values = memory.read(Places.of(memory, indices, shape, lanes), None, slots[TASK])
                tiles.append(ARITHMETIC.cast((values,), source, element)[0])
            if place_of is not None:
                whole = np.zeros((rows, depth), tiles[0].dtype)
                np.put_along_axis(whole, place_of(slots, k), tiles[0], 1)
                tiles[0] = whole
            # Not `@`: equal rows must give equal sums, which a blocked product need not.
            total = (tiles[0][:, :, None] * tiles[1][None]).sum(axis=1)
            slots[output] = wrap(total if init is None else slots[init] + total, element)

        return run

    def _places_of_kept(self, op: ProductOp, rows: int) -> Callable[[Slots, Array], Array]:
        """Where along k the entries of each row are."""
        assert op.codes is not None
        (codes,), indices = self.of([op.codes]), self.of(op.code_indices)

        def places(slots: Slots, entries: Array) -> Array:
            at = [np.reshape(slots[i], (-1, 1)) for i in indices]
            at[-1] = at[-1] + entries // 4
            shape = (rows, len(entries))
            memory = slots[codes]
            bytes = memory.read(Places.of(memory, at, shape, None), None, slots[TASK])
            return entries // 2 * 4 + (bytes.astype(np.int64) >> entries % 4 * 2 & 3)

        return places

    def loop(self, op: ForOp) -> Step:
        lower, upper, by = self.of([op.lb, op.ub, op.step])
        starts = self.of(op.iter_args)
        carried = [self.new(argument) for argument in op.body.block.args]
        steps = self.block(op.body.block)
        yielded = self.of(cast(Operation, op.body.block.last_op).operands)
        outputs = [self.new(result) for result in op.results]
        counter, state = carried[0], carried[1:]

        def run(slots: Slots) -> None:
            current = [slots[i] for i in starts]
            for number in range(slots[lower], slots[upper], slots[by]):
                slots[counter] = number
                for place, value in zip(state, current, strict=True):
                    slots[place] = value
                for step in steps:
                    step(slots)
                current = [slots[i] for i in yielded]
            for place, value in zip(outputs, current, strict=True):
                slots[place] = value

        return run

    def branch(self, op: IfOp) -> Step:
        (condition,) = self.of([op.cond])
        arms = list[tuple[list[Step], tuple[int, ...]]]()
        for region in (op.true_region, op.false_region):
            if region.blocks:
                steps = self.block(region.block)
                arms.append((steps, self.of(cast(Operation, region.block.last_op).operands)))
            else:
                arms.append(([], ()))
        outputs = [self.new(result) for result in op.results]

        def run(slots: Slots) -> None:
            steps, yielded = arms[0] if slots[condition] else arms[1]
            for step in steps:
                step(slots)
            for place, source in zip(outputs, yielded, strict=True):
                slots[place] = slots[source]

        return run


def _evaluation(name: str, element: ElementType) -> Callable[..., Any]:
    """A scalar function on NumPy values; `element` is the type of its last operand."""
    function = FUNCTIONS[name]
    if function.result == "bool" or element.is_float:
        return function.evaluate
    return lambda *arguments: wrap(function.evaluate(*arguments), element)
