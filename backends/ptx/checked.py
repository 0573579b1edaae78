"""Whole programs under every check of the PTX executor.

Enters: PTX text with its plan ahead, then bindings and arguments. Leaves: the results, or an error
that names the kernel, the line of PTX and what is wrong: an access outside of its tensor or
misaligned, a race in shared memory, a barrier that not all threads reach, a read of what nothing
has written (in registers, shared memory, or tensors that an earlier launch should have filled).

The first data that is worth several blocks runs a second time, its threads one after the other,
which takes thirty times as long; what gives two different results misses a barrier. Where threads
add floats to memory in no fixed order, there is nothing to compare: the second results are those
that the caller gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.backends.arrays import Array
from hectorite.backends.bound.binding import Binding
from hectorite.backends.host.device_call import DeviceCall, numbers
from hectorite.backends.host.memory import POOL
from hectorite.backends.host.plan import Plan, plan_from_text
from hectorite.backends.host.plan_values import Allocation
from hectorite.backends.ptx.integer import is_float
from hectorite.backends.ptx.machine import Machine
from hectorite.backends.ptx.memory import GLOBAL_BASE, WRITTEN
from hectorite.backends.ptx.watch import Checks, Finding
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Source, Span, fail
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.ptx.syntax import Instruction, Module


@dataclass(frozen=True, eq=False)
class Held:
    """A tensor in the memory of the executor."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


class CheckedQueue:
    """The `Queue` of `host/device_call.py` on a machine whose memory knows what has been written.
    `several` tells that a launch had more than one block."""

    def __init__(self, module: Module, source: Source, order: str):
        self._module, self._source, self._order = module, source, order
        self.several = False
        self._machine = Machine()
        self._checks = Checks()

    def put(self, array: Array, name: str) -> Held:
        """A copy of an array; `name` is what findings call it."""
        memory = self._machine.memory
        held = Held(memory.allocate(array.nbytes, name), array.shape, array.dtype)
        if array.nbytes:
            memory.view(held.address, array.nbytes)[:] = _octets(array)
        return held

    def get(self, held: Held, name: str) -> Array:
        """What a tensor holds. Raises `HectoriteError` if a part of it was never written."""
        memory = self._machine.memory
        array = POOL.empty(held.shape, held.dtype)
        if held.nbytes:
            start = held.address - GLOBAL_BASE
            state = memory.state[start : start + held.nbytes]
            if (state != WRITTEN).any():
                place = int(np.argmax(state != WRITTEN)) // held.dtype.itemsize
                where = ", ".join(str(i) for i in np.unravel_index(place, held.shape))
                raise fail(f"{name}[{where}] is returned, but nothing has written it")
            _octets(array)[:] = memory.view(held.address, held.nbytes)
        return array

    def resident(self, array: Array) -> Held:
        return self.put(array, "a layout")

    def results(self, outputs: Sequence[Allocation]) -> list[Held]:
        return [self._fresh(t, f"result{n}") for n, t in enumerate(outputs)]

    def workspace(self, nbytes: int, parts: Sequence[Allocation]) -> tuple[Any, list[Held]]:
        return None, [self._fresh(t, f"temporary {n}") for n, t in enumerate(parts)]

    def copy(self, memory: Held) -> Held:
        return memory

    def launch(
        self,
        kernel: str,
        grid: int,
        block: int,
        shared: int,
        arguments: Sequence[Held | np.generic],
    ) -> None:
        self.several |= grid > 1
        given = [value.address if isinstance(value, Held) else value for value in arguments]
        report = self._machine.launch(
            self._module,
            kernel,
            (grid,),
            (block,),
            given,
            shared,
            self._order,
            self._checks,
            self._source,
        )
        if report.findings:
            told = [self._diagnostic(kernel, finding) for finding in report.findings]
            raise HectoriteError(told)

    def _fresh(self, tensor: Allocation, name: str) -> Held:
        address = self._machine.memory.allocate(tensor.nbytes, name, is_written=False)
        return Held(address, tensor.shape, tensor.dtype)

    def _diagnostic(self, kernel: str, finding: Finding) -> Diagnostic:
        line = self._source.lines[finding.line - 1]
        start = len(line) - len(line.lstrip()) + 1
        span = Span(finding.line, start, finding.line, max(len(line) + 1, start + 1))
        return Diagnostic(f"kernel `{kernel}`: {finding.message}", span, self._source)


def run_checked(text: str, name: str = "<ptx>") -> Callable[..., tuple[Array, ...]]:
    """A function from a binding, arguments by name and sizes to the results of a program.

    Arguments are C-contiguous arrays of the declared types, and numbers. Raises `HectoriteError`
    for text that is not valid; the function does for what the checks find.
    """
    plan, module = plan_from_text(text, name), parse_ptx(text, name)
    source = Source(name, text)

    pending, settled = ["sequential"], _is_order_settled(module)

    def run(
        binding: Binding, arguments: Mapping[str, Any], sizes: Mapping[str, int]
    ) -> tuple[Array, ...]:
        queue = CheckedQueue(module, source, "lockstep")
        results = _run(plan, queue, binding, arguments, sizes)
        while pending and queue.several:
            queue = CheckedQueue(module, source, pending.pop())
            again = _run(plan, queue, binding, arguments, sizes)
            if settled:
                _compare(results, again)
            else:
                results = again
        return results

    return run


def _is_order_settled(module: Module) -> bool:
    """Whether no kernel combines floats in memory so that the order matters: in one step, or by
    exchanges."""
    for function in module.functions:
        for at in function.body:
            if isinstance(at, Instruction) and at.name in ("atom", "red"):
                adds_floats = "add" in at.suffix and any(map(is_float, at.suffix))
                if adds_floats or "cas" in at.suffix:
                    return False
    return True


def _compare(results: Sequence[Array], others: Sequence[Array]) -> None:
    for number, (one, other) in enumerate(zip(results, others, strict=True)):
        if one.tobytes() != other.tobytes():
            raise fail(
                f"result{number} depends on the order in which threads run",
                hint="a barrier is missing, or tasks write to one place",
            )


def _run(
    plan: Plan,
    queue: CheckedQueue,
    binding: Binding,
    arguments: Mapping[str, Any],
    sizes: Mapping[str, int],
) -> tuple[Array, ...]:
    binding.extend(plan.schema)
    call = DeviceCall(plan, binding, sizes, queue)
    given: dict[str, Held | np.generic] = dict(numbers(plan, arguments))
    for parameter in plan.parameters:
        if parameter.dims is not None:
            given[parameter.name] = queue.put(arguments[parameter.name], parameter.name)
    results = call(queue, given)
    return tuple(queue.get(held, f"result{n}") for n, held in enumerate(results))


def _octets(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)
