"""Plans with PTX: run by the executor, compiled and under every check."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.backends.bound.binding import Binding
from hectorite.backends.host.device_call import as_number
from hectorite.backends.host.plan import Plan, comment, plan_from_text
from hectorite.backends.ptx import checked as ptx_checked
from hectorite.backends.ptx import device as ptx_device
from hectorite.ir.diagnostics import HectoriteError, fail

PTX = """
.version 7.0
.target sm_80
.address_size 64

.visible .entry fill(.param .u64 y, .param .u32 base, .param .u32 n, .param .u32 tasks) {
  .reg .pred %p<3>;
  .reg .b32 %r<8>;
  .reg .b64 %rd<4>;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  ld.param.u32 %r5, [tasks];
  setp.ge.s32 %p1, %r4, %r5;
  @%p1 bra DONE;
  ld.param.u64 %rd1, [y];
  ld.param.u32 %r6, [base];
  add.s32 %r6, %r6, %r4;
  mad.wide.s32 %rd2, %r4, 4, %rd1;
  st.global.u32 [%rd2], %r6;
DONE:
  ret;
}

.visible .entry twice(.param .u64 x, .param .u64 y, .param .u32 n, .param .u32 tasks) {
  .reg .pred %p<3>;
  .reg .b32 %r<8>;
  .reg .b64 %rd<8>;
  mov.u32 %r1, %ctaid.x;
  mov.u32 %r2, %ntid.x;
  mov.u32 %r3, %tid.x;
  mad.lo.s32 %r4, %r1, %r2, %r3;
  ld.param.u32 %r5, [tasks];
  setp.ge.s32 %p1, %r4, %r5;
  @%p1 bra DONE;
  ld.param.u64 %rd1, [x];
  ld.param.u64 %rd2, [y];
  mul.wide.s32 %rd3, %r4, 4;
  add.s64 %rd4, %rd1, %rd3;
  add.s64 %rd5, %rd2, %rd3;
  ld.global.u32 %r6, [%rd4];
  shl.b32 %r7, %r6, 1;
  st.global.u32 [%rd5], %r7;
DONE:
  ret;
}
"""


def plan(tasks: int = 0) -> Plan:
    """y = 2 (base + place) by way of a temporary; also returns what it was given. `tasks`, if it
    is not 0, is how many elements of the temporary are written."""
    launch = {"do": "launch", "block": 32, "per_block": 32, "shared": 0, "sizes": ["node"]}
    steps: list[dict[str, Any]] = [
        {"do": "allocate", "to": 2, "element": "i32", "dims": ["node"]},
        {"do": "allocate", "to": 3, "element": "i32", "dims": ["node"]},
        {"do": "size", "to": 4, "of": "node"},
        {"do": "constant", "to": 5, "number": tasks},
        {**launch, "kernel": "fill", "arguments": [2, 1], "tasks": 5 if tasks else 4},
        {**launch, "kernel": "twice", "arguments": [2, 3], "tasks": 4},
    ]
    facts = {
        "name": "main",
        "sets": ["graph.set @node"],
        "parameters": [["x", "f32", ["node"]], ["base", "i32", None]],
        "results": [3, 0],
        "steps": steps,
    }
    return Plan.from_json(facts)


def text(tasks: int = 0) -> str:
    return comment(plan(tasks), "ptx") + PTX


def compiled(source: str) -> Callable[..., Any]:
    program = ptx_device.build(source, "a.ptx")
    return lambda binding, given: program.run(binding, given, {})


def checked(source: str) -> Callable[..., Any]:
    run = ptx_checked.run_checked(source, "a.ptx")
    return lambda binding, given: run(binding, given, {})


def test_the_plan_at_the_head_of_ptx():
    assert plan_from_text(text()) == plan()
    with pytest.raises(HectoriteError, match="does not begin with the plan"):
        plan_from_text(PTX)


@pytest.mark.parametrize("make", [compiled, checked])
@pytest.mark.parametrize("nodes", [100, 32, 1, 0])
def test_launches_in_order(make: Callable[..., Any], nodes: int):
    run = make(text())
    binding = Binding(plan().schema, {"node": nodes})
    x = np.random.default_rng(0).standard_normal(nodes).astype("f4")
    for base in (5, -3):
        y, same = run(binding, {"x": x, "base": base})
        assert (y == 2 * (base + np.arange(nodes))).all()
        assert (same == x).all() and not np.may_share_memory(same, x)


def test_kernels_that_cannot_be_compiled_run_in_lockstep(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any) -> None:
        raise fail("no code for this")

    monkeypatch.setattr(ptx_device, "compile_kernel", refuse)
    binding = Binding(plan().schema, {"node": 40})
    y, _ = compiled(text())(binding, {"x": np.zeros(40, "f4"), "base": 1})
    assert (y == 2 * (1 + np.arange(40))).all()


def test_arguments_at_any_address():
    run = compiled(text())
    binding = Binding(plan().schema, {"node": 7})
    x = np.arange(8, dtype="f4")[1:]
    assert (run(binding, {"x": x, "base": 0})[1] == x).all()


def test_a_part_that_nothing_has_written():
    binding = Binding(plan().schema, {"node": 100})
    given = {"x": np.zeros(100, "f4"), "base": 0}
    with pytest.raises(HectoriteError) as error:
        checked(text(tasks=60))(binding, given)
    said = str(error.value)
    assert "kernel `twice`" in said
    assert "ld.global.u32 %r6" in said, "the line is shown"


@pytest.mark.parametrize("make", [compiled, checked])
def test_an_access_outside_of_its_tensor(make: Callable[..., Any]):
    binding = Binding(plan().schema, {"node": 10})
    with pytest.raises(HectoriteError, match="outside|past the end of temporary 0"):
        make(text(tasks=4000))(binding, {"x": np.zeros(10, "f4"), "base": 0})


def test_text_without_a_meaning():
    with pytest.raises(HectoriteError, match="a.ptx"):
        ptx_device.build(text().replace("mov.u32 %r1", "mov.u32 r1", 1), "a.ptx")


@pytest.mark.parametrize(
    "value, element, dtype, bits",
    [
        (-2, "i32", "i4", 0xFFFFFFFE),
        (-2, "i8", "i4", 0xFFFFFFFE),
        (-2, "i4", "i4", 0xFFFFFFFE),
        (200, "u8", "u4", 200),
        (True, "bool", "u4", 1),
        (1.5, "f32", "f4", 0x3FC00000),
        (1.5, "f16", "u4", 0x3E00),
        (1.5, "bf16", "u4", 0x3FC0),
        (1.5, "f64", "f8", 0x3FF8 << 48),
        (-1, "i64", "i8", 2**64 - 1),
    ],
)
def test_numbers(value: Any, element: str, dtype: str, bits: int):
    number = as_number(np.asarray(value), element)
    assert number.dtype == dtype
    assert int.from_bytes(number.tobytes(), "little") == bits


PROGRAM = """
set node
set edge { src: node, dst: node }

def average(x: f32[node, F]) -> f32[node, F] {
  y[e.dst, f] mean= x[e.src, f]
  return y
}
"""


@pytest.mark.parametrize("target", ["ptx", "ptx:sm_90"])
def test_programs_by_the_public_interface(target: str):
    rng = np.random.default_rng(1)
    src, dst = rng.integers(0, 30, (2, 90)).astype("i4")
    x = rng.standard_normal((30, 5)).astype("f4")
    program = hectorite.compile(PROGRAM, target=target)
    graph = program.bind(node=30, edge={"src": src, "dst": dst})
    reference = hectorite.compile(PROGRAM, target="reference")
    expected = reference.average(reference.bind(node=30, edge={"src": src, "dst": dst}), x=x)
    np.testing.assert_allclose(program.average(graph, x=x), expected, rtol=1e-5, atol=1e-6)
    out = np.zeros((30, 5), "f4")
    assert program.average(graph, x=x, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_what_only_a_gpu_does():
    program = hectorite.compile(PROGRAM, target="ptx")
    graph = program.bind(node=2, edge={"src": [0], "dst": [1]})
    x = np.ones((2, 3), "f4")
    for attempt in (
        lambda: program.average(graph, x=x, stream=1),
        lambda: program.average.graph(graph, x=x),
        lambda: program.average.seconds(graph, x=x),
    ):
        with pytest.raises(HectoriteError, match="are for programs on a GPU"):
            attempt()


def test_emitted_ptx_is_a_program():
    emitted = hectorite.emit(PROGRAM, "ptx", {"F": 5}, target="sm_80")
    program = hectorite.compile(emitted)
    graph = program.bind(node=3, edge={"src": [0, 1], "dst": [2, 2]})
    x = np.arange(15, dtype="f4").reshape(3, 5)
    np.testing.assert_allclose(program.average(graph, x=x)[2], (x[0] + x[1]) / 2)
    for target in ("cpu", "reference", "tile"):
        with pytest.raises(HectoriteError):
            hectorite.compile(emitted, target=target)
    assert hectorite.verify(emitted)


@pytest.mark.parametrize("target", ["ptx:sm_70", "ptx:", "cpu:1", "ptx2"])
def test_targets_that_are_none(target: str):
    with pytest.raises(HectoriteError, match="there is no target"):
        hectorite.compile(PROGRAM, target=target)


def test_sums_in_no_fixed_order_are_not_compared_bit_by_bit():
    """What the threads give one after the other is compared with the reference instead."""
    program = """
        def f(A: f32[N, N]) -> f32[K] {
          c[(n + m) % size(K)] += A[n, m]
          return c
        }
    """
    assert hectorite.verify(program, sizes={"N": 40, "K": 5})
