"""Moves and conversions of PTX as LLVM IR: mov, cvt, cvta, isspacep.

Enters: a `Step` and an instruction. Leaves: code. A conversion between floats and integers holds
the result within its type, as GPUs do.
"""

from __future__ import annotations

from hectorite.backends.ptx import jit_rounding as rounding
from hectorite.backends.ptx.jit_float import FLOAT_TYPES, narrowed, widened
from hectorite.backends.ptx.jit_frame import Launch
from hectorite.backends.ptx.jit_integer import SIGNED, type_of
from hectorite.backends.ptx.jit_step import Handler, Step
from hectorite.backends.ptx.jit_text import V, f32, i32, i64, integer, width
from hectorite.backends.ptx.jit_values import STORAGE
from hectorite.ir.ptx.syntax import Braces, Instruction

ROUNDINGS = ("rn", "rz", "rm", "rp", "rna")
WHOLE = ("rni", "rzi", "rmi", "rpi")


def move(step: Step, instruction: Instruction) -> None:
    """mov, which also packs registers into a wider one and unpacks."""
    target, source = instruction.operands
    type = STORAGE[type_of(instruction)]
    if isinstance(source, Braces):
        step.write(target, _packed(step, source, type))
    elif isinstance(target, Braces):
        _unpack(step, target, step.read(source, type))
    else:
        step.write(target, step.read(source, type))


def _packed(step: Step, source: Braces, type: str) -> V:
    code = step.code
    whole = f"i{width(type)}"
    each = width(type) // len(source.items)
    result = integer(width(type), 0)
    for index, item in enumerate(source.items):
        part = code.resized(step.read(item, f"i{each}"), whole)
        moved = code.op("shl", part, integer(width(type), each * index))
        result = code.op("or", result, moved)
    return code.bits(result, type)


def _unpack(step: Step, target: Braces, value: V) -> None:
    code = step.code
    bits = width(value.type)
    whole = code.bits(value, f"i{bits}")
    each = bits // len(target.items)
    for index, item in enumerate(target.items):
        moved = code.op("lshr", whole, integer(bits, each * index))
        step.write(item, code.resized(moved, f"i{each}"))


def change_window(step: Step, instruction: Instruction) -> None:
    """cvta: addresses in shared and local memory become host addresses, and back."""
    target, source = instruction.operands
    value = step.read(source, "i64")
    space = next(p for p in instruction.suffix if p.partition("::")[0] in SPACES)
    space = space.partition("::")[0]
    if space in ("shared", "local"):
        window = _window(step, space)
        name = "sub" if "to" in instruction.suffix else "add"
        value = step.code.op(name, value, window)
    step.write(target, value)


SPACES = ("global", "shared", "local", "const", "param")


def _window(step: Step, space: str) -> V:
    name = "%shared" if space == "shared" else "%frame"
    return step.code.cast("ptrtoint", V("ptr", name), "i64")


def is_in_space(step: Step, instruction: Instruction) -> None:
    """isspacep."""
    code = step.code
    space = instruction.suffix[0].partition("::")[0]
    value = step.read(instruction.operands[1], "i64")

    def inside(start: V, size: V) -> V:
        return code.compare("ult", code.op("sub", value, start), size)

    shared = inside(_window(step, "shared"), step.slot(Launch.SHARED_BYTES))
    local = inside(_window(step, "local"), i64(max(step.frame_bytes, 1)))
    if space in ("shared", "local"):
        step.write(instruction.operands[0], shared if space == "shared" else local)
        return
    either = code.op("or", shared, local)
    result = code.op("xor", either, integer(1, 1))
    if space != "global":
        raise step.wrong(instruction)
    step.write(instruction.operands[0], result)


def convert(step: Step, instruction: Instruction) -> None:
    """cvt, by the kinds of its two types."""
    if instruction.suffix[0] == "pack":
        _pack_integers(step, instruction)
        return
    types = [part for part in instruction.suffix if part in STORAGE]
    wanted, given = types[0], types[1] if len(types) > 1 else types[0]
    target, sources = instruction.operands[0], instruction.operands[1:]
    if wanted in ("f16x2", "bf16x2", "e4m3x2", "e5m2x2") or given in ("e4m3x2", "e5m2x2"):
        _convert_pair(step, instruction, wanted, given)
        return
    mode = next((p for p in instruction.suffix if p in (*ROUNDINGS, *WHOLE)), None)
    source = step.read(sources[0], STORAGE[given])
    if given in FLOAT_TYPES:
        value = _from_float(step, instruction, source, given, wanted, mode)
        step.write(target, value, wanted in SIGNED)
    elif wanted in FLOAT_TYPES:
        step.write(target, _integer_to_float(step, instruction, source, given, wanted, mode))
    else:
        step.write(target, _integer(step, instruction, source, given, wanted), wanted in SIGNED)


def _integer(step: Step, instruction: Instruction, source: V, given: str, wanted: str) -> V:
    code, type = step.code, STORAGE[wanted]
    if "sat" not in instruction.suffix:
        return code.resized(source, type, given in SIGNED)
    # Held within both types, in more bits than either has.
    wide = code.resized(source, "i128", given in SIGNED)
    bits = width(type)
    low, high = (
        (-(1 << bits - 1), (1 << bits - 1) - 1) if wanted in SIGNED else (0, (1 << bits) - 1)
    )
    wide = code.call("i128", "llvm.smax.i128", wide, V("i128", str(low)))
    wide = code.call("i128", "llvm.smin.i128", wide, V("i128", str(high)))
    return code.resized(wide, type)


def _integer_to_float(
    step: Step, instruction: Instruction, source: V, given: str, wanted: str, mode: str | None
) -> V:
    code = step.code
    how = "sitofp" if given in SIGNED else "uitofp"
    bits = width(source.type)
    if wanted == "f64" and (mode in (None, "rn") or bits < 64):
        return code.cast(how, source, "double")
    if wanted == "f32" and mode in (None, "rn"):
        result = code.cast(how, source, "float")
    elif bits < 64:
        exact = code.cast(how, source, "double")
        if wanted == "f32":
            return rounding.directed(code, exact, f64_zero(), mode or "rn")
        return narrowed(code, wanted, exact, mode or "rn")
    else:
        result = _wide_integer(step, instruction, source, given, wanted, mode or "rn")
    return rounding.saturated(code, result) if "sat" in instruction.suffix else result


def f64_zero() -> V:
    return V("double", "0.0")


def _wide_integer(
    step: Step, instruction: Instruction, source: V, given: str, wanted: str, mode: str
) -> V:
    """64 bits to f32 in a direction or to 16 bits: as two exact halves."""
    code = step.code
    high = code.op("ashr" if given in SIGNED else "lshr", source, i64(32))
    low = code.op("and", source, i64(0xFFFFFFFF))
    parts = [
        code.op("fmul", code.cast("sitofp", high, "double"), V("double", "4294967296.0")),
        code.cast("sitofp", low, "double"),
    ]
    total, error = rounding.two_sum(code, parts[0], parts[1])
    if wanted == "f32":
        return rounding.directed(code, total, error, mode)
    if wanted == "f64":
        raise step.wrong(instruction, "directed rounding of f64")
    return narrowed(code, wanted, total, mode)


def _from_float(
    step: Step, instruction: Instruction, source: V, given: str, wanted: str, mode: str | None
) -> V:
    code, suffix = step.code, instruction.suffix
    if given in ("f16", "bf16"):
        source = widened(code, given, source)
    if "ftz" in suffix and source.type == "float":
        source = rounding.flushed(code, source)
    if wanted not in (*FLOAT_TYPES, "tf32"):
        if mode not in WHOLE:
            raise step.wrong(instruction, "no rounding to a whole number")
        whole = rounding.to_integral(code, source, mode)
        bits = width(STORAGE[wanted])
        # NaN gives 0 where everything is narrow, else the highest bit alone.
        after_nan = 1 << (bits - 1) if given == "f64" or bits == 64 else 0
        return rounding.to_integer(code, whole, bits, wanted in SIGNED, after_nan)
    if mode in WHOLE:
        source = rounding.to_integral(code, source, mode)
        mode = None
    if "relu" in suffix:
        below = code.compare("olt", source, V(source.type, "0.0"))
        source = code.select(below, V(source.type, "0.0"), source)
    result = _between_floats(step, instruction, source, wanted, mode or "rn")
    if "sat" in suffix:
        if wanted in ("f16", "bf16"):
            back = rounding.saturated(code, widened(code, wanted, result))
            return narrowed(code, wanted, back)
        result = rounding.saturated(code, result)
    if "ftz" in suffix and wanted == "f32":
        result = rounding.flushed(code, result)
    return result


def _between_floats(step: Step, instruction: Instruction, source: V, wanted: str, mode: str) -> V:
    code = step.code
    if wanted == "tf32":
        return rounding.to_tf32(code, source, mode)
    if wanted in ("f16", "bf16"):
        if mode not in ("rn", "rz"):
            raise step.wrong(instruction, f"rounding `{mode}`")
        return narrowed(code, wanted, source, mode)
    type = STORAGE[wanted]
    if source.type == type:
        return source
    if wanted == "f64":
        return code.cast("fpext", source, "double")
    if mode == "rn":
        return code.cast("fptrunc", source, "float")
    return rounding.directed(code, source, f64_zero(), mode)


def _convert_pair(step: Step, instruction: Instruction, wanted: str, given: str) -> None:
    """Two numbers at once: the first operand is the upper one."""
    code, suffix, target = step.code, instruction.suffix, instruction.operands[0]
    if given in ("e4m3x2", "e5m2x2"):
        packed = step.read(instruction.operands[1], "i16")
        halves = [code.resized(packed, "i8"), code.resized(
            code.op("lshr", packed, integer(16, 8)), "i8")]  # fmt: skip
        floats = [rounding.from_f8(code, half, given[:4]) for half in halves]
    elif given == "f32":
        high, low = (step.read(operand, "float") for operand in instruction.operands[1:3])
        floats = [low, high]
    else:
        packed = step.read(instruction.operands[1], "i32")
        pieces = [code.resized(packed, "i16"),
                  code.resized(code.op("lshr", packed, i32(16)), "i16")]  # fmt: skip
        floats = [widened(code, given[:-2], piece) for piece in pieces]
    if "relu" in suffix:
        floats = [
            code.select(code.compare("olt", value, f32(0.0)), f32(0.0), value) for value in floats
        ]
    if wanted in ("e4m3x2", "e5m2x2"):
        bits, each = "i16", 8
        parts = [rounding.to_f8(code, value, wanted[:4]) for value in floats]
    else:
        bits, each = "i32", 16
        mode = "rz" if "rz" in suffix else "rn"
        parts = [narrowed(code, wanted[:-2], value, mode) for value in floats]
    low, high = (code.resized(part, bits) for part in parts)
    both = code.op("or", low, code.op("shl", high, integer(width(bits), each)))
    step.write(target, both)


def _pack_integers(step: Step, instruction: Instruction) -> None:
    """cvt.pack: two integers, held within a narrow type, above the bits of a third."""
    code = step.code
    narrow, wide = [part for part in instruction.suffix if part in STORAGE][:2]
    a, b = (step.read(operand, "i32") for operand in instruction.operands[1:3])
    bits = width(STORAGE[narrow])
    held = [
        code.resized(
            code.resized(_integer(step, instruction, v, wide, narrow), STORAGE[narrow]), "i32"
        )
        for v in (a, b)
    ]
    result = code.op("or", held[1], code.op("shl", held[0], i32(bits)))
    if bits < 16:
        c = step.read(instruction.operands[3], "i32")
        result = code.op("or", result, code.op("shl", c, i32(2 * bits)))
    step.write(instruction.operands[0], result)


def constant_result(step: Step, instruction: Instruction) -> None:
    """mapa and getctarank in a cluster of one block, createpolicy."""
    if instruction.name == "mapa":
        step.write(instruction.operands[0], step.read(instruction.operands[1], "i64"))
    else:
        step.write(instruction.operands[0], i64(0))


def nothing(step: Step, instruction: Instruction) -> None:
    """What has no effect here: hints, and waits that are always over."""


CONVERSION: dict[str, Handler] = {
    "mov": move,
    "cvt": convert,
    "cvta": change_window,
    "isspacep": is_in_space,
    **dict.fromkeys(("mapa", "getctarank", "createpolicy"), constant_result),
    **dict.fromkeys(
        (
            "prefetch",
            "prefetchu",
            "discard",
            "applypriority",
            "pmevent",
            "griddepcontrol",
            "setmaxnreg",
            "brkpt",
        ),
        nothing,
    ),  # fmt: skip
}
