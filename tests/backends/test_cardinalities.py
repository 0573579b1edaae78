"""Numbers of elements of bound data: counted, rounded, written and read."""

import numpy as np
import pytest

import hectorite
from hectorite.backends.bound.binding import Binding
from hectorite.backends.bound.cardinalities import cardinalities, distinct, rounded, share_of
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.program_text import read_program
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema, SetDecl
from hectorite.lowering.graph.cardinalities import parse_cardinalities

SCHEMA = Schema(
    {
        "type": SetDecl("type"),
        "node": SetDecl("node"),
        "edge": SetDecl("edge", (("src", "node"), ("type", "type"))),
    }
)
PROGRAM = """set type
set node
set edge { src: node, dst: node, type: type }
def f(h: f32[node, I], W: f32[type, I, O]) -> f32[node, O] {
  y[e.dst, o] += h[e.src, i] * W[e.type, i, o]
  return y
}
"""


def bound(edges=1000, nodes=50, types=4, seed=0):
    rng = np.random.default_rng(seed)
    maps = {"src": rng.integers(0, nodes, edges), "type": rng.integers(0, types, edges)}
    maps = {name: values.astype(np.int32) for name, values in maps.items()}
    return Binding(SCHEMA, {"node": nodes, "type": types, "edge": maps}), maps


def test_distinct_tuples_are_counted():
    binding, maps = bound()
    pairs = set(zip(maps["src"].tolist(), maps["type"].tolist(), strict=True))
    assert distinct(binding, "edge", [("src",), ("type",)]) == len(pairs)
    assert distinct(binding, "edge", [("src",)]) == len(set(maps["src"].tolist()))


def test_large_spaces_are_sorted(monkeypatch):
    binding, _ = bound()
    before = distinct(binding, "edge", [("src",), ("type",)])
    monkeypatch.setattr("hectorite.backends.bound.cardinalities.LARGEST_TABLE", 8)
    assert distinct(binding, "edge", [("src",), ("type",)]) == before


def test_numbers_are_rounded_so_that_code_is_shared():
    assert rounded(1000) == rounded(1100) == 1024
    assert rounded(0) == 0 and rounded(1) == 1
    assert share_of(1000, 1000) == 1024
    assert share_of(500, 1000) == 512
    assert share_of(0, 0) == 0


def test_empty_data_has_numbers_too():
    binding, _ = bound(edges=0)
    found = cardinalities(binding, (("edge", (("src",), ("type",))),))
    assert "edge=0" in found and "edge(src,type)=0" in found


def test_texts_are_read_back():
    texts = ("edge(src,type)=185", "edge=1024", "edge^dst=40", "node=64")
    known = parse_cardinalities(texts)
    assert known.texts == tuple(sorted(texts))
    extents = known.extents(SCHEMA)
    assert extents.distinct("edge", [("type",), ("src",)]) == 185


@pytest.mark.parametrize("text", ["edge", "edge=", "edge(src=3", "edge()=3", "=3", "edge=-1"])
def test_other_texts_are_refused(text):
    with pytest.raises(HectoriteError, match="cardinality"):
        parse_cardinalities([text])


def test_a_program_says_what_it_needs_counted():
    facts = facts_of(read_program(PROGRAM), None)
    owners = {(owner, paths) for owner, paths in facts.counted["f"]}
    assert ("edge", (("src",), ("type",))) in owners
    assert ("edge", (("dst",), ("src",), ("type",))) in owners


def data(edges, nodes, types):
    rng = np.random.default_rng(1)
    maps = {n: rng.integers(0, nodes, edges).astype(np.int32) for n in ("src", "dst")}
    maps["type"] = rng.integers(0, types, edges).astype(np.int32)
    return {"node": nodes, "type": types, "edge": maps}


@pytest.mark.parametrize("search", [False, True])
def test_code_is_chosen_by_the_data_and_shared_by_data_alike(search):
    program = hectorite.compile(PROGRAM, sizes={"I": 4, "O": 4}, cache=False, search=search)
    rng = np.random.default_rng(0)
    made = set()
    for edges, nodes in ((2000, 20), (2010, 20), (40, 200), (0, 5)):
        sets = data(edges, nodes, 3)
        h = rng.normal(size=(nodes, 4)).astype(np.float32)
        weights = rng.normal(size=(3, 4, 4)).astype(np.float32)
        y = program.f(program.bind(**sets), h=h, W=weights)
        edge = sets["edge"]
        expected = np.zeros((nodes, 4))
        messages = np.einsum("ei,eio->eo", h[edge["src"]], weights[edge["type"]])
        np.add.at(expected, edge["dst"], messages)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        made.add(len(program.functions["f"]._built))
    assert max(made) == 3


def test_more_kinds_of_data_run_on_code_that_is_there():
    program = hectorite.compile(PROGRAM, sizes={"I": 2, "O": 2}, cache=False)
    weights = np.ones((3, 2, 2), np.float32)
    for edges in (10, 40, 160, 640, 2560, 10240):
        bound_data = program.bind(**data(edges, 30, 3))
        y = program.f(bound_data, h=np.ones((30, 2), np.float32), W=weights)
        assert y.sum() == pytest.approx(edges * 4)
    assert len({id(code) for code in program.functions["f"]._built.values()}) <= 4
