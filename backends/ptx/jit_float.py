"""Floating-point instructions of PTX as LLVM IR: f32, f64, f16, bf16 and pairs of them.

Enters: a `Step` and an instruction. Leaves: code. 16-bit types are computed in a wider type and
rounded once; approximations (`ex2.approx`, ...) are as exact as the C library's functions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hectorite.backends.ptx import jit_rounding as rounding
from hectorite.backends.ptx.jit_integer import (
    COMPARISONS,
    INTEGER,
    operands,
    pair_of,
    relation,
    type_of,
)
from hectorite.backends.ptx.jit_step import Handler, Step
from hectorite.backends.ptx.jit_text import TRUE, Code, V, f32, f64, i32, i64, integer, width
from hectorite.backends.ptx.jit_values import STORAGE
from hectorite.ir.ptx.syntax import Instruction, Negated, Register

FLOAT_TYPES = frozenset({"f16", "bf16", "f32", "f64", "f16x2", "bf16x2", "f32x2"})
DIRECTIONS = ("rz", "rm", "rp")
Compute = Callable[[Code, Sequence[V]], V]


def simple(name: str) -> Compute:
    return lambda code, v: code.op(name, v[0], v[1])


def intrinsic(name: str) -> Compute:
    def compute(code: Code, v: Sequence[V]) -> V:
        kind = "f32" if v[0].type == "float" else "f64"
        return code.call(v[0].type, f"llvm.{name}.{kind}", *v)

    return compute


def reciprocal(code: Code, v: Sequence[V]) -> V:
    return code.op("fdiv", f32(1.0) if v[0].type == "float" else f64(1.0), v[0])


def inverse_root(code: Code, v: Sequence[V]) -> V:
    """1/sqrt(x), rounded once from f64 for an f32."""
    if v[0].type == "double":
        return reciprocal(code, [intrinsic("sqrt")(code, v)])
    root = intrinsic("sqrt")(code, [code.cast("fpext", v[0], "double")])
    return code.cast("fptrunc", reciprocal(code, [root]), "float")


def hyperbolic_tangent(code: Code, v: Sequence[V]) -> V:
    return code.call(v[0].type, "tanhf" if v[0].type == "float" else "tanh", v[0])


def library(name: str, log_scale: bool = False) -> Compute:
    """A function of the C library; ex2 and lg2 by way of e."""
    wide_log2 = f64(0.6931471805599453)

    def compute(code: Code, v: Sequence[V]) -> V:
        wide = v[0] if v[0].type == "double" else code.cast("fpext", v[0], "double")
        if log_scale and name == "exp":
            wide = code.op("fmul", wide, wide_log2)
        result = code.call("double", name, wide)
        if log_scale and name == "log":
            result = code.op("fdiv", result, wide_log2)
        return result if v[0].type == "double" else code.cast("fptrunc", result, "float")

    return compute


def power_of_two(code: Code, v: Sequence[V]) -> V:
    """2**x for an f32: 2 to the whole part is exact, so whole numbers give exact results."""
    if v[0].type == "double":
        return library("exp", True)(code, v)
    x = code.cast("fpext", v[0], "double")
    whole = code.call("double", "llvm.roundeven.f64", x)
    rest = code.op("fmul", code.op("fsub", x, whole), f64(0.6931471805599453))
    # The C library's `exp` is called only between -0.35 and 0.35; the series there is as exact.
    series = f64(0.0)
    factorial = 1.0
    terms = [1.0]
    for k in range(1, 12):
        factorial *= k
        terms.append(1.0 / factorial)
    for term in reversed(terms):
        series = code.call("double", "llvm.fma.f64", series, rest, f64(term))
    held = code.call("double", "llvm.maxnum.f64", whole, f64(-1000.0))
    held = code.call("double", "llvm.minnum.f64", held, f64(1000.0))
    exponent = code.op("add", rounding.to_integer(code, held, 64, True), i64(1023))
    scale = code.bits(code.op("shl", exponent, i64(52)), "double")
    result = code.cast("fptrunc", code.op("fmul", series, scale), "float")
    size = code.call("float", "llvm.fabs.f32", v[0])
    huge = code.compare("oge", size, f32(1000.0))
    above = code.compare("ogt", v[0], f32(0.0))
    end = code.select(above, f32(float("inf")), f32(0.0))
    return code.select(huge, end, result)


ONE: dict[str, Compute] = {
    "neg": lambda code, v: code.let(v[0].type, f"fneg {v[0]}"),
    "abs": intrinsic("fabs"),
    "sqrt": intrinsic("sqrt"),
    "rcp": reciprocal,
    "rsqrt": inverse_root,
    "sin": library("sin"),
    "cos": library("cos"),
    "lg2": library("log", True),
    "ex2": power_of_two,
    "tanh": hyperbolic_tangent,
}
TWO: dict[str, Compute] = {
    "add": simple("fadd"),
    "sub": simple("fsub"),
    "mul": simple("fmul"),
    "div": simple("fdiv"),
    "copysign": lambda code, v: intrinsic("copysign")(code, [v[1], v[0]]),
}
THREE: dict[str, Compute] = {"fma": intrinsic("fma"), "mad": intrinsic("fma")}
ARITY = {**dict.fromkeys(ONE, 1), **dict.fromkeys((*TWO, "min", "max"), 2),
         **dict.fromkeys(THREE, 3)}  # fmt: skip


def arithmetic(step: Step, instruction: Instruction) -> None:
    """Any instruction that computes one float from one to three."""
    type = type_of(instruction)
    count = len(instruction.operands) - 1
    values = operands(step, instruction, STORAGE[type])
    if count != ARITY[instruction.name] and instruction.name not in ("min", "max"):
        raise step.wrong(instruction, f"{count} operands")
    step.write(instruction.operands[0], computed(step, instruction, type, values))


def computed(step: Step, instruction: Instruction, type: str, values: Sequence[V]) -> V:
    """The result, as the bits in which `type` is kept."""
    code = step.code
    if type in ("f16x2", "bf16x2", "f32x2"):
        part = "i32" if type == "f32x2" else "i16"
        halves = [
            computed(step, instruction, type[:-2], [_half(code, v, part, i, type) for v in values])
            for i in (0, 1)
        ]
        wide = f"i{2 * width(part)}"
        low, high = (code.resized(code.bits(h, part), wide) for h in halves)
        return code.op("or", low, code.op("shl", high, integer(width(wide), width(part))))
    if type in ("f16", "bf16"):
        return _narrow(step, instruction, type, values)
    return full(step, instruction, type, values)


def _half(code: Code, value: V, part: str, index: int, type: str) -> V:
    bits = width(part)
    moved = code.op("lshr", value, integer(2 * bits, bits)) if index else value
    cut = code.resized(moved, part)
    return code.bits(cut, "float") if type == "f32x2" else cut


def widened(code: Code, type: str, value: V) -> V:
    """The bits of an f16 or bf16 as an f32."""
    convert = rounding.half_to_float if type == "f16" else rounding.bfloat_to_float
    return convert(code, value)


def narrowed(code: Code, type: str, value: V, mode: str = "rn") -> V:
    convert = rounding.to_half if type == "f16" else rounding.to_bfloat
    return convert(code, value, mode)


SIGN_ONLY = frozenset({"neg", "abs"})


def _narrow(step: Step, instruction: Instruction, type: str, values: Sequence[V]) -> V:
    """16-bit arithmetic. f32 is wide enough for one operation on 16-bit numbers; `fma` needs
    f64 for its product and sum."""
    code, name = step.code, instruction.name
    if name in SIGN_ONLY:
        both = (values[0], integer(16, 0x7FFF if name == "abs" else 0x8000))
        return code.op("and" if name == "abs" else "xor", *both)
    wide = [widened(code, type, value) for value in values]
    if name in ("min", "max"):
        return narrowed(code, type, _extreme(code, instruction, wide))
    if name == "fma":
        wide = [code.cast("fpext", value, "double") for value in wide]
    compute = {**ONE, **TWO, **THREE}[name]
    result = narrowed(code, type, compute(code, wide))
    if "sat" in instruction.suffix or "relu" in instruction.suffix:
        back = widened(code, type, result)
        limited = rounding.saturated if "sat" in instruction.suffix else _relu
        back = limited(code, back)
        result = narrowed(code, type, back)
    return result


def _relu(code: Code, value: V) -> V:
    """What is below 0 becomes 0; NaN stays."""
    zero = f32(0.0) if value.type == "float" else f64(0.0)
    return code.select(code.compare("olt", value, zero), zero, value)


def full(step: Step, instruction: Instruction, type: str, values: Sequence[V]) -> V:
    """f32 and f64 arithmetic."""
    code, suffix, name = step.code, instruction.suffix, instruction.name
    ftz = "ftz" in suffix
    if ftz and name not in SIGN_ONLY:
        values = [rounding.flushed(code, value) for value in values]
    mode = next((part for part in suffix if part in DIRECTIONS), None)
    if name in ("min", "max"):
        result = _extreme(code, instruction, values)
    elif mode is not None:
        result = _directed(step, instruction, values, mode)
    else:
        compute = {**ONE, **TWO, **THREE}[name]
        result = compute(code, values)
    if "sat" in suffix:
        result = rounding.saturated(code, result)
    if "relu" in suffix:
        result = _relu(code, result)
    return rounding.flushed(code, result) if ftz else result


def _extreme(code: Code, instruction: Instruction, values: Sequence[V]) -> V:
    """min, max: of two or three; -0 is below 0; NaN loses, or with `.NaN` wins."""
    propagates = "NaN" in instruction.suffix
    # `minimumnum` orders zeros and drops NaN; `minimum` orders zeros and keeps NaN.
    name = f"{instruction.name}imum{'' if propagates else 'num'}"
    result = values[0]
    for value in values[1:]:
        result = intrinsic(name)(code, [result, value])
    if "xorsign" in instruction.suffix:
        sizes = [intrinsic("fabs")(code, [value]) for value in values]
        result = intrinsic(name)(code, sizes)
        signs = [code.bits(value, "i32") for value in values]
        sign = code.bits(code.op("xor", signs[0], signs[1]), "float")
        result = intrinsic("copysign")(code, [result, sign])
    return result


def _directed(step: Step, instruction: Instruction, values: Sequence[V], mode: str) -> V:
    """f32 arithmetic rounded towards zero, down or up: in f64, with the sign of what is lost."""
    code, name = step.code, instruction.name
    if values[0].type != "float":
        raise step.wrong(instruction, "directed rounding of f64")
    wide = [code.cast("fpext", value, "double") for value in values]
    zero = f64(0.0)
    if name in ("add", "sub"):
        other = code.let("double", f"fneg {wide[1]}") if name == "sub" else wide[1]
        total, error = rounding.two_sum(code, wide[0], other)
    elif name in ("mul", "fma", "mad"):
        total, error = code.op("fmul", wide[0], wide[1]), zero  # exact
        if name != "mul":
            total, error = rounding.two_sum(code, total, wide[2])
    elif name in ("div", "rcp"):
        top, bottom = (f64(1.0), wide[0]) if name == "rcp" else (wide[0], wide[1])
        total = code.op("fdiv", top, bottom)
        negative = code.let("double", f"fneg {total}")
        rest = code.call("double", "llvm.fma.f64", negative, bottom, top)
        error = code.op("fmul", rest, bottom)
    elif name == "sqrt":
        total = code.call("double", "llvm.sqrt.f64", wide[0])
        negative = code.let("double", f"fneg {total}")
        error = code.call("double", "llvm.fma.f64", negative, total, wide[0])
    else:
        raise step.wrong(instruction, f"rounding `{mode}`")
    return rounding.directed(code, total, error, mode)


FLOAT_RELATIONS = {
    **{name: f"o{name}" for name in ("lt", "le", "gt", "ge", "eq")},
    "ne": "one",
    "equ": "ueq",
    "neu": "une",
    **{f"{name}u": f"u{name}" for name in ("lt", "le", "gt", "ge")},
    "num": "ord",
    "nan": "uno",
}


def compared(step: Step, instruction: Instruction, type: str, a: V, b: V) -> V:
    """The relation of `setp` or `set` between two values, an i1."""
    code = step.code
    word = next(p for p in instruction.suffix if p in COMPARISONS or p in FLOAT_RELATIONS)
    if type not in FLOAT_TYPES:
        return relation(step, instruction, word, type, a, b)
    if type in ("f16", "bf16"):
        a, b = (widened(code, type, value) for value in (a, b))
    elif "ftz" in instruction.suffix:
        a, b = (rounding.flushed(code, value) for value in (a, b))
    return code.compare(FLOAT_RELATIONS[word], a, b)


def _combined(step: Step, instruction: Instruction, holds: V, at: int) -> V:
    """`.and`, `.or`, `.xor` with the predicate that is operand `at`, if there is one."""
    if len(instruction.operands) <= at:
        return holds
    how = next((part for part in instruction.suffix if part in ("and", "or", "xor")), None)
    operand = instruction.operands[at]
    if how is None or not isinstance(operand, Register | Negated):
        raise step.wrong(instruction, "a predicate without `.and`, `.or` or `.xor`")
    return step.code.op(how, holds, step.read(operand, "i1"))


def set_predicate(step: Step, instruction: Instruction) -> None:
    type = type_of(instruction)
    code = step.code
    a, b = (step.read(operand, STORAGE[type]) for operand in instruction.operands[1:3])
    first, second = pair_of(instruction.operands[0])
    if type in ("f16x2", "bf16x2"):
        parts = [[_half(code, v, "i16", i, type) for v in (a, b)] for i in (0, 1)]
        results = [compared(step, instruction, type[:-2], *pair) for pair in parts]
        for operand, result in zip((first, second), results, strict=True):
            if operand is not None:
                step.write(operand, _combined(step, instruction, result, 3))
        return
    holds = compared(step, instruction, type, a, b)
    result = _combined(step, instruction, holds, 3)
    if second is not None:
        opposite = _combined(step, instruction, code.op("xor", holds, TRUE), 3)
        step.write(second, opposite)
    step.write(first, result)


def set_value(step: Step, instruction: Instruction) -> None:
    """set: all ones or 0 of an integer type, 1.0 or 0.0 of a float type."""
    wanted, type = type_of(instruction, 0), type_of(instruction)
    code = step.code
    a, b = (step.read(operand, STORAGE[type]) for operand in instruction.operands[1:3])
    if type in ("f16x2", "bf16x2"):
        result = i32(0)
        for i in (0, 1):
            pair = [_half(code, v, "i16", i, type) for v in (a, b)]
            holds = compared(step, instruction, type[:-2], *pair)
            one = {"f16x2": 0x3C00, "bf16x2": 0x3F80}.get(wanted, 0xFFFF)
            result = code.op("or", result, code.select(holds, i32(one << 16 * i), i32(0)))
        step.write(instruction.operands[0], result)
        return
    holds = _combined(step, instruction, compared(step, instruction, type, a, b), 3)
    ones = {"f32": i32(0x3F800000), "f16": integer(16, 0x3C00), "bf16": integer(16, 0x3F80)}
    yes = ones.get(wanted) or integer(width(STORAGE[wanted]), -1)
    result = code.select(holds, yes, integer(width(yes.type), 0))
    step.write(instruction.operands[0], result)


def choose(step: Step, instruction: Instruction) -> None:
    """selp."""
    type = STORAGE[type_of(instruction)]
    a, b = (step.read(operand, type) for operand in instruction.operands[1:3])
    condition = step.read(instruction.operands[3], "i1")
    step.write(instruction.operands[0], step.code.select(condition, a, b))


def choose_by_sign(step: Step, instruction: Instruction) -> None:
    """slct: the first where the third is at least 0."""
    type, by = STORAGE[type_of(instruction, 0)], type_of(instruction)
    a, b = (step.read(operand, type) for operand in instruction.operands[1:3])
    c = step.read(instruction.operands[3], STORAGE[by])
    code = step.code
    if by == "f32":
        if "ftz" in instruction.suffix:
            c = rounding.flushed(code, c)
        holds = code.compare("oge", c, f32(0.0))
    else:
        holds = code.compare("sge", c, i32(0))
    step.write(instruction.operands[0], code.select(holds, a, b))


def test_property(step: Step, instruction: Instruction) -> None:
    """testp."""
    type = type_of(instruction)
    (a,) = operands(step, instruction, STORAGE[type])
    code, kind = step.code, instruction.suffix[0]
    number = {"nan": 0x3, "infinite": 0x204, "finite": 0x1F8, "number": 0x3FC,
              "normal": 0x108, "subnormal": 0x90}[kind]  # fmt: skip
    test = f"llvm.is.fpclass.{'f32' if a.type == 'float' else 'f64'}"
    step.write(instruction.operands[0], code.call("i1", test, a, i32(number)))


def by_type(step: Step, instruction: Instruction) -> None:
    """Instructions that exist for integers and floats."""
    table = FLOAT if type_of(instruction) in FLOAT_TYPES else INTEGER
    table[instruction.name](step, instruction)


FLOAT: dict[str, Handler] = dict.fromkeys(ARITY, arithmetic)
ARITHMETIC: dict[str, Handler] = {
    **INTEGER,
    **dict.fromkeys(FLOAT, by_type),
    "setp": set_predicate,
    "set": set_value,
    "selp": choose,
    "slct": choose_by_sign,
    "testp": test_property,
}
