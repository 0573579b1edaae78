"""Memory for what a call returns and needs on the way, and the arrays a caller passes in.

Enters: shapes and dtypes to allocate. Leaves: uninitialised NumPy arrays, 64-byte aligned.

A fresh large array costs a page fault for every 4 KiB, more than the kernel that fills it. So a
`Pool` keeps the blocks of arrays that nobody refers to any more (the array and all its views are
gone) and hands the one returned last, still warm in cache, to the next request of its size class.
What it keeps is bounded in bytes; the rest goes back to the system.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

ALIGNMENT = 64
"""Bytes; a cache line, and the widest vector of the CPU backend."""

RETAINED_BYTES = 1 << 30
"""What a pool keeps for later at most, unless told otherwise."""


class Pool:
    """A thread-safe recycling allocator of arrays.

    `limit` bounds the bytes kept in free blocks. Live arrays do not count: they belong to whoever
    holds them.
    """

    def __init__(self, limit: int = RETAINED_BYTES):
        self.limit = limit
        self._lock = threading.Lock()
        self._free: OrderedDict[int, list[np.ndarray[Any, Any]]] = OrderedDict()
        self._retained = 0
        # Blocks come back from finalizers, which may run anywhere, also in this class's own
        # critical sections: they only append here, which is atomic, and never wait for the lock.
        self._returned: deque[np.ndarray[Any, Any]] = deque()

    @property
    def retained(self) -> int:
        """Bytes in free blocks right now."""
        with self._lock:
            self._collect()
            return self._retained

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
        """An uninitialised C-contiguous array, as `np.empty`, at a 64-byte boundary.

        Raises `MemoryError` when the system has no such block, `ValueError` for a negative length.
        """
        lengths = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
        if any(n < 0 for n in lengths):
            raise ValueError(f"an array cannot have shape {lengths}")
        kind = np.dtype(dtype)
        nbytes = math.prod(lengths) * kind.itemsize
        block = self._take(size_class(nbytes))
        if kind.kind in "biuf":
            return np.asarray(_Lease(self, block, lengths, kind.str)).view()
        return np.asarray(_Lease(self, block, (nbytes,), "|u1")).view(kind).reshape(lengths)

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
        """As `empty`, filled with zeros."""
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def workspace(self) -> Workspace:
        """A place for the temporaries of one call."""
        return Workspace(self)

    def trim(self, limit: int = 0) -> None:
        """Give free blocks back to the system until at most `limit` bytes are kept."""
        with self._lock:
            self._collect()
            self._shrink(limit)

    def _take(self, capacity: int) -> np.ndarray[Any, Any]:
        with self._lock:
            self._collect()
            blocks = self._free.get(capacity)
            if blocks:
                self._retained -= capacity
                return blocks.pop()
        return _aligned_block(capacity)

    def give_back(self, block: np.ndarray[Any, Any]) -> None:
        """Called by the finalizer of an array, from any thread, at any time."""
        self._returned.append(block)
        if self._lock.acquire(blocking=False):
            try:
                self._collect()
            finally:
                self._lock.release()

    def _collect(self) -> None:
        """Sort the returned blocks into the free lists. Needs the lock."""
        while self._returned:
            block = self._returned.popleft()
            self._free.setdefault(block.nbytes, []).append(block)
            self._free.move_to_end(block.nbytes)
            self._retained += block.nbytes
        self._shrink(self.limit)

    def _shrink(self, limit: int) -> None:
        """Drop blocks, of the size class longest without a return first. Needs the lock."""
        while self._retained > limit:
            capacity, blocks = next(iter(self._free.items()))
            if blocks:
                blocks.pop()
                self._retained -= capacity
            if not blocks:
                del self._free[capacity]


class Workspace:
    """Temporaries of one call: taken from a pool, given back together when the call ends.

        with pool.workspace() as work:
            sums = work.empty((nodes, 64), "f4")

    `release` gives one back earlier, for the next temporary of its size. Not thread-safe: a
    workspace belongs to one call.
    """

    def __init__(self, pool: Pool):
        self._pool = pool
        self._held: dict[int, np.ndarray[Any, Any]] = {}

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> np.ndarray[Any, Any]:
        """An uninitialised array that lives until `release` or `close`."""
        array = self._pool.empty(shape, dtype)
        self._held[array.__array_interface__["data"][0]] = array
        return array

    def release(self, array: np.ndarray[Any, Any]) -> None:
        """Drop `array`: its memory is free once the caller holds no reference either."""
        self._held.pop(array.__array_interface__["data"][0], None)

    def close(self) -> None:
        """Drop every temporary."""
        self._held.clear()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Lease:
    """Owns a block on behalf of the arrays that view it; NumPy keeps it alive as their base."""

    __slots__ = ("__array_interface__", "_block", "_pool")

    def __init__(
        self, pool: Pool, block: np.ndarray[Any, Any], shape: tuple[int, ...], typestr: str
    ):
        self._pool = pool
        self._block = block
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": typestr,
            "data": (address_of(block), False),
        }

    def __del__(self) -> None:
        self._pool.give_back(self._block)


def _told_address(array: np.ndarray[Any, Any]) -> int:
    return array.__array_interface__["data"][0]


_HEAD = object.__basicsize__
"""Bytes of the head of an object, after which NumPy's interface for C has the address."""

_word_at = ctypes.c_size_t.from_address


def _read_address(array: np.ndarray[Any, Any]) -> int:
    return _word_at(id(array) + _HEAD).value


def _fastest_address() -> Callable[[np.ndarray[Any, Any]], int]:
    """The interface of NumPy for Python takes a microsecond and more, that for C a fraction."""
    if sys.implementation.name != "cpython":
        return _told_address
    probes = [np.empty(3), np.empty((4, 4), np.int8)[1:, 2:], np.empty(0)]
    agree = all(_read_address(probe) == _told_address(probe) for probe in probes)
    return _read_address if agree else _told_address


address_of = _fastest_address()
"""The address of the first element of an array."""


def size_class(nbytes: int) -> int:
    """The capacity of the block for `nbytes`: a power of two times 1, 1.25, 1.5 or 1.75.

    A block is at most a quarter larger than asked, and sizes that differ little share one.
    """
    if nbytes <= 4 * ALIGNMENT:
        return max(1, math.ceil(nbytes / ALIGNMENT)) * ALIGNMENT
    step = 1 << ((nbytes - 1).bit_length() - 3)
    return math.ceil(nbytes / step) * step


def _aligned_block(capacity: int) -> np.ndarray[Any, Any]:
    raw = np.empty(capacity + ALIGNMENT, np.uint8)
    start = -raw.__array_interface__["data"][0] % ALIGNMENT
    return raw[start : start + capacity]


POOL = Pool()
"""The pool that every compiled program of this process shares."""
