"""A compiled program made ready for one binding: what remains to be done for each call.

Enters: a plan, a binding and sizes. Leaves: a `Call`, which has layouts, extents and task counts
filled in already, and which takes arguments, allocates results and temporaries, and hands machine
code its frame (`llvm_module.py` says what is in a frame).

Temporaries share one block of memory: two that no launch needs at the same time may lie in the
same place.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hectorite.backends.binding import Binding
from hectorite.backends.llvm_module import frame_size
from hectorite.backends.memory import ALIGNMENT, POOL
from hectorite.backends.plan import Parameter, Plan
from hectorite.ir.element import ELEMENTS, INDEX, ElementType
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import apply
from hectorite.ir.space import index_from_text

Array = np.ndarray[Any, Any]


@dataclass
class _Tensor:
    """An allocation or a parameter: where in the frame its address goes, and between which
    launches it is needed. `offset` is its place in the block of temporaries."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    slots: list[int] = field(default_factory=list[int])
    first: int = 0
    last: int = -1
    offset: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Call:
    """A program ready to be called. May be used from several threads at once."""

    def __init__(
        self, plan: Plan, binding: Binding, sizes: Mapping[str, int], entry: Callable[[int], None]
    ):
        resolved = _Resolved(plan, binding, sizes)
        self._entry = entry
        self._frame_type = ctypes.c_int64 * len(resolved.frame)
        self._template = resolved.frame
        self._layouts = resolved.layouts  # the frame has their addresses
        self._tensors, self._numbers = resolved.arguments(plan.parameters)
        self._outputs = [(t.shape, t.dtype, t.slots) for t in resolved.outputs]
        self._results = [resolved.result(number) for number in plan.results]
        self._block, self._temporaries = _packed(resolved.temporaries)
        self._idle: list[tuple[Any, int]] = []

    def __call__(self, arguments: Mapping[str, Any]) -> tuple[Array, ...]:
        """The results for arguments by name: C-contiguous arrays of the declared types and shapes
        (not checked again here), and numbers."""
        try:
            frame, address = self._idle.pop()
        except IndexError:
            frame = self._frame_type(*self._template)
            address = ctypes.addressof(frame)
        for name, slots in self._tensors:
            data = arguments[name].__array_interface__["data"][0]
            for slot in slots:
                frame[slot] = data
        for name, slots, bits in self._numbers:
            for slot in slots:
                frame[slot] = bits(arguments[name])
        if self._block:
            temporary = POOL.empty(self._block, np.uint8)
            base = temporary.__array_interface__["data"][0]
            for slot, offset in self._temporaries:
                frame[slot] = base + offset
        outputs: list[Array] = []
        for shape, dtype, slots in self._outputs:
            output = POOL.empty(shape, dtype)
            data = output.__array_interface__["data"][0]
            for slot in slots:
                frame[slot] = data
            outputs.append(output)
        self._entry(address)
        self._idle.append((frame, address))
        return tuple(get(outputs, arguments) for get in self._results)


class _Resolved:
    """The steps of a plan, worked out on a binding."""

    def __init__(self, plan: Plan, binding: Binding, sizes: Mapping[str, int]):
        self.plan, self.binding, self.sizes = plan, binding, sizes
        self.values: dict[int, Any] = {}
        self.frame: list[int] = []
        self.layouts: list[Array] = []
        self.outputs: list[_Tensor] = []
        self.temporaries: list[_Tensor] = []
        self.launches = 0
        for number, parameter in enumerate(plan.parameters):
            self.values[number] = _Tensor((), ELEMENTS[parameter.element].storage)
        for step in plan.steps:
            if step["do"] == "launch":
                self.launch(step)
            else:
                self.values[step["to"]] = self.value(step)

    def size(self, name: str) -> int:
        return self.sizes[name] if name in self.sizes else self.binding.size(name)

    def value(self, step: Mapping[str, Any]) -> Any:
        """What a step other than a launch makes."""
        kind = step["do"]
        if kind == "allocate":
            return self.allocate(step)
        if kind == "layout":
            return self.layout(step)
        if kind == "length":
            return len(self.values[step["of"]])
        if kind == "size":
            return self.size(step["of"])
        if kind == "constant":
            return int(step["number"])
        arguments = [np.asarray(self.values[number]) for number in step["arguments"]]
        return int(apply(step["function"], arguments, INDEX))

    def allocate(self, step: Mapping[str, Any]) -> _Tensor:
        shape = tuple(self.size(dim) if isinstance(dim, str) else dim for dim in step["dims"])
        tensor = _Tensor(shape, ELEMENTS[step["element"]].storage)
        is_result = step["to"] in self.plan.results
        (self.outputs if is_result else self.temporaries).append(tensor)
        return tensor

    def layout(self, step: Mapping[str, Any]) -> Array:
        keys = tuple(map(index_from_text, step.get("keys", ())))
        path: IndexExpr | None = index_from_text(step["path"]) if "path" in step else None
        what, limit = step["what"], step.get("limit", 0)
        array = self.binding.layout(what, step["of"], keys, path, limit)
        self.layouts.append(array)
        return array

    def launch(self, step: Mapping[str, Any]) -> None:
        start = len(self.frame)
        self.frame.extend([0] * frame_size(step))
        self.frame[start] = self.values[step["tasks"]]
        for slot, number in enumerate(step["arguments"], start + 1):
            value = self.values[number]
            if isinstance(value, _Tensor):
                value.first = self.launches if value.last < 0 else value.first
                value.last = self.launches
                value.slots.append(slot)
            elif isinstance(value, np.ndarray):
                self.frame[slot] = value.__array_interface__["data"][0]
            else:
                self.frame[slot] = value
        first_size = start + 1 + len(step["arguments"])
        for slot, name in enumerate(step["sizes"], first_size):
            self.frame[slot] = self.size(name)
        self.launches += 1

    def arguments(
        self, parameters: Sequence[Parameter]
    ) -> tuple[list[tuple[str, list[int]]], list[tuple[str, list[int], Callable[[Any], int]]]]:
        """The slots of every tensor and every number that the caller passes."""
        tensors: list[tuple[str, list[int]]] = []
        numbers: list[tuple[str, list[int], Callable[[Any], int]]] = []
        for number, parameter in enumerate(parameters):
            slots = self.values[number].slots
            if not slots:
                continue
            if parameter.dims is None:
                numbers.append((parameter.name, slots, _bits(ELEMENTS[parameter.element])))
            else:
                tensors.append((parameter.name, slots))
        return tensors, numbers

    def result(self, number: int) -> Callable[[list[Array], Mapping[str, Any]], Array]:
        """How to get at a result; what the program did not make itself is copied."""
        value = self.values[number]
        if isinstance(value, np.ndarray):
            return lambda outputs, arguments: value.copy()
        if number < len(self.plan.parameters):
            name = self.plan.parameters[number].name
            return lambda outputs, arguments: np.array(arguments[name])
        place = next(i for i, tensor in enumerate(self.outputs) if tensor is value)
        return lambda outputs, arguments: outputs[place]


def _bits(element: ElementType) -> Callable[[Any], int]:
    """How a number lies in its slot; 16-bit floats are passed as f32."""
    if not element.is_float:
        return int
    form = "<d" if element.bits == 64 else "<f4x"

    def bits(number: Any) -> int:
        rounded = float(np.asarray(number).astype(element.storage))
        return struct.unpack("<q", struct.pack(form, rounded))[0]

    return bits


def _packed(tensors: Sequence[_Tensor]) -> tuple[int, list[tuple[int, int]]]:
    """Places for temporaries in one block: its bytes, and (slot of the frame, offset) pairs.

    Largest first, each at the lowest place that no other needs at the same time.
    """
    total, placed = 0, list[_Tensor]()
    for tensor in sorted((t for t in tensors if t.slots), key=lambda t: -t.nbytes):
        tensor.offset = 0
        for other in sorted(placed, key=lambda t: t.offset):
            together = other.first <= tensor.last and tensor.first <= other.last
            if together and other.offset < tensor.offset + tensor.nbytes:
                beyond = -(-(other.offset + other.nbytes) // ALIGNMENT) * ALIGNMENT
                tensor.offset = max(tensor.offset, beyond)
        placed.append(tensor)
        total = max(total, tensor.offset + tensor.nbytes)
    return total, [(slot, tensor.offset) for tensor in placed for slot in tensor.slots]
