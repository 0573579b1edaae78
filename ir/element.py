"""Element types of the language: their names, storage and the xDSL type that stands for each.

Signed integers are xDSL's signless `iN`, unsigned ones `uiN`, `bool` is `i1`; the language's own
`i1`, whose values are -1 and +1, is `si1`. Integers narrower than a byte are stored one to a byte.
"""

from dataclasses import dataclass
from math import inf
from typing import Any, Literal

import ml_dtypes
import numpy as np
from xdsl.dialects.builtin import (
    BFloat16Type,
    Float8E4M3FNType,
    Float8E5M2Type,
    Float16Type,
    Float32Type,
    Float64Type,
    FloatTF32Type,
    IndexType,
    IntegerType,
    Signedness,
)
from xdsl.ir import Attribute

Kind = Literal["float", "int", "uint", "bool", "sign", "index"]


@dataclass(frozen=True)
class ElementType:
    """One element type.

    `bits` is the width of a value, `storage` the NumPy type of one stored element, and
    `executable` tells whether kernels can be generated for it.
    """

    name: str
    kind: Kind
    bits: int
    storage: np.dtype
    xdsl: Attribute
    executable: bool = True

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint", "sign", "index")

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest value of an integer type; (0, 1) for bool."""
        if self.kind == "bool":
            return 0, 1
        if self.kind == "sign":
            return -1, 1
        if self.kind == "uint":
            return 0, (1 << self.bits) - 1
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1

    def identity(self, kind: str) -> float | int:
        """Where a reduction of this kind starts: 0, 1, the least or the greatest value."""
        if kind in ("max", "min"):
            if self.is_float:
                return -inf if kind == "max" else inf
            return self.bounds[0 if kind == "max" else 1]
        return 1 if kind == "mul" else 0

    @property
    def compute(self) -> "ElementType":
        """The type in which arithmetic on this one is done (tf32, f16 and bf16 compute in f32,
        integers below 32 bits in i32)."""
        if self.kind == "float":
            return self if self.name in ("f64", "f32") else ELEMENTS["f32"]
        if self.kind in ("int", "uint", "sign"):
            return self if self.bits >= 32 else ELEMENTS["i32"]
        return self

    @property
    def is_short(self) -> bool:
        """Whether this is a float that has fewer values than the type it computes in."""
        return self.is_float and self.compute != self

    @property
    def epsilon(self) -> float:
        """Relative rounding step of one stored value; 0 for exact types."""
        return _EPSILON.get(self.name, 0.0)


def _float(name: str, storage: type, xdsl: Attribute, executable: bool = True) -> ElementType:
    dtype: np.dtype[Any] = np.dtype(storage)
    return ElementType(name, "float", dtype.itemsize * 8, dtype, xdsl, executable)


def _signed(bits: int) -> ElementType:
    storage = np.dtype(f"i{max(bits, 8) // 8}")
    return ElementType(f"i{bits}", "int", bits, storage, IntegerType(bits))


def _unsigned(bits: int) -> ElementType:
    return ElementType(
        f"u{bits}", "uint", bits, np.dtype(np.uint8), IntegerType(bits, Signedness.UNSIGNED)
    )


_ALL = (
    _float("f64", np.float64, Float64Type()),
    _float("f32", np.float32, Float32Type()),
    _float("tf32", np.float32, FloatTF32Type()),
    _float("f16", np.float16, Float16Type()),
    _float("bf16", ml_dtypes.bfloat16, BFloat16Type()),
    _float("f8e4m3", ml_dtypes.float8_e4m3fn, Float8E4M3FNType(), executable=False),
    _float("f8e5m2", ml_dtypes.float8_e5m2, Float8E5M2Type(), executable=False),
    ElementType("i64", "int", 64, np.dtype(np.int64), IntegerType(64)),
    *(_signed(bits) for bits in (32, 16, 8, 7, 6, 5, 4, 3, 2)),
    ElementType("i1", "sign", 1, np.dtype(np.int8), IntegerType(1, Signedness.SIGNED)),
    *(_unsigned(bits) for bits in range(8, 0, -1)),
    ElementType("bool", "bool", 1, np.dtype(np.bool_), IntegerType(1)),
)

ELEMENTS: dict[str, ElementType] = {element.name: element for element in _ALL}
"""Every element type of the language by its name."""

INDEX = ElementType("index", "index", 64, np.dtype(np.int64), IndexType())
"""Positions and sizes inside kernels; not a type of the language."""

_BY_XDSL: dict[Attribute, ElementType] = {element.xdsl: element for element in (*_ALL, INDEX)}

_EPSILON = {
    "f64": 2.0**-53,
    "f32": 2.0**-24,
    "tf32": 2.0**-11,
    "f16": 2.0**-11,
    "bf16": 2.0**-8,
    "f8e4m3": 2.0**-4,
    "f8e5m2": 2.0**-3,
}


def element_of(type: Attribute) -> ElementType:
    """The element type that an xDSL scalar type stands for; KeyError if there is none."""
    return _BY_XDSL[type]


def is_element(type: Attribute) -> bool:
    """Whether an xDSL type is the type of a scalar of the language or of an index."""
    return type in _BY_XDSL
