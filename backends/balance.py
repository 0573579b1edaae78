"""Shares of the tasks of a CPU's kernel, where a row may be much longer than the others.

Enters: pointers of segments. Leaves: the rows of each task, and which part of what these rows make
it is to do. Nothing here depends on the number of threads, so neither do results.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hectorite.backends.order import cuts

Array = np.ndarray[Any, Any]

PARTS = 4
"""Tasks of a long row. Each visits all its elements, so more would visit them more often."""
LONG = 8
"""A row with more than this part of all elements is long: it is a task that others wait for."""
LEAST = 512
"""Elements that a long row has at least."""


def shares(pointers: Array, parts: int) -> Array:
    """int32[4 * tasks]: for each task the rows from and to which it goes, and which part of how
    many it does of what they make. Long rows stand alone and are several tasks, the others are
    shared out as `cuts` does."""
    lengths = np.diff(pointers)
    long = np.flatnonzero(lengths > max(LEAST, int(pointers[-1]) // LONG))
    bounds = np.unique(np.concatenate([cuts(pointers, parts), long, long + 1]))
    times = np.where(np.isin(bounds[:-1], long), PARTS, 1)
    ahead = np.cumsum(times) - times
    part = np.arange(int(times.sum())) - np.repeat(ahead, times)
    columns = (bounds[:-1], bounds[1:], None, times)
    spread = [part if each is None else np.repeat(each, times) for each in columns]
    found = np.stack(spread, axis=1).astype(np.int32).ravel()
    found.flags.writeable = False
    return found
