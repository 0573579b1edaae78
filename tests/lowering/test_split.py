"""`split-sum`, `split-contraction`, `hoist-factors` and `inline-elementwise`."""

import pytest

from hectorite.lowering.hoist_factors import HoistFactors
from hectorite.lowering.inline_elementwise import InlineElementwise
from hectorite.lowering.split_contraction import SplitContraction
from hectorite.lowering.split_sum import SplitSum

RGCN = "h: f32[node, 2], W: f32[etype, 2, 3], norm: f32[edge]"
GAT = "z: f32[node, 3], al: f32[3], ar: f32[3]"


def unchanged(module, rewrite):
    before = str(module)
    rewrite.apply(None, module)
    return str(module) == before


def test_contraction_example(program, as_documented):
    line = """
        y[e.dst, o] += h[e.src, i] * W[e.type, i, o] * norm[e] | e: edge, o: 3, i: 2 | f32[node, 3]
    """
    as_documented(program(RGCN, line, "y"), SplitContraction())


def test_signs_quotients_and_starts(program, rewritten):
    lines = """
        y[n, o] = h[n, 0] | n: node, o: 3 | f32[node, 3]
        y[e.dst, o] += norm[e] * -h[e.src, i] / exp(W[e.type, i, o]) / 3.0 | VARS | f32[node, 3]
    """
    lines = lines.replace("VARS", "e: edge, o: 3, i: 2")
    assert rewritten(program(RGCN, lines, "y_next"), SplitContraction())[1:] == [
        "y_next_part[e, o] += h[e.src, i] / exp(W[e.type, i, o])",
        "y_next[e.dst, o] += -(y_next_part[e, o] * norm[e] / 3.0) from y",
    ]


def test_a_contraction_that_the_element_scales_only(program, rewritten):
    line = "y[e.dst, o] += h[e.src, i] * v[i, o] | e: edge, o: 3, i: 2 | f16[node, 3]"
    module = program("h: f16[node, 2], v: f16[2, 3]", line, "y")
    lines = rewritten(module, SplitContraction(), 1e-3)
    assert lines == [
        "y_part[e, o] += f32(h[e.src, i]) * f32(v[i, o])",
        "y[e.dst, o] += y_part[e, o]",
    ]


@pytest.mark.parametrize(
    "line",
    [
        # plain contractions, with and without a factor of the result's own element
        "y[n, o] += h[n, i] * W[0, i, o] | n: node, o: 3, i: 2 | f32[node, 3]",
        "y[e, o] += h[e.src, i] * W[e.type, i, o] * norm[e] | e: edge, o: 3, i: 2 | f32[edge, 3]",
        # only one factor has the dense variable
        "y[e.dst] += h[e.src, i] * norm[e] | e: edge, i: 2 | f32[node]",
        # every element has a contraction of its own
        "y[n.dst, o] += x[n, i] * W[n.type, i, o] | n: edge, o: 3, i: 2 | f32[node, 3]",
        "y[e.dst] += h[e.src, i] * h[e.dst, i] * W[e.type, 0, i] | e: edge, i: 2 | f32[node]",
        # a variable that counts
        "y[e.dst, o] += h[e.src, i] * W[e.type, i, o] | e: edge, o: 3, i: 2, j: 2 | f32[node, 3]",
        # another kind of reduction
        "y[e.dst, o] max= h[e.src, i] * W[e.type, i, o] | e: edge, o: 3, i: 2 | f32[node, 3]",
    ],
)
def test_contractions_that_stay(program, line):
    assert unchanged(program(RGCN + ", x: f32[edge, 2]", line, "y"), SplitContraction())


def test_reassociation_is_allowed_for_integers_only(program):
    line = "y[e.dst, o] += h[e.src, i] * v[i, o] | e: edge, o: 3, i: 2 | {}[node, 3]"
    for element, stays in (("f32", True), ("i8", False), ("i64", False)):
        module = program(f"h: {element}[node, 2], v: {element}[2, 3]", line.format(element), "y")
        assert unchanged(module, SplitContraction(reassociate=False)) == stays


def test_integers_wrap_alike(program, rewritten):
    line = "y[e.dst, o] += h[e.src, i] * v[i, o] * 1000003 | e: edge, o: 3, i: 2 | i32[node, 3]"
    assert (
        len(rewritten(program("h: i32[node, 2], v: i32[2, 3]", line, "y"), SplitContraction())) == 2
    )


def test_sum_example(program, as_documented):
    line = "s[e] += z[e.src, o] * al[o] + z[e.dst, o] * ar[o] | e: edge, o: 3 | f32[edge]"
    as_documented(program(GAT, line, "s"), SplitSum())


def test_parts_that_are_alike_stay_together(program, rewritten):
    lines = """
        s[e] = al[0] | e: edge | f32[edge]
        s[e] += z[e.src,o] - (z[e.dst,o] - ar[o] - z[e.src,o] * al[o]) | e: edge, o: 3 | f32[edge]
    """
    assert rewritten(program(GAT, lines, "s_next"), SplitSum())[1:] == [
        "s_next_part1[e] += z[e.src, o] + z[e.src, o] * al[o]",
        "s_next_part2[e] += -z[e.dst, o]",
        "s_next_part3[e] += ar[o]",
        "s_next[e] = s[e] + s_next_part1[e] + s_next_part2[e] + s_next_part3[e]",
    ]


def test_a_part_without_the_reduced_variable_still_counts(program, rewritten):
    line = "s[e] += z[e.src, o] + z[e.dst, 0] | e: edge, o: 3 | f32[edge]"
    rewritten(program(GAT, line, "s"), SplitSum())


@pytest.mark.parametrize(
    "line",
    [
        "s[n] += z[n, o] * al[o] + z[n, o] * ar[o] | n: node, o: 3 | f32[node]",
        "s[e] = z[e.src, 0] + z[e.dst, 0] | e: edge | f32[edge]",
        "s[e.src] += z[e.src, o] + z[e.dst, o] | e: edge, o: 3 | f32[node]",
        "s[e] max= z[e.src, o] + z[e.dst, o] | e: edge, o: 3 | f32[edge]",
        "s[e] += z[e.src, o] * z[e.dst, o] | e: edge, o: 3 | f32[edge]",
    ],
)
def test_sums_that_stay(program, line):
    assert unchanged(program(GAT, line, "s"), SplitSum())


def test_sums_of_integers(program, rewritten):
    line = "s[e] += z[e.src, o] * 3 + z[e.dst, o] | e: edge, o: 3 | i8[edge]"
    module = program("z: i8[node, 3]", line, "s")
    assert len(rewritten(module, SplitSum(reassociate=False))) == 3


def test_inline_example(program, as_documented):
    lines = """
        s[e] = a[e.src] + b[e.dst] | e: edge | f32[edge]
        l[q] = leaky_relu(s[q], 0.2) | q: edge | f32[edge]
    """
    as_documented(program("a: f32[node], b: f32[node]", lines, "l"), InlineElementwise())


def test_inline_keeps_the_rounding(program, rewritten):
    lines = """
        t[i, j] = x[j, i] * 3.0 | i: 4, j: 2 | f16[4, 2]
        y[b, a] = t[a, b] * t[a, b] | a: 4, b: 2 | f32[2, 4]
    """
    module = program("x: f32[2, 4]", lines, "y")
    assert rewritten(module, InlineElementwise(), 1e-12) == [
        "y[b, a] = f32(f16(x[b, a] * 3.0)) * f32(f16(x[b, a] * 3.0))"
    ]


@pytest.mark.parametrize(
    "reader",
    [
        "y[e, o] = s[e] * 2.0 | e: edge, o: 3 | f32[edge, 3]",
        "y[e.dst, o] += s[e] | e: edge, o: 3 | f32[node, 3]",
        "y[p] = s[p.e] | p: link | f32[link]",
        "y[n] = s[n + 1 - 1] * s[n] | n: edge | f32[edge]\nz[n] = s[n] | n: edge | f32[edge]",
    ],
)
def test_what_is_read_several_times_stays(program, reader):
    lines = f"s[e] = a[e.src] + b[e.dst] | e: edge | f32[edge]\n{reader}"
    results = " ".join(name for name in "yz" if f"{name}[" in reader)
    module = program("a: f32[node], b: f32[node]", lines, results)
    assert unchanged(module, InlineElementwise())


SCORE = "k: f32[node, 4], q: f32[node, 4], mu: f32[etype]"


def test_hoist_example(program, as_documented):
    line = "s[e] += k[e.src, f] * q[e.dst, f] * mu[e.type] | e: edge, f: 4 | f32[edge]"
    as_documented(program(SCORE, line, "s"), HoistFactors())


def test_hoisted_divisors(program, rewritten):
    line = "s[e] += 2.0 * k[e.src, f] / exp(mu[e.type]) | e: edge, f: 4 | f32[edge]"
    assert rewritten(program(SCORE, line, "s"), HoistFactors()) == [
        "s_part[e] += k[e.src, f]",
        "s[e] = s_part[e] * 2.0 / exp(mu[e.type])",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "s[e] += k[e.src, f] * q[e.dst, f] | e: edge, f: 4 | f32[edge]",
        "s[e] += mu[e.type] / k[e.src, f] | e: edge, f: 4 | f32[edge]",
        "s[e] += mu[e.type] | e: edge, f: 4 | f32[edge]",
        "s[e] max= k[e.src, f] * mu[e.type] | e: edge, f: 4 | f32[edge]",
        "s[e.dst] += k[e.src, f] * mu[e.type] | e: edge, f: 4 | f32[node]",
    ],
)
def test_factors_that_stay(program, line):
    assert unchanged(program(SCORE, line, "s"), HoistFactors())
