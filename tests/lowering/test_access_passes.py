"""`compose-gathers` and `simplify-access`."""

from hectorite.lowering.graph.compose_gathers import ComposeGathers
from hectorite.lowering.graph.simplify_access import SimplifyAccess

SETS = """
graph.set @node
graph.set @etype
graph.set @edge {src: node, dst: node, type: etype}
graph.set @link {e: edge}
graph.derive @pair {src: node, type: etype} = distinct [e.src, e.type] for (e: edge) as pair
graph.derive @shifted {at: node} = distinct [e.src] for (e: edge) as shifted
"""


def test_compose_example(program, as_documented):
    module = program(
        "x: f32[node, 4]",
        """
        t[e, o] = x[e.src, o] | e: edge, o: 4 | f32[edge, 4]
        y[p.e.dst, o] += t[p.e, o] | p: link, o: 4 | f32[node, 4]
        """,
        "y",
    )
    as_documented(module, ComposeGathers())


def test_transposed_copies_compose(program, rewritten):
    module = program(
        "x: f32[node, 4]",
        """
        t[o, e] = x[e.src, 3 - o] | e: edge, o: 4 | f32[4, edge]
        y[e, o] = t[o // 2, e] | e: edge, o: 4 | f32[edge, 4]
        w[e, o] = t[3 - o, e] | e: edge, o: 4 | f32[edge, 4]
        """,
        "y w",
    )
    lines = rewritten(module, ComposeGathers())
    assert lines[1] == "y[e, o] = t[o // 2, e]"  # a quotient cannot stand inside a sum
    assert lines[2] == "w[e, o] = x[e.src, o]"


def test_copies_into_padded_tensors_stay(program, rewritten):
    module = program(
        "x: f32[8]",
        """
        t[i] = x[i] | i: 8 | f32[8] pad 0.5
        y[i] = t[i + 3] | i: 8 | f32[8]
        """,
        "y",
    )
    assert rewritten(module, ComposeGathers())[1] == "y[i] = t[i + 3]"


def test_other_elements_and_other_kinds_stay(program, rewritten):
    module = program(
        "x: f32[edge]",
        """
        t[e] = x[e] | e: edge | f16[edge]
        y[e] += x[e] | e: edge, i: 3 | f32[edge]
        z[e] = t[e] + y[e] | e: edge | f32[edge]
        """,
        "z",
    )
    assert rewritten(module, ComposeGathers())[2] == "z[e] = f32(t[e]) + y[e]"


def test_a_plain_copy_is_its_source(program, rewritten):
    module = program(
        "x: f32[edge]",
        """
        t[e] = exp(x[e]) | e: edge | f32[edge]
        y[e] = t[e] | e: edge | f32[edge]
        z[e] = x[e] | e: edge | f32[edge]
        """,
        "y z",
    )
    after = module.clone()
    ComposeGathers().apply(None, after)
    returned = list(list(after.ops)[-1].body.block.last_op.operands)
    assert [value.name_hint for value in returned] == ["t", "z"]
    rewritten(module, ComposeGathers())


def test_simplify_example(program, as_documented):
    module = program(
        "h: f32[node, 4]",
        "y[e, i] = h[e.pair.src, i // 1] | e: edge, i: 4 | f32[edge, 4]",
        "y",
        sets=SETS,
    )
    as_documented(module, SimplifyAccess())


def test_through_a_longer_path(program, rewritten):
    module = program(
        "h: f32[node]",
        """
        y[p.e.pair.src] += h[p.e.shifted.at] | p: link | f32[node]
        z[p] = h[p.e.pair.src] | p: link | f32[link]
        """,
        "y z",
        sets=SETS,
    )
    assert rewritten(module, SimplifyAccess()) == [
        "y[p.e.src] += h[p.e.src]",
        "z[p] = h[p.e.src]",
    ]


def test_elements_of_a_derived_set_stay(program, rewritten):
    module = program("h: f32[pair]", "y[e] = h[e.pair] | e: edge | f32[edge]", "y", sets=SETS)
    # The size of `pair` depends on the data, so the argument is made by the program.
    module = program(
        "h: f32[node]",
        """
        t[u] = h[u.src] | u: pair | f32[pair]
        y[e] = t[e.pair] | e: edge | f32[edge]
        """,
        "y",
        sets=SETS,
    )
    assert rewritten(module, SimplifyAccess()) == ["t[u] = h[u.src]", "y[e] = t[e.pair]"]
