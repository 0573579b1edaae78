"""Kernels that are more than a visit or a product cost what they do."""

import numpy as np
import pytest

import hectorite
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.program_text import read_program
from hectorite.ir.cost import CostModel, Explained
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.devices import CPU, H200
from hectorite.ir.extents import Extents
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.options import Options

GRAPH = "set node\nset etype\nset edge { src: node, dst: node, type: etype }\n"
EACH = """
def f(x: f32[node, I], W: f32[etype, I, O]) -> f32[node, O] {
  y[e.dst, o] += x[e.src, i] * W[e.type, i, o]
  return y
}
"""
WEIGHTS = """
def f(x: f32[node, I], g: f32[node, O]) -> f32[etype, I, O] {
  d[e.type, i, o] += x[e.src, i] * g[e.dst, o]
  return d
}
"""
THERE_AND_BACK = """
def f(x: f32[node, O]) -> f32[node, O] {
  E[p.type, o] += x[p.src, o]
  y[p.src, o] += E[p.type, o]
  return y
}
"""
SIZES = {"node": 10_000, "edge": 100_000, "etype": 30}


def flow_of(text: str, **sizes: int) -> Dataflow:
    module = read_program(text).module.clone()
    specialize(module, sizes)
    func = next(op for op in module.ops if isinstance(op, FuncOp))
    return lift(func, schema_of(module))


def explained(flow: Dataflow, device=CPU, **known: object) -> dict[str, Explained]:
    model = CostModel(device, Extents(**({"sizes": SIZES} | known)))
    return {node.name or "": model.explain(flow, n) for n, node, _ in flow.statements()}


def test_scattered_products_are_products():
    y = explained(flow_of(GRAPH + EACH, I=64, O=32))["y"]
    product = y.work.product
    assert product is not None
    assert product.rows * product.times == pytest.approx(SIZES["edge"])
    # Each task sweeps the weights of the types that it has.
    assert product.times == 30 * -(-SIZES["node"] * 32 * 4 // 2**19)
    assert {gather.row for gather in y.work.gathers} == {64 * 4, 2 * 32 * 4}
    assert explained(flow_of(GRAPH + EACH, I=64, O=32), H200)["y"].work.product is None


def test_further_factors_of_scattered_products_are_computed_first():
    scaled = EACH.replace("x: f32", "s: f32[edge], x: f32").replace("o]\n", "o] * s[e]\n")
    plain = explained(flow_of(GRAPH + EACH, I=64, O=32))["y"]
    more = explained(flow_of(GRAPH + scaled, I=64, O=32))["y"]
    assert more.seconds > plain.seconds
    assert more.work.rows > SIZES["edge"] > plain.work.rows


@pytest.mark.parametrize("device", [CPU, H200])
def test_outer_products_are_products_over_the_elements_of_a_row(device):
    d = explained(flow_of(GRAPH + WEIGHTS, I=64, O=32), device)["d"]
    product = d.work.product
    assert product is not None
    assert (product.rows, product.columns) == (64, 32)
    assert product.terms * product.times == pytest.approx(SIZES["edge"])
    assert d.work.steps == 0


def test_two_steps_leave_no_tensor_and_visit_once_for_each_strip():
    found = explained(flow_of(GRAPH + THERE_AND_BACK, O=128))
    assert found["E"].work.written == 0
    assert found["y"].work.launches == 0
    assert found["E"].work.elements == found["y"].work.elements == 2 * SIZES["edge"]
    # A task for a strip of less than a cache line would be none.
    assert explained(flow_of(GRAPH + THERE_AND_BACK, O=16))["E"].work.written > 0


def test_tensors_that_others_need_stay_tensors():
    both = THERE_AND_BACK.replace("-> f32[node, O]", "-> (f32[node, O], f32[etype, O])")
    found = explained(flow_of(GRAPH + both.replace("return y", "return y, E"), O=128))
    assert found["E"].work.written > 0
    assert found["y"].work.launches == 1


def test_statements_over_elements_join_a_visit_through_others():
    text = """
def f(q: f32[node, I], k: f32[node, I]) -> f32[node] {
  s[e]      += q[e.dst, i] * k[e.src, i]
  r[e]       = relu(s[e])
  t[e]       = exp(r[e])
  y[e.dst]  += t[e]
  return y
}
"""
    found = explained(flow_of(GRAPH + text, I=64))
    assert [found[name].work.launches for name in "srty"] == [1, 0, 0, 0]
    # Rows of q are those of the visit, which goes through them in order.
    assert [gather.row for gather in found["s"].work.gathers] == [64 * 4]


JOIN = """
set row
set col
set a { row: row, col: row }
set c { row: row, col: row }
set t { x: a, y: a, at: c } = distinct(x, y, z) for x: a, y: a, z: c
  where x.col == y.row and z.row == x.row and z.col == y.col
def f(A: f32[a]) -> f32[c] {
  V[p.at] += A[p.x] * A[p.y]
  return V
}
"""


def test_walks_visit_the_pairs_that_there_are():
    rows = np.array([0, 0, 0, 1, 2], np.int32)
    cols = np.array([1, 2, 0, 0, 0], np.int32)
    maps = {("a", "row"): rows, ("a", "col"): cols, ("c", "row"): rows, ("c", "col"): cols}
    flow = flow_of(JOIN)
    sizes = {"row": 3, "a": 5, "c": 5}
    pairs = sum(int((rows == col).sum()) for col in cols)
    assert explained(flow, sizes=sizes, maps=maps)["V"].work.elements == pairs == 11
    # Without maps, as many as evenly spread values make.
    even = explained(flow, sizes={"row": 100, "a": 1000, "c": 1000})["V"].work.elements
    assert even == pytest.approx(1000 * 1000 / 100, rel=1e-3)


def test_joins_have_fewer_elements_than_tuples():
    flow = flow_of(JOIN)
    extents = Extents(sizes={"row": 100, "a": 10_000, "c": 1000})
    extents.declare(flow.schema)
    assert extents.of("a") <= extents.of("t") <= extents.visited("t")[0]


def test_the_search_chooses_the_kernel():
    wide = GRAPH + EACH.replace("y[e.dst, o] += x", "t[e, o] += x").replace(
        "  return", "  y[e.dst, o] += t[e, o]\n  return"
    )
    known = ("edge=300000", "node=100000", "etype=27", "edge(src,type)=300000")
    options = Options(cardinalities=known)
    text = hectorite.emit(wide, "graph-opt", {"I": 64, "O": 64}, options=options)
    assert text.count("graph.statement") == 1
