"""Compiled PTX against the lockstep executor, instruction by instruction, on the same registers.

Each test puts many instructions of one type into a kernel; every thread has its own operands, edge
cases among them. Results agree bit for bit, NaNs as NaNs.
"""

import numpy as np
import pytest

from hectorite import ptx

WIDTH = {"b16": 2, "b32": 4, "b64": 8, "f32": 4, "f64": 8}
KIND = {"u": "b", "s": "b", "b": "b", "f": "f"}
RNG = np.random.default_rng(1)
LANES = 512


def storage(type):
    """The register that holds a PTX type."""
    if type == "pred":
        return "pred"
    bits = {"f16": "16", "bf16": "16", "f16x2": "32", "bf16x2": "32", "tf32": "32",
            "e4m3x2": "16", "e5m2x2": "16"}.get(type)  # fmt: skip
    if bits:
        return f"b{bits}"
    return ("f" if type[0] == "f" else "b") + type[1:]


def kernel(instructions, sources):
    """A kernel that loads operands `a`, `b`, `c`, `d` of the given types, and stores the result of
    each instruction, a pair (text with D and the operands, type of the result)."""
    declared, body = [], []
    for number, type in enumerate(sources):
        kept = storage(type)
        declared.append(f".reg .{kept} %{'abcd'[number]};")
        body.append(f"ld.global.{kept} %{'abcd'[number]}, [%in+{8 * number}];")
    for number, (text, type) in enumerate(instructions):
        kept = storage(type)
        if kept == "pred":
            declared.append(f".reg .pred %d{number}; .reg .b32 %e{number};")
            body.append(text.replace("D", f"%d{number}"))
            body.append(f"selp.b32 %e{number}, 1, 0, %d{number};")
            body.append(f"st.global.b32 [%out+{8 * number}], %e{number};")
            continue
        declared.append(f".reg .{kept} %d{number};")
        body.append(text.replace("D", f"%d{number}"))
        body.append(f"st.global.{kept} [%out+{8 * number}], %d{number};")
    return f"""
.version 8.4
.target sm_90
.address_size 64
.visible .entry k(.param .u64 in, .param .u64 out)
{{
  .reg .b64 %in, %out; .reg .b32 %t;
  {" ".join(declared)}
  ld.param.u64 %in, [in];
  ld.param.u64 %out, [out];
  mov.u32 %t, %tid.x;
  mad.wide.u32 %in, %t, 32, %in;
  mad.wide.u32 %out, %t, {8 * len(instructions)}, %out;
  {chr(10).join("  " + line for line in body)}
  ret;
}}
"""


def run(mode, instructions, sources, values):
    """The result of each instruction in each thread, as eight bytes."""
    given = np.zeros((LANES, 4, 8), np.uint8)
    for number, column in enumerate(values):
        raw = np.ascontiguousarray(column).view(np.uint8).reshape(LANES, -1)
        given[:, number, : raw.shape[1]] = raw
    out = np.zeros((LANES, len(instructions), 8), np.uint8)
    program = ptx.load(kernel(instructions, sources))
    program["k"](1, LANES, [given, out], mode=mode, check=False)
    return out


def compiled(instructions, sources, values):
    return run("compiled", instructions, sources, values)


def both(instructions, sources, values):
    return [run(mode, instructions, sources, values) for mode in ("compiled", "lockstep")]


FLOATS = {"f32": np.float32, "f64": np.float64, "f16": np.float16}


def is_same(text, type, one, other):
    """Equal bits, or both NaN; the sign of a zero that is a limit is not compared."""
    size = {"pred": 4}.get(type) or WIDTH[storage(type)]
    a, b = (np.ascontiguousarray(x[:, :size]) for x in (one, other))
    if type in FLOATS:
        a, b = (x.view(FLOATS[type])[:, 0] for x in (a, b))
        signs = (
            (np.signbit(a) == np.signbit(b)) | text.startswith(("min", "max")) | (".sat." in text)
        )
        equal = (a == b) & signs | (np.isnan(a) & np.isnan(b))
    else:
        equal = (a == b).all(axis=1)
    return equal


def check(instructions, sources, values):
    one, other = both(instructions, sources, values)
    for number, (text, type) in enumerate(instructions):
        equal = is_same(text, type, one[:, number], other[:, number])
        bad = int(np.argmin(equal))
        operands = [column[bad] for column in values]
        assert equal.all(), (
            f"{text} of {operands}: compiled {one[bad, number]}, lockstep {other[bad, number]}"
        )


def integers(type):
    bits, signed = int(type[1:]), type[0] == "s"
    dtype = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    info = np.iinfo(dtype)
    values = RNG.integers(info.min, info.max, LANES, dtype, endpoint=True)
    values[::3] = RNG.integers(0, 70, len(values[::3]))
    edges = [0, 1, info.min, info.max, info.max - 1, 31, 32, 33]
    values[: len(edges)] = edges
    values[64 : 64 + len(edges)] = edges[::-1]
    RNG.shuffle(values[:128])
    return values


INTEGER_TYPES = ("s16", "u16", "s32", "u32", "s64", "u64")


@pytest.mark.parametrize("type", INTEGER_TYPES)
def test_integers(type):
    bits, sign = int(type[1:]), type[0]
    names = ["add", "sub", "mul.lo", "mul.hi", "div", "rem", "min", "max"]
    found = [(f"{name}.{type} D, %a, %b;", type) for name in names]
    found += [(f"mad.lo.{type} D, %a, %b, %c;", type), (f"mad.hi.{type} D, %a, %b, %c;", type)]
    found += [(f"{name}.b{bits} D, %a, %b;", type) for name in ("and", "or", "xor")]
    found += [(f"not.b{bits} D, %a;", type), (f"cnot.b{bits} D, %a;", type)]
    relations = ["eq", "ne", "lt", "le", "gt", "ge"]
    found += [(f"setp.{r}.{type} D, %a, %b;", "pred") for r in relations]
    found += [(f"sad.{type} D, %a, %b, %c;", type)]
    found += [(f"set.lt.u32.{type} D, %a, %b;", "u32")]
    if bits < 64:
        wide = f"{sign}{2 * bits}"
        found += [(f"mul.wide.{type} D, %a, %b;", wide)]
    if sign == "s":
        found += [(f"abs.{type} D, %a;", type), (f"neg.{type} D, %a;", type)]
    if sign == "u":
        found += [(f"setp.{r}.{type} D, %a, %b;", "pred") for r in ("lo", "ls", "hi", "hs")]
    check(found, [type] * 3, [integers(type) for _ in range(3)])


def test_bits_of_32():
    found = [(f"lop3.b32 D, %a, %b, %c, {table};", "b32") for table in (0x96, 0xE8, 0xCA, 1, 254)]
    found += [(f"{name}.b32 D, %a;", "b32") for name in ("popc", "clz", "brev")]
    found += [("bfind.u32 D, %a;", "b32"), ("bfind.s32 D, %a;", "b32")]
    found += [("bfind.shiftamt.u32 D, %a;", "b32")]
    found += [(f"shf.{way}.{mode}.b32 D, %a, %b, %c;", "b32")
              for way in "lr" for mode in ("wrap", "clamp")]  # fmt: skip
    found += [("prmt.b32 D, %a, %b, %c;", "b32")]
    found += [(f"prmt.b32.{m} D, %a, %b, %c;", "b32")
              for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")]  # fmt: skip
    found += [("bfe.u32 D, %a, %b, %c;", "b32"), ("bfe.s32 D, %a, %b, %c;", "b32")]
    found += [("bfe.u32 D, %a, 8, 8;", "b32"), ("bfe.s32 D, %a, 24, 8;", "b32")]
    found += [("bfi.b32 D, %a, %b, %c, 7;", "b32"), ("bfi.b32 D, %a, %b, 3, %c;", "b32")]
    found += [(f"dp4a.{x}32.{y}32 D, %a, %b, %c;", "b32") for x in "su" for y in "su"]
    found += [(f"dp2a.{h}.{x}32.{y}32 D, %a, %b, %c;", "b32")
              for h in ("lo", "hi") for x in "su" for y in "su"]  # fmt: skip
    found += [("mul24.lo.s32 D, %a, %b;", "b32"), ("mad24.lo.u32 D, %a, %b, %c;", "b32")]
    check(found, ["u32"] * 3, [integers("u32") for _ in range(3)])


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts(bits):
    found = [(f"shl.b{bits} D, %a, %b;", f"b{bits}"), (f"shr.u{bits} D, %a, %b;", f"b{bits}")]
    found += [(f"shr.s{bits} D, %a, %b;", f"b{bits}")]
    by = np.concatenate([np.arange(100), RNG.integers(0, 2**32, LANES - 100)]).astype(np.uint32)
    check(found, [f"u{bits}", "u32"], [integers(f"u{bits}"), by])


def test_bits_of_64():
    found = [(f"{name}.b64 D, %a;", "b32" if name != "brev" else "b64")
             for name in ("popc", "clz", "brev")]  # fmt: skip
    found += [("bfe.u64 D, %a, %c, 20;", "b64"), ("bfe.s64 D, %a, %c, 20;", "b64")]
    found += [("bfi.b64 D, %a, %b, %c, 20;", "b64")]
    found += [("add.cc.u64 D, %a, %b;", "b64"), ("addc.u64 D, %a, %b;", "b64")]
    found += [("sub.cc.u64 D, %a, %b;", "b64"), ("subc.u64 D, %a, %b;", "b64")]
    check(found, ["u64", "u64", "u32"], [integers("u64"), integers("u64"), integers("u32")])


def floats(type):
    dtype = FLOATS[type]
    with np.errstate(all="ignore"):
        values = (RNG.standard_normal(LANES) * 10.0 ** RNG.integers(-6, 6, LANES)).astype(dtype)
    edges = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 1.5, 2.5], dtype)
    tiny = np.array([np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal,
                     -np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max], dtype)  # fmt: skip
    edges = np.concatenate([edges, tiny])
    for start in range(0, 140, 14):
        values[start : start + 14] = np.roll(edges, RNG.integers(14))
    return values


@pytest.mark.parametrize("type", ["f32", "f64"])
def test_floats(type):
    found = [(f"{name}.rn.{type} D, %a, %b;", type) for name in ("add", "sub", "mul", "div")]
    found += [(f"{name}.{type} D, %a, %b;", type) for name in ("min", "max", "copysign")]
    found += [(f"{name}.{type} D, %a;", type) for name in ("abs", "neg")]
    found += [(f"{name}.rn.{type} D, %a;", type) for name in ("sqrt", "rcp")]
    relations = ["eq", "ne", "lt", "le", "gt", "ge", "num", "nan"]
    relations += ["equ", "neu", "ltu", "leu", "gtu", "geu"]
    found += [(f"setp.{r}.{type} D, %a, %b;", "pred") for r in relations]
    if type == "f32":
        found += [(f"{name}.rn.ftz.f32 D, %a, %b;", type) for name in ("add", "sub", "mul")]
        found += [("mul.rn.sat.f32 D, %a, %b;", type), ("max.NaN.f32 D, %a, %b;", type)]
        found += [("setp.lt.ftz.f32 D, %a, %b;", "pred"), ("min.ftz.f32 D, %a, %b;", type)]
        found += [("set.gt.f32.f32 D, %a, %b;", type), ("abs.ftz.f32 D, %a;", type)]
    else:
        found += [(f"{name}.approx.ftz.f64 D, %a;", type) for name in ("rcp", "rsqrt")]
    check(found, [type] * 3, [floats(type) for _ in range(3)])


@pytest.mark.parametrize("type", ["f32", "f64"])
def test_properties(type):
    x = floats(type)
    tiny = np.finfo(FLOATS[type]).tiny
    zero_or_normal = (np.abs(x) >= tiny) | (x == 0)
    expected = {
        "nan": np.isnan(x),
        "infinite": np.isinf(x),
        "finite": np.isfinite(x),
        "number": ~np.isnan(x),
        "normal": np.isfinite(x) & zero_or_normal & (x != 0),
        "subnormal": ~zero_or_normal & np.isfinite(x),
    }
    found = [(f"testp.{name}.{type} D, %a;", "pred") for name in expected]
    out = compiled(found, [type], [x])
    for number, (name, wanted) in enumerate(expected.items()):
        assert (out[:, number, 0] == wanted).all(), name


def test_masks_of_bits():
    a, b = (RNG.integers(0, 40, LANES).astype(np.uint32) for _ in range(2))
    found = [("bmsk.clamp.b32 D, %a, %b;", "b32"), ("szext.clamp.u32 D, %a, %b;", "b32")]
    out = compiled(found, ["u32"] * 2, [a, b])
    words = out[:, :, :4].copy().view(np.uint32)[:, :, 0].astype(object)
    for lane in range(LANES):
        start, count = min(int(a[lane]), 32), min(int(b[lane]), 32)
        assert words[lane, 0] == (((1 << count) - 1) << start) & 0xFFFFFFFF
        assert words[lane, 1] == int(a[lane]) & ((1 << count) - 1)


def test_directed_rounding():
    found = [(f"{name}.{mode}.f32 D, %a, %b;", "f32")
             for name in ("add", "sub", "mul", "div") for mode in ("rz", "rm", "rp")]  # fmt: skip
    found += [(f"{name}.{mode}.f32 D, %a;", "f32")
              for name in ("sqrt", "rcp") for mode in ("rz", "rm", "rp")]  # fmt: skip
    found += [(f"fma.{mode}.f32 D, %a, %b, %c;", "f32") for mode in ("rz", "rm", "rp")]
    check(found, ["f32"] * 3, [RNG.standard_normal(LANES).astype(np.float32) for _ in range(3)])


def test_multiply_add_rounds_once():
    a, b = (RNG.standard_normal(LANES).astype(np.float32) for _ in range(2))
    c = -(a * b)
    out = both([("fma.rn.f32 D, %a, %b, %c;", "f32")], ["f32"] * 3, [a, b, c])[0]
    exact = a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)
    np.testing.assert_array_equal(out[:, 0, :4].copy().view(np.float32)[:, 0], exact)


@pytest.mark.parametrize("type", ["f16", "bf16"])
def test_narrow_floats(type):
    found = [(f"{name}.rn.{type} D, %a, %b;", "b16") for name in ("add", "sub", "mul")]
    found += [(f"{name}.{type} D, %a, %b;", "b16") for name in ("min", "max")]
    found += [(f"fma.rn.{type} D, %a, %b, %c;", "b16"), (f"neg.{type} D, %a;", "b16")]
    found += [(f"abs.{type} D, %a;", "b16"), (f"cvt.f32.{type} D, %a;", "f32")]
    found += [(f"setp.{r}.{type} D, %a, %b;", "pred") for r in ("eq", "lt", "geu")]
    values = [floats("f16") for _ in range(3)]
    values = [np.where(np.isfinite(v), v, np.float16(3)) for v in values]
    if type == "bf16":
        values = [(v.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for v in values]
    check(found, [type] * 3, values)


def test_conversions_of_f32():
    found = [(f"cvt.{mode}.{type}.f32 D, %a;", type)
             for type in ("s32", "u32", "s64", "u64", "s16", "u16")
             for mode in ("rni", "rzi", "rmi", "rpi")]  # fmt: skip
    found += [(f"cvt.{mode}.f32.f32 D, %a;", "f32") for mode in ("rni", "rzi", "rmi", "rpi")]
    found += [("cvt.rzi.ftz.s32.f32 D, %a;", "s32"), ("cvt.f64.f32 D, %a;", "f64")]
    found += [("cvt.rn.f16.f32 D, %a;", "f16"), ("cvt.rz.f16.f32 D, %a;", "f16")]
    found += [("cvt.sat.f32.f32 D, %a;", "f32"), ("cvt.rna.tf32.f32 D, %a;", "tf32")]
    # Whether a saturated -0 keeps its sign is not said.
    check(found, ["f32"], [floats("f32") + np.float32(0)])


def test_conversions_to_pairs():
    found = [("cvt.rn.f16x2.f32 D, %a, %b;", "f16x2"), ("cvt.rn.bf16x2.f32 D, %a, %b;", "b32")]
    found += [("cvt.rn.relu.f16x2.f32 D, %a, %b;", "f16x2")]
    found += [(f"cvt.rn.satfinite.{t}.f32 D, %a, %b;", "b16") for t in ("e4m3x2", "e5m2x2")]
    found += [("cvt.rn.bf16.f32 D, %a;", "b16")]
    values = [np.where(np.isnan(v), np.float32(1), v) for v in (floats("f32"), floats("f32"))]
    check(found, ["f32", "f32"], values)


def test_conversions_from_f8():
    found = [(f"cvt.rn.f16x2.{t} D, %a;", "f16x2") for t in ("e4m3x2", "e5m2x2")]
    values = np.arange(LANES).astype(np.uint16) * 128 + np.arange(LANES).astype(np.uint16) % 127
    is_nan = ((values & 0x7C) == 0x7C) | ((values & 0x7C00) == 0x7C00)
    check(found, ["u16"], [np.where(is_nan, 0, values)])


def test_conversions_of_f64():
    found = [(f"cvt.{mode}.f32.f64 D, %a;", "f32") for mode in ("rn", "rz", "rm", "rp")]
    found += [(f"cvt.rzi.{type}.f64 D, %a;", type) for type in ("s32", "u32", "s64", "u64")]
    found += [("cvt.rni.f64.f64 D, %a;", "f64"), ("cvt.rn.f16.f64 D, %a;", "f16")]
    check(found, ["f64"], [floats("f64")])


@pytest.mark.parametrize("type", INTEGER_TYPES)
def test_conversions_of_integers(type):
    found = [(f"cvt.{wanted}.{type} D, %a;", wanted) for wanted in INTEGER_TYPES]
    found += [(f"cvt.sat.{wanted}.{type} D, %a;", wanted) for wanted in INTEGER_TYPES
              if wanted != type]  # fmt: skip
    found += [(f"cvt.{mode}.f32.{type} D, %a;", "f32") for mode in ("rn", "rz", "rm", "rp")]
    found += [(f"cvt.rn.f64.{type} D, %a;", "f64")]
    if int(type[1:]) < 64:
        found += [(f"cvt.rn.f16.{type} D, %a;", "f16")]
    check(found, [type], [integers(type)])


def test_approximations_are_near():
    x = (RNG.standard_normal(LANES) * 5).astype(np.float32)
    found = [(f"{name}.approx.f32 D, %a;", "f32")
             for name in ("ex2", "sin", "cos", "rcp", "sqrt", "rsqrt", "tanh", "lg2")]  # fmt: skip
    one, other = both(found, ["f32"], [np.abs(x)])
    for number in range(len(found)):
        got, want = (v[:, number, :4].copy().view(np.float32)[:, 0] for v in (one, other))
        np.testing.assert_allclose(got, want, rtol=3e-7, atol=1e-7)


def test_packing():
    found = [("mov.b32 D, {%a, %b};", "b32")]
    found += [("{ .reg .b16 %lo, %hi; mov.b32 {%lo, %hi}, %c; mov.b16 D, %hi; }", "b16")]
    check(found, ["u16", "u16", "u32"], [integers("u16"), integers("u16"), integers("u32")])
