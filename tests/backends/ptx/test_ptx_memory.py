"""Loads, stores, addresses, variables, calls and atomics."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from hectorite.backends.ptx.machine import Launch, Machine, Pointer, execute
from hectorite.backends.ptx.memory import DeviceMemory
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.parse import parse_ptx

RNG = np.random.default_rng(0)
HEAD = ".version 8.7\n.target sm_90\n.address_size 64\n"
START = ".reg .b64 %p<9>; .reg .b32 %r<20>; .reg .pred %t<4>; .reg .f32 %f<9>; .reg .b16 %h<9>;\n"


def run(
    body, arguments, threads=32, blocks=1, shared=0, before="", types=None, sizes=(), **options
):
    """Run statements with parameters a, b, ... (64 bits unless `types` says)."""
    names = "abcdefgh"[: len(arguments)]
    types = types or ["u64"] * len(arguments)
    listed = ", ".join(f".param .{t} {n}" + (f"[{sizes[n]}]" if n in sizes else "")
                       for n, t in zip(names, types, strict=True))  # fmt: skip
    text = f"{HEAD}{before}\n.visible .entry k({listed})\n{{\n{START}{body}\nret;\n}}\n"
    launch = Launch(parse_ptx(text), "k", (blocks,), (threads,), arguments, shared)
    return execute(launch, **options)


@pytest.mark.parametrize("space", ["shared", "local", "global", "generic"])
@pytest.mark.parametrize(("type", "vector"), [
    ("u8", 1), ("s8", 1), ("u16", 1), ("b32", 1), ("u8", 4), ("b32", 2), ("b32", 4), ("b64", 1),
    ("b64", 2),
])  # fmt: skip
def test_widths_and_spaces(space, type, vector):
    size = int(type[1:]) // 8 * vector
    data = RNG.integers(0, 256, (32, size)).astype("u1")
    out = np.zeros_like(data)
    kind = "b64" if type == "b64" else "b32"
    registers = ", ".join(f"%v{i}" for i in range(vector))
    operand = f"{{{registers}}}" if vector > 1 else registers
    form = f"v{vector}.{type}" if vector > 1 else type
    unsigned = form.replace("s8", "u8")
    where = {
        "shared": ("mov.u32 %r2, tile; mad.lo.u32 %r3, %r1, SIZE, %r2;", ".shared", "%r3"),
        "local": ("mov.u64 %p3, frame;", ".local", "%p3"),
        "global": ("add.u64 %p3, %p2, 0;", ".global", "%p3"),
        "generic": (
            "mov.u64 %p3, tile; cvta.shared.u64 %p3, %p3; mad.wide.u32 %p3, %r1, SIZE, %p3;", "",
            "%p3"),
    }[space]  # fmt: skip
    setup, name, place = where
    run(
        f".reg .{kind} %v<4>; .shared .align 16 .b8 tile[512]; .local .align 16 .b8 frame[32];"
        "mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; ld.param.u64 %p2, [b];"
        f"mad.wide.u32 %p1, %r1, {size}, %p1; mad.wide.u32 %p2, %r1, {size}, %p2;"
        f"{setup.replace('SIZE', str(size))} ld.global.{form} {operand}, [%p1];"
        f"st{name}.{unsigned.replace('s', 'u')} [{place}], {operand};"
        f"ld{name}.{form} {operand}, [{place}]; st.global.{unsigned} [%p2], {operand};",
        [data, out],
    )
    assert (out == data).all()


def test_narrow_loads_extend():
    out = np.zeros(4, "i8")
    run(
        ".reg .b16 %w; .reg .s32 %s; .reg .s64 %l; ld.param.u64 %p1, [a]; ld.param.u64 %p2, [b];"
        "ld.global.s8 %w, [%p1]; cvt.s64.s16 %l, %w; st.global.u64 [%p2], %l;"
        "ld.global.s8 %s, [%p1]; cvt.s64.s32 %l, %s; st.global.u64 [%p2+8], %l;"
        "ld.global.u8 %s, [%p1]; cvt.s64.s32 %l, %s; st.global.u64 [%p2+16], %l;"
        "ld.global.s16 %l, [%p1]; st.global.u64 [%p2+24], %l;",
        [np.array([-3, -4], "i1"), out], threads=1,
    )  # fmt: skip
    assert out.tolist() == [-3, -3, 253, np.array([-3, -4], "i1").view("i2")[0]]


def test_arguments_by_value():
    out = np.zeros(4, "f8")
    run(
        ".reg .f64 %d; .reg .s32 %i; ld.param.u64 %p1, [a];"
        "ld.param.f32 %f1, [b]; cvt.f64.f32 %d, %f1; st.global.f64 [%p1], %d;"
        "ld.param.f64 %d, [c]; st.global.f64 [%p1+8], %d;"
        "ld.param.s32 %i, [d]; cvt.rn.f64.s32 %d, %i; st.global.f64 [%p1+16], %d;"
        "ld.param.s8 %i, [e]; cvt.rn.f64.s32 %d, %i; st.global.f64 [%p1+24], %d;",
        [out, np.float32(1.5), 2.5, np.int32(-7), -3], threads=1,
        types=["u64", "f32", "f64", "s32", "s8"],
    )  # fmt: skip
    assert out.tolist() == [1.5, 2.5, -7, -3]


def test_parameters_at_an_address_in_a_register():
    out = np.zeros(32, "u4")
    run(
        "ld.param.u64 %p1, [a]; mov.u32 %r1, %tid.x; mad.wide.u32 %p1, %r1, 4, %p1;"
        "and.b32 %r2, %r1, 3; mov.u64 %p2, b; mad.wide.u32 %p2, %r2, 4, %p2;"
        "ld.param.u32 %r3, [%p2]; st.global.u32 [%p1], %r3;",
        [out, np.arange(10, 14, dtype="u4").tobytes()],
        types=["u64", "align 4 .b8"],
        sizes={"b": 16},
    )
    assert out.tolist() == [10, 11, 12, 13] * 8


def test_arrays_that_overlap_and_pointers_into_them():
    data = np.arange(64, dtype="f4")
    before = data.copy()
    run(
        "mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; mad.wide.u32 %p1, %r1, 4, %p1;"
        "ld.param.u64 %p2, [b]; mad.wide.u32 %p2, %r1, 4, %p2; ld.global.f32 %f1, [%p1];"
        "ld.global.f32 %f2, [%p2]; add.f32 %f1, %f1, %f2; st.global.f32 [%p1], %f1;",
        [data[:32], data[16:]],
    )
    assert (data[:32] == before[:32] + before[16:48]).all()
    run(
        "mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; mad.wide.u32 %p1, %r1, 4, %p1;"
        "st.global.f32 [%p1], 0f00000000;",
        [Pointer(data, 128)],
    )
    assert (data[32:] == 0).all()


def test_module_variables_keep_their_values_between_launches():
    module = parse_ptx(
        HEAD + ".global .align 4 .u32 count = 5;\n"
        ".const .f32 table[4] = {1.5, 2.5, 0f40600000, 4};\n"
        ".global .u64 pointer = generic(count);\n"
        ".visible .entry k(.param .u64 a) { .reg .b64 %p<4>; .reg .b32 %r; .reg .f32 %f;\n"
        "ld.param.u64 %p1, [a]; ld.global.u64 %p2, [pointer]; "
        "ld.u32 %r, [%p2]; add.u32 %r, %r, 1;\n"
        "st.global.u32 [count], %r; cvt.rn.f32.u32 %f, %r; st.global.f32 [%p1], %f;\n"
        "ld.const.f32 %f, [table+8]; st.global.f32 [%p1+4], %f; ret; }\n"
    )  # fmt: skip
    machine = Machine()
    address = machine.memory.allocate(8)
    for expected in (6, 7):
        machine.launch(module, "k", (1,), (1,), [address])
        assert machine.memory.view(address, 8, "f4").tolist() == [expected, 3.5]
    count = machine.address_of(module, "count")
    assert machine.memory.view(count, 4, "u4")[0] == 7


def test_calls():
    before = (
        ".func (.param .b32 r) twice(.param .b32 x) { .reg .f32 %f<3>; .reg .pred %p;\n"
        "ld.param.f32 %f1, [x]; setp.lt.f32 %p, %f1, 0f00000000; @%p bra NEG;\n"
        "add.f32 %f2, %f1, %f1; st.param.f32 [r], %f2; ret;\nNEG: st.param.f32 [r], %f1; ret; }\n"
        ".func (.param .b32 r) more(.param .b32 x) { .reg .f32 %f<3>;\n"
        "ld.param.f32 %f1, [x];\n{ .param .b32 q; .param .b32 s; st.param.f32 [q], %f1;\n"
        "call (s), twice, (q); ld.param.f32 %f2, [s]; }\nadd.f32 %f2, %f2, 0f3F800000;\n"
        "st.param.f32 [r], %f2; ret; }\n"
    )
    data = np.arange(-16, 16, dtype="f4")
    out = np.zeros_like(data)
    run(
        "mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; mad.wide.u32 %p1, %r1, 4, %p1;"
        "ld.param.u64 %p2, [b]; mad.wide.u32 %p2, %r1, 4, %p2; ld.global.f32 %f1, [%p1];"
        "{ .param .b32 q; .param .b32 s; st.param.f32 [q], %f1; call.uni (s), more, (q);"
        "ld.param.f32 %f2, [s]; } st.global.f32 [%p2], %f2;",
        [data, out], before=before,
    )  # fmt: skip
    assert (out == np.where(data < 0, data, 2 * data) + 1).all()


def test_branch_tables():
    out = np.zeros(32, "u4")
    run(
        "mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; mad.wide.u32 %p1, %r1, 4, %p1;"
        "rem.u32 %r2, %r1, 3; brx.idx %r2, T; T: .branchtargets A, B, C;\n"
        "A: mov.u32 %r3, 10; bra E; B: mov.u32 %r3, 20; bra E; C: mov.u32 %r3, 30;\n"
        "E: st.global.u32 [%p1], %r3;",
        [out],
    )
    assert out.tolist() == [[10, 20, 30][i % 3] for i in range(32)]


ATOMICS = [("add", "u32"), ("add", "u64"), ("add", "f32"), ("add", "f64"), ("min", "s32"),
           ("max", "u64"), ("and", "b32"), ("or", "b32"), ("xor", "b64"), ("exch", "b32"),
           ("inc", "u32"), ("dec", "u32")]  # fmt: skip


@pytest.mark.parametrize(("operation", "type"), ATOMICS)
@pytest.mark.parametrize("space", ["global", "shared"])
def test_atomics_take_turns(operation, type, space):
    """Every lane finds what the lanes before it left."""
    dtype = {"u": "u", "s": "i", "f": "f", "b": "u"}[type[0]] + str(int(type[1:]) // 8)
    size = np.dtype(dtype).itemsize
    values = RNG.integers(0, 50, 64).astype(dtype)
    places = RNG.integers(0, 5, 64).astype("u4")
    memory = RNG.integers(0, 50, 8).astype(dtype)
    start, old = memory.copy(), np.zeros(64, dtype)
    register = type.replace("u", "b").replace("s", "b")
    to_shared = f"""
    .shared .align 8 .b8 tile[64]; mov.u32 %r4, tile; mad.lo.u32 %r5, %r1, {size}, %r4;
    setp.ge.u32 %t1, %r1, 8; @%t1 bra GO; mad.wide.u32 %p5, %r1, {size}, %p1;
    ld.global.b{8 * size} %x, [%p5]; st.shared.b{8 * size} [%r5], %x; GO: bar.sync 0;
    cvt.u64.u32 %p1, %r4; mad.wide.u32 %p4, %r2, {size}, %p1;
    """
    run(
        f".reg .{register} %v, %w; .reg .b{8 * size} %x; mov.u32 %r1, %tid.x;"
        "ld.param.u64 %p1, [a]; ld.param.u64 %p2, [b]; "
        "ld.param.u64 %p3, [c]; ld.param.u64 %p6, [d];"
        f"mad.wide.u32 %p2, %r1, {size}, %p2; mad.wide.u32 %p3, %r1, 4, %p3;"
        f"mad.wide.u32 %p6, %r1, {size}, %p6;"
        f"ld.global.b{8 * size} %v, [%p2]; ld.global.u32 %r2, [%p3]; "
        f"mad.wide.u32 %p4, %r2, {size}, %p1;"
        f"{to_shared if space == 'shared' else ''}"
        f"atom.{space}.{operation}.{type} %w, [%p4], %v; st.global.b{8 * size} [%p6], %w;",
        [memory, values, places, old], threads=64,
    )  # fmt: skip
    state = start.copy()
    for lane in range(64):
        assert old[lane] == state[places[lane]]
        was, v = state[places[lane]], values[lane]
        state[places[lane]] = {
            "add": lambda a, b: a + b, "min": min, "max": max, "and": lambda a, b: a & b,
            "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "exch": lambda a, b: b,
            "inc": lambda a, b: 0 if a >= b else a + 1,
            "dec": lambda a, b: b if a == 0 or a > b else a - 1,
        }[operation](was, v)  # fmt: skip
    if space == "global":
        assert (memory == state).all()


def test_compare_and_swap():
    memory, old = np.array([3], "u4"), np.zeros(32, "u4")
    run(
        "mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; ld.param.u64 %p2, [b];"
        "mad.wide.u32 %p2, %r1, 4, %p2; add.u32 %r2, %r1, 4;"
        "atom.global.cas.b32 %r3, [%p1], 3, %r2; st.global.u32 [%p2], %r3;",
        [memory, old],
    )
    assert memory[0] == 4
    assert old.tolist() == [3] + [4] * 31


def test_vector_and_packed_reductions():
    out = np.zeros((4, 4), "f4")
    run(
        "mov.u32 %r1, %tid.x; rem.u32 %r2, %r1, 4; "
        "ld.param.u64 %p1, [a]; mad.wide.u32 %p1, %r2, 16, %p1;"
        "cvt.rn.f32.u32 %f1, %r1; red.global.add.v4.f32 [%p1], {%f1, 0f3F800000, %f1, 0f40000000};",
        [out],
    )  # fmt: skip
    sums = np.array([sum(range(i, 32, 4)) for i in range(4)])
    assert (out == np.stack([sums, np.full(4, 8), sums, np.full(4, 16)], axis=1)).all()
    pairs = np.zeros((1, 2), "f2")
    run("ld.param.u64 %p1, [a]; red.global.add.noftz.f16x2 [%p1], 0x40003C00;", [pairs])
    assert pairs.tolist() == [[32.0, 64.0]]
    brains = np.zeros((1, 2), ml_dtypes.bfloat16)
    run(
        "ld.param.u64 %p1, [a]; red.global.add.noftz.bf16x2 [%p1], 0x40003F80;", [brains.view("u2")]
    )
    assert brains.astype("f4").tolist() == [[32.0, 64.0]]


def test_device_memory():
    memory = DeviceMemory(1 << 20)
    first, second = memory.allocate(100), memory.allocate(0)
    assert first % 256 == 0
    assert second > first + 100
    memory.view(first, 100)[:] = 7
    assert memory.view(first, 8, "u4").tolist() == [0x07070707] * 2
    memory.free(first)
    with pytest.raises(HectoriteError, match="not in one allocation"):
        memory.view(first, 1)
    assert memory.allocate(90) == first
    with pytest.raises(HectoriteError, match="do not fit"):
        memory.allocate(1 << 20)
    with pytest.raises(HectoriteError, match="not the address of an allocation"):
        memory.free(first + 4)


@pytest.mark.parametrize(("arguments", "options", "message"), [
    ([], {}, "is launched with 0 arguments"),
    ([1.5], {}, "takes a .u64, got a float"),
    ([0], {"threads": 2000}, "a block of 2000 threads"),
    ([0], {"shared": 400000}, "more than a block can have"),
    ([np.zeros((4, 4))[:, ::2]], {}, "arrays must be contiguous"),
])  # fmt: skip
def test_launches_that_are_refused(arguments, options, message):
    with pytest.raises(HectoriteError, match=message):
        run("", arguments, types=None, **options) if arguments else execute(
            Launch(parse_ptx(HEAD + ".entry k(.param .u64 a) { ret; }"), "k", (1,), (1,))
        )


def test_instructions_that_are_not_known_are_told_before_anything_runs():
    out = np.zeros(1, "u4")
    with pytest.raises(HectoriteError, match=r"line 9, `tex.2d.v4.f32.f32`.*not supported"):
        run("ld.param.u64 %p1, [a]; st.global.u32 [%p1], 1;\ntex.2d.v4.f32.f32 %f1, [%p1];", [out])
    assert out[0] == 0
