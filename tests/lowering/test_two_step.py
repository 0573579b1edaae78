"""There and back over one set in one kernel: what is recognised, and results on odd maps."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite.backends.order import pairs
from hectorite.lowering.options import Options

SETS = "set vertex\nset edge\nset pin { v: vertex, h: edge }\n"
SUMS = """
def f(X: f32[vertex, O], a: f32[pin], b: f32[pin]) -> f32[vertex, O] {
  E[p.h, o] += X[p.v, o] * a[p]
  Y[p.v, o] += E[p.h, o] * b[p]
  return Y
}
"""
HEADS = """
def f(X: f32[vertex, 2, O], a: f32[pin, 2], b: f32[edge]) -> f32[vertex, 2, O] {
  E[p.h, k, o] max= X[p.v, k, o] * a[p, k]
  Y[q.v, k, o] += max(E[q.h, k, o], -9.0) * E[q.h, k, o] * b[q.h]
  return Y
}
"""
CONTINUED = """
def f(X: i32[vertex, O], Z: i32[vertex, O]) -> i32[vertex, O] {
  Y[n, o] = Z[n, o] * 2
  E[p.h, o] += X[p.v, o]
  Y[p.v, o] += E[p.h, o]
  return Y
}
"""
PINS = {
    "none": (5, 4, 0),
    "one": (1, 1, 1),
    "some": (23, 9, 70),
    "skewed": (30, 6, 64),
    "giant": (40, 5, 400),
    "gaps": (9, 300, 20),
}


def drawn(name: str) -> dict[str, Any]:
    vertices, edges, pins = PINS[name]
    rng = np.random.default_rng(len(name))
    maps = {"v": rng.integers(0, vertices, pins), "h": rng.integers(0, edges, pins)}
    if name == "skewed":
        maps["h"][: pins // 2] = edges - 1  # some vertices more than once
        maps["v"][: pins // 4] = 3
    if name == "giant":
        maps["h"][40:] = 1
    if name == "gaps":
        maps["h"] = rng.choice([0, 3, 250, 299], pins)
    return {"vertex": vertices, "edge": edges, "pin": maps}


@cache
def compiled(body: str, target: str, size: int) -> Any:
    return hectorite.compile(SETS + body, target=target, sizes={"O": size}, search=False)


@pytest.mark.parametrize("data", PINS)
@pytest.mark.parametrize(("body", "size"), [(SUMS, 32), (SUMS, 41), (HEADS, 32), (CONTINUED, 20)])
def test_results(body: str, size: int, data: str):
    sets, found = drawn(data), dict[str, Any]()
    for target in ("reference", "tile", "cpu"):
        program = compiled(body, target, size)
        rng = np.random.default_rng(1)
        extents = {"vertex": sets["vertex"], "edge": sets["edge"], "pin": len(sets["pin"]["h"])}
        given = {
            p.name: rng.integers(
                -4, 5, [extents.get(dim, size if dim == "O" else dim) for dim in p.dims]
            ).astype({"f32": np.float32, "i32": np.int32}[p.element_name])
            for p in program.f.signature.parameters
        }
        found[target] = np.array(program.f(program.bind(**sets), **given))
    # Small integers: every order of adding gives the same.
    np.testing.assert_array_equal(found["tile"], found["reference"])
    np.testing.assert_array_equal(found["cpu"], found["reference"])


SPLIT = "schedule { Y: work(split) }\n"


@pytest.mark.parametrize("data", PINS)
@pytest.mark.parametrize(("body", "size"), [(SUMS, 16), (SUMS, 41), (CONTINUED, 20)])
def test_results_of_a_gpu(body: str, size: int, data: str):
    sets, rng = drawn(data), np.random.default_rng(1)
    extents = {"vertex": sets["vertex"], "pin": len(sets["pin"]["h"]), "O": size}
    found = dict[str, Any]()
    for target in ("reference", "ptx:sm_80"):
        program = compiled(body + SPLIT, target, size)
        rng = np.random.default_rng(1)
        given = {
            p.name: rng.integers(-4, 5, [extents[dim] for dim in p.dims]).astype(
                {"f32": np.float32, "i32": np.int32}[p.element_name]
            )
            for p in program.f.signature.parameters
        }
        found[target] = np.array(program.f(program.bind(**sets), **given))
    np.testing.assert_array_equal(found["ptx:sm_80"], found["reference"])


@settings(max_examples=60)
@given(st.lists(st.integers(0, 50), max_size=8), st.integers(1, 9))
def test_pairs_of_stretches_reach_everything_once(lengths: list[int], limit: int):
    pointers = np.cumsum([0, *lengths]).astype(np.int32)
    row_of = np.repeat(np.arange(len(lengths)), lengths)
    reached = np.zeros((len(row_of), len(row_of)), np.int32)
    for lower, upper, first, last in pairs(pointers, limit).reshape(-1, 4):
        assert upper - lower <= 4 * limit and last - first < 2 * limit
        rows = np.unique(row_of[lower:upper])
        assert len(rows) == 1 or rows[-1] - rows[0] < limit
        for row in rows:
            summed = np.flatnonzero(row_of[lower:upper] == row) + lower
            handed_on = np.flatnonzero(row_of[first:last] == row) + first
            reached[np.ix_(summed, handed_on)] += 1
    np.testing.assert_array_equal(reached, row_of[:, None] == row_of)


@pytest.mark.parametrize(
    ("body", "fused"),
    [
        (SUMS + SPLIT, True),
        (SUMS + "schedule { E: work(split), Y: work(split) }\n", True),
        (SUMS, False),  # sums in a fixed order
        (SUMS + "schedule { E: work(persistent), Y: work(split) }\n", False),
        (HEADS + SPLIT, False),  # no sum of parts
        (SUMS.replace("E[p.h, o] * b", "E[p.h, o] * E[p.h, o] * b") + SPLIT, False),
        (SUMS.replace("+= E[p.h, o] * b[p]", "+= exp(E[p.h, o])") + SPLIT, False),
    ],
)
def test_a_gpu_has_no_tensor_between_where_order_is_free(body: str, fused: bool):
    text = hectorite.emit(SETS + body, "tile", {"O": 32}, target="sm_90")
    assert ("[edge" in text) != fused
    # Only where several tasks reach a row it is added to memory.
    assert ("tile.store add" in text) == ("Y: work(split)" in body)
    assert ("work split" in text) == ("Y: work(split)" in body)


def allocated(body: str, **sizes: int) -> list[str]:
    text = hectorite.emit(SETS + body, "tile", sizes, options=Options(search=False))
    return [line for line in text.splitlines() if "tile.allocate" in line]


@pytest.mark.parametrize("body", [SUMS, HEADS, CONTINUED])
def test_no_tensor_of_the_first_step(body: str):
    assert not any("[edge" in line for line in allocated(body, O=32))


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (SUMS, 16),  # one cache line makes one task
        (SUMS.replace("return Y", "Z[h, o] = E[h, o] * 2.0\n  return Y"), 32),
        (SUMS.replace("E[p.h, o] * b", "E[p.h, 31 - o] * b"), 32),
    ],
)
def test_else_there_are_two_kernels(body: str, size: int):
    if "Z[h" in body:
        body = body.replace("-> f32[vertex, O]", "-> (f32[vertex, O], f32[edge, O])")
        body = body.replace("return Y", "return Y, Z")
    assert any("[edge" in line for line in allocated(body, O=size))
