"""Memory that watches how it is used: what the tile interpreter keeps tensors in.

Enters: arrays, and from each access its positions. Leaves: values, or an error for an access
outside the tensor, a read of an element that nothing has written, and two tasks of one launch of
which one writes what the other reads or writes (tasks run in any order, so that is a race).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.ir.diagnostics import HectoriteError, fail
from hectorite.ir.element import ElementType
from hectorite.ir.rounding import loaded, stored

Array = np.ndarray[Any, Any]

NOBODY = -1
SEVERAL = -2
COMBINED = -3
"""In place of the number of a task."""

COMBINE = {"add": np.add, "max": np.maximum, "min": np.minimum}


class Memory:
    """One tensor, row major. `writable` is False for what a caller passed in.

    `written` tells which elements have a value (None: all of them). `writer` and `reader` hold the
    task of the current launch that wrote or read an element; they exist only while a kernel runs
    that both reads and writes, or writes, the tensor.
    """

    def __init__(self, name: str, element: ElementType, array: Array, writable: bool):
        self.name = name
        self.element = element
        self.shape: tuple[int, ...] = array.shape
        self.flat = array.reshape(-1)
        self.writable = writable
        self.written = np.zeros(self.flat.size, np.bool_) if writable else None
        self.writer: Array | None = None
        self.reader: Array | None = None
        self.strides = tuple(math.prod(self.shape[i + 1 :]) for i in range(len(self.shape)))
        self.carried = element.compute.storage if element.is_float else np.dtype(np.int64)
        if element.kind == "bool":
            self.carried = np.dtype(np.bool_)

    @property
    def array(self) -> Array:
        return self.flat.reshape(self.shape)

    def watch(self) -> None:
        """A launch begins that writes this tensor."""
        self.writer = np.full(self.flat.size, NOBODY, np.int32)
        self.reader = np.full(self.flat.size, NOBODY, np.int32)

    def rest(self) -> None:
        """The launch is over."""
        self.writer = self.reader = None

    def element_at(self, indices: Sequence[int], task: int) -> Any:
        """The value of one element, in the type that arithmetic carries it in."""
        place = 0
        for index, extent, stride in zip(indices, self.shape, self.strides, strict=True):
            if not 0 <= index < extent:
                raise self._outside(indices)
            place += index * stride
        if self.written is not None:
            self._check_read(place, task)
        return loaded(self.flat[place], self.element)[()].astype(self.carried)

    def read(self, places: Places, pad: float | int | None, task: int) -> Array:
        """The elements at `places`: `pad` where they lie outside, unspecified where not active."""
        use = self._usable(places, pad is not None)
        self._check_read(places.flat[use], task)
        junk = np.nan if self.element.is_float else -0x5A5A
        values = np.full(places.flat.shape, junk, self.carried)
        if pad is not None:
            values[places.active & ~places.inside] = stored(pad, self.element)
        values[use] = loaded(self.flat[places.flat[use]], self.element).astype(self.carried)
        return values

    def write(self, places: Places, values: Any, clip: bool, task: int) -> None:
        """Write the active lanes; those outside are left out if `clip`, else an error."""
        use = self._usable(places, clip)
        spots = places.flat[use]
        kept = np.broadcast_to(np.asarray(values), places.flat.shape)[use]
        wanted = stored(kept, self.element)
        if not self.writable:
            raise fail(f"`{self.name}` is written, but it is a parameter")
        self._check_write(spots, task)
        self.flat[spots] = wanted
        if not np.array_equal(self.flat[spots], wanted, equal_nan=self.element.is_float):
            raise fail(f"two lanes write different values to one element of `{self.name}`")
        if self.written is not None:
            self.written[spots] = True

    def combine(
        self, kind: str, places: Places, values: Any, clip: bool, task: int, own: bool = False
    ) -> None:
        """Combine the active lanes with what is there; any number of tasks may, but none that
        reads or writes what another combines; one task only if the elements are its `own`."""
        use = self._usable(places, clip)
        spots = places.flat[use]
        if not self.writable:
            raise fail(f"`{self.name}` is written, but it is a parameter")
        if self.written is not None and not np.all(self.written[spots]):
            self._check_read(spots, task)
        if own:
            self._check_read(spots, task)
            self._check_write(spots, task)
        elif self.writer is not None and self.reader is not None:
            alone = spots[self.writer[spots] != COMBINED]
            self._refuse(self.writer, alone, task, "writes", "writes")
            self._refuse(self.reader, spots, task, "writes", "reads")
            self.writer[spots] = COMBINED
        lanes = np.broadcast_to(np.asarray(values), places.flat.shape)[use]
        COMBINE[kind].at(self.flat, spots, lanes.astype(self.element.storage))

    def _usable(self, places: Places, padded: bool) -> Array:
        bad = places.active & ~places.inside
        if not padded and bad.any():
            lane = tuple(int(i) for i in np.argwhere(bad)[0])
            indices = [int(np.broadcast_to(i, bad.shape)[lane]) for i in places.indices]
            raise self._outside(indices)
        return places.active & places.inside

    def _check_read(self, spots: Any, task: int) -> None:
        if self.written is not None and not np.all(self.written[spots]):
            place = int(np.ravel(spots)[np.argmin(np.ravel(self.written[spots]))])
            raise fail(f"`{self.element_name(place)}` is read before anything has written it")
        if self.writer is None or self.reader is None:
            return
        self._refuse(self.writer, spots, task, "reads", "writes")
        before = self.reader[spots]
        alone = (before == NOBODY) | (before == task)
        self.reader[spots] = np.where(alone, task, SEVERAL)

    def _check_write(self, spots: Array, task: int) -> None:
        if self.writer is None or self.reader is None:
            return
        self._refuse(self.writer, spots, task, "writes", "writes")
        self._refuse(self.reader, spots, task, "writes", "reads")
        self.writer[spots] = task

    def _refuse(self, owner: Array, spots: Any, task: int, verb: str, other_verb: str) -> None:
        others = np.ravel((owner[spots] != NOBODY) & (owner[spots] != task))
        if others.any():
            place = int(np.ravel(spots)[np.argmax(others)])
            other = int(owner[place])
            who = "another task" if other in (SEVERAL, COMBINED) else f"task {other}"
            name = self.element_name(place)
            raise fail(f"race: task {task} {verb} `{name}`, which {who} {other_verb}")

    def element_name(self, place: int) -> str:
        indices = np.unravel_index(place, self.shape) if self.shape else ()
        return f"{self.name}[{', '.join(str(int(i)) for i in indices)}]"

    def _outside(self, indices: Sequence[int]) -> HectoriteError:
        where = ", ".join(str(int(i)) for i in indices)
        return fail(f"`{self.name}[{where}]` is outside `{self.name}`, of shape {self.shape}")


@dataclass
class Places:
    """Where the lanes of a tile lie: `flat` positions of the tile's shape, whether each lies
    inside the tensor, and whether the lane takes part at all."""

    indices: Sequence[Array]
    flat: Array
    inside: Array
    active: Array

    @staticmethod
    def of(
        memory: Memory, indices: Sequence[Any], shape: tuple[int, ...], valid: int | None
    ) -> Places:
        """Places of a tile of this shape; `indices` broadcast to it."""
        flat = np.zeros(shape, np.int64)
        inside = np.ones(shape, np.bool_)
        for index, extent, stride in zip(indices, memory.shape, memory.strides, strict=True):
            inside &= (index >= 0) & (index < extent)
            flat += index * stride
        active = np.ones(shape, np.bool_)
        if valid is not None:
            active &= np.arange(shape[-1]) < valid
        return Places(indices, flat, inside, active)
