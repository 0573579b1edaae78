"""Arrays of a caller that are on a GPU already: taken as they are, without a copy.

Enters: a tensor of torch, or anything with `__cuda_array_interface__` or DLPack (CuPy, JAX, Numba
...) whose memory is on a device. Leaves: a `Span` of the declared type and shape that keeps the
caller's object, or a diagnostic that says what was expected. Arrays in host memory are taken as
every target takes them (`arrays.py`), and uploaded by the call.
"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np

from hectorite.backends.arrays import Array, Dims, as_array, check_shape, describe, to_numpy
from hectorite.backends.cuda.driver import check, driver
from hectorite.backends.cuda.memory import Span
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ElementType

_NAMED = {
    name: np.dtype(getattr(ml_dtypes, name))
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
}
"""Types that NumPy itself does not know."""


def as_span_or_array(value: Any, element: ElementType, dims: Dims, name: str) -> Span | Array:
    """`value` as a `Span` if it is on a device, else as `as_array` gives it.

    Values of types that are stored wider than they are (4-bit integers) are checked in host memory
    only. Raises `HectoriteError` naming the expected type, rank or dimension.
    """
    span = span_of(value, name)
    if span is None:
        return as_array(value, element, dims, name)
    if span.dtype != element.storage:
        raise fail(
            f"`{name}` is an array of {span.dtype.name} on a device",
            expected=describe(element, dims),
            hint=f"convert it to {element.storage.name}",
        )
    check_shape(span.shape, element, dims, name)
    return span


def span_of(value: Any, name: str = "it") -> Span | None:
    """The memory of an array on a device, None for anything else.

    Arrays with strides of their own are copied if their library can. Raises `HectoriteError` for
    one that cannot be read in place.
    """
    if isinstance(value, Span):
        return value
    if isinstance(value, np.ndarray | np.generic | int | float | list | tuple):
        return None
    if hasattr(value, "data_ptr") and hasattr(value, "detach"):
        return _from_torch(value)
    if hasattr(value, "__cuda_array_interface__"):
        return _from_interface(value, name)
    if hasattr(value, "__dlpack_device__") and hasattr(value, "__dlpack__"):
        kind, ordinal = value.__dlpack_device__()
        return _from_dlpack(value, ordinal, name) if kind in _ON_DEVICE else None
    return None


def _from_torch(tensor: Any) -> Span | None:
    if tensor.device.type != "cuda":
        return None
    tensor = tensor.detach().contiguous()
    kind = str(tensor.dtype).removeprefix("torch.")
    dtype = _NAMED.get(kind) or np.dtype(kind)
    return Span(tensor.data_ptr(), tuple(tensor.shape), dtype, tensor, tensor.device.index)


def _from_interface(value: Any, name: str) -> Span:
    """An array by the CUDA array interface."""
    facts = value.__cuda_array_interface__
    shape, dtype = tuple(facts["shape"]), np.dtype(facts["typestr"])
    if not _is_contiguous(shape, facts.get("strides"), dtype.itemsize):
        if hasattr(value, "flags") and hasattr(value, "copy"):
            return _from_interface(value.copy(), name)
        raise _strided(name)
    stream = facts.get("stream")
    is_ours = type(value).__module__.split(".")[0] == "cupy"  # calls follow CuPy's own stream
    if stream not in (None, 1) and not is_ours:
        check(driver().cuStreamSynchronize(stream), "wait for the stream of an argument")
    return Span(facts["data"][0], shape, dtype, value, _ordinal(facts["data"][0]))


def _ordinal(address: int) -> int:
    """The device whose memory an address is in."""
    if not address:
        return 0
    attribute = driver().CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    return int(check(driver().cuPointerGetAttribute(attribute, address), "find an argument"))


class _DLTensor(ctypes.Structure):
    """`DLTensor` of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_ON_DEVICE = (2, 13)
"""kDLCUDA and kDLCUDAManaged."""

_LEGACY_STREAM = 1
_LETTERS = {0: "i", 1: "u", 2: "f"}
_TYPES = {
    (4, 16): _NAMED["bfloat16"],
    (6, 8): np.dtype(np.bool_),
    (10, 8): _NAMED["float8_e4m3fn"],
    (12, 8): _NAMED["float8_e5m2"],
}
"""Types by code and bits."""


def _from_dlpack(value: Any, ordinal: int, name: str) -> Span:
    """An array by DLPack. Its capsule is kept, which keeps the memory, and is not consumed."""
    capsule = value.__dlpack__(stream=_LEGACY_STREAM)
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _DLTensor.from_address(pointer_of(capsule, b"dltensor"))
    shape = tuple(tensor.shape[: tensor.ndim])
    dtype = _TYPES.get((tensor.code, tensor.bits))
    if dtype is None:
        if tensor.code not in _LETTERS or tensor.lanes != 1:
            raise fail(f"`{name}` has a type of DLPack that NumPy has no name for")
        dtype = np.dtype(f"{_LETTERS[tensor.code]}{tensor.bits // 8}")
    strides = None
    if tensor.strides:
        strides = tuple(step * dtype.itemsize for step in tensor.strides[: tensor.ndim])
    if not _is_contiguous(shape, strides, dtype.itemsize):
        raise _strided(name)
    return Span((tensor.data or 0) + tensor.byte_offset, shape, dtype, (capsule, value), ordinal)


def _is_contiguous(shape: tuple[int, ...], strides: Any, itemsize: int) -> bool:
    """Whether strides, in bytes, are those of a C-contiguous array; None says so."""
    if strides is None or 0 in shape:
        return True
    step = itemsize
    for length, stride in zip(reversed(shape), reversed(strides), strict=True):
        if length != 1 and stride != step:
            return False
        step *= length
    return True


def _strided(name: str) -> Exception:
    return fail(f"`{name}` is not contiguous", expected="a C-contiguous array, or one of torch")


class DeviceArrays:
    """How the target takes arrays of a caller, in the memory of a device or of the host."""

    def take(self, value: Any, element: ElementType, dims: Dims, name: str) -> Span | Array:
        return as_span_or_array(value, element, dims, name)

    def output(self, value: Any) -> Span | Array:
        span = span_of(value, "out")
        if span is None:
            return to_numpy(value)
        if span.owner is not value and not _shares(span, value):
            raise TypeError("is not contiguous, so that it cannot be written in place")
        return span

    def overlap(self, output: Span | Array, argument: Span | Array) -> bool:
        if isinstance(output, Span) and isinstance(argument, Span):
            end, other_end = output.address + output.nbytes, argument.address + argument.nbytes
            return argument.address < end and output.address < other_end
        if isinstance(output, np.ndarray) and isinstance(argument, np.ndarray):
            return np.may_share_memory(output, argument)
        return False


def _shares(span: Span, value: Any) -> bool:
    """Whether a span is the memory of a value, not a copy."""
    if isinstance(value, Span):
        return True
    if hasattr(value, "data_ptr"):
        return value.data_ptr() == span.address
    owner: Any = span.owner
    return isinstance(owner, tuple) and owner[1] is value
