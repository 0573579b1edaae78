"""Builds `kernels.c` with the C compiler of this machine and calls it through ctypes.

Enters: NumPy arrays, C-contiguous. Leaves: calls into the compiled kernels. Where there is no
compiler, or no kernel can be built, `NoCompiler` says why and the rows that need it are skipped.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
INTEGER, FLOAT, DOUBLE = ctypes.c_int64, ctypes.c_float, ctypes.c_double
RESULTS = {"fma_chains": DOUBLE, "read_all": FLOAT, "gather64": FLOAT, "gather128": FLOAT}


class NoCompiler(Exception):
    """The hand-written kernels cannot be built here; the message says why."""


def folder() -> Path:
    """Where this user's compiled kernels and measured limits of this machine are kept."""
    kept = Path(tempfile.gettempdir()) / f"hectorite-bench-{os.getuid()}"
    kept.mkdir(mode=0o700, exist_ok=True)
    return kept


@cache
def library() -> ctypes.CDLL:
    """The compiled kernels, built once per source and machine into the temporary folder."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompiler("no C compiler")
    key = hashlib.sha256(SOURCE.read_bytes() + os.uname().nodename.encode()).hexdigest()[:16]
    built = folder() / f"kernels-{key}.so"
    if not built.exists():
        fresh = built.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(fresh), "-lm"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise NoCompiler(f"{compiler} failed: {done.stderr.strip().splitlines()[-1][:100]}")
        fresh.replace(built)
    loaded = ctypes.CDLL(str(built))
    for name, kind in RESULTS.items():
        getattr(loaded, name).restype = kind
    return loaded


def call(name: str, *arguments: np.ndarray | int) -> float | None:
    """Calls a kernel: arrays go as pointers, integers as int64."""
    converted = [
        INTEGER(a) if isinstance(a, int) else ctypes.c_void_p(a.ctypes.data) for a in arguments
    ]
    return getattr(library(), name)(*converted)


def aligned(shape: tuple[int, ...] | int, dtype: type = np.float32) -> np.ndarray:
    """An uninitialised array that starts at a multiple of 64 bytes."""
    count = int(np.prod(shape))
    size = np.dtype(dtype).itemsize
    raw = np.empty(count + 64 // size, dtype)
    start = (-raw.ctypes.data % 64) // size
    return raw[start : start + count].reshape(shape)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A copy that starts at a multiple of 64 bytes, so that no peer pays for a bad address."""
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy
