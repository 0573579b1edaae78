"""`scatter-products`: products are multiplied where they are summed into other rows."""

import pytest

from hectorite.ir.devices import DEVICES
from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.graph.scatter_products import ScatterProducts
from hectorite.lowering.graph.search_rewrites import SearchRewrites
from hectorite.lowering.options import Options

TENSORS = "x: f32[node, 4], W: f32[etype, 4, 8], s: f32[edge]"
TYPED = """
    t[p, o] += x[p.src, i] * W[p.type, i, o] | p: edge, o: 8, i: 4 | f32[edge, 8]
    y[p.dst, o] += t[p, o] | p: edge, o: 8 | f32[node, 8]
"""
SCALED = TYPED.replace("t[p, o] |", "t[p, o] * s[p] |")


def test_example(program, as_documented):
    as_documented(program(TENSORS, TYPED, "y"), ScatterProducts(form="each"))


def test_heads(program, rewritten):
    lines = """
        t[e, k, o] += x[e.src, k, i] * W[e.type, k, i, o] | e: edge, k: 2, o: 8, i: 4 | HEADS
        y[e.dst, k, o] += t[e, k, o] * s[e, k] | e: edge, k: 2, o: 8 | f32[node, 2, 8]
    """.replace("HEADS", "f32[edge, 2, 8]")
    tensors = "x: f32[node, 2, 4], W: f32[etype, 2, 4, 8], s: f32[edge, 2]"
    module = program(tensors, lines, "y")
    assert rewritten(module, ScatterProducts(form="each")) == [
        "y[e.dst, k, o] += x[e.src, k, i] * W[e.type, k, i, o] * s[e, k]"
    ]


@pytest.mark.parametrize(
    ("known", "count"),
    [
        # A tensor of all rows is written and read back for nothing.
        ("edge=300000 node=100000 etype=27 edge(dst,type)=300000", 1),
        # Many elements share source and type.
        ("edge=600000 node=15000 etype=400 edge(src,type)=50000", 2),
    ],
)
def test_choice(program, lines_of, known: str, count: int):
    wide = TYPED.replace("8", "64").replace("i: 4", "i: 64")
    module = program("x: f32[node, 64], W: f32[etype, 64, 64]", wide, "y")
    options = Options(cardinalities=tuple(known.split()))
    SearchRewrites.of(options).apply(None, module)
    assert len(lines_of(module)) == count


@pytest.mark.parametrize(
    ("lines", "results"),
    [
        (TYPED, "y t"),
        (TYPED + "z[p] += t[p, o] | p: edge, o: 8 | f32[edge]", "y z"),
        (TYPED.replace("+= t[p, o]", "max= t[p, o]"), "y"),
        (TYPED.replace("+= t[p, o]", "+= exp(t[p, o])"), "y"),
        (TYPED.replace("f32[edge, 8]", "f16[edge, 8]"), "y"),
        (TYPED.replace("f32[node, 8]", "f16[node, 8]"), "y"),
    ],
)
def test_what_stays(program, lines: str, results: str):
    module = program(TENSORS, lines, results)
    before = str(module)
    ScatterProducts(form="each").apply(None, module)
    assert str(module) == before


def test_floats_stay_in_order(program, lines_of):
    known = ("edge=300000", "node=100000", "etype=27", "edge(src,type)=300000")
    for lines, count in ((TYPED, 1), (SCALED, 2)):
        wide = lines.replace("8", "64").replace("i: 4", "i: 64")
        tensors = "x: f32[node, 64], W: f32[etype, 64, 64], s: f32[edge]"
        module = program(tensors, wide, "y")
        options = Options(reassociate=False, cardinalities=known)
        (chosen,) = ScatterProducts.of(options)
        chosen.apply(None, module)
        assert len(lines_of(module)) == count


def test_options():
    assert not ScatterProducts.of(Options())  # the search decides
    assert ScatterProducts.of(Options(reassociate=False))
    (gpu,) = ScatterProducts.of(Options(device=DEVICES["h200"]))
    assert gpu.form == "split"
    assert not ScatterProducts.of(Options(search=False))


def test_unknown_form(program):
    with pytest.raises(HectoriteError, match="no form `all`"):
        ScatterProducts(form="all").apply(None, program(TENSORS, TYPED, "y"))
