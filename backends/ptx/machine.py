"""PTX kernels run without a GPU: launches in, changed arrays and a report out.

    launch = Launch(module, "axpy", grid=(4,), block=(256,), arguments=[x, y, np.float32(2)])
    report = execute(launch, schedule="sequential", checks=Checks())
    report.findings                       what is wrong with the kernel, with lines of PTX

Arrays are passed by address and changed in place; numpy scalars and Python numbers by value, in
the type of the parameter. For many launches on memory that stays, use a `Machine`:

    machine = Machine()
    x = machine.memory.allocate(4096)     an address; machine.memory.view(x, 4096, np.float32)
    machine.launch(module, "axpy", (4,), (256,), [x, y, 2.0])

`schedule` is "lockstep" (threads that stand at one place run together; fast), "sequential" (each
thread alone up to where it must wait for others) or "reversed" (that, last thread first). A kernel
that gives different results under them misses a barrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.blocks import BlockBuilder, StepBlock
from hectorite.backends.ptx.checks import Checker
from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.jit_inline import inlined
from hectorite.backends.ptx.layout import layout_of, parameter_offsets, place_variables, size_of
from hectorite.backends.ptx.memory import DeviceMemory
from hectorite.backends.ptx.schedule import Schedule
from hectorite.backends.ptx.thread_code import Code
from hectorite.backends.ptx.watch import Checks, Finding, Traffic, Watch
from hectorite.ir.diagnostics import Source, did_you_mean, fail
from hectorite.ir.ptx.flow import function_named
from hectorite.ir.ptx.syntax import Function, Module, Variable

Array = npt.NDArray[Any]

SCHEDULES = ("lockstep", "sequential", "reversed")
LANES_TOGETHER = 16384
"""Threads that run together, about: enough to hide what an instruction costs in Python."""
MOST_BLOCKS_TOGETHER = 128
ALONE_FACTOR = 8
"""How many times more blocks run together where the threads of a block run one by one."""
MOST_PREPARED = 8
"""Kernels that a machine keeps ready; their registers are arrays of some megabytes."""
MOST_THREADS = 1024
MOST_SHARED_BYTES = 232448
DEFAULT_STEP_LIMIT = 20_000_000
"""Blocks of instructions that run for one batch before a kernel is taken to have no end."""


@dataclass(frozen=True)
class Pointer:
    """An address inside an array: `offset` bytes behind its first element."""

    array: Array
    offset: int = 0


Argument: TypeAlias = "Array | Pointer | np.generic[Any] | int | float | bytes | bytearray"
"""An array, a `Pointer`, a number, or bytes for a parameter of several bytes."""


@dataclass(frozen=True)
class Launch:
    """A kernel and what it is launched with. `shared` is the dynamic shared memory in bytes;
    `source` is the text, for messages that show the line."""

    module: Module
    kernel: str
    grid: Sequence[int]
    block: Sequence[int]
    arguments: Sequence[Argument] = ()
    shared: int = 0
    source: Source | None = None


@dataclass
class Report:
    """What was seen. `instructions` counts PTX instructions, once for each thread."""

    findings: list[Finding] = field(default_factory=list[Finding])
    instructions: int = 0
    traffic: list[Traffic] = field(default_factory=list[Traffic])

    @property
    def is_clean(self) -> bool:
        return not self.findings


@dataclass
class _Prepared:
    """A kernel ready to run batches."""

    code: Code
    blocks: list[StepBlock]
    schedule: Schedule
    watch: Watch


class Machine:
    """Memory that stays between launches, the modules loaded into it and the kernels prepared."""

    def __init__(self, memory: DeviceMemory | None = None):
        self.memory = memory or DeviceMemory()
        self._modules: dict[int, tuple[Module, dict[str, int]]] = {}
        self._kernels: dict[tuple[int, str], Function] = {}
        self._prepared: dict[tuple[Any, ...], _Prepared] = {}

    def address_of(self, module: Module, variable: str) -> int:
        """The address of a `.global` or `.const` variable of a module."""
        addresses = self._load(module)
        if variable not in addresses:
            hint = did_you_mean(variable, addresses)
            raise fail(f"the module has no variable `{variable}` in global memory", hint=hint)
        return addresses[variable]

    def launch(
        self,
        module: Module,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[Argument] = (),
        shared: int = 0,
        schedule: str = "lockstep",
        checks: Checks | None = None,
        source: Source | None = None,
        step_limit: int = DEFAULT_STEP_LIMIT,
    ) -> Report:
        """Run a kernel. Addresses are numbers that `memory.allocate` gave, or inside of those.

        Raises `HectoriteError` for wrong arguments, instructions that are not supported, faults
        that no check collects, and kernels whose threads wait for ever.
        """
        grid, block = _three(grid, "grid"), _three(block, "block")
        if schedule not in SCHEDULES:
            raise fail(f"unknown schedule `{schedule}`", expected=", ".join(SCHEDULES))
        total = grid[0] * grid[1] * grid[2]
        function = self._kernel(module, kernel, source)
        _check_shape(function, block, shared)
        values = pack_arguments(function, arguments)
        if total == 0:
            return Report()
        together = _together(total, block, schedule)
        key = (id(module), kernel, block, shared, together, schedule, checks)
        prepared = self._prepared.pop(key, None)
        if prepared is None:
            prepared = self._prepare(module, function, block, shared, together, schedule,
                                     checks or Checks.none(), source)  # fmt: skip
            while len(self._prepared) >= MOST_PREPARED:
                del self._prepared[next(iter(self._prepared))]
        # Last in the order of use, which is the order of the dictionary.
        self._prepared[key] = prepared
        return _run(prepared, values, grid, shared, step_limit)

    def _load(self, module: Module) -> dict[str, int]:
        found = self._modules.get(id(module))
        if found is None:
            found = self._modules[id(module)] = module, place_variables(module, self.memory)
        return found[1]

    def _kernel(self, module: Module, name: str, source: Source | None) -> Function:
        key = (id(module), name)
        if key not in self._kernels:
            names = [function.name for function in module.entries]
            if name not in names:
                hint = did_you_mean(name, names)
                raise fail(f"the module has no kernel `{name}`", source=source, hint=hint)
            assert function_named(module.functions, name) is not None
            self._load(module)
            self._kernels[key] = inlined(module, name, source)
        return self._kernels[key]

    def _prepare(
        self,
        module: Module,
        function: Function,
        block: tuple[int, int, int],
        shared: int,
        together: int,
        schedule: str,
        checks: Checks,
        source: Source | None,
    ) -> _Prepared:
        layout = layout_of(module, function, self._load(module))
        shared_bytes = layout.dynamic_offset + shared
        if shared_bytes > MOST_SHARED_BYTES:
            raise fail(f"{shared_bytes} bytes of shared memory are more than a block can have")
        code = Code(function, block, together, self.memory, layout, shared_bytes, source)
        code.watch = Checker(source, checks, code) if checks.any else Watch(source)
        blocks = BlockBuilder(code).build()
        order = Schedule(code, blocks, schedule, DEFAULT_STEP_LIMIT)
        return _Prepared(code, blocks, order, code.watch)


def execute(
    launch: Launch,
    schedule: str = "lockstep",
    checks: Checks | None = None,
    step_limit: int = DEFAULT_STEP_LIMIT,
    unwritten: Sequence[Array] = (),
) -> Report:
    """Run one launch on memory of its own; arrays among the arguments are changed in place.

    Reading elements of the arrays in `unwritten` before the kernel wrote them is a finding.
    Without `checks`, faults raise. Raises as `Machine.launch` does.
    """
    machine = Machine()
    with _Arrays(machine.memory, launch.arguments, unwritten) as arrays:
        arguments = [arrays.argument(argument) for argument in launch.arguments]
        return machine.launch(
            launch.module,
            launch.kernel,
            launch.grid,
            launch.block,
            arguments,
            launch.shared,
            schedule,
            checks,
            launch.source,
            step_limit,
        )


class _Arrays:
    """The arrays of a launch in device memory: copied in, and back at the end.

    Arrays that overlap in the caller's memory overlap in the same way on the device.
    """

    def __init__(
        self, memory: DeviceMemory, arguments: Sequence[Argument], unwritten: Sequence[Array]
    ):
        self.memory = memory
        self.unwritten = {id(array) for array in unwritten}
        self.arrays = {id(array): array for array in map(_array_of, arguments)
                       if array is not None}  # fmt: skip
        self.addresses: dict[int, int] = {}
        for array in self.arrays.values():
            if not array.flags.c_contiguous:
                raise fail("arrays must be contiguous, rows behind each other",
                           hint="pass numpy.ascontiguousarray(x)")  # fmt: skip

    def __enter__(self) -> _Arrays:
        order = {key: number for number, key in enumerate(self.arrays)}
        spans = sorted(
            (array.ctypes.data, array.ctypes.data + array.nbytes, key)
            for key, array in self.arrays.items()
        )
        groups: list[tuple[int, int, list[tuple[int, int, int]]]] = []
        start = 0
        while start < len(spans):
            stop, end = start + 1, spans[start][1]
            while stop < len(spans) and spans[stop][0] < end:
                end = max(end, spans[stop][1])
                stop += 1
            group = spans[start:stop]
            groups.append((min(order[key] for _, _, key in group), end, group))
            start = stop
        # In the order of the arguments, so that addresses do not depend on the caller's memory.
        for _, end, group in sorted(groups):
            self._copy_in(group, end)
        return self

    def _copy_in(self, spans: list[tuple[int, int, int]], end: int) -> None:
        first = spans[0][0]
        fresh = all(key in self.unwritten for _, _, key in spans)
        name = f"array of {end - first} bytes"
        base = self.memory.allocate(end - first, name, is_written=not fresh)
        for begin, _, key in spans:
            address = self.addresses[key] = base + begin - first
            array = self.arrays[key]
            if array.nbytes:
                self.memory.view(address, array.nbytes)[:] = _octets(array)

    def argument(self, argument: Argument) -> Argument:
        """An argument with its address in the place of an array."""
        if isinstance(argument, Pointer):
            return self.addresses[id(argument.array)] + argument.offset
        if isinstance(argument, np.ndarray):
            return self.addresses[id(argument)]
        return argument

    def __exit__(self, *_: object) -> None:
        for key, array in self.arrays.items():
            if array.nbytes and array.flags.writeable:
                data = self.memory.view(self.addresses[key], array.nbytes)
                array.reshape(-1).view(np.uint8)[:] = data


def _array_of(argument: Argument) -> Array | None:
    if isinstance(argument, Pointer):
        return argument.array
    return argument if isinstance(argument, np.ndarray) else None


def _octets(array: Array) -> Array:
    return array.reshape(-1).view(np.uint8)


def _run(
    prepared: _Prepared,
    parameters: bytes,
    grid: tuple[int, int, int],
    shared: int,
    step_limit: int,
) -> Report:
    """All blocks of a grid, batch by batch."""
    code, schedule, watch = prepared.code, prepared.schedule, prepared.watch
    code.parameters[: len(parameters)] = np.frombuffer(parameters, np.uint8)
    for axis, size in zip("xyz", grid, strict=True):
        code.cells[f"nctaid.{axis}"][0] = size
    code.cells["dynamic_smem_size"][0] = shared
    watch.findings.clear()
    watch.traffic.clear()
    schedule.executed, schedule.remaining = 0, step_limit
    total = grid[0] * grid[1] * grid[2]
    with np.errstate(all="ignore"):
        for first in range(0, total, code.blocks):
            live = code.start(first, grid)
            watch.begin()
            schedule.run(live)
    findings = sorted(watch.findings.values(), key=lambda f: (f.line, f.kind, f.message))
    traffic = sorted(watch.traffic.values(), key=lambda t: (t.line, t.space))
    return Report(findings, schedule.executed, traffic)


def pack_arguments(kernel: Function, arguments: Sequence[Argument]) -> bytes:
    """Arguments as the bytes of a kernel's parameters; addresses are numbers here."""
    parameters = kernel.parameters
    if len(arguments) != len(parameters):
        expected = f"{len(parameters)}: {', '.join(p.name for p in parameters)}"
        raise fail(
            f"`{kernel.name}` is launched with {len(arguments)} arguments", expected=expected
        )
    offsets, end = parameter_offsets(parameters)
    packed = bytearray(end)
    for variable, argument in zip(parameters, arguments, strict=True):
        data = _argument_bytes(variable, argument)
        packed[offsets[variable.name] : offsets[variable.name] + len(data)] = data
    return bytes(packed)


def _argument_bytes(variable: Variable, argument: Argument) -> bytes:
    size = size_of(variable)
    if isinstance(argument, np.ndarray) and argument.ndim:
        argument = argument.tobytes()
    if isinstance(argument, bytes | bytearray):
        if len(argument) != size:
            raise fail(f"`{variable.name}` takes {size} bytes, got {len(argument)}")
        return bytes(argument)
    dtype = np.dtype(DTYPES[variable.type][0])
    if (
        isinstance(argument, np.generic)
        and argument.dtype.itemsize == size
        and (dtype.kind != "f" or argument.dtype.kind == "f")
    ):
        return argument.tobytes()
    if not isinstance(argument, int | float | np.generic) or variable.count is not None:
        raise fail(f"`{variable.name}` takes a .{variable.type}, got {type(argument).__name__}")
    number = argument.item() if isinstance(argument, np.generic) else argument
    if dtype.kind == "f":
        return dtype.type(number).tobytes()
    if isinstance(number, float):
        raise fail(f"`{variable.name}` takes a .{variable.type}, got a float",
                   hint="pass a numpy scalar of the size of the parameter")  # fmt: skip
    return (int(number) % (1 << (8 * size))).to_bytes(size, "little")


def _together(total: int, block: tuple[int, int, int], schedule: str) -> int:
    """How many blocks run in one batch."""
    threads = block[0] * block[1] * block[2]
    factor = 1 if schedule == "lockstep" else ALONE_FACTOR
    most = min(MOST_BLOCKS_TOGETHER * factor, LANES_TOGETHER * factor // threads)
    return max(1, min(total, most))


def _three(sizes: Sequence[int], what: str) -> tuple[int, int, int]:
    """Sizes with ones for what is missing."""
    given = tuple(int(size) for size in sizes)
    if not 1 <= len(given) <= 3 or min(given) < 0:
        raise fail(f"a {what} has one to three sizes, got {given}")
    x, y, z = (*given, 1, 1)[:3]
    return x, y, z


def _check_shape(kernel: Function, block: tuple[int, int, int], shared: int) -> None:
    """Refuse what a GPU refuses to launch."""
    threads = block[0] * block[1] * block[2]
    if not 1 <= threads <= MOST_THREADS:
        raise fail(f"a block of {threads} threads", expected=f"1 to {MOST_THREADS}")
    if shared < 0:
        raise fail(f"{shared} bytes of shared memory")
    for size in kernel.directives.get("reqnctapercluster", ()):
        if size > 1:
            raise fail(f"`{kernel.name}` wants clusters of several blocks, which do not run here")
    for name, exact in (("maxntid", False), ("reqntid", True)):
        wanted = kernel.directives.get(name)
        if wanted is None:
            continue
        most = 1
        for size in wanted:
            most *= size
        if threads > most or (exact and threads != most):
            bound = "exactly" if exact else "at most"
            raise fail(f"`{kernel.name}` is launched with {threads} threads in a block",
                       expected=f"{bound} {most}, as .{name} says")  # fmt: skip
