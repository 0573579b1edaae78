"""Memory of a GPU: who allocates it, and how it moves to and from the host.

Enters: sizes in bytes, arrays. Leaves: `Span`s, addresses with what keeps them. There are three
allocators: that of torch or of CuPy where the caller's arrays are theirs, so that both draw from
one pool and the caller's tools see all of it; else a pool of our own. All are ordered by streams:
memory that is let go may be handed out again at once, to work that comes later on the same stream.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from hectorite.backends.cuda.driver import CudaDevice, check, device, driver
from hectorite.ir.diagnostics import fail

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Span:
    """`nbytes` bytes of a device from `address`, a tensor of `shape` and `dtype`, C-contiguous.
    `owner` keeps the memory, and is what a caller gets where it is an array itself."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any
    ordinal: int = 0

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """How torch, CuPy, Numba and others take this as an array without a copy."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }


class Allocator(Protocol):
    """Allocates on one device in the order of a stream, given by its handle."""

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Span:
        """A tensor of unspecified contents. Raises `HectoriteError` if there is no memory left."""
        ...

    def current_stream(self) -> int:
        """The stream that the caller's work is on, where nothing names one."""
        ...


class PoolAllocator:
    """Memory from a pool of the driver that keeps what is let go."""

    def __init__(self, on: CudaDevice):
        cu = driver()
        self._device = on
        self._pool: Any = None
        if not on.attribute(cu.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED):
            return
        wanted = cu.CUmemPoolProps()
        wanted.allocType = cu.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
        wanted.location.type = cu.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
        wanted.location.id = on.ordinal
        with on.active():
            self._pool = check(cu.cuMemPoolCreate(wanted), "make a pool of memory")
            threshold = cu.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
            everything = cu.cuuint64_t(2**64 - 1)
            check(cu.cuMemPoolSetAttribute(self._pool, threshold, everything), "set up its pool")

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Span:
        cu = driver()
        count = math.prod(shape) * dtype.itemsize
        size = max(count, 1)  # the driver refuses to allocate nothing
        with self._device.active():
            if self._pool is None:
                returned = cu.cuMemAlloc(size)
            else:
                returned = cu.cuMemAllocFromPoolAsync(size, self._pool, stream)
            address = int(check(returned, f"allocate {size} bytes"))
        lease = _Lease()
        weakref.finalize(lease, _free, self._device, address, stream, self._pool is not None)
        return Span(address, shape, dtype, lease, self._device.ordinal)

    def current_stream(self) -> int:
        return 0

    def trim(self) -> None:
        """Give the memory that nobody holds back to the device."""
        if self._pool is not None:
            with self._device.active():
                check(driver().cuMemPoolTrimTo(self._pool, 0), "trim its pool")


class _Lease:
    """Memory lives as long as this."""

    __slots__ = ("__weakref__",)


def _free(on: CudaDevice, address: int, stream: int, is_pooled: bool) -> None:
    """Called when nothing refers to memory any more, at exit too; a status would help nobody."""
    with on.active():
        if not is_pooled:
            driver().cuMemFree(address)
        elif driver().cuMemFreeAsync(address, stream)[0].value:
            driver().cuMemFreeAsync(address, 0)  # the stream is gone: in order of the default one


class TorchAllocator:
    """Memory of torch's caching allocator; a span's owner is a torch tensor."""

    def __init__(self, ordinal: int):
        self._torch = sys.modules["torch"]
        self._ordinal = ordinal
        self._place = self._torch.device("cuda", ordinal)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Span:
        with self._on(stream):
            tensor = self._torch.empty(
                shape, dtype=getattr(self._torch, dtype.name), device=self._place
            )
        return Span(tensor.data_ptr(), shape, dtype, tensor, self._ordinal)

    def current_stream(self) -> int:
        return self._torch.cuda.current_stream(self._place).cuda_stream

    @contextmanager
    def _on(self, stream: int) -> Generator[None, None, None]:
        if stream == self.current_stream():
            yield
            return
        outer = self._torch.cuda.ExternalStream(stream, device=self._place)
        with self._torch.cuda.stream(outer):
            yield


class CupyAllocator:
    """Memory of CuPy's pool; a span's owner is a CuPy array."""

    def __init__(self, ordinal: int):
        self._cupy = sys.modules["cupy"]
        self._ordinal = ordinal

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Span:
        if dtype.kind == "V":
            raise fail(f"CuPy has no arrays of {dtype.name}", hint="pass torch tensors")
        with self._cupy.cuda.Device(self._ordinal), self._on(stream):
            array = self._cupy.empty(shape, dtype)
        return Span(array.data.ptr, shape, dtype, array, self._ordinal)

    def current_stream(self) -> int:
        return self._cupy.cuda.get_current_stream().ptr

    @contextmanager
    def _on(self, stream: int) -> Generator[None, None, None]:
        if stream == self.current_stream():
            yield
            return
        with self._cupy.cuda.ExternalStream(stream):
            yield


@cache
def pool(ordinal: int) -> PoolAllocator:
    """The pool of our own on a device."""
    return PoolAllocator(device(ordinal))


def allocator_of(values: list[Any], ordinal: int) -> Allocator:
    """The allocator of the caller, as the owners of its arrays tell: `values` are the spans of the
    device among the arguments."""
    kinds = {type(value.owner).__module__.split(".")[0] for value in values}
    if "torch" in kinds:
        return TorchAllocator(ordinal)
    if "cupy" in kinds:
        return CupyAllocator(ordinal)
    return pool(ordinal)


def upload(array: Array, to: Span, stream: int) -> None:
    """Copy a C-contiguous array to the device; it may be changed afterwards."""
    if array.nbytes:
        source = array.__array_interface__["data"][0]
        copy = driver().cuMemcpyHtoDAsync(to.address, source, array.nbytes, stream)
        check(copy, f"copy {array.nbytes} bytes from the host")


def download(span: Span, to: Array, stream: int) -> None:
    """Copy a tensor to a C-contiguous array, which is filled when `synchronise` returns."""
    if to.nbytes:
        target = to.__array_interface__["data"][0]
        copy = driver().cuMemcpyDtoHAsync(target, span.address, to.nbytes, stream)
        check(copy, f"copy {to.nbytes} bytes to the host")


def synchronise(stream: int) -> None:
    """Wait for a stream. What went wrong in kernels is told here."""
    check(driver().cuStreamSynchronize(stream), "run the kernels")
