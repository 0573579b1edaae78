"""Compiled programs on a GPU: PTX and a plan, bound to data and called.

Enters: PTX text with its plan ahead; then bindings and arguments, in the memory of the host or of
the device. Leaves: arrays, of the library of the caller: torch tensors or CuPy arrays where an
argument was one on the device, which are neither copied nor waited for, else NumPy arrays.

    program = build(text, device())
    (y,) = program.run(binding, {"x": x, "A": a})

Work goes to the caller's stream: the one given, else the current one of torch or CuPy, else the
default one. A call launches and returns; only results in host memory are waited for.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hectorite.backends.arrays import Array, KeptArray
from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import Cache
from hectorite.backends.cuda.driver import CudaDevice, check, driver, stream_handle
from hectorite.backends.cuda.memory import (
    Allocator,
    Span,
    allocator_of,
    download,
    pool,
    synchronise,
    upload,
)
from hectorite.backends.cuda.module import CudaModule, load
from hectorite.backends.host.device_call import DeviceProgram, numbers
from hectorite.backends.host.memory import POOL
from hectorite.backends.host.plan import Plan, plan_from_text
from hectorite.backends.host.plan_values import Allocation
from hectorite.ir.diagnostics import fail

ALIGNMENT = 16
"""Bytes that kernels expect tensors to be aligned to."""

BYTE = np.dtype(np.uint8)


class CudaQueue:
    """Work of one program on one stream; the `Queue` of `host/device_call.py`."""

    def __init__(self, module: CudaModule, allocator: Allocator, stream: int):
        self.module, self.allocator, self.stream = module, allocator, stream
        self.ordinal = module.device.ordinal

    def resident(self, array: Array) -> Span:
        return _resident(array, self.ordinal)

    def results(self, outputs: Sequence[Allocation]) -> list[Span]:
        return [self.allocator.empty(t.shape, t.dtype, self.stream) for t in outputs]

    def workspace(self, nbytes: int, parts: Sequence[Allocation]) -> tuple[Any, list[Span]]:
        if not parts:
            return None, []
        block = self.allocator.empty((nbytes,), BYTE, self.stream)
        return block, [
            Span(block.address + t.offset, t.shape, t.dtype, block.owner, self.ordinal)
            for t in parts
        ]

    def copy(self, memory: Span) -> Span:
        made = self.allocator.empty(memory.shape, memory.dtype, self.stream)
        move(memory, made, self.stream)
        return made

    def launch(
        self,
        kernel: str,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[Span | np.generic],
    ) -> None:
        words = (ctypes.c_uint64 * len(arguments))(*map(_word, arguments))
        start = ctypes.addressof(words)
        places = (ctypes.c_void_p * len(words))(*range(start, start + 8 * len(words), 8))
        function = self.module.kernels[kernel]
        launched = driver().cuLaunchKernel(
            function, grid, 1, 1, block, 1, 1, shared, self.stream, ctypes.addressof(places), 0
        )
        check(launched, f"launch {kernel}")

    def place(self, given: Mapping[str, Span | Array]) -> dict[str, Span]:
        """Arguments where kernels can read them: uploaded, or copied to an aligned address."""
        placed: dict[str, Span] = {}
        for name, value in given.items():
            if isinstance(value, Span):
                placed[name] = self.copy(value) if value.address % ALIGNMENT else value
                continue
            if isinstance(value, KeptArray):
                placed[name] = self.resident(value)
                continue
            placed[name] = self.allocator.empty(value.shape, value.dtype, self.stream)
            upload(value, placed[name], self.stream)
        return placed


def _word(value: Span | np.generic) -> int:
    """The 8 bytes of which a kernel reads as many as its parameter has."""
    if isinstance(value, Span):
        return value.address
    return int.from_bytes(value.tobytes(), "little")


def move(source: Span, to: Span, stream: int) -> None:
    """Copy a tensor within the device."""
    if not source.nbytes:
        return
    copied = driver().cuMemcpyDtoDAsync(to.address, source.address, source.nbytes, stream)
    check(copied, f"copy {source.nbytes} bytes")


_RESIDENT: dict[tuple[int, int], Span] = {}
"""By the identity of an array and the number of a device: its copy there."""


def _resident(array: Array, ordinal: int) -> Span:
    key = id(array), ordinal
    if key not in _RESIDENT:
        span = pool(ordinal).empty(array.shape, array.dtype, 0)
        upload(array, span, 0)
        synchronise(0)
        _RESIDENT[key] = span
        weakref.finalize(array, _RESIDENT.pop, key, None)
    return _RESIDENT[key]


class CudaExecutable:
    """A program whose kernels are on a device."""

    def __init__(self, plan: Plan, module: CudaModule):
        self.plan, self.module = plan, module
        self.device = module.device
        self.program: DeviceProgram[Span] = DeviceProgram(plan)

    def prepare(self, binding: Binding, sizes: Mapping[str, int] | None = None) -> None:
        """Put what depends on a binding alone on the device."""
        queue = CudaQueue(self.module, pool(self.device.ordinal), 0)
        with self.device.active():
            self.program.call_on(binding, sizes or {}, queue)

    def run(
        self,
        binding: Binding,
        arguments: Mapping[str, Any],
        sizes: Mapping[str, int] | None = None,
        stream: Any = None,
        out: Sequence[Array | Span] | None = None,
    ) -> tuple[Any, ...]:
        """The results of a call.

        `arguments` gives every tensor by name, as a `Span` of the device or a C-contiguous array of
        the declared element type and shape, and every number. Results are copied to `out`.
        """
        queue, is_on_device = self.queue(arguments, stream)
        with self.device.active():
            call = self.program.call_on(binding, sizes or {}, queue)
            given = queue.place(self.tensors(arguments))
            results = call(queue, given | numbers(self.plan, arguments))
            if out is not None:
                return _delivered(results, out, queue.stream)
            if is_on_device:
                return tuple(map(owner, results))
            arrays = tuple(POOL.empty(span.shape, span.dtype) for span in results)
            return _delivered(results, arrays, queue.stream)

    def queue(self, arguments: Mapping[str, Any], stream: Any) -> tuple[CudaQueue, bool]:
        """Where the work of a call goes, and whether an argument is on the device already."""
        spans = [value for value in arguments.values() if isinstance(value, Span)]
        for name, value in arguments.items():
            if isinstance(value, Span) and value.ordinal != self.device.ordinal:
                raise fail(
                    f"`{name}` is on device cuda:{value.ordinal}",
                    expected=f"cuda:{self.device.ordinal}, which the program was compiled for",
                    hint=f'compile with target="cuda:{value.ordinal}"',
                )
        allocator = allocator_of(spans, self.device.ordinal)
        handle = allocator.current_stream() if stream is None else stream_handle(stream)
        return CudaQueue(self.module, allocator, handle), bool(spans)

    def tensors(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors among the arguments."""
        return {p.name: arguments[p.name] for p in self.plan.parameters if p.dims is not None}


def owner(span: Span) -> Any:
    """A result as the caller's library has it, or the span, which others take without a copy."""
    library = type(span.owner).__module__.split(".")[0]
    return span.owner if library in ("torch", "cupy") else span


def _delivered(
    results: Sequence[Span], out: Sequence[Array | Span], stream: int
) -> tuple[Array | Span, ...]:
    """Results copied to arrays of the host, which are waited for, or of the device."""
    for result, to in zip(results, out, strict=True):
        if isinstance(to, Span):
            move(result, to, stream)
        else:
            download(result, to, stream)
    if any(isinstance(to, np.ndarray) for to in out):
        synchronise(stream)
    return tuple(out)


def build(
    text: str, on: CudaDevice, cache: Cache | None = None, name: str = "<ptx>"
) -> CudaExecutable:
    """The executable of PTX text with its plan ahead, as `emit` prints it, on a device.

    Raises `HectoriteError` if the text is not valid, with the log of the driver's compiler.
    """
    plan = plan_from_text(text, name)
    launches = [step for step in plan.steps if step["do"] == "launch"]
    shared = {step["kernel"]: 0 for step in launches}
    for step in launches:
        shared[step["kernel"]] = max(shared[step["kernel"]], step["shared"])
    return CudaExecutable(plan, load(on, text, shared, cache, name))
