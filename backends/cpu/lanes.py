"""Arithmetic on LLVM values, written like arithmetic: the notation of the scalar function tables.

Enters: an `ir.IRBuilder` and values that are numbers or vectors of numbers of any width. Leaves:
instructions appended to the builder. A `Lanes` wraps one value; Python numbers mix with it and
become constants, repeated over the width of a vector.

    x = Lanes(builder, value)                     # <16 x float>
    y = (x < 0).choose(-x, x.fma(2.0, 1.0)).value

Comparisons are ordered (false on NaN) except `!=`, and integers compare and shift as signed.
A `Lanes` is a `Number` of `ir/elementary.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

F32, F64, HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()
I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))

Operand = "Lanes | float | int"


def element(type: ir.Type) -> ir.Type:
    """The type of one lane."""
    return type.element if isinstance(type, ir.VectorType) else type


def like(type: ir.Type, lane: ir.Type) -> ir.Type:
    """`lane`, as many times as `type` has lanes."""
    return ir.VectorType(lane, type.count) if isinstance(type, ir.VectorType) else lane


class Literal(ir.Constant):
    """A constant given as LLVM writes it; llvmlite itself would list every lane of a vector."""

    def __init__(self, type: ir.Type, text: str):
        self.type = type
        self.constant = text

    def _get_reference(self) -> str:
        return self.constant


def constant(type: ir.Type, number: float | int) -> ir.Constant:
    """A constant of a number type, the same in every lane of a vector type."""
    lane = element(type)
    single = ir.Constant(lane, number if isinstance(lane, ir.IntType) else float(number))
    return Literal(type, f"splat ({single})") if isinstance(type, ir.VectorType) else single


def suffix(type: ir.Type) -> str:
    """How the names of LLVM's intrinsics spell a type."""
    if isinstance(type, ir.VectorType):
        return f"v{type.count}{suffix(type.element)}"
    return {F32: "f32", F64: "f64", HALF: "f16"}.get(type) or str(type)


def declare(
    module: ir.Module, name: str, result: ir.Type, arguments: Sequence[ir.Type]
) -> ir.Function:
    """The function of that name in the module, declared if it is new."""
    found = module.globals.get(name)
    if found is None:
        found = ir.Function(module, ir.FunctionType(result, arguments), name)
    return found


def intrinsic(
    name: str,
    *arguments: Lanes,
    result: ir.Type | None = None,
    more: Sequence[ir.Value] = (),
    flags: Sequence[str] = (),
) -> Lanes:
    """Call an LLVM intrinsic named after its result type and, if that differs, its first argument.

    `more` are arguments that do not count in the name.
    """
    first = arguments[0].type
    result = result or first
    name = f"{name}.{suffix(result)}" + (f".{suffix(first)}" if result is not first else "")
    values = [*(argument.value for argument in arguments), *more]
    builder = arguments[0].builder
    function = declare(builder.module, name, result, [value.type for value in values])
    return Lanes(builder, builder.call(function, values, fastmath=flags))


class Lanes:
    """A value of a number type, or a vector of them, and where to put what is computed from it.

    `flags` are LLVM's fast-math flags for float arithmetic on this value; results have none.
    """

    def __init__(self, builder: ir.IRBuilder, value: ir.Value, flags: Sequence[str] = ()):
        self.builder = builder
        self.value = value
        self.flags = flags

    @property
    def type(self) -> ir.Type:
        return self.value.type

    @property
    def is_float(self) -> bool:
        return not isinstance(element(self.type), ir.IntType)

    def operand(self, other: Operand) -> ir.Value:
        """`other` as a value of this one's type."""
        return other.value if isinstance(other, Lanes) else constant(self.type, other)

    def _apply(self, operation: str, left: Operand, right: Operand) -> Lanes:
        values = self.operand(left), self.operand(right)
        if not self.is_float:
            return Lanes(self.builder, getattr(self.builder, operation)(*values))
        return Lanes(
            self.builder, getattr(self.builder, f"f{operation}")(*values, flags=self.flags)
        )

    def __add__(self, other: Operand) -> Lanes:
        return self._apply("add", self, other)

    def __radd__(self, other: Operand) -> Lanes:
        return self._apply("add", other, self)

    def __sub__(self, other: Operand) -> Lanes:
        return self._apply("sub", self, other)

    def __rsub__(self, other: Operand) -> Lanes:
        return self._apply("sub", other, self)

    def __mul__(self, other: Operand) -> Lanes:
        return self._apply("mul", self, other)

    def __rmul__(self, other: Operand) -> Lanes:
        return self._apply("mul", other, self)

    def __truediv__(self, other: Operand) -> Lanes:
        return self._apply("div", self, other)

    def __rtruediv__(self, other: Operand) -> Lanes:
        return self._apply("div", other, self)

    def __neg__(self) -> Lanes:
        negate = self.builder.fneg if self.is_float else self.builder.neg
        return Lanes(self.builder, negate(self.value))

    def __and__(self, other: Operand) -> Lanes:
        return Lanes(self.builder, self.builder.and_(self.value, self.operand(other)))

    def __or__(self, other: Operand) -> Lanes:
        return Lanes(self.builder, self.builder.or_(self.value, self.operand(other)))

    def __xor__(self, other: Operand) -> Lanes:
        return Lanes(self.builder, self.builder.xor(self.value, self.operand(other)))

    def __lshift__(self, other: Operand) -> Lanes:
        return Lanes(self.builder, self.builder.shl(self.value, self.operand(other)))

    def __rshift__(self, other: Operand) -> Lanes:
        return Lanes(self.builder, self.builder.ashr(self.value, self.operand(other)))

    def compare(self, relation: str, other: Operand, unsigned: bool = False) -> Lanes:
        """A truth value for each lane; `relation` is one of < <= > >= == !=."""
        if not self.is_float:
            ask = self.builder.icmp_unsigned if unsigned else self.builder.icmp_signed
        elif relation == "!=":
            ask = self.builder.fcmp_unordered
        else:
            ask = self.builder.fcmp_ordered
        return Lanes(self.builder, ask(relation, self.value, self.operand(other)))

    def __lt__(self, other: Operand) -> Lanes:
        return self.compare("<", other)

    def __le__(self, other: Operand) -> Lanes:
        return self.compare("<=", other)

    def __gt__(self, other: Operand) -> Lanes:
        return self.compare(">", other)

    def __ge__(self, other: Operand) -> Lanes:
        return self.compare(">=", other)

    def equal(self, other: Operand) -> Lanes:
        """Where both are the same number; false on NaN."""
        return self.compare("==", other)

    def differs(self, other: Operand) -> Lanes:
        """Where they are not the same number; true on NaN."""
        return self.compare("!=", other)

    def convert(self, operation: str, lane: ir.Type) -> Lanes:
        """One of LLVM's conversions (`sitofp`, `trunc`, `bitcast`, ...) to lanes of type `lane`."""
        target = like(self.type, lane)
        return Lanes(self.builder, getattr(self.builder, operation)(self.value, target))

    def splat(self, number: float | int) -> Lanes:
        """`number` in the type of this value."""
        return Lanes(self.builder, constant(self.type, number))

    def choose(self, yes: Lanes, no: Lanes) -> Lanes:
        """`yes` in the lanes where this truth value holds, `no` in the others."""
        return where(self, yes, no)

    def fma(self, factor: Operand, addend: Operand) -> Lanes:
        """self * factor + addend, with one rounding where the machine has such an instruction."""
        operands = [Lanes(self.builder, self.operand(x)) for x in (factor, addend)]
        return intrinsic("llvm.fmuladd", self, *operands)

    def over(self, divisor: Lanes) -> Lanes:
        """The quotient."""
        return self / divisor

    def at_least(self, bound: float) -> Lanes:
        """The greater of this and a constant, NaN where this is NaN."""
        return where(self < bound, self.splat(bound), self)

    def at_most(self, bound: float) -> Lanes:
        """The lesser of this and a constant, NaN where this is NaN."""
        return where(self > bound, self.splat(bound), self)

    def magnitude(self) -> Lanes:
        """The absolute value of floats."""
        return intrinsic("llvm.fabs", self)

    def with_sign_of(self, other: Lanes) -> Lanes:
        """The magnitude of these floats with the sign of others."""
        return intrinsic("llvm.copysign", self, other)

    def floor(self) -> Lanes:
        """The greatest integers that are not above these floats, as floats."""
        return intrinsic("llvm.floor", self)

    def nearest(self) -> tuple[Lanes, Lanes]:
        """Floats rounded to integers, half to even: as floats, as i32. Any number for NaN."""
        whole = intrinsic("llvm.lrint", self, result=like(self.type, I32))
        return whole.to_float(), whole

    def to_float(self) -> Lanes:
        """Integers of 32 bits as floats."""
        return self.convert("sitofp", F32)

    def bits(self) -> Lanes:
        """The bits of floats."""
        return self.convert("bitcast", I32)

    def from_bits(self) -> Lanes:
        """The floats that have these bits."""
        return self.convert("bitcast", F32)


def where(condition: Lanes, yes: Lanes, no: Lanes) -> Lanes:
    """`yes` in the lanes where the condition holds, `no` in the others."""
    builder = condition.builder
    return Lanes(builder, builder.select(condition.value, yes.value, no.value))


def for_each_lane(function: ir.Function, arguments: Sequence[Lanes]) -> Lanes:
    """Call a function of numbers once for each lane."""
    builder, first = arguments[0].builder, arguments[0].type
    values = [argument.value for argument in arguments]
    if not isinstance(first, ir.VectorType):
        return Lanes(builder, builder.call(function, values))
    total: ir.Value = Literal(first, "poison")
    for lane in range(first.count):
        index = ir.Constant(I32, lane)
        picked = [builder.extract_element(value, index) for value in values]
        total = builder.insert_element(total, builder.call(function, picked), index)
    return Lanes(builder, total)
