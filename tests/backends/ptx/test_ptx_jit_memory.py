"""Memory and control of compiled PTX against lockstep: widths, spaces, atomics, calls, branches."""

import numpy as np
import pytest

from hectorite import ptx

RNG = np.random.default_rng(5)
HEAD = ".version 8.4\n.target sm_90\n.address_size 64\n"
THREADS = 64

KERNEL = """
{before}
.visible .entry k(.param .u64 in, .param .u64 out)
{{
  .reg .b64 %in, %out, %x<8>; .reg .b32 %t, %r<16>; .reg .b16 %h<8>; .reg .pred %p<4>;
  .reg .f32 %f<8>; .reg .f64 %g<4>;
  {variables}
  ld.param.u64 %in, [in];
  ld.param.u64 %out, [out];
  mov.u32 %t, %tid.x;
  mad.wide.u32 %x0, %t, 64, %in;
  mad.wide.u32 %x1, %t, 64, %out;
  {body}
  ret;
}}
"""


def results(body, variables="", before="", given=None, shape=(THREADS, 16), dtype=np.uint32):
    text = HEAD + KERNEL.format(body=body, variables=variables, before=before)
    if given is None:
        given = RNG.integers(0, 2**32, (THREADS, 16), dtype=np.uint32)
    program = ptx.load(text)
    found = []
    for mode in ("compiled", "lockstep"):
        out = np.zeros(shape, dtype)
        program["k"](1, THREADS, [given.copy(), out], mode=mode, check=mode == "compiled")
        found.append(out)
    np.testing.assert_array_equal(*found)
    return given, found[0]


def test_widths():
    """A narrow load fills its register with zeros or copies of the sign."""
    body = """ld.global.u8 %h0, [%x0+3];
  ld.global.s8 %r0, [%x0+3];
  ld.global.s16 %r1, [%x0+6];
  ld.global.u16 %r2, [%x0+6];
  ld.global.s32 %x2, [%x0+8];
  ld.global.b64 %x3, [%x0+16];
  ld.global.v2.u16 {%h1, %h2}, [%x0+12];
  ld.global.v4.u8 {%r4, %r5, %r6, %r7}, [%x0+24];
  st.global.u16 [%x1], %h0;
  st.global.v4.b32 [%x1+16], {%r0, %r1, %r2, %r4};
  st.global.v2.b64 [%x1+32], {%x2, %x3};
  st.global.v2.u16 [%x1+48], {%h2, %h1};
  st.global.u8 [%x1+52], %r5;
  st.global.u8 [%x1+53], %r6;
  st.global.b16 [%x1+54], %r7;"""
    given, out = results(body)
    raw = given.view(np.uint8)
    assert (out[:, 4].view(np.int32) == raw[:, 3].view(np.int8)).all()


def test_local_memory_and_generic_addresses():
    body = """ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%x0];
  mov.u64 %x2, own;
  and.b32 %r4, %r0, 60;
  cvt.u64.u32 %x3, %r4;
  add.s64 %x4, %x2, %x3;
  st.local.u32 [%x4], %r1;
  cvta.local.u64 %x5, %x4;
  ld.u32 %r5, [%x5];
  atom.add.u32 %r6, [%x5], 3;
  ld.local.u32 %r7, [%x4];
  mov.u64 %x2, held;
  cvta.shared.u64 %x6, %x2;
  mad.wide.u32 %x6, %t, 4, %x6;
  st.u32 [%x6], %r7;
  cvta.to.shared.u64 %x7, %x6;
  ld.shared.u32 %r8, [%x7];
  isspacep.shared %p0, %x6;
  isspacep.global %p1, %x0;
  isspacep.local %p2, %x5;
  selp.b32 %r9, 1, 0, %p0;
  selp.b32 %r10, 1, 0, %p1;
  selp.b32 %r11, 1, 0, %p2;
  ld.u32 %r12, [%x0+4];
  st.global.v4.b32 [%x1], {%r5, %r6, %r7, %r8};
  st.v4.b32 [%x1+16], {%r9, %r10, %r11, %r12};"""
    variables = ".local .align 8 .b8 own[64]; .shared .align 8 .b8 held[256];"
    given, out = results(body, variables)
    assert (out[:, 0] == given[:, 1]).all() and (out[:, 4:7] == 1).all()
    assert (out[:, 3] == given[:, 1] + np.uint32(3)).all()


def test_variables_of_the_module():
    before = """.const .align 4 .f32 table[4] = {0f3F800000, 2.5, 0f40400000, -4.0};
.global .align 8 .u64 place = generic(numbers);
.global .align 2 .u16 numbers[3] = {7, 65535, 9};"""
    before = "\n".join(sorted(before.split("\n"), key=lambda line: "place" in line))
    body = """and.b32 %r0, %t, 3;
  mov.u64 %x2, table;
  mad.wide.u32 %x2, %r0, 4, %x2;
  ld.const.f32 %f0, [%x2];
  ld.global.u16 %h0, [numbers+2];
  ld.global.u64 %x3, [place];
  ld.u16 %h1, [%x3+4];
  st.global.f32 [%x1], %f0;
  st.global.v2.u16 [%x1+4], {%h0, %h1};"""
    _, out = results(body, before=before)
    assert out[1].view(np.float32)[0] == 2.5 and out[0, 1] == 9 << 16 | 65535


ATOMICS = [
    *(f"{name}.{type}" for name in ("add", "min", "max", "exch") for type in ("u32", "u64")),
    *(f"{name}.{type}" for name in ("min", "max") for type in ("s32", "s64")),
    *(f"{name}.b{bits}" for name in ("and", "or", "xor") for bits in (32, 64)),
    *("inc.u32", "dec.u32", "add.s32"),
]


@pytest.mark.parametrize("operation", [a for a in ATOMICS if not a.startswith("exch")])
@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics(operation, space):
    wide = operation.endswith("64")
    kind, register = ("b64", "%x4") if wide else ("b32", "%r1")
    address = "%in" if space == "global" else "%x5"
    body = f"""mov.u64 %x5, held;
  ld.global.b64 %x4, [%x0+64];
  ld.global.b32 %r1, [%x0+64];
  setp.eq.u32 %p0, %t, 0;
  @%p0 st.shared.u64 [%x5], 0x123456789;
  bar.sync 0;
  red.{space}.{operation.replace("add.s64", "add.u64")} [{address}], {register};
  bar.sync 0;
  ld.{space}.{kind} {register}, [{address}];
  st.global.{kind} [%x1], {register};"""
    given = RNG.integers(0, 2**32, (THREADS + 1, 16), dtype=np.uint32)
    results(body, ".shared .align 8 .b8 held[8];", given=given)


def test_atomics_give_what_was_there():
    """Each thread gets a number of its own, in some order."""
    body = """atom.global.add.u32 %r0, [%in], 1;
  atom.global.exch.b32 %r1, [%in+4], %t;
  atom.global.cas.b32 %r2, [%in+8], %t, 1000;
  st.global.v2.b32 [%x1], {%r0, %r2};"""
    text = HEAD + KERNEL.format(body=body, variables="", before="")
    for mode in ("compiled", "lockstep"):
        given = np.zeros((THREADS, 16), np.uint32)
        out = np.zeros((THREADS, 16), np.uint32)
        ptx.load(text)["k"](1, THREADS, [given, out], mode=mode)
        assert sorted(out[:, 0]) == list(range(THREADS)) and given[0, 0] == THREADS
        assert given[0, 1] in range(THREADS)
        assert given[0, 2] == 1000 and (out[1:, 1] == 1000).all() and out[0, 1] == 0


@pytest.mark.parametrize(
    "operation, operand, dtype",
    [
        ("add.f32", "%f0", np.float32),
        ("add.f64", "%g0", np.float64),
        ("add.noftz.f16", "%h0", np.float16),
        ("add.noftz.f16x2", "%r0", np.float16),
        ("add.noftz.bf16x2", "%r1", np.uint16),
        ("add.v2.f32", "{%f0, %f0}", np.float32),
        ("add.v4.f32", "{%f0, %f0, %f0, %f0}", np.float32),
    ],
)
def test_atomic_sums(operation, operand, dtype):
    body = f"""mov.f32 %f0, 0f3F800000;
  mov.f64 %g0, 0d3FF0000000000000;
  mov.b16 %h0, 0x3C00;
  mov.b32 %r0, 0x40003C00;
  mov.b32 %r1, 0x40003F80;
  red.global.{operation} [%out], {operand};"""
    _, out = results(body, shape=(THREADS, 16))
    total = out.view(dtype).ravel()[0]
    assert total == (THREADS if dtype is not np.uint16 else 0x4280)


def test_calls():
    before = """
.func (.param .b32 result) power(.param .b32 base, .param .b32 exponent)
{
  .reg .b32 %b, %e, %v; .reg .pred %p;
  ld.param.b32 %b, [base];
  ld.param.b32 %e, [exponent];
  mov.u32 %v, 1;
$again:
  setp.eq.u32 %p, %e, 0;
  @%p bra $done;
  mul.lo.u32 %v, %v, %b;
  sub.u32 %e, %e, 1;
  bra $again;
$done:
  st.param.b32 [result], %v;
  ret;
}
.func (.reg .b32 %sum) twice(.reg .b32 %value)
{
  .param .b32 a; .param .b32 n; .param .b32 back;
  st.param.b32 [a], %value;
  st.param.b32 [n], 2;
  call (back), power, (a, n);
  ld.param.b32 %sum, [back];
  add.u32 %sum, %sum, %value;
  ret;
}"""
    body = """.param .b32 base; .param .b32 exponent; .param .b32 result;
  ld.global.b32 %r0, [%x0];
  st.param.b32 [base], %r0;
  st.param.b32 [exponent], 3;
  call.uni (result), power, (base, exponent);
  ld.param.b32 %r1, [result];
  call (%r2), twice, (%r0);
  st.global.v2.b32 [%x1], {%r1, %r2};"""
    given, out = results(body, before=before)
    value = given[:, 0]
    assert (out[:, 0] == value**3).all() and (out[:, 1] == value * value + value).all()


def test_tables_of_branches():
    body = """and.b32 %r0, %t, 3;
ways: .branchtargets FIRST, SECOND, THIRD, FIRST;
  brx.idx %r0, ways;
FIRST:
  mov.u32 %r1, 10;
  bra.uni OVER;
SECOND:
  mov.u32 %r1, 20;
  @%p0 bra OVER;
  add.u32 %r1, %r1, 1;
THIRD:
  mov.u32 %r2, 30;
OVER:
  st.global.v2.b32 [%x1], {%r1, %r2};""".replace("@%p0", "@!%p0")
    _, out = results("setp.eq.u32 %p0, %t, 70;\n  " + body)
    assert out[:4, 0].tolist() == [10, 20, 0, 10]


def test_special_registers():
    names = ["tid.x", "tid.y", "tid.z", "ntid.x", "nctaid.x", "ctaid.x", "laneid", "warpid",
             "lanemask_lt", "lanemask_le", "lanemask_eq", "lanemask_gt", "lanemask_ge"]  # fmt: skip
    body = "\n  ".join(
        f"mov.u32 %r0, %{name};\n  st.global.u32 [%x1+{4 * i}], %r0;"
        for i, name in enumerate(names)
    )
    _, out = results(body)
    assert (out[:, 0] == np.arange(THREADS)).all()
    assert (out[:, 8] == (1 << np.arange(THREADS) % 32) - 1).all()


def test_grids_of_three_dimensions():
    text = (
        HEAD
        + """
.visible .entry k(.param .u64 out)
{
  .reg .b64 %a; .reg .b32 %r<12>;
  ld.param.u64 %a, [out];
  mov.u32 %r0, %tid.x; mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z;
  mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ctaid.y; mov.u32 %r5, %ctaid.z;
  mad.lo.u32 %r6, %r5, 3, %r4;
  mad.lo.u32 %r6, %r6, 2, %r3;
  mad.lo.u32 %r7, %r2, 2, %r1;
  mad.lo.u32 %r7, %r7, 5, %r0;
  mad.lo.u32 %r8, %r6, 30, %r7;
  mad.wide.u32 %a, %r8, 4, %a;
  red.global.add.u32 [%a], 1;
  ret;
}
"""
    )
    for mode in ("compiled", "lockstep"):
        out = np.zeros(2 * 3 * 4 * 30, np.uint32)
        ptx.load(text)["k"]((2, 3, 4), (5, 2, 3), [out], mode=mode)
        assert (out == 1).all(), mode
