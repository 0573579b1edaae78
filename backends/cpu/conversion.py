"""Between element types, and between what lies in memory and what kernels compute with.

Enters: LLVM values and the element types they stand for. Leaves: instructions that convert them.

| element            | in memory       | in a kernel                               |
|--------------------|-----------------|-------------------------------------------|
| f64, f32           | double, float   | the same                                  |
| tf32               | float           | float, rounded when loaded and stored     |
| f16, bf16          | half, i16       | float                                     |
| i64 i32 i16 i8, u8 | i64 i32 i16 i8  | the same                                  |
| i7 ... i2, u7 ... u1 | i8            | i8, extended by sign or by zeros          |
| i1 (-1 or +1)      | i8              | i8                                        |
| bool               | i8              | i1                                        |
| index              | i64             | i64                                       |

Integers wrap, floats to integers saturate with NaN to 0, a float becomes true unless it is 0.
"""

from __future__ import annotations

from llvmlite import ir

from hectorite.backends.cpu.lanes import (
    F32,
    F64,
    HALF,
    I1,
    I8,
    I16,
    I32,
    Lanes,
    constant,
    intrinsic,
    like,
    where,
)
from hectorite.ir.element import ElementType


def storage_type(element: ElementType) -> ir.Type:
    """The LLVM type of one element in memory."""
    if element.name == "f16":
        return HALF
    if element.name == "bf16":
        return I16
    return I8 if element.kind == "bool" else register_type(element)


def register_type(element: ElementType) -> ir.Type:
    """The LLVM type of one element in a kernel."""
    if element.is_float:
        return F64 if element.bits == 64 else F32
    if element.kind == "bool":
        return I1
    return ir.IntType(element.storage.itemsize * 8)


def from_storage(builder: ir.IRBuilder, value: ir.Value, element: ElementType) -> ir.Value:
    """What was loaded from memory, one or several lanes of it, as kernels compute with it."""
    x = Lanes(builder, value)
    if element.name == "f16":
        return x.convert("fpext", F32).value
    if element.name == "bf16":
        return (x.convert("zext", I32) << 16).convert("bitcast", F32).value
    if element.name == "tf32":
        return _tensor_float(x).value
    if element.kind == "bool":
        return x.differs(0).value
    return value


def to_storage(builder: ir.IRBuilder, value: ir.Value, element: ElementType) -> ir.Value:
    """What a kernel computed, as it is stored in memory, each float as the nearest of its type."""
    x = Lanes(builder, value)
    if element.name == "f16":
        return x.convert("fptrunc", HALF).value
    if element.name == "bf16":
        return _brain_float_bits(x).value
    if element.name == "tf32":
        return _tensor_float(x).value
    if element.kind == "bool":
        return x.convert("zext", I8).value
    return value


def cast(
    builder: ir.IRBuilder, value: ir.Value, source: ElementType, target: ElementType
) -> ir.Value:
    """One or several lanes of type `source` as lanes of type `target`, both as kernels have them.

    A cast to a short float rounds to it, though a float register keeps the result.
    """
    x = Lanes(builder, value)
    if target.kind == "bool":
        return _truth(x, source).value
    if target.kind == "sign":
        positive = x if source.kind == "bool" else x.compare(">=", 0, source.kind == "uint")
        ones = constant_like(x, I8, 1), constant_like(x, I8, -1)
        return where(positive, *ones).value
    if target.is_float:
        return _to_float(x, source, target).value
    if source.is_float:
        return _saturated(x, target).value
    return wrap(_resized(x, source, register_type(target)), target).value


def wrap(x: Lanes, element: ElementType) -> Lanes:
    """Reduce an integer in its register to the range of its type."""
    unused = element.storage.itemsize * 8 - element.bits
    if element.kind not in ("int", "uint") or unused == 0:
        return x
    if element.kind == "uint":
        return x & ((1 << element.bits) - 1)
    return (x << unused) >> unused


def constant_like(x: Lanes, lane: ir.Type, number: float | int) -> Lanes:
    """A constant with as many lanes as x has."""
    return Lanes(x.builder, constant(like(x.type, lane), number))


def _truth(x: Lanes, source: ElementType) -> Lanes:
    return x if source.kind == "bool" else x.differs(0)


def _resized(x: Lanes, source: ElementType, lane: ir.IntType) -> Lanes:
    width = register_type(source).width
    if width > lane.width:
        return x.convert("trunc", lane)
    if width == lane.width:
        return x
    return x.convert("zext" if source.kind in ("uint", "bool") else "sext", lane)


def _saturated(x: Lanes, target: ElementType) -> Lanes:
    """A float as an integer, towards zero, kept within the bounds of its type; NaN is 0."""
    if target.bits >= 32:
        lane = register_type(target)
        return intrinsic("llvm.fptosi.sat", x, result=like(x.type, lane))
    least, greatest = target.bounds
    wide = intrinsic("llvm.fptosi.sat", x, result=like(x.type, I32))
    wide = intrinsic("llvm.smax", wide, wide.splat(least))
    wide = intrinsic("llvm.smin", wide, wide.splat(greatest))
    return wide.convert("trunc", register_type(target))


def _to_float(x: Lanes, source: ElementType, target: ElementType) -> Lanes:
    if not source.is_float:
        # Integers of 32 bits and more go through f64, so that a short float rounds them once.
        narrow = source.bits <= 16 or target.name == "f32"
        lane = F64 if target.bits == 64 or not narrow else F32
        unsigned = source.kind in ("uint", "bool")
        x = x.convert("uitofp" if unsigned else "sitofp", lane)
    is_double = x.type == like(x.type, F64)
    if target.bits == 64:
        return x if is_double else x.convert("fpext", F64)
    if not target.is_short:
        return x.convert("fptrunc", F32) if is_double else x
    if is_double:
        x = _rounded_to_odd(x)
    stored = to_storage(x.builder, x.value, target)
    return Lanes(x.builder, from_storage(x.builder, stored, target))


def _rounded_to_odd(x: Lanes) -> Lanes:
    """A double as a float that rounds to a short float as the double would: if it is not exact, it
    is the one of its two neighbours whose last bit is set."""
    near = x.convert("fptrunc", F32)
    back = near.convert("fpext", F64)
    beyond = intrinsic("llvm.fabs", back) > intrinsic("llvm.fabs", x)
    bits = near.convert("bitcast", I32)
    bits = where(beyond, bits - 1, bits)
    inexact = (back < x) | (back > x)
    return where(inexact, bits | 1, bits).convert("bitcast", F32)


def _tensor_float(x: Lanes) -> Lanes:
    """A float without its lowest 13 bits, rounded to nearest, halves away from zero. NaN is made
    quiet, so that a bit of it stays."""
    bits = x.convert("bitcast", I32)
    rounded = where(x.differs(x), bits | 0x400000, bits + 0x1000)
    return (rounded & -0x2000).convert("bitcast", F32)


def _brain_float_bits(x: Lanes) -> Lanes:
    """The upper half of a float, rounded to nearest even; NaN stays NaN."""
    bits = x.convert("bitcast", I32)
    builder = x.builder
    upper = Lanes(builder, builder.lshr(bits.value, bits.splat(16).value))
    rounded = bits + (upper & 1) + 0x7FFF
    rounded = Lanes(builder, builder.lshr(rounded.value, bits.splat(16).value))
    return where(x.differs(x), upper | 0x40, rounded).convert("trunc", I16)
