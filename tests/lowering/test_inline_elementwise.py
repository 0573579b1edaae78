"""`inline-elementwise`: what is read once goes into its reader."""

import pytest

from hectorite.lowering.graph.inline_elementwise import InlineElementwise


def unchanged(module, rewrite):
    before = str(module)
    rewrite.apply(None, module)
    return str(module) == before


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
