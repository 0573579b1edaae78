"""Products as PTX in the executor: every type, shape and way to reach rows, checked for races."""

import numpy as np
import pytest
from tile_products import Case, compiled

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


def check(case: Case, stages: int, schedule: str) -> None:
    arguments = case.arguments()
    result, report = compiled(case, stages=stages).run(arguments, schedule)
    assert report.findings == []
    np.testing.assert_array_equal(result, case.expected(arguments))


@pytest.mark.parametrize("case", MMA + FMA, ids=str)
def test_agrees(case: Case):
    check(case, 3, "lockstep")


@pytest.mark.parametrize("case", [MMA[0], MMA[6], MMA[9], FMA[0], FMA[5]], ids=str)
@pytest.mark.parametrize(
    ("stages", "schedule"), [(1, "lockstep"), (2, "reversed"), (5, "lockstep")]
)
def test_agrees_for_any_stages_and_order_of_threads(case: Case, stages: int, schedule: str):
    check(case, stages, schedule)
