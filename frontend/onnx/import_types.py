"""Element types of ONNX as those of the language.

Enters: the code of an ONNX type, or an element type. Leaves: the other, or a reason why there is
none.
"""

from __future__ import annotations

from hectorite.frontend.onnx.import_values import Unsupported
from hectorite.ir.element import ELEMENTS, ElementType

_NAMES = {
    1: "f32",
    2: "u8",
    3: "i8",
    5: "i16",
    6: "i32",
    7: "i64",
    9: "bool",
    10: "f16",
    11: "f64",
    16: "bf16",
}
"""The codes of `onnx.TensorProto.DataType`."""

CODES = {name: code for code, name in _NAMES.items()}
"""The code of an element type by its name; types that ONNX lacks are absent."""


def element_of_code(code: int) -> ElementType:
    """The element type. Raises `Unsupported` if the language has none like it."""
    if code not in _NAMES:
        import onnx

        known = code in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(code) if known else str(code)
        raise Unsupported(f"element type {name}")
    return ELEMENTS[_NAMES[code]]
