"""Rounding of floating-point numbers, in every direction and to every narrow type, as LLVM IR.

Enters: values of f64 or f32. Leaves: values rounded once: narrow types are reached from f64 through
f32 rounded to odd, which loses nothing that the second rounding needs.

Functions of the module that are made here: `hec.direct` (a sum and its error to f32 in a
direction), `hec.odd` (f64 to f32, to odd), `hec.bf16`, `hec.tf32.rna`, ... Each is added when
first called.
"""

from __future__ import annotations

from hectorite.backends.ptx.jit_text import Code, V, f32, f64, helper, i32, integer

SMALLEST_NORMAL = {"float": f32(2.0**-126), "double": f64(2.0**-1022)}


def is_nan(code: Code, value: V) -> V:
    return code.compare("uno", value, value)


def flushed(code: Code, value: V) -> V:
    """A float with subnormals made zeros of their sign."""
    type = value.type
    zero, kind = (f32(0.0), "f32") if type == "float" else (f64(0.0), "f64")

    def body(inner: Code, given: list[V]) -> V:
        (x,) = given
        size = inner.call(type, f"llvm.fabs.{kind}", x)
        small = inner.compare("olt", size, SMALLEST_NORMAL[type])
        return inner.select(small, inner.call(type, f"llvm.copysign.{kind}", zero, x), x)

    helper(code.pieces, f"hec.ftz.{kind}", type, [(type, "x")], body)
    return code.call(type, f"hec.ftz.{kind}", value)


def saturated(code: Code, value: V) -> V:
    """A float between 0 and 1; NaN becomes 0."""
    zero, one = (f32(0.0), f32(1.0)) if value.type == "float" else (f64(0.0), f64(1.0))
    above = code.select(code.compare("ogt", value, zero), value, zero)
    return code.select(code.compare("olt", above, one), above, one)


def directed(code: Code, total: V, error: V, mode: str) -> V:
    """The f32 next to `total + error` (f64; the error is far below the total) by `rz`, `rm`, `rp`.

    Of the pair only the sign of the error counts, so any number of that sign will do.
    """
    name = f"hec.direct.{mode}"

    def body(inner: Code, given: list[V]) -> V:
        t, e = given
        near = inner.cast("fptrunc", t, "float")
        back = inner.cast("fpext", near, "double")
        exact = inner.compare("oeq", back, t)
        over = inner.compare("ogt", back, t)
        below = inner.compare("olt", back, t)
        over = inner.select(exact, inner.compare("olt", e, f64(0.0)), over)
        below = inner.select(exact, inner.compare("ogt", e, f64(0.0)), below)
        positive = inner.compare("oge", t, f64(0.0))
        not_positive = inner.op("xor", positive, V("i1", "true"))
        if mode == "rm":
            down, up = over, V("i1", "false")
        elif mode == "rp":
            down, up = V("i1", "false"), below
        else:
            down, up = inner.op("and", over, positive), inner.op("and", below, not_positive)
        lower = neighbour(inner, near, upwards=False)
        upper = neighbour(inner, near, upwards=True)
        moved = inner.select(down, lower, inner.select(up, upper, near))
        return inner.select(is_nan(inner, t), near, moved)

    helper(code.pieces, name, "float", [("double", "t"), ("double", "e")], body)
    return code.call("float", name, total, error)


def neighbour(code: Code, value: V, upwards: bool) -> V:
    """The next f32 above or below; infinities stay at their end."""
    bits = code.bits(value, "i32")
    negative = code.compare("slt", bits, i32(0))
    zero = code.compare("oeq", value, f32(0.0))
    outward = code.select(negative, i32(-1), i32(1)) if upwards else code.select(
        negative, i32(1), i32(-1)
    )  # fmt: skip
    moved = code.op("add", bits, outward)
    moved = code.select(zero, i32(1 if upwards else -0x7FFFFFFF), moved)
    end = f32(float("inf") if upwards else float("-inf"))
    moved = code.select(code.compare("oeq", value, end), bits, moved)
    return code.bits(moved, "float")


def two_sum(code: Code, a: V, b: V) -> tuple[V, V]:
    """The f64 sum of two f64 values, and what rounding lost (Knuth's)."""
    total = code.op("fadd", a, b)
    part = code.op("fsub", total, a)
    lost_a = code.op("fsub", a, code.op("fsub", total, part))
    lost_b = code.op("fsub", b, part)
    return total, code.op("fadd", lost_a, lost_b)


def odd(code: Code, value: V) -> V:
    """An f64 as the f32 that is cut, with the last bit set if anything was lost."""

    def body(inner: Code, given: list[V]) -> V:
        (x,) = given
        near = inner.cast("fptrunc", x, "float")
        back = inner.cast("fpext", near, "double")
        size, back_size = (inner.call("double", "llvm.fabs.f64", v) for v in (x, back))
        bits = inner.bits(near, "i32")
        over = inner.compare("ogt", back_size, size)
        cut = inner.op("sub", bits, inner.resized(over, "i32"))
        lost = inner.compare("one", back_size, size)
        sticky = inner.op("or", cut, inner.resized(lost, "i32"))
        special = inner.compare("ueq", size, f64(float("inf")))
        return inner.bits(inner.select(special, bits, sticky), "float")

    helper(code.pieces, "hec.odd", "float", [("double", "x")], body)
    return code.call("float", "hec.odd", value)


def half_to_float(code: Code, value: V) -> V:
    """f16 bits (i16) as f32."""
    return code.cast("fpext", code.bits(value, "half"), "float")


def bfloat_to_float(code: Code, value: V) -> V:
    """bf16 bits (i16) as f32."""
    return code.bits(code.op("shl", code.resized(value, "i32"), i32(16)), "float")


def to_half(code: Code, value: V, mode: str = "rn") -> V:
    """An f32 or f64 as f16 bits, rounded `rn` or `rz`."""
    if value.type == "double":
        value = odd(code, value)
    if mode == "rn":
        return code.bits(code.cast("fptrunc", value, "half"), "i16")

    def body(inner: Code, given: list[V]) -> V:
        (x,) = given
        near = inner.cast("fptrunc", x, "half")
        back = inner.cast("fpext", near, "float")
        sizes = [inner.call("float", "llvm.fabs.f32", v) for v in (back, x)]
        over = inner.resized(inner.compare("ogt", *sizes), "i16")
        infinite = inner.compare("oeq", sizes[1], f32(float("inf")))
        cut = inner.op("sub", inner.bits(near, "i16"), over)
        return inner.select(infinite, inner.bits(near, "i16"), cut)

    helper(code.pieces, "hec.half.rz", "i16", [("float", "x")], body)
    return code.call("i16", "hec.half.rz", value)


def to_bfloat(code: Code, value: V, mode: str = "rn") -> V:
    """An f32 or f64 as bf16 bits, rounded `rn` or `rz`."""
    if value.type == "double":
        value = odd(code, value)
    return code.resized(cut_float(code, value, 16, mode), "i16")


def cut_float(code: Code, value: V, dropped: int, mode: str) -> V:
    """An f32 rounded to drop its last bits: the bits that are left, shifted down (i32).

    `rn` to even, `rna` ties away from zero, `rz` cut.
    """
    name = f"hec.cut{dropped}.{mode}"

    def body(inner: Code, given: list[V]) -> V:
        (x,) = given
        bits = inner.bits(x, "i32")
        if mode == "rz":
            rounded = bits
        elif mode == "rna":
            rounded = inner.op("add", bits, i32(1 << (dropped - 1)))
        else:
            last = inner.op("and", inner.op("lshr", bits, i32(dropped)), i32(1))
            half = inner.op("add", last, i32((1 << (dropped - 1)) - 1))
            rounded = inner.op("add", bits, half)
        size = inner.call("float", "llvm.fabs.f32", x)
        quiet = inner.op("or", bits, i32(1 << 22))
        finite = inner.compare("olt", size, f32(float("inf")))
        kept = inner.select(is_nan(inner, x), quiet, inner.select(finite, rounded, bits))
        return inner.op("lshr", kept, i32(dropped))

    helper(code.pieces, name, "i32", [("float", "x")], body)
    return code.call("i32", name, value)


def to_tf32(code: Code, value: V, mode: str) -> V:
    """An f32 with 10 bits behind the point, as f32 bits (i32)."""
    return code.op("shl", cut_float(code, value, 13, mode), i32(13))


F8 = {"e4m3": (4, 3, 7, 448.0), "e5m2": (5, 2, 15, 57344.0)}
"""Exponent bits, fraction bits, bias and the largest number of the 8-bit types."""


def to_f8(code: Code, value: V, kind: str) -> V:
    """An f32 as the nearest 8-bit float, held within the largest one (i8)."""
    _, fraction, bias, most = F8[kind]

    def body(inner: Code, given: list[V]) -> V:
        (x,) = given
        bits = inner.bits(x, "i32")
        size = inner.call("float", "llvm.fabs.f32", x)
        held = inner.call("float", "llvm.minnum.f32", size, f32(most))
        # Adding a power of two that ends where a subnormal's last bit is rounds to that bit.
        magic = 2.0 ** (23 - fraction + 1 - bias)
        low = inner.bits(inner.op("fadd", held, f32(magic)), "i32")
        low = inner.op("sub", low, inner.bits(f32(magic), "i32"))
        dropped = 23 - fraction
        normal = inner.bits(held, "i32")
        last = inner.op("and", inner.op("lshr", normal, i32(dropped)), i32(1))
        normal = inner.op("add", normal, inner.op("add", last, i32((1 << (dropped - 1)) - 1)))
        normal = inner.op("lshr", normal, i32(dropped))
        normal = inner.op("sub", normal, i32((127 - bias) << fraction))
        small = inner.compare("olt", held, f32(2.0 ** (1 - bias)))
        code_ = inner.select(small, low, normal)
        code_ = inner.select(is_nan(inner, x), i32(0x7F), code_)
        sign = inner.op("and", inner.op("lshr", bits, i32(24)), i32(0x80))
        return inner.resized(inner.op("or", code_, sign), "i8")

    helper(code.pieces, f"hec.{kind}", "i8", [("float", "x")], body)
    return code.call("i8", f"hec.{kind}", value)


def from_f8(code: Code, value: V, kind: str) -> V:
    """An 8-bit float (i8) as f32."""
    _, fraction, bias, _ = F8[kind]

    def body(inner: Code, given: list[V]) -> V:
        (x,) = given
        wide = inner.resized(x, "i32")
        sign = inner.op("shl", inner.op("and", wide, i32(0x80)), i32(24))
        size = inner.op("and", wide, i32(0x7F))
        # The bits, in place of an f32's, are the number times a power of two.
        raw = inner.bits(inner.op("shl", size, i32(23 - fraction)), "float")
        scaled = inner.op("fmul", raw, f32(2.0**126))
        scaled = inner.op("fmul", scaled, f32(2.0 ** (1 - bias)))
        if kind == "e4m3":
            special = inner.compare("eq", size, i32(0x7F))
            there = f32(float("nan"))
        else:
            special = inner.compare("uge", size, i32(0x7C))
            infinite = inner.compare("eq", size, i32(0x7C))
            there = inner.select(infinite, f32(float("inf")), f32(float("nan")))
        scaled = inner.select(special, there, scaled)
        signed = inner.op("or", inner.bits(scaled, "i32"), sign)
        return inner.bits(signed, "float")

    helper(code.pieces, f"hec.from.{kind}", "float", [("i8", "x")], body)
    return code.call("float", f"hec.from.{kind}", value)


def to_integral(code: Code, value: V, mode: str) -> V:
    """A float rounded to a whole number: `rni`, `rzi`, `rmi`, `rpi`."""
    name = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}[mode]
    return code.call(value.type, f"llvm.{name}.{'f32' if value.type == 'float' else 'f64'}", value)


def to_integer(code: Code, value: V, bits: int, signed: bool, after_nan: int = 0) -> V:
    """A whole float as an integer, held within its type; NaN becomes `after_nan`."""
    kind = "f32" if value.type == "float" else "f64"
    intrinsic = f"llvm.fpto{'s' if signed else 'u'}i.sat.i{bits}.{kind}"
    result = code.call(f"i{bits}", intrinsic, value)
    if not after_nan:
        return result
    return code.select(is_nan(code, value), integer(bits, after_nan), result)
