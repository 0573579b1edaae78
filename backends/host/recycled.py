"""Results of calls that are made again and again: arrays that nobody holds are handed out anew.

Enters: a shape and a type. Leaves: uninitialised arrays with their addresses. A small kernel takes
less time than an allocation, so the last arrays handed out are remembered. One of them is used
again only when nobody refers to it: neither the caller, nor a view of it, nor anything that got at
its memory through the buffer protocol or DLPack, as all of these keep its owner alive. Where the
interpreter does not count references exactly, every array comes from the pool.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from hectorite.backends.host.memory import POOL, Pool, address_of

Array = np.ndarray[Any, Any]

KEPT = 2
"""Arrays that are remembered: `y = f(...)` in a loop holds one while the next is made."""

LARGEST = 4 << 20
"""Bytes of the largest array that is remembered. Filling a larger one takes so long that the pool,
whose memory all calls share, costs nothing in comparison."""


def counts_references() -> bool:
    """Whether `sys.getrefcount` tells how many refer to an object."""
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)
    return sys.implementation.name == "cpython" and has_lock()


class Recycled:
    """Arrays of one shape and type. May be used from several threads at once."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], pool: Pool = POOL):
        self._shape, self._dtype, self._pool = shape, dtype, pool
        size = math.prod(shape) * dtype.itemsize
        self._remembers = size <= LARGEST and counts_references()
        self._last: list[_Kept] = []

    def take(self) -> tuple[Array, int]:
        """An array and the address of its elements."""
        last = self._last
        for _ in range(KEPT):
            try:
                kept = last.pop()  # from here on no other thread sees it
            except IndexError:
                break
            if kept.is_free():
                array = kept.array.view()
                last.append(kept)
                return array, kept.address
            last.insert(0, kept)
        array = self._pool.empty(self._shape, self._dtype)
        address = address_of(array)
        if self._remembers:
            kept = _Kept(array, address)  # counts references, so there must be no view yet
            array = array.view()
            last.append(kept)
            del last[:-KEPT]
        return array, address


class _Kept:
    """An array that is remembered. Its views refer to the same owner of memory as it does itself;
    who holds nothing but these two references is alone with it."""

    __slots__ = ("_alone", "_owner", "address", "array")

    def __init__(self, array: Array, address: int):
        self.array = array
        self.address = address
        self._owner = array.base
        self._alone = 0
        self._alone = self._references()

    def is_free(self) -> bool:
        """Whether nobody else has the array or a view of it."""
        return self._references() == self._alone

    def _references(self) -> int:
        return sys.getrefcount(self._owner)
