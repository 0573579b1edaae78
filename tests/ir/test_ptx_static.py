"""Faults of PTX that are seen without running it, and kernels in which there are none."""

import pytest

from hectorite.ir.ptx.flow import blocks_of, in_cycle, live_registers, reads, writes
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.ptx.static import static_findings

HEAD = """.version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 p, .param .u32 n)
{
  .reg .b32 %a<8>; .reg .b64 %x<8>; .reg .f32 %f<8>; .reg .f64 %g<4>; .reg .b16 %h<4>;
  .reg .pred %p<4>;
"""
FIRST = HEAD.count("\n") + 1


def findings(body):
    """(line of the body from 0, kind) of each finding."""
    text = HEAD + "\n".join(body) + "\n}\n"
    return [(f.line - FIRST, f.kind) for f in static_findings(parse_ptx(text))]


@pytest.mark.parametrize(
    "body",
    [
        ["mov.u32 %a0, %tid.x;", "add.s32 %a1, %a0, 1;", "ret;"],
        # Written on one way only: it may have been written.
        ["ld.param.u32 %a0, [n];", "setp.eq.u32 %p0, %a0, 0;", "@%p0 bra L;", "mov.u32 %a1, 1;",
         "L:", "add.u32 %a2, %a1, 1;", "ret;"],
        # Written later in a loop.
        ["mov.u32 %a0, 3;", "L:", "setp.eq.u32 %p0, %a0, 3;", "@!%p0 add.u32 %a2, %a1, 1;",
         "mov.u32 %a1, 1;", "sub.u32 %a0, %a0, 1;", "setp.ne.u32 %p1, %a0, 0;", "@%p1 bra L;",
         "ret;"],
        # Code that nothing leads to.
        ["ret;", "add.u32 %a1, %a0, 1;"],
    ],
)  # fmt: skip
def test_registers_that_may_have_been_written(body):
    assert findings(body) == []


def test_registers_that_nothing_has_written():
    body = ["add.u32 %a1, %a0, 1;", "add.u32 %a2, %a0, %a1;", "@%p0 ret;",
            "st.global.f32 [%x0], %f1;", "ret;"]  # fmt: skip
    found = [(0, "uninitialized"), (1, "uninitialized"), (2, "uninitialized"), (3, "uninitialized")]
    assert sorted(set(findings(body))) == found


@pytest.mark.parametrize(
    ("instruction", "fits"),
    [
        ("add.s32 %a0, %a1, %a2;", True),
        ("add.f32 %a0, %a1, %f2;", True),
        ("add.f32 %f0, %f1, %x2;", False),
        ("add.s32 %f0, %a1, %a2;", False),
        ("add.s64 %x0, %x1, %a2;", False),
        ("mul.wide.s32 %x0, %a1, %a2;", True),
        ("mul.wide.s32 %a0, %a1, %a2;", False),
        ("mad.wide.u16 %a0, %h1, %h2, %a3;", True),
        ("mad.wide.u16 %a0, %h1, %h2, %h3;", False),
        ("fma.rn.f64 %g0, %g1, %g2, %g3;", True),
        ("fma.rn.f64 %g0, %g1, %g2, %f3;", False),
        ("shl.b64 %x0, %x1, %a2;", True),
        ("shl.b64 %x0, %x1, %x2;", False),
        ("setp.lt.s32 %p0, %a1, %x2;", False),
        ("selp.f32 %f0, %f1, %f2, %p0;", True),
        ("mov.b32 %a0, %f1;", True),
        ("mov.u64 %a0, %x1;", False),
        ("cvt.u16.u32 %a0, %a1;", True),
        ("cvt.u64.u32 %a0, %a1;", False),
        ("cvt.rn.f32.f64 %f0, %f1;", False),
        ("ld.global.u8 %h0, [%x1];", True),
        ("ld.global.u64 %a0, [%x1];", False),
        ("st.global.u8 [%x1], %a0;", True),
        ("popc.b64 %a0, %x1;", True),
        ("fma.rn.f16x2 %a0, %a1, %a2, %a3;", True),
    ],
)
def test_widths(instruction, fits):
    names = ["%a1", "%a2", "%a3", "%x1", "%x2", "%f1", "%f2", "%f3", "%g1", "%g2", "%g3", "%h1",
             "%h2", "%h3"]  # fmt: skip
    kinds = {"a": "u32", "x": "u64", "f": "f32", "g": "f64", "h": "u16"}
    values = {"f": "0f00000000", "g": "0d0000000000000000"}
    before = [f"mov.{kinds[n[1]]} {n}, {values.get(n[1], 0)};" for n in names]
    before += ["mov.u32 %a0, 0;", "setp.eq.u32 %p0, %a0, 0;"]
    found = findings([*before, instruction, "ret;"])
    assert found == ([] if fits else [(len(before), "type_mismatch")])


BY_THREAD = ["mov.u32 %a0, %tid.x;", "setp.lt.u32 %p0, %a0, 7;"]
BY_BLOCK = ["ld.param.u32 %a0, [n];", "setp.lt.u32 %p0, %a0, 7;"]
AROUND = ["@%p0 bra L;", "bar.sync 0;", "L:", "st.global.u32 [%x0], %a0;", "ret;"]
START = ["ld.param.u64 %x0, [p];"]


def test_barriers_that_some_threads_reach():
    assert findings(START + BY_THREAD + AROUND) == [(4, "divergent_barrier")]
    assert findings(START + BY_BLOCK + AROUND) == []
    guarded = [*BY_THREAD, "@%p0 bar.sync 0;", "ret;"]
    assert findings(guarded) == [(2, "divergent_barrier")]
    early = [
        *START,
        *BY_THREAD,
        "@%p0 bra D;",
        "bar.sync 0;",
        "st.global.u32 [%x0], %a0;",
        "D:",
        "ret;",
    ]
    assert findings(early) == [], "who has ended is not waited for"


def test_barriers_for_some_threads_are_meant():
    counted = [text.replace("bar.sync 0", "bar.sync 1, 32") for text in AROUND]
    assert findings(START + BY_THREAD + counted) == []


def test_what_is_computed_in_a_branch_of_some_threads_differs():
    body = [*START, *BY_THREAD, "mov.u32 %a1, 0;", "@%p0 bra L;", "mov.u32 %a1, 1;", "L:",
            "setp.eq.u32 %p1, %a1, 0;", "@%p1 bra M;", "bar.sync 0;", "M:",
            "st.global.u32 [%x0], %a1;", "ret;"]  # fmt: skip
    assert findings(body) == [(9, "divergent_barrier")]


def test_loops_of_different_lengths():
    body = [*BY_THREAD, "L:", "bar.sync 0;", "sub.u32 %a0, %a0, 1;", "setp.gt.s32 %p1, %a0, 0;",
            "@%p1 bra L;", "bar.sync 0;", "ret;"]  # fmt: skip
    assert (3, "divergent_barrier") in findings(body)
    same = [*BY_BLOCK, *body[2:]]
    assert findings(same) == []


def test_a_loop_that_only_the_end_leaves():
    """Every way to the end leads through the loop's branch, one of whose ways is the end."""
    loop = ["bar.sync 0;", "@%p0 bra E;", "L:", "add.u32 %a0, %a0, 64;",
            "setp.lt.u32 %p1, %a0, 256;", "@%p1 bra L;", "E:", "ret;"]  # fmt: skip
    assert findings([*BY_THREAD, *loop]) == []
    early = [*BY_THREAD, "L:", "@%p0 bra E;", "bar.sync 0;", "bra L;", "E:", "ret;"]
    assert findings(early) == [], "who has ended is not waited for"


def test_flow():
    """Blocks, what instructions read and write, what lives, and cycles."""
    body = ["mov.u32 %a0, 3;", "mov.u32 %a2, 0;", "L:", "@%p0 add.u32 %a2, %a2, %a0;",
            "sub.u32 %a0, %a0, 1;", "setp.ne.u32 %p1, %a0, 0;", "@%p1 bra L;",
            "st.global.v2.u32 [%x0+8], {%a2, %a0};", "ret;"]  # fmt: skip
    module = parse_ptx(HEAD + "\n".join(body) + "\n}\n")
    blocks = blocks_of(module.entries[0].body)
    assert [block.successors for block in blocks[:3]] == [[1], [1, 2], []]
    assert in_cycle(blocks) == {1}
    guarded = blocks[1].instructions[0]
    assert reads(guarded) == ["%p0", "%a2", "%a0"] and writes(guarded) == ["%a2"]
    store = blocks[2].instructions[0]
    assert reads(store) == ["%x0", "%a2", "%a0"] and writes(store) == []
    live = live_registers(blocks)
    assert live[0] == {"%p0", "%x0"} and live[1] == {"%p0", "%x0", "%a0", "%a2"}
