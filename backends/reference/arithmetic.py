"""The numbers that the reference computes with.

Enters: arrays of an element type. Leaves: values, each a tuple of arrays of one shape ("lanes")
that are indexed, broadcast and reduced alike. Plain arithmetic has one lane, the value; error
analysis (`error_bound.py`) has one for the value and others for what may be wrong with it.

Integers are exact in int64 and wrap in their type. Floats are float64, so that rounding plays no
part; or, with `own_types`, what the program itself computes in (f32 for short floats), for
comparing where a rounding decides: non-finite values and comparisons at their threshold.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hectorite.ir.element import ElementType
from hectorite.ir.rounding import loaded, stored
from hectorite.ir.scalar import Array, apply, convert, wrap

Lanes = tuple[Array, ...]
Axes = tuple[int, ...]
Fold = tuple[np.ufunc, Any]
"""How one lane accumulates: the function, and the value it starts from."""

UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def dot(one: Array, other: Array, axes: Axes, shape: Axes) -> Array:
    """The sum of a product along some axes of a grid, which stay with one element."""
    letters = list(range(len(shape)))
    one, other = (
        array.reshape((1,) * (len(shape) - array.ndim) + array.shape) for array in (one, other)
    )
    kept = [axis for axis in letters if axis not in axes]
    total = np.expand_dims(np.einsum(one, letters, other, letters, kept), axes)
    # An axis that neither factor varies along counts how often the product is added.
    alike = [axis for axis in axes if one.shape[axis] == other.shape[axis] == 1]
    total = total * total.dtype.type(math.prod(shape[axis] for axis in alike))
    return np.broadcast_to(total, [1 if axis in axes else n for axis, n in enumerate(shape)])


class Arithmetic:
    """Plain arithmetic, in float64 or in the program's own types."""

    def __init__(self, own_types: bool = False):
        self.own_types = own_types

    def dtype(self, element: ElementType) -> np.dtype[Any]:
        """The NumPy type that carries values of an element type."""
        if element.is_float:
            return element.compute.storage if self.own_types else np.dtype(np.float64)
        return np.dtype(np.bool_ if element.kind == "bool" else np.int64)

    def load(self, array: Array, element: ElementType) -> Lanes:
        """The value of data in storage."""
        return (loaded(array, element).astype(self.dtype(element)),)

    def constant(self, number: float | int, element: ElementType) -> Lanes:
        """A number of the program; a float constant is the nearest one of its type."""
        return self.load(stored(number, element), element)

    def apply(self, name: str, arguments: Sequence[Lanes], element: ElementType) -> Lanes:
        """A scalar function; `element` is the type of its last operand."""
        return (apply(name, [lanes[0] for lanes in arguments], element),)

    def cast(self, value: Lanes, source: ElementType, target: ElementType) -> Lanes:
        """Conversion between element types."""
        return (convert(value[0], source, target).astype(self.dtype(target)),)

    def folds(self, kind: str, element: ElementType) -> Sequence[Fold]:
        """How each lane accumulates in a statement of this kind."""
        return ((UFUNCS.get(kind, np.add), element.identity(kind)),)

    def spread(self, kind: str, value: Lanes) -> Lanes:
        """The lanes that a value accumulates in."""
        return value

    def dot(self, one: Lanes, other: Lanes, axes: Axes, shape: Axes, element: ElementType) -> Lanes:
        """The lanes in which a product of floats accumulates, summed along some axes of a grid."""
        return (dot(one[0], other[0], axes, shape),)

    def settle(self, kind: str, lanes: Lanes, element: ElementType, stored: ElementType) -> Lanes:
        """The value of what has accumulated in `element`, rounded to the type it is stored in."""
        return self.cast((wrap(lanes[0], element),), element, stored)

    def result(self, value: Lanes, element: ElementType) -> Array:
        """What a function returns: exact types as stored, floats as they are carried."""
        if element.is_float and not self.own_types:
            return value[0]
        return stored(value[0], element)
