"""`factor-through-maps`."""

import pytest

from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.factor_through_maps import FactorThroughMaps

TYPED = "z[e, o] += h[e.src, i] * W[e.type, i, o] | e: edge, o: M, i: N | f32[edge, M]"
ARGUMENTS = "h: f32[node, N], W: f32[etype, N, M]"


def test_example(program, as_documented):
    lines = f"""
        {TYPED}
        y[e.dst, o] += z[e, o] | e: edge, o: M | f32[node, M]
    """
    as_documented(program(ARGUMENTS, lines, "y"), FactorThroughMaps())


def test_one_map_leads_to_its_set(program, rewritten):
    module = program(
        "h: f32[node, 2], w: f32[2]",
        "z[o, p] += h[p.e.src, i] * w[o] | p: link, o: 2, i: 2 | f32[2, link]",
        "z",
    )
    assert rewritten(module, FactorThroughMaps()) == [
        "z_e_src[o, u] += h[u, i] * w[o]",
        "z[o, p] = z_e_src[o, p.e.src]",
    ]


def test_paths_with_a_common_start(program, rewritten):
    module = program(
        "h: f32[edge, 2], w: f32[etype, 2]",
        "z[p] += h[p.e, i] * w[p.e.type, i] | p: link, i: 2 | f32[link]",
        "z",
    )
    assert rewritten(module, FactorThroughMaps()) == [
        "z_e[u] += h[u, i] * w[u.type, i]",
        "z[p] = z_e[p.e]",
    ]


def test_what_does_not_depend_on_an_element(program, rewritten):
    module = program(
        "w: f32[2, 3]",
        "z[n, o] += w[i, o] | n: node, o: 3, i: 2 | f32[node, 3] pad 0.0",
        "z",
    )
    assert rewritten(module, FactorThroughMaps()) == ["z_once[o] += w[i, o]", "z[n, o] = z_once[o]"]


def test_functions_that_cost(program, rewritten):
    module = program(
        "h: f32[node]",
        """
        z[e] = exp(h[e.src]) | e: edge | f32[edge]
        y[e] = h[e.src] + h[e.dst] | e: edge | f32[edge]
        """,
        "z y",
    )
    assert rewritten(module, FactorThroughMaps()) == [
        "z_src[u] = exp(h[u])",
        "z[e] = z_src[e.src]",
        "y[e] = h[e.src] + h[e.dst]",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "z[e, o] += h[e.src, i] * x[e] * v[o] | e: edge, o: 3, i: 2 | f32[edge, 3]",
        "z[e.dst, o] += h[e.src, i] * v[o] | e: edge, o: 3, i: 2 | f32[node, 3]",
        "z[e] += h[e.src, i] * h[e.dst, i] * w[e.type] | e: edge, i: 2 | f32[edge]",
        "z[e] += v[e.src + i] | e: edge, i: 2 | f32[edge]",
    ],
)
def test_what_stays(program, line):
    module = program("h: f32[node, 2], x: f32[edge], v: f32[node], w: f32[etype]", line, "z")
    before = str(module)
    FactorThroughMaps().apply(None, module)
    assert str(module) == before


def test_a_statement_that_goes_on_stays(program, rewritten):
    module = program(
        "h: f32[node, 2]",
        """
        z[e] += h[e.src, i] | e: edge, i: 2 | f32[edge]
        z[e] += h[e.dst, i] | e: edge, i: 2 | f32[edge]
        """,
        "z",
    )
    assert rewritten(module, FactorThroughMaps())[1:] == [
        "z[e] = z_src[e.src]",
        "z_next[e] += h[e.dst, i] from z",
    ]


@pytest.mark.parametrize(
    ("cardinalities", "moves"),
    [
        (("edge=100", "edge_type_src=90"), True),
        (("edge=100", "edge_type_src=91"), False),
        (("edge=100",), True),
    ],
)
def test_known_cardinalities(program, cardinalities, moves):
    module = program(ARGUMENTS, TYPED, "z")
    before = str(module)
    FactorThroughMaps(cardinalities).apply(None, module)
    assert (str(module) != before) == moves


def test_known_cardinality_of_one_map(program):
    for nodes, moves in ((100, True), (101, False)):
        module = program("h: f32[node, 2]", "z[e] += h[e.src, i] | e: edge, i: 2 | f32[edge]", "z")
        before = str(module)
        FactorThroughMaps(("edge=100", f"node={nodes}")).apply(None, module)
        assert (str(module) != before) == moves


def test_sets_are_shared_and_names_are_new(program, rewritten):
    sets = """
graph.set @node
graph.set @etype
graph.set @type_src
graph.set @edge {src: node, dst: node, type: etype, type_src: type_src}
graph.dim @edge_type_src
"""
    module = program(
        ARGUMENTS,
        TYPED + "\n" + TYPED.replace("z[", "x[").replace("*", "-"),
        "z x",
        sets=sets,
    )
    after = module.clone()
    FactorThroughMaps().apply(None, after)
    assert str(after).count("graph.derive") == 1
    assert (
        "graph.derive @edge_type_src_2 {type: etype, src: node} = "
        "distinct [e.type, e.src] for (e: edge) as type_src_2" in str(after)
    )


def test_size_variables_are_not_captured(program, rewritten):
    lines = TYPED.replace("N", "edge_type_src")
    module = program(ARGUMENTS.replace("N", "edge_type_src"), lines, "z")
    FactorThroughMaps().apply(None, module)
    assert "graph.derive @edge_type_src_2" in str(module)


def test_a_declared_set_is_used(program, rewritten):
    sets = """
graph.set @node
graph.set @etype
graph.set @edge {src: node, dst: node, type: etype}
graph.derive @pair {t: etype, s: node} = distinct [e.type, e.src] for (e: edge) as pair
"""
    module = program(ARGUMENTS, TYPED, "z", sets=sets)
    assert rewritten(module, FactorThroughMaps()) == [
        "z_pair[u, o] += h[u.s, i] * W[u.t, i, o]",
        "z[e, o] = z_pair[e.pair, o]",
    ]


def test_a_path_that_a_derived_set_determines(program, rewritten):
    lines = """
        a[u] = exp(h[u.src, 0]) | u: pair | f32[pair]
        z[e] += a[e.pair] * h[e.src, i] * w[e.type, i] | e: edge, i: 2 | f32[edge]
    """
    sets = """
graph.set @node
graph.set @etype
graph.set @edge {src: node, dst: node, type: etype}
graph.derive @pair {src: node, type: etype} = distinct [e.src, e.type] for (e: edge) as pair
"""
    module = program("h: f32[node, 2], w: f32[etype, 2]", lines, "z", sets=sets)
    assert rewritten(module, FactorThroughMaps())[2:] == [
        "z_pair[u] += a[u] * h[u.src, i] * w[u.type, i]",
        "z[e] = z_pair[e.pair]",
    ]


def test_options(program):
    module = program(ARGUMENTS, TYPED, "z")
    before = str(module)
    FactorThroughMaps(disable=True).apply(None, module)
    assert str(module) == before
    with pytest.raises(HectoriteError, match="is not a cardinality"):
        FactorThroughMaps(("edge",)).apply(None, module)


def test_the_largest_slices_come_first(program, rewritten):
    lines = TYPED.replace("N", "2").replace("M", "3")
    module = program("h: f32[node, 2], W: f32[etype, 2, 3]", lines, "z")
    assert rewritten(module, FactorThroughMaps())[1] == "z[e, o] = z_type_src[e.type_src, o]"
