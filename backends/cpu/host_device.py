"""This computer as the cost model sees it: as it was measured, else as CPUs usually are.

Enters: nothing but the cache folder. Leaves: a `Device`. Measurements (`hectorite calibrate`) are
kept beside compiled code until the processor or the number of threads is another.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict

from hectorite.backends.cache import Cache, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.cpu.threads import thread_count
from hectorite.ir.device import Device, device_of
from hectorite.ir.devices import CPU
from hectorite.ir.diagnostics import HectoriteError

FORMAT = "calibration 3"
"""Changes when what is measured does."""


def host_device(cache: Cache | None = None) -> Device:
    """This computer: as measured if it was, else the usual CPU with as many threads."""
    return measured_device(cache) or CPU.with_threads(thread_count())


def measured_device(cache: Cache | None = None) -> Device | None:
    """This computer as it was measured with as many threads; None if it was not."""
    entry = (cache or default_cache()).lookup(_key())
    if entry is None:
        return None
    try:
        return device_of(entry.metadata)
    except (HectoriteError, KeyError, TypeError, ValueError):
        return None  # written by another version


def keep_device(device: Device, cache: Cache | None = None) -> None:
    """Keep what was measured of this computer with as many threads as there are now."""
    (cache or default_cache()).store(_key(), asdict(device), {})


def _key() -> str:
    identity = f"{FORMAT}\n{jit.host()}\n{thread_count()}"
    return f"calibration-{hashlib.sha256(identity.encode()).hexdigest()[:32]}"
