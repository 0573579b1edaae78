"""Segment products as PTX: every type in the executor, orders of a schedule, machine code."""

import numpy as np
import pytest

import hectorite
from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.machine_code.sass import disassemble, find_nvdisasm
from hectorite.backends.machine_code.sass_statistics import statistics
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.element import ELEMENTS

SETS = "set seg\nset node\nset elem { s: seg, a: node, b: node }\n"


def program(type: str, sums: str, rows: int, lanes: int, schedule: str = "") -> str:
    orders = f"schedule {{ t: {schedule} }}\n" if schedule else ""
    return (
        f"{SETS}def f(x: {type}[node, {rows}], g: {type}[node, {lanes}])"
        f" -> {sums}[seg, {rows}, {lanes}] {{\n"
        f"  t[e.s, i, o] += x[e.a, i] * g[e.b, o]\n  return t\n}}\n{orders}"
    )


def check(type: str, sums: str, rows: int, lanes: int, schedule: str = "", count: int = 60):
    """Run on segments of which one is long and some are empty, in the executor."""
    rng = np.random.default_rng(0)
    compiled = hectorite.compile(program(type, sums, rows, lanes, schedule), target="ptx:sm_80")
    s = np.where(np.arange(count) < count // 2, 1, rng.integers(0, 3, count)).astype(np.int32)
    a, b = rng.integers(0, 5, (2, count)).astype(np.int32)
    element = ELEMENTS[type]
    low = 0 if element.kind == "uint" else -4
    x, g = rng.integers(low, 5, (5, rows)), rng.integers(low, 5, (5, lanes))
    expected = np.zeros((4, rows, lanes))
    np.add.at(expected, s, x[a][:, :, None] * g[b][:, None, :])
    bound = compiled.bind(seg=4, node=5, elem={"s": s, "a": a, "b": b})
    result = compiled.f(bound, x=x.astype(element.storage), g=g.astype(element.storage))
    np.testing.assert_array_equal(result.astype(float), expected)


@pytest.mark.parametrize(
    ("type", "sums", "rows", "lanes"),
    [
        ("tf32", "f32", 16, 64),
        ("tf32", "f32", 5, 24),
        ("f16", "f32", 19, 33),
        ("i8", "i32", 64, 16),
        ("f32", "f32", 33, 64),
        ("f64", "f64", 16, 8),
    ],
)
def test_agrees(type: str, sums: str, rows: int, lanes: int):
    check(type, sums, rows, lanes)


@pytest.mark.parametrize(
    "schedule", ["work(split)", "work(window)", "tile(e = 32, i = 16, o = 8) pipeline(3)"]
)
def test_orders_are_followed(schedule: str):
    check("f32", "f32", 32, 32, schedule, 600)


@pytest.mark.parametrize(
    ("order", "reason"),
    [("tile(i = 4)", "tiles of 8 to 128"), ("tile(i = 128, o = 128)", "fit in registers")],
)
def test_orders_that_do_not_fit_are_refused(order: str, reason: str):
    with pytest.raises(HectoriteError, match=reason):
        hectorite.emit(program("f32", "f32", 128, 128, order), "ptx", target="sm_80")


@pytest.mark.skipif(not installed(), reason="no assembler is installed")
@pytest.mark.parametrize(
    ("type", "sums", "rows", "flops", "target"),
    [
        ("tf32", "f32", 16, 80, "sm_80"),
        ("tf32", "f32", 16, 80, "sm_90"),
        ("tf32", "f32", 16, 80, "sm_90a"),
        ("f16", "f32", 16, 240, "sm_90"),
        ("i8", "i32", 8, 150, "sm_80"),
        ("f32", "f32", 64, 50, "sm_80"),
    ],
)
def test_machine_code(type: str, sums: str, rows: int, flops: int, target: str):
    """No spills, native instructions, and flops of a warp for each instruction of the loop."""
    text = str(hectorite.emit(program(type, sums, rows, 64), "ptx", target=target))
    assembled = assemble(text, target)
    assert all(kernel.spill_bytes == 0 for kernel in assembled.kernels.values())
    names = {"tf32": "m16n8k8", "f16": "m16n8k16", "i8": "m16n8k32"}
    assert type not in names or f"mma.sync.aligned.{names[type]}" in text
    if find_nvdisasm() is None:
        return
    main = statistics(disassemble(assembled.cubin)["f_0"]).main
    assert main is not None
    assert type == "f32" or main.mix["tensor"] >= 4
    assert main.flops / main.instructions >= flops
