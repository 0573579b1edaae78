"""Integer, logic and bit instructions of PTX as LLVM IR.

Enters: a `Step` and an instruction. Leaves: code. What PTX leaves open is what GPUs do: a division
by zero gives all ones, a remainder by zero the dividend.
"""

from __future__ import annotations

from collections.abc import Callable

from hectorite.backends.ptx.jit_step import Handler, Step
from hectorite.backends.ptx.jit_text import Code, V, i32, i64, integer, width
from hectorite.backends.ptx.jit_values import STORAGE
from hectorite.ir.ptx.syntax import Immediate, Instruction, Operand, Pair

SIGNED = frozenset({"s8", "s16", "s32", "s64"})
CARRY = V("ptr", '%"r:%cc"')


def type_of(instruction: Instruction, number: int = -1) -> str:
    """A type in the suffix: the last one, or the one at `number`."""
    return [part for part in instruction.suffix if part in STORAGE][number]


def operands(step: Step, instruction: Instruction, type: str, first: int = 1) -> list[V]:
    """The operands from number `first` on, as values of an LLVM type."""
    return [step.read(operand, type) for operand in instruction.operands[first:]]


def double(code: Code, value: V, signed: bool) -> V:
    """An integer in twice the bits."""
    return code.resized(value, f"i{2 * width(value.type)}", signed)


def product(code: Code, instruction: Instruction, a: V, b: V) -> V:
    """`lo`, `hi` or `wide` of a product."""
    signed = type_of(instruction) in SIGNED
    if "lo" in instruction.suffix or not {"hi", "wide"} & set(instruction.suffix):
        return code.op("mul", a, b)
    wide = code.op("mul", double(code, a, signed), double(code, b, signed))
    if "wide" in instruction.suffix:
        return wide
    high = code.op("lshr", wide, integer(width(wide.type), width(a.type)))
    return code.resized(high, a.type)


def add(step: Step, instruction: Instruction) -> None:
    """add, sub, with saturation, and with carry out."""
    type = type_of(instruction)
    lanes = _halves(type)
    a, b = operands(step, instruction, STORAGE[type])
    code, name = step.code, instruction.name
    if lanes:
        step.write(instruction.operands[0], _in_halves(code, name, a, b))
    elif "sat" in instruction.suffix:
        intrinsic = f"llvm.{'s' if type in SIGNED else 'u'}{name}.sat.{a.type}"
        step.write(instruction.operands[0], code.call(a.type, intrinsic, a, b))
    else:
        result = code.op(name, a, b)
        if "cc" in instruction.suffix:
            carry = ("ult", result, a) if name == "add" else ("ult", a, b)
            code.store(code.compare(*carry), CARRY)
        step.write(instruction.operands[0], result)


def _halves(type: str) -> bool:
    return type in ("s16x2", "u16x2")


def _in_halves(code: Code, name: str, a: V, b: V) -> V:
    pair = [code.bits(value, "<2 x i16>") for value in (a, b)]
    return code.bits(code.op(name, pair[0], pair[1]), "i32")


def add_carry(step: Step, instruction: Instruction) -> None:
    """addc, subc: with the carry of the instruction before."""
    type = STORAGE[type_of(instruction)]
    code, bits = step.code, width(type)
    a, b = (code.resized(v, f"i{2 * bits}") for v in operands(step, instruction, type))
    name = instruction.name[:3]
    carry = code.resized(code.load("i1", CARRY), f"i{2 * bits}")
    wide = code.op(name, code.op(name, a, b), carry)
    if "cc" in instruction.suffix:
        above = code.op("lshr", wide, integer(2 * bits, bits))
        code.store(code.compare("ne", above, integer(2 * bits, 0)), CARRY)
    step.write(instruction.operands[0], code.resized(wide, type))


def multiply(step: Step, instruction: Instruction) -> None:
    a, b = operands(step, instruction, STORAGE[type_of(instruction)])
    result = product(step.code, instruction, a, b)
    step.write(instruction.operands[0], result, type_of(instruction) in SIGNED)


def multiply_add(step: Step, instruction: Instruction) -> None:
    """mad and, with the carry of the instruction before, madc."""
    type = STORAGE[type_of(instruction)]
    a, b = (step.read(operand, type) for operand in instruction.operands[1:3])
    code = step.code
    result = product(code, instruction, a, b)
    c = step.read(instruction.operands[3], result.type)
    if "sat" in instruction.suffix:
        step.write(instruction.operands[0], code.call("i32", "llvm.sadd.sat.i32", result, c))
        return
    bits = width(result.type)
    wide = code.op("add", double(code, result, False), double(code, c, False))
    if instruction.name == "madc":
        carry = code.resized(code.load("i1", CARRY), wide.type)
        wide = code.op("add", wide, carry)
    if "cc" in instruction.suffix:
        above = code.op("lshr", wide, integer(2 * bits, bits))
        code.store(code.compare("ne", above, integer(2 * bits, 0)), CARRY)
    if instruction.name == "madc":
        step.write(instruction.operands[0], code.resized(wide, result.type))
        return
    step.write(instruction.operands[0], code.op("add", result, c))


def multiply_24(step: Step, instruction: Instruction) -> None:
    """mul24, mad24: of the low 24 bits."""
    code, signed = step.code, type_of(instruction) in SIGNED

    def low(operand: Operand) -> V:
        value = step.read(operand, "i32")
        shifted = code.op("shl", value, i32(8))
        return code.resized(code.op("ashr" if signed else "lshr", shifted, i32(8)), "i64", signed)

    wide = code.op("mul", low(instruction.operands[1]), low(instruction.operands[2]))
    if "hi" in instruction.suffix:
        wide = code.op("lshr", wide, i64(16))
    result = code.resized(wide, "i32")
    if instruction.name == "mad24":
        result = code.op("add", result, step.read(instruction.operands[3], "i32"))
    step.write(instruction.operands[0], result)


def divide(step: Step, instruction: Instruction) -> None:
    """div, rem: no case stops the machine."""
    type = type_of(instruction)
    a, b = operands(step, instruction, STORAGE[type])
    code, bits = step.code, width(a.type)
    zero, ones = integer(bits, 0), integer(bits, -1)
    by_zero = code.compare("eq", b, zero)
    divisor = code.select(by_zero, integer(bits, 1), b)
    if type not in SIGNED:
        result = code.op("udiv" if instruction.name == "div" else "urem", a, divisor)
    else:
        # The one overflow: the least number by -1.
        negated = code.compare("eq", divisor, ones)
        safe = code.select(negated, integer(bits, 1), divisor)
        result = code.op("sdiv" if instruction.name == "div" else "srem", a, safe)
        other = code.op("sub", zero, a) if instruction.name == "div" else zero
        result = code.select(negated, other, result)
    result = code.select(by_zero, ones if instruction.name == "div" else a, result)
    step.write(instruction.operands[0], result)


def least(step: Step, instruction: Instruction) -> None:
    """min, max."""
    type = type_of(instruction)
    a, b = operands(step, instruction, STORAGE[type])
    code = step.code
    if _halves(type):
        pair = [code.bits(value, "<2 x i16>") for value in (a, b)]
        intrinsic = f"llvm.{type[0]}{instruction.name}.v2i16"
        result = code.bits(code.call("<2 x i16>", intrinsic, *pair), "i32")
    else:
        sign = "s" if type in SIGNED else "u"
        result = code.call(a.type, f"llvm.{sign}{instruction.name}.{a.type}", a, b)
    if "relu" in instruction.suffix:
        result = code.call(a.type, f"llvm.smax.{a.type}", result, integer(width(a.type), 0))
    step.write(instruction.operands[0], result)


def absolute(step: Step, instruction: Instruction) -> None:
    (a,) = operands(step, instruction, STORAGE[type_of(instruction)])
    code, zero = step.code, integer(width(a.type), 0)
    negative = code.op("sub", zero, a)
    if instruction.name == "abs":
        negative = code.select(code.compare("slt", a, zero), negative, a)
    step.write(instruction.operands[0], negative)


def difference(step: Step, instruction: Instruction) -> None:
    """sad: the third operand plus how far the first two are apart."""
    type = type_of(instruction)
    a, b, c = operands(step, instruction, STORAGE[type])
    code, sign = step.code, "s" if type in SIGNED else "u"
    most = code.call(a.type, f"llvm.{sign}max.{a.type}", a, b)
    less = code.call(a.type, f"llvm.{sign}min.{a.type}", a, b)
    step.write(instruction.operands[0], code.op("add", c, code.op("sub", most, less)))


def logic(step: Step, instruction: Instruction) -> None:
    """and, or, xor."""
    a, b = operands(step, instruction, STORAGE[type_of(instruction)])
    step.write(instruction.operands[0], step.code.op(instruction.name, a, b))


def invert(step: Step, instruction: Instruction) -> None:
    """not, and cnot: 1 for zero, else 0."""
    (a,) = operands(step, instruction, STORAGE[type_of(instruction)])
    code = step.code
    if instruction.name == "cnot":
        is_zero = code.compare("eq", a, integer(width(a.type), 0))
        step.write(instruction.operands[0], code.resized(is_zero, a.type))
        return
    step.write(instruction.operands[0], code.op("xor", a, integer(width(a.type), -1)))


def lookup(step: Step, instruction: Instruction) -> None:
    """lop3: any function of three bits, by its table of eight."""
    code = step.code
    a, b, c = (step.read(operand, "i32") for operand in instruction.operands[1:4])
    table = instruction.operands[4]
    if not isinstance(table, Immediate) or not isinstance(table.value, int):
        raise step.wrong(instruction, "a table that is no number")
    result = i32(0)
    for row in range(8):
        if table.value >> row & 1:
            bits = [
                value if row & place else code.op("xor", value, i32(-1))
                for value, place in ((a, 4), (b, 2), (c, 1))
            ]
            both = code.op("and", bits[0], bits[1])
            result = code.op("or", result, code.op("and", both, bits[2]))
    step.write(instruction.operands[0], result)


def shift(step: Step, instruction: Instruction) -> None:
    """shl, shr: by more than the width gives 0, or copies of the sign."""
    type = type_of(instruction)
    a = step.read(instruction.operands[1], STORAGE[type])
    by = step.read(instruction.operands[2], "i32")
    code, bits = step.code, width(a.type)
    too_far = code.compare("uge", by, i32(bits))
    signed = instruction.name == "shr" and type in SIGNED
    limited = code.select(too_far, i32(bits - 1 if signed else 0), by)
    name = "shl" if instruction.name == "shl" else ("ashr" if signed else "lshr")
    result = code.op(name, a, code.resized(limited, a.type))
    if not signed:
        result = code.select(too_far, integer(bits, 0), result)
    step.write(instruction.operands[0], result)


def funnel(step: Step, instruction: Instruction) -> None:
    """shf: 32 bits out of the 64 of two registers."""
    low, high, by = operands(step, instruction, "i32")
    code = step.code
    to_left = "l" in instruction.suffix
    if "wrap" in instruction.suffix:
        amount = code.op("and", by, i32(31))
    else:
        amount = code.call("i32", "llvm.umin.i32", by, i32(32))
    wide = code.op("shl", code.resized(high, "i64"), i64(32))
    wide = code.op("or", wide, code.resized(low, "i64"))
    distance = code.resized(amount, "i64")
    if to_left:
        wide = code.op("lshr", code.op("shl", wide, distance), i64(32))
    else:
        wide = code.op("lshr", wide, distance)
    step.write(instruction.operands[0], code.resized(wide, "i32"))


def permute(step: Step, instruction: Instruction) -> None:
    """prmt: four bytes chosen out of eight."""
    code = step.code
    a, b, selector = operands(step, instruction, "i32")
    wide = code.op("shl", code.resized(b, "i64"), i64(32))
    wide = code.op("or", wide, code.resized(a, "i64"))
    mode = next((part for part in instruction.suffix if part in PERMUTE_MODES), None)
    result = i32(0)
    for byte in range(4):
        chosen = _chosen_byte(code, selector, mode, byte)
        index = code.resized(code.op("and", chosen, i32(7)), "i64")
        piece = code.op("lshr", wide, code.op("shl", index, i64(3)))
        piece = code.op("and", code.resized(piece, "i32"), i32(255))
        if mode is None:  # bit 3 of a selector: copies of the sign instead
            replicate = code.compare("ne", code.op("and", chosen, i32(8)), i32(0))
            negative = code.compare("ne", code.op("and", piece, i32(128)), i32(0))
            piece = code.select(replicate, code.select(negative, i32(255), i32(0)), piece)
        result = code.op("or", result, code.op("shl", piece, i32(8 * byte)))
    step.write(instruction.operands[0], result)


PERMUTE_MODES: dict[str, Callable[[int, int], int]] = {
    "f4e": lambda s, i: (s + i) & 7,
    "b4e": lambda s, i: (s - i) & 7,
    "rc8": lambda s, i: s,
    "ecl": lambda s, i: max(s, i),
    "ecr": lambda s, i: min(s, i),
    "rc16": lambda s, i: (2 * (s & 1)) + (i & 1),
}


def _chosen_byte(code: Code, selector: V, mode: str | None, byte: int) -> V:
    if mode is None:
        return code.op("lshr", selector, i32(4 * byte))
    case = code.op("and", selector, i32(3))
    result = i32(PERMUTE_MODES[mode](0, byte))
    for number in (1, 2, 3):
        is_it = code.compare("eq", case, i32(number))
        result = code.select(is_it, i32(PERMUTE_MODES[mode](number, byte)), result)
    return result


def counted(step: Step, instruction: Instruction) -> None:
    """popc, clz, brev, bfind."""
    type = type_of(instruction)
    (a,) = operands(step, instruction, STORAGE[type])
    code, bits = step.code, width(a.type)
    if instruction.name == "popc":
        result = code.call(a.type, f"llvm.ctpop.{a.type}", a)
    elif instruction.name == "clz":
        result = code.call(a.type, f"llvm.ctlz.{a.type}", a, V("i1", "false"))
    elif instruction.name == "brev":
        result = code.call(a.type, f"llvm.bitreverse.{a.type}", a)
        step.write(instruction.operands[0], result)
        return
    else:
        if type in SIGNED:
            a = code.op("xor", a, code.op("ashr", a, integer(bits, bits - 1)))
        zeros = code.call(a.type, f"llvm.ctlz.{a.type}", a, V("i1", "false"))
        start = zeros if "shiftamt" in instruction.suffix else code.op(
            "sub", integer(bits, bits - 1), zeros
        )  # fmt: skip
        none = code.compare("eq", a, integer(bits, 0))
        result = code.select(none, integer(bits, -1), start)
    step.write(instruction.operands[0], code.resized(result, "i32", True))


def extract(step: Step, instruction: Instruction) -> None:
    """bfe: a field of bits, with its sign where the type has one."""
    type = type_of(instruction)
    a = step.read(instruction.operands[1], STORAGE[type])
    bits = width(a.type)
    code = step.code
    position, length = (
        code.op("and", step.read(operand, "i32"), i32(255)) for operand in instruction.operands[2:4]
    )
    # The field is moved to the top and back down, in twice the bits, so that no shift is too wide.
    signed, wide = type in SIGNED, f"i{2 * bits}"
    position = code.call("i32", "llvm.umin.i32", position, i32(2 * bits - 1))
    shift_down = code.resized(position, wide)
    down = code.op("ashr" if signed else "lshr", code.resized(a, wide, signed), shift_down)
    kept = code.call("i32", "llvm.umin.i32", length, i32(bits))
    none = code.compare("eq", kept, i32(0))
    up = code.resized(code.select(none, i32(0), code.op("sub", i32(2 * bits), kept)), wide)
    moved = code.op("ashr" if signed else "lshr", code.op("shl", down, up), up)
    result = code.select(none, integer(bits, 0), code.resized(moved, a.type))
    step.write(instruction.operands[0], result)


def insert(step: Step, instruction: Instruction) -> None:
    """bfi: the low bits of one register in place of a field of another."""
    type = STORAGE[type_of(instruction)]
    a, b = (step.read(operand, type) for operand in instruction.operands[1:3])
    code, bits = step.code, width(type)
    wide = f"i{2 * bits}"
    position, length = (
        code.call("i32", "llvm.umin.i32", code.op("and", value, i32(255)), i32(bits))
        for value in (step.read(operand, "i32") for operand in instruction.operands[3:5])
    )
    position, length = code.resized(position, wide), code.resized(length, wide)
    one = integer(2 * bits, 1)
    ones = code.op("sub", code.op("shl", one, length), one)
    mask = code.resized(code.op("shl", ones, position), type)
    field = code.resized(code.op("shl", code.resized(a, wide), position), type)
    kept = code.op("and", b, code.op("xor", mask, integer(width(type), -1)))
    step.write(instruction.operands[0], code.op("or", kept, code.op("and", field, mask)))


def mask_of_bits(step: Step, instruction: Instruction) -> None:
    """bmsk: `length` ones from a position on."""
    a, b = operands(step, instruction, "i32")
    code = step.code
    if "wrap" in instruction.suffix:
        a, b = (code.op("and", value, i32(31)) for value in (a, b))
    else:
        a, b = (code.call("i32", "llvm.umin.i32", value, i32(32)) for value in (a, b))
    one = i64(1)
    ones = code.op("sub", code.op("shl", one, code.resized(b, "i64")), one)
    result = code.op("shl", ones, code.resized(a, "i64"))
    step.write(instruction.operands[0], code.resized(result, "i32"))


def sign_extend(step: Step, instruction: Instruction) -> None:
    """szext: the low bits with their sign, or with zeros."""
    a, b = operands(step, instruction, "i32")
    code, signed = step.code, type_of(instruction) in SIGNED
    if "wrap" in instruction.suffix:
        b = code.op("and", b, i32(31))
    kept = code.call("i32", "llvm.umin.i32", b, i32(32))
    up = code.resized(code.op("sub", i32(64), kept), "i64")
    nothing = code.compare("eq", kept, i32(0))
    up = code.select(nothing, i64(0), up)
    moved = code.op("ashr" if signed else "lshr", code.op("shl", code.resized(a, "i64"), up), up)
    result = code.select(nothing, i32(0), code.resized(moved, "i32"))
    step.write(instruction.operands[0], result)


def dot(step: Step, instruction: Instruction) -> None:
    """dp4a, dp2a: products of bytes, or of halves and bytes, added up."""
    code = step.code
    types = [part for part in instruction.suffix if part in ("s32", "u32")]
    a, b, c = operands(step, instruction, "i32")
    count = 4 if instruction.name == "dp4a" else 2
    half = 2 if "hi" in instruction.suffix else 0
    result = c
    for index in range(count):
        left = _piece(code, a, index, 32 // count, types[0] == "s32")
        right = _piece(code, b, index + (half if count == 2 else 0), 8, types[-1] == "s32")
        result = code.op("add", result, code.op("mul", left, right))
    step.write(instruction.operands[0], result)


def _piece(code: Code, value: V, index: int, bits: int, signed: bool) -> V:
    moved = code.op("shl", value, i32(32 - bits * (index + 1)))
    return code.op("ashr" if signed else "lshr", moved, i32(32 - bits))


COMPARISONS = {
    **{name: (name, f"s{name}", f"u{name}") for name in ("lt", "le", "gt", "ge")},
    "lo": ("lt", "ult", "ult"),
    "ls": ("le", "ule", "ule"),
    "hi": ("gt", "ugt", "ugt"),
    "hs": ("ge", "uge", "uge"),
    "eq": ("eq", "eq", "eq"),
    "ne": ("ne", "ne", "ne"),
}


def relation(step: Step, instruction: Instruction, word: str, type: str, a: V, b: V) -> V:
    """Whether `a word b`, an i1. `type` is a PTX integer type."""
    _, signed, unsigned = COMPARISONS[word]
    return step.code.compare(signed if type in SIGNED else unsigned, a, b)


def pair_of(operand: Operand) -> tuple[Operand, Operand | None]:
    """The result, and the second one of `p|q`."""
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, None)


INTEGER: dict[str, Handler] = {
    **dict.fromkeys(("add", "sub"), add),
    **dict.fromkeys(("addc", "subc"), add_carry),
    "mul": multiply,
    **dict.fromkeys(("mad", "madc"), multiply_add),
    **dict.fromkeys(("mul24", "mad24"), multiply_24),
    **dict.fromkeys(("div", "rem"), divide),
    **dict.fromkeys(("min", "max"), least),
    **dict.fromkeys(("abs", "neg"), absolute),
    "sad": difference,
    **dict.fromkeys(("and", "or", "xor"), logic),
    **dict.fromkeys(("not", "cnot"), invert),
    "lop3": lookup,
    **dict.fromkeys(("shl", "shr"), shift),
    "shf": funnel,
    "prmt": permute,
    **dict.fromkeys(("popc", "clz", "brev", "bfind"), counted),
    "bfe": extract,
    "bfi": insert,
    "bmsk": mask_of_bits,
    "szext": sign_extend,
    **dict.fromkeys(("dp4a", "dp2a"), dot),
}
