"""What one stored element holds: rounding of values to their element type.

Enters: NumPy arrays of values, and their element type. Leaves: arrays as they lie in memory, or the
values that memory stands for.

All but one of the element types have a NumPy type that rounds to nearest even. `tf32` is stored as
float32 and has the exponent of f32 with 10 bits behind the point: it rounds to nearest, halves away
from zero, which is what GPUs do, and since callers pass any float32, both when it is stored and
when it is loaded. What is too large becomes infinity; infinities and NaN stay.

    stored(np.array([1 + 2**-11]), ELEMENTS["tf32"])        [1 + 2**-10], float32
"""

from __future__ import annotations

from typing import Any, cast

import ml_dtypes
import numpy as np

from hectorite.ir.element import ElementType

Array = np.ndarray[Any, Any]

TF32_GREATEST = float.fromhex("0x1.ffcp127")
TF32_SUBNORMAL = 2.0**-136
"""The step between numbers below 2**-126."""

_LEAST_NORMAL = 2.0**-126


def stored(values: Any, element: ElementType) -> Array:
    """Numbers as an array of the storage type, each the nearest of its element type."""
    values = np.asarray(values)
    if element.name == "tf32":
        values = round_to_tf32(values)
    with np.errstate(over="ignore"):
        return values.astype(element.storage)


def loaded(array: Any, element: ElementType) -> Array:
    """The values of an array in storage, still in its type."""
    return round_to_tf32(array) if element.name == "tf32" else np.asarray(array)


def nearest(value: float | int, element: ElementType) -> float | int:
    """A number of the program: the nearest of its type."""
    return stored(value, element).astype(element.compute.storage).item()


def greatest(element: ElementType) -> float:
    """The largest number of a float type."""
    return TF32_GREATEST if element.name == "tf32" else float(_limits(element).max)


def smallest(element: ElementType) -> float:
    """The smallest number above 0 of a float type."""
    if element.name == "tf32":
        return TF32_SUBNORMAL
    return float(_limits(element).smallest_subnormal)


def _limits(element: ElementType) -> np.finfo[np.floating[Any]]:
    return cast("np.finfo[np.floating[Any]]", ml_dtypes.finfo(element.storage))


def holds(target: ElementType, source: ElementType) -> bool:
    """Whether every value of a type is one of another, both floats or both integers."""
    if not (target.is_float and source.is_float):
        if not {target.kind, source.kind} <= {"int", "uint"}:
            return target == source
        (least, most), (low, high) = target.bounds, source.bounds
        return least <= low and high <= most
    return (
        target.epsilon <= source.epsilon
        and greatest(target) >= greatest(source)
        and smallest(target) <= smallest(source)
    )


def round_to_tf32(values: Any) -> Array:
    """Each number as the nearest of tf32, in float32 if it was that, else in float64."""
    values = np.asarray(values)
    if values.dtype == np.float32:
        return _cut(values, np.uint32, 13)
    wide = values.astype(np.float64)
    with np.errstate(all="ignore"):
        size = np.abs(wide)
        steps = size / TF32_SUBNORMAL
        whole = np.floor(steps)
        small = np.copysign((whole + (steps - whole >= 0.5)) * TF32_SUBNORMAL, wide)
        rounded = np.where(size < _LEAST_NORMAL, small, _cut(wide, np.uint64, 42))
        return np.where(np.abs(rounded) > TF32_GREATEST, np.copysign(np.inf, wide), rounded)


def _cut(values: Array, kind: type[np.unsignedinteger[Any]], dropped: int) -> Array:
    """Floats without their lowest bits, halves away from zero. Adding half of the last bit that
    stays carries into the exponent as it should; NaN is made quiet, so that a bit of it stays."""
    bits = np.ascontiguousarray(values).reshape(values.shape).view(kind)
    half, quiet = kind(1 << (dropped - 1)), kind(1 << (np.finfo(values.dtype).nmant - 1))
    with np.errstate(over="ignore"):
        moved = np.where(values != values, bits | quiet, bits + half)
    return (moved >> kind(dropped) << kind(dropped)).astype(kind).view(values.dtype)
