"""Shared memory and copies into it as Python closures, for the tile interpreter.

Enters: the operations of `dialects/tile_async.py` and `tile.barrier`. Leaves: closures as in
`steps.py`. Each element of shared memory knows how far it has come on its way to the threads
of the task, so that a kernel that reads too early or overwrites too soon is an error; on one thread
it would never show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from xdsl.ir import Operation, SSAValue

from hectorite.backends.tile.bulk_steps import bulk_handlers, object_at
from hectorite.backends.tile.watched_memory import Memory, Places
from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import (
    BULK_UNIT,
    SPREAD_ROWS,
    CommitOp,
    CopyOp,
    FinishOp,
    SharedOp,
    WaitOp,
)
from hectorite.dialects.tile_layout import AtOp, BarrierOp, ConvertOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.space import TensorType
from hectorite.lowering.gpu.stage_products import IN_FLIGHT

Array = np.ndarray[Any, Any]
Slots = list[Any]
Step = Callable[[Slots], None]

TASK = 0
"""The slot that holds the number of the task."""

NOTHING, FLYING, LANDED, VISIBLE = range(4)
"""How far an element has come: never written; an asynchronous copy is under way; it is there, but
no barrier has passed since; all threads see it."""

TROUBLE = {
    NOTHING: "read before anything has written it",
    FLYING: "read before its copy has been waited for",
    LANDED: "read without a barrier since it was written",
}


class SharedMemory(Memory):
    """Memory that the threads of a task share. `read_since` marks what was read since a barrier,
    `held` what a product under way may still read; what is read while `reading` is a list is added
    to it."""

    def __init__(self, name: str, type: TensorType):
        element, shape = type.element_type, cast(tuple[int, ...], type.dims)
        super().__init__(name, element, np.zeros(shape, element.storage), writable=True)
        self.state = np.full(self.flat.size, NOTHING, np.int8)
        self.read_since = np.zeros(self.flat.size, np.bool_)
        self.held = np.zeros(self.flat.size, np.bool_)
        self.reading: list[Any] | None = None

    def _check_read(self, spots: Any, task: int) -> None:
        state = np.ravel(self.state[spots])
        if np.any(state != VISIBLE):
            at = int(np.argmax(state != VISIBLE))
            name = self.element_name(int(np.ravel(spots)[at]))
            raise fail(f"`{name}` is {TROUBLE[int(state[at])]}")
        self.read_since[spots] = True
        if self.reading is not None:
            self.reading.append(spots)

    def _check_write(self, spots: Array, task: int) -> None:
        for bad, why in (
            (self.read_since[spots], "without a barrier since it was read"),
            (self.held[spots], "while a product that reads it is under way"),
            (self.state[spots] == FLYING, "while a copy into it is under way"),
        ):
            if bad.any():
                name = self.element_name(int(spots[np.argmax(bad)]))
                raise fail(f"`{name}` is overwritten {why}")
        self.state[spots] = LANDED

    def show(self, spots: Array) -> None:
        """A bulk copy has arrived: all threads see it."""
        self.state[spots] = VISIBLE

    def barrier(self) -> None:
        """All threads have come this far."""
        self.state[self.state == LANDED] = VISIBLE
        self.read_since[:] = False


class SharedState:
    """What the tasks of a launch have in shared memory, one task after the other: its memories, the
    copies of the open group, the groups that nothing has waited for, and what a product under way
    reads."""

    def __init__(self) -> None:
        self.task = -1
        self.begin(-1)

    def begin(self, task: int) -> None:
        self.task = task
        self.memories: dict[SSAValue, SharedMemory] = {}
        self.open: list[tuple[SharedMemory, Array]] = []
        self.groups: list[list[tuple[SharedMemory, Array]]] = []
        self.held: list[tuple[SharedMemory, Array]] = []

    def of(self, task: int) -> SharedState:
        """The state at a step of a task, fresh if it is another than before."""
        if task != self.task:
            self.begin(task)
        return self

    def barrier(self) -> None:
        for memory in self.memories.values():
            memory.barrier()

    def commit(self) -> None:
        self.groups.append(self.open)
        self.open = []

    def hold(self, product: Callable[[], None]) -> None:
        """Run a product that is not waited for; the one before it is."""
        memories = list(self.memories.values())
        for memory in memories:
            memory.reading = []
        product()
        self.finish()
        for memory in memories:
            for spots in memory.reading or ():
                memory.held[spots] = True
                self.held.append((memory, spots))
            memory.reading = None

    def finish(self) -> None:
        """All products are done: what they read, they have read now."""
        for memory, spots in self.held:
            memory.held[spots] = False
            memory.read_since[spots] = True
        self.held = []

    def wait(self, pending: int) -> None:
        done = max(0, len(self.groups) - pending)
        for memory, spots in (copy for group in self.groups[:done] for copy in group):
            memory.state[spots] = LANDED
        del self.groups[:done]


class Steps(Protocol):
    """What is needed of the builder of steps."""

    places: dict[SSAValue, int]

    def new(self, value: SSAValue) -> int: ...

    def of(self, values: Sequence[SSAValue]) -> tuple[int, ...]: ...

    def product(self, op: ProductOp) -> Step: ...


def async_handlers(steps: Steps) -> dict[type[Operation], Callable[[Any], Step]]:
    """How each operation becomes a step."""
    state = SharedState()

    def shared(op: SharedOp) -> Step:
        output, name = steps.new(op.result), op.result.name_hint or "shared"

        def run(slots: Slots) -> None:
            slots[output] = SharedMemory(name, op.result.type)
            state.of(slots[TASK]).memories[op.result] = slots[output]

        return run

    def product(op: ProductOp) -> Step:
        step = steps.product(op)
        if IN_FLIGHT not in op.attributes:
            return step
        return lambda slots: state.of(slots[TASK]).hold(lambda: step(slots))

    def finish(op: FinishOp) -> Step:
        pass_on = convert(op)

        def run(slots: Slots) -> None:
            state.of(slots[TASK]).finish()
            pass_on(slots)

        return run

    def convert(op: ConvertOp | FinishOp) -> Step:
        (source,) = steps.of([op.input])
        output = steps.new(op.result)

        def run(slots: Slots) -> None:
            slots[output] = slots[source]

        return run

    return {
        SharedOp: shared,
        CopyOp: lambda op: _copy(steps, state, op),
        CommitOp: lambda op: lambda slots: state.of(slots[TASK]).commit(),
        WaitOp: lambda op: lambda slots: state.of(slots[TASK]).wait(op.count),
        BarrierOp: lambda op: lambda slots: state.of(slots[TASK]).barrier(),
        ConvertOp: convert,
        FinishOp: finish,
        ProductOp: product,
        AtOp: lambda op: lambda slots: None,
        **bulk_handlers(steps),
    }


def _copy(steps: Steps, state: SharedState, op: CopyOp) -> Step:
    source, target = steps.of([op.source, op.target])
    indices, places, valid = steps.of(op.indices), steps.of(op.places), steps.of(op.valid)
    told = steps.of(op.told)
    is_rows = [shape_of(index.type) != () for index in op.indices]
    (rows, columns), flies = op.block, op.is_async is not None
    row, column = np.arange(rows)[:, None], np.arange(columns)
    source_column = _spread(row, column, op) if op.is_spread else column

    def run(slots: Slots) -> None:
        task = slots[TASK]
        where = [
            slots[i][:, None] if many else slots[i]
            for i, many in zip(indices, is_rows, strict=True)
        ]
        where[op.column_axis] = where[op.column_axis] + source_column
        if op.rows_along is not None:
            where[op.rows_along] = where[op.rows_along] + row
        taken = Places.of(slots[source], where, op.block, slots[valid[1]] if valid else None)
        if valid:
            taken.active &= row < slots[valid[0]]
        if op.is_padded:
            for place, many in zip(indices, is_rows, strict=True):
                taken.active &= slots[place][:, None] >= 0 if many else True
        values = np.where(taken.active, slots[source].read(taken, None, task), 0)
        to = [slots[i] for i in places]
        to[-2], to[-1] = to[-2] + row, to[-1] + column
        memory: SharedMemory = slots[target]
        given = Places.of(memory, to, op.block, None)
        memory.write(given, values, False, task)
        spots = given.flat.reshape(-1)
        if flies:
            memory.state[spots] = FLYING
        if told:
            object_at(slots, told).tell(op.byte_count, lambda: memory.show(spots))
        elif flies:
            state.of(task).open.append((memory, spots))

    return run


def _spread(row: Array, column: Array, op: CopyOp) -> Array:
    """In which column of its row the source has an element."""
    unit = BULK_UNIT * op.block[0] * op.block[1] // op.byte_count
    return (column // unit ^ row % SPREAD_ROWS) * unit + column % unit
