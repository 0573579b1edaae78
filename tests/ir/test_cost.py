"""Costs are local, free where they should be, and follow sizes."""

import random
from pathlib import Path

import pytest

from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.program_text import read_program
from hectorite.ir.cost import CostModel
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.devices import A100, CPU, H200
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Apply, Read
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Shape, concat, form
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.specialize_sizes import specialize

EXAMPLES = Path(__file__).parents[2] / "examples"
SIZES = {"node": 5000, "edge": 60000, "etype": 40, "ntype": 4, "row": 5000, "col": 5000}
GIVEN = {"I": 64, "O": 64, "J": 48}
LAYERS = ("rgat", "rgcn", "hgt", "gat", "gcn", "sage_mean", "hypergraph")


def lifted(name: str) -> Dataflow:
    text = read_program(str(EXAMPLES / f"{name}.hec"))
    module = text.module.clone()
    specialize(module, GIVEN)
    func = next(op for op in module.ops if isinstance(op, FuncOp))
    return lift(func, schema_of(module))


def model(device=CPU, **sizes: int) -> CostModel:
    return CostModel(device, Extents(sizes=SIZES | sizes))


def index(*names: str) -> tuple[IndexExpr, ...]:
    return tuple(map(IndexExpr.of, names))


def matrix(m: int, n: int) -> Shape:
    return Shape((m, n), "f32")


def product(flow: Dataflow, a: int, b: int) -> int:
    """The matrix product of two nodes."""
    (m, k), (_, n) = flow.nodes[a].shape.dims, flow.nodes[b].shape.dims
    body = Apply("mul", (Read(0, index("m", "k")), Read(1, index("k", "n"))))
    dims = {"m": m, "k": k, "n": n}
    return flow.add(form("add", index("m", "n"), dims, matrix(m, n), body)[0], (a, b))


def apply(flow: Dataflow, function: str, *operands: int) -> int:
    """A function of whole matrices."""
    m, n = flow.nodes[operands[0]].shape.dims
    body = Apply(function, tuple(Read(i, index("m", "n")) for i in range(len(operands))))
    made, slots, _ = form("assign", index("m", "n"), {"m": m, "n": n}, matrix(m, n), body)
    return flow.add(made, [operands[slot] for slot in slots])


def transposed(flow: Dataflow, a: int) -> int:
    m, n = flow.nodes[a].shape.dims
    made = form("assign", index("n", "m"), {"m": m, "n": n}, matrix(n, m), Read(0, index("m", "n")))
    return flow.add(made[0], (a,))


def random_change(flow: Dataflow, draw: random.Random) -> None:
    """Put a function of a node, or another node of its shape, in its place."""
    statements = [n for n, node in flow.nodes.items() if node.form is not None]
    old = draw.choice(statements)
    same = [
        n
        for n, node in flow.nodes.items()
        if n != old and node.shape == flow.nodes[old].shape and not flow.needs(n, old)
    ]
    if same and draw.random() < 0.6:
        flow.replace(old, draw.choice(same))
        return
    shape = flow.nodes[old].shape
    names = [f"v{i}" for i in range(len(shape.dims))]
    dims = dict(zip(names, shape.dims, strict=True))
    body = Read(0, index(*names))  # a view
    if draw.random() < 0.6:
        body = Apply("mul", (body, body))
    made, _, _ = form("assign", index(*names), dims, shape, body)
    new = flow.add(made, [draw.choice(same) if same else old])
    if not flow.needs(new, old):
        flow.replace(old, new)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("device", [CPU, H200], ids=["cpu", "h200"])
def test_differences_are_local(name, device):
    """What changes is priced again by the neighbours of what was touched."""
    draw = random.Random(7)
    flow, costs = lifted(name), model(device)
    known = {number: costs.node(flow, number) for number in flow.nodes}
    for _ in range(40):
        before, mark = dict(known), flow.mark()
        flow.listen()
        random_change(flow, draw)
        for touched in list(flow.touched):
            near = costs.neighbours(flow, touched) if touched in flow.nodes else ()
            for number in (touched, *near):
                known.pop(number, None)
                if number in flow.nodes:
                    known[number] = costs.node(flow, number)
        fresh = model(device)
        assert known == {number: fresh.node(flow, number) for number in flow.nodes}
        assert sum(known.values()) == pytest.approx(fresh.total(flow), rel=1e-12)
        if len(list(flow.statements())) < 3 or draw.random() < 0.5:
            flow.take_back(mark)
            known = before
        else:
            flow.keep(mark)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("device", [CPU, H200, A100], ids=["cpu", "h200", "a100"])
def test_costs_grow_with_sizes(name, device):
    flow = lifted(name)
    totals = [
        model(device, node=1000 * scale, edge=10000 * scale).total(flow) for scale in (1, 2, 4, 8)
    ]
    assert totals == sorted(totals)
    assert totals[0] > 0


def test_cost_does_not_depend_on_names():
    one, other = Dataflow(), Dataflow()
    a, b = one.input("a", matrix(64, 32)), one.input("b", matrix(32, 16))
    d, c = other.input("x", matrix(32, 16)), other.input("y", matrix(64, 32))
    one.give([apply(one, "exp", product(one, a, b))])
    other.give([apply(other, "exp", product(other, c, d))])
    assert model().total(one) == model().total(other)


def test_what_is_fixed_is_free():
    flow = Dataflow()
    x = flow.input("x", matrix(8, 64))
    v, w = (flow.input(name, matrix(64, 64), fixed=True) for name in "vw")
    folded = product(flow, v, w)
    flow.give([product(flow, x, folded)])
    costs = model()
    assert costs.node(flow, folded) == 0
    assert costs.node(flow, x) == 0
    assert costs.folded_bytes(flow) == 64 * 64 * 4


def test_views_are_free_but_for_results():
    flow = Dataflow()
    x, w = flow.input("x", matrix(8, 64)), flow.input("w", matrix(32, 64))
    turned = transposed(flow, w)
    y = product(flow, x, turned)
    flow.give([y])
    costs = model()
    assert costs.node(flow, turned) == 0
    assert turned not in flow.results
    assert costs.node(flow, y) > 0
    flow.give([y, turned])
    assert costs.node(flow, turned) > 0


def test_a_chain_is_one_kernel():
    """Only the first statement starts a kernel, and only ends of the chain move bytes."""
    flow = Dataflow()
    x = flow.input("x", matrix(512, 512))
    first = apply(flow, "relu", x)
    second = apply(flow, "neg", first)
    third = apply(flow, "abs", second)
    flow.give([third])
    works = [model().explain(flow, number).work for number in (first, second, third)]
    assert [work.launches for work in works] == [1, 0, 0]
    assert [work.bytes for work in works] == [512 * 512 * 4, 0, 512 * 512 * 4]
    assert model().total(flow) < 1.2 * model().node(flow, first) + model().node(flow, third)


def test_a_product_and_what_follows_share_a_kernel_on_a_cpu_only():
    flow = Dataflow()
    x, w = flow.input("x", matrix(512, 64)), flow.input("w", matrix(64, 64))
    y = apply(flow, "relu", product(flow, x, w))
    flow.give([y])
    assert model(CPU).explain(flow, y).work.launches == 0
    assert model(H200).explain(flow, y).work.launches == 1


def test_a_product_costs_its_operations():
    flow = Dataflow()
    x, w = flow.input("x", matrix(512, 128)), flow.input("w", matrix(128, 64))
    y = product(flow, x, w)
    flow.give([y])
    found = model().explain(flow, y)
    assert found.work.flops == 2 * 512 * 128 * 64
    assert found.time.bound == "arithmetic"
    assert found.work.written == 512 * 64 * 4


def test_putting_together_copies():
    flow = Dataflow()
    x, y = flow.input("x", matrix(512, 64)), flow.input("y", matrix(512, 64))
    both = flow.add(concat([matrix(512, 64), matrix(512, 64)], 1), (x, y))
    flow.give([both])
    assert model().explain(flow, both).work.bytes == 2 * 512 * 128 * 4


def test_elements_of_a_set_join_the_visit_of_their_reader():
    """The scores of edges are computed where the softmax over them is taken."""
    flow, costs = lifted("gat"), model()
    launches = [costs.explain(flow, number).work.launches for number, _, _ in flow.statements()]
    assert sum(launches) == 2


def test_gathering_costs_more_where_caches_end():
    flow = lifted("gcn")
    last = flow.results[0]
    small, large = (model(node=n, edge=10**6).explain(flow, last) for n in (1000, 10**6))
    assert large.time.gather > 1.5 * small.time.gather
