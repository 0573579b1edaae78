"""Integer instructions against Python's integers."""

from __future__ import annotations

import numpy as np
import pytest

NUMBERS = [0, 1, 2, 3, 5, 31, 32, 33, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF,
           0x12345678, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF,
           0x123456789ABCDEF0, 2**63, 2**64 - 1]  # fmt: skip
PAIRS = [(a, b) for a in NUMBERS for b in NUMBERS]


def wrapped(value, type):
    """An integer as a value of a type."""
    bits = int(type[1:])
    value &= (1 << bits) - 1
    return value - (1 << bits) if type[0] == "s" and value >> (bits - 1) else value


def columns(type, count):
    """Operands of `count` columns, as values of a type."""
    rows = PAIRS if count < 3 else [(a, b, NUMBERS[(i * 7) % len(NUMBERS)])
                                   for i, (a, b) in enumerate(PAIRS)]  # fmt: skip
    dtype = {"s": "i", "u": "u", "b": "u"}[type[0]] + str(int(type[1:]) // 8)
    return [np.array([wrapped(row[c], type) for row in rows], dtype) for c in range(count)]


def check(evaluate, statement, type, expected, count=2, result=None):
    """Compare with `expected`, a function of Python integers, at every row."""
    result = result or type
    operands = columns(type, count)
    got = evaluate(
        statement, {"d": result}, **{n: (type, v) for n, v in zip("abc", operands, strict=False)}
    )["d"]
    want = [wrapped(expected(*map(int, row)), result) for row in zip(*operands, strict=True)]
    assert got.tolist() == want


def truncated(a, b):
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


@pytest.mark.parametrize("type", ["s16", "u16", "s32", "u32", "s64", "u64"])
def test_arithmetic(evaluate, type):
    bits = int(type[1:])
    check(evaluate, f"add.{type} %d, %a, %b;", type, lambda a, b: a + b)
    check(evaluate, f"sub.{type} %d, %a, %b;", type, lambda a, b: a - b)
    check(evaluate, f"mul.lo.{type} %d, %a, %b;", type, lambda a, b: a * b)
    check(evaluate, f"mul.hi.{type} %d, %a, %b;", type, lambda a, b: (a * b) >> bits)
    check(evaluate, f"min.{type} %d, %a, %b;", type, min)
    check(evaluate, f"max.{type} %d, %a, %b;", type, max)
    check(evaluate, f"mad.lo.{type} %d, %a, %b, %c;", type, lambda a, b, c: a * b + c, 3)
    check(evaluate, f"sad.{type} %d, %a, %b, %c;", type, lambda a, b, c: abs(a - b) + c, 3)
    check(evaluate, f"div.{type} %d, %a, %b;", type, lambda a, b: truncated(a, b) if b else -1)
    check(evaluate, f"rem.{type} %d, %a, %b;", type,
          lambda a, b: a - b * truncated(a, b) if b else a)  # fmt: skip


@pytest.mark.parametrize("type", ["s16", "u16", "s32", "u32"])
def test_wide_products(evaluate, type):
    wide = f"{type[0]}{2 * int(type[1:])}"
    check(evaluate, f"mul.wide.{type} %d, %a, %b;", type, lambda a, b: a * b, result=wide)


def test_saturation(evaluate):
    def clamp(v):
        return max(-(2**31), min(2**31 - 1, v))

    check(evaluate, "add.sat.s32 %d, %a, %b;", "s32", lambda a, b: clamp(a + b))
    check(evaluate, "sub.sat.s32 %d, %a, %b;", "s32", lambda a, b: clamp(a - b))


def test_carries(evaluate):
    a = np.array([2**64 - 1, 5, 2**63], "u8")
    b = np.array([1, 6, 2**63], "u8")
    got = evaluate("add.cc.u64 %l, %a, %b; addc.u64 %h, %a, %b;", {"l": "u64", "h": "u64"},
                   a=("u64", a), b=("u64", b))  # fmt: skip
    totals = [int(x) + int(y) for x, y in zip(a, b, strict=True)]
    assert got["l"].tolist() == [t % 2**64 for t in totals]
    assert got["h"].tolist() == [(t + (t >> 64)) % 2**64 for t in totals]
    got = evaluate("sub.cc.u64 %l, %a, %b; subc.u64 %h, %a, %b;", {"l": "u64", "h": "u64"},
                   a=("u64", a), b=("u64", b))  # fmt: skip
    totals = [int(x) - int(y) for x, y in zip(a, b, strict=True)]
    assert got["h"].tolist() == [(t - (t < 0)) % 2**64 for t in totals]


@pytest.mark.parametrize("type", ["b16", "b32", "b64"])
def test_logic_and_shifts(evaluate, type):
    bits = int(type[1:])
    check(evaluate, f"and.{type} %d, %a, %b;", type, lambda a, b: a & b)
    check(evaluate, f"or.{type} %d, %a, %b;", type, lambda a, b: a | b)
    check(evaluate, f"xor.{type} %d, %a, %b;", type, lambda a, b: a ^ b)
    check(evaluate, f"not.{type} %d, %a;", type, lambda a: ~a, 1)
    check(evaluate, f"cnot.{type} %d, %a;", type, lambda a: int(a == 0), 1)
    amounts = np.array([0, 1, 5, bits - 1, bits, bits + 1, 2**31, 2**32 - 1] * 3, "u4")
    values = columns(type, 1)[0][: len(amounts)]
    signed = values.view(values.dtype.str.replace("u", "i"))
    got = evaluate(
        f"shl.{type} %l, %a, %n; shr.u{bits} %r, %a, %n; shr.s{bits} %s, %a, %n;",
        {"l": type, "r": type, "s": f"s{bits}"}, a=(type, values), n=("u32", amounts),
    )  # fmt: skip
    pairs = list(zip(values.tolist(), amounts.tolist(), strict=True))
    assert got["l"].tolist() == [(a << min(n, 64)) % 2**bits for a, n in pairs]
    assert got["r"].tolist() == [a >> n for a, n in pairs]
    assert got["s"].tolist() == [
        a >> n for a, n in zip(signed.tolist(), amounts.tolist(), strict=True)
    ]


def test_bits(evaluate):
    for type in ("b32", "b64"):
        bits = int(type[1:])
        check(evaluate, f"popc.{type} %d, %a;", type, lambda a: a.bit_count(), 1, "u32")
        check(evaluate, f"clz.{type} %d, %a;", type, lambda a, n=bits: n - a.bit_length(), 1, "u32")
        check(evaluate, f"brev.{type} %d, %a;", type,
              lambda a, n=bits: int(format(a, f"0{n}b")[::-1], 2), 1)  # fmt: skip
    for type in ("u32", "s32", "u64", "s64"):
        check(evaluate, f"bfind.{type} %d, %a;", type,
              lambda a: (a if a >= 0 else ~a).bit_length() - 1, 1, "u32")  # fmt: skip


def field(a, start, length, type):
    """bfe as the manual states it, bit by bit."""
    bits = int(type[1:])
    start, length = start & 255, length & 255
    last = bits - 1
    unsigned = a % 2**bits
    sign = 0 if type[0] == "u" or length == 0 else unsigned >> min(start + length - 1, last) & 1
    result = 0
    for i in range(bits):
        bit = unsigned >> (start + i) & 1 if i < length and start + i <= last else sign
        result |= bit << i
    return result


@pytest.mark.parametrize("type", ["u32", "s32", "u64", "s64"])
def test_bit_fields(evaluate, type):
    places = [(s, n) for s in (0, 1, 7, 31, 32, 63, 64, 255) for n in (0, 1, 8, 31, 32, 64, 255)]
    values = columns(type, 1)[0][:: len(NUMBERS)]
    rows = [(a, s, n) for a in values.tolist() for s, n in places][:1024]
    a = np.array([row[0] for row in rows], values.dtype)
    s, n = (np.array([row[c] for row in rows], "u4") for c in (1, 2))
    got = evaluate(f"bfe.{type} %d, %a, %s, %n;", {"d": type}, a=(type, a), s=("u32", s),
                   n=("u32", n))["d"]  # fmt: skip
    assert got.tolist() == [wrapped(field(*row, type), type) for row in rows]
    if type[0] == "u":
        bits = int(type[1:])
        b = a[::-1].copy()
        got = evaluate(f"bfi.b{bits} %d, %a, %b, %s, %n;", {"d": type}, a=(type, a), b=(type, b),
                       s=("u32", s), n=("u32", n))["d"]  # fmt: skip
        want = []
        for (value, start, length), into in zip(rows, b.tolist(), strict=True):
            mask = (((1 << length) - 1) << start) % 2**bits if start < bits else 0
            want.append((into & ~mask) | ((value << start) & mask))
        assert got.tolist() == want


def test_three_inputs(evaluate):
    a, b, c = columns("b32", 3)
    for table in (0x00, 0x96, 0xE8, 0xCA, 0xFE, 0x80):
        got = evaluate(f"lop3.b32 %d, %a, %b, %c, {table};", {"d": "b32"}, a=("b32", a),
                       b=("b32", b), c=("b32", c))["d"]  # fmt: skip
        want = np.zeros_like(a)
        for bit in range(32):
            index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | (c >> bit & 1)
            want |= (table >> index & 1) << np.uint32(bit)
        assert (got == want).all()


def test_permutation(evaluate):
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(0, 2**32, 64, dtype=np.uint32) for _ in range(3))
    got = evaluate("prmt.b32 %d, %a, %b, %c;", {"d": "b32"}, a=("b32", a), b=("b32", b),
                   c=("b32", c))["d"]  # fmt: skip
    octets = np.concatenate([a.view("u1").reshape(-1, 4), b.view("u1").reshape(-1, 4)], axis=1)
    for row in range(64):
        want = 0
        for i in range(4):
            nibble = int(c[row]) >> 4 * i & 15
            value = int(octets[row, nibble & 7])
            want |= ((255 * (value >> 7)) if nibble & 8 else value) << 8 * i
        assert int(got[row]) == want


def test_masks_and_extensions(evaluate):
    places = np.repeat(np.array([0, 1, 8, 31, 32, 40], "u4"), 6)
    counts = np.tile(np.array([0, 1, 8, 31, 32, 40], "u4"), 6)
    got = evaluate(
        "bmsk.clamp.b32 %c, %a, %b; bmsk.wrap.b32 %w, %a, %b; szext.clamp.s32 %s, %v, %b;"
        "szext.clamp.u32 %u, %v, %b;", {"c": "b32", "w": "b32", "s": "s32", "u": "u32"},
        a=("u32", places), b=("u32", counts), v=("u32", np.full(36, 0xDEADBEE5)),
    )  # fmt: skip
    for i, (a, b) in enumerate(zip(places.tolist(), counts.tolist(), strict=True)):
        assert got["c"][i] == ((1 << min(b, 32)) - 1) << min(a, 32) & 0xFFFFFFFF
        assert got["w"][i] == ((1 << (b & 31)) - 1) << (a & 31) & 0xFFFFFFFF
        low = 0xDEADBEE5 & ((1 << min(b, 32)) - 1)
        assert got["u"][i] == low
        signed = low - (1 << min(b, 32)) if b and low >> (min(b, 32) - 1) else low
        assert got["s"][i] == signed


def test_funnel_shifts(evaluate):
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 2**32, 64, dtype=np.uint32) for _ in range(2))
    n = np.arange(64, dtype=np.uint32)
    got = evaluate(
        "shf.l.wrap.b32 %lw, %a, %b, %n; shf.r.wrap.b32 %rw, %a, %b, %n;"
        "shf.l.clamp.b32 %lc, %a, %b, %n; shf.r.clamp.b32 %rc, %a, %b, %n;",
        dict.fromkeys(("lw", "rw", "lc", "rc"), "b32"), a=("b32", a), b=("b32", b), n=("u32", n),
    )  # fmt: skip
    for i in range(64):
        both = int(b[i]) << 32 | int(a[i])
        assert int(got["lw"][i]) == (both << (i & 31)) >> 32 & 0xFFFFFFFF
        assert int(got["rw"][i]) == both >> (i & 31) & 0xFFFFFFFF
        assert int(got["lc"][i]) == (both << min(i, 32)) >> 32 & 0xFFFFFFFF
        assert int(got["rc"][i]) == both >> min(i, 32) & 0xFFFFFFFF


@pytest.mark.parametrize("signs", ["s32.s32", "u32.u32", "s32.u32", "u32.s32"])
def test_dot_products(evaluate, signs):
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(0, 2**32, 64, dtype=np.uint32) for _ in range(3))
    first, second = (part[0] for part in signs.split("."))
    result = "s32" if "s" in (first, second) else "u32"
    kinds = {"s": "i", "u": "u"}
    left = a.view(f"{kinds[first]}1").reshape(-1, 4).astype("i8")
    right = b.view(f"{kinds[second]}1").reshape(-1, 4).astype("i8")
    got = evaluate(f"dp4a.{signs} %d, %a, %b, %c;", {"d": "b32"}, a=("b32", a), b=("b32", b),
                   c=("b32", c))["d"]  # fmt: skip
    want = (left * right).sum(axis=1) + c.view("i4" if result == "s32" else "u4").astype("i8")
    assert (got == (want & 0xFFFFFFFF).astype("u4")).all()
    halves = a.view(f"{kinds[first]}2").reshape(-1, 2).astype("i8")
    for part, bytes_ in (("lo", right[:, :2]), ("hi", right[:, 2:])):
        got = evaluate(f"dp2a.{part}.{signs} %d, %a, %b, %c;", {"d": "b32"}, a=("b32", a),
                       b=("b32", b), c=("b32", c))["d"]  # fmt: skip
        want = (halves * bytes_).sum(axis=1) + c.astype("i8")
        assert (got == (want & 0xFFFFFFFF).astype("u4")).all()


@pytest.mark.parametrize("count", [2, 4])
def test_parts_of_registers(evaluate, count):
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(0, 2**32, 64, dtype=np.uint32) for _ in range(3))
    got = evaluate(
        f"vadd{count}.u32.u32.u32 %s, %a, %b, %c; vsub{count}.s32.s32.s32.sat %t, %a, %b, %c;"
        f"vabsdiff{count}.u32.u32.u32.add %u, %a, %b, %c; vavrg{count}.u32.u32.u32 %v, %a, %b, %c;"
        f"vset{count}.u32.u32.lt %w, %a, %b, %c;",
        dict.fromkeys("stuvw", "b32"), a=("b32", a), b=("b32", b), c=("b32", c),
    )  # fmt: skip
    size = 4 // count
    x, y = (v.view(f"u{size}").reshape(64, count).astype("i8") for v in (a, b))
    p, q = (v.view(f"i{size}").reshape(64, count).astype("i8") for v in (a, b))
    parts = {name: got[name].view(f"u{size}").reshape(64, count) for name in "stvw"}
    most = 2 ** (8 * size - 1)
    assert (parts["s"] == (x + y) % (2 * most)).all()
    assert (parts["t"].view(f"i{size}") == np.clip(p - q, -most, most - 1)).all()
    assert (got["u"] == (np.abs(x - y).sum(axis=1) + c) % 2**32).all()
    assert (parts["v"] == (x + y + 1) // 2).all()
    assert (parts["w"] == (x < y)).all()
