"""Syntax trees of installed packages as relational graphs."""

import ast
from pathlib import Path

import numpy as np
import pytest

from hectorite.frontend.data.file import load_data
from hectorite.frontend.data.syntax_trees import syntax_graph
from hectorite.ir.diagnostics import HectoriteError


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "clay_sample"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('never run')\n")
    (folder / "broken.py").write_text("def (:\n")
    (folder / "binary.py").write_bytes(b"\x00\xff\xfe")
    (folder / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (folder / "inner" / "sums.py").write_text("y = a + b\nw = '\\d'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "clay_sample"


def test_nodes_and_edges(package: str):
    graph = syntax_graph(package)
    tree = ast.parse("y = a + b\nw = '\\\\d'\n")
    operands = [n for n in ast.walk(tree) if not isinstance(n, ast.expr_context)]
    first = ast.parse("raise SystemExit('never run')\n")
    first_nodes = [n for n in ast.walk(first) if not isinstance(n, ast.expr_context)]
    assert int(graph["node"]) == len(operands) + len(first_nodes)
    forward = int(graph["edge"]) // 2
    assert forward == int(graph["node"]) - 2
    src, dst, kind = (graph[f"edge.{name}"] for name in ("src", "dst", "type"))
    assert (src[:forward] == dst[forward:]).all() and (dst[:forward] == src[forward:]).all()
    assert (kind[forward:] - kind[:forward] == int(graph["etype"]) // 2).all()
    assert kind.max() == int(graph["etype"]) - 1
    assert graph["node.type"].max() == int(graph["ntype"]) - 1
    assert len(np.unique(dst[:forward])) == forward, "a node has one parent"
    assert all(graph[name].dtype == np.int32 for name in graph if "." in name)


def test_modules_and_the_data_convention():
    calls: list[tuple[int, int]] = []
    data = load_data("ast:json.decoder", lambda done, count: calls.append((done, count)))
    assert int(data["node"]) > 500 and calls[-1] == (1, 1)
    again = load_data("ast:json.decoder")
    assert all((data[key] == again[key]).all() for key in data.keys)  # noqa: SIM118


@pytest.mark.parametrize("name", ["no_such_thing", "", "..", "a b", "json.nothing"])
def test_unknown_packages(name: str):
    with pytest.raises(HectoriteError, match="no installed Python package"):
        syntax_graph(name)


def test_a_package_without_source():
    with pytest.raises(HectoriteError, match="no Python source"):
        syntax_graph("sys")


def test_a_near_name():
    with pytest.raises(HectoriteError, match="did you mean `numpy`"):
        syntax_graph("nunpy")
