"""Sums of outer products over segments: which statements are, and that every level agrees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite.backends.balance import shares
from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.schema import Encoded, Schema, SetDecl
from hectorite.ir.target import target
from hectorite.lowering.kernels import materialise_sides
from hectorite.lowering.kernels.kernel_plan import Segment
from hectorite.lowering.kernels.segment_shape import segment_shape
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.segment import covers, match_segment
from tests.lowering.test_graph_to_tile import example_of

SETS = "set seg\nset node\nset elem { s: seg, a: node, b: node }\n"
GPU = Machine.gpu(target("sm_80"))


def statements(inputs: str, line: str, result: str) -> tuple[StatementOp, Schema, FuncOp]:
    """The statement of a program that consists of it."""
    text = f"{SETS}def f({inputs}) -> {result} {{\n  {line}\n  return t\n}}\n"
    module = hectorite.parse(text)
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    (statement,) = (op for op in function.body.block.ops if isinstance(op, StatementOp))
    return statement, schema_of(module), function


def found(inputs: str, line: str, result: str, machine: Machine | None = None) -> Segment | None:
    statement, schema, _ = statements(inputs, line, result)
    match = match_segment(statement, schema, machine or Machine.cpu())
    return None if match is None else match[1]


@pytest.mark.parametrize(
    ("inputs", "line", "result", "names"),
    [
        (
            "x: f32[node, 8], g: f32[node, 16]",
            "t[e.s, i, o] += x[e.a, i] * g[e.b, o]",
            "f32[seg, 8, 16]",
            ("i", "o", (), (), None),
        ),
        (
            "x: f32[elem, 8], g: f32[node, 16]",
            "t[8*e.s + i, o] += x[e, i] * g[e.b, o]",
            "f32[node, 16] pad 0",
            ("i", "o", (), (), 8),
        ),
        (
            "x: f32[elem, 4, 8], g: f32[node, 16]",
            "t[e.s, h, i, o] += x[e, h, i] * g[e.b, o]",
            "f32[seg, 4, 8, 16]",
            ("i", "o", ("h",), (), None),
        ),
        (
            "x: f32[elem, 8, 3], g: f32[node, 3, 16]",
            "t[e.s, i, o] += x[e, i, c] * g[e.b, c, o]",
            "f32[seg, 8, 16]",
            ("i", "o", (), ("c",), None),
        ),
    ],
)
def test_outer_products_are_found(inputs: str, line: str, result: str, names: tuple[object, ...]):
    segment = found(inputs, line, result)
    assert segment is not None
    assert names == (segment.rows, segment.lanes, segment.loops, segment.inner, segment.stride)


GATHERED = "t[e.s, i, o] += x[e.a, i] * g[e.b, o]"


@pytest.mark.parametrize(
    ("inputs", "line", "result"),
    [
        ("x: f32[node, 8], g: f32[node, 16]", GATHERED.replace("+", "max"), "[seg, 8, 16]"),
        ("x: f32[node, 8], g: f32[8, 16]", GATHERED.replace("e.b", "i"), "[seg, 8, 16]"),
        ("x: f32[node, 3], g: f32[node, 4]", GATHERED, "[seg, 3, 4]"),
        (
            "x: f32[elem, 8], g: f32[node, 16]",
            "t[9*e.s + i, o] += x[e, i] * g[e.b, o]",
            "[node, 16] pad 0",
        ),
        ("x: f32[elem, 16]", "t[e.s, o] += x[e, o]", "[seg, 16]"),
    ],
    ids=["max", "one factor", "small", "rows between", "no rows"],
)
def test_others_are_not(inputs: str, line: str, result: str):
    assert found(inputs, line, f"f32{result}") is None


def test_further_factors_go_to_the_shorter_side():
    inputs = "x: f32[node, 8], g: f32[node, 64], w: f32[elem]"
    segment = found(inputs, "t[e.s, i, o] += x[e.a, i] * g[e.b, o] * w[e]", "f32[seg, 8, 64]")
    assert segment is not None
    assert (len(segment.left), len(segment.right)) == (2, 1)
    assert segment.direct_left is None
    assert segment.direct_right is not None


def test_sides_example(program, lines_of):
    module = program(
        "w: f32[edge], x: f32[node, 16], g: f32[node, 64]",
        "d[e.type, i, o] += w[e] * x[e.src, i] * g[e.dst, o] | e: edge, i: 16, o: 64"
        " | f32[etype, 16, 64]",
        "d",
    )
    before, after = example_of(materialise_sides)
    assert lines_of(module) == before
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    materialise_sides.materialise_sides(function, schema_of(module), GPU)
    module.verify()
    assert lines_of(module) == after


@pytest.mark.parametrize(("height", "of", "known"), [(8, "node", True), (4, "node", False)])
def test_windows_of_a_format_are_known_to_be_all_rows(height: int, of: str, known: bool):
    inputs, line = "x: f32[elem, 8], g: f32[node, 16]", "t[8*e.s + i, o] += x[e, i] * g[e.b, o]"
    statement, schema, _ = statements(inputs, line, "f32[node, 16] pad 0")
    segment = match_segment(statement, schema, Machine.cpu())
    assert segment is not None
    assert not covers(statement, segment[1], schema)
    text = f"sgt(row, col, {height}, 8)"
    schema.sets["nz"] = SetDecl("nz", (("row", of), ("col", "node")))
    schema.sets["seg"] = SetDecl("seg", encoded=Encoded("nz", "window", text))
    assert covers(statement, segment[1], schema) is known


def test_shapes():
    f32 = statements("x: f32[elem, 16]", "t[e.s, o] += x[e, o]", "f32[seg, 16]")[0].value.type
    cpu = segment_shape(64, 64, f32, [], Machine.cpu())
    assert (cpu.rows, cpu.lanes) == (6, 64)
    gpu = segment_shape(64, 64, f32, [f32], GPU)
    assert (gpu.rows, gpu.lanes, gpu.swapped, gpu.threads) == (64, 64, False, 128)
    assert segment_shape(8, 64, f32, [f32], GPU).swapped


@pytest.mark.parametrize(
    ("inputs", "line", "result"),
    [
        (
            "x: f32[node, 9], g: f32[elem, 20], w: f32[elem]",
            "t[e.s, i, o] += w[e] * relu(x[e.a, i]) * g[e, o]",
            "f32[seg, 9, 20]",
        ),
        (
            "x: tf32[elem, 8], g: tf32[node, 24]",
            "t[8*e.s + i, o] += x[e, i] * g[e.b, o]",
            "f32[node, 24] pad 0",
        ),
        (
            "x: i8[elem, 2, 8, 3], g: i8[node, 3, 2, 8]",
            "t[e.s, h, i, o] += x[e, h, i, c] * g[e.b, c, h, o]",
            "i32[seg, 2, 8, 8]",
        ),
    ],
    ids=["gradient", "windows", "blocks"],
)
def test_every_level_agrees(inputs: str, line: str, result: str):
    """On empty sets, single elements and segments of many, the checked executor included."""
    report = hectorite.verify(f"{SETS}def f({inputs}) -> {result} {{\n  {line}\n  return t\n}}\n")
    assert report, str(report)


@pytest.mark.parametrize(
    ("type", "sums", "rows", "lanes"),
    [
        ("f32", "f32", 64, 64),
        ("f64", "f64", 7, 33),
        ("i64", "i64", 19, 70),
        ("f16", "f16", 13, 100),
    ],
)
def test_long_and_empty_segments(type: str, sums: str, rows: int, lanes: int):
    """One segment has most elements, and more than are done at a time; some have none."""
    line = "t[e.s, i, o] += x[e.a, i] * g[e.b, o]"
    inputs = f"x: {type}[node, {rows}], g: {type}[node, {lanes}]"
    compiled = hectorite.compile(
        f"{SETS}def f({inputs}) -> {sums}[seg, {rows}, {lanes}] {{\n  {line}\n  return t\n}}\n",
        target="cpu",
    )
    rng = np.random.default_rng(3)
    s = np.where(np.arange(700) < 600, 2, rng.integers(0, 6, 700)).astype(np.int32)
    a, b = rng.integers(0, 9, (2, 700)).astype(np.int32)
    dtype = np.dtype({"f16": "f2", "f32": "f4", "f64": "f8", "i64": "i8"}[type])
    x, g = rng.integers(-1, 2, (9, rows)), rng.integers(-1, 2, (9, lanes))
    expected = np.zeros((8, rows, lanes))
    np.add.at(expected, s, x[a][:, :, None] * g[b][:, None, :])
    bound = compiled.bind(seg=8, node=9, elem={"s": s, "a": a, "b": b})
    result = compiled.f(bound, x=x.astype(dtype), g=g.astype(dtype))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("skew", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(("rows", "lanes"), [(64, 64), (33, 20)])
def test_a_long_segment_is_several_tasks(rows: int, lanes: int, skew: float):
    text = (
        f"{SETS}def f(x: f32[node, {rows}], g: f32[node, {lanes}])"
        f" -> f32[seg, {rows}, {lanes}] {{\n"
        "  t[e.s, i, o] += x[e.a, i] * g[e.b, o]\n  return t\n}\n"
    )
    rng, count = np.random.default_rng(0), 900
    s = np.where(rng.random(count) < skew, 2, rng.integers(0, 6, count)).astype(np.int32)
    a, b = rng.integers(0, 20, (2, count)).astype(np.int32)
    x, g = (rng.standard_normal((20, n)).astype(np.float32) for n in (rows, lanes))
    results: list[bytes] = []
    for elements in (slice(None), s == 2):
        compiled = hectorite.compile(text, target="cpu", search=False)
        elem = {"s": s[elements], "a": a[elements], "b": b[elements]}
        result = np.array(compiled.f(compiled.bind(seg=6, node=20, elem=elem), x=x, g=g))
        expected = np.zeros((6, rows, lanes))
        np.add.at(expected, elem["s"], x[elem["a"], :, None].astype(float) * g[elem["b"], None])
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        results.append(result[2].tobytes())
    # Whether a segment is done by one task or several changes no bit.
    assert results[0] == results[1]


@settings(max_examples=60)
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(0, 40), st.integers(1, 12))
def test_shares_have_each_part_of_each_row_once(lengths: list[int], long: int, tasks: int):
    lengths = [100 * n if place == long else n for place, n in enumerate(lengths)]
    pointers = np.cumsum([0, *lengths]).astype(np.int32)
    done = np.zeros(len(lengths))
    for lower, upper, part, parts in shares(pointers, tasks).reshape(-1, 4):
        assert 0 <= part < parts and (parts == 1 or upper == lower + 1)
        done[lower:upper] += 1 / parts
    np.testing.assert_array_equal(done, 1)
    count = len(shares(pointers, tasks)) // 4
    assert count <= tasks + 2 + 3 * sum(n > 512 for n in lengths)
