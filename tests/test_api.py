"""The public interface: compiling, binding, calling, and what it says when something is wrong."""

import threading
import warnings

import numpy as np
import pytest

import hectorite
from hectorite.backends.cache import default_cache
from hectorite.ir.diagnostics import HectoriteError

PROGRAM = """
set etype
set node
set edge { src: node, dst: node, type: etype }

def mix(h: f32[node, I], W: f32[etype, I, O]) -> f32[node, O] {
  y[e.dst, o] += h[e.src, i] * W[e.type, i, o]
  return y
}

def both(h: f32[node, I], eps: f32) -> (f32[node, I], f32[edge]) {
  a[n, i] = h[n, i] * eps
  s[e] += h[e.src, i] * h[e.dst, i]
  return a, s
}
"""

PRODUCT = """
def product(A: f32[M, K], B: f32[K, N]) -> f32[M, N] {
  C[m, n] += A[m, k] * B[k, n]
  return C
}
"""


@pytest.fixture(scope="module")
def program():
    return hectorite.compile(PROGRAM)


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    src, dst = generator.integers(0, 7, (2, 30)).astype(np.int32)
    return {
        "edge": {"src": src, "dst": dst, "type": (src % 3).astype(np.int32)},
        "node": 7,
        "etype": 3,
    }


@pytest.fixture
def tensors():
    generator = np.random.default_rng(1)
    h = generator.standard_normal((7, 5)).astype(np.float32)
    return {"h": h, "W": generator.standard_normal((3, 5, 4)).astype(np.float32)}


def mixed(data, h, W):  # noqa: N803
    edge = data["edge"]
    expected = np.zeros((7, W.shape[2]))
    rows = np.einsum("ei,eio->eo", h[edge["src"]].astype(float), W[edge["type"]].astype(float))
    np.add.at(expected, edge["dst"], rows)
    return expected


def said(error):
    return str(error.value)


@pytest.mark.parametrize("target", ["cpu", "reference", "tile", "ptx", None])
def test_every_target_computes_the_same(target, data, tensors):
    program = hectorite.compile(PROGRAM, target=target)
    graph = program.bind(**data)
    y = program.mix(graph, **tensors)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, mixed(data, **tensors), rtol=1e-4, atol=1e-5)


def test_several_results_and_scalars(program, data, tensors):
    scaled, scores = program.both(program.bind(**data), h=tensors["h"], eps=2.5)
    np.testing.assert_allclose(scaled, tensors["h"] * 2.5, rtol=1e-6)
    assert scores.shape == (30,)


def test_sizes_follow_the_arguments(program, data, tensors):
    graph = program.bind(**data)
    for width in (1, 3, 8):
        W = np.ones((3, 5, width), np.float32)  # noqa: N806
        np.testing.assert_allclose(
            program.mix(graph, h=tensors["h"], W=W), mixed(data, tensors["h"], W), rtol=1e-4
        )


def test_int64_maps_and_torch_like_buffers(program, data, tensors):
    data["edge"] = {field: values.astype(np.int64) for field, values in data["edge"].items()}
    h = memoryview(tensors["h"])
    y = program.mix(program.bind(**data), h=h, W=tensors["W"])
    np.testing.assert_allclose(y, mixed(data, **tensors), rtol=1e-4, atol=1e-5)


def test_torch_comes_and_goes(program, data, tensors):
    torch = pytest.importorskip("torch")
    given = {name: torch.from_numpy(values) for name, values in tensors.items()}
    y = program.mix(program.bind(**data), **given)
    assert isinstance(y, torch.Tensor)
    np.testing.assert_allclose(y.numpy(), mixed(data, **tensors), rtol=1e-4, atol=1e-5)


def test_out(program, data, tensors):
    out = np.empty((7, 4), np.float32)
    assert program.mix(program.bind(**data), **tensors, out=out) is out
    np.testing.assert_allclose(out, mixed(data, **tensors), rtol=1e-4, atol=1e-5)
    with pytest.raises(HectoriteError, match="float32 and shape"):
        program.mix(program.bind(**data), **tensors, out=np.empty((7, 3), np.float32))
    with pytest.raises(HectoriteError, match="float32 in the other byte order"):
        program.mix(program.bind(**data), **tensors, out=np.empty((7, 4), ">f4"))
    with pytest.raises(HectoriteError, match="overlaps the argument `h`"):
        program.both(
            program.bind(**data),
            h=tensors["h"],
            eps=1.0,
            out=(tensors["h"], np.empty(30, np.float32)),
        )


def test_out_that_is_no_array(program, data, tensors):
    with pytest.raises(HectoriteError, match="`out` is a str, not an array"):
        program.mix(program.bind(**data), **tensors, out="y")


def test_a_program_without_sets_needs_no_binding():
    program = hectorite.compile(PRODUCT)
    A, B = np.ones((3, 4), np.float32), np.full((4, 2), 2, np.float32)  # noqa: N806
    np.testing.assert_array_equal(program.product(A=A, B=B), np.full((3, 2), 8))
    np.testing.assert_array_equal(program.product(program.bind(), A=A, B=B), np.full((3, 2), 8))


def test_calls_from_several_threads(program, data, tensors):
    graph = program.bind(**data)
    expected = mixed(data, **tensors)
    wrong = []

    def work():
        for _ in range(20):
            y = program.mix(graph, **tensors)
            if not np.allclose(y, expected, rtol=1e-4, atol=1e-5):
                wrong.append(y)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_code_that_others_add_while_data_is_bound(program, data, tensors, monkeypatch):
    program.mix(program.bind(**data), **tensors)
    built = program.mix._built
    (key, executable), *_ = built.items()
    more = ((1,) * len(key[0]), key[1])
    monkeypatch.setattr(type(executable), "prepare", lambda *_: built.update({more: executable}))
    program.bind(**data)
    assert more in built


def test_arguments_without_a_name(program, data, tensors):
    with pytest.raises(HectoriteError, match="was given 2 arguments without a name"):
        program.mix(program.bind(**data), tensors["h"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("W"), "`W` is missing"),
        (lambda t: t.update(w=t.pop("W")), "did you mean `W`"),
        (lambda t: t.update(h=t["h"].astype(np.float64)), "convert it"),
        (lambda t: t.update(h=t["h"][:5]), "has 5 in dimension 0 (node), which is 7"),
        (lambda t: t.update(h=t["h"][:, :3]), "has 5 in dimension 1 (I), which is 3"),
        (lambda t: t.update(h=None), "not an array"),
        (lambda t: t.update(h=[["a"]]), "`h`"),
        (lambda t: t.update(h=t["h"][0]), "1 dimension"),
    ],
)
def test_wrong_arguments_are_named(program, data, tensors, change, expected):
    change(tensors)
    with pytest.raises(HectoriteError) as error:
        program.mix(program.bind(**data), **tensors)
    assert expected in said(error)


def test_all_wrong_arguments_are_told_at_once(program, data):
    with pytest.raises(HectoriteError) as error:
        program.mix(program.bind(**data), x=1)
    assert len(error.value.diagnostics) == 3


def test_the_binding_is_asked_for(program, tensors):
    with pytest.raises(HectoriteError, match="needs its sets bound"):
        program.mix(**tensors)
    with pytest.raises(HectoriteError, match="what `bind` returns"):
        program.mix(tensors["h"], W=tensors["W"])
    other = hectorite.compile("set node\ndef f(x: f32[node]) -> f32[node] {\n return x\n}\n")
    with pytest.raises(HectoriteError, match="made for another program"):
        program.mix(other.bind(node=3), **tensors)


def test_accesses_out_of_range_are_found_before_anything_runs():
    program = hectorite.compile(
        "def shift(x: f32[N], k: f32[K]) -> f32[N] {\n y[n] += x[n + i] * k[i]\n return y\n}\n"
    )
    x, k = np.ones(5, np.float32), np.ones(2, np.float32)
    with pytest.raises(HectoriteError, match="`x` is read out of range: i \\+ n is 5"):
        program.shift(x=x, k=k)
    np.testing.assert_array_equal(program.shift(x=x, k=k[:1]), x)


def test_unknown_names(program):
    with pytest.raises(AttributeError, match="did you mean `mix`"):
        program.mixx  # noqa: B018
    with pytest.raises(HectoriteError, match="did you mean `mix`"):
        program["mixx"]
    with pytest.raises(HectoriteError, match="did you mean `cpu`"):
        hectorite.compile(PROGRAM, target="cpuu")
    with pytest.raises(HectoriteError, match="no function has a size `Q`"):
        hectorite.compile(PROGRAM, sizes={"Q": 3})
    with pytest.raises(HectoriteError, match="`node` is a set"):
        hectorite.compile(PROGRAM, sizes={"node": 3})
    with pytest.raises(HectoriteError, match="an integer from 0"):
        hectorite.compile(PROGRAM, sizes={"I": -1})
    with pytest.raises(HectoriteError, match="cannot read nowhere.hec"):
        hectorite.compile("nowhere.hec")
    with pytest.raises(HectoriteError, match="not there yet"):
        hectorite.grad(program)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hectorite.compile(PROGRAM, sizes=["I"]), "a mapping from names"),
        (lambda: hectorite.compile(PROGRAM, sizes={4: 4}), "no function has a size `4`"),
        (lambda: hectorite.compile(PROGRAM, function=3), "has no function `3`"),
        (lambda: hectorite.compile(PROGRAM)[3], "has no function `3`"),
        (lambda: hectorite.verify(PROGRAM, function=["mix"]), "has no function"),
        (lambda: hectorite.verify(PROGRAM, data={"node": 3}), "`data` is a dict"),
        (lambda: hectorite.verify(PROGRAM, seed="a"), "`seed` is a str"),
    ],
)
def test_arguments_of_wrong_types(call, message):
    with pytest.raises(HectoriteError, match=message):
        call()


def test_sizes_may_be_numpy_integers():
    assert "tile.kernel" in hectorite.emit(PROGRAM, "tile", {"I": np.int64(3), "O": np.int32(2)})


def test_a_size_that_only_the_result_names():
    text = "def fill(x: f32) -> f32[N] {\n y[n: N] = x\n return y\n}\n"
    with pytest.raises(HectoriteError, match="the size `N` of `fill` is not known"):
        hectorite.compile(text).fill(x=1.0)
    assert hectorite.compile(text, sizes={"N": 3}).fill(x=1.5).tolist() == [1.5, 1.5, 1.5]


def test_one_function_of_several():
    program = hectorite.compile(PROGRAM, function="mix")
    assert list(program.functions) == ["mix"]
    with pytest.raises(HectoriteError, match="did you mean `mix`"):
        hectorite.compile(PROGRAM, function="mx")


def test_warnings_are_raised_again_from_the_cache():
    text = "def f(W: f32[M, 4], b: f32[M]) -> f32[M] {\n y[m] += W[m, k] + b[m]\n return y\n}\n"
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hectorite.compile(text)
        assert any("added once for each" in str(warning.message) for warning in caught)


def test_the_second_compilation_never_parses(monkeypatch, data, tensors):
    text = PROGRAM.replace("mix", "stirred")
    program = hectorite.compile(text)
    expected = program.stirred(program.bind(**data), **tensors)

    def refuse(*_arguments):
        raise AssertionError("the program was parsed again")

    monkeypatch.setattr("hectorite.frontend.to_graph.program.load_source", refuse)
    again = hectorite.compile(text)
    np.testing.assert_array_equal(again.stirred(again.bind(**data), **tensors), expected)
    with pytest.raises(AssertionError):
        hectorite.compile(text, cache=False)


def test_an_imported_file_counts(tmp_path):
    (tmp_path / "scale.hec").write_text("fn scale(x) = x * 2\n")
    main = tmp_path / "main.hec"
    main.write_text('import "scale.hec"\ndef f(x: f32[N]) -> f32[N] {\n y[n] = scale(x[n])\n'
                    " return y\n}\n")  # fmt: skip
    x = np.ones(2, np.float32)
    assert hectorite.compile(main).f(x=x).tolist() == [2, 2]
    (tmp_path / "scale.hec").write_text("fn scale(x) = x * 3\n")
    assert hectorite.compile(main).f(x=x).tolist() == [3, 3]


def test_a_damaged_cache_counts_as_absent(data, tensors):
    text = PROGRAM.replace("mix", "damaged")
    hectorite.compile(text, sizes={"I": 5, "O": 4})
    for entry in default_cache().folder.glob("*.hecache"):
        entry.write_bytes(entry.read_bytes()[:-7])
    program = hectorite.compile(text)
    y = program.damaged(program.bind(**data), **tensors)
    np.testing.assert_allclose(y, mixed(data, **tensors), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", ["graph", "graph-opt", "tile", "llvm", "asm"])
def test_every_level_is_a_program_again(level, data, tensors):
    text = hectorite.emit(PROGRAM, level, sizes={"I": 5, "O": 4}, function="mix")
    assert text == hectorite.emit(PROGRAM, level, sizes={"I": 5, "O": 4}, function="mix")
    program = hectorite.compile(text)
    y = program.mix(program.bind(**data), **tensors)
    np.testing.assert_allclose(y, mixed(data, **tensors), rtol=1e-4, atol=1e-5)
    if level in ("graph", "graph-opt", "tile"):
        module = hectorite.parse(text)
        assert str(module) == text.rstrip("\n")


def test_emit_says_what_it_lacks():
    with pytest.raises(HectoriteError, match="the size `O` of `mix` is not given"):
        hectorite.emit(PROGRAM, "tile", function="mix", sizes={"I": 3})
    with pytest.raises(HectoriteError, match="one of graph, graph-opt, sparse, tile, llvm, asm"):
        hectorite.emit(PROGRAM, "spirv")


def test_checks_survive_in_emitted_code():
    text = "def next(x: f32[N]) -> f32[N] {\n y[n] = x[n + 1]\n return y\n}\n"
    code = hectorite.emit(text, "llvm", sizes={"N": 4})
    with pytest.raises(HectoriteError, match="out of range"):
        hectorite.compile(code).next(x=np.ones(4, np.float32))


def test_bind_and_verify():
    graph = hectorite.bind(PROGRAM, edge={"src": [0], "dst": [1], "type": [0]}, node=2, etype=1)
    assert graph.size("edge") == 1
    report = hectorite.verify(PROGRAM, function="mix")
    assert report, str(report)
    assert {"graph", "graph-opt", "tile", "llvm", "asm"} <= {r.level for r in report.rows}


BROKEN = [
    "",
    "\n",
    "def\n",
    "def f(x: f32[N]) -> f32[N] {\n",
    "graph.func @f(\n",
    "graph.set @a {b: c}\ngraph.func @f() -> () { graph.return }\n",
    '"graph.set"() : () -> ()\n',
    "tile.program @f(%x: !hec.tensor<f32[\n",
    "tile.kernel @k(%t: index) {\n tile.end\n}\n",
    "builtin.module {\n  graph.nothing\n}\n",
    "; hectorite plan 1\n; {\n",
    "# hectorite plan 1\n# {}\n.text\n",
    "\x00\n",
    "set a\udc80\n",
    "; hectorite plan 1\n"
    '; {"name": "f", "sets": ["graph.set n"], "parameters": [], "results": [], "steps": []}\n',
    "set a { b: a }\ndef f(x: f32[a]) -> f32[a] {\n y[n] = x[n.b.c]\n return y\n}\n",
]


@pytest.mark.parametrize("text", BROKEN)
def test_broken_programs_end_in_diagnostics(text):
    for use in (hectorite.parse, hectorite.emit, hectorite.compile):
        try:
            use(text + "\n")
        except HectoriteError as error:
            assert error.diagnostics


UNDECLARED = [
    ("{src: node, dst: node}", "{src: nodes, dst: node}", "there is no set `nodes`"),
    ("[e.src, i]", "[e.scr, i]", "did you mean `src`"),
    ("add [e.dst, i]", "add [e.dst.src, i]", "field of `node` called `src`"),
    ("(e: edge, i: I)", "(e: I, i: I)", "there is no set `I`"),
]


@pytest.mark.parametrize(("old", "new", "message"), UNDECLARED)
def test_undeclared_names_in_ir(old, new, message):
    text = hectorite.emit("""
set node
set edge { src: node, dst: node }
def f(x: f32[node, I]) -> f32[node, I] {
  y[e.dst, i] += x[e.src, i]
  return y
}
""")
    assert old in text
    with pytest.raises(HectoriteError) as error:
        hectorite.parse(text.replace(old, new))
    assert message in said(error)
