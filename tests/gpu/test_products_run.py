"""Products as PTX in the executor: every type, shape and way to reach rows, checked for races."""

import numpy as np
import pytest
from tile_products import Case, compiled

from hectorite.backends.ptx.watch import Checks

MMA = [
    Case(32, 16, 64, 16, 16, "f16", "f16"),
    Case(40, 24, 48, 32, 8, "f16", "f16", kind="gathered"),
    Case(70, 65, 40, 64, 64, "bf16", "bf16", threads=128),
    Case(64, 40, 33, 32, 32, "f16", "f16", kind="grouped", threads=64),
    Case(64, 64, 64, 32, 32, "f16", "f16", kind="transposed", threads=64, fixed=True),
    Case(120, 128, 70, 128, 128, "f16", "f16", threads=256),
    Case(33, 17, 20, 16, 16, "tf32", "tf32"),
    Case(64, 64, 32, 32, 64, "tf32", "tf32", kind="gathered", threads=128),
    Case(70, 20, 50, 64, 8, "tf32", "tf32", threads=64),
    Case(32, 32, 64, 16, 32, "i8", "i8", "i32"),
    Case(60, 70, 70, 64, 64, "u8", "i8", "i32", threads=128, kind="gathered"),
    Case(20, 9, 70, 16, 8, "i4", "u3", "i32"),
    Case(40, 40, 64, 32, 32, "f16", "f16", kind="flipped", threads=64),
    Case(40, 40, 36, 32, 32, "tf32", "tf32", kind="flipped"),
    Case(40, 17, 66, 32, 8, "u8", "u4", "i32", kind="flipped"),
    Case(48, 48, 64, 48, 48, "f16", "f16", threads=64),
    Case(32, 32, 40, 16, 32, "tf32", "tf32", kind="transposed", fixed=True),
    Case(64, 64, 32, 64, 64, "tf32", "tf32", kind="transposed", threads=128, fixed=True),
    Case(16, 16, 64, 16, 16, "i8", "u8", "i32", kind="transposed", fixed=True),
    Case(64, 64, 64, 64, 64, "i8", "i8", "i32", kind="transposed", threads=64, fixed=True),
    Case(48, 8, 64, 48, 8, "u4", "i8", "i32", kind="transposed", fixed=True),
]
FMA = [
    Case(33, 17, 20, 16, 16),
    Case(60, 60, 20, 64, 64, threads=128),
    Case(60, 60, 20, 64, 64, threads=64, kind="gathered"),
    Case(64, 64, 32, 64, 64, threads=64, kind="transposed"),
    Case(40, 40, 30, 32, 32, threads=64, kind="flipped"),
    Case(40, 40, 30, 32, 32, "f64", "f32", "f64", threads=64, kind="flipped"),
    Case(128, 128, 16, 128, 128, threads=256, fixed=True),
    Case(33, 33, 30, 32, 32, "f64", "f64", "f64", threads=64),
    Case(33, 33, 30, 32, 32, "f16", "f32", threads=64),
    Case(33, 33, 30, 32, 32, "i8", "f32", threads=32, kind="grouped"),
    Case(33, 20, 30, 32, 16, "i64", "i16", "i64"),
    Case(33, 20, 30, 32, 16, "i32", "i32", "i32"),
    Case(33, 20, 70, 32, 16, "i8", "i8", "i32", kind="transposed"),
]

WGMMA = [
    Case(64, 64, 64, 64, 64, "f16", "f16", threads=128, fixed=True),
    Case(128, 128, 70, 128, 128, "bf16", "bf16", threads=256, fixed=True),
    Case(60, 60, 64, 64, 64, "f16", "f16", kind="grouped", threads=128),
    Case(64, 64, 64, 64, 64, "f16", "f16", kind="flipped", threads=256, fixed=True),
    Case(70, 64, 66, 64, 32, "i8", "i8", "i32", kind="flipped", threads=128),
    Case(64, 64, 128, 64, 64, "i8", "u8", "i32", kind="flipped", threads=128, fixed=True),
]


def check(case: Case, stages: int, schedule: str, target: str = "sm_80") -> None:
    arguments = case.arguments()
    result, report = compiled(case, target, stages).run(arguments, schedule)
    assert report.findings == []
    np.testing.assert_array_equal(result, case.expected(arguments))


@pytest.mark.parametrize("case", MMA + FMA, ids=str)
def test_agrees(case: Case):
    check(case, 3, "lockstep")


@pytest.mark.parametrize("case", [MMA[0], MMA[9], FMA[0]], ids=str)
@pytest.mark.parametrize(("stages", "schedule"), [(1, "lockstep"), (5, "reversed")])
def test_agrees_for_any_stages_and_order_of_threads(case: Case, stages: int, schedule: str):
    check(case, stages, schedule)


@pytest.mark.parametrize("case", WGMMA, ids=str)
def test_groups_of_warps(case: Case):
    assert "wgmma.mma_async" in compiled(case, "sm_90a", 2).text
    check(case, 2, "lockstep", "sm_90a")


CONFLICT_FREE = [
    Case(64, 64, 32, 64, 64, a, b, c, kind, 128, fixed=True)
    for a, b, c, kind in (
        ("f16", "f16", "f32", "rows"),
        ("f16", "f16", "f32", "flipped"),
        ("f16", "f16", "f32", "transposed"),
        ("tf32", "tf32", "f32", "rows"),
        ("tf32", "tf32", "f32", "transposed"),
        ("i8", "i8", "i32", "flipped"),
        ("f32", "f32", "f32", "rows"),
        ("f32", "f32", "f32", "flipped"),
    )
]


@pytest.mark.parametrize("case", CONFLICT_FREE, ids=str)
def test_no_bank_conflicts(case: Case):
    _, report = compiled(case, stages=2).run(case.arguments(), checks=Checks.everything())
    shared = [line for line in report.traffic if line.space == "shared"]
    assert shared
    assert all(line.taken == line.ideal for line in shared)


def test_tf32_is_rounded_when_it_is_read():
    """Halves away from zero; what is not a number stays that."""
    case = Case(16, 8, 16, 16, 8, "tf32", "tf32")
    arguments = case.arguments()
    x, w = arguments["x"], arguments["w"]
    w[:] = np.eye(16, 8)
    x[:] = 1 + np.float32(2.0**-11)
    x[1, 1] = 1 + np.float32(2.0**-12)
    x[2, 2:4] = np.inf, np.nan
    result, _ = compiled(case, stages=2).run(arguments)
    expected = np.full((16, 8), np.float32(1 + 2.0**-10))
    expected[1, 1] = 1
    expected[2] = np.nan
    np.testing.assert_array_equal(result, expected)
