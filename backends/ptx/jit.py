"""PTX to machine code of this computer: the compiled mode of the executor.

Enters: a module of PTX and the name of a kernel; at a launch the sizes of grid and block, the bytes
of the parameters, and where memory is. Leaves: what the kernel writes, in place. Global addresses
are addresses of this process. Blocks run in parallel, the threads of a block one after the other
from one suspension to the next (`jit_schedule.py`).

    kernel = compile_kernel(module, "add", source, checked=True)
    kernel.launch(Geometry((4, 1, 1), (256, 1, 1), 0), parameters, allocations)

A checked kernel stops at the first access outside of `allocations` or misaligned, and says where;
an unchecked one is faster and can end the process.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hectorite.backends.cache import cache_key, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.cpu import threads as cpu_threads
from hectorite.backends.ptx.jit_convert import CONVERSION
from hectorite.backends.ptx.jit_faults import add_runtime
from hectorite.backends.ptx.jit_float import ARITHMETIC
from hectorite.backends.ptx.jit_frame import SIZES, Fault, FaultSlot, Launch, Layout, bytes_of
from hectorite.backends.ptx.jit_inline import inlined, place
from hectorite.backends.ptx.jit_memory import MEMORY
from hectorite.backends.ptx.jit_schedule import ENTRY, block_function
from hectorite.backends.ptx.jit_step import Step
from hectorite.backends.ptx.jit_text import Pieces
from hectorite.backends.ptx.jit_warp import COLLECTIVES
from hectorite.ir.diagnostics import HectoriteError, Source, fail
from hectorite.ir.ptx.syntax import Module, Symbol, Variable

HANDLERS = {**ARITHMETIC, **CONVERSION, **MEMORY}

LOCKSTEP_HINT = "the lockstep mode tells more, and knows more instructions"


@dataclass(frozen=True)
class Geometry:
    """Blocks of a grid, threads of a block, and bytes of shared memory sized by the launch."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int = 0


@dataclass(frozen=True)
class Allocation:
    """Memory that a kernel may use: `size` bytes from `address` on."""

    address: int
    size: int


class CompiledKernel:
    """A kernel in machine code. It may be launched from several threads at once."""

    def __init__(self, step: Step, text: str, module: Module, source: Source | None):
        self.text = text
        self.source = source
        self.parameters = step.parameters
        self.parameter_order = step.parameter_order
        self.shared_bytes = step.shared_bytes
        self._first_line = step.kernel.line
        self.lines = dict(enumerate(step.suspension_lines, 1))
        self._code = jit.load(_object(text), (ENTRY,))
        run = jit.load(_object(_RUN), ("hectorite.launch",), cpu_threads.symbols())
        argument = ctypes.c_void_p
        self._run = run.function("hectorite.launch", None, argument, argument, ctypes.c_int64)
        self._variables = _initial(module, step.variables["fixed"], step)

    def launch(
        self, geometry: Geometry, parameters: bytes, allocations: Sequence[Allocation]
    ) -> None:
        """Run all blocks. `parameters` are the bytes of the kernel's parameters in its layout.

        Raises `HectoriteError` at the first fault that the kernel's checks find, of the lowest
        block that has one.
        """
        held = ctypes.create_string_buffer(parameters, max(8, len(parameters)))
        held_at = ctypes.addressof(held)
        known = [*allocations, Allocation(held_at, len(parameters))]
        known.append(Allocation(self._variables.ctypes.data, self._variables.nbytes))
        table = np.array([[a.address, a.address + a.size] for a in known], np.uint64)
        fault = np.zeros(FaultSlot.COUNT, np.int64)
        fault[FaultSlot.BLOCK] = np.iinfo(np.int64).max
        slots = np.zeros(Launch.FIRST_RANGE + 2 * len(self.parameter_order), np.uint64)
        slots[Launch.PARAMETERS] = held_at
        slots[Launch.VARIABLES] = self._variables.ctypes.data
        slots[Launch.BLOCK_X : Launch.BLOCK_Z + 1] = geometry.block
        slots[Launch.GRID_X : Launch.GRID_Z + 1] = geometry.grid
        slots[Launch.SHARED_BYTES] = self.shared_bytes + geometry.shared
        slots[Launch.DYNAMIC_BYTES] = geometry.shared
        slots[Launch.TABLE], slots[Launch.TABLE_COUNT] = table.ctypes.data, len(known)
        slots[Launch.FAULT] = fault.ctypes.data
        slots[Launch.FIRST_RANGE :] = self._ranges(parameters, known)
        blocks = geometry.grid[0] * geometry.grid[1] * geometry.grid[2]
        self._run(self._code.address(ENTRY), slots.ctypes.data, blocks)
        if fault[FaultSlot.KIND]:
            raise self._told(fault, geometry, allocations)

    def _ranges(self, parameters: bytes, known: Sequence[Allocation]) -> list[int]:
        """For each parameter that points into an allocation where that starts, and its length."""
        ranges: list[int] = []
        for name in self.parameter_order:
            found = Allocation(0, 0)
            if self.parameters.sizes[name] == 8:
                value = struct.unpack_from("<Q", parameters, self.parameters.offsets[name])[0]
                for allocation in known:
                    if 0 <= value - allocation.address < max(allocation.size, 1):
                        found = allocation
            ranges += [found.address, found.size]
        return ranges

    def _told(
        self,
        fault: np.ndarray[Any, Any],
        geometry: Geometry,
        allocations: Sequence[Allocation],
    ) -> HectoriteError:
        """What the record of a fault says, as an error at the line of the PTX."""
        kind = Fault(int(fault[FaultSlot.KIND]))
        line = int(fault[FaultSlot.LINE]) + self._first_line
        address, size = int(fault[FaultSlot.ADDRESS]), int(fault[FaultSlot.SIZE])
        block, thread = int(fault[FaultSlot.BLOCK]), int(fault[FaultSlot.THREAD])
        if kind in (Fault.DEADLOCK, Fault.NO_PROGRESS):
            line = self.lines.get(address, 0)
        where = f"thread {_point(thread, geometry.block)} of block {_point(block, geometry.grid)}"
        address &= (1 << 64) - 1
        where_in = nearest(address, size, allocations) if kind in _GLOBAL else f"at {address:#x}"
        message = f"{_WHAT[kind].format(size=size, place=where_in)}, by {where}"
        span = place(self.source, line) if line else None
        return fail(message, span=span, source=self.source, hint=LOCKSTEP_HINT)


_GLOBAL = (Fault.OUT_OF_BOUNDS, Fault.MISALIGNED)
_WHAT = {
    Fault.OUT_OF_BOUNDS: "an access of {size} bytes {place} is outside of every array",
    Fault.MISALIGNED: "an access of {size} bytes {place} is misaligned",
    Fault.SHARED_OUT_OF_BOUNDS: "an access of {size} bytes {place} is outside of shared memory",
    Fault.LOCAL_OUT_OF_BOUNDS: "an access of {size} bytes {place} is outside of local memory",
    Fault.TRAP: "the kernel stops itself (trap)",
    Fault.ASSERTION: "an assertion of the kernel fails",
    Fault.DEADLOCK: "threads wait for each other at barriers that others do not reach",
    Fault.NO_PROGRESS: "threads ask again and again for what nobody brings",
}


def nearest(address: int, size: int, allocations: Sequence[Allocation]) -> str:
    """Where an address is, said from the array that it is nearest to."""

    def distance(allocation: Allocation) -> int:
        behind = address + size - allocation.address - allocation.size
        return max(behind, allocation.address - address, 0)

    if not allocations:
        return f"at {address:#x}"
    number = min(range(len(allocations)), key=lambda i: distance(allocations[i]))
    found = allocations[number]
    if distance(found) > max(found.size, 1 << 20):
        return f"at {address:#x}"
    return f"at byte {address - found.address} of array {number}, which has {found.size} bytes,"


def _point(number: int, sizes: tuple[int, int, int]) -> str:
    x, y, z = sizes
    return f"({number % x}, {number // x % y}, {number // (x * y) % max(z, 1)})"


def kernel_text(
    module: Module, kernel: str, source: Source | None = None, checked: bool = True
) -> tuple[Step, str]:
    """The LLVM IR of a kernel.

    Raises `HectoriteError` with the line of the first instruction that has no code.
    """
    pieces = Pieces()
    add_runtime(pieces)
    pieces.functions["step"] = ""
    function = inlined(module, kernel, source)
    step = Step(module, function, pieces, HANDLERS, COLLECTIVES, source, checked)
    pieces.functions["step"] = step.text()
    # Written after `step`, which says what it needs.
    pieces.functions[ENTRY] = ""
    pieces.declare("malloc", "ptr", "i64")
    pieces.declare("free", "void", "ptr")
    pieces.functions[ENTRY] = block_function(step)
    return step, pieces.text()


def compile_kernel(
    module: Module, kernel: str, source: Source | None = None, checked: bool = True
) -> CompiledKernel:
    """Machine code of a kernel. `checked` kernels stop at a wrong access instead of crashing.

    Raises `HectoriteError` for what this mode has no code for; nothing has run then.
    """
    step, text = kernel_text(module, kernel, source, checked)
    return CompiledKernel(step, text, module, source)


_RUN = """
declare void @hec_parallel(ptr, ptr, i64)
define void @hectorite.launch(ptr %block, ptr %launch, i64 %blocks) {
  call void @hec_parallel(ptr %block, ptr %launch, i64 %blocks)
  ret void
}
"""


def _object(text: str) -> bytes:
    """The object file of a text, from the cache if it is there."""
    cache, key = default_cache(), cache_key("ptx", str(jit.host()), text)
    entry = cache.lookup(key)
    if entry is not None:
        return entry.blobs["object"]
    code = jit.compile_object(text, "kernel.ll")
    cache.store(key, {"what": "a kernel of PTX"}, {"object": code})
    return code


def _initial(module: Module, layout: Layout, step: Step) -> np.ndarray[Any, Any]:
    """The variables in global and constant memory with their first values."""
    memory = np.zeros(max(layout.end, 16) + 128, np.uint8)
    start = -memory.ctypes.data % 128
    memory = memory[start : start + max(layout.end, 16)]
    every = (*module.variables, *step.kernel.variables)
    for variable in every:
        if variable.name in layout.offsets and variable.values:
            packed = _packed(variable, layout, memory.ctypes.data)
            offset = layout.offsets[variable.name]
            memory[offset : offset + len(packed)] = np.frombuffer(packed, np.uint8)
    return memory


def _packed(variable: Variable, layout: Layout, start: int) -> bytes:
    size = SIZES[variable.type]
    packed = b""
    for value in variable.values:
        if isinstance(value, Symbol):
            value = start + layout.offsets.get(value.name, 0) + value.offset
        if isinstance(value, float):
            packed += struct.pack("<f" if size == 4 else "<d", value)
        else:
            packed += (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    return packed[: bytes_of(variable)]
