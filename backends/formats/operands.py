"""Tensors in storage formats, as calls take them.

Enters: what a caller gives for a parameter that has a format: an array, or an operand that was
converted before. Leaves: an `Operand`, checked: its parts are what kernels read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from hectorite.backends.arrays import Array, Dims, as_array, check_shape, describe
from hectorite.backends.formats.bsr_operand import BsrOperand, encode_bsr
from hectorite.backends.formats.nm import NmOperand, encode
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ElementType
from hectorite.ir.tensor_format import Bsr, Nm

if TYPE_CHECKING:
    from hectorite.backends.bound.binding import Binding


@runtime_checkable
class Operand(Protocol):
    """A tensor in a storage format. It stands for an array of `shape` and `dtype`."""

    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def parts(self, name: str) -> dict[str, Array]:
        """What kernels read of a parameter `name`, by name."""
        ...

    def dense(self) -> Array:
        """The array it stands for."""
        ...


def is_stored(format: str | None) -> bool:
    """Whether a tensor in this format has parts of its own."""
    return Nm.of(format) is not None or Bsr.of(format) is not None


def stored_as(
    value: Any, format: str | None, element: ElementType, dims: Dims, name: str
) -> NmOperand | BsrOperand:
    """`value` in a format: as it is if it was converted before, else converted now.

    Raises `HectoriteError` naming the expected type, rank or dimension, or the first place that
    breaks the format.
    """
    wanted = Nm.of(format) or Bsr.of(format)
    assert wanted is not None, "is_stored tells which formats there are"
    if not isinstance(value, Operand):
        dense = as_array(value, element, dims, name)
        if isinstance(wanted, Nm):
            return encode(dense, wanted, name)
        return encode_bsr(dense, wanted, name)
    if not isinstance(value, NmOperand | BsrOperand) or value.format != wanted:
        hint = f"hectorite.{str(wanted).replace('(', '(array, ')}"
        raise fail(f"`{name}` is {value!r}", expected=f"an array, or one as {wanted}", hint=hint)
    if value.dtype != element.storage:
        raise fail(f"`{name}` is {value!r}", expected=describe(element, dims))
    check_shape(value.shape, element, dims, name)
    return value


def bind_operands(binding: Binding, values: Mapping[str, Any], function: str) -> Binding:
    """The binding of a call with the sets that its operands bring."""
    for name, value in values.items():
        if isinstance(value, BsrOperand):
            binding = value.bind(binding, f"{function}.{name}")
    return binding
