"""Hypergraph convolution: from vertices to hyperedges and back, over the pins that join them.

Enters: a case whose graph is `file:NAME` (maps pin.v, pin.h) or `random:VERTICES:HYPEREDGES`.
Leaves: its pins sorted by hyperedge, features of `width` channels, a weight for each pin there and
one back.

    n, m, v h [pins] sorted by h, X [n, width], wv wh [pins]
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.cases import Case, Data, generator
from benchmarks.families import Kind
from benchmarks.peers.table import OURS, Call, peer
from benchmarks.peers.torch_sparse_ops import indices, tensor, threaded_torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "hypergraph.hec"
PINS = 4
"""Mean vertices of a random hyperedge."""


def cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """Co-authorship at two widths, or a random hypergraph."""
    if data_dir is None or quick:
        return [_case("random", "random:2000:1000", 64)]
    return [_case("dblp", "file:hyper_dblp", width) for width in (64, 128)]


def _case(name: str, graph: str, width: int) -> Case:
    return Case("sparse", f"hyper{width}.{name}", "hyper", graph, width)


def build(case: Case, data_dir: Path | None) -> Data:
    """The pins of a case, and what is convolved."""
    source, *rest = case.graph.split(":")
    rng = generator(case.name, case.graph)
    if source == "file":
        with np.load((data_dir or Path()) / f"{rest[0]}.npz") as file:
            v, h = file["pin.v"], file["pin.h"]
            n, m = int(file["vertex"]), int(file["hyperedge"])
    else:
        n, m = map(int, rest)
        v, h = rng.integers(0, n, PINS * m), rng.integers(0, m, PINS * m)
    order = np.argsort(h, kind="stable")
    maps = {"v": v[order].astype(np.int32), "h": h[order].astype(np.int32)}
    features = rng.standard_normal((n, case.width), np.float32)
    weights = {name: rng.random(len(v), np.float32) for name in ("wv", "wh")}
    return {"n": n, "m": m, "X": features, **maps, **weights}


def expected(data: Data) -> np.ndarray:
    """Both steps, one after the other."""
    features, v, h = data["X"], data["v"], data["h"]
    edges = np.zeros((data["m"], features.shape[1]))
    np.add.at(edges, h, features[v] * data["wv"][:, None])
    result = np.zeros((data["n"], features.shape[1]))
    np.add.at(result, v, edges[h] * data["wh"][:, None])
    return result


@peer(OURS, OURS, "hyper")
def compiled(data: Data, case: Case) -> Call:
    import hectorite

    program = hectorite.compile(EXAMPLE, sizes={"O": case.width})
    pins = {field: data[field] for field in ("v", "h")}
    graph = program.bind(vertex=data["n"], hyperedge=data["m"], pin=pins)
    given = {name: data[name] for name in ("X", "wv", "wh")}
    return lambda: program.hypergraph(graph, **given)


@peer("torch sparse CSR", "torch", "hyper")
def two_sparse_products(data: Data, case: Case) -> Call:
    """Two products with sparse matrices, as hypergraph layers of libraries do them."""
    torch = threaded_torch()
    v, h, n, m = data["v"], data["h"], data["n"], data["m"]
    there = _compressed(torch, h, v, data["wv"], (m, n))
    back = _compressed(torch, v, h, data["wh"], (n, m))
    features = tensor(data["X"])
    return lambda: back @ (there @ features)


@peer("torch gather-scatter", "torch", "hyper")
def gather_scatter(data: Data, case: Case) -> Call:
    """Gather, scale and add, twice."""
    torch = threaded_torch()
    v, h = indices(data["v"]), indices(data["h"])
    there, back = tensor(data["wv"])[:, None], tensor(data["wh"])[:, None]
    features, n, m = tensor(data["X"]), data["n"], data["m"]

    def call() -> object:
        edges = torch.zeros(m, features.shape[1]).index_add_(0, h, features[v] * there)
        return torch.zeros(n, features.shape[1]).index_add_(0, v, edges[h] * back)

    return call


def _compressed(torch, row: np.ndarray, col: np.ndarray, values: np.ndarray, shape):
    """A sparse matrix in compressed rows; entries at the same place add up."""
    places = torch.stack([indices(row), indices(col)])
    matrix = torch.sparse_coo_tensor(places, tensor(values), shape)
    return matrix.coalesce().to_sparse_csr()


KINDS = (Kind("hyper", cases, build, expected, _case("small", "random:60:30", 32)),)
