"""Sets bound to data: what is accepted, what is refused and how, and the orders built from it."""

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hectorite.backends.bound.binding import Binding
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.schema import Condition, Derivation, Schema, SetDecl

GRAPH = Schema(
    {
        "etype": SetDecl("etype"),
        "ntype": SetDecl("ntype"),
        "node": SetDecl("node", (("type", "ntype"),)),
        "edge": SetDecl("edge", (("src", "node"), ("dst", "node"), ("type", "etype"))),
    },
    {"D": 64, "K": None},
)


def graph(nodes: int = 5, edges: int = 40, seed: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(seed)
    return {
        "etype": 3,
        "ntype": 2,
        "node": {"type": draw.integers(0, 2, nodes, dtype=np.int32)},
        "edge": {
            "src": draw.integers(0, nodes, edges, dtype=np.int32),
            "dst": draw.integers(0, nodes, edges, dtype=np.int32),
            "type": draw.integers(0, 3, edges, dtype=np.int32),
        },
    }


def path(*fields: str) -> IndexExpr:
    return IndexExpr.of("e", *fields)


def faults(schema: Schema, sets: dict[str, Any]) -> list[str]:
    with pytest.raises(HectoriteError) as caught:
        Binding(schema, sets)
    return [str(diagnostic) for diagnostic in caught.value.diagnostics]


def test_sizes_and_maps():
    data = graph()
    binding = Binding(GRAPH, data)
    assert [binding.size(s) for s in ("node", "edge", "etype", "D")] == [5, 40, 3, 64]
    src = binding.map("edge", "src")
    assert np.shares_memory(src, data["edge"]["src"])
    assert not src.flags.writeable and data["edge"]["src"].flags.writeable
    types = data["node"]["type"][data["edge"]["src"]]
    assert (binding.path("edge", ("src", "type")) == types).all()
    with pytest.raises(KeyError):
        binding.size("K")


@pytest.mark.parametrize(
    "convert",
    [
        lambda a: a.astype(np.int64),
        lambda a: a.astype(">i4"),
        lambda a: np.repeat(a, 2)[::2],
        lambda a: a.tolist(),
        lambda a: memoryview(a),
        lambda a: array("i", a.tolist()),
        lambda a: array("q", a.tolist()),
    ],
)
def test_arrays_of_many_kinds(convert: Callable[[Any], Any]):
    data = graph()
    data["edge"] = {name: convert(values) for name, values in data["edge"].items()}
    values = Binding(GRAPH, data).map("edge", "dst")
    assert values.dtype == np.int32 and values.flags.c_contiguous
    assert (values == graph()["edge"]["dst"]).all()


def test_dlpack_without_copy():
    class Foreign:
        """An array that speaks DLPack and nothing else."""

        def __init__(self, values: np.ndarray[Any, Any]):
            self.values = values

        def __dlpack__(self, **options: Any) -> Any:
            return self.values.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.values.__dlpack_device__()

    data = graph()
    src = data["edge"]["src"]
    data["edge"]["src"] = Foreign(src)
    assert np.shares_memory(Binding(GRAPH, data).map("edge", "src"), src)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("node"), "the set `node` is missing"),
        (lambda d: d.pop("etype"), "hint: etype=3 would hold every value of the maps into it"),
        (lambda d: d.update(edges=d["edge"]), "did you mean `edge`?"),
        (lambda d: d["edge"].pop("dst"), "the map `edge.dst` is missing"),
        (lambda d: d["edge"].update(source=d["edge"]["src"]), "has no map `source`"),
        (lambda d: d["edge"].update(src=d["edge"]["src"][1:]), "`edge.dst` has 40 elements, and"),
        (lambda d: d["edge"].update(src=d["edge"]["src"] * 1.0), "is an array of float64"),
        (lambda d: d["edge"].update(src=d["edge"]["src"].astype("i1")), "go from -128 to 127"),
        (lambda d: d["edge"].update(src=d["edge"]["src"][:, None]), "shape (40, 1)"),
        (lambda d: d["edge"].update(src=None), "`edge.src` is a NoneType, not an array"),
        (lambda d: d["edge"].update(src=[[1], [1, 2]]), "`edge.src` cannot be read as an array"),
        (lambda d: d["edge"].update(src=[object()] * 40), "not an array of numbers"),
        (lambda d: d["edge"]["dst"].__setitem__(7, 5), "edge.dst[7] is 5, which is not an element"),
        (lambda d: d["edge"]["dst"].__setitem__(7, -1), "edge.dst[7] is -1"),
        (lambda d: d["edge"].update(src=np.full(40, 1 << 40)), "does not fit int32"),
        (lambda d: d["edge"].update(size=39), "`size` says 39"),
        (lambda d: d.update(etype=-1), "is -1, negative"),
        (lambda d: d.update(etype=1 << 31), "too large"),
        (lambda d: d.update(etype=2.0), "is 2.0"),
        (lambda d: d.update(etype=True), "is True"),
        (lambda d: d.update(etype="3"), "is a str"),
        (lambda d: d.update(etype={"x": [1]}), "has no map `x`"),
        (lambda d: d.update(edge=40), "the set `edge` has maps, and was given 40"),
    ],
)
def test_faults_are_named(change: Callable[[dict[str, Any]], Any], message: str):
    data = graph()
    change(data)
    assert any(message in told for told in faults(GRAPH, data))


def test_all_faults_are_told_at_once():
    data = graph()
    data["edge"]["src"][3:5] = 9
    data["edge"]["type"] = data["edge"]["type"].astype(np.float32)
    del data["ntype"]
    told = faults(GRAPH, data)
    assert len(told) == 3
    assert any("edge.src[3] is 9" in t and "(1 more like it)" in t for t in told)


def test_a_map_into_an_empty_set():
    schema = Schema({"a": SetDecl("a"), "b": SetDecl("b", (("x", "a"),))})
    assert Binding(schema, {"a": 0, "b": {"x": []}}).size("b") == 0
    assert "`a` is empty" in faults(schema, {"a": 0, "b": {"x": [0]}})[0]


def test_orders():
    data = graph(nodes=7, edges=60)
    edge = data["edge"]
    binding = Binding(GRAPH, data)
    by_dst = np.argsort(edge["dst"], kind="stable")
    assert (binding.order("edge", [path("dst")]) == by_dst).all()
    assert binding.order("edge", [path("dst")]) is binding.order("edge", [path("dst")])
    other = binding.order("edge", [IndexExpr.of("p", "dst")])
    assert other is binding.order("edge", [path("dst")])
    both = np.lexsort([edge["src"], edge["type"]])
    assert (binding.order("edge", [path("type"), path("src")]) == both).all()
    through = data["node"]["type"][edge["src"]]
    assert (
        binding.order("edge", [path("src", "type")]) == np.argsort(through, kind="stable")
    ).all()
    assert binding.order("edge", [path()]) is None
    along = binding.along("edge", [path("dst")], path("src"))
    assert along.dtype == np.int32 and (along == edge["src"][by_dst]).all()
    pointers = binding.segments("edge", [path("dst")])
    assert (np.diff(pointers) == np.bincount(edge["dst"], minlength=7)).all()


def test_order_by_block():
    data = graph(nodes=9, edges=50)
    dst = data["edge"]["dst"]
    binding = Binding(GRAPH, data)
    block = IndexExpr((Term(1, Path("e", ("dst",))),), 0, ("floordiv", 4))
    assert (binding.order("edge", [block]) == np.argsort(dst // 4, kind="stable")).all()
    assert len(binding.segments("edge", [block])) == 4
    cuts = binding.cuts("edge", [path("dst")], 3)
    assert cuts[0] == 0 and cuts[-1] == 9 and (np.diff(cuts) >= 0).all()


def test_runs_of_a_block():
    data = graph(nodes=9, edges=80)
    binding = Binding(GRAPH, data)
    keys = [path("type"), path("src")]
    runs = binding.runs("edge", keys, 3)
    order = binding.order("edge", keys)
    covered = 0
    for block in range(3):
        for run in range(runs.block[block], runs.block[block + 1]):
            elements = order[runs.start[run] : runs.start[run + 1]]
            assert 1 <= len(elements) <= 3
            assert set(data["edge"]["type"][elements]) == {block} == {runs.keys[0][run]}
            assert set(data["edge"]["src"][elements]) == {runs.keys[1][run]}
            covered += len(elements)
    assert covered == 80


def pairs(position: str | None = None, name: str = "pair") -> SetDecl:
    derivation = Derivation((path("src"), path("type")), (("e", "edge"),), (), position)
    return SetDecl(name, (("src", "node"), ("type", "etype")), derivation)


def test_derived_sets_are_built_and_shared():
    data = graph()
    binding = Binding(GRAPH, data)
    binding.extend(Schema({**GRAPH.sets, "pair": pairs("pair")}))
    wanted, inverse = np.unique(
        np.stack([data["edge"]["src"], data["edge"]["type"]]), axis=1, return_inverse=True
    )
    assert binding.size("pair") == wanted.shape[1]
    assert (binding.map("pair", "src") == wanted[0]).all()
    assert (binding.path("edge", ("pair",)) == inverse).all()
    assert (binding.path("edge", ("pair", "src")) == data["edge"]["src"]).all()
    with pytest.raises(ValueError, match="two different sets"):
        binding.extend(Schema({"pair": pairs()}))


def test_position_before_size():
    binding = Binding(GRAPH, graph())
    binding.extend(Schema({**GRAPH.sets, "pair": pairs("at")}))
    assert binding.map("edge", "at").max() + 1 == binding.size("pair")


def test_faults_of_derived_sets():
    schema = Schema({**GRAPH.sets, "pair": pairs()})
    assert "the set `pair` is derived" in faults(schema, {**graph(), "pair": 3})[0]
    beyond = Derivation((IndexExpr((Term(1, Path("e", ("src",))),), 1),), (("e", "edge"),))
    schema = Schema({**GRAPH.sets, "next": SetDecl("next", (("to", "node"),), beyond)})
    assert "is 5, which is not an element of `node`" in faults(schema, graph())[0]
    looped = Derivation((IndexExpr.of("x", "to"),), (("x", "next"),))
    schema = Schema({"next": SetDecl("next", (("to", "next"),), looped)})
    assert "derived from itself" in faults(schema, {})[0]


def test_derived_from_a_condition():
    same = Condition(IndexExpr.of("x", "dst"), "==", IndexExpr.of("y", "src"))
    two_steps = Derivation(
        (IndexExpr.of("x", "src"), IndexExpr.of("y", "dst")),
        (("x", "edge"), ("y", "edge")),
        (same,),
    )
    schema = Schema(
        {**GRAPH.sets, "walk": SetDecl("walk", (("a", "node"), ("b", "node")), two_steps)}
    )
    data = graph(nodes=12, edges=20)
    src, dst = data["edge"]["src"], data["edge"]["dst"]
    wanted = sorted({(src[x], dst[y]) for x in range(20) for y in range(20) if dst[x] == src[y]})
    binding = Binding(schema, data)
    found = zip(binding.map("walk", "a"), binding.map("walk", "b"), strict=True)
    assert list(found) == wanted


def test_layouts_by_name():
    data = graph(nodes=9, edges=80)
    edge = data["edge"]
    binding = Binding(GRAPH, data)
    keys = [path("dst"), path("type")]
    order = np.lexsort([edge["type"], edge["dst"]])
    runs = binding.runs("edge", keys, 4)
    through = data["node"]["type"][edge["src"]]
    wanted = {
        "map": through,
        "along": through[order],
        "order": order,
        "segments": binding.segments("edge", keys),
        "cuts": binding.cuts("edge", keys, 4),
        "runs": runs.start,
        "run_groups": runs.block,
        "run_key": through[order][runs.start[:-1]],
    }
    blocks = binding.blocks("edge", keys, 4)
    by_block = np.arange(80) if blocks.permutation is None else blocks.permutation
    wanted |= {
        "block_rows": blocks.bounds,
        "block_order": by_block,
        "block_along": through[by_block],
        "block_runs": blocks.start,
        "block_groups": blocks.block,
    }
    for what, values in wanted.items():
        found = binding.layout(what, "edge", keys, path("src", "type"), 4)
        assert found.dtype == np.int32 and (found == values).all(), what
        assert found is binding.layout(what, "edge", keys, path("src", "type"), 4)
        assert not found.flags.writeable
    assert (binding.layout("order", "edge", [path()]) == np.arange(80)).all()
    assert len(binding.layout("runs", "edge", [path("dst")])) == len(np.unique(edge["dst"])) + 1
    with pytest.raises(ValueError, match="no layout `orders`"):
        binding.layout("orders", "edge", keys)


def test_layouts_of_sums():
    binding = Binding(GRAPH, graph())
    twice = IndexExpr.make([Term(2, Path("e", ("src",))), Term(1, Path("e"))], -1)
    wanted = 2 * binding.map("edge", "src") + np.arange(40) - 1
    assert (binding.layout("map", "edge", (), twice) == wanted).all()
    huge = IndexExpr.make([Term(1 << 33, Path("e"))])
    with pytest.raises(HectoriteError, match="do not fit 32 bits"):
        binding.layout("map", "edge", (), huge)


def test_layouts_of_empty_sets():
    data = graph(edges=0)
    binding = Binding(GRAPH, data)
    for what in ("map", "along", "order", "run_key"):
        assert not binding.layout(what, "edge", [path("dst")], path("src"), 4).size
    assert binding.layout("runs", "edge", [path("dst")], None, 4).tolist() == [0]
    assert binding.layout("segments", "edge", [path("dst")]).tolist() == [0] * 6
    assert binding.layout("run_groups", "edge", [path("dst")], None, 4).tolist() == [0] * 6
