"""Logic, shift and bit instructions as steps over lanes.

Each builder takes the prepared kernel and an instruction; `BUILDERS` names them. Shifts clamp at
the width, as PTX's do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.integer import Builder, simple, value_type
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Immediate, Instruction

Array = npt.NDArray[Any]


def logic(function: np.ufunc) -> Builder:
    """`and`, `or`, `xor` of bits or predicates."""

    def build(code: Code, at: Instruction) -> Step:
        type = value_type(code, at)
        a, b = (code.operand(operand, type) for operand in at.operands[1:3])
        return code.elementwise(function, code.target(at.operands[0], type), a, b)

    return build


def lop3(code: Code, at: Instruction) -> Step:
    """Any function of three bits: bit abc of the table is the result for those three."""
    if "BOOL" in at.suffix or len(at.operands) != 5:
        raise code.unsupported()
    table_operand = at.operands[4]
    if not isinstance(table_operand, Immediate):
        raise code.error("the table of lop3 must be a number")
    table = int(table_operand.value)
    a, b, c = (code.operand(operand, "b32") for operand in at.operands[1:4])
    terms = [bits for bits in range(8) if table >> bits & 1]

    def run(a: Array, b: Array, c: Array) -> Array:
        total = np.zeros_like(a)
        for bits in terms:
            term = (a if bits & 4 else ~a) & (b if bits & 2 else ~b)
            total |= term & (c if bits & 1 else ~c)
        return total

    return code.elementwise(run, code.target(at.operands[0], "b32"), a, b, c)


def shift(is_left: bool) -> Builder:
    """`shl`, `shr`: amounts from the width on give zeros, or copies of the sign."""

    def build(code: Code, at: Instruction) -> Step:
        type = value_type(code, at)
        if is_left:
            type = type.replace("s", "b").replace("u", "b")
        bits = 8 * np.dtype(DTYPES[type][0]).itemsize
        a = code.operand(at.operands[1], type)
        target = code.target(at.operands[0], type)
        amount = at.operands[2]
        function = np.left_shift if is_left else np.right_shift
        if isinstance(amount, Immediate) and 0 <= amount.value < bits:
            return code.elementwise(function, target, a, code.constant(amount.value, type))
        by = code.operand(amount, "u32")

        def run(a: Array, by: Array) -> Array:
            inside = np.minimum(by, bits - 1).astype(a.dtype)
            shifted = function(a, inside)
            if type[0] == "s":
                return shifted
            return np.where(by < bits, shifted, a.dtype.type(0))

        return code.elementwise(run, target, a, by)

    return build


def funnel(code: Code, at: Instruction) -> Step:
    """`shf`: 32 bits out of the 64 of `b:a`, shifted."""
    a, b, by = (code.operand(operand, "u32") for operand in at.operands[1:4])
    is_left, wraps = "l" in at.suffix, "wrap" in at.suffix

    def run(a: Array, b: Array, by: Array) -> Array:
        amount = (by & np.uint32(31) if wraps else np.minimum(by, 32)).astype(np.uint64)
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        if is_left:
            return ((both << amount) >> np.uint64(32)).astype(np.uint32)
        return (both >> amount).astype(np.uint32)

    return code.elementwise(run, code.target(at.operands[0], "u32"), a, b, by)


def bfe(code: Code, at: Instruction) -> Step:
    """A field of bits; signed ones repeat the field's top bit."""
    type = value_type(code, at)
    bits = int(type[1:])
    a = code.operand(at.operands[1], type)
    start, length = (code.operand(operand, "u32") for operand in at.operands[2:4])
    unsigned = np.dtype(f"u{bits // 8}")

    def run(a: Array, start: Array, length: Array) -> Array:
        start, length = start & np.uint32(255), length & np.uint32(255)
        kept = np.minimum(start, bits - 1).astype(a.dtype)
        value = np.where(start < bits, a >> kept, a >> a.dtype.type(bits - 1))
        if type[0] == "u":
            value = np.where(start < bits, value, a.dtype.type(0))
        some = np.clip(length, 1, bits)
        up = (bits - some).astype(unsigned)
        signed = (value.view(unsigned) << up).view(a.dtype) >> up.astype(a.dtype)
        return np.where(length == 0, a.dtype.type(0), signed)

    return code.elementwise(run, code.target(at.operands[0], type), a, start, length)


def bfi(code: Code, at: Instruction) -> Step:
    """The lowest bits of `a` put into `b`."""
    type = value_type(code, at)
    bits = int(type[1:])
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    start, length = (code.operand(operand, "u32") for operand in at.operands[3:5])

    def run(a: Array, b: Array, start: Array, length: Array) -> Array:
        start, length = start & np.uint32(255), length & np.uint32(255)
        zero = a.dtype.type(0)
        short = np.where(length > 0, np.clip(bits - length.astype(np.int64), 0, bits - 1), 0)
        low = np.where(length > 0, np.right_shift(~zero, short.astype(a.dtype)), zero)
        at_bit = np.minimum(start, bits - 1).astype(a.dtype)
        mask = np.where(start < bits, low << at_bit, zero)
        return (b & ~mask) | ((a << at_bit) & mask)

    return code.elementwise(run, code.target(at.operands[0], type), a, b, start, length)


def _leading_zeros(a: Array) -> Array:
    bits = 8 * a.dtype.itemsize
    if bits == 32:
        _, exponent = np.frexp(a.astype(np.float64))
        return (32 - exponent).astype(np.uint32)
    high = (a >> np.uint64(32)).astype(np.uint32)
    low = (a & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    return np.where(high > 0, _leading_zeros(high), 32 + _leading_zeros(low)).astype(np.uint32)


def count_bits(code: Code, at: Instruction) -> Step:
    """`popc`, `clz`."""
    type = value_type(code, at)
    a = code.operand(at.operands[1], type)
    function = _leading_zeros if at.name == "clz" else _population
    return code.elementwise(function, code.target(at.operands[0], "u32"), a)


def _population(a: Array) -> Array:
    return np.bitwise_count(a).astype(np.uint32)


def bfind(code: Code, at: Instruction) -> Step:
    """The place of the highest bit that is not the sign, or all ones."""
    type = value_type(code, at)
    bits, from_top = int(type[1:]), "shiftamt" in at.suffix
    a = code.operand(at.operands[1], type)

    def run(a: Array) -> Array:
        if type[0] == "s":
            a = np.where(a < 0, ~a, a).view(f"u{bits // 8}")
        zeros = _leading_zeros(a)
        place = zeros if from_top else np.uint32(bits - 1) - zeros
        return np.where(a == 0, np.uint32(0xFFFFFFFF), place)

    return code.elementwise(run, code.target(at.operands[0], "u32"), a)


def brev(code: Code, at: Instruction) -> Step:
    type = value_type(code, at)
    a = code.operand(at.operands[1], type)

    def run(a: Array) -> Array:
        octets = np.ascontiguousarray(a).view(np.uint8).reshape(len(a), a.dtype.itemsize)
        bits = np.unpackbits(octets[:, ::-1], axis=1, bitorder="big")
        return np.packbits(bits, axis=1, bitorder="little").view(a.dtype)[:, 0]

    return code.elementwise(run, code.target(at.operands[0], type), a)


def prmt(code: Code, at: Instruction) -> Step:
    """Four bytes chosen out of the eight of `b:a`; bit 3 of a choice repeats the byte's sign."""
    mode = next((m for m in at.suffix if m in _PRMT_MODES), None)
    a, b, choice = (code.operand(operand, "u32") for operand in at.operands[1:4])

    def run(a: Array, b: Array, choice: Array) -> Array:
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        result = np.zeros_like(a)
        for byte in range(4):
            if mode is None:
                nibble = (choice >> np.uint32(4 * byte)) & np.uint32(15)
            else:
                nibble = np.asarray(_PRMT_MODES[mode], np.uint32)[choice & np.uint32(3), byte]
            place = ((nibble & np.uint32(7)) * np.uint32(8)).astype(np.uint64)
            value = ((both >> place) & np.uint64(255)).astype(np.uint32)
            sign = np.where(value & np.uint32(128), np.uint32(255), np.uint32(0))
            value = np.where(nibble & np.uint32(8), sign, value)
            result |= value << np.uint32(8 * byte)
        return result

    return code.elementwise(run, code.target(at.operands[0], "u32"), a, b, choice)


_PRMT_MODES = {
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}


def bmsk(code: Code, at: Instruction) -> Step:
    """Ones in as many bits as `b` says, from bit `a` on."""
    wraps = "wrap" in at.suffix
    a, b = (code.operand(operand, "u32") for operand in at.operands[1:3])

    def run(a: Array, b: Array) -> Array:
        start, count = (
            (v & np.uint32(31) if wraps else np.minimum(v, 32)).astype(np.uint64) for v in (a, b)
        )
        one = np.uint64(1)
        return ((((one << count) - one) << start) & np.uint64(0xFFFFFFFF)).astype(np.uint32)

    return code.elementwise(run, code.target(at.operands[0], "u32"), a, b)


def szext(code: Code, at: Instruction) -> Step:
    """The lowest `b` bits, extended by their sign or by zeros."""
    type, wraps = value_type(code, at), "wrap" in at.suffix
    a, b = code.operand(at.operands[1], type), code.operand(at.operands[2], "u32")

    def run(a: Array, b: Array) -> Array:
        count = b & np.uint32(31) if wraps else np.minimum(b, 32)
        up = np.minimum(32 - count.astype(np.int64), 31).astype(a.dtype)
        return np.where(count == 0, a.dtype.type(0), (a << up) >> up)

    return code.elementwise(run, code.target(at.operands[0], type), a, b)


def _cnot(a: Array) -> Array:
    return (a == 0).astype(a.dtype)


BUILDERS: dict[str, Builder] = {
    "and": logic(np.bitwise_and),
    "or": logic(np.bitwise_or),
    "xor": logic(np.bitwise_xor),
    "not": simple(np.invert, 1),
    "cnot": simple(_cnot, 1),
    "lop3": lop3,
    "shl": shift(True),
    "shr": shift(False),
    "shf": funnel,
    "bfe": bfe,
    "bfi": bfi,
    "bfind": bfind,
    "popc": count_bits,
    "clz": count_bits,
    "brev": brev,
    "bmsk": bmsk,
    "szext": szext,
    "prmt": prmt,
}
