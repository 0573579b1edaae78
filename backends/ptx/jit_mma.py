"""mma.sync of compiled PTX: a product of two small matrices held in the registers of a warp.

Enters: a `Step` and an instruction; the fragments of all lanes. Leaves: a `Collective`. With e
elements in a register, g = lane / 4 and t = lane % 4, element i of register r is

    A: row g + 8 * (r % 2), column t * e + i + (r / 2) * 4 * e
    B: row t * e + i + r * 4 * e, column g
    C: row g + 8 * (r / 2), column 2 * t + r % 2      (f16: row g + 8 * r, column 2 * t + i)

Floats are multiplied exactly and added to f32 one after the other, k ascending; tf32 reads the
upper 19 bits of a register.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from hectorite.backends.ptx import jit_rounding as rounding
from hectorite.backends.ptx.jit_step import Collective, Step
from hectorite.backends.ptx.jit_text import Code, V, helper, i32, i64
from hectorite.ir.ptx.syntax import Braces, Instruction, Operand

BITS = {"f16": 16, "bf16": 16, "tf32": 32, "s8": 8, "u8": 8, "s4": 4, "u4": 4, "b1": 1,
        "e4m3": 8, "e5m2": 8}  # fmt: skip
ACCUMULATORS = ("f32", "f16", "s32")


@dataclass(frozen=True)
class Shape:
    """An mma: the types of D, A, B and C, its k, and how bits are combined (b1)."""

    accumulator: str
    a: str
    b: str
    k: int
    bitwise: str = ""
    saturates: bool = False

    @property
    def depth(self) -> int:
        """Elements along k; 32 bits of b1 count as one."""
        return self.k // 32 if self.a == "b1" else self.k

    @property
    def per_register(self) -> int:
        return 1 if self.a == "b1" else 32 // BITS[self.a]

    @property
    def a_registers(self) -> int:
        return self.depth // (2 * self.per_register)

    @property
    def b_registers(self) -> int:
        return self.depth // (4 * self.per_register)

    @property
    def c_registers(self) -> int:
        return 2 if self.accumulator == "f16" else 4

    @property
    def is_float(self) -> bool:
        return self.accumulator in ("f32", "f16")

    @property
    def name(self) -> str:
        end = f".{self.bitwise}" if self.bitwise else ".sat" if self.saturates else ""
        return f"hec.mma.k{self.k}.{self.accumulator}.{self.a}.{self.b}{end}"


def shape_of(step: Step, instruction: Instruction) -> Shape:
    """What an mma instruction multiplies. Raises for forms that have no code here."""
    suffix = instruction.suffix
    size = next(p for p in suffix if re.fullmatch(r"m\d+n\d+k\d+", p))
    types = [p for p in suffix if p in (*BITS, *ACCUMULATORS)]
    bitwise = next((p for p in suffix if p in ("xor", "and")), "")
    known = size.startswith("m16n8") and "row" in suffix and "col" in suffix
    if suffix[0] != "sync" or not known or len(types) != 4 or types[0] != types[3]:
        raise step.wrong(instruction)
    shape = Shape(types[0], types[1], types[2], int(size.partition("k")[2]), bitwise,
                  "satfinite" in suffix)  # fmt: skip
    if shape.accumulator not in ACCUMULATORS or not shape.b_registers or shape.a not in BITS:
        raise step.wrong(instruction)
    return shape


def matrix_product(step: Step, instruction: Instruction) -> Collective:
    """mma.sync."""
    shape = shape_of(step, instruction)
    operands = [items_of(operand) for operand in instruction.operands]
    counts = (shape.c_registers, shape.a_registers, shape.b_registers, shape.c_registers)
    if tuple(map(len, operands)) != counts:
        raise step.wrong(instruction, f"it takes {counts} registers")
    inputs = [step.read(item, "i32") for group in operands[1:] for item in group]

    def perform(code: Code, mail: V, taking: V) -> None:
        def body(inner: Code, given: list[V]) -> None:
            _product(inner, given[0], shape)

        helper(code.pieces, shape.name, "void", [("ptr", "mail")], body, "nounwind")
        code.call_void(shape.name, mail)

    return Collective(inputs, [(item, "i32") for item in operands[0]], perform)


def items_of(operand: Operand) -> tuple[Operand, ...]:
    """The registers in braces, or the one without."""
    return operand.items if isinstance(operand, Braces) else (operand,)


def _product(code: Code, mail: V, shape: Shape) -> None:
    kind = "float" if shape.is_float else "i32"
    depth = shape.depth
    a = code.alloca(f"[{16 * depth} x {kind}]", 64)
    b = code.alloca(f"[{8 * depth} x {kind}]", 64)
    c = code.alloca(f"[128 x {kind}]", 64)
    a_slot, b_slot = 0, shape.a_registers
    c_slot = b_slot + shape.b_registers
    with code.loop(i32(32)) as lane:
        g, t = code.op("lshr", lane, i32(2)), code.op("and", lane, i32(3))
        start = code.op("mul", t, i32(shape.per_register))
        for r in range(shape.a_registers):
            row = code.op("add", g, i32(8 * (r & 1)))
            column = code.op("add", start, i32((r >> 1) * 4 * shape.per_register))
            at = code.op("add", code.op("mul", row, i32(depth)), column)
            spread(code, mail, a_slot + r, lane, shape.a, a, at, 1)
        for r in range(shape.b_registers):
            row = code.op("add", start, i32(r * 4 * shape.per_register))
            at = code.op("add", code.op("mul", row, i32(8)), g)
            spread(code, mail, b_slot + r, lane, shape.b, b, at, 8)
    _accumulators(code, mail, c_slot, c, shape, into=True)
    multiply(code, a, b, c, shape)
    _accumulators(code, mail, c_slot + shape.c_registers, c, shape, into=False)


def word(code: Code, mail: V, slot: int, lane: V) -> V:
    """The place of a word of a lane in the mail."""
    return code.at(code.at(mail, 32 * slot, "i32"), code.resized(lane, "i64"), "i32")


def spread(
    code: Code, mail: V, slot: int, lane: V, type: str, matrix: V, at: V, stride: int
) -> None:
    """The elements of a register into a matrix, from `at` on, `stride` apart."""
    value = code.load("i32", word(code, mail, slot, lane), 4)
    count = 1 if type == "b1" else 32 // BITS[type]
    for i in range(count):
        number = element(code, value, type, i)
        index = code.resized(code.op("add", at, i32(i * stride)), "i64")
        code.store(number, code.at(matrix, index, number.type), 4)


def element(code: Code, value: V, type: str, i: int) -> V:
    """Element i of a register, as f32 or i32."""
    if type == "b1":
        return value
    if type == "tf32":
        return code.bits(code.op("and", value, i32(-(1 << 13))), "float")
    bits = BITS[type]
    if type in ("f16", "bf16"):
        part = code.resized(code.op("lshr", value, i32(bits * i)), "i16")
        convert: Callable[[Code, V], V] = (
            rounding.half_to_float if type == "f16" else rounding.bfloat_to_float
        )
        return convert(code, part)
    if type in ("e4m3", "e5m2"):
        part = code.resized(code.op("lshr", value, i32(bits * i)), "i8")
        return rounding.from_f8(code, part, type)
    high = code.op("shl", value, i32(32 - bits * (i + 1)))
    return code.op("ashr" if type[0] == "s" else "lshr", high, i32(32 - bits))


def _accumulators(code: Code, mail: V, slot: int, c: V, shape: Shape, into: bool) -> None:
    """The accumulators from the mail into the matrix, or back."""
    kind = "float" if shape.is_float else "i32"
    with code.loop(i32(32)) as lane:
        g, t = code.op("lshr", lane, i32(2)), code.op("and", lane, i32(3))
        start = code.op("add", code.op("mul", g, i32(8)), code.op("shl", t, i32(1)))
        for r in range(shape.c_registers):
            place = word(code, mail, slot + r, lane)
            shift = 64 * r if shape.accumulator == "f16" else 64 * (r >> 1) + (r & 1)
            index = code.resized(code.op("add", start, i32(shift)), "i64")
            at = code.at(c, index, kind)
            if shape.accumulator != "f16":
                value = code.load(kind, place if into else at, 4)
                code.store(value, at if into else place, 4)
            elif into:
                value = code.load("i32", place, 4)
                for i in (0, 1):
                    code.store(element(code, value, "f16", i), code.at(at, 4 * i), 4)
            else:
                halves = [
                    code.resized(
                        rounding.to_half(code, code.load("float", code.at(at, 4 * i), 4)), "i32"
                    )
                    for i in (0, 1)
                ]
                both = code.op("or", halves[0], code.op("shl", halves[1], i32(16)))
                code.store(both, place, 4)


def multiply(code: Code, a: V, b: V, c: V, shape: Shape) -> None:
    """c += a b, a row of eight at a time."""
    kind = "float" if shape.is_float else "i32"
    vector = f"<8 x {kind}>"
    sums = code.alloca(vector, 32)
    with code.loop(i64(16)) as row:
        place = code.at(c, code.op("mul", row, i64(8)), kind)
        start = code.load(vector, place, 4)
        code.store(start if shape.is_float else V(vector, "zeroinitializer"), sums, 32)
        with code.loop(i64(shape.depth)) as k:
            index = code.op("add", code.op("mul", row, i64(shape.depth)), k)
            left = code.load(kind, code.at(a, index, kind), 4)
            one = code.let(vector, f"insertelement {vector} poison, {left}, i32 0")
            lanes = "<8 x i32> zeroinitializer"
            splat = code.let(vector, f"shufflevector {one}, {vector} poison, {lanes}")
            right = code.load(vector, code.at(b, code.op("mul", k, i64(8)), kind), 4)
            now = code.load(vector, sums, 32)
            code.store(_multiplied(code, splat, right, now, shape), sums, 32)
        total = code.load(vector, sums, 32)
        if not shape.is_float:
            if shape.saturates:
                total = code.call(vector, "llvm.sadd.sat.v8i32", start, total)
            else:
                total = code.op("add", start, total)
        code.store(total, place, 4)


def _multiplied(code: Code, a: V, b: V, sums: V, shape: Shape) -> V:
    if shape.is_float:
        return code.call(sums.type, "llvm.fma.v8f32", a, b, sums)
    if shape.bitwise:
        bits = code.op(shape.bitwise, a, b)
        return code.op("add", sums, code.call(sums.type, "llvm.ctpop.v8i32", bits))
    return code.op("add", sums, code.op("mul", a, b))
