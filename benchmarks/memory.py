"""Resident memory of this process, now and at its highest. Linux only; None elsewhere."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


def settled() -> float | None:
    """Resident MiB after everything that is free has gone back to the system."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return None
    return field("VmRSS")


def field(name: str) -> float | None:
    """A line of the process status, in MiB."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    values = [float(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")]
    return values[0] if values else None


def highest_during(call: Callable[[], Result]) -> tuple[Result, float | None]:
    """The result of a call, and the highest resident MiB while it ran."""
    try:
        RESET.write_text("5")  # the kernel's word for: forget the highest value so far
    except OSError:
        return call(), None
    result = call()
    return result, field("VmHWM")
