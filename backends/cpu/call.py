"""A compiled program made ready for one binding: what remains to be done for each call.

Enters: a plan, a binding and sizes. Leaves: a `Call`, which has layouts, extents and task counts
filled in already (`host/plan_values.py`), and which takes arguments, allocates results and
temporaries, and hands machine code its frame (`module.py` says what is in a frame).
"""

from __future__ import annotations

import ctypes
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.cpu.module import frame_size
from hectorite.backends.cpu.threads import pool
from hectorite.backends.host.memory import ALIGNMENT, POOL, address_of
from hectorite.backends.host.plan import Parameter, Plan
from hectorite.backends.host.plan_values import Allocation, Array, PlanValues, Value, pack
from hectorite.backends.host.recycled import Recycled
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.rounding import stored

if TYPE_CHECKING:
    from hectorite.backends.bound.binding import Binding

OWN_TEMPORARIES = 1 << 20
"""Bytes of temporaries that a frame keeps between calls; more come from the pool, which shares its
memory among all programs."""


class Call:
    """A program ready to be called. May be used from several threads at once.

    `shapes` are those of the results; None for one that is a copy of something else.
    """

    def __init__(
        self, plan: Plan, binding: Binding, sizes: Mapping[str, int], entry: Callable[[int], None]
    ):
        values = PlanValues(plan, binding, sizes)
        pool().rouse()  # the first call follows
        frame = _Frame(values)
        self._entry = entry
        self._frame_type = ctypes.c_int64 * len(frame.words)
        self._template = frame.words
        self._layouts = frame.layouts  # the frame has their addresses
        given = [p for p in plan.parameters if id(p) in frame.slots]
        self._tensors = [
            (p.name, slot) for p in given if p.dims is not None for slot in frame.slots[id(p)]
        ]
        self._numbers = [
            (p.name, frame.slots[id(p)], _bits(ELEMENTS[p.element]))
            for p in given
            if p.dims is None
        ]
        self._outputs = [
            (Recycled(t.shape, t.dtype), frame.slots[id(t)], _place(t, values.results))
            for t in values.outputs
        ]
        self.shapes = [v.shape if isinstance(v, Allocation) else None for v in values.results]
        self._results = [_result(value, values.outputs) for value in values.results]
        pairs = zip(values.results, values.outputs, strict=False)
        self._are_outputs = len(self._results) == len(values.outputs) and all(
            result is output for result, output in pairs
        )
        self._block = pack(values.temporaries, ALIGNMENT)
        self._temporaries = [
            (slot, tensor.offset)
            for tensor in values.temporaries
            for slot in frame.slots[id(tensor)]
        ]
        self._idle: list[tuple[Any, int, Array | None]] = []

    def __call__(
        self, arguments: Mapping[str, Any], out: Sequence[Array] | None = None
    ) -> tuple[Array, ...]:
        """The results for arguments by name: C-contiguous arrays of the declared types and shapes
        (not checked again here), and numbers. `out` are such arrays for the results, in memory of
        their own; then these are returned."""
        try:
            frame, address, temporaries = self._idle.pop()
        except IndexError:
            frame, address, temporaries = self._new_frame()
        for name, slot in self._tensors:
            frame[slot] = address_of(arguments[name])
        for name, slots, bits in self._numbers:
            for slot in slots:
                frame[slot] = bits(arguments[name])
        borrowed = self._borrow(frame) if self._block and temporaries is None else None
        outputs: list[Array] = []
        for recycled, slots, place in self._outputs:
            if out is None:
                output, data = recycled.take()
            else:
                output = out[place]
                data = address_of(output)
            for slot in slots:
                frame[slot] = data
            outputs.append(output)
        self._entry(address)
        del borrowed  # it is free for the next call
        self._idle.append((frame, address, temporaries))
        if self._are_outputs:
            return tuple(outputs)
        results = tuple([get(outputs, arguments) for get in self._results])
        return results if out is None else _delivered(results, out)

    def _new_frame(self) -> tuple[Any, int, Array | None]:
        """A frame, its address, and temporaries that belong to it unless they are many."""
        frame = self._frame_type(*self._template)
        small = 0 < self._block <= OWN_TEMPORARIES
        return frame, ctypes.addressof(frame), self._borrow(frame) if small else None

    def _borrow(self, frame: Any) -> Array:
        """A block for the temporaries, told to a frame. It is free when nobody refers to it."""
        block = POOL.empty(self._block, np.uint8)
        base = address_of(block)
        for slot, offset in self._temporaries:
            frame[slot] = base + offset
        return block


class _Frame:
    """The frame of all launches: `words` with what is known already, `layouts` that these point
    to, and the slots of every other value by its identity."""

    def __init__(self, values: PlanValues):
        self.words: list[int] = []
        self.layouts: list[Array] = []
        self.slots: defaultdict[int, list[int]] = defaultdict(list)
        for launch in values.launches:
            start = len(self.words)
            self.words.append(launch.tasks)
            for value in launch.arguments:
                self.words.append(self._word(value))
            self.words += launch.sizes
            assert len(self.words) == start + frame_size(launch.step)

    def _word(self, value: Value) -> int:
        if isinstance(value, int):
            return value
        if isinstance(value, np.ndarray):
            self.layouts.append(value)
            return address_of(value)
        self.slots[id(value)].append(len(self.words))
        return 0


def _result(
    value: Value, outputs: list[Allocation]
) -> Callable[[list[Array], Mapping[str, Any]], Array]:
    """How to get at a result; what the program did not make itself is copied."""
    if isinstance(value, np.ndarray):
        return lambda outputs, arguments: value.copy()
    if isinstance(value, Parameter):
        return lambda outputs, arguments: np.array(arguments[value.name])
    place = next(i for i, tensor in enumerate(outputs) if tensor is value)
    return lambda outputs, arguments: outputs[place]


def _place(tensor: Allocation, results: Sequence[Value]) -> int:
    """The first result that a tensor is."""
    return next(i for i, value in enumerate(results) if value is tensor)


def _delivered(results: tuple[Array, ...], out: Sequence[Array]) -> tuple[Array, ...]:
    """The arrays of the caller, with the results that are not in them yet."""
    for place, result in zip(out, results, strict=True):
        if place is not result:
            np.copyto(place, result)
    return tuple(out)


def _bits(element: ElementType) -> Callable[[Any], int]:
    """How a number lies in its slot; short floats are passed as f32."""
    if not element.is_float:
        return int
    form = "<d" if element.bits == 64 else "<f4x"
    rounds_itself = element.name in ("f32", "f64")

    def bits(number: Any) -> int:
        if rounds_itself:
            with suppress(OverflowError):  # which becomes infinity below
                return struct.unpack("<q", struct.pack(form, number))[0]
        rounded = float(stored(number, element))
        return struct.unpack("<q", struct.pack(form, rounded))[0]

    return bits
