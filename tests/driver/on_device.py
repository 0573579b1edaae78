"""One launch on a GPU, for tests that otherwise execute PTX.

Enters: PTX text of anybody, and a launch as `ptx_machine.Launch` takes it. Leaves: the arrays
changed in place, by the device, if `--target cuda` asks for one and the text is for it; so that
what the executor is taken to do (fragments of matrix instructions, rounding) is checked there.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

TARGET = re.compile(r"^\s*\.target\s+sm_(\d+)([af]?)", re.MULTILINE)


def run(
    text: str,
    kernel: str,
    grid: Sequence[int],
    block: Sequence[int],
    arguments: Sequence[Any],
    shared: int = 0,
) -> bool:
    """Launch a kernel on the device, and wait for it. Arrays are passed by address, numbers by
    value. Returns False, and does nothing, if there is no device for this text."""
    if not os.environ.get("HECTORITE_TARGET", "").startswith("cuda") or not _runs(text):
        return False
    from hectorite.backends.cuda.driver import check, device, driver
    from hectorite.backends.cuda.memory import download, pool, synchronise, upload

    module = _loaded(text, kernel, shared)
    with device().active():
        spans, words = [], []
        for value, type in zip(arguments, _types(text, kernel), strict=True):
            if not isinstance(value, np.ndarray):
                words.append(_word(value, type))
                continue
            span = pool(0).empty(value.shape, value.dtype, 0)
            upload(np.ascontiguousarray(value), span, 0)
            spans.append((span, value))
            words.append(span.address)
        held = (ctypes.c_uint64 * len(words))(*words)
        first = ctypes.addressof(held)
        places = (ctypes.c_void_p * len(words))(*range(first, first + 8 * len(words), 8))
        sizes = [*_three(grid), *_three(block)]
        handle = module.kernels[kernel]
        launched = driver().cuLaunchKernel(handle, *sizes, shared, 0, ctypes.addressof(places), 0)
        check(launched, f"launch {kernel}")
        for span, value in spans:
            filled = np.empty(value.shape, value.dtype)
            download(span, filled, 0)
            synchronise(0)
            if value.flags.writeable:
                value[...] = filled
    return True


def _runs(text: str) -> bool:
    """Whether the device runs text for this target: its own, or what is older and for all later."""
    from hectorite.backends.cuda.driver import device

    named = TARGET.search(text)
    assert named is not None
    here = device().target.name.removeprefix("sm_")
    if named[2]:
        return here == named[1] + named[2]
    return int(named[1]) <= int(here.rstrip("af"))


@cache
def _loaded(text: str, kernel: str, shared: int) -> Any:
    from hectorite.backends.cuda.driver import device
    from hectorite.backends.cuda.module import CudaModule, compile_ptx

    return CudaModule(device(), compile_ptx(device(), text), {kernel: shared})


@cache
def _types(text: str, kernel: str) -> list[str]:
    from hectorite.ir.ptx.parse import parse_ptx

    (entry,) = [entry for entry in parse_ptx(text).entries if entry.name == kernel]
    return [parameter.type for parameter in entry.parameters]


def _word(value: Any, type: str) -> int:
    """The 8 bytes of which a kernel reads as many as its parameter has."""
    if isinstance(value, np.generic):
        return int.from_bytes(value.tobytes(), "little")
    if type in ("f32", "f64"):
        return int.from_bytes(struct.pack("<f" if type == "f32" else "<d", value), "little")
    return int(value) & (1 << 64) - 1


def _three(sizes: Sequence[int]) -> list[int]:
    return [*sizes, 1, 1][:3]
