"""Statements over sets in storage formats, over their position sets."""

import pytest

from hectorite.dialects.context import make_context
from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.formats.apply_formats import ApplyFormats, chosen_formats
from hectorite.lowering.graph.drop_dead_statements import DropDeadStatements

SPMM = "y[e.dst, o] += a[e] * x[e.src, o] | e: edge, o: 4 | f32[node, 4]"
SDDMM = "s[e] += a[e] * q[e.dst, i] * x[e.src, i] | e: edge, i: 4 | f32[edge]"
SOFTMAX = """
    m[e.dst] max= s[e] | e: edge | f32[node]
    p[e] = exp(s[e] - m[e.dst]) | e: edge | f32[edge]
    d[e.dst] += p[e] | e: edge | f32[node]
"""
FORMATS = (
    "csr(dst)",
    "csr(dst).by(type)",
    "csc(src)",
    "ell(dst)",
    "hyb(dst, src, 1, 1)",
    "hyb(dst, src, 2, 2)",
    "segmented(type, 4)",
    "bitmask(src, dst, type, 4, 2)",
    "coded_csr(src, dst, type)",
    "sgt(dst, src, 16, 8)",
    "sgt(src, dst, 3, 2)",
    "bsr(dst, src, 2, 3)",
)


@pytest.fixture
def spmm(program):
    return program("x: f32[node, 4], a: f32[edge]", SPMM, "y")


@pytest.fixture
def applied(rewritten):
    """The lines that a format makes of a program, which is checked; without those that are dead."""

    class Applied(ApplyFormats):
        def apply(self, ctx, op):
            super().apply(ctx, op)
            DropDeadStatements().apply(ctx, op)

    def lines(module, *formats, tolerance=1e-9, **options):
        return rewritten(module, Applied(formats, **options), tolerance)

    return lines


def refusal(module, *formats, **options):
    with pytest.raises(HectoriteError) as error:
        ApplyFormats(formats, **options).apply(make_context(), module)
    return error.value.diagnostics[0]


def test_the_documented_rewrite(program, as_documented):
    module = program("a: f32[edge], x: f32[node, 4]", SPMM, "y")
    as_documented(module, ApplyFormats(("edge=csr(dst)",)))


def test_padding_adds_the_identity_of_the_statement(program, applied):
    text = "y[e.dst, o] max= a[e] * x[e.src, o] | e: edge, o: 4 | f32[node, 4]"
    module = program("x: f32[node, 4], a: f32[edge]", text, "y")
    masked = "where((e.full) == 1, a[e.elem] * x[e.src, o], -inf)"
    assert applied(module, "edge=ell(dst)") == [f"y[e.dst, o] max= {masked}"]


def test_each_width_of_hyb_goes_on_from_the_last(spmm, applied):
    value = "where((e.full) == 1, a[e.elem] * x[e.src, o], 0.0)"
    assert applied(spmm, "edge=hyb(dst, src, 1, 1)") == [
        f"y_part0[e.dst, o] += {value}",
        f"y[e.dst, o] += {value} from y_part0",
    ]


def test_a_sum_of_rows_is_a_product_of_blocks(spmm, applied):
    assert applied(spmm, "edge=sgt(dst, src, 16, 8)") == [
        "y_blocks[e.column, e.lane] += a[e]",
        "y[16*k.window + r, o] += y_blocks[k, r] * x[k.src, o]",
    ]
    assert applied(spmm, "edge=bsr(dst, src, 4, 2)") == [
        "x_strips[d0, d1, d2] = x[2*d0 + d1, d2]",
        "y_blocks[e.block, e.across, e.down] += a[e]",
        "y_windows[k.band, r, o] += y_blocks[k, c, r] * x_strips[k.strip, c, o]",
        "y[d0, d1] = y_windows[d0 // 4, d0 % 4, d1]",
    ]


def test_what_is_no_product_of_blocks_is_visited_by_windows(program, applied):
    module = program("x: f32[node, 2], a: f32[edge]", SPMM.replace("4", "2"), "y")
    assert applied(module, "edge=sgt(dst, src, 16, 8)") == [
        "y_blocks[e.column, e.lane] += a[e]",
        "y_windows[k.window, r, o] += y_blocks[k, r] * x[k.src, o]",
        "y[d0, d1] = y_windows[d0 // 16, d0 % 16, d1]",
    ]


def test_a_product_with_a_vector_has_rows_of_one_number(program, applied):
    text = "y[e.dst] += a[e] * b[e.src] | e: edge | f32[node]"
    module = program("b: f32[node], a: f32[edge]", text, "y")
    assert applied(module, "edge=sgt(dst, src, 16, 8)") == [
        "y_blocks[e.column, e.lane] += a[e]",
        "y_windows[k.window, r] += y_blocks[k, r] * b[k.src]",
        "y[d0] = y_windows[d0 // 16, d0 % 16]",
    ]


def test_a_sum_by_columns_reads_windows_of_rows(spmm, applied):
    assert applied(spmm, "edge=sgt(src, dst, 16, 8)") == [
        "x_windows[d0, d1, d2] = x[16*d0 + d1, d2]",
        "y_blocks[e.column, e.lane] += a[e]",
        "y[k.dst, o] += y_blocks[k, r] * x_windows[k.window, r, o]",
    ]


def test_a_product_for_each_element_is_taken_from_blocks(program, applied):
    module = program("x: f32[node, 4], q: f32[node, 4], a: f32[edge]", SDDMM, "s")
    assert applied(module, "edge=sgt(dst, src, 16, 8)") == [
        "q_windows[d0, d1, d2] = q[16*d0 + d1, d2]",
        "s_blocks[k, r] += q_windows[k.window, r, i] * x[k.src, i]",
        "s[e] = s_blocks[e.column, e.lane] * a[e]",
    ]


def test_heads_are_dimensions_of_blocks(program, applied):
    text = "y[e.dst, h, o] += a[e, h] * x[e.src, h, o] * w | e: edge, h: 2, o: 4 | f32[node, 2, 4]"
    module = program("x: f32[node, 2, 4], a: f32[edge, 2], w: f32", text, "y")
    assert applied(module, "edge=sgt(dst, src, 16, 8)") == [
        "y_blocks[e.column, e.lane, h] += a[e, h]",
        "y[16*k.window + r, h, o] += y_blocks[k, r, h] * x[k.src, h, o] * w",
    ]


def test_softmax_stays_with_positions_or_with_elements(program, applied):
    last = "y[e.dst, o] += p[e] / d[e.dst] * x[e.src, o] | e: edge, o: 4 | f32[node, 4]"
    lines = SOFTMAX + last
    module = program("x: f32[node, 4], s: f32[edge]", lines, "y")
    assert applied(module, "edge=csr(dst)") == [
        "m[e.dst] max= s[e.elem]",
        "p_csr[e] = exp(s[e.elem] - m[e.dst])",
        "d[e.dst] += p_csr[e]",
        "y[e.dst, o] += p_csr[e] / d[e.dst] * x[e.src, o]",
    ]
    assert applied(module, "edge=sgt(dst, src, 16, 8)") == [
        "m[e.dst] max= s[e]",
        "p[e] = exp(s[e] - m[e.dst])",
        "d[e.dst] += p[e]",
        "y_blocks[e.column, e.lane] += p[e] / d[e.dst]",
        "y[16*k.window + r, o] += y_blocks[k, r] * x[k.src, o]",
    ]


def test_what_is_returned_is_in_the_order_of_the_set(program, applied):
    lines = """
        s[e] += q[e.dst, i] * x[e.src, i] | e: edge, i: 4 | f32[edge]
        y[e.dst] += s[e] | e: edge | f32[node]
    """
    module = program("x: f32[node, 4], q: f32[node, 4]", lines, "s y")
    assert applied(module, "edge=csr(dst)") == [
        "s_csr[e] += q[e.dst, i] * x[e.src, i]",
        "s[e] = s_csr[e.place]",
        "y[e.dst] += s_csr[e]",
    ]
    assert applied(module, "edge=hyb(dst, src, 1, 0)") == [
        "s_hyb[e] += q[e.dst, i] * x[e.src, i]",
        "s[e.elem] += where((e.full) == 1, s_hyb[e], 0.0)",
        "y[e.dst] += where((e.full) == 1, s_hyb[e], 0.0)",
    ]


def test_rows_that_hold_the_same_are_computed_once(program, applied):
    text = "y[e.dst, o] += x[e.src, o] | e: edge, o: 4 | f32[node, 4]"
    module = program("x: f32[node, 4]", text, "y")
    assert applied(module, "edge=dedup(dst)") == [
        "y_unique[e.unique, o] += x[e.src, o]",
        "y[u, d1] = y_unique[u.unique, d1]",
    ]


def test_a_product_of_tf32_has_blocks_of_tf32_for_tensor_cores(program, applied):
    module = program("x: tf32[node, 16], a: f32[edge]", SPMM.replace("4", "16"), "y")
    assert applied(module, "edge=sgt(dst, src, 16, 8)", tolerance=1e-5, tensor_cores=True) == [
        "y_blocks[e.column, e.lane] += a[e]",
        "y_high[d0, d1] = tf32(y_blocks[d0, d1])",
        "y_low[d0, d1] = tf32(y_blocks[d0, d1] - f32(y_high[d0, d1]))",
        "y_piece0[16*k.window + r, o] += f32(y_high[k, r]) * f32(x[k.src, o])",
        "y[16*k.window + r, o] += f32(y_low[k, r]) * f32(x[k.src, o]) from y_piece0",
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_products_mean_the_same_in_every_format(program, applied, format):
    parameters = "x: f32[node, 4], q: f32[node, 4], a: f32[edge], b: i8[edge], n: i8[node, 4]"
    lines = f"""
        {SPMM}
        z[n, o] = x[n, o] + 1 | n: node, o: 4 | f32[node, 4]
        z[e.src, o] += a[e] * q[e.dst, o] / 2 | e: edge, o: 4 | f32[node, 4]
        {SDDMM}
        {SOFTMAX}
        v[e.dst, o] += p[e] / d[e.dst] * x[e.src, o] | e: edge, o: 4 | f32[node, 4]
        c[e.dst, o] += b[e] * n[e.src, o] | e: edge, o: 4 | i32[node, 4]
        g[e.type, o] max= a[e] * x[e.src, o] | e: edge, o: 4 | f32[etype, 4]
        t += a[e] * x[e.src, 0] | e: edge | f32[]
        r[e, f.dst] += a[e] * a[f] | e: edge, f: edge | f32[edge, node]
    """
    module = program(parameters, lines, "y z s v c g t r")
    applied(module, f"edge={format}")


CHAIN_SETS = """
    graph.set @etype
    graph.set @node {of: etype}
    graph.set @edge {src: node, dst: node}
"""
CHAINS = {
    "y[e.dst.of, o] += a[e] * x[e.src, o] | e: edge, o: 4 | f32[etype, 4]": [
        "y_rows_blocks[e.column, e.lane] += a[e]",
        "y_rows_windows[k.window, r, o] += y_rows_blocks[k, r] * x[k.src, o]",
        "y_rows[d0, d1] = y_rows_windows[d0 // 2, d0 % 2, d1]",
        "y[n.of, o] += y_rows[n, o]",
    ],
    "y[e.dst, e.dst.of] += a[e] * x[e.src, 0] | e: edge | f32[node, etype]": [],
    "y[e.src.of, o] += a[e] * x[e.dst, o] | e: edge, o: 4 | f32[etype, 4]": [],
    "y[e.dst, o] += a[e] * b[e.dst.of] * g[e.src.of, o] | e: edge, o: 4 | f32[node, 4]": [],
    "y[e.src, o] += a[e] * g[e.dst.of, o] | e: edge, o: 4 | f32[node, 4]": [],
    "y[e] += g[e.dst.of, i] * x[e.src, i] | e: edge, i: 4 | f32[edge]": [
        "g_by_node[d0, d1] = g[d0.of, d1]",
        "g_by_node_windows[d0, d1, d2] = g_by_node[2*d0 + d1, d2]",
        "y_blocks[k, r] += g_by_node_windows[k.window, r, i] * x[k.src, i]",
        "y[e] = y_blocks[e.column, e.lane]",
    ],
    "y[e] += x[e.dst, i] * g[e.src.of, i] | e: edge, i: 4 | f32[edge]": [],
}


@pytest.mark.parametrize("text", CHAINS)
def test_maps_that_go_on_from_a_row(program, applied, text):
    for format in ("sgt(dst, src, 2, 3)", "sgt(src, dst, 4, 2)", "bsr(dst, src, 2, 3)"):
        parameters = "x: f32[node, 4], g: f32[etype, 4], a: f32[edge], b: f32[etype]"
        lines = applied(program(parameters, text, "y", CHAIN_SETS), f"edge={format}")
        assert format != "sgt(dst, src, 2, 3)" or lines == (CHAINS[text] or lines)


@pytest.mark.parametrize("kind", ["+=", "max="])
def test_distinct_rows_whose_sums_go_on(program, applied, kind):
    text = f"y[e.dst.of, o] {kind} g[e.src.of, o] | e: edge, o: 4 | f32[etype, 4]"
    module = program("g: f32[etype, 4]", text, "y", CHAIN_SETS)
    assert applied(module, "edge=dedup(dst)") == [
        f"y_rows_unique[e.unique, o] {kind} g[e.src.of, o]",
        "y_rows[u, d1] = y_rows_unique[u.unique, d1]",
        f"y[n.of, o] {kind} y_rows[n, o]",
    ]
    if kind == "+=":
        module = program("g: f32[etype, 4]", text, "y", CHAIN_SETS)
        found = refusal(module, "edge=dedup(dst)", reassociate=False)
        assert "floats may not be added in another order" in found.message


def test_a_format_that_serves_nothing_says_why(program):
    text = SPMM.replace("+=", "max=")
    found = refusal(
        program("x: f32[node, 4], a: f32[edge]", text, "y"), "edge=sgt(dst, src, 16, 8)"
    )
    assert found.message == (
        "the format `sgt(dst, src, 16, 8)` of `edge` cannot serve `y[e.dst, o] max= a[e] * "
        "x[e.src, o]`: products of blocks are added up, and `max=` is no sum"
    )
    assert found.hint == "declare `edge` without it, or with csr, which serves every statement"


@pytest.mark.parametrize(
    "text, format, reason",
    [
        (
            "y[e.dst, o] += w[e, o] * x[e.src, o] | e: edge, o: 4 | f32[node, 4]",
            "sgt(dst, src, 16, 8)",
            "its factor `w[e, o]` differs from element to element and along o",
        ),
        (
            "y[e.dst] += a[e] | e: edge | f32[node]",
            "sgt(dst, src, 16, 8)",
            "no factor is a row of data that is read at e.src",
        ),
        (
            "y[e.dst, o] += a[e] * x[e.type, o] | e: edge, o: 4 | f32[node, 4]",
            "sgt(dst, src, 16, 8)",
            "its factor `x[e.type, o]` depends on e.type, and rows of data are read at e.src",
        ),
        (
            "y[e.type, o] += a[e] * x[e.src, o] | e: edge, o: 4 | f32[etype, 4]",
            "bsr(dst, src, 4, 4)",
            "it adds up at e.type, and the format serves sums at e.dst and at e.src",
        ),
        (
            "s[e] += exp(x[e.dst, i] + x[e.src, i]) | e: edge, i: 4 | f32[edge]",
            "sgt(dst, src, 16, 8)",
            "its factor `exp(x[e.dst, i] + x[e.src, i])` depends on e.dst and e.src",
        ),
        (
            "y[e.dst] += a[e] | e: edge | f32[node]",
            "dedup(dst)",
            "it reads a number of each e, so rows that hold the same may differ",
        ),
        (
            "y[e.dst] += b[e.dst] | e: edge | f32[node]",
            "dedup(dst)",
            "it depends on e.dst, so rows that hold the same may differ",
        ),
        (
            "y[e.src] += b[e.dst] | e: edge | f32[node]",
            "dedup(dst)",
            "it is reduced at e.src, and the format serves what is reduced at e.dst",
        ),
    ],
)
def test_reasons_name_what_does_not_fit(program, text, format, reason):
    parameters = "x: f32[node, 4], a: f32[edge], b: f32[node], w: f32[edge, 4]"
    module = program(parameters, text, text[0])
    assert reason in refusal(module, f"edge={format}").message


def test_products_with_zero_are_refused_where_sums_stay_as_they_are(spmm):
    found = refusal(spmm, "edge=sgt(dst, src, 16, 8)", reassociate=False)
    assert "adds products with zero to sums" in found.message
    assert found.hint == "csr(dst) keeps every sum as it is"


@pytest.mark.parametrize(
    "given, message",
    [
        ("edge", "`edge` does not say which format"),
        ("edges=csr(dst)", "there is no set `edges`"),
        ("edge=csr(from)", "`edge` as `csr(from)`: the set has no field `from`"),
    ],
)
def test_faults_in_what_is_given(spmm, given, message):
    assert refusal(spmm, given).message == message


def test_auto_takes_a_format_away(program):
    sets = """
        graph.set @node
        graph.set @edge {src: node, dst: node} as "csr(dst)"
    """
    module = program("x: f32[node, 4], a: f32[edge]", SPMM, "y", sets)
    assert chosen_formats(module) == {"edge": "csr(dst)"}
    assert chosen_formats(module, ("edge=auto",)) == {}
    assert chosen_formats(module, ("edge=ell(src)",)) == {"edge": "ell(src)"}
