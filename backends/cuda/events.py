"""How long work on a GPU takes, by its own clock.

Enters: something that puts work on a stream. Leaves: seconds between events before and after it,
which the device records when it gets there: neither Python nor the launches count unless the device
has to wait for them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from hectorite.backends.cuda.driver import CudaDevice, check, driver


class Event:
    """A place in the order of a stream, of which the device records the time."""

    def __init__(self, on: CudaDevice, stream: int):
        self._device = on
        with on.active():
            self._handle = check(driver().cuEventCreate(0), "make an event")
            weakref.finalize(self, driver().cuEventDestroy, self._handle)
            check(driver().cuEventRecord(self._handle, stream), "record an event")

    def since(self, start: Event) -> float:
        """Seconds from another event to this one. Waits for it."""
        with self._device.active():
            check(driver().cuEventSynchronize(self._handle), "run the kernels")
            elapsed = driver().cuEventElapsedTime(start._handle, self._handle)
            return float(check(elapsed, "tell the time")) * 1e-3


def seconds(on: CudaDevice, stream: int, work: Callable[[], Any], rounds: int) -> list[float]:
    """The time of each of `rounds` times `work`, which puts work on the stream, in seconds.

    It runs once before, so that memory is there and the device awake.
    """
    work()
    marks = [Event(on, stream)]
    for _ in range(rounds):
        work()
        marks.append(Event(on, stream))
    return [end.since(start) for start, end in zip(marks, marks[1:], strict=False)]
