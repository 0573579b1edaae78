"""Schedules: followed on a GPU without a change of meaning, or refused with a reason."""

import re

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp

import hectorite
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.tile import KernelOp, ProductOp
from hectorite.dialects.tile_memory import StoreOp, shape_of
from hectorite.dialects.tile_program import LayoutOp
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schedule import Schedule
from hectorite.ir.target import target
from hectorite.lowering.gpu.promote_locals import PromoteLocals
from hectorite.lowering.machine import Machine
from hectorite.lowering.pipelines import optimise, to_tile

GPU = Machine.gpu(target("sm_90"))

DENSE = """
def f(x: f32[N, I], W: f32[I, O]) -> f32[N, O] {
  y[n, o] += x[n, i] * W[i, o]
  return y
}
schedule { y: ORDERS }
"""
GRAPH = """
set node
set edge { src: node, dst: node }
def f(x: f32[node, O], w: f32[edge]) -> f32[node, O] {
  y[e.dst, o] += x[e.src, o] * w[e]
  return y
}
schedule { y: ORDERS }
"""
TYPED = """
set node
set etype
set edge { src: node, dst: node, type: etype }
def f(x: f32[node, I], W: f32[etype, I, O]) -> f32[edge, O] {
  y[e, o] += x[e.src, i] * W[e.type, i, o]
  return y
}
schedule { y: ORDERS }
"""
ELEMENTWISE = """
def f(x: f32[N]) -> f32[N] {
  y[n] = exp(x[n]) + 1
  return y
}
schedule { y: ORDERS }
"""
SUM = """
def f(x: f32[N]) -> f32 {
  y += x[n]
  return y
}
schedule { y: ORDERS }
"""
WORKS = ["work(row)", "work(persistent)", "work(window)", "work(split)", "work(merge)"]
SIZES = {"N": 300, "I": 40, "O": 24}


def tiled(source: str, orders: str, machine: Machine = GPU) -> ModuleOp:
    """The tile module of a program with these orders."""
    module = optimise(hectorite.parse(source.replace("ORDERS", orders)), SIZES)
    tile = to_tile(module, "f", machine)
    tile.verify()
    return tile


def sizes_of(source: str) -> dict[str, int]:
    """The sizes that occur in a program."""
    return {name: value for name, value in SIZES.items() if re.search(rf"\b{name}[],]", source)}


def product(tile: ModuleOp) -> ProductOp:
    (found,) = [op for op in tile.walk() if isinstance(op, ProductOp)]
    return found


def data(source: str) -> tuple[dict[str, object], dict[str, np.ndarray]]:
    """Sets and tensors: few large segments and some empty ones."""
    random = np.random.default_rng(3)
    ends = {name: random.integers(0, 37, 500).astype(np.int32) for name in ("src", "dst")}
    ends["dst"][:300] = 5
    edge = {**ends, "type": np.sort(random.integers(0, 3, 500)).astype(np.int32)}
    sets: dict[str, object] = {}
    if "set edge" in source:
        sets = {"node": 40, "edge": {k: v for k, v in edge.items() if f"{k}:" in source}}
    if "set etype" in source:
        sets["etype"] = 4
    shapes = {"x": (40, 40) if "etype" in source else (40, 24), "w": (500,), "W": (4, 40, 24)}
    if not sets:
        shapes = {"x": (300, 40) if "W" in source else (300,), "W": (40, 24)}
    made = {
        name: random.integers(-3, 4, shape).astype(np.float32) for name, shape in shapes.items()
    }
    return sets, {name: a for name, a in made.items() if f"{name}: f32" in source}


@pytest.mark.parametrize("source", [DENSE, GRAPH, TYPED, ELEMENTWISE])
@pytest.mark.parametrize("orders", WORKS)
def test_how_work_is_shared_out_changes_no_result(source: str, orders: str):
    sets, tensors = data(source)
    compiled = hectorite.compile(
        source.replace("ORDERS", orders),
        "reference",
        sizes_of(source.replace("ORDERS", "")),
        cache=False,
    )
    binding = compiled.bind(**sets)
    function = compiled["f"]
    arguments, sizes = function.take(binding, tensors)
    expected = function(binding, **tensors)
    try:
        tile = tiled(source, orders)
    except HectoriteError as error:
        assert orders in str(error) and source is not GRAPH
        return
    promoted = tile.clone()
    PromoteLocals().apply(Context(), promoted)
    for module in (tile, promoted):
        (result,) = run_tile(module, binding, arguments, sizes)
        np.testing.assert_allclose(result, expected, rtol=1e-5)


@pytest.mark.parametrize("orders", WORKS)
def test_work_is_shared_out_alike_in_ptx(orders: str):
    sets, tensors = data(GRAPH)
    source, expected = GRAPH.replace("ORDERS", orders), None
    for target_name in ("reference", "ptx:sm_80"):
        compiled = hectorite.compile(source, target_name, sizes={"O": 24}, cache=False)
        result = np.array(compiled.f(compiled.bind(**sets), **tensors))
        expected = result if expected is None else expected
        np.testing.assert_array_equal(result, expected)
    text = hectorite.emit(source, "tile", {"O": 24}, target="sm_80")
    work = orders[5:-1]
    assert (f" work {work} " in text) == (work != "row")


@pytest.mark.parametrize(("rows", "lanes"), [(16, 8), (64, 32), (256, 16), (128, 256)])
def test_tiles_of_a_product_are_those_of_the_schedule(rows: int, lanes: int):
    orders = f"tile(n = {rows}, o = {lanes}, i = 16) pipeline(4)"
    op = product(tiled(DENSE, orders))
    assert shape_of(op.result.type) == (rows, lanes)
    assert op.attributes["block_k"] == IntegerAttr(16, 64)
    assert op.attributes["stages"] == IntegerAttr(4, 64)


def test_grouped_products_have_runs_of_that_many_rows():
    tile = tiled(TYPED, "tile(e = 32)")
    runs = [op for op in tile.walk() if isinstance(op, LayoutOp) and op.what.data == "runs"]
    assert {op.limit.value.data for op in runs if op.limit} == {32}


def test_orders_change_nothing_on_a_cpu():
    one, other = (
        str(tiled(DENSE, orders, Machine.cpu())) for orders in ("work(row)", "tile(n = 16)")
    )
    assert one == other


def test_a_persistent_kernel_has_as_many_tasks_as_the_machine_holds():
    text = str(tiled(DENSE, "work(persistent)"))
    assert "scalar.min" in text
    kernel = next(op for op in tiled(DENSE, "work(persistent)").walk() if isinstance(op, KernelOp))
    assert str(kernel).count("scf.for") == 1


def test_what_has_a_schedule_stays_a_statement():
    source = """
def f(x: f32[N]) -> f32[N] {
  t[n] = exp(x[n])
  y[n] = t[n] + 1
  return y
}
"""
    for schedule, count in (("", 1), ("schedule { t: work(row) }", 2)):
        module = optimise(hectorite.parse(source + schedule), SIZES)
        (function,) = [op for op in module.ops if isinstance(op, FuncOp)]
        left = [op for op in function.body.block.ops if isinstance(op, StatementOp)]
        assert len(left) == count
        assert [Schedule.on(op) is not None for op in left] == [True, False][:count] or count == 1


def test_long_rows_are_split_into_parts_that_are_added_to_memory():
    stores = [op for op in tiled(GRAPH, "work(split)").walk() if isinstance(op, StoreOp)]
    assert {op.combine.data for op in stores if op.combine is not None} == {"add"}


REFUSED = {
    (GRAPH, "tile(e = 32)"): "`tile(e = 32)` of `y` cannot be followed: it is computed without",
    (GRAPH, "pipeline(3)"): "`pipeline` of `y` cannot be followed: it is computed without",
    (SUM, "work(persistent)"): "the tasks of this kernel are parts of a product or a sum, not rows",
    (DENSE, "work(split)"): "`work(split)` of `y` cannot be followed: no row of it is a sum",
    (ELEMENTWISE, "tile(n = 64)"): "`tile(n = 64)` of `y` cannot be followed",
    (DENSE, "tile(n = 8)"): "blocks of 16 to 256 rows",
    (DENSE, "tile(o = 4)"): "blocks of 8 to 256 lanes",
    (DENSE, "tile(n = 256, o = 256)"): "a block of 256 x 256",
}


@pytest.mark.parametrize(("source", "orders"), REFUSED)
def test_orders_that_cannot_be_followed_are_refused(source: str, orders: str):
    with pytest.raises(HectoriteError) as caught:
        tiled(source, orders)
    (diagnostic,) = caught.value.diagnostics
    assert REFUSED[source, orders] in diagnostic.message
    assert diagnostic.span is not None


def test_statements_of_one_kernel_share_out_work_in_one_way():
    source = GRAPH.replace("  return", "  z[e.dst, o] += x[e.src, o]\n  return")
    source = source.replace("return y", "return y, z").replace(
        "-> f32[node, O]", "-> (f32[node, O], f32[node, O])"
    )
    with pytest.raises(HectoriteError, match="are one kernel"):
        tiled(source, "work(row), z: work(window)")
