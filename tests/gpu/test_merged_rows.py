"""Long rows in parts that a second kernel puts together: the tables, results, order of sums."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite.backends.balance import PART, row_parts

lengths = st.lists(st.one_of(st.integers(0, 5), st.integers(200, 3000)), min_size=1, max_size=8)


@given(lengths, st.integers(1, 64))
def test_parts_are_all_elements_once_and_in_order(degrees: list[int], most: int):
    pointers = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32)
    tasks, long = (
        table.reshape(-1, n) for table, n in zip(row_parts(pointers, most), (4, 3), strict=True)
    )
    assert len(tasks) == len({tuple(task) for task in tasks.tolist()})
    in_parts = tasks[tasks[:, 3] >= 0]
    assert (in_parts[:, 3] == np.arange(len(in_parts))).all() and len(in_parts) <= most
    for row, first, last in long.tolist():
        own = in_parts[first:last]
        assert last - first > 1 and (own[:, 0] == row).all()
        assert (own[1:, 1] == own[:-1, 2]).all()
        assert (own[0, 1], own[-1, 2]) == (pointers[row], pointers[row + 1])
        assert (own[:, 2] - own[:, 1] >= PART // 2).all()
    whole = tasks[tasks[:, 3] < 0]
    assert (pointers[whole[:, 0]] == whole[:, 1]).all()
    assert (pointers[whole[:, 0] + 1] == whole[:, 2]).all()
    assert sorted([*whole[:, 0], *long[:, 0]]) == list(range(len(degrees)))


SETS = """
set node
set kind
set edge { src: node, dst: node, kind: kind }
"""
ROWS = (
    SETS
    + """
def f(x: f32[node, O], w: f32[edge], s: f32[node, O]) -> (f32[node, O], f32[node]) {
  y[n, o] = s[n, o]
  y[e.dst, o] += x[e.src, o] * w[e]
  m[e.dst] max= w[e]
  return y, m
}
schedule { y: work(merge), m: work(merge) }
"""
)
OUTER = (
    SETS
    + """
def f(x: T[node, O], s: T[node, 20]) -> f32[kind, O, 20] {
  y[e.kind, i, o] += f32(x[e.src, i]) * f32(s[e.dst, o])
  return y
}
schedule { y: work(merge) }
"""
)
HEADS = (
    SETS
    + """
def f(x: f16[node, 2, O], w: f32[edge, 2]) -> f16[node, 2, O] {
  y[e.dst, h, o] += f32(x[e.src, h, o]) * w[e, h]
  return y
}
schedule { y: work(merge) }
"""
)
PROGRAMS = {
    "rows": ROWS,
    "outer f16": OUTER.replace("T[", "f16["),
    "heads": HEADS,
}


def bound(degrees: list[int], seed: int) -> dict[str, Any]:
    draw, nodes = np.random.default_rng(seed), len(degrees)
    dst = draw.permutation(np.repeat(np.arange(nodes, dtype=np.int32), degrees))
    src = draw.integers(0, nodes, len(dst)).astype(np.int32)
    return {"node": nodes, "kind": nodes, "edge": {"src": src, "dst": dst, "kind": dst}}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("target", "degrees"),
    [("tile", [0, 300, 3]), ("tile", [0, 0]), ("ptx:sm_80", [0, 700, 3, 0, 1031])],
    ids=str,
)
def test_merged_rows_are_the_same_sums(name: str, target: str, degrees: list[int]):
    sets, draw = bound(degrees, 3), np.random.default_rng(1)
    program, sizes = PROGRAMS[name], {"O": 24}
    wanted: Any = None
    for each in ("reference", target):
        compiled = hectorite.compile(program, each, sizes=sizes, cache=False)
        function = compiled["f"]
        if wanted is None:
            extents = {**sizes, "node": len(degrees), "edge": sum(degrees)}
            arguments = {
                p.name: draw.integers(-3, 4, [extents.get(d, d) for d in p.dims]).astype(
                    p.element.storage
                )
                for p in function.signature.parameters
            }
        found = function(compiled.bind(**sets), **arguments)
        found = found if isinstance(found, tuple) else (found,)
        wanted = wanted or found
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)


@settings(max_examples=3, deadline=None)
@given(lengths, st.integers(0, 1000))
def test_sums_are_added_in_the_order_of_the_elements(degrees: list[int], seed: int):
    """Bit for bit: parts in order, the parts in order, however tasks run."""
    sets, draw = bound(degrees, seed), np.random.default_rng(seed)
    edges, nodes = sum(degrees), len(degrees)
    x = draw.standard_normal((nodes, 24)).astype(np.float32)
    w = draw.standard_normal(edges).astype(np.float32)
    compiled = hectorite.compile(ROWS, "ptx:sm_80", sizes={"O": 24}, cache=False)
    binding = compiled.bind(**sets)
    start = draw.standard_normal((nodes, 24)).astype(np.float32)
    first, second = (np.array(compiled.f(binding, x=x, w=w, s=start)[0]) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    order = np.argsort(sets["edge"]["dst"], kind="stable")
    terms = x[sets["edge"]["src"][order]] * w[order, None]
    exact = start.astype(np.float64)
    np.add.at(exact, sets["edge"]["dst"][order], terms.astype(np.float64))
    size = np.abs(start).astype(np.float64)
    np.add.at(size, sets["edge"]["dst"][order], np.abs(terms).astype(np.float64))
    assert (np.abs(first - exact) <= 1e-5 * (1 + size)).all()
