"""The benchmark harness: its data, its reference, its arithmetic, and a race of real processes.

Nothing here asserts a time. Peers that are not installed must be reported as skipped.
"""

from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest

from benchmarks import cases, machine, native, race, reference, report, run
from benchmarks.peers.table import OURS, Peer, Skip, all_peers
from tests.driver import stand_in

KINDS = ("rgcn", "rgat", "hgt", "spmm", "spmv", "sddmm", "gat", "gemm", "gemm16")


def small_case(kind: str) -> cases.Case:
    tolerance = 5e-3 if kind == "gemm16" else 1e-4
    return cases.miniature(cases.Case("test", f"{kind}.small", kind, tolerance=tolerance))


def named(name: str, kind: str) -> Peer:
    return next(p for p in all_peers() if p.name == name and kind in p.kinds)


def test_power_law_matrix_has_distinct_sorted_entries():
    row, col = cases.power_law_matrix(500, 8)
    keys = row.astype(np.int64) * 500 + col
    assert len(keys) == 4000
    assert (np.diff(keys) > 0).all()
    assert np.bincount(row).max() > 4 * 8  # skewed


def test_relations_join_one_pair_of_node_types():
    graph = cases.sorted_by_type(cases.relational_graph(200, 1000, 12, 3))
    assert (np.diff(graph["type"]) >= 0).all()
    for r in range(graph["R"]):
        edges = graph["type"] == r
        for end in ("src", "dst"):
            assert len(np.unique(graph["ntype"][graph[end][edges]])) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_data_is_the_same_on_every_call(kind):
    first, second = (cases.build(small_case(kind), None) for _ in range(2))
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def edges_of(data: cases.Data):
    return zip(data["src"], data["dst"], data["type"], strict=True)


def softmax_into(scores: dict[int, list[tuple[int, float]]]) -> dict[int, float]:
    """Weight of each edge, from the (edge, score) pairs of each destination."""
    weight = {}
    for pairs in scores.values():
        total = sum(math.exp(score) for _, score in pairs)
        weight |= {edge: math.exp(score) / total for edge, score in pairs}
    return weight


def leaky(score: float) -> float:
    return score if score > 0 else cases.SLOPE * score


def test_rgcn_reference_edge_by_edge():
    case = small_case("rgcn")
    d = cases.build(case, None)
    y = d["h"].astype(float) @ d["W0"]
    for e, (s, t, r) in enumerate(edges_of(d)):
        y[t] += d["norm"][e] * (d["h"][s].astype(float) @ d["W"][r])
    assert reference.relative_error(np.maximum(y, 0), reference.expected(case, d)) < 1e-6


def test_rgat_reference_edge_by_edge():
    case = small_case("rgat")
    d = cases.build(case, None)
    scores: dict[int, list[tuple[int, float]]] = {}
    message = {}
    for e, (s, t, r) in enumerate(edges_of(d)):
        message[e] = d["h"][s].astype(float) @ d["W"][r]
        target = d["h"][t].astype(float) @ d["W"][r]
        scores.setdefault(t, []).append((e, leaky(message[e] @ d["al"][r] + target @ d["ar"][r])))
    y = np.zeros((d["n"], 64))
    weight = softmax_into(scores)
    for e, t in enumerate(d["dst"]):
        y[t] += weight[e] * message[e]
    assert reference.relative_error(y, reference.expected(case, d)) < 1e-6


def test_hgt_reference_edge_by_edge():
    case = small_case("hgt")
    d = cases.build(case, None)
    wide = {name: d[name].astype(float).reshape(-1, 64, 64) for name in ("Wk", "Wq", "Wv", "Wo")}
    wide |= {name: d[name].astype(float).reshape(-1, 64, 64) for name in ("Wa", "Wm")}
    node = {
        name: np.stack([d["h"][i].astype(float) @ wide[name][k] for i, k in enumerate(d["ntype"])])
        for name in ("Wk", "Wq", "Wv")
    }
    scores: dict[int, list[tuple[int, float]]] = {}
    for e, (s, t, r) in enumerate(edges_of(d)):
        score = node["Wk"][s] @ wide["Wa"][r] @ node["Wq"][t] * d["mu"][r, 0] / 8
        scores.setdefault(t, []).append((e, score))
    weight, total = softmax_into(scores), np.zeros((d["n"], 64))
    for e, (s, t, r) in enumerate(edges_of(d)):
        total[t] += weight[e] * (node["Wv"][s] @ wide["Wm"][r])
    gelu = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(total)
    y = np.stack([gelu[i] @ wide["Wo"][k] for i, k in enumerate(d["ntype"])])
    assert reference.relative_error(y, reference.expected(case, d)) < 1e-6


def test_gat_reference_entry_by_entry():
    case = small_case("gat")
    d = cases.build(case, None)
    z = np.einsum("ni,iko->nko", d["x"].astype(float), d["W"])
    y = np.zeros(z.shape)
    for k in range(cases.HEADS):
        scores: dict[int, list[tuple[int, float]]] = {}
        for e, (i, j) in enumerate(zip(d["row"], d["col"], strict=True)):
            score = leaky(z[j, k] @ d["al"][k] + z[i, k] @ d["ar"][k])
            scores.setdefault(i, []).append((e, score))
        for e, weight in softmax_into(scores).items():
            y[d["row"][e], k] += weight * z[d["col"][e], k]
    assert reference.relative_error(y, reference.expected(case, d)) < 1e-6


@pytest.mark.parametrize("kind", ["spmm", "spmv", "sddmm", "gat"])
def test_hand_written_kernels_compute_the_reference(kind):
    case = small_case(kind)
    data = cases.build(case, None)
    try:
        result = named("C expert", kind).prepare(data, case)()
    except Skip as reason:
        pytest.skip(str(reason))
    assert reference.relative_error(result, reference.expected(case, data)) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_our_programs_compute_the_reference(kind):
    case = small_case(kind)
    data = cases.build(case, None)
    result = named(OURS, kind).prepare(data, case)()
    error = reference.relative_error(np.asarray(result), reference.expected(case, data))
    assert error < case.tolerance


def test_without_a_compiler_the_rows_are_skipped(monkeypatch):
    native.library.cache_clear()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    case = small_case("spmm")
    try:
        with pytest.raises(Skip, match="no C compiler"):
            named("C expert", "spmm").prepare(cases.build(case, None), case)
        assert "NumPy" in machine.measure(0.0, 1).source
    finally:
        native.library.cache_clear()


def test_errors():
    one = np.ones((2, 2))
    assert reference.relative_error(one, one) == 0
    assert reference.relative_error(one, 2 * one) == 0.5
    assert reference.relative_error(one[0], one) == math.inf
    assert reference.relative_error(one * np.nan, one) == math.inf


def test_bound_of_a_product_is_its_arithmetic():
    limits = machine.Limits(1e9, 1e12, {(10_000, 64): 1e12}, "made up")
    case = cases.Case("dense", "product", "gemm", shape=(10, 20, 30))
    assert machine.bound(case, {}, limits) == pytest.approx(2 * 10 * 20 * 30 / 1e9)


def test_median_is_over_undisturbed_calls():
    entry = race.Entry(named("scipy", "spmm"))
    entry.samples = [(1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (50.0, 40.0)]
    assert (entry.median, entry.undisturbed) == (2.0, 3)
    entry.samples = [(1.0, 0.0), (2.0, 0.1), (3.0, 0.3), (4.0, 2.0), (9.0, 7.0)]
    assert (entry.median, entry.undisturbed) == (2.0, 1)


def test_ratios_compare_with_the_best():
    def entry(name, kind, seconds, reason=""):
        return race.Entry(named(name, kind), reason=reason, samples=[(seconds, 0.0)] * 3)

    entries = [
        entry(OURS, "spmm", 2.0),
        entry("scipy", "spmm", 8.0),
        entry("MKL", "spmm", 6.0),
        entry("C expert", "spmm", 1.0),
        entry("numba", "spmm", 0.1, reason="wrong result"),
    ]
    rows, skipped = report.rows_of(small_case("spmm"), 0.5, entries)
    assert [row.who for row in rows] == ["C expert", OURS, "MKL", "scipy"]
    assert [left_out.who for left_out in skipped] == ["numba"]
    assert (rows[1].ratio, rows[1].ratio_expert) == (3.0, 0.5)
    keys = {"suite", "case", "kind", "who", "median_s", "spread", "error", "bound_s", "peak_mb"}
    keys |= {"calls", "undisturbed"}
    assert set(rows[0].as_json()) == keys
    assert set(rows[1].as_json()) == keys | {"ratio", "ratio_expert"}


@pytest.fixture
def arena(tmp_path):
    with race.Arena(tmp_path, threads=1, rounds=2, turn=0.0, wait=0.0, limit=8 << 30) as made:
        yield made


def test_race_in_processes(arena):
    case = small_case("spmm")
    data = cases.build(case, None)
    peers = [named(name, "spmm") for name in ("scipy", "C expert", "DGL")]
    scipy, expert, absent = arena.race(case, data, reference.expected(case, data), peers)
    assert scipy.reason == ""
    assert len(scipy.samples) >= 2
    assert scipy.error < 1e-6
    assert expert.samples or "ompiler" in expert.reason
    assert absent.samples or "not installed" in absent.reason


def test_a_wrong_result_does_not_compete(arena):
    case = small_case("spmm")
    data = cases.build(case, None)
    wrong = reference.expected(case, data) + 1
    [entry] = arena.race(case, data, wrong, [named("scipy", "spmm")])
    assert "wrong result" in entry.reason
    assert not entry.samples


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "measure", lambda seconds, threads: machine.Limits(1, 1, {}, "none"))
    out = tmp_path / "rows.json"
    flags = ["--quick", "--rounds", "1", "--threads", "1", "--peers", "numpy", "--json", str(out)]
    assert run.main(["dense", "--only", "333x", *flags]) == 0
    [row] = json.loads(out.read_text())
    assert (row["suite"], row["who"]) == ("dense", "numpy (OpenBLAS)")
    assert "333x257x61" in capsys.readouterr().out
    assert run.main(["rgnn", "--data-dir", str(tmp_path), *flags]) == 0
    assert "no file" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run.main(["rgnn", "--data-dir", str(tmp_path / "absent")])
    assert stop.value.code == 2


RACE = """
import sys
from benchmarks import run
sys.exit(run.main(sys.argv[1:] + {arguments!r}))
"""


@pytest.mark.skipif(stand_in.COMPILER is None, reason="no C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is for Linux")
def test_a_race_on_a_gpu(tmp_path):
    pytest.importorskip("cuda.bindings.driver")
    folder = stand_in.build(tmp_path)
    written = tmp_path / "rows.json"
    for suite, only in (("sparse", "spmm64.10k"), ("dense", "f16.")):
        arguments = [suite, "--quick", "--target", "cuda", "--only", only, "--rounds", "1"]
        arguments += ["--peers", OURS, "--json", str(written)]
        done = stand_in.run(folder, RACE.format(arguments=arguments))
        assert done.returncode == 0, done.stdout + done.stderr
        facts = json.loads(written.read_text())
        assert facts["device"] == "stand-in"
        assert facts["rates"]["copy"] > 0
        assert {row["who"] for row in facts["rows"]} == {OURS, f"{OURS}, recorded"}
        assert all(row["median_s"] > 0 for row in facts["rows"])


def test_a_race_without_a_gpu_is_one_line(monkeypatch, capfd):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run.main(["sparse", "--quick", "--target", "cuda"]) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.startswith("no GPU: ")
