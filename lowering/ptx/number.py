"""Arithmetic on PTX registers, written like arithmetic: what elementary functions are written in.

Enters: a `PtxCode` cursor and registers. Leaves: instructions at the cursor. A `PtxNumber` is a
`Number` of `ir/elementary.py`; Python numbers mix with it.

    x = PtxNumber(code, register, "f32")
    y = (x < 0.0).choose(-x, x.fma(2.0, 1.0)).value

`kind` says how the register is read: f32, f64, s32, s64 or pred. Every operation rounds on its own:
nothing is fused but `fma`, so that each machine gives the same.
"""

from __future__ import annotations

import struct

from xdsl.ir import SSAValue

from hectorite.dialects.ptx import ConstantOp
from hectorite.lowering.ptx.writer import PtxCode

REGISTERS = {"f32": "f32", "f64": "f64", "s32": "b32", "s64": "b64", "pred": "pred"}
"""The kind of register that holds each kind of number."""

INTEGER = {"f32": "s32", "f64": "s64"}
FLOAT = {"s32": "f32", "s64": "f64"}
# Adding this rounds a float to an integer, which is then in its lowest bits.
ROUNDING = {"f32": 1.5 * 2.0**23, "f64": 1.5 * 2.0**52}


def constant_of(value: SSAValue) -> float | int | None:
    """The number that a register is known to hold."""
    return value.owner.number if isinstance(value.owner, ConstantOp) else None


class PtxNumber:
    """One register and where to put what is computed from it."""

    def __init__(self, code: PtxCode, value: SSAValue, kind: str):
        self.code = code
        self.value = value
        self.kind = kind

    @property
    def is_float(self) -> bool:
        return self.kind in INTEGER

    def emit(self, mnemonic: str, *operands: Operand, kind: str | None = None) -> PtxNumber:
        """An instruction on numbers; those of Python become constants of this one's kind."""
        values = [self.operand(operand) for operand in operands]
        return PtxNumber(self.code, self.code.op(mnemonic, *values), kind or self.kind)

    def operand(self, other: Operand) -> SSAValue:
        """`other` as a register or constant of this one's kind."""
        if isinstance(other, PtxNumber):
            return other.value
        number = float(other) if self.is_float else int(other)
        return self.code.constant(number, REGISTERS[self.kind])

    def splat(self, number: float | int) -> PtxNumber:
        """A constant of this one's kind."""
        return PtxNumber(self.code, self.operand(number), self.kind)

    def _arithmetic(self, name: str, left: Operand, right: Operand) -> PtxNumber:
        rounding = "rn." if self.is_float else "lo." if name == "mul" else ""
        return self.emit(f"{name}.{rounding}{self.kind}", left, right)

    def __add__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("add", self, other)

    def __radd__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("add", self, other)

    def __sub__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("sub", self, other)

    def __rsub__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("sub", other, self)

    def __mul__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("mul", self, other)

    def __rmul__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("mul", self, other)

    def __truediv__(self, other: Operand) -> PtxNumber:
        return self._arithmetic("div", self, other)

    def __neg__(self) -> PtxNumber:
        return self.emit(f"neg.{self.kind}", self)

    def _logic(self, name: str, other: Operand) -> PtxNumber:
        return self.emit(f"{name}.{self.bit_type}", self, other)

    @property
    def bit_type(self) -> str:
        """How instructions that do not calculate name this kind."""
        return self.kind if self.is_float else REGISTERS[self.kind]

    def __and__(self, other: Operand) -> PtxNumber:
        return self._logic("and", other)

    def __or__(self, other: Operand) -> PtxNumber:
        return self._logic("or", other)

    def __xor__(self, other: Operand) -> PtxNumber:
        return self._logic("xor", other)

    def __invert__(self) -> PtxNumber:
        return self.emit(f"not.{self.bit_type}", self)

    def __lshift__(self, count: PtxNumber | int) -> PtxNumber:
        return self._shift(f"shl.{self.bit_type}", count)

    def __rshift__(self, count: PtxNumber | int) -> PtxNumber:
        return self._shift(f"shr.{self.kind}", count)

    def _shift(self, mnemonic: str, count: PtxNumber | int) -> PtxNumber:
        value = count if isinstance(count, int) else count.value
        return PtxNumber(self.code, self.code.op(mnemonic, self.value, value), self.kind)

    def compare(self, relation: str, other: Operand) -> PtxNumber:
        """`relation` as `setp` has it."""
        return self.emit(f"setp.{relation}.{self.kind}", self, other, kind="pred")

    def __lt__(self, other: Operand) -> PtxNumber:
        return self.compare("lt", other)

    def __le__(self, other: Operand) -> PtxNumber:
        return self.compare("le", other)

    def __gt__(self, other: Operand) -> PtxNumber:
        return self.compare("gt", other)

    def __ge__(self, other: Operand) -> PtxNumber:
        return self.compare("ge", other)

    def equal(self, other: Operand) -> PtxNumber:
        """Whether both are the same number; false on NaN."""
        return self.compare("eq", other)

    def differs(self, other: Operand) -> PtxNumber:
        """Whether they are not the same number; true on NaN."""
        return self.compare("neu" if self.is_float else "ne", other)

    def choose(self, yes: PtxNumber, no: PtxNumber) -> PtxNumber:
        """`yes` where this predicate holds, else `no`."""
        if yes.kind == "pred":
            return (self & yes) | (~self & no)
        mnemonic = f"selp.{yes.bit_type}"
        return PtxNumber(
            self.code, self.code.op(mnemonic, yes.value, no.value, self.value), yes.kind
        )

    def fma(self, factor: Operand, addend: Operand) -> PtxNumber:
        """self * factor + addend, rounded once."""
        return self.emit(f"fma.rn.{self.kind}", self, factor, addend)

    def over(self, divisor: PtxNumber) -> PtxNumber:
        """self / divisor to 2 units in the last place, the divisor at least 1, or infinite."""
        if self.kind != "f32":
            return self / divisor
        inverse = divisor.emit("rcp.approx.ftz.f32", divisor)
        return inverse if constant_of(self.value) == 1.0 else self * inverse

    def at_least(self, bound: float) -> PtxNumber:
        """The greater of this and a constant; NaN stays NaN."""
        if self.kind == "f32":
            return self.emit("max.NaN.f32", self, bound)
        return (self < bound).choose(self.splat(bound), self)

    def at_most(self, bound: float) -> PtxNumber:
        """The lesser of this and a constant; NaN stays NaN."""
        if self.kind == "f32":
            return self.emit("min.NaN.f32", self, bound)
        return (self > bound).choose(self.splat(bound), self)

    def magnitude(self) -> PtxNumber:
        """The absolute value of a float."""
        return self.emit(f"abs.{self.kind}", self)

    def with_sign_of(self, other: PtxNumber) -> PtxNumber:
        """The magnitude of this float with the sign of another."""
        return self.emit(f"copysign.{self.kind}", other, self)

    def floor(self) -> PtxNumber:
        """The greatest integer that is not above this float, as a float."""
        return self.emit(f"cvt.rmi.{self.kind}.{self.kind}", self)

    def nearest(self) -> tuple[PtxNumber, PtxNumber]:
        """A float below 2^21 rounded to an integer, half to even: as a float, and as an integer.
        Additions do this, faster than conversions."""
        magic = ROUNDING[self.kind]
        shifted = self + magic
        return shifted - magic, shifted.bits() - _bits(magic, self.kind)

    def to_float(self) -> PtxNumber:
        """An integer below 2^21 as a float of the same width."""
        kind = FLOAT[self.kind]
        magic = ROUNDING[kind]
        return (self + _bits(magic, kind)).from_bits() - magic

    def bits(self) -> PtxNumber:
        """A float's bits as an integer."""
        kind = INTEGER[self.kind]
        return self.emit(f"mov.{REGISTERS[kind]}", self, kind=kind)

    def from_bits(self) -> PtxNumber:
        """The float with an integer's bits."""
        kind = FLOAT[self.kind]
        return self.emit(f"mov.{kind}", self, kind=kind)

    def widened(self) -> PtxNumber:
        """An f32 as f64."""
        return self.emit("cvt.f64.f32", self, kind="f64")

    def narrowed(self) -> PtxNumber:
        """An f64 as f32, rounded to nearest even."""
        return self.emit("cvt.rn.f32.f64", self, kind="f32")


Operand = PtxNumber | float | int


def _bits(number: float, kind: str) -> int:
    integer, float_ = ("i", "f") if kind == "f32" else ("q", "d")
    return struct.unpack(f"<{integer}", struct.pack(f"<{float_}", number))[0]
