"""Element types in PTX registers, and conversions between them.

Enters: a `PtxCode` cursor, registers and the element types they stand for. Leaves: instructions.

| element                        | in a register                        |
|--------------------------------|--------------------------------------|
| f64                            | f64                                  |
| f32, tf32, f16, bf16, f8       | f32, exact                           |
| i64                            | b64                                  |
| i32 ... i2, u8 ... u1, index   | b32, extended by sign or by zeros    |
| i1 (-1 or +1)                  | b32                                  |
| bool                           | pred                                 |

Integers wrap, floats to integers saturate with NaN to 0, a float becomes true unless it is 0.
Floats round to nearest even, once, whatever they come from; tf32 rounds halves away from zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from xdsl.ir import SSAValue

from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.rounding import holds, stored
from hectorite.lowering.ptx.number import REGISTERS, PtxNumber
from hectorite.lowering.ptx.small_floats import SMALL_FLOATS, small_float_bits, small_float_value
from hectorite.lowering.ptx.writer import PtxCode


def number_kind(element: ElementType) -> str:
    """How instructions read a value of an element type: f32, f64, s32, s64 or pred."""
    if element.is_float:
        return "f64" if element.bits == 64 else "f32"
    if element.kind == "bool":
        return "pred"
    return "s64" if element.kind == "int" and element.bits == 64 else "s32"


def register_type(element: ElementType) -> str:
    """The kind of register that holds a value: f32, f64, b32, b64 or pred."""
    return REGISTERS[number_kind(element)]


def constant(code: PtxCode, number: float | int, element: ElementType) -> SSAValue:
    """A number of the program in a register; a float is the nearest one of its type."""
    kind = number_kind(element)
    if kind == "pred":
        return code.op("setp.ne.s32", int(bool(number)), 0)
    if element.is_float:
        number = float(stored(float(number), element))
    return code.constant(number, REGISTERS[kind])


def convert(code: PtxCode, value: SSAValue, source: ElementType, target: ElementType) -> SSAValue:
    """A value of type `source` as one of type `target`, both as registers have them."""
    x = PtxNumber(code, value, number_kind(source))
    if target.kind == "bool":
        return (x if source.kind == "bool" else x.differs(0)).value
    if target.kind == "sign":
        return _sign(x).value
    if target.is_float:
        return _to_float(x, source, target).value
    return _to_integer(x, source, target).value


def wrap(x: PtxNumber, element: ElementType) -> PtxNumber:
    """Reduce an integer in its register to the range of its type."""
    if element.kind not in ("int", "uint") or element.bits >= 32:
        return x
    if element.kind == "uint":
        return x & ((1 << element.bits) - 1)
    return PtxNumber(x.code, x.code.op("bfe.s32", x.value, 0, element.bits), "s32")


def rounded(x: PtxNumber, element: ElementType) -> PtxNumber:
    """A float of 32 bits rounded to a shorter type, and still in 32 bits."""
    if element.name in _ROUND:
        return _ROUND[element.name](x)
    if element.name in SMALL_FLOATS:
        return small_float_value(small_float_bits(x, element.name), element.name)
    return x


def _half(x: PtxNumber) -> PtxNumber:
    return x.emit("cvt.f32.f16", x.emit("cvt.rn.f16.f32", x))


def _brain_float(x: PtxNumber) -> PtxNumber:
    # The pair of a bf16 and zero has the bits of an f32.
    return x.emit("cvt.rn.bf16x2.f32", x, 0.0, kind="s32").from_bits()


def _tensor_float(x: PtxNumber) -> PtxNumber:
    return x.emit("cvt.rna.tf32.f32", x, kind="s32").from_bits()


_ROUND: dict[str, Callable[[PtxNumber], PtxNumber]] = {
    "f16": _half,
    "bf16": _brain_float,
    "tf32": _tensor_float,
}


def _sign(x: PtxNumber) -> PtxNumber:
    positive = x if x.kind == "pred" else x >= 0
    return _selected(positive, 1, -1, "s32")


def _selected(condition: PtxNumber, yes: float, no: float, kind: str) -> PtxNumber:
    code = condition.code
    numbers = [PtxNumber(code, code.constant(n, REGISTERS[kind]), kind) for n in (yes, no)]
    return condition.choose(*numbers)


def _to_integer(x: PtxNumber, source: ElementType, target: ElementType) -> PtxNumber:
    kind = number_kind(target)
    if x.kind == "pred":
        return _selected(x, 1, 0, kind)
    if source.is_float:
        return _saturated(x, target)
    if x.kind == kind:
        return x if _fits(source, target) else wrap(x, target)
    if kind == "s64":
        return x.emit("cvt.s64.s32", x, kind=kind)
    return wrap(x.emit("cvt.u32.u64", x, kind=kind), target)


def _fits(source: ElementType, target: ElementType) -> bool:
    """Whether an integer type has all values of another."""
    if source.kind == "uint":
        return source.bits < target.bits + (target.kind == "uint")
    return target.kind != "uint" and source.bits <= target.bits


def _saturated(x: PtxNumber, target: ElementType) -> PtxNumber:
    """A float as an integer, towards zero, kept within the bounds of its type; NaN is 0."""
    kind = number_kind(target)
    whole = x.emit(f"cvt.rzi.{kind}.{x.kind}", x, kind=kind)
    whole = x.equal(x).choose(whole, whole.splat(0))
    if target.kind == "index" or target.bits >= 32:
        return whole
    least, greatest = target.bounds
    return whole.emit("min.s32", whole.emit("max.s32", whole, least), greatest)


def _to_float(x: PtxNumber, source: ElementType, target: ElementType) -> PtxNumber:
    kind = number_kind(target)
    if x.kind == "pred":
        return _selected(x, 1.0, 0.0, kind)
    is_wide = x.kind == "f64" or (x.kind != "f32" and source.bits > _precision("f32"))
    if target.is_short and is_wide:
        x = _rounded_to_odd(x)
    x = _resized(x, kind)
    return x if _holds(target, source) else rounded(x, target)


def _holds(target: ElementType, source: ElementType) -> bool:
    """Whether a float type has all values of another type."""
    if not source.is_float:
        return source.bits <= _precision(target.name)
    return holds(target, source)


def _precision(name: str) -> int:
    """Bits of the integers that a float type has all of."""
    return round(-math.log2(ELEMENTS[name].epsilon))


def _resized(x: PtxNumber, kind: str) -> PtxNumber:
    """A number as a float, rounded to nearest even."""
    if x.kind == kind:
        return x
    rounding = "" if (x.kind, kind) == ("f32", "f64") else "rn."
    return x.emit(f"cvt.{rounding}{kind}.{x.kind}", x, kind=kind)


def _rounded_to_odd(x: PtxNumber) -> PtxNumber:
    """A number as an f32 that rounds to a shorter type as the number itself would: if it is not
    exact, it is the one of its two neighbours whose last bit is set."""
    near = x.emit(f"cvt.rz.f32.{x.kind}", x, kind="f32")
    back = "cvt.f64.f32" if x.is_float else f"cvt.rzi.{x.kind}.f32"
    inexact = x.emit(back, near).differs(x)
    bits = near.bits()
    return inexact.choose(bits | 1, bits).from_bits()
