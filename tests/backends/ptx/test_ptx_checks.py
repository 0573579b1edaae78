"""Planted defects, and kernels without one."""

from __future__ import annotations

import numpy as np
import pytest

from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.watch import Checks
from hectorite.ir.diagnostics import HectoriteError, Source
from hectorite.ir.ptx.parse import parse_ptx

HEAD = ".version 8.7\n.target sm_90\n.address_size 64\n"
# Each thread takes what its mirror image wrote: lines 8 to 16 of the text.
MIRROR = """.visible .entry k(.param .u64 a, .param .u64 b)
{
.reg .b64 %p<9>; .reg .b32 %r<20>; .reg .pred %t<4>; .shared .align 16 .b8 tile[1024];
mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; ld.param.u64 %p2, [b]; mov.u32 %r2, tile;
mad.wide.u32 %p3, %r1, 4, %p1; mad.wide.u32 %p4, %r1, 4, %p2;
mad.lo.u32 %r3, %r1, 4, %r2; sub.u32 %r4, 63, %r1; mad.lo.u32 %r5, %r4, 4, %r2;
ld.global.u32 %r6, [%p3];
st.shared.u32 [%r3], %r6;
bar.sync 0;
ld.shared.u32 %r7, [%r5];
st.global.u32 [%p4], %r7;
ret;
}
"""


def run(text, schedule="lockstep", checks=None, threads=64, a=None, **options):
    a = np.arange(64, dtype="u4") if a is None else a
    b = np.zeros(64, "u4")
    text = HEAD + text
    source = Source("k.ptx", text)
    launch = Launch(parse_ptx(text), "k", (2,), (threads,), [a, b], source=source)
    report = execute(launch, schedule, checks or Checks(), **options)
    return b, report


def only(report):
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize("schedule", ["lockstep", "sequential", "reversed"])
def test_a_right_kernel(schedule):
    b, report = run(MIRROR, schedule, Checks.everything())
    assert (b == np.arange(63, -1, -1)).all()
    assert report.is_clean


def test_a_deleted_barrier():
    text = MIRROR.replace("bar.sync 0;", "")
    b, report = run(text)
    assert (b == np.arange(63, -1, -1)).all(), "lockstep hides it"
    finding = only(report)
    assert (finding.kind, finding.line) == ("race", 13)
    assert "without a barrier" in finding.message
    assert finding.count == 2 * 64
    b, _ = run(text, "sequential")
    assert (b != np.arange(63, -1, -1)).any(), "threads alone show it"


def test_a_barrier_missing_before_memory_is_used_again():
    text = MIRROR.replace("st.global.u32 [%p4]", "st.shared.u32 [%r3], %r1;\nst.global.u32 [%p4]")
    finding = only(run(text)[1])
    assert (finding.kind, finding.line) == ("race", 14)
    assert "may still have to read" in finding.message


def test_a_warp_needs_its_own_barrier():
    text = MIRROR.replace("sub.u32 %r4, 63, %r1", "xor.b32 %r4, %r1, 1")
    weak = text.replace("bar.sync 0;", "")
    assert only(run(weak)[1]).kind == "race"
    assert run(text.replace("bar.sync 0;", "bar.warp.sync -1;"))[1].is_clean
    shuffle = "shfl.sync.idx.b32 %r9, %r1, 0, 31, -1;"
    assert only(run(text.replace("bar.sync 0;", shuffle))[1]).kind == "race"


@pytest.mark.parametrize(("step", "message"), [
    ("1", "0 bytes past the end of array of 256 bytes"),
    ("65", "4 bytes past the end of array of 256 bytes"),
])  # fmt: skip
def test_one_element_past_the_end(step, message):
    text = MIRROR.replace("ld.global.u32 %r6, [%p3]", f"ld.global.u32 %r6, [%p3+{4 * int(step)}]")
    finding = only(run(text)[1])
    assert (finding.kind, finding.line) == ("out_of_bounds", 10)
    assert message in finding.message
    assert finding.count == 2 * min(64, int(step))
    with pytest.raises(HectoriteError, match=r"k.ptx:10:1: error: `ld.global.u32` reads 4 bytes"):
        run(text, checks=Checks.none())


@pytest.mark.parametrize("address", ["%r3+4096", "%r3+-16", "%r1+2147483600"])
def test_outside_of_shared_memory(address):
    text = MIRROR.replace("st.shared.u32 [%r3]", f"st.shared.u32 [{address}]")
    report = run(text, checks=Checks(uninitialized=False))[1]
    assert "out_of_bounds" in {finding.kind for finding in report.findings}
    with pytest.raises(HectoriteError, match="out|memory"):
        run(text, checks=Checks.none())


def test_addresses_that_are_nowhere():
    text = MIRROR.replace("ld.global.u32 %r6, [%p3]", "ld.global.u32 %r6, [8]")
    finding = only(run(text)[1])
    assert finding.kind == "out_of_bounds"


@pytest.mark.parametrize("space", ["global", "shared"])
def test_a_vector_load_that_is_not_aligned(space):
    if space == "global":
        load, line = "ld.global.v2.u32 {%r6, %r8}, [%p3]", 10
        text = MIRROR.replace("ld.global.u32 %r6, [%p3]", load)
        text = text.replace("mad.wide.u32 %p3, %r1, 4", "mad.wide.u32 %p3, 0, 4")
        text = text.replace("[%p3];", "[%p3+4];")
    else:
        load, line = "ld.shared.v2.u32 {%r7, %r8}, [%r2+4]", 13
        text = MIRROR.replace("ld.shared.u32 %r7, [%r5]", load)
    finding = only(run(text)[1])
    assert (finding.kind, finding.line) == ("misaligned", line)
    assert "multiple of 8" in finding.message


def test_a_barrier_in_a_branch():
    text = MIRROR.replace("bar.sync 0;", "setp.lt.u32 %t1, %r1, 16; @%t1 bar.sync 0;")
    kinds = {f.kind: f for f in run(text)[1].findings}
    assert kinds["divergent_barrier"].line == 12
    whole = MIRROR.replace("bar.sync 0;", "setp.lt.u32 %t1, %r1, 32; @%t1 bar.sync 0;")
    kinds = {f.kind for f in run(whole)[1].findings}
    assert "divergent_barrier" in kinds


def test_two_barriers_for_one():
    text = MIRROR.replace(
        "bar.sync 0;", "setp.lt.u32 %t1, %r1, 16; @%t1 bra A; bar.sync 0; bra B;\nA: bar.sync 0; B:"
    )
    finding = only(run(text)[1])
    assert finding.kind == "divergent_barrier"
    assert "different instructions" in finding.message


def test_a_warp_instruction_that_lanes_miss():
    text = MIRROR.replace(
        "bar.sync 0;",
        "bar.sync 0; setp.lt.u32 %t1, %r1, 16; "
        "@!%t1 bra B;\nshfl.sync.idx.b32 %r9, %r1, 0, 31, -1;\n"
        "B: bar.sync 1;",
    )
    with pytest.raises(HectoriteError, match="all threads wait"):
        run(text)


@pytest.mark.parametrize("schedule", ["lockstep", "sequential"])
def test_registers_that_were_never_written(schedule):
    text = MIRROR.replace("st.global.u32 [%p4], %r7", "st.global.u32 [%p4], %r11")
    finding = only(run(text, schedule)[1])
    assert (finding.kind, finding.line) == ("uninitialized", 14)
    assert "%r11" in finding.message
    some = MIRROR.replace("ld.shared.u32 %r7", "setp.lt.u32 %t1, %r1, 60; @%t1 ld.shared.u32 %r7")
    finding = only(run(some, schedule)[1])
    assert (finding.line, finding.count) == (14, 8)


def test_shared_memory_that_was_never_written():
    text = MIRROR.replace("st.shared.u32 [%r3], %r6;", "")
    finding = only(run(text)[1])
    assert (finding.kind, finding.line) == ("uninitialized", 13)


def test_arrays_that_were_never_written():
    a = np.zeros(64, "u4")
    finding = only(run(MIRROR, a=a, unwritten=[a])[1])
    assert (finding.kind, finding.line) == ("uninitialized", 10)
    written = MIRROR.replace("ld.global.u32 %r6", "st.global.u32 [%p3], %r1;\nld.global.u32 %r6")
    assert run(written, a=a, unwritten=[a])[1].is_clean


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (8, 8), (32, 32)])
def test_coalescing_is_counted(stride, sectors):
    text = MIRROR.replace("mad.wide.u32 %p3, %r1, 4", f"mad.wide.u32 %p3, %r1, {stride}")
    report = run(text, checks=Checks.everything(), a=np.zeros(1024, "u4"))[1]
    line = next(t for t in report.traffic if t.line == 10)
    assert (line.requests, line.taken, line.ideal) == (4, 4 * sectors, 16)


@pytest.mark.parametrize(("stride", "cycles"), [(4, 1), (8, 2), (0, 1), (12, 1), (128, 32)])
def test_bank_conflicts_are_counted(stride, cycles):
    text = MIRROR.replace("mad.lo.u32 %r3, %r1, 4", f"mad.lo.u32 %r3, %r1, {stride}")
    text = text.replace("tile[1024]", "tile[8192]")
    report = run(text, checks=Checks.everything())[1]
    line = next(t for t in report.traffic if t.line == 11)
    assert (line.requests, line.taken, line.ideal) == (4, 4 * cycles, 4)


def test_wide_accesses_take_several_cycles():
    text = MIRROR.replace("st.shared.u32 [%r3], %r6",
                          "mad.lo.u32 %r3, %r1, 16, %r2; "
                          "st.shared.v4.u32 [%r3], {%r6, %r6, %r6, %r6}")  # fmt: skip
    report = run(text, checks=Checks.everything())[1]
    line = next(t for t in report.traffic if t.line == 11)
    assert (line.requests, line.taken, line.ideal) == (4, 16, 16)


def test_reads_of_local_memory_that_nobody_wrote():
    """A place that a thread wrote a byte of counts as written: values may have gaps."""
    text = MIRROR.replace(
        "ret;",
        ".local .align 8 .b8 mine[32]; mov.u32 %r9, mine;\n"
        "st.local.u32 [%r9+8], %r6; st.local.u8 [%r9+16], %r6; ld.local.u64 %p5, [%r9+8];\n"
        "ld.local.u64 %p5, [%r9+16]; ld.local.u32 %r10, [%r9+8];\n"
        "ld.local.u32 %r10, [%r9+12];\n"
        "st.global.u32 [%p4], %r10; ret;",
    )
    finding = only(run(text)[1])
    assert (finding.kind, finding.line, finding.count) == ("uninitialized", 18, 128)
    assert "local memory" in finding.message
