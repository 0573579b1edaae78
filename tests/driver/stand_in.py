"""The stand-in for the CUDA driver (`stand_in.c`) in a process of its own.

Enters: a folder to build in, and Python code. Leaves: what the code printed, run where cuda-python
finds the stand-in. Inside that process `register` tells the library to execute launches with the
executor of PTX.
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

SOURCE = Path(__file__).with_name("stand_in.c")
ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("cc") or shutil.which("gcc")
COUNTED = ("compiled", "loaded", "launched", "replayed")


def build(folder: Path) -> Path:
    """The folder with the library, compiled."""
    assert COMPILER is not None
    made = folder / "libcuda.so.1"
    if not made.exists():
        flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1"]
        own = folder / f"{os.getpid()}.so"
        subprocess.run([COMPILER, *flags, "-o", str(own), str(SOURCE)], check=True)
        own.rename(made)
    return folder


def run(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code where the driver is the stand-in of `folder`."""
    outer = {name: os.environ[name] for name in os.environ if name != "HECTORITE_ASSEMBLER"}
    inner = outer | {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)} | environment
    start = "from tests.driver.stand_in import register\nregister()\n"
    command = [sys.executable, "-c", start + code]
    return subprocess.run(
        command, env=inner, capture_output=True, text=True, check=False, timeout=300
    )


_LOAD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_LAUNCH = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, *(ctypes.c_uint,) * 3, ctypes.c_void_p
)
_COUNT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)
_KEPT: list[Any] = []


def register() -> None:
    """Have the library execute PTX. Call it once, before anything uses the driver."""
    library = ctypes.CDLL("libcuda.so.1")
    callbacks = (_LOAD(_load), _LAUNCH(_launch), _COUNT(_parameter_count))
    _KEPT.extend((library, *callbacks))
    library.stand_in_register(*callbacks)


def calls() -> dict[str, int]:
    """How many texts were compiled and modules loaded, how many launches and replays there were."""
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


def _launch(
    text: bytes, name: bytes, grid: int, block: int, shared: int, places: int | None
) -> int:
    """Run a kernel; what it does wrong goes to the error stream, as on no real device."""
    from hectorite.backends.ptx_jit import Allocation, Geometry
    from hectorite.ir.diagnostics import HectoriteError

    assert places is not None
    kernel = _kernel(text.decode(), name.decode())
    pointers = (ctypes.c_void_p * len(kernel.parameter_order)).from_address(places)
    sizes, offsets = kernel.parameters.sizes, kernel.parameters.offsets
    parameters = bytearray(kernel.parameters.end)
    for parameter, pointer in zip(kernel.parameter_order, pointers, strict=True):
        start, size = offsets[parameter], sizes[parameter]
        parameters[start : start + size] = ctypes.string_at(pointer, size)
    table = (_Allocation * 4096)()
    count = _KEPT[0].stand_in_allocations(table, len(table))
    known = [Allocation(each.address, each.size) for each in table[:count]]
    try:
        geometry = Geometry((grid, 1, 1), (block, 1, 1), shared)
        kernel.launch(geometry, bytes(parameters), known)
        return 0
    except HectoriteError as error:
        print(error, file=sys.stderr)
        return 1


@cache
def _module(text: str) -> Any:
    from hectorite.ir.ptx_parse import parse_ptx

    return parse_ptx(text)


@cache
def _kernel(text: str, name: str) -> Any:
    from hectorite.backends.ptx_jit import compile_kernel
    from hectorite.ir.diagnostics import Source

    return compile_kernel(_module(text), name, Source("<ptx>", text))
