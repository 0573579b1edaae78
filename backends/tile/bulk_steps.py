"""Barrier objects and the bulk copies that tell them, for the tile interpreter.

Enters: the operations of `dialects/tile_bulk.py`. Leaves: closures as in `steps.py`. What a
bulk copy brings is there for all threads when its phase has been awaited, and no earlier, so that a
kernel which waits for the wrong phase, or not at all, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.tile_bulk import (
    PHASES,
    AwaitOp,
    BarrierObjectsOp,
    ExpectOp,
    ReleaseOp,
)
from hectorite.ir.diagnostics import fail

Array = np.ndarray[Any, Any]
Slots = list[Any]
Step = Callable[[Slots], None]


class BarrierObject:
    """One object: how many phases have ended, the bytes that the running one waits for (None: not
    known yet), and what is under way to it: bytes, and what to do when they land."""

    def __init__(self, name: str):
        self.name = name
        self.ended = 0
        self.expected: int | None = None
        self.coming: list[tuple[int, Callable[[], None]]] = []
        self.is_released = False

    def expect(self, bytes: int) -> None:
        self._check()
        if self.expected is not None:
            raise fail(f"`{self.name}` expects bytes twice in one phase")
        self.expected = bytes

    def tell(self, bytes: int, land: Callable[[], None]) -> None:
        """A copy of so many bytes is under way."""
        self._check()
        self.coming.append((bytes, land))

    def wait(self, phase: int) -> None:
        """Until the phase of that parity has ended; it may have long since."""
        self._check()
        if self.ended % PHASES != phase:
            return
        total = sum(bytes for bytes, _ in self.coming)
        if self.expected is None:
            raise fail(f"`{self.name}` is awaited, but nothing ends its phase {phase}")
        if total != self.expected:
            raise fail(f"`{self.name}` expects {self.expected} bytes, but {total} come")
        for _, land in self.coming:
            land()
        self.expected, self.coming = None, []
        self.ended += 1

    def release(self) -> None:
        self._check()
        if self.coming or self.expected is not None:
            raise fail(f"`{self.name}` is released while a copy that tells it is under way")
        self.is_released = True

    def _check(self) -> None:
        if self.is_released:
            raise fail(f"`{self.name}` is used after its release")


class Steps(Protocol):
    """What is needed of the builder of steps."""

    def new(self, value: SSAValue) -> int: ...

    def of(self, values: Sequence[SSAValue]) -> tuple[int, ...]: ...


def bulk_handlers(steps: Steps) -> dict[type[Operation], Callable[[Any], Step]]:
    """How each operation becomes a step."""

    def objects(op: BarrierObjectsOp) -> Step:
        output, name = steps.new(op.result), op.result.name_hint or "mbarrier"
        count = op.result.type.data

        def run(slots: Slots) -> None:
            slots[output] = [BarrierObject(f"{name}[{number}]") for number in range(count)]

        return run

    def expect(op: ExpectOp) -> Step:
        place = steps.of([op.objects, op.number])
        return lambda slots: object_at(slots, place).expect(op.count)

    def wait(op: AwaitOp) -> Step:
        *place, phase = steps.of([op.objects, op.number, op.phase])
        return lambda slots: object_at(slots, place).wait(int(slots[phase]))

    def release(op: ReleaseOp) -> Step:
        (objects,) = steps.of([op.objects])

        def run(slots: Slots) -> None:
            for each in slots[objects]:
                each.release()

        return run

    return {BarrierObjectsOp: objects, ExpectOp: expect, AwaitOp: wait, ReleaseOp: release}


def object_at(slots: Slots, place: Sequence[int]) -> BarrierObject:
    """The barrier object that two slots name: objects, and the number of one."""
    objects, number = (slots[slot] for slot in place)
    if not 0 <= number < len(objects):
        raise fail(f"there is no barrier object {number}: there are {len(objects)}")
    return objects[number]
