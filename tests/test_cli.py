"""The command line: what each command prints, and that no input ends in a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

GRAPH = """
set node
set edge { src: node, dst: node }
def sum(x: f32[node, I], w: f32[edge]) -> f32[node, I] {
  y[e.dst, i] += x[e.src, i] * w[e]
  return y
}
"""

WRONG = """
def f(x: f32[N]) -> f32[N] {
  y[n] = xx[n]
  z[n] = x[n] + qq
  return y
}
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "sum.hec"
    path.write_text(GRAPH)
    return path


@pytest.fixture
def graph(tmp_path):
    path = tmp_path / "graph.npz"
    src, dst = np.array([0, 1, 2, 2], np.int32), np.array([1, 1, 0, 3], np.int32)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(path, **{"node": 4, "edge.src": src, "edge.dst": dst, "x": x})
    return path


def test_run(hectorite, program, graph, tmp_path):
    out = tmp_path / "out.npz"
    status, printed, said = hectorite("run", program, "--data", graph, "--out", out, "--time")
    assert status == 0, said
    assert "y       f32[node, I]  4 x 2" in printed
    assert "compile" in printed
    assert "drawn from the seed 0: w" in said
    again = tmp_path / "again.npz"
    command = ("run", program, "--data", graph, "--target", "reference", "--out", again)
    assert hectorite(*command)[0] == 0
    with np.load(out) as one, np.load(again) as other:
        np.testing.assert_allclose(one["y"], other["y"], rtol=1e-5)


def test_run_as_json(hectorite, program, graph):
    command = ("run", program, "--data", graph, "--json", "--time", "--seed", 3)
    status, printed, said = hectorite(*command)
    assert status == 0, said
    facts = json.loads(printed)
    assert facts["sizes"] == {"I": 2}
    assert facts["drawn"] == ["w"]
    assert facts["results"][0]["shape"] == [4, 2]
    assert set(facts["seconds"]) == {"compile", "bind", "first run", "run"}


def test_a_size_that_nothing_determines_is_64_and_told(hectorite, program):
    status, printed, said = hectorite("run", program, "--data", "ast:json.decoder")
    assert status == 0, said
    assert "x 64" in printed
    assert "I = 64" in said


def test_check(hectorite, program, tmp_path):
    assert hectorite("check", program)[:2] == (
        0,
        "sum(x: f32[node, I], w: f32[edge]) -> f32[node, I]\n",
    )
    wrong = tmp_path / "wrong.hec"
    wrong.write_text(WRONG)
    status, printed, said = hectorite("check", wrong)
    assert status == 1
    assert not printed
    assert f"{wrong}:3:10: error:" in said
    assert said.count("error:") == 2
    assert "^^" in said
    status, printed, said = hectorite("check", wrong, "--json")
    assert status == 1
    assert [fault["span"]["line"] for fault in json.loads(printed)["errors"]] == [3, 4]


@pytest.mark.parametrize("level", ["graph", "graph-opt", "tile", "llvm", "asm"])
def test_emitted_text_runs(hectorite, program, graph, tmp_path, level):
    file = tmp_path / "emitted"
    status, _, said = hectorite("emit", program, "--level", level, "--size", "I=2", "--out", file)
    assert status == 0, said
    status, printed, said = hectorite("run", file, "--data", graph, "--json")
    assert status == 0, said
    expected = json.loads(hectorite("run", program, "--data", graph, "--json")[1])
    norm = expected["results"][0]["norm"]
    assert json.loads(printed)["results"][0]["norm"] == pytest.approx(norm, rel=1e-5)
    assert hectorite("check", file)[0] == 0


def test_verify(hectorite, program, graph, tmp_path):
    status, printed, said = hectorite("verify", program)
    assert status == 0, said
    assert "all agree" in printed
    status, printed, said = hectorite("verify", program, "--data", graph, "--json")
    assert status == 0, said
    assert all(row["ok"] for row in json.loads(printed)["rows"])
    code = tmp_path / "code"
    hectorite("emit", program, "--level", "tile", "--size", "I=2", "--out", code)
    assert hectorite("verify", code)[0] == 0


def test_verify_finds_what_is_wrong(hectorite, program, tmp_path):
    emitted = tmp_path / "emitted.mlir"
    hectorite("emit", program, "--level", "tile", "--size", "I=2", "--out", emitted)
    text = emitted.read_text()
    assert "scalar.mul" in text
    # A tile program says itself what it means, so a fault shows as one of its own checks.
    broken = text.replace("tile.launch", "// tile.launch", 1)
    emitted.write_text(broken)
    status, printed, said = hectorite("verify", emitted)
    assert status == 1
    assert "nothing has written it" in printed + said


def test_opt(hectorite, tmp_path):
    file = tmp_path / "sets.mlir"
    file.write_text("graph.set @node\n")
    assert "graph.set @node" in hectorite("opt", file)[1]
    assert hectorite("opt", file, "-p", "nothing")[0] == 1
    file.write_text("graph.sett @node\n")
    status, _, said = hectorite("opt", file)
    assert status == 1
    assert "error:" in said


FAULTS = [
    ("run", "nowhere.hec"),
    ("run", "{program}"),
    ("run", "{program}", "--data", "nowhere.npz"),
    ("run", "{program}", "--data", "ast:no_such_package"),
    ("run", "{program}", "--data", "{program}"),
    ("run", "{program}", "--data", "{graph}", "--fn", "sun"),
    ("run", "{program}", "--data", "{graph}", "--target", "gpu"),
    ("run", "{program}", "--data", "{graph}", "--size", "I=3"),
    ("run", "{program}", "--data", "{graph}", "--size", "Q=3"),
    ("run", "{program}", "--data", "{graph}", "--out", "/nowhere/out.npz"),
    ("run", "{program}", "--data", "ast:json", "--size", "I=2000000000"),
    ("run", "{program}", "--data", "ast:json", "--size", "I=99999999999999999999"),
    ("run", "{graph}"),
    ("run", "/"),
    ("emit", "{program}", "--level", "nothing"),
    ("emit", "{program}", "--forbid", "merge"),
    ("emit", "{program}", "--data", "{graph}"),
    ("emit", "{program}", "--out", "/nowhere/out"),
    ("check", "nowhere.hec"),
    ("verify", "{program}", "--data", "nowhere.npz"),
    ("opt", "nowhere.mlir"),
    ("opt", "{program}", "-p", "canonicalize-graph["),
    ("opt", "{program}", "-p", "canonicalize-graph{{"),
]


@pytest.mark.parametrize("command", FAULTS, ids=" ".join)
def test_faults_are_messages(hectorite, program, graph, command):
    words = [word.format(program=program, graph=graph) for word in command]
    status, _, said = hectorite(*words)
    assert status == 1
    assert "error:" in said
    assert "Traceback" not in said


def test_wrong_arguments(hectorite, program):
    assert hectorite("run", program, "--size", "I")[0] == 2
    assert hectorite("walk", program)[0] == 2
    assert hectorite()[0] == 2
    assert hectorite("--help")[0] == 0


def test_a_closed_pipe_is_no_fault(program):
    command = [sys.executable, "-m", "hectorite.frontend.cli", "emit", str(program)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_the_first_error_of_ir_has_its_place(hectorite, tmp_path):
    file = tmp_path / "wrong.mlir"
    file.write_text("graph.set @node\ngraph.set @edge {src node}\n")
    status, _, said = hectorite("check", file)
    assert status == 1
    assert f"{file}:2:22: error:" in said or f"{file}:2:21: error:" in said


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.hec")), ids=lambda path: path.stem)
def test_examples_verify(hectorite, path):
    status, printed, said = hectorite("verify", path)
    assert status == 0, printed + said


def test_verify_takes_the_ptx_of_another_gpu(hectorite, tmp_path):
    program = tmp_path / "f.hec"
    program.write_text(
        "def f(A: f16[M, K], B: f16[K, N]) -> f32[M, N] {\n"
        "  C[m, n] += A[m, k] * B[k, n]\n  return C\n}\n"
    )
    sizes = [part for name in "MNK" for part in ("--size", f"{name}=32")]
    status, printed, said = hectorite("verify", program, *sizes, "--target", "sm_90a")
    assert status == 0, said
    assert "all agree" in printed
    status, _, said = hectorite("verify", program, *sizes, "--target", "sm_9")
    assert status == 1 and "there is no target `sm_9`" in said
