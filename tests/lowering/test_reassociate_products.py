"""`reassociate-products`: the other order of two contractions, where that is less work."""

import pytest

from hectorite.lowering.reassociate_products import ReassociateProducts

PARAMETERS = """h: f32[node, 2], W: f32[etype, 2, 3], a: f32[etype, 3], w: f32[edge],
    q: f32[edge, 3], V: f32[2, 3], b: f32[3]"""
TYPED = "z[e, o] += h[e.dst, i] * W[e.type, i, o] | e: edge, o: 3, i: 2 | f32[edge, 3]"


def test_example(program, as_documented):
    lines = TYPED + "\ns[e] += z[e, o] * a[e.type, o] | e: edge, o: 3 | f32[edge]"
    as_documented(program(PARAMETERS, lines, "s"), ReassociateProducts())


def test_dense_weights_and_factors_that_stay(program, rewritten):
    lines = """
        z[n, o] += h[n, i] * V[i, o] | n: node, o: 3, i: 2 | f32[node, 3]
        s[n] += z[n, o] * b[o] * exp(h[n, 1]) | n: node, o: 3 | f32[node]
    """
    assert rewritten(program(PARAMETERS, lines, "s"), ReassociateProducts()) == [
        "s_weights[i] += V[i, o] * b[o]",
        "s[n] += h[n, i] * s_weights[i] * exp(h[n, 1])",
    ]


def test_names_that_meet_are_told_apart(program, rewritten):
    lines = """
        z[o, i] += W[o, k, i] * h[i, k] | o: etype, i: 3, k: 2 | f32[etype, 3]
        s[k] += z[k, o] * b[o] | k: etype, o: 3 | f32[etype]
    """
    rewritten(
        program(PARAMETERS.replace("h: f32[node, 2]", "h: f32[3, 2]"), lines, "s"),
        ReassociateProducts(),
    )


@pytest.mark.parametrize(
    "line",
    [
        # what weights the sum belongs to each element
        "s[e] += z[e, o] * q[e, o] | e: edge, o: 3 | f32[edge]",
        # the kept end of the product is summed over nothing
        "s[e, o] += z[e, o] * w[e] | e: edge, o: 3 | f32[edge, 3]",
        # not a product
        "s[e] max= z[e, o] * a[e.type, o] | e: edge, o: 3 | f32[edge]",
    ],
)
def test_left_alone(program, line):
    module = program(PARAMETERS, f"{TYPED}\n{line}", "s")
    before = str(module)
    ReassociateProducts().apply(None, module)
    assert str(module) == before


def test_a_result_that_others_read_is_made_once(program):
    lines = (
        TYPED
        + """
        s[e] += z[e, o] * a[e.type, o] | e: edge, o: 3 | f32[edge]
        y[e.src, o] += z[e, o] | e: edge, o: 3 | f32[node, 3]
    """
    )
    module = program(PARAMETERS, lines, "s y")
    before = str(module)
    ReassociateProducts().apply(None, module)
    assert str(module) == before


def test_without_reassociation(program):
    lines = TYPED + "\ns[e] += z[e, o] * a[e.type, o] | e: edge, o: 3 | f32[edge]"
    module = program(PARAMETERS, lines, "s")
    before = str(module)
    ReassociateProducts(reassociate=False).apply(None, module)
    assert str(module) == before
