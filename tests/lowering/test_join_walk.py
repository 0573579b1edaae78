"""Statements over joins: the walk through their sets, against the reference."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.backends.cpu.threads import set_threads, thread_count
from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.schema import Schema
from hectorite.lowering.graph.statement_body import statements
from hectorite.lowering.kernels.join_walk import walk_of, walked_joins
from hectorite.lowering.options import Options

SETS = """
set row
set mid
set col
set a { row: row, col: mid }
set b { row: mid, col: col }
set d { row: col, col: row }
set m { row: row, col: col }
set c { row: row, col: col } = distinct(x.row, y.col) for x: a, y: b where x.col == y.row
set k { row: row, col: col } = distinct(z.row, z.col) for z: m
set e { row: row, col: row } = distinct(x.row, w.col) for x: a, y: b, w: d
    where x.col == y.row and y.col == w.row
set g { row: row, col: row } = distinct(x.row, y.row) for x: a, y: a where x.col == y.col
set t { x: a, y: b, at: c } = distinct(x, y, c(x.row, y.col)) for x: a, y: b where x.col == y.row
set tk { x: a, y: b, at: k, r: row } = distinct(x, y, k(x.row, y.col), x.row) for x: a, y: b
    where x.col == y.row
set tm { x: a, y: b, at: m } = distinct(x, y, z) for x: a, y: b, z: m
    where x.col == y.row and z.row == x.row and z.col == y.col
set te { x: a, y: b, w: d, at: e } = distinct(x, y, w, e(x.row, w.col)) for x: a, y: b, w: d
    where x.col == y.row and y.col == w.row
set tg { x: a, y: a, at: g } = distinct(x, y, g(x.row, y.row)) for x: a, y: a where x.col == y.col
set cycle { x: a, y: b, w: d } = distinct(x, y, w) for x: a, y: b, w: d
    where x.col == y.row and y.col == w.row and w.col == x.row
set loop { x: a, y: b } = distinct(x, y) for x: a, y: b where x.col == y.row and y.row == y.col
set pair { x: a, y: b } = distinct(x, y) for x: a, y: b where x.col == y.row
set some { x: a, y: b, at: c } = distinct(x, y, z) for x: a, y: b, z: c
    where x.col == y.row and z.row == x.row and z.col == y.col and x.row <= y.col + 1 and y.col != 2
set back { y: b, x: a, at: c } = distinct(y, x, c(x.row, y.col)) for y: b, x: a where y.row == x.col
"""

WALKED = {
    "product": """(A: f32[a], B: f32[b]) -> f32[c] {
  V[p: t.at] += A[p.x] * B[p.y]
  return V
}""",
    "masked": """(A: f32[a], B: f32[b], R: f32[row]) -> f32[k] {
  V[p: tk.at] += A[p.x] * B[p.y] * R[p.r]
  return V
}""",
    "three factors": """(A: i32[a], B: i32[b], D: i32[d]) -> i32[e] {
  V[p: te.at] += A[p.x] * B[p.y] * D[p.w]
  return V
}""",
    "a mask with equal elements": """(A: f32[a], B: f32[b]) -> f32[m] {
  V[p: tm.at] += A[p.x] * B[p.y]
  return V
}""",
    "with its transpose": """(A: f32[a]) -> f32[g] {
  V[p: tg.at] += A[p.x] * A[p.y]
  return V
}""",
    "features": """(A: f32[a], B: f32[b, 40], S: f32[c]) -> f32[c, 40] {
  V[z, o] = S[z]
  V[p: t.at, o] += A[p.x] * B[p.y, o]
  return V
}""",
    "greatest": """(A: f32[a], B: f32[b]) -> (f32[c], f32[c]) {
  V[p: t.at] max= A[p.x] + B[p.y]
  W[z] = V[z] * 2
  return V, W
}""",
    "rows": """(A: f32[a], B: f32[b], X: f32[col, 20], y: f32[row, 20]) -> f32[row, 20] {
  Y[n, j] = y[n, j]
  Y[p: pair.x.row, j] += A[p.x] * B[p.y] * X[p.y.col, j]
  return Y
}""",
    "cycles": """(A: f32[a], B: f32[b], D: f32[d]) -> f32[row] {
  Y[p: cycle.x.row] += A[p.x] * B[p.y] * D[p.w]
  return Y
}""",
    "equal fields": """(A: f32[a], B: f32[b]) -> f32[row] {
  Y[p: loop.x.row] += A[p.x] * B[p.y]
  return Y
}""",
    "elements": """(B: f32[b], X: f32[col]) -> f32[a] {
  Y[p: pair.x] += B[p.y] * X[p.y.col]
  return Y
}""",
    "conditions": """(A: f32[a], B: f32[b]) -> f32[c] {
  V[p: some.at] += A[p.x] * B[p.y] + p.at.row
  return V
}""",
    "other order": """(A: f32[a], B: f32[b]) -> f32[c] {
  V[p: back.at] += A[p.x] * B[p.y]
  return V
}""",
}

BUILT = {
    "elements of the join": """(A: f32[a], P: f32[pair]) -> f32[row] {
  Y[p.x.row] += A[p.x] * P[p]
  return Y
}""",
    "everything": """(A: f32[a], B: f32[b]) -> f32 {
  s += A[p: pair.x] * B[p.y]
  return s
}""",
}

SIZES = {"none": (0, 0), "few": (3, 4), "some": (7, 20), "ordered": (9, 25)}


def maps(name: str) -> dict[str, Any]:
    """Random maps; or in order of rows."""
    extent, count = SIZES[name]
    rng = np.random.default_rng(count)
    sets: dict[str, Any] = {"row": extent, "mid": max(extent - 1, 0), "col": extent + bool(extent)}
    for of, targets in (("a", "row mid"), ("b", "mid col"), ("d", "col row"), ("m", "row col")):
        first, second = (sets[target] for target in targets.split())
        own = count if first and second else 0
        rows = rng.integers(0, max(first, 1), own)
        rows = np.sort(rows) if name == "ordered" else rows
        sets[of] = {"row": rows, "col": rng.integers(0, max(second, 1), own)}
    return sets


def tensors(program: Any, binding: Any) -> dict[str, Any]:
    """Small integers: every order of adding gives the same."""
    rng = np.random.default_rng(1)
    made: dict[str, Any] = {}
    for spec in program.f.signature.parameters:
        shape = [binding.size(dim) if isinstance(dim, str) else dim for dim in spec.dims]
        numbers = rng.integers(-8, 8, shape)
        made[spec.name] = numbers.astype({"i32": np.int32, "f32": np.float32}[spec.element_name])
    return made


@cache
def compiled(body: str, target: str) -> Any:
    return hectorite.compile(f"{SETS}def f{body}", target=target)


def function_of(body: str) -> tuple[list[StatementOp], Schema]:
    module = hectorite.parse(f"{SETS}def f{body}")
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    return statements(function), schema_of(module)


@pytest.mark.parametrize("body", [*WALKED.values(), *BUILT.values()], ids=[*WALKED, *BUILT])
def test_results(body: str):
    for name in SIZES:
        found: dict[str, Any] = {}
        for target in ("reference", "tile", "cpu"):
            program = compiled(body, target)
            binding = program.bind(**maps(name))
            found[target] = program.f(binding, **tensors(program, binding))
            found[target] = found[target] if isinstance(found[target], tuple) else (found[target],)
        for wanted, tile, cpu in zip(*found.values(), strict=True):
            assert (np.array(tile) == np.array(wanted)).all(), name
            assert (np.array(cpu) == np.array(wanted)).all(), name


@pytest.mark.parametrize("body", WALKED.values(), ids=WALKED)
def test_the_join_is_not_built(body: str):
    over, schema = function_of(body)
    (walk,) = (walk for op in over if (walk := walk_of(op, schema)) is not None)
    assert walked_joins(over, schema) == {walk.join}
    program = compiled(body, "cpu")
    binding = program.bind(**maps("some"))
    program.f(binding, **tensors(program, binding))
    assert walk.join not in binding._sizes  # what nobody asked for is not there
    text = hectorite.emit(f"{SETS}def f{body}", "tile")
    assert f" of {walk.join} " not in text


def test_what_is_derived_from_the_join_is_found_without_a_look():
    certain = dict[str, bool]()
    for body in WALKED.values():
        over, schema = function_of(body)
        (walk,) = (walk for op in over if (walk := walk_of(op, schema)) is not None)
        if walk.finder is not None:
            certain[walk.finder.set] = walk.finder.certain
    assert certain == {"c": True, "e": True, "g": True, "k": False, "m": False, "d": False}


@pytest.mark.parametrize("body", BUILT.values(), ids=BUILT)
def test_what_needs_the_join(body: str):
    over, schema = function_of(body)
    assert not walked_joins(over, schema)


def test_a_gpu_visits_the_join():
    body = WALKED["product"]
    text = hectorite.emit(f"{SETS}def f{body}", "tile", target="sm_80", options=Options())
    assert "segments of t by [e.at]" in text


def test_same_for_any_number_of_threads():
    program = compiled(WALKED["product"], "cpu")
    rng = np.random.default_rng(0)
    sets = {"row": 300, "mid": 300, "col": 300}
    for of in "abdm":
        sets[of] = {field: rng.integers(0, 300, 3000) for field in ("row", "col")}
    binding = program.bind(**sets)
    given = {name: rng.standard_normal(3000, np.float32) for name in "AB"}
    before, found = thread_count(), []
    try:
        for threads in (1, 2, 5):
            set_threads(threads)
            found.append(np.array(program.f(binding, **given)))
    finally:
        set_threads(before)
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()
