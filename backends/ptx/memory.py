"""Device memory without a device: an address map of allocations with guard gaps between them.

Enters: sizes, bytes. Leaves: 64-bit addresses, and arrays that are views of the memory behind them.

    memory = DeviceMemory()
    address = memory.allocate(4096)
    memory.view(address, 4096, np.float32)[:] = 1       # 1024 numbers, no copy

One buffer is reserved for everything (its pages cost nothing until they are touched), so views stay
valid and an address is an offset plus a constant. Beside it lies one byte of state for each byte:
unallocated, allocated but never written, or written.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.ir.diagnostics import fail

Array = npt.NDArray[Any]

GLOBAL_BASE = 0x10_0000_0000
"""The address of the first byte of global memory."""
SHARED_WINDOW = 0x7000_0000_0000
LOCAL_WINDOW = 0x7100_0000_0000
PARAM_WINDOW = 0x7200_0000_0000
"""Where generic addresses of the shared memory of a block, the local memory of a thread and the
parameters of a kernel begin."""
WINDOW_BYTES = 1 << 32

UNALLOCATED, UNWRITTEN, WRITTEN = 0, 1, 2
"""States of a byte."""

_GAP = 4096
_ALIGNMENT = 256
DEFAULT_CAPACITY = 1 << 34


@dataclass(frozen=True)
class Allocation:
    """`nbytes` bytes from `address`. `name` is what findings call it."""

    address: int
    nbytes: int
    name: str


class DeviceMemory:
    """Allocations of one device. `capacity` bytes are reserved, as address space only."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY):
        self.capacity = capacity
        self.bytes = _reserve(capacity)
        self.state = _reserve(capacity)
        self.has_unwritten = False
        self._top = _GAP
        self._allocations: dict[int, Allocation] = {}
        self._starts: list[int] = []
        self._free: dict[int, list[int]] = {}
        self._typed = {width: self.bytes.view(f"u{width}") for width in (1, 2, 4, 8)}

    def allocate(self, nbytes: int, name: str = "", is_written: bool = True) -> int:
        """The address of `nbytes` new bytes, a multiple of 256.

        With `is_written` false, reading them before a write is a finding. Raises `HectoriteError`
        when the memory is full.
        """
        if nbytes < 0:
            raise fail(f"cannot allocate {nbytes} bytes")
        size = _rounded(nbytes)
        reusable = self._free.get(size)
        if reusable:
            offset = reusable.pop()
        else:
            offset = self._top
            if offset + size > self.capacity:
                raise fail(f"{nbytes} more bytes do not fit in {self.capacity} bytes of memory")
            self._top += size
        address = GLOBAL_BASE + offset
        self._allocations[address] = Allocation(address, nbytes, name)
        self._starts.insert(bisect_right(self._starts, address), address)
        self.state[offset : offset + nbytes] = WRITTEN if is_written else UNWRITTEN
        self.has_unwritten |= not is_written
        return address

    def free(self, address: int) -> None:
        """Give an allocation back; `address` is what `allocate` returned."""
        found = self._allocations.pop(address, None)
        if found is None:
            raise fail(f"{address:#x} is not the address of an allocation")
        self._starts.remove(address)
        offset = address - GLOBAL_BASE
        self.state[offset : offset + found.nbytes] = UNALLOCATED
        self._free.setdefault(_rounded(found.nbytes), []).append(offset)

    def view(self, address: int, nbytes: int, dtype: npt.DTypeLike = np.uint8) -> Array:
        """The bytes from `address` as an array of `dtype` that shares them.

        Raises `HectoriteError` unless they lie in one allocation.
        """
        found = self.allocation(address)
        if found is None or address + nbytes > found.address + found.nbytes:
            raise fail(f"{nbytes} bytes at {address:#x} are not in one allocation")
        offset = address - GLOBAL_BASE
        return self.bytes[offset : offset + nbytes].view(dtype)

    def mark_written(self, address: int, nbytes: int) -> None:
        """Bytes of an allocation that were filled from outside."""
        offset = address - GLOBAL_BASE
        self.state[offset : offset + nbytes] = WRITTEN

    def allocation(self, address: int) -> Allocation | None:
        """The allocation that contains a byte, None if none does."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        found = self._allocations[self._starts[index]]
        return found if address < found.address + found.nbytes else None

    def nearest(self, address: int) -> Allocation | None:
        """The last allocation that begins at or before an address, for messages."""
        index = bisect_right(self._starts, address) - 1
        return self._allocations[self._starts[index]] if index >= 0 else None

    def typed(self, width: int) -> Array:
        """All memory as unsigned numbers of 1, 2, 4 or 8 bytes."""
        return self._typed[width]

    def holds(self, first: int, last: int, width: int) -> bool:
        """Whether offsets from `first` to `last`, `width` bytes at each, lie in one allocation."""
        found = self.allocation(GLOBAL_BASE + first)
        return found is not None and GLOBAL_BASE + last + width <= found.address + found.nbytes


def _rounded(nbytes: int) -> int:
    """Bytes that an allocation takes, with the gap behind it."""
    return (nbytes + _GAP + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


def _reserve(nbytes: int) -> npt.NDArray[np.uint8]:
    """Zeros whose pages exist only once they are touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return np.frombuffer(mmap.mmap(-1, nbytes, flags=flags), dtype=np.uint8)
