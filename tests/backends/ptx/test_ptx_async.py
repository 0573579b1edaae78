"""Asynchronous copies and barrier objects."""

from __future__ import annotations

import numpy as np
import pytest

from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.watch import Checks
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.parse import parse_ptx

HEAD = ".version 8.7\n.target sm_90\n.address_size 64\n"
START = """.reg .b64 %p<9>; .reg .b32 %r<20>; .reg .pred %t<4>;
.shared .align 16 .b8 tile[4096]; .shared .align 8 .b64 object;
mov.u32 %r1, %tid.x; ld.param.u64 %p1, [a]; ld.param.u64 %p2, [b]; mov.u32 %r2, tile;
mov.u32 %r9, object; mad.lo.u32 %r3, %r1, 16, %r2; mad.wide.u32 %p3, %r1, 16, %p1;
mad.wide.u32 %p4, %r1, 16, %p2;
"""
LOAD = "ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3]; st.global.v4.u32 [%p4], {%r4, %r5, %r6, %r7};"
SCHEDULES = ["lockstep", "sequential", "reversed"]


def run(body, a, b, threads=32, **options):
    text = f"{HEAD}.entry k(.param .u64 a, .param .u64 b)\n{{\n{START}{body}\nret;\n}}\n"
    return execute(Launch(parse_ptx(text), "k", (2,), (threads,), [a, b]), **options)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_copies_land_when_they_are_waited_for(schedule):
    a = np.arange(128, dtype="u4")
    b = np.zeros_like(a)
    copy = "cp.async.cg.shared.global [%r3], [%p3], 16; cp.async.commit_group;"
    report = run(f"{copy} cp.async.wait_group 0; {LOAD}", a, b, schedule=schedule, checks=Checks())
    assert (b == a).all()
    assert report.is_clean
    b[:] = 9
    report = run(f"{copy} {LOAD}", a, b, schedule=schedule, checks=Checks())
    assert (b == 0).all()
    assert [finding.kind for finding in report.findings] == ["race"]
    assert "before it was waited for" in report.findings[0].message


def test_groups_are_counted():
    a = np.arange(512, dtype="u4")
    b = np.zeros(128, "u4")
    copies = "".join(
        f"cp.async.cg.shared.global [%r3], [%p3+{512 * i}], 16; cp.async.commit_group;"
        for i in range(3)
    )
    run(f"{copies} cp.async.wait_group 1; {LOAD}", a, b)
    assert (b == a[128:256]).all()


def test_source_sizes_fill_with_zeros():
    a = np.arange(128, dtype="u4")
    b = np.ones_like(a)
    run(
        "rem.u32 %r8, %r1, 5; mul.lo.u32 %r8, %r8, 4;"
        "cp.async.cg.shared.global [%r3], [%p3], 16, %r8; cp.async.wait_all;" + LOAD, a, b,
    )  # fmt: skip
    for thread in range(32):
        kept = thread % 5
        assert b[4 * thread : 4 * thread + 4].tolist() == [
            *a[4 * thread : 4 * thread + kept], *[0] * (4 - kept)
        ]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("spins", [False, True])
def test_bulk_copies_and_barrier_objects(schedule, spins):
    """Warp 1 waits, with a loop before or after warp 0's code, for what warp 0 copies."""
    a = np.arange(256, dtype="u4")
    b = np.zeros_like(a)
    wait = "W: mbarrier.try_wait.parity.shared.b64 %t2, [%r9], 0; @!%t2 bra W;"
    issue = (
        "mbarrier.arrive.expect_tx.shared.b64 _, [%r9], 1024;"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%p1], 1024, "
        "[%r9];"
    )
    init = "setp.ne.u32 %t1, %r1, 0; @!%t1 mbarrier.init.shared.b64 [%r9], 1; bar.sync 0;"
    if spins:
        # The waiting threads stand at a lower place than those that bring the data.
        body = (
            f"{init} setp.eq.u32 %t3, %r1, 63; @%t3 bra P; {wait} bra L; P: {issue} bra W;L: {LOAD}"
        )
    else:
        body = f"{init} @%t1 bra W; {issue} {wait} {LOAD}"
    report = run(body, a, b, 64, schedule=schedule, checks=Checks())
    assert (b == a).all()
    assert report.is_clean


def test_waiting_for_ever_is_told():
    a, b = np.zeros(256, "u4"), np.zeros(256, "u4")
    with pytest.raises(HectoriteError, match="all threads wait"):
        run("mbarrier.init.shared.b64 [%r9], 1; "
            "W: mbarrier.try_wait.parity.shared.b64 %t2, [%r9], 0; @!%t2 bra W;", a, b)  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_phases_by_token(schedule):
    """All threads arrive, twice; each waits for the phase that its arrival belongs to."""
    a, b = np.arange(256, dtype="u4"), np.zeros(256, "u4")
    phase = (
        "mbarrier.arrive.shared.b64 %p5, [%r9]; "
        "W{0}: mbarrier.test_wait.shared.b64 %t2, [%r9], %p5;"
        "@!%t2 bra W{0};"
    )
    body = (
        "setp.eq.u32 %t1, %r1, 0; @%t1 mbarrier.init.shared.b64 [%r9], 64; bar.sync 0;"
        "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%p3]; "
        "st.shared.v4.u32 [%r3], {%r4, %r5, %r6, %r7};"
        + phase.replace("{0}", "1")
        + "xor.b32 %r10, %r3, 16; ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r10];"
        + phase.replace("{0}", "2")
        + "st.shared.v4.u32 [%r3], {%r4, %r5, %r6, %r7};"
        + LOAD
    )
    report = run(body, a, b, 64, schedule=schedule, checks=Checks())
    assert (b.reshape(-1, 2, 4) == a.reshape(-1, 2, 4)[:, ::-1]).all()
    assert report.is_clean


def test_arrival_of_copies():
    a, b = np.arange(128, dtype="u4"), np.zeros(128, "u4")
    run(
        "setp.eq.u32 %t1, %r1, 0; @%t1 mbarrier.init.shared.b64 [%r9], 32; bar.sync 0;"
        "cp.async.cg.shared.global [%r3], [%p3], 16;"
        "cp.async.mbarrier.arrive.noinc.shared.b64 [%r9];"
        "W: mbarrier.try_wait.parity.shared.b64 %t2, [%r9], 0; @!%t2 bra W;" + LOAD, a, b,
    )  # fmt: skip
    assert (b == a).all()


def test_bulk_stores_and_reductions():
    a, b = np.arange(128, dtype="f4"), np.ones(128, "f4")
    run(
        "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%p3]; "
        "st.shared.v4.u32 [%r3], {%r4, %r5, %r6, %r7};"
        "bar.sync 0; setp.ne.u32 %t1, %r1, 0; @%t1 bra E;"
        "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%p2], [%r2], 512;"
        "cp.async.bulk.commit_group; cp.async.bulk.wait_group.read 0; E:", a, b,
    )  # fmt: skip
    assert (b == 1 + 2 * a).all()


def test_tensor_maps_are_refused():
    with pytest.raises(HectoriteError, match="copies through a tensor map"):
        run(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
            "[%r2], [%p1, {%r1, %r1}], [%r9];", np.zeros(4), np.zeros(4),
        )  # fmt: skip


@pytest.mark.parametrize(("cache", "size"), [("cg", 12), ("cg", 8), ("ca", 2)])
def test_copies_have_the_sizes_that_there_are(cache, size):
    a, b = np.zeros(1024, "u4"), np.zeros(1024, "u4")
    with pytest.raises(HectoriteError, match=f"cannot copy {size} bytes"):
        run(f"cp.async.{cache}.shared.global [%r3], [%p3], {size};", a, b)
