"""Which sums are done in parts: by what is known of their longest row, and only on a GPU."""

from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.backends.bound.binding import Binding
from hectorite.backends.bound.cardinalities import cardinalities
from hectorite.dialects.graph import StatementOp
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.program_text import read_program
from hectorite.ir.devices import device_named
from hectorite.ir.schedule import Schedule
from hectorite.lowering.graph.cardinalities import parse_cardinalities
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise

SETS = """
set node
set kind
set edge { src: node, dst: node, kind: kind }
"""
SUM = (
    SETS
    + """
def f(x: f32[node, 64], w: f32[edge]) -> f32[node, 64] {
  y[e.dst, o] += x[e.src, o] * w[e]
  return y
}
"""
)
MAX = (
    SETS
    + """
def f(w: f32[edge]) -> f32[node] {
  y[e.dst] max= w[e]
  return y
}
"""
)
GRADIENT = (
    SETS
    + """
def f(x: f16[node, 64], g: f16[node, 64]) -> f32[kind, 64, 64] {
  y[e.kind, i, o] += f32(x[e.src, i]) * f32(g[e.dst, o])
  return y
}
"""
)
EDGES = 1 << 20


def orders(program: str, device: str | None, *known: str, **options: Any) -> list[Schedule]:
    chosen = None if device is None else device_named(device)
    facts = ("node=65536", "kind=8", f"edge={EDGES}", *known)
    module = optimise(
        hectorite.parse(program), {}, Options(cardinalities=facts, device=chosen, **options)
    )
    found = [Schedule.on(op) for op in module.walk() if isinstance(op, StatementOp)]
    return [schedule for schedule in found if schedule is not None]


@pytest.mark.parametrize("device", ["a100", "h200"])
@pytest.mark.parametrize("program", [SUM, MAX, GRADIENT])
def test_the_longest_row_decides(device: str, program: str):
    key = "kind" if program is GRADIENT else "dst"
    assert not orders(program, device)
    assert not orders(program, device, f"edge^{key}=16")
    (order,) = orders(program, device, f"edge^{key}={EDGES // 4}")
    assert (order.work, order.chosen) == ("merge", True)
    assert not orders(program, None, f"edge^{key}={EDGES // 4}")
    assert not orders(program, device, f"edge^{key}={EDGES // 4}", search=False)
    in_order = orders(program, device, f"edge^{key}={EDGES // 4}", reassociate=False)
    assert len(in_order) == (1 if program is MAX else 0)


def test_a_schedule_and_a_format_say_otherwise():
    long = f"edge^dst={EDGES // 4}"
    (order,) = orders(SUM + "schedule { y: work(row) }", "h200", long)
    assert (order.work, order.chosen) == ("row", False)
    assert not orders(SUM, "h200", long, formats=("edge=csr(dst)",))
    assert not orders(SUM.replace("kind }", "kind } as csr(dst)"), "h200", long)


def test_long_rows_of_data_are_known():
    text = read_program(SUM)
    facts = facts_of(text, None)
    draw = np.random.default_rng(0)
    maps = {name: draw.integers(0, 900, 3000).astype(np.int32) for name in ("src", "dst")}
    maps["dst"][::2] = 7
    maps["kind"] = np.zeros(3000, np.int32)
    binding = Binding(facts.schema, {"node": 900, "kind": 1, "edge": maps})
    known = parse_cardinalities(cardinalities(binding, facts.counted["f"]))
    assert known.degrees == {("edge", ("dst",)): 1448}  # 1500, and a power of the root of two


@pytest.mark.parametrize("program", [SUM, MAX])
def test_what_is_chosen_for_data_gives_the_same_results(program: str):
    draw, sets = np.random.default_rng(2), {"node": 300, "kind": 2}
    maps = {name: draw.integers(0, 300, 9000).astype(np.int32) for name in ("src", "dst")}
    maps["dst"][:8000] = 5
    maps["kind"] = (draw.random(9000) < 0.1).astype(np.int32)
    found = []
    for target in ("reference", "ptx:sm_90"):
        compiled = hectorite.compile(program, target, cache=False)
        function = compiled["f"]
        draw = np.random.default_rng(4)
        arguments = {
            p.name: draw.integers(
                -2, 3, [{"node": 300, "edge": 9000}.get(d, d) for d in p.dims]
            ).astype(p.element.storage)
            for p in function.signature.parameters
        }
        found.append(function(compiled.bind(**sets, edge=maps), **arguments))
    np.testing.assert_array_equal(*found)
