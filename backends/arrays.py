"""Arrays that a caller passes in: taken as they are, or refused by name.

Enters: anything that holds an array: NumPy, the buffer protocol, DLPack (torch among them), nested
lists, plain numbers. Leaves: a C-contiguous NumPy array of the wanted element type, sharing the
caller's memory whenever that already has this layout, or a diagnostic that says what was expected.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, cast

import ml_dtypes
import numpy as np

from hectorite.ir.diagnostics import Diagnostic, HectoriteError
from hectorite.ir.element import ELEMENTS, ElementType

Array = np.ndarray[Any, Any]
Dims = Sequence[tuple[str, int | None]]
"""Expected shape: for each dimension its name (a set, a size or digits) and length if known."""


class KeptArray(np.ndarray):
    """An array that does not change any more, so that a device may keep its copy."""


_TORCH_ONLY = {
    "bfloat16": ("int16", np.dtype(ml_dtypes.bfloat16)),
    "float8_e4m3fn": ("uint8", np.dtype(ml_dtypes.float8_e4m3fn)),
    "float8_e5m2": ("uint8", np.dtype(ml_dtypes.float8_e5m2)),
}
"""Types that torch cannot hand to NumPy: the integer type of the same width to view them as."""


def to_numpy(value: Any) -> Array:
    """The array that `value` holds, sharing its memory where it can be shared.

    Raises `TypeError` with a reason (a phrase such as "is on device cuda:0") if there is none.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("is a masked array, and every element counts: fill it first, .filled(0)")
    if isinstance(value, np.ndarray):
        # Others, such as matrices, index in ways of their own.
        return value if isinstance(value, KeptArray) else cast(Array, np.asarray(cast(Any, value)))
    kind = type(value).__name__
    if value is None or isinstance(value, str | bytes | dict | set):
        raise TypeError(f"is {_a(kind)}, not an array")
    device = getattr(value, "device", None)
    if getattr(device, "type", "cpu") != "cpu":
        raise TypeError(f"is on device {device}; this target takes arrays in host memory")
    if hasattr(value, "detach") and hasattr(value, "view"):
        return _from_torch(value)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except Exception as error:  # whatever a foreign array raises is a reason, not our fault
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TypeError(f"cannot be read as an array: {reason}") from error
    if array.dtype == object:
        raise TypeError(f"is {_a(type(value).__name__)}, not an array of numbers")
    return array


def array_of_numbers(value: Any) -> Array:
    """The array that `value` holds, of a type that some element of the language is stored in.

    Raises `HectoriteError` if there is none.
    """
    try:
        array = to_numpy(value)
    except TypeError as reason:
        raise _error(f"what is to be converted {reason}", "an array of numbers") from reason
    stored = {element.storage: None for element in ELEMENTS.values()}
    native = array.dtype.newbyteorder("=")
    if native not in stored:
        kinds = ", ".join(storage.name for storage in stored)
        raise _error(f"what is to be converted is {_a(array.dtype.name)} array", f"one of {kinds}")
    return array.astype(native, copy=False)


def as_array(value: Any, element: ElementType, dims: Dims, name: str) -> Array:
    """`value` as a C-contiguous array of `element` with the shape `dims`.

    No copy is made if the data is laid out so already. Numbers and nested lists are converted if
    that loses nothing but float precision; arrays must have the element type, since a silent
    conversion would cost as much as a kernel. `name` is what messages call the tensor.

    Raises `HectoriteError` naming the expected type, rank or dimension, or the first value that
    the element type cannot hold.
    """
    array = _with_type(value, element, dims, name)
    check_shape(array.shape, element, dims, name)
    _check_values(array, element, name)
    if array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.ascontiguousarray(array) if array.ndim else array.copy()


def check_shape(shape: tuple[int, ...], element: ElementType, dims: Dims, name: str) -> None:
    """Raises `HectoriteError` if an array of this shape is not what `dims` expect."""
    if len(shape) != len(dims):
        raise _error(
            f"`{name}` has {_count(len(shape), 'dimension')} {shape}", describe(element, dims)
        )
    for axis, ((dim, length), got) in enumerate(zip(dims, shape, strict=True)):
        if length is not None and got != length:
            raise _error(
                f"`{name}` has {got} in dimension {axis} ({dim}), which is {length}",
                describe(element, dims),
            )


def describe(element: ElementType, dims: Dims) -> str:
    """An expected tensor in words: `f32[node, I]: a float32 array of shape (7262, any)`."""
    if not dims:
        return f"{element.name}: one {element.storage.name} value"
    names = ", ".join(dim for dim, _ in dims)
    shape = ", ".join("any" if length is None else str(length) for _, length in dims)
    shape += "," if len(dims) == 1 else ""
    storage = element.storage.name
    return f"{element.name}[{names}]: {_a(storage)} array of shape ({shape})"


def first_true(bad: Array) -> tuple[int, ...]:
    """Position of the first true element, in row-major order."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))


def _from_torch(value: Any) -> Array:
    tensor = value.detach()
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind in _TORCH_ONLY:
        same_width, dtype = _TORCH_ONLY[kind]
        torch = sys.modules[type(tensor).__module__.split(".")[0]]
        return np.asarray(tensor.view(getattr(torch, same_width))).view(dtype)
    try:
        return np.asarray(tensor)
    except Exception as error:  # sparse, quantised, lazily conjugated ...
        raise TypeError(f"cannot be read as an array: {str(error).splitlines()[0]}") from error


def _with_type(value: Any, element: ElementType, dims: Dims, name: str) -> Array:
    try:
        array = to_numpy(value)
    except TypeError as reason:
        raise _error(f"`{name}` {reason}", describe(element, dims)) from reason
    storage = element.storage
    if array.dtype == storage:
        return array
    if array.dtype.kind == "V" and not array.dtype.names and array.dtype.itemsize == 2:
        # How an .npz file returns a type that NumPy itself does not know.
        if element.name == "bf16":
            return array.view(storage)
    elif array.dtype.newbyteorder("=") == storage:
        return array.astype(storage)
    elif isinstance(value, int | float | bool | list | tuple | np.generic):
        return _converted(array, element, dims, name)
    raise _error(
        f"`{name}` is {_a(array.dtype.name)} array",
        describe(element, dims),
        f"convert it: {_conversion(value, name, storage)}",
    )


def _converted(array: Array, element: ElementType, dims: Dims, name: str) -> Array:
    """Numbers and lists: any float from any number, an integer from integers that fit."""
    kind = array.dtype.kind
    if element.is_float and kind in "iuf":
        return array.astype(element.storage)
    if element.is_integer and kind in "iu":
        _check_values(array, element, name)
        return array.astype(element.storage)
    if not array.size:
        return array.astype(element.storage)
    raise _error(f"`{name}` has {array.dtype.name} values", describe(element, dims))


def _check_values(array: Array, element: ElementType, name: str) -> None:
    """Integers that are stored wider than their type must still fit it."""
    if not element.is_integer or not array.size:
        return
    low, high = element.bounds
    info = np.iinfo(array.dtype)
    if element.kind == "sign":
        _refuse((array != 1) & (array != -1), array, name, element, "-1 or +1")
    elif (info.min < low or info.max > high) and not (low <= array.min() and array.max() <= high):
        _refuse((array < low) | (array > high), array, name, element, f"{low} to {high}")


def _refuse(bad: Array, array: Array, name: str, element: ElementType, expected: str) -> None:
    if not bad.any():
        return
    position = first_true(bad)
    place = f"[{', '.join(map(str, position))}]" if position else ""
    raise _error(
        f"{name}{place} is {array[position]}, which is not {_a(element.name)} value", expected
    )


def _error(message: str, expected: str, hint: str | None = None) -> HectoriteError:
    return HectoriteError([Diagnostic(message, expected=expected, hint=hint)])


def _conversion(value: Any, name: str, dtype: np.dtype[Any]) -> str:
    if hasattr(value, "detach"):
        return f"{name}.to(torch.{dtype.name})"
    return f"{name}.astype({'ml_dtypes' if dtype.kind == 'V' else 'np'}.{dtype.name})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"
