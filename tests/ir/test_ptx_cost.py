"""`ir.ptx.cost`: costs follow from the rates of a target."""

import pytest

from hectorite.ir.ptx.cost import cost
from hectorite.ir.target import TARGETS, target

F16 = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
S4 = "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32"


@pytest.mark.parametrize(
    ("mnemonic", "name", "cycles"),
    [
        ("fma.rn.f32", "sm_80", 0.5),
        ("fma.rn.f32", "sm_90", 0.25),
        ("fma.rn.f64", "sm_86", 16),
        ("add.s64", "sm_90", 1),
        ("mad.lo.s32", "sm_90", 0.5),
        ("mul.lo.s64", "sm_90", 2),
        ("ex2.approx.ftz.f32", "sm_90", 2),
        ("popc.b32", "sm_80", 2),
        ("cvt.rn.f16x2.f32", "sm_80", 2),
        ("shfl.sync.bfly.b32", "sm_90", 1),
        ("ld.global.f32", "sm_90", 1),
        ("ld.global.v4.f32", "sm_90", 4),
        ("st.shared.b8", "sm_90", 1),
        ("ldmatrix.sync.aligned.m8n8.x4.shared.b16", "sm_80", 4),
        ("cp.async.cg.shared.global", "sm_80", 4),
        ("div.rn.f32", "sm_80", 8),
        ("div.approx.f32", "sm_80", 2.5),
        (F16, "sm_80", 2),
        ("mma.sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32", "sm_80", 2),
        ("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32", "sm_80", 2),
        ("wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16", "sm_90a", 16),
        ("wgmma.fence.sync.aligned", "sm_90a", 1),
    ],
)
def test_costs_are_cycles_of_a_unit(mnemonic, name, cycles):
    assert cost(mnemonic, target(name)) == pytest.approx(cycles)


@pytest.mark.parametrize("gpu", TARGETS.values(), ids=TARGETS)
def test_what_is_emulated_costs_more_than_what_it_stands_for(gpu):
    """Four times the multiply-adds of f16 in one instruction, or many."""
    assert (cost(S4, gpu) > 4 * cost(F16, gpu)) == (not gpu.has("s4_mma"))
