"""The stand-in for the CUDA driver (`stand_in.c`), in this process or in others.

Enters: a folder to build in. Leaves: a process where cuda-python finds the stand-in, which has
launches executed by the executor of PTX (`register`, which the library calls when it starts).
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).with_name("stand_in.c")
ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")
COUNTED = ("compiled", "loaded", "launched", "replayed")


def build(folder: Path) -> Path:
    """The folder with the library, compiled."""
    assert COMPILER is not None
    made = folder / "libcuda.so.1"
    if not made.exists():
        flags = ["-shared", "-fPIC", "-O1", "-pthread", "-Wall", "-Werror"]
        flags.append("-Wl,-soname,libcuda.so.1")
        own = folder / f"{os.getpid()}.so"
        command = [COMPILER, *flags, "-o", str(own), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        own.rename(made)
    return folder


def use(folder: Path) -> None:
    """Have the library of a folder be the driver of this process and of those that it starts. The
    loader knows it by the name inside it, so that it is found before any other driver."""
    ctypes.CDLL(str(folder / "libcuda.so.1"))
    os.environ.update(environment(folder))


def environment(folder: Path) -> dict[str, str]:
    """What a process needs in its environment to find the library of a folder, and this module."""
    paths = {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)}
    before = {name: os.environ[name] for name in paths if os.environ.get(name)}
    return {
        name: os.pathsep.join([path, before[name]] if name in before else [path])
        for name, path in paths.items()
    }


def run(folder: Path, code: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where the driver is the stand-in of `folder`."""
    outer = {name: os.environ[name] for name in os.environ if name != "HECTORITE_ASSEMBLER"}
    inner = outer | environment(folder) | given
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=inner, capture_output=True, text=True, check=False, timeout=300
    )


_LOAD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_uint,
    ctypes.c_void_p,
)
_COUNT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
_KEPT: list[Any] = []


def register() -> None:
    """Have the library of this process execute PTX."""
    library = ctypes.CDLL("libcuda.so.1")
    callbacks = (_LOAD(_load), _LAUNCH(_launch), _COUNT(_parameter_count))
    _KEPT.extend((library, *callbacks))
    library.stand_in_register(*callbacks)


def calls() -> dict[str, int]:
    """How many texts were compiled and modules loaded, how many launches and replays there were;
    nothing where the driver has not been started."""
    if not _KEPT:
        return {}
    return {name: _KEPT[0].stand_in_calls(n) for n, name in enumerate(COUNTED)}


class _Allocation(ctypes.Structure):
    _fields_ = (("address", ctypes.c_uint64), ("size", ctypes.c_uint64))


def _load(text: bytes, log: int | None, size: int) -> int:
    """Refuse text that is not PTX, in the words of the real compiler."""
    from hectorite.ir.diagnostics import HectoriteError

    try:
        _module(text.decode())
        return 0
    except HectoriteError as error:
        first = error.diagnostics[0]
        line = first.span.line if first.span else 1
        said = f"ptxas application ptx input, line {line}; error   : {first.message}\0".encode()
        if log:
            ctypes.memmove(log, said, min(size, len(said)))
        return 1


def _parameter_count(text: bytes, kernel: bytes) -> int:
    for entry in _module(text.decode()).entries:
        if entry.name == kernel.decode():
            return len(entry.parameters)
    return -1


def _launch(text: bytes, name: bytes, given: Any, shared: int, places: int | None) -> int:
    """Run a kernel; what it does wrong goes to the error stream, as on no real device."""
    from hectorite.backends.ptx.jit import Allocation, Geometry
    from hectorite.ir.diagnostics import HectoriteError

    assert places is not None
    table = (_Allocation * _KEPT[0].stand_in_allocations(None, 0))()
    _KEPT[0].stand_in_allocations(table, len(table))
    known = [Allocation(each.address, each.size) for each in table]
    geometry = Geometry(tuple(given[:3]), tuple(given[3:6]), shared)
    kernel = _kernel(text.decode(), name.decode())
    if kernel is None:
        return _lockstep(text.decode(), name.decode(), geometry, places, known)
    pointers = (ctypes.c_void_p * len(kernel.parameter_order)).from_address(places)
    sizes, offsets = kernel.parameters.sizes, kernel.parameters.offsets
    parameters = bytearray(kernel.parameters.end)
    for parameter, pointer in zip(kernel.parameter_order, pointers, strict=True):
        start, size = offsets[parameter], sizes[parameter]
        parameters[start : start + size] = ctypes.string_at(pointer, size)
    try:
        kernel.launch(geometry, bytes(parameters), known)
        return 0
    except HectoriteError as error:
        print(error, file=sys.stderr)
        return 1


@cache
def _module(text: str) -> Any:
    from hectorite.ir.ptx.parse import parse_ptx

    return parse_ptx(text)


@cache
def _kernel(text: str, name: str) -> Any:
    """Machine code of a kernel, None where an instruction has none."""
    from hectorite.backends.ptx.jit import compile_kernel
    from hectorite.ir.diagnostics import HectoriteError, Source

    try:
        return compile_kernel(_module(text), name, Source("<ptx>", text))
    except HectoriteError:
        return None


def _lockstep(text: str, name: str, geometry: Any, places: int, known: list[Any]) -> int:
    """Run a kernel without machine code, each of whose tensors is an allocation of its own."""
    from hectorite.backends.ptx.machine import Launch, execute
    from hectorite.ir.diagnostics import HectoriteError

    (entry,) = [entry for entry in _module(text).entries if entry.name == name]
    pointers = (ctypes.c_void_p * len(entry.parameters)).from_address(places)
    memory = {each.address: each.size for each in known}
    arguments: list[Any] = []
    for parameter, pointer in zip(entry.parameters, pointers, strict=True):
        size = int(parameter.type[1:]) // 8
        dtype = parameter.type[0].replace("b", "u") + str(size)
        number = np.frombuffer(ctypes.string_at(pointer, size), dtype)[0]
        if int(number) in memory:
            buffer = (ctypes.c_uint8 * memory[int(number)]).from_address(int(number))
            arguments.append(np.frombuffer(buffer, np.uint8))
        else:
            arguments.append(number)
    try:
        launch = Launch(
            _module(text), name, geometry.grid, geometry.block, arguments, geometry.shared
        )
        execute(launch)
        return 0
    except HectoriteError as error:
        print(error, file=sys.stderr)
        return 1
