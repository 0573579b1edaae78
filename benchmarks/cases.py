"""The cases of each suite, and their data.

Enters: a suite, and a folder of real graphs (`.npz`, keys as `hectorite run --data` reads them) or
none. Leaves: `Case` records, and for a case a dictionary of NumPy arrays that every peer is given.
Kinds with a file of their own in `families/` join the suite `sparse`.

Data by kind (float32 and int32; sizes are plain integers):

    rgcn   n, R, T, src dst type [E] sorted by type, ntype [n], h [n, 64],
           W [R, 64, 64], W0 [64, 64], norm [E]
    rgat   the same graph and h, W [R, 64, 64], al ar [R, 64]
    hgt    the same graph and h, Wk Wq Wv [T, 64, 1, 64], Wa Wm [R, 1, 64, 64], mu [R, 1],
           Wo [T, 1, 64, 64]
    spmm   n, row col [nz] sorted by row, indptr [n + 1], A [nz], B [n, F]
    spmv   the same matrix, x [n]
    sddmm  the same matrix, P Q [n, F]
    gat    the same matrix (row receives from col), x [n, 64], W [64, 4, 16], al ar [4, 16]
    gemm   A [M, K], B [K, N]
    gemm16 the same in float16 (on GPUs)
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.families import Kind

Data = dict[str, "np.ndarray | int"]

FEATURES = 64
HEADS = 4
SLOPE = 0.2

RELATIONAL_FILES = ("aifb", "fb15k237", "wn18rr")
MATRIX_FILES = ("cora", "pubmed", "ca_condmat", "bcsstk13", "rajat01")
WIDTHS = (32, 64, 128)
POWER_LAW = ((10_000, 8), (10_000, 32), (100_000, 8), (100_000, 32))
PRODUCTS = (
    (1024, 1024, 1024),
    (4096, 1024, 1024),
    (1000, 1000, 1000),
    (1023, 511, 257),
    (20_000, 64, 64),
    (333, 4097, 61),
)

PRODUCTS_16 = ((4096, 4096, 4096), (8192, 1024, 1024), (1000, 1000, 1000))


@dataclass(frozen=True)
class Case:
    """One thing to race: what is computed (`kind`), on which graph, at which sizes.

    `graph` is `file:NAME`, `power:ROWS:DEGREE`, `relations:NODES:EDGES:RELATIONS:TYPES` or empty.
    `width` is the number of features of a sparse product, `shape` the M, K, N of a dense one.
    """

    suite: str
    name: str
    kind: str
    graph: str = ""
    width: int = FEATURES
    shape: tuple[int, int, int] = (0, 0, 0)
    tolerance: float = 1e-4
    target: str = "cpu"


@dataclass(frozen=True)
class Goal:
    """How many times as fast as the best public peer we want to be in every case (`ratio`) and in
    geometric `mean`, and as the hand-written version in every case. None: nothing is wanted."""

    ratio: float | None = None
    mean: float | None = None
    ratio_expert: float | None = None


GOALS = {"spmm": Goal(1.0, 1.8, 0.9), "sddmm": Goal(1.2, None, 0.9)}


def goal(kind: str) -> Goal:
    """What is wanted of the cases of a kind."""
    own = families().get(kind)
    return own.goal if own else GOALS.get(kind, Goal())


def rgnn_cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """Relational layers, 64 features in and out, one head, forward."""
    if data_dir is None:
        graphs = {"synthetic": "relations:7262:48810:104:7"}
    else:
        names = RELATIONAL_FILES[:1] if quick else RELATIONAL_FILES
        graphs = {name: f"file:{name}" for name in names}
    return [
        Case("rgnn", f"{kind}.{name}", kind, graph)
        for name, graph in graphs.items()
        for kind in ("rgcn", "rgat", "hgt")
    ]


def sparse_cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """Sparse times dense at three widths and times a vector, sampled dense-dense, graph attention,
    and the kinds of `families/`."""
    graphs = {name: f"file:{name}" for name in MATRIX_FILES} if data_dir is not None else {}
    for rows, degree in POWER_LAW:
        graphs[f"{rows // 1000}k.d{degree}"] = f"power:{rows}:{degree}"
    if quick:
        small = "10k.d8" if data_dir is None else "pubmed"
        graphs = {small: graphs[small]}
    cases: list[Case] = []
    for name, graph in graphs.items():
        cases += [Case("sparse", f"spmm{w}.{name}", "spmm", graph, w) for w in WIDTHS]
        cases.append(Case("sparse", f"spmv.{name}", "spmv", graph, 1))
        cases += [Case("sparse", f"{kind}.{name}", kind, graph) for kind in ("sddmm", "gat")]
    return cases + [case for kind in families().values() for case in kind.cases(data_dir, quick)]


def families() -> dict[str, Kind]:
    """The kinds of `families/`, which import this module."""
    from benchmarks.families import kinds

    return kinds()


def dense_cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """Products of float32 matrices, round sizes and odd ones."""
    shapes = ((512, 512, 512), (333, 257, 61)) if quick else PRODUCTS
    return [Case("dense", "x".join(map(str, shape)), "gemm", shape=shape) for shape in shapes]


def tensor_core_cases(quick: bool) -> list[Case]:
    """Products of float16 matrices, for GPUs."""
    shapes = ((512, 512, 512),) if quick else PRODUCTS_16
    return [
        Case("dense", "f16." + "x".join(map(str, s)), "gemm16", shape=s, tolerance=5e-3)
        for s in shapes
    ]


SUITES = {"rgnn": rgnn_cases, "sparse": sparse_cases, "dense": dense_cases}


def miniature(case: Case) -> Case:
    """The same computation on a few elements: starts a peer's libraries and its compiler."""
    if case.kind in families():
        return families()[case.kind].small
    if case.kind in ("gemm", "gemm16"):
        return replace(case, shape=(64, 64, 64))
    small = "relations:64:256:4:2" if case.kind in ("rgcn", "rgat", "hgt") else "power:64:4"
    return replace(case, graph=small)


def generator(*key: object) -> np.random.Generator:
    """A random generator that depends on the key only."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def power_law_matrix(n: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """(row, col) of exactly n * degree distinct entries, sorted.

    The i-th likeliest row or column is drawn with a weight of i ** -0.6, over a random order.
    """
    rng = generator("power", n, degree)
    likelihood = np.arange(1, n + 1) ** -0.6
    cumulative = np.cumsum(likelihood / likelihood.sum())
    order = {axis: rng.permutation(n) for axis in ("row", "col")}

    def draw(axis: str, count: int) -> np.ndarray:
        ranks = np.searchsorted(cumulative, rng.random(count)).clip(max=n - 1)
        return order[axis][ranks].astype(np.int64)

    wanted = n * degree
    entries = np.empty(0, np.int64)
    while len(entries) < wanted:
        count = wanted - len(entries) + wanted // 4 + 8
        entries = np.union1d(entries, draw("row", count) * n + draw("col", count))
    entries = np.sort(rng.choice(entries, wanted, replace=False))
    return (entries // n).astype(np.int32), (entries % n).astype(np.int32)


def relational_graph(nodes: int, edges: int, relations: int, types: int) -> Data:
    """A typed graph: each relation joins two node types, sizes and degrees are skewed.

    Odd relations reverse the even relation before them, as usual for knowledge graphs.
    """
    rng = generator("relations", nodes, edges, relations, types)
    ntype = np.sort(rng.integers(0, types, nodes)).astype(np.int32)
    first = np.searchsorted(ntype, np.arange(types + 1))
    share = 1.0 / np.arange(1, relations // 2 + 1)
    counts = np.maximum(1, share / share.sum() * (edges // 2)).astype(int)
    src, dst, kind = [], [], []
    for r, count in enumerate(counts):
        a, b = rng.integers(0, types, 2)
        # The square of a uniform number crowds the start of the range: a few busy nodes.
        s = first[a] + ((first[a + 1] - first[a]) * rng.random(count) ** 2).astype(np.int32)
        d = first[b] + ((first[b + 1] - first[b]) * rng.random(count) ** 2).astype(np.int32)
        src += [s, d]
        dst += [d, s]
        kind += [np.full(count, 2 * r), np.full(count, 2 * r + 1)]
    columns = {"src": src, "dst": dst, "type": kind}
    graph: Data = {k: np.concatenate(v).astype(np.int32) for k, v in columns.items()}
    return graph | {"n": nodes, "R": relations, "T": types, "ntype": ntype}


def load_graph(case: Case, data_dir: Path | None) -> Data:
    """The graph of a case; FileNotFoundError where its file is not in `data_dir`."""
    source, *arguments = case.graph.split(":")
    if source == "relations":
        return sorted_by_type(relational_graph(*map(int, arguments)))
    if source == "power":
        n, degree = map(int, arguments)
        return compressed(n, *power_law_matrix(n, degree))
    path = (data_dir or Path()) / f"{arguments[0]}.npz"
    with np.load(path) as file:
        if "nz.row" in file:
            order = np.lexsort((file["nz.col"], file["nz.row"]))
            n = int(max(file["row"], file["col"]))
            return compressed(n, file["nz.row"][order], file["nz.col"][order])
        graph: Data = {field: file[f"edge.{field}"] for field in ("src", "dst", "type")}
        graph |= {"n": int(file["node"]), "R": int(file["etype"]), "T": int(file["ntype"])}
        return sorted_by_type(graph | {"ntype": file["node.type"]})


def sorted_by_type(graph: Data) -> Data:
    """The same graph with its edges in order of type."""
    order = np.argsort(graph["type"], kind="stable")
    for field in ("src", "dst", "type"):
        graph[field] = np.ascontiguousarray(graph[field][order], np.int32)
    return graph


def compressed(n: int, row: np.ndarray, col: np.ndarray) -> Data:
    """The entries of a sorted n by n matrix with the compressed form of its rows."""
    indptr = np.zeros(n + 1, np.int32)
    np.cumsum(np.bincount(row, minlength=n), out=indptr[1:])
    return {"n": n, "row": row, "col": col, "indptr": indptr}


def build(case: Case, data_dir: Path | None) -> Data:
    """Graph and tensors of a case, the same on every call."""
    if case.kind in families():
        return families()[case.kind].build(case, data_dir)
    rng = generator(case.name, case.graph, case.shape)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return rng.standard_normal(shape, np.float32) * np.float32(scale)

    if case.kind == "gemm":
        m, k, n = case.shape
        return {"A": normal(m, k), "B": normal(k, n)}
    if case.kind == "gemm16":
        m, k, n = case.shape
        return {"A": normal(m, k).astype(np.float16), "B": normal(k, n).astype(np.float16)}
    data = load_graph(case, data_dir)
    n, f, scale = data["n"], case.width, FEATURES**-0.5
    if case.kind == "spmm":
        return data | {"A": normal(len(data["row"])), "B": normal(n, f)}
    if case.kind == "spmv":
        return data | {"A": normal(len(data["row"])), "x": normal(n)}
    if case.kind == "sddmm":
        return data | {"A": normal(len(data["row"])), "P": normal(n, f), "Q": normal(n, f)}
    if case.kind == "gat":
        d = f // HEADS
        return data | {
            "x": normal(n, f),
            "W": normal(f, HEADS, d, scale=scale),
            "al": normal(HEADS, d, scale=0.25),
            "ar": normal(HEADS, d, scale=0.25),
        }
    return data | {"h": normal(n, f)} | rgnn_weights(case.kind, data, normal)


def rgnn_weights(kind: str, data: Data, normal) -> Data:
    """Parameters of one relational layer."""
    relations, types, f = data["R"], data["T"], FEATURES
    scale = f**-0.5
    if kind == "rgcn":
        # The usual normalisation: one over the number of edges of this type into this node.
        key = data["type"].astype(np.int64) * data["n"] + data["dst"]
        _, inverse, counts = np.unique(key, return_inverse=True, return_counts=True)
        return {
            "W": normal(relations, f, f, scale=scale),
            "W0": normal(f, f, scale=scale),
            "norm": (1.0 / counts[inverse]).astype(np.float32),
        }
    if kind == "rgat":
        # One pair of vectors repeated for each type: peers whose layer shares it among all types
        # compute the same result, and nobody is told that the rows are equal.
        al, ar = (np.tile(normal(1, f, scale=scale), (relations, 1)) for _ in range(2))
        return {"W": normal(relations, f, f, scale=scale), "al": al, "ar": ar}
    weights: Data = {name: normal(types, f, 1, f, scale=scale) for name in ("Wk", "Wq", "Wv")}
    weights |= {name: normal(relations, 1, f, f, scale=scale) for name in ("Wa", "Wm")}
    weights["mu"] = 1 + normal(relations, 1, scale=0.1)
    weights["Wo"] = normal(types, 1, f, f, scale=scale)
    return weights
