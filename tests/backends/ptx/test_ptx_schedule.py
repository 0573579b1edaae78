"""Divergence, barriers and the orders in which threads run."""

from __future__ import annotations

import numpy as np
import pytest

from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.watch import Checks
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.parse import parse_ptx

HEAD = ".version 8.7\n.target sm_90\n.address_size 64\n"
START = """.reg .b64 %p<9>; .reg .b32 %r<20>; .reg .pred %t<4>;
.shared .align 16 .b8 tile[4096];
mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; mov.u32 %r2, tile;
mad.lo.u32 %r3, %r1, 4, %r2; mov.u32 %r4, %ctaid.x; mov.u32 %r5, %ntid.x;
mad.lo.u32 %r4, %r4, %r5, %r1; mad.wide.u32 %p2, %r4, 4, %p1;
"""
SCHEDULES = ["lockstep", "sequential", "reversed"]


def run(body, a, threads=64, blocks=1, **options):
    text = f"{HEAD}.entry k(.param .u64 a)\n{{\n{START}{body}\nret;\n}}\n"
    return execute(Launch(parse_ptx(text), "k", (blocks,), (threads,), [a]), **options)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_loops_of_different_lengths(schedule):
    a = np.zeros(300, "u4")
    report = run(
        "mov.u32 %r6, 0; mov.u32 %r7, %r4; L: setp.le.u32 %t1, %r7, 1; @%t1 bra E;"
        "and.b32 %r8, %r7, 1; setp.eq.u32 %t2, %r8, 0; @%t2 bra EVEN;"
        "mad.lo.u32 %r7, %r7, 3, 1; bra N; "
        "EVEN: shr.u32 %r7, %r7, 1; N: add.u32 %r6, %r6, 1; bra L;"
        "E: st.global.u32 [%p2], %r6;", a, 100, 3, schedule=schedule,
    )  # fmt: skip

    def steps(n):
        count = 0
        while n > 1:
            n, count = (3 * n + 1 if n % 2 else n // 2), count + 1
        return count

    assert a.tolist() == [steps(n) for n in range(300)]
    assert report.instructions > 300 * 10


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_threads_that_leave_early(schedule):
    """Threads beyond the data return before the barrier, as is usual."""
    a = np.zeros(64, "u4")
    report = run(
        "setp.ge.u32 %t1, %r1, 50; @%t1 bra E; st.shared.u32 [%r3], %r1; bar.sync 0;"
        "sub.u32 %r6, 49, %r1; mad.lo.u32 %r6, %r6, 4, %r2; ld.shared.u32 %r7, [%r6];"
        "st.global.u32 [%p2], %r7; E:", a, schedule=schedule, checks=Checks(),
    )  # fmt: skip
    assert a.tolist() == [*range(49, -1, -1), *[0] * 14]
    assert report.is_clean


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_named_barriers_of_half_a_block(schedule):
    a = np.zeros(64, "u4")
    report = run(
        "shr.u32 %r6, %r1, 5; add.u32 %r7, %r6, 1; st.shared.u32 [%r3], %r1; bar.sync %r7, 32;"
        "xor.b32 %r8, %r3, 124; ld.shared.u32 %r9, [%r8]; st.global.u32 [%p2], %r9;",
        a, schedule=schedule, checks=Checks(),
    )  # fmt: skip
    assert a.tolist() == [*range(31, -1, -1), *range(63, 31, -1)]
    assert report.is_clean


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_producers_arrive_and_go_on(schedule):
    """Warp 0 arrives at barrier 1 without waiting; warp 1 waits for it."""
    a = np.zeros(64, "u4")
    report = run(
        "setp.ge.u32 %t1, %r1, 32; @%t1 bra C; st.shared.u32 [%r3], %r1; bar.arrive 1, 64; bra E;"
        "C: bar.sync 1, 64; ld.shared.u32 %r9, [%r3+-128]; st.global.u32 [%p2], %r9; E:",
        a, schedule=schedule, checks=Checks(),
    )  # fmt: skip
    assert a.tolist() == [*[0] * 32, *range(32)]
    assert report.is_clean


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_arrivals_of_threads_that_wait_elsewhere_count(schedule):
    """Warp 0 brings three values and waits for each to be taken, with a barrier for either way."""
    a = np.zeros(96, "u4")
    report = run(
        "mov.u32 %r10, 0; setp.ge.u32 %t1, %r1, 32;"
        "L: @%t1 bra C; add.u32 %r8, %r1, %r10; st.shared.u32 [%r3], %r8; bar.arrive 1, 64;"
        "bar.sync 2, 64; bra N;"
        "C: bar.sync 1, 64; ld.shared.u32 %r9, [%r3+-128]; bar.arrive 2, 64;"
        "mad.wide.u32 %p3, %r10, 128, %p2; st.global.u32 [%p3+-128], %r9;"
        "N: add.u32 %r10, %r10, 1; setp.lt.u32 %t2, %r10, 3; @%t2 bra L;",
        a, schedule=schedule, checks=Checks(),
    )  # fmt: skip
    assert a.reshape(3, 32).tolist() == [list(range(k, 32 + k)) for k in range(3)]
    assert report.is_clean


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_reductions_at_barriers(schedule):
    a = np.zeros((3, 64), "u4")
    run(
        "setp.lt.u32 %t1, %r1, 40; bar.red.popc.u32 %r6, 0, %t1; bar.red.and.pred %t2, 0, %t1;"
        "bar.red.or.pred %t3, 0, %t1; selp.u32 %r7, 1, 0, %t2; selp.u32 %r8, 1, 0, %t3;"
        "st.global.u32 [%p2], %r6; st.global.u32 [%p2+256], %r7; st.global.u32 [%p2+512], %r8;",
        a, schedule=schedule,
    )  # fmt: skip
    assert (a[0] == 40).all()
    assert (a[1] == 0).all()
    assert (a[2] == 1).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warps_on_different_ways_meet_for_themselves(schedule):
    a = np.zeros(64, "u4")
    run(
        "setp.ge.u32 %t1, %r1, 32; @%t1 bra B;"
        "shfl.sync.bfly.b32 %r6, %r1, 1, 31, -1; bra E; B: shfl.sync.bfly.b32 %r6, %r1, 2, 31, -1;"
        "E: st.global.u32 [%p2], %r6;", a, schedule=schedule,
    )  # fmt: skip
    assert a.tolist() == [i ^ (2 if i >= 32 else 1) for i in range(64)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_spinning_on_memory(schedule):
    """Thread 0 of the last warp sets what all other threads wait for."""
    a = np.zeros(65, "u4")
    run(
        "setp.eq.u32 %t1, %r1, 63; @%t1 bra S; W: ld.volatile.global.u32 %r6, [%p1+256];"
        "setp.eq.u32 %t2, %r6, 0; @%t2 bra W; bra E; S: st.global.u32 [%p1+256], 7;"
        "mov.u32 %r6, 8; E: st.global.u32 [%p2], %r6;", a, schedule=schedule,
    )  # fmt: skip
    assert a.tolist() == [*[7] * 63, 8, 7]


def test_blocks_see_where_they_are():
    a = np.zeros(2 * 3 * 4 * 32, "u4")
    text = (
        f"{HEAD}.entry k(.param .u64 a) {{ .reg .b64 %p<3>; .reg .b32 %r<20>;\n"
        "mov.u32 %r1, %ctaid.z; mov.u32 %r2, %nctaid.y; mov.u32 %r3, %ctaid.y;"
        "mad.lo.u32 %r1, %r1, %r2, %r3; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %ctaid.x;"
        "mad.lo.u32 %r1, %r1, %r2, %r3; mov.u32 %r4, %tid.z; "
        "mov.u32 %r5, %ntid.y; mov.u32 %r6, %tid.y;"
        "mad.lo.u32 %r4, %r4, %r5, %r6; mov.u32 %r5, %ntid.x; mov.u32 %r6, %tid.x;"
        "mad.lo.u32 %r4, %r4, %r5, %r6; mad.lo.u32 %r7, %r1, 32, %r4; ld.param.u64 %p1, [a];"
        "mad.wide.u32 %p1, %r7, 4, %p1; st.global.u32 [%p1], %r7; ret; }"
    )
    execute(Launch(parse_ptx(text), "k", (2, 3, 4), (4, 4, 2), [a]))
    assert a.tolist() == list(range(768))


def test_many_batches():
    a = np.zeros(64 * 1000, "u4")
    run("st.global.u32 [%p2], %r4;", a, 64, 1000)
    assert a.tolist() == list(range(64000))


def test_kernels_without_end_are_stopped():
    with pytest.raises(HectoriteError, match="does not come to an end"):
        run("L: add.u32 %r6, %r6, 1; bra L;", np.zeros(64, "u4"), step_limit=1000)


def test_a_trap_stops():
    with pytest.raises(HectoriteError, match="reached a trap"):
        run("trap;", np.zeros(64, "u4"))
