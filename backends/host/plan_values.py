"""The steps of a plan worked out on bound data: what remains are addresses and launches.

Enters: a plan, a binding, and sizes that the binding does not know. Leaves: every value of the plan
(a tensor to allocate, a layout, a number, or what the caller gives), the launches in order with the
values they take, and places for temporaries in one block of memory: two that no launch needs at the
same time may lie in the same place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.host.plan import Parameter, Plan
from hectorite.ir.element import ELEMENTS, INDEX
from hectorite.ir.scalar import apply

if TYPE_CHECKING:
    from hectorite.backends.bound.binding import Binding

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Allocation:
    """A tensor that the program makes. Launches `first` to `last` need it (`last` is -1 if none
    does); `offset` is its place in the block of temporaries, in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    first: int = 0
    last: int = -1
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_used(self) -> bool:
        return self.last >= 0

    def used_by(self, launch: int) -> None:
        """Launch number `launch`, which comes after those told before, needs it."""
        self.first = launch if self.last < 0 else self.first
        self.last = launch


Value = Allocation | Parameter | Array | int
"""Something a launch takes: a tensor to make, what the caller gives, a layout, or a number."""


@dataclass(frozen=True)
class Launch:
    """One launch: `step` of the plan, how many tasks, what it takes, and the extents after that."""

    step: Mapping[str, Any]
    tasks: int
    arguments: tuple[Value, ...]
    sizes: tuple[int, ...]


class PlanValues:
    """What the steps of a plan make. `outputs` are the allocations that are results."""

    def __init__(self, plan: Plan, binding: Binding, sizes: Mapping[str, int]):
        self.plan, self.binding, self.sizes = plan, binding, sizes
        self.launches: list[Launch] = []
        self.outputs: list[Allocation] = []
        self.temporaries: list[Allocation] = []
        self._values: dict[int, Value] = dict(enumerate(plan.parameters))
        for step in plan.steps:
            if step["do"] == "launch":
                self.launches.append(self._launch(step))
            else:
                self._values[step["to"]] = self._value(step)

    @property
    def results(self) -> list[Value]:
        """The values that the program returns."""
        return [self._values[number] for number in self.plan.results]

    def size(self, name: str) -> int:
        """Elements of a set, or the value of a size."""
        return self.sizes[name] if name in self.sizes else self.binding.size(name)

    def _value(self, step: Mapping[str, Any]) -> Value:
        """What a step other than a launch makes."""
        kind = step["do"]
        if kind == "allocate":
            return self._allocate(step)
        if kind == "layout":
            return self._layout(step)
        if kind == "length":
            layout = self._values[step["of"]]
            assert isinstance(layout, np.ndarray)
            return len(layout)
        if kind == "size":
            return self.size(step["of"])
        if kind == "constant":
            return int(step["number"])
        arguments = [np.asarray(self._values[number]) for number in step["arguments"]]
        return int(apply(step["function"], arguments, INDEX))

    def _allocate(self, step: Mapping[str, Any]) -> Allocation:
        shape = tuple(self.size(dim) if isinstance(dim, str) else dim for dim in step["dims"])
        tensor = Allocation(shape, ELEMENTS[step["element"]].storage)
        is_result = step["to"] in self.plan.results
        (self.outputs if is_result else self.temporaries).append(tensor)
        return tensor

    def _layout(self, step: Mapping[str, Any]) -> Array:
        return self.binding.layout(*self.plan.layouts[step["to"]])

    def _launch(self, step: Mapping[str, Any]) -> Launch:
        tasks = self._values[step["tasks"]]
        assert isinstance(tasks, int)
        arguments = tuple(self._values[number] for number in step["arguments"])
        for value in arguments:
            if isinstance(value, Allocation):
                value.used_by(len(self.launches))
        return Launch(step, tasks, arguments, tuple(map(self.size, step["sizes"])))


def pack(tensors: Sequence[Allocation], alignment: int) -> int:
    """Give temporaries their `offset` in one block, each a multiple of `alignment`; returns the
    bytes of the block.

    Largest first, each at the lowest place that no other needs at the same time.
    """
    total, placed = 0, list[Allocation]()
    for tensor in sorted((t for t in tensors if t.is_used), key=lambda t: -t.nbytes):
        tensor.offset = 0
        for other in sorted(placed, key=lambda t: t.offset):
            together = other.first <= tensor.last and tensor.first <= other.last
            if together and other.offset < tensor.offset + tensor.nbytes:
                end = other.offset + other.nbytes
                tensor.offset = max(tensor.offset, -(-end // alignment) * alignment)
        placed.append(tensor)
        total = max(total, tensor.offset + tensor.nbytes)
    return total
