"""Products of `wgmma` that nobody waited for, found by the checks; bulk copies likewise."""

import numpy as np
import pytest

from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.watch import Checks
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.parse import parse_ptx

HEAD = """.version 8.0
.target sm_90a
.address_size 64
.entry k(.param .u64 in, .param .u64 out)
{
  .reg .b64 %p<6>; .reg .b32 %r<12>; .reg .f32 %f<8>; .reg .b64 %a<4>; .reg .pred %q<4>;
  .shared .align 1024 .b8 held[6144]; .shared .align 8 .b64 object;
  ld.param.u64 %p1, [in]; ld.param.u64 %p2, [out]; mov.u32 %r1, %tid.x; mov.u32 %r2, held;
  mov.u32 %r8, object; mad.wide.u32 %p3, %r1, 16, %p2; mad.lo.u32 %r3, %r1, 16, %r2;
  mov.f32 %f0, 0f00000000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
  setp.eq.u32 %q1, %r1, 0; setp.eq.s32 %q2, 0, 0;
  shr.u32 %r4, %r2, 4; cvt.u64.u32 %a1, %r4; or.b64 %a2, %a1, 0x4000001000010000;
  @%q1 mbarrier.init.shared.b64 [%r8], 1;
  bar.sync 0;
"""
BRING = """@!%q1 bra L;
  mbarrier.arrive.expect_tx.shared.b64 _, [%r8], 4096;
  cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%p1], 4096, [%r8];
L:
W: mbarrier.try_wait.parity.shared.b64 %q3, [%r8], 0; @!%q3 bra W;"""
SUMS = "{%f0, %f1, %f2, %f3}"
MULTIPLY = f"""wgmma.fence.sync.aligned;
  wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {SUMS}, %a2, %a2, %q2, 1, 1, 0, 0;
  wgmma.commit_group.sync.aligned;"""
WAIT = "wgmma.wait_group.sync.aligned {};"
STORE = f"st.global.v4.f32 [%p3], {SUMS};"
CHANGE = "bar.sync 0; st.shared.v4.f32 [%r3], {%f4, %f4, %f4, %f4};"
ZERO = "mov.f32 %f4, 0f00000000;"
SCHEDULES = ["lockstep", "sequential"]


def run(*body: str, schedule: str = "lockstep"):
    text = HEAD + "\n".join(body) + "\nret;\n}\n"
    values, out = np.ones(2048, np.float16), np.zeros(512, np.float32)
    launch = Launch(parse_ptx(text), "k", (1,), (128,), [values, out])
    return execute(launch, schedule, Checks()), out


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_what_is_waited_for_is_clean(schedule: str):
    report, out = run(BRING, MULTIPLY, WAIT.format(0), STORE, ZERO, CHANGE, schedule=schedule)
    assert report.findings == []
    assert (out == 16).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_group_may_stay_under_way(schedule: str):
    """Groups that follow may use the same accumulators; the last wait is for all of them."""
    report, out = run(
        BRING, MULTIPLY, WAIT.format(1), MULTIPLY, WAIT.format(1), WAIT.format(0), STORE,
        schedule=schedule,
    )  # fmt: skip
    assert report.findings == []
    assert (out == 32).all()


@pytest.mark.parametrize("wait", ["", WAIT.format(1)])
@pytest.mark.parametrize(
    ("use", "verb"),
    [(STORE, "reads %f0"), ("mov.f32 %f2, 0f3f800000;", "writes %f2"),
     ("add.f32 %f5, %f3, %f3;", "reads %f3")],
)  # fmt: skip
def test_accumulators_that_nobody_waited_for(wait: str, use: str, verb: str):
    report, _ = run(BRING, MULTIPLY, wait, use, WAIT.format(0))
    assert {finding.kind for finding in report.findings} == {"race"}
    assert f"{verb} before `wgmma.wait_group` has waited" in report.findings[0].message


def test_memory_that_a_product_may_still_read():
    report, _ = run(BRING, ZERO, MULTIPLY, CHANGE, WAIT.format(0), STORE)
    (finding,) = report.findings
    assert finding.kind == "race"
    assert "is written before `wgmma.wait_group` has waited for it" in finding.message
    # Waiting is not enough: other warps may not have.
    report, _ = run(BRING, ZERO, MULTIPLY, WAIT.format(0), CHANGE.removeprefix("bar.sync 0; "),
                    STORE)  # fmt: skip
    assert any("still have to read" in finding.message for finding in report.findings)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_bulk_copy_that_nobody_waited_for(schedule: str):
    unwaited = BRING[: BRING.index("W:")]
    report, _ = run(unwaited, "ld.shared.f32 %f0, [%r3];", schedule=schedule)
    assert {finding.kind for finding in report.findings} <= {"race", "uninitialized"}
    assert any("before it was waited for" in finding.message for finding in report.findings)
    report, _ = run(unwaited, MULTIPLY, WAIT.format(0), schedule=schedule)
    assert any("before it was waited for" in finding.message for finding in report.findings)


def test_waiting_for_the_wrong_phase_is_told():
    with pytest.raises(HectoriteError, match="all threads wait"):
        run(BRING.replace("[%r8], 0; @!", "[%r8], 1; @!"), "ld.shared.f32 %f0, [%r3];")
