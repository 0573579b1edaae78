"""Graphs of other libraries."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.adaptors import from_hetero_data, from_networkx, from_scipy
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema, SetDecl

MATRIX = Schema(
    {
        "row": SetDecl("row"),
        "col": SetDecl("col"),
        "nz": SetDecl("nz", (("row", "row"), ("col", "col"))),
    }
)
GRAPH = Schema(
    {
        "ntype": SetDecl("ntype"),
        "etype": SetDecl("etype"),
        "node": SetDecl("node", (("type", "ntype"),)),
        "edge": SetDecl("edge", (("src", "node"), ("dst", "node"), ("type", "etype"))),
    }
)


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "dok", "lil", "bsr", "dia"])
def test_scipy(kind: str):
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.random(7, 5, 0.4, format=kind, random_state=0)
    binding = Binding(MATRIX, from_scipy(matrix))
    dense = np.zeros((7, 5))
    np.add.at(dense, (binding.map("nz", "row"), binding.map("nz", "col")), matrix.tocoo().data)
    assert (dense == matrix.toarray()).all()
    assert (binding.size("row"), binding.size("col")) == (7, 5)


def test_scipy_names():
    sparse = pytest.importorskip("scipy.sparse")
    sets = from_scipy(sparse.eye(3).tocsr(), "edge", "src", "dst", "node", "node")
    assert set(sets) == {"edge", "node"} and set(sets["edge"]) == {"src", "dst"}
    with pytest.raises(HectoriteError, match="3 by 4 matrix"):
        from_scipy(sparse.eye(3, 4), rows="node", cols="node")
    with pytest.raises(HectoriteError, match="of type ndarray"):
        from_scipy(np.eye(3))


class Hetero(dict[Any, Any]):
    """As PyG's HeteroData: stores by node type and by (source, relation, target)."""

    @property
    def node_types(self) -> list[str]:
        return [key for key in self if isinstance(key, str)]

    @property
    def edge_types(self) -> list[tuple[str, str, str]]:
        return [key for key in self if isinstance(key, tuple)]


def hetero() -> Hetero:
    writes = np.array([[0, 1, 1], [3, 0, 2]])
    return Hetero(
        {
            "author": SimpleNamespace(num_nodes=2),
            "paper": SimpleNamespace(num_nodes=4),
            ("author", "writes", "paper"): SimpleNamespace(edge_index=writes),
            ("paper", "cites", "paper"): SimpleNamespace(edge_index=np.array([[0], [1]])),
        }
    )


def test_hetero_data():
    sets = from_hetero_data(hetero())
    assert sets["node"]["type"].tolist() == [0, 0, 1, 1, 1, 1]
    assert sets["edge"]["src"].tolist() == [0, 1, 1, 2]
    assert sets["edge"]["dst"].tolist() == [5, 2, 4, 3]
    assert sets["edge"]["type"].tolist() == [0, 0, 0, 1]
    assert Binding(GRAPH, sets).size("etype") == 2
    sets = from_hetero_data(hetero(), reverse=True)
    assert sets["edge"]["src"].tolist() == [0, 1, 1, 2, 5, 2, 4, 3]
    assert sets["edge"]["type"].tolist() == [0, 0, 0, 1, 2, 2, 2, 3]
    assert Binding(GRAPH, sets).size("edge") == 8
    assert Binding(GRAPH, from_hetero_data(Hetero())).size("edge") == 0


@pytest.mark.parametrize(
    ("key", "store", "message"),
    [
        ("paper", SimpleNamespace(), "number of nodes of type `paper` is not known"),
        ("paper", SimpleNamespace(num_nodes=3), "has 3 in column 0"),
        (("author", "likes", "song"), SimpleNamespace(), "number of nodes of type `song`"),
        (("author", "writes", "paper"), SimpleNamespace(edge_index=np.eye(2)), "is float64"),
        (("author", "writes", "paper"), SimpleNamespace(), "edge_index"),
    ],
)
def test_faulty_hetero_data(key: Any, store: Any, message: str):
    data = hetero()
    data[key] = store
    with pytest.raises(HectoriteError, match=message):
        from_hetero_data(data)
    with pytest.raises(HectoriteError, match="of type int"):
        from_hetero_data(3)


def test_networkx():
    networkx = pytest.importorskip("networkx")
    graph = networkx.MultiDiGraph()
    graph.add_node("b", kind="y")
    graph.add_node("a", kind="x")
    graph.add_edges_from([("b", "a", {"r": 2}), ("b", "a", {"r": 1}), ("a", "a", {"r": 2})])
    sets = from_networkx(graph, node_type="kind", edge_type="r")
    assert sets["node"]["type"].tolist() == [1, 0]
    assert sets["edge"]["src"].tolist() == [0, 0, 1]
    assert sets["edge"]["type"].tolist() == [1, 0, 1]
    assert Binding(GRAPH, sets).size("node") == 2
    with pytest.raises(HectoriteError, match="has no attribute `kind`"):
        from_networkx(graph, edge_type="kind")


def test_undirected_networkx():
    networkx = pytest.importorskip("networkx")
    sets = from_networkx(networkx.Graph([(0, 1), (1, 1), (1, 2)]))
    assert sets["edge"]["src"].tolist() == [0, 1, 1, 1, 2]
    assert sets["edge"]["dst"].tolist() == [1, 1, 2, 0, 1]
    assert sets["node"] == 3
    with pytest.raises(HectoriteError, match="of type list"):
        from_networkx([])
