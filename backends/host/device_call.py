"""Compiled programs on a device: a plan and kernels, bound to data and called.

Enters: a plan whose launches say how tasks become blocks, and a `Queue`: a device with its kernels
loaded, and a place in the order of its work. Leaves: results in the memory of the device.

What depends on the binding alone (layouts, extents, grids) is worked out once for each binding and
stays on the device; a call fills in what the caller gives, one workspace for all temporaries and
the results, and launches. `launch_all` does nothing but launch, so that a queue which records (a
CUDA graph) can be given a whole call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

import numpy as np

from hectorite.backends.host.plan import Parameter, Plan
from hectorite.backends.host.plan_values import Allocation, PlanValues, Value, pack
from hectorite.ir.element import ELEMENTS
from hectorite.ir.rounding import stored
from hectorite.ir.schema import Schema

if TYPE_CHECKING:
    from hectorite.backends.bound.binding import Binding

Array = np.ndarray[Any, Any]
Sizes = tuple[tuple[str, int], ...]

ALIGNMENT = 256
"""Bytes; what the devices themselves align allocations to."""

M = TypeVar("M")
"""Memory of a device, as its queue names it."""


class Queue(Protocol[M]):
    """A device, and work on it in order. Memory is contiguous and aligned to 16 bytes."""

    def resident(self, array: Array) -> M:
        """An array that lives as long as its binding and is never written, put there once."""
        ...

    def results(self, outputs: Sequence[Allocation]) -> list[M]:
        """Memory for the results of a call, unspecified contents."""
        ...

    def workspace(self, nbytes: int, parts: Sequence[Allocation]) -> tuple[Any, list[M]]:
        """Memory for the temporaries of a call: each part at its offset in `nbytes` bytes, and what
        has to be kept until the launches have been made."""
        ...

    def copy(self, memory: M) -> M:
        """A copy, as a result that the program did not make itself."""
        ...

    def launch(
        self,
        kernel: str,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[M | np.generic],
    ) -> None:
        """Run `grid` blocks of `block` threads with `shared` bytes of dynamic shared memory."""
        ...


@dataclass(frozen=True)
class _Slot:
    """What a call fills in: entry `index` of the parameters, temporaries or outputs."""

    of: str
    index: int | str


@dataclass(frozen=True)
class _Launch(Generic[M]):
    """A launch whose grid is known. `arguments` are memory, numbers, and what a call fills in."""

    kernel: str
    grid: int
    block: int
    shared: int
    arguments: tuple[M | np.generic | _Slot, ...]


class DeviceCall(Generic[M]):
    """A program ready to be called on one binding. May be used from several threads at once."""

    def __init__(self, plan: Plan, binding: Binding, sizes: Mapping[str, int], queue: Queue[M]):
        values = PlanValues(plan, binding, sizes)
        self._outputs = values.outputs
        self._workspace = pack(values.temporaries, ALIGNMENT)
        self._temporaries = [t for t in values.temporaries if t.is_used]
        self._places = {id(t): _Slot("temporary", n) for n, t in enumerate(self._temporaries)}
        self._places |= {id(t): _Slot("output", n) for n, t in enumerate(self._outputs)}
        self._launches = [
            _Launch(
                launch.step["kernel"],
                -(-launch.tasks // launch.step["per_block"]),
                launch.step["block"],
                launch.step["shared"],
                (
                    *(self._argument(value, queue) for value in launch.arguments),
                    *(np.int32(extent) for extent in launch.sizes),
                    np.int32(launch.tasks),
                ),
            )
            for launch in values.launches
            if launch.tasks
        ]
        self._results = [self._argument(value, queue) for value in values.results]

    def __call__(
        self,
        queue: Queue[M],
        arguments: Mapping[str, M | np.generic],
        outputs: Sequence[M] | None = None,
    ) -> tuple[M, ...]:
        """The results for arguments by name: memory of tensors of the declared types and shapes,
        and numbers as kernels take them. `outputs` is memory for the tensors of `made`."""
        made = queue.results(self._outputs) if outputs is None else list(outputs)
        keep, temporaries = self.workspace(queue)
        self.launch_all(queue, arguments, made, temporaries)
        del keep
        return self.results(queue, arguments, made)

    @property
    def made(self) -> list[Allocation]:
        """The tensors that the program makes and returns."""
        return self._outputs

    def workspace(self, queue: Queue[M]) -> tuple[Any, list[M]]:
        """Memory for the temporaries of a call, and what keeps it."""
        return queue.workspace(self._workspace, self._temporaries)

    def launch_all(
        self,
        queue: Queue[M],
        arguments: Mapping[str, M | np.generic],
        outputs: Sequence[M],
        temporaries: Sequence[M],
    ) -> None:
        """Every launch of a call, and nothing else."""
        places: Mapping[str, Any] = {
            "output": outputs,
            "temporary": temporaries,
            "argument": arguments,
        }
        for launch in self._launches:
            given: Sequence[Any] = launch.arguments
            filled = [
                places[value.of][value.index] if isinstance(value, _Slot) else value
                for value in given
            ]
            queue.launch(launch.kernel, launch.grid, launch.block, launch.shared, filled)

    def results(
        self, queue: Queue[M], arguments: Mapping[str, M | np.generic], outputs: Sequence[M]
    ) -> tuple[M, ...]:
        """What the program returns; what it did not make itself is copied."""
        made = {id(output) for output in outputs}
        returned: Sequence[Any] = self.returned(arguments, outputs)
        return tuple(value if id(value) in made else queue.copy(value) for value in returned)

    def returned(
        self, arguments: Mapping[str, M | np.generic], outputs: Sequence[M]
    ) -> tuple[M, ...]:
        """As `results`, in place."""
        places: Mapping[str, Any] = {"output": outputs, "argument": arguments}
        values: Sequence[Any] = self._results
        found = (
            places[value.of][value.index] if isinstance(value, _Slot) else value for value in values
        )
        return cast(tuple[M, ...], tuple(found))

    def _argument(self, value: Value, queue: Queue[M]) -> M | np.generic | _Slot:
        if isinstance(value, Parameter):
            return _Slot("argument", value.name)
        if isinstance(value, Allocation):
            return self._places[id(value)]
        if isinstance(value, np.ndarray):
            return queue.resident(value)
        return np.int32(value)


class DeviceProgram(Generic[M]):
    """A plan with the calls that have been made ready, by binding and sizes."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.schema: Schema = plan.schema
        self._calls: WeakKeyDictionary[Binding, dict[Sizes, DeviceCall[M]]] = WeakKeyDictionary()

    def call_on(self, binding: Binding, sizes: Mapping[str, int], queue: Queue[M]) -> DeviceCall[M]:
        """The program ready to be called on a binding; worked out the first time.

        Raises `HectoriteError` for data that a derived set cannot be built from.
        """
        key = tuple(sorted(sizes.items()))
        try:
            return self._calls[binding][key]
        except KeyError:
            binding.extend(self.schema)
            call = DeviceCall(self.plan, binding, sizes, queue)
            return self._calls.setdefault(binding, {}).setdefault(key, call)


def numbers(plan: Plan, arguments: Mapping[str, Any]) -> dict[str, np.generic]:
    """The numbers among the arguments of a program by name, as kernels take them."""
    return {
        p.name: as_number(arguments[p.name], p.element) for p in plan.parameters if p.dims is None
    }


def as_number(value: Any, element: str) -> np.generic:
    """A number as a kernel takes it: 32 or 64 bits of its own type. What is narrower becomes 32
    bits: signed integers extended by their sign, anything else by zeros before the bits that an
    array would hold."""
    number = stored(value, ELEMENTS[element]).reshape(1)
    if number.dtype.itemsize >= 4:
        return number[0]
    if number.dtype.kind == "i":
        return np.int32(number[0])
    return np.uint32(number.view(f"u{number.dtype.itemsize}")[0])
