"""`optimise-graph`: whole programs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectorite.backends.reference.error_bound import difference, run_with_bounds
from hectorite.backends.reference.interpreter import run_reference
from hectorite.lowering.graph.optimise_graph import OptimiseGraph

RGAT = """
    zs[e, o] += h[e.src, i] * W[e.type, i, o] | e: edge, o: M, i: N | f32[edge, M]
    zd[e, o] += h[e.dst, i] * W[e.type, i, o] | e: edge, o: M, i: N | f32[edge, M]
    s[e] += zs[e, o] * al[e.type, o] + zd[e, o] * ar[e.type, o] | e: edge, o: M | f32[edge]
    l[e] = leaky_relu(s[e], 0.2) | e: edge | f32[edge]
    a = softmax l[e] by [e.dst] | e: edge | f32[edge]
    y[e.dst, o] += a[e] * zs[e, o] | e: edge, o: M | f32[node, M]
"""
RGAT_PARAMETERS = "h: f32[node, N], W: f32[etype, N, M], al: f32[etype, M], ar: f32[etype, M]"


def test_rgat(program, rewritten):
    # The kernel of the softmax goes through rows of h by dst, so scores of dst are computed there.
    assert rewritten(program(RGAT_PARAMETERS, RGAT, "y"), OptimiseGraph()) == [
        "zs_type_src[u, o] += h[u.src, i] * W[u.type, i, o]",
        "s_part1_type_src[u] += zs_type_src[u, o] * al[u.type, o]",
        "s_part2_type_dst_W_ar_type[u2, i] += W[u2, i, o] * ar[u2, o]",
        "s_part2_type_dst_edge[e] += s_part2_type_dst_W_ar_type[e.type, i] * h[e.dst, i]",
        "l[e] = leaky_relu(s_part1_type_src[e.type_src] + s_part2_type_dst_edge[e], 0.2)",
        "a_max[e.dst] max= l[e]",
        "a_exp[e] = exp(l[e] - a_max[e.dst])",
        "a_sum[e.dst] += a_exp[e]",
        "a[e] = a_exp[e] / a_sum[e.dst]",
        "y[e.dst, o] += a[e] * zs_type_src[e.type_src, o]",
    ]


def test_rgat_as_written_without_reassociation(program, rewritten):
    lines = rewritten(program(RGAT_PARAMETERS, RGAT, "y"), OptimiseGraph(reassociate=False))
    assert lines[2] == (
        "s[e] += zs_type_src[e.type_src, o] * al[e.type, o]"
        " + zd_type_dst[e.type_dst, o] * ar[e.type, o]"
    )


def test_rgat_where_pairs_are_no_fewer_than_edges(program, rewritten):
    known = ("edge=100", "edge(src,type)=99", "edge(dst,type)=40")
    lines = rewritten(program(RGAT_PARAMETERS, RGAT, "y"), OptimiseGraph(cardinalities=known))
    assert lines[:2] == [
        "zs[e, o] += h[e.src, i] * W[e.type, i, o]",
        "zd_type_dst[u, o] += h[u.dst, i] * W[u.type, i, o]",
    ]


def test_the_cheaper_of_projection_and_aggregation_comes_first(program, rewritten):
    line = "y[e.dst, o] += x[e.src, i] * W[i, o] * w[e] | e: edge, o: M, i: N | f32[node, M]"
    module = program("x: f32[node, N], W: f32[N, M], w: f32[edge]", line, "y")
    narrow = ("N=64", "M=8", "edge=8000", "node=1000")
    assert rewritten(module, OptimiseGraph(cardinalities=narrow)) == [
        "y_x_W_src[u, o] += x[u, i] * W[i, o]",
        "y[e.dst, o] += y_x_W_src[e.src, o] * w[e]",
    ]
    assert rewritten(module, OptimiseGraph()) == [
        "y_x_w[e.dst, i] += x[e.src, i] * w[e]",
        "y[u, o] += y_x_w[u, i] * W[i, o]",
    ]


ACCESSES = (
    "x[e.src, i]",
    "x[e.dst, i]",
    "v[e.type, i]",
    "w[e]",
    "u[i]",
    "x[e.src, 0]",
    "p[2*i - e.type]",
    "p[e.src + i]",
)
PARAMETERS = "x: {0}[node, N], v: {0}[etype, N], w: {0}[edge], u: {0}[N], p: {0}[4] pad 1.5"
FACTOR = st.sampled_from(ACCESSES)
PRODUCT = st.lists(FACTOR, min_size=1, max_size=3).map(" * ".join)
TERM = st.one_of(PRODUCT, PRODUCT.map("-({})".format), PRODUCT.map("abs({})".format))
SUM = st.lists(TERM, min_size=1, max_size=3).map(" + ".join)
LEFT = st.sampled_from(("t[e]", "t[e, i]", "t[e.dst]", "t[e.dst, i]", "t[i, e]", "t[e.type]"))
DIMS = {"e": "edge", "i": "N", "e.dst": "node", "e.type": "etype"}


def parameters(element):
    text = PARAMETERS.format(element)
    return text if element.startswith("f") else text.replace("1.5", "2")


@st.composite
def programs(draw, element):
    """Several statements, each on what those before it made."""
    lines = list[str]()
    accesses = list(ACCESSES)
    for number in range(draw(st.integers(1, 4))):
        left = draw(LEFT).replace("t", f"t{number}", 1)
        keys = left.split("[")[1].rstrip("]").split(", ")
        kind = draw(st.sampled_from(("+=", "+=", "max=")))
        body = draw(SUM)
        if lines and draw(st.booleans()):
            body += " + " + draw(st.sampled_from(accesses[len(ACCESSES) :]))
        dims = ", ".join(DIMS[key] for key in keys)
        lines.append(f"{left} {kind} {body} | e: edge, i: N | {element}[{dims}]")
        accesses.append(left)
    return "\n".join(lines), [f"t{number}" for number in range(len(lines))]


@pytest.mark.parametrize("element", ["f64", "i32"])
@settings(max_examples=25)
@given(data=st.data())
def test_random_programs_keep_their_meaning(element, data, program, rewritten):
    lines, names = data.draw(programs(element))
    results = data.draw(st.sampled_from((names[-1], " ".join(names))))
    rewritten(program(parameters(element), lines, results), OptimiseGraph(), 1e-8)


@pytest.mark.parametrize("element", ["f32", "f16"])
@settings(max_examples=25)
@given(data=st.data())
def test_rounded_results_stay_within_their_bounds(element, data, program, drawn):
    """The rewritten program in its own types, against the bounds of the program as written."""
    lines, names = data.draw(programs(element))
    module = program(parameters(element), lines, " ".join(names))
    after = module.clone()
    OptimiseGraph().apply(None, after)
    arguments = drawn(module, "ordinary")
    expected = run_with_bounds(module, "f", *arguments)
    results = run_reference(after, "f", *arguments, own_types=True)
    for one, result in zip(expected, results, strict=True):
        found = difference(one, result)
        assert found.ok, found
        assert np.isfinite(one.bound).any() or element == "f16"
