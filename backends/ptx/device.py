"""The executor of PTX as a device: compiled programs for a GPU on a machine without one.

Enters: PTX text with its plan ahead; then bindings and arguments. Leaves: NumPy arrays. A device's
memory is that of this process, each tensor an array of its own, so that an access that leaves its
tensor is noticed.

    program = build(text)
    (y,) = program.run(binding, {"x": x, "A": a})

Kernels are compiled to machine code; one with an instruction that this has no code for runs in
lockstep instead. With every check there is: `checked.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hectorite.backends.arrays import Array
from hectorite.backends.bound.binding import Binding
from hectorite.backends.host.device_call import DeviceProgram, numbers
from hectorite.backends.host.memory import POOL
from hectorite.backends.host.plan import plan_from_text
from hectorite.backends.host.plan_values import Allocation
from hectorite.backends.ptx.jit import Allocation as Region
from hectorite.backends.ptx.jit import CompiledKernel, Geometry, compile_kernel
from hectorite.backends.ptx.machine import Launch, execute
from hectorite.ir.diagnostics import HectoriteError, Source
from hectorite.ir.ptx.parse import parse_ptx

ALIGNMENT = 16
"""Bytes that kernels expect tensors to be aligned to."""

Arguments = Sequence[Array | np.generic]
Run = Callable[[str, int, int, int, Arguments], None]
"""Runs a kernel: its name, blocks, threads of a block, shared bytes, arguments."""


class PtxQueue:
    """The `Queue` of `host/device_call.py`: work is done when it is given."""

    def __init__(self, run: Run):
        self._run = run

    def resident(self, array: Array) -> Array:
        return aligned(array)

    def results(self, outputs: Sequence[Allocation]) -> list[Array]:
        return [POOL.empty(t.shape, t.dtype) for t in outputs]

    def workspace(self, nbytes: int, parts: Sequence[Allocation]) -> tuple[Any, list[Array]]:
        return None, self.results(parts)

    def copy(self, memory: Array) -> Array:
        return memory.copy()

    def launch(self, kernel: str, grid: int, block: int, shared: int, arguments: Arguments) -> None:
        self._run(kernel, grid, block, shared, arguments)


def aligned(array: Array) -> Array:
    """The array, or a copy where kernels may load from."""
    if array.__array_interface__["data"][0] % ALIGNMENT == 0:
        return array
    copy = POOL.empty(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy


class PtxExecutable:
    """A program whose kernels are executed here. `text` is called `name` in messages."""

    def __init__(self, text: str, name: str = "<ptx>"):
        self.text, self.name = text, name
        self.plan = plan_from_text(text, name)
        self.program: DeviceProgram[Array] = DeviceProgram(self.plan)
        self._module = parse_ptx(text, name)
        self._source = Source(name, text)
        self._kernels: dict[str, CompiledKernel | None] = {}

    @cached_property
    def _compiled(self) -> PtxQueue:
        return PtxQueue(self._run_compiled)

    def compile(self) -> None:
        """Compile every kernel now."""
        for step in self.plan.steps:
            if step["do"] == "launch":
                self._kernel(step["kernel"])

    def prepare(self, binding: Binding, sizes: Mapping[str, int] | None = None) -> None:
        """Work out what depends on a binding alone."""
        self.program.call_on(binding, sizes or {}, self._compiled)

    def run(
        self,
        binding: Binding,
        arguments: Mapping[str, Any],
        sizes: Mapping[str, int] | None = None,
    ) -> tuple[Array, ...]:
        """The results of a call.

        `arguments` gives every tensor by name, as a C-contiguous array of the declared element type
        and shape, and every number. Raises `HectoriteError` at the first access that is wrong, with
        the line of the PTX.
        """
        return self._run_on(self._compiled, binding, arguments, sizes)

    def _run_on(
        self,
        queue: PtxQueue,
        binding: Binding,
        arguments: Mapping[str, Any],
        sizes: Mapping[str, int] | None,
    ) -> tuple[Array, ...]:
        call = self.program.call_on(binding, sizes or {}, queue)
        tensors = {
            p.name: aligned(arguments[p.name]) for p in self.plan.parameters if p.dims is not None
        }
        return call(queue, tensors | numbers(self.plan, arguments))

    def _kernel(self, name: str) -> CompiledKernel | None:
        """A kernel in machine code, None where that is not to be had."""
        if name not in self._kernels:
            try:
                self._kernels[name] = compile_kernel(self._module, name, self._source)
            except HectoriteError:
                self._kernels[name] = None
        return self._kernels[name]

    def _run_compiled(
        self, name: str, grid: int, block: int, shared: int, arguments: Arguments
    ) -> None:
        kernel = self._kernel(name)
        if kernel is None:
            launch = (self._module, name, (grid,), (block,), arguments, shared, self._source)
            execute(Launch(*launch))
            return
        sizes, offsets = kernel.parameters.sizes, kernel.parameters.offsets
        parameters = bytearray(kernel.parameters.end)
        for parameter, value in zip(kernel.parameter_order, arguments, strict=True):
            start, size = offsets[parameter], sizes[parameter]
            parameters[start : start + size] = _bytes(value)
        regions = [
            Region(value.__array_interface__["data"][0], value.nbytes)
            for value in arguments
            if isinstance(value, np.ndarray)
        ]
        kernel.launch(Geometry((grid, 1, 1), (block, 1, 1), shared), bytes(parameters), regions)


def _bytes(value: Array | np.generic) -> bytes:
    """A parameter as a launch passes it."""
    if isinstance(value, np.ndarray):
        return value.__array_interface__["data"][0].to_bytes(8, "little")
    return value.tobytes()


def build(text: str, name: str = "<ptx>") -> PtxExecutable:
    """The executable of PTX text with its plan ahead, as `emit` prints it.

    Raises `HectoriteError` if it is not valid.
    """
    made = PtxExecutable(text, name)
    made.compile()
    return made
