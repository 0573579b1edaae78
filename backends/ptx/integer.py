"""Integer arithmetic as steps over lanes.

Each builder takes the prepared kernel and an instruction; `BUILDERS` names them. Arithmetic wraps,
as NumPy's does on arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Instruction

Array = npt.NDArray[Any]
Builder = Callable[[Code, Instruction], Step]


def value_type(code: Code, at: Instruction) -> str:
    """The type that an instruction works on: the last one that it names."""
    for part in reversed(at.suffix):
        if part in DTYPES:
            return part
    raise code.unsupported("it names no type that is known")


def is_float(type: str) -> bool:
    return type.startswith(("f", "bf", "e4m3", "e5m2", "tf"))


def simple(function: Callable[..., Array], count: int) -> Builder:
    """A builder for `count` sources of the result's type."""

    def build(code: Code, at: Instruction) -> Step:
        type = value_type(code, at)
        sources = [code.operand(operand, type) for operand in at.operands[1 : 1 + count]]
        return code.elementwise(function, code.target(at.operands[0], type), *sources)

    return build


def _saturated(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """s32 arithmetic that clamps."""

    def run(a: Array, b: Array) -> Array:
        wide = function(a.astype(np.int64), b.astype(np.int64))
        return np.clip(wide, -(1 << 31), (1 << 31) - 1).astype(np.int32)

    return run


def add_or_sub(function: np.ufunc) -> Builder:
    """`add`, `sub`, with `.sat` and with the carry of `.cc` and `addc`."""

    def build(code: Code, at: Instruction) -> Step:
        if "sat" in at.suffix:
            return simple(_saturated(function), 2)(code, at)
        if "cc" in at.suffix or at.name in ("addc", "subc"):
            return _with_carry(code, at, at.name.startswith("sub"))
        return simple(function, 2)(code, at)

    return build


def _with_carry(code: Code, at: Instruction, is_sub: bool) -> Step:
    type = value_type(code, at).replace("s", "u")
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    target, carry = code.target(at.operands[0], type), code.carry
    reads, writes = at.name.endswith("c"), "cc" in at.suffix

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        left, right = a[chosen], b[chosen]
        extra = carry[chosen].astype(left.dtype) if reads else left.dtype.type(0)
        if is_sub:
            first = left - right
            total = first - extra
            out = (left < right) | (first < extra)
        else:
            first = left + right
            total = first + extra
            out = (first < left) | (total < first)
        target.store(chosen, total)
        if writes:
            carry[chosen] = out

    return run


def high_product(a: Array, b: Array) -> Array:
    """The upper half of the product."""
    bits = 8 * a.dtype.itemsize
    if bits < 64:
        wide = np.dtype(f"{a.dtype.kind}{a.dtype.itemsize * 2}")
        return ((a.astype(wide) * b.astype(wide)) >> wide.type(bits)).astype(a.dtype)
    ua, ub = a.view(np.uint64), b.view(np.uint64)
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    a0, a1, b0, b1 = ua & mask, ua >> half, ub & mask, ub >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    other = a0 * b1 + (middle & mask)
    high = a1 * b1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, ub, np.uint64(0)) - np.where(b < 0, ua, np.uint64(0))
    return high.view(a.dtype)


def _wide_product(type: str) -> Callable[[Array, Array], Array]:
    wide = np.dtype(f"{DTYPES[type][0][0]}{int(type[1:]) // 4}")

    def run(a: Array, b: Array) -> Array:
        return np.multiply(a, b, dtype=wide)

    return run


def _product(code: Code, at: Instruction, type: str) -> tuple[Callable[..., Array], str]:
    """The function of `mul` and `mad`, and the type of its result."""
    if "wide" in at.suffix:
        return _wide_product(type), f"{type[0]}{2 * int(type[1:])}"
    if "hi" in at.suffix:
        return high_product, type
    if at.name.endswith("24"):
        drop = np.array(8, np.int32)
        signed = type[0] == "s"

        def narrow(a: Array) -> Array:
            return (a << drop) >> drop if signed else a & np.uint32(0xFFFFFF)

        def run(a: Array, b: Array) -> Array:
            return narrow(a) * narrow(b)

        return run, type
    return np.multiply, type


def mul(code: Code, at: Instruction) -> Step:
    type = value_type(code, at)
    function, result = _product(code, at, type)
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    return code.elementwise(function, code.target(at.operands[0], result), a, b)


def mad(code: Code, at: Instruction) -> Step:
    type = value_type(code, at)
    if "cc" in at.suffix or at.name == "madc":
        return _mad_with_carry(code, at, type)
    function, result = _product(code, at, type)
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    c = code.operand(at.operands[3], result)
    add = _saturated(np.add) if "sat" in at.suffix else np.add

    def run(a: Array, b: Array, c: Array) -> Array:
        return add(function(a, b), c)

    return code.elementwise(run, code.target(at.operands[0], result), a, b, c)


def _mad_with_carry(code: Code, at: Instruction, type: str) -> Step:
    function, result = _product(code, at, type.replace("s", "u"))
    a, b = (code.operand(operand, type.replace("s", "u")) for operand in at.operands[1:3])
    c = code.operand(at.operands[3], result)
    target, carry = code.target(at.operands[0], result), code.carry
    if "hi" in at.suffix and type[0] == "s":
        raise code.unsupported("a signed high product with carry")

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        product, addend = function(a[chosen], b[chosen]), c[chosen]
        first = product + addend
        extra = carry[chosen].astype(first.dtype) if at.name == "madc" else first.dtype.type(0)
        total = first + extra
        target.store(chosen, total)
        if "cc" in at.suffix:
            carry[chosen] = (first < product) | (total < first)

    return run


def quotient(a: Array, b: Array) -> Array:
    """Division towards zero; by zero it gives all ones."""
    zero = b == 0
    safe = np.where(zero, b.dtype.type(1), b)
    result = (a - np.fmod(a, safe)) // safe
    return np.where(zero, ~b.dtype.type(0), result)


def remainder(a: Array, b: Array) -> Array:
    """What truncating division leaves; by zero it gives the dividend."""
    zero = b == 0
    return np.where(zero, a, np.fmod(a, np.where(zero, b.dtype.type(1), b)))


def _clamp_relu(function: Callable[..., Array], relu: bool) -> Callable[..., Array]:
    if not relu:
        return function

    def run(a: Array, b: Array) -> Array:
        return np.maximum(function(a, b), a.dtype.type(0))

    return run


def least_or_greatest(function: np.ufunc) -> Builder:
    def build(code: Code, at: Instruction) -> Step:
        return simple(_clamp_relu(function, "relu" in at.suffix), len(at.operands) - 1)(code, at)

    return build


def dot_product(code: Code, at: Instruction) -> Step:
    """`dp4a` (four bytes each) and `dp2a` (two halves of `a`, two bytes of `b`)."""
    types = [part for part in at.suffix if part in ("s32", "u32")]
    signed = [type == "s32" for type in types]
    result = "s32" if any(signed) else "u32"
    a, b = (code.operand(operand, "u32") for operand in at.operands[1:3])
    c = code.operand(at.operands[3], result)
    width = 8 if at.name == "dp4a" else 16
    skip = 2 if "hi" in at.suffix else 0

    def field(value: Array, bits: int, index: int, is_signed: bool) -> Array:
        up = np.uint32(32 - bits * (index + 1))
        if is_signed:
            return (value << up).view(np.int32).astype(np.int64) >> np.int64(32 - bits)
        return ((value << up) >> np.uint32(32 - bits)).astype(np.int64)

    def run(a: Array, b: Array, c: Array) -> Array:
        total = c.astype(np.int64)
        for index in range(32 // width):
            left = field(a, width, index, signed[0])
            total = total + left * field(b, 8, index + skip, signed[1])
        return (total & 0xFFFFFFFF).astype(np.uint32).view(c.dtype)

    return code.elementwise(run, code.target(at.operands[0], result), a, b, c)


def _sad(a: Array, b: Array, c: Array) -> Array:
    return np.where(a < b, b - a, a - b) + c


def _negated(a: Array) -> Array:
    return ~a + a.dtype.type(1)


BUILDERS: dict[str, Builder] = {
    "add": add_or_sub(np.add),
    "addc": add_or_sub(np.add),
    "sub": add_or_sub(np.subtract),
    "subc": add_or_sub(np.subtract),
    "mul": mul,
    "mul24": mul,
    "mad": mad,
    "madc": mad,
    "mad24": mad,
    "sad": simple(_sad, 3),
    "div": simple(quotient, 2),
    "rem": simple(remainder, 2),
    "abs": simple(np.absolute, 1),
    "neg": simple(_negated, 1),
    "min": least_or_greatest(np.minimum),
    "max": least_or_greatest(np.maximum),
    "dp4a": dot_product,
    "dp2a": dot_product,
}
