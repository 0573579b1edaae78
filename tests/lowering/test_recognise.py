"""Named forms, and `annotate-forms`."""

import pytest

from hectorite.lowering.graph import annotate_forms
from hectorite.lowering.graph.annotate_forms import AnnotateForms
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax
from hectorite.lowering.graph.recognise import recognise_all

PARAMETERS = """h: f32[node, 4], x: f32[edge], s: f32[edge, 2], W: f32[etype, 4, 3], V: f32[4, 3],
    A: f32[2, 6, 4], B: f32[2, 4, 5]"""


def forms(module):
    return [str(form) for form in recognise_all(module).values()]


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (
            "y[n, o] += h[n, i] * V[i, o] | n: node, o: 3, i: 4 | f32[node, 3]",
            "contraction m=(n) n=(o) k=(i)",
        ),
        (
            "y[b, m, n] += A[b, m, k] * B[b, k, n] | b: 2, m: 6, n: 5, k: 4 | f32[2, 6, 5]",
            "contraction batch=(b) m=(m) n=(n) k=(k)",
        ),
        (
            "y[m, n] += A[b, m, k] * B[b, k, n] | b: 2, m: 6, n: 5, k: 4 | f32[6, 5]",
            "contraction m=(m) n=(n) k=(b, k)",
        ),
        (
            "y[e, o] += h[e.src, i] * W[e.type, i, o] | e: edge, o: 3, i: 4 | f32[edge, 3]",
            "typed-linear m=(e) n=(o) k=(i) by=(e.type)",
        ),
        (
            "y[e, o] += W[e.type, i, o] * h[e.src, i] | e: edge, o: 3, i: 4 | f32[edge, 3]",
            "typed-linear m=(e) n=(o) k=(i) by=(e.type)",
        ),
        (
            "y[e] += x[e] * h[e.src, k] * h[e.dst, k] | e: edge, k: 4 | f32[edge]",
            "sampled-product k=(k)",
        ),
        (
            "y[e.dst, i] += x[e] * h[e.src, i] | e: edge, i: 4 | f32[node, 4]",
            "sparse-product by=(e.dst)",
        ),
        (
            "y[e.dst, o] += h[e.src, i] * W[e.type, i, o] | e: edge, o: 3, i: 4 | f32[node, 3]",
            "segment-reduction by=(e.dst) k=(i)",
        ),
        ("y[e.dst] max= x[e] | e: edge | f32[node]", "segment-reduction by=(e.dst)"),
        ("y[n] += h[n, i] | n: node, i: 4 | f32[node]", "reduction k=(i)"),
        ("y[e, i] = h[e.src, i] | e: edge, i: 4 | f32[edge, 4]", "gather by=(e.src)"),
        ("y[i, n] = h[n, i] | n: node, i: 4 | f32[4, node]", "copy"),
        ("y[e] = x[e] * h[e.src, 0] | e: edge | f32[edge]", "elementwise"),
        ("y[e] *= x[e] | e: edge | f32[edge]", None),
    ],
)
def test_forms(program, line, form):
    found = forms(program(PARAMETERS, line, "y"))
    assert found == ([] if form is None else [form])


def softmax(program):
    line = "a = softmax s[e, k] by [e.dst, k] | e: edge, k: 2 | f32[edge, 2]"
    module = program(PARAMETERS, line, "a")
    ExpandSoftmax().apply(None, module)
    return module


def test_segment_softmax(program):
    assert forms(softmax(program)) == [
        f"segment-softmax part=({part})" for part in ("max", "exp", "sum", "quotient")
    ]


def test_what_looks_like_a_softmax(program):
    lines = """
        m[e.dst, k] max= s[e, k] | e: edge, k: 2 | f32[node, 2]
        p[e, k] = exp(s[e, k] * 2.0 - m[e.dst, k]) | e: edge, k: 2 | f32[edge, 2]
        t[e.dst, k] += p[e, k] | e: edge, k: 2 | f32[node, 2]
        a[e, k] = p[e, k] / t[e.dst, k] | e: edge, k: 2 | f32[edge, 2]
    """
    assert not any("softmax" in form for form in forms(program(PARAMETERS, lines, "a")))
    good = lines.replace(" * 2.0", "")
    assert sum("softmax" in form for form in forms(program(PARAMETERS, good, "a"))) == 4
    other_keys = good.replace("t[e.dst, k] +=", "t[e.src, k] +=")
    assert not any("softmax" in form for form in forms(program(PARAMETERS, other_keys, "a")))


def test_annotate_example(program, as_documented):
    line = "z[e, o] += h[e.src, i] * W[e.type, i, o] | e: edge, o: 3, i: 4 | f32[edge, 3]"
    module = program(PARAMETERS, line, "z")
    as_documented(module, AnnotateForms())
    AnnotateForms().apply(None, module)
    attributes = 'attributes {form = "typed-linear m=(e) n=(o) k=(i) by=(e.type)"}'
    assert attributes in str(module) and attributes in annotate_forms.__doc__


def test_forms_are_printed_and_parsed(program, rewritten):
    rewritten(softmax(program), AnnotateForms())
