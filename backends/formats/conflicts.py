"""Conflicts of gathers from shared memory.

Enters: which element of its window each of 32 threads reads. Leaves: how many turns memory takes to
serve them. Words lie in 32 banks one after the other; a bank serves one word at a time, to all who
read it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BANKS = 32
THREADS = 32


def conflict_degree(places: Array) -> float:
    """Turns that a gather takes on average; 1 without conflicts, 0 without gathers.

    `places` is int[rows, steps]: in each step, 32 rows next to each other are read by one thread
    each, at the place `places[row, step]` of one window.
    """
    rows, steps = places.shape
    if not places.size:
        return 0.0
    warps = -(-rows // THREADS)
    padded = np.concatenate([places, np.repeat(places[-1:], warps * THREADS - rows, axis=0)])
    words = padded.astype(np.int64).reshape(warps, THREADS, steps).swapaxes(1, 2)
    words = np.sort(words.reshape(warps * steps, THREADS), axis=1)
    fresh = np.ones(words.shape, np.bool_)
    fresh[:, 1:] = words[:, 1:] != words[:, :-1]
    gather, _ = np.nonzero(fresh)
    served = np.bincount(gather * BANKS + words[fresh] % BANKS, minlength=len(words) * BANKS)
    return float(served.reshape(-1, BANKS).max(axis=1).mean())
