"""The reference, against loops over every point and against results computed by hand."""

import itertools
import math

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.reference import interpreter as reference
from hectorite.backends.reference.interpreter import boxes, run_reference
from hectorite.dialects.context import make_context
from hectorite.ir.diagnostics import HectoriteError

SETS = """
graph.set @node
graph.set @etype
graph.set @edge {src: node, dst: node, type: etype}
"""


def parse(text):
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


def one_statement(arguments, head, type, body, value="f32"):
    """The function `f` of one statement."""
    return parse(
        f"""{SETS}
graph.func @f({arguments}) -> {type} {{
  %y = graph.statement {head} : {type} {{
    {body}
    graph.yield %v : {value}
  }}
  graph.return %y : {type}
}}"""
    )


def graph(nodes=5, edges=11, types=3, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"node": nodes, "edge": edges, "etype": types}
    maps = {
        ("edge", "src"): rng.integers(0, nodes, edges),
        ("edge", "dst"): rng.integers(0, nodes, edges),
        ("edge", "type"): rng.integers(0, types, edges),
    }
    return sizes, maps, rng


TYPED = """%0 = graph.read %h[e.src, i] : f32
    %1 = graph.read %W[e.type, i, o] : f32
    %v = scalar.mul %0, %1 : f32"""


@pytest.mark.parametrize("points", [1, 7, 1 << 22])
def test_scatter_against_a_loop(monkeypatch, points):
    monkeypatch.setattr(reference, "POINTS", points)
    sizes, maps, rng = graph()
    module = one_statement(
        "%h: !hec.tensor<f32[node, 4]>, %W: !hec.tensor<f32[etype, 4, 3]>",
        "add [e.dst, o] for (e: edge, o: 3, i: 4)",
        "!hec.tensor<f32[node, 3]>",
        TYPED,
    )
    h, w = rng.normal(size=(5, 4)), rng.normal(size=(3, 4, 3))
    expected = np.zeros((5, 3))
    for e, o, i in itertools.product(range(11), range(3), range(4)):
        s, d, t = (maps["edge", name][e] for name in ("src", "dst", "type"))
        expected[d, o] += h[s, i] * w[t, i, o]
    (y,) = run_reference(module, "f", sizes, maps, {"h": h, "W": w})
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("kind", "element", "expected"),
    [
        ("add", "f32", [3.0, 0.0, 5.0]),
        ("mul", "f32", [2.0, 1.0, 5.0]),
        ("max", "f32", [2.0, -np.inf, 5.0]),
        ("min", "f32", [1.0, np.inf, 5.0]),
        ("max", "i8", [2, -128, 5]),
        ("min", "i8", [1, 127, 5]),
        ("add", "i8", [3, 0, 5]),
        ("max", "i1", [True, False, True]),
        ("min", "i1", [True, True, True]),
    ],
)
def test_empty_groups_have_the_identity(kind, element, expected):
    module = one_statement(
        f"%x: !hec.tensor<{element}[edge]>",
        f"{kind} [e.dst] for (e: edge)",
        f"!hec.tensor<{element}[node]>",
        f"%v = graph.read %x[e] : {element}",
        element,
    )
    maps = {("edge", "dst"): np.array([0, 0, 2])}
    x = np.array([1, 2, 5]).astype({"f32": "f4", "i8": "i1", "i1": "?"}[element])
    (y,) = run_reference(module, "f", {"node": 3, "edge": 3}, maps, {"x": x})
    assert y.tolist() == expected


def test_nan_wins_in_max_and_min():
    for kind in ("max", "min"):
        module = one_statement(
            "%x: !hec.tensor<f32[edge]>",
            f"{kind} [e.dst] for (e: edge)",
            "!hec.tensor<f32[node]>",
            "%v = graph.read %x[e] : f32",
        )
        maps = {("edge", "dst"): np.array([0, 0, 1])}
        x = np.array([1, np.nan, np.inf], np.float32)
        (y,) = run_reference(module, "f", {"node": 2, "edge": 3}, maps, {"x": x})
        assert np.isnan(y[0]) and y[1] == np.inf


def test_a_variable_that_nothing_uses_counts():
    module = one_statement(
        "%x: !hec.tensor<f32[3]>",
        "add [] for (i: 3, j: 4, k: 2)",
        "!hec.tensor<f32[]>",
        "%v = graph.read %x[i] : f32",
    )
    assert run_reference(module, "f", {}, {}, {"x": np.arange(3.0)})[0] == 24


def test_affine_reads_and_pad():
    module = one_statement(
        "%x: !hec.tensor<f32[6], pad 0.5>, %w: !hec.tensor<f32[3]>",
        "add [y] for (y: N, r: 3)",
        "!hec.tensor<f32[N]>",
        """%0 = graph.read %x[2*y + r - 1] : f32
    %1 = graph.read %w[r] : f32
    %v = scalar.mul %0, %1 : f32""",
    )
    x, w = np.arange(6.0), np.array([1.0, 10.0, 100.0])
    padded = np.concatenate([[0.5], x, [0.5, 0.5, 0.5]])
    expected = [padded[2 * y : 2 * y + 3] @ w for y in range(4)]
    assert run_reference(module, "f", {"N": 4}, {}, {"x": x, "w": w})[0].tolist() == expected


def test_reads_of_an_empty_padded_tensor():
    module = one_statement(
        "%x: !hec.tensor<i32[N], pad 7>",
        "add [i] for (i: 2)",
        "!hec.tensor<i32[2]>",
        "%v = graph.read %x[i] : i32",
        "i32",
    )
    assert run_reference(module, "f", {}, {}, {"x": np.zeros(0, "i4")})[0].tolist() == [7, 7]


def test_writes_outside_of_a_padded_result_are_dropped():
    text = "%x: !hec.tensor<f32[4]>", "add [2*i - 1] for (i: 4)"
    body = "%v = graph.read %x[i] : f32"
    module = one_statement(*text, "!hec.tensor<f32[4], pad 0.0>", body)
    x = np.array([1.0, 2.0, 3.0, 4.0])
    assert run_reference(module, "f", {}, {}, {"x": x})[0].tolist() == [0, 2, 0, 3]
    module = one_statement(*text, "!hec.tensor<f32[4]>", body)
    with pytest.raises(HectoriteError, match=r"a write at \[2\*i - 1\] gives 2\*i - 1 = -1"):
        run_reference(module, "f", {}, {}, {"x": x})


def test_reads_out_of_range_are_errors():
    module = one_statement(
        "%x: !hec.tensor<f32[4]>",
        "assign [i] for (i: 4)",
        "!hec.tensor<f32[4]>",
        "%v = graph.read %x[i + 1] : f32",
    )
    with pytest.raises(HectoriteError, match=r"gives i \+ 1 = 4"):
        run_reference(module, "f", {}, {}, {"x": np.zeros(4)})


def test_divided_indices():
    module = one_statement(
        "%x: !hec.tensor<i32[3]>",
        "assign [i] for (i: 7)",
        "!hec.tensor<i32[7]>",
        """%0 = graph.read %x[(i + 1) floordiv 3] : i32
    %1 = graph.index (i - 5) mod 3 : i32
    %2 = scalar.constant 10 : i32
    %3 = scalar.mul %0, %2 : i32
    %v = scalar.add %3, %1 : i32""",
        "i32",
    )
    (y,) = run_reference(module, "f", {}, {}, {"x": np.array([1, 2, 3], "i4")})
    assert y.tolist() == [10 * ((i + 1) // 3 + 1) + (i - 5) % 3 for i in range(7)]


def test_integers_accumulate_wide_and_wrap_when_stored():
    module = one_statement(
        "%x: !hec.tensor<i8[edge]>",
        "add [] for (e: edge)",
        "!hec.tensor<i8[]>",
        """%0 = graph.read %x[e] : i8
    %1 = scalar.cast %0 : i8 to i32
    %v = scalar.mul %1, %1 : i32""",
        "i32",
    )
    (y,) = run_reference(module, "f", {"edge": 3}, {}, {"x": np.full(3, 100, "i1")})
    assert y.dtype == np.int8 and y == np.int64(30000).astype(np.int8)


def test_sixteen_bit_results_round_once():
    module = one_statement(
        "%x: !hec.tensor<f16[N]>",
        "add [] for (i: N)",
        "!hec.tensor<f16[]>",
        """%0 = graph.read %x[i] : f16
    %v = scalar.cast %0 : f16 to f32""",
    )
    x = np.full(4097, 1, np.float16)
    assert run_reference(module, "f", {}, {}, {"x": x})[0] == np.float16(4097)
    (own,) = run_reference(module, "f", {}, {}, {"x": x}, own_types=True)
    assert own.dtype == np.float16 and own == np.float16(4097)


def test_own_types_round_as_the_program_does():
    module = one_statement(
        "%x: !hec.tensor<f32[]>",
        "assign [] for ()",
        "!hec.tensor<f32[]>",
        """%0 = graph.read %x[] : f32
    %1 = scalar.constant 16777216.0 : f32
    %2 = scalar.add %0, %1 : f32
    %v = scalar.sub %2, %1 : f32""",
    )
    x = np.float32(1)
    assert run_reference(module, "f", {}, {}, {"x": x})[0] == 1
    assert run_reference(module, "f", {}, {}, {"x": x}, own_types=True)[0] == 0


TWO_PIECES = """
graph.func @f(%a: !hec.tensor<f32[N]>, %b: !hec.tensor<f32[M]>) -> !hec.tensor<f32[5]> {
  %y0 = graph.statement assign [i] for (i: N) : !hec.tensor<f32[5]> {
    %0 = graph.read %a[i] : f32
    graph.yield %0 : f32
  }
  %y1 = graph.statement assign %y0[i + @N] for (i: M) : !hec.tensor<f32[5]> {
    %0 = graph.read %b[i] : f32
    graph.yield %0 : f32
  }
  %y2 = graph.statement max %y1[i] for (i: N) : !hec.tensor<f32[5]> {
    %0 = graph.size "M" : f32
    graph.yield %0 : f32
  }
  graph.return %y2 : !hec.tensor<f32[5]>
}
"""


def test_pieces_and_starts():
    arguments = {"a": np.array([1.0, 7.0]), "b": np.array([3.0, 4.0, 5.0])}
    (y,) = run_reference(parse(TWO_PIECES), "f", {}, {}, arguments)
    assert y.tolist() == [3, 7, 3, 4, 5]


SOFTMAX = f"""{SETS}
graph.func @f(%s: !hec.tensor<f32[edge, 2]>) -> !hec.tensor<f32[edge, 2]> {{
  %a = graph.softmax %s[e, k] by [e.dst, k] for (e: edge, k: 2) : !hec.tensor<f32[edge, 2]>
  graph.return %a : !hec.tensor<f32[edge, 2]>
}}
"""


def test_softmax():
    sizes, maps, rng = graph()
    s = rng.normal(size=(11, 2)) * 1000
    (a,) = run_reference(parse(SOFTMAX), "f", sizes, maps, {"s": s})
    dst = maps["edge", "dst"]
    for e, k in itertools.product(range(11), range(2)):
        peers = s[dst == dst[e], k]
        assert math.isclose(a[e, k], 1 / np.exp(peers - s[e, k]).sum(), rel_tol=1e-12)
    sizes["edge"] = 0
    empty = {key: values[:0] for key, values in maps.items()}
    assert run_reference(parse(SOFTMAX), "f", sizes, empty, {"s": s[:0]})[0].shape == (0, 2)


DERIVED = f"""{SETS}
graph.derive @pair {{src: node, type: etype}} = distinct [e.src, e.type] for (e: edge) as pair
graph.derive @two {{from: node, to: node}} = distinct [x.src, y.dst] for (x: edge, y: edge)
    where [x.dst eq y.src, x.src ne y.dst]
graph.func @f(%x: !hec.tensor<i32[edge]>) -> (!hec.tensor<i32[pair]>, !hec.tensor<i32[node]>) {{
  %y = graph.statement add [e.pair] for (e: edge) : !hec.tensor<i32[pair]> {{
    %0 = graph.read %x[e] : i32
    graph.yield %0 : i32
  }}
  %z = graph.statement add [t.from] for (t: two) : !hec.tensor<i32[node]> {{
    %0 = scalar.constant 1 : i32
    graph.yield %0 : i32
  }}
  graph.return %y, %z : !hec.tensor<i32[pair]>, !hec.tensor<i32[node]>
}}
"""


def test_derived_sets_are_built():
    sizes, maps, rng = graph(edges=17)
    x = rng.integers(-9, 9, 17).astype("i4")
    y, z = run_reference(parse(DERIVED), "f", sizes, maps, {"x": x})
    src, dst, kind = (maps["edge", name] for name in ("src", "dst", "type"))
    pairs = sorted(set(zip(src, kind, strict=True)))
    assert y.tolist() == [x[(src == s) & (kind == t)].sum() for s, t in pairs]
    ways = {
        (src[a], dst[b])
        for a, b in itertools.product(range(17), range(17))
        if dst[a] == src[b] and src[a] != dst[b]
    }
    assert z.tolist() == [sum(start == n for start, _ in ways) for n in range(5)]


def test_boxes_cover_every_point_once():
    for extents in ([], [0], [3], [2, 3, 4], [5, 0, 2], [1, 7]):
        for limit in (1, 4, 100):
            seen = [
                point
                for box in boxes(extents, limit)
                for point in itertools.product(*(range(part.start, part.stop) for part in box))
            ]
            assert seen == list(itertools.product(*map(range, extents)))


def test_what_is_missing_is_named():
    module = parse(TWO_PIECES)
    arguments = {"a": np.zeros(2), "b": np.zeros(3)}
    with pytest.raises(HectoriteError, match="there is no function `g`"):
        run_reference(module, "g", {}, {}, arguments)
    with pytest.raises(HectoriteError, match="argument `b` is missing"):
        run_reference(module, "f", {}, {}, {"a": np.zeros(2)})
    with pytest.raises(HectoriteError, match=r"`b` has shape \(3,\)"):
        run_reference(module, "f", {"M": 4}, {}, arguments)
    with pytest.raises(HectoriteError, match="size of `etype` is not given"):
        run_reference(parse(DERIVED), "f", {"node": 1}, graph()[1], {"x": np.zeros(11)})
    with pytest.raises(HectoriteError, match="map `src` of `edge` is not given"):
        run_reference(parse(DERIVED), "f", {"node": 1, "edge": 1, "etype": 1}, {}, {"x": [1]})
