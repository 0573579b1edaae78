"""Sets made by the program: products of two sparse matrices, and neighbours of voxels.

Enters: a case. `spgemm` has a matrix by its graph, as `spmm` has, and multiplies it with itself
under other values, each call a fresh pair: everything from two lists of entries to values in order.
`respgemm` is the same again for a structure that is bound already. `neighbours` has a surface
(`convolution.py`) and finds the pairs of voxels that meet under a kernel of 3 x 3 x 3, in order.

    n, row col [nz] sorted, indptr [n + 1], A B [nz]
    x y z [voxels] sorted
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import MATRIX_FILES, POWER_LAW, Case, Data, generator, load_graph
from benchmarks.families import Kind
from benchmarks.families.convolution import SURFACES, kernel_map, surface
from benchmarks.peers.table import OURS, Call, peer

EXAMPLES = Path(__file__).parents[2] / "examples"
OWN = Path(__file__).parents[1] / "programs"
AXES = ("x", "y", "z")
REACH = 3
"""Voxels of the kernel along each axis."""


def cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """The real matrices and those of power laws that have products of some millions."""
    graphs = {name: f"file:{name}" for name in MATRIX_FILES} if data_dir is not None else {}
    for rows, degree in POWER_LAW[:1] if quick else POWER_LAW[:3]:
        graphs[f"{rows // 1000}k.d{degree}"] = f"power:{rows}:{degree}"
    if quick:
        graphs = {name: graph for name, graph in graphs.items() if name in ("cora", "10k.d8")}
    return [
        _product(kind, name, graph)
        for name, graph in graphs.items()
        for kind in ("spgemm", "respgemm")
    ]


def voxel_cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """Surfaces of the sparse convolution."""
    chosen = {"sphere": 24} if quick else SURFACES
    return [_voxels(name, cells) for name, cells in chosen.items()]


def _product(kind: str, name: str, graph: str) -> Case:
    return Case("sparse", f"{kind}.{name}", kind, graph)


def _voxels(name: str, cells: int) -> Case:
    return Case("sparse", f"neighbours.{name}", "neighbours", f"surface:{name}:{cells}")


def build(case: Case, data_dir: Path | None) -> Data:
    """A matrix and two sets of values, or voxels."""
    if case.kind == "neighbours":
        _, name, cells = case.graph.split(":")
        places = surface(name, int(cells))
        columns = zip(AXES, places.T, strict=True)
        return {axis: np.ascontiguousarray(values) for axis, values in columns}
    data = load_graph(case, data_dir)
    rng, entries = generator(case.graph, "values"), len(np.asarray(data["row"]))
    values = {name: rng.random(entries, np.float32) for name in ("A", "B")}
    return {name: data[name] for name in ("n", "row", "col", "indptr")} | values


def expected(data: Data) -> np.ndarray:
    """Values of the product in order; of voxels, the pairs (in, out, k)."""
    if "x" in data:
        return _in_order(kernel_map(np.stack([data[axis] for axis in AXES], 1)))
    a, b = (_matrix(data, name, np.float64) for name in ("A", "B"))
    return np.asarray(_Values(a @ b))


def _matrix(data: Data, values: str, dtype: Any = np.float32) -> Any:
    from scipy.sparse import csr_matrix

    shape = data["n"], data["n"]
    return csr_matrix((np.asarray(data[values], dtype), data["col"], data["indptr"]), shape)


def _in_order(maps: list[np.ndarray]) -> np.ndarray:
    """Pairs (in, out) in order. The number of an offset is a matter of taste, so it is left out."""
    order = np.lexsort((maps[1], maps[0]))
    return np.stack([np.asarray(values)[order] for values in maps[:2]]).astype(np.float64)


class _Values:
    """A sparse matrix that is sorted when someone looks: peers need not do it."""

    def __init__(self, matrix: Any):
        self.matrix = matrix

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        sorted_copy = self.matrix.copy()
        sorted_copy.sort_indices()
        return np.asarray(sorted_copy.data, dtype)


class _Pairs:
    """Pairs of neighbours, put in order when someone looks."""

    def __init__(self, first: np.ndarray, second: np.ndarray):
        self.maps = [first, second]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return _in_order(self.maps)


@peer(OURS, OURS, "spgemm respgemm")
def compiled(data: Data, case: Case) -> Call:
    import hectorite

    program = hectorite.compile(EXAMPLES / "spgemm.hec", function="spgemm")
    entries = {"row": data["row"], "col": data["col"]}
    none = {field: np.zeros(0, np.int32) for field in ("row", "col")}
    sizes = dict.fromkeys(("row", "mid", "col"), data["n"])

    def bind() -> Any:
        return program.bind(**sizes, a=entries, b=entries, m=none)

    if case.kind == "spgemm":
        return lambda: program.spgemm(bind(), A=data["A"], B=data["B"])
    graph = bind()
    return lambda: program.spgemm(graph, A=data["A"], B=data["B"])


@peer("scipy", "numpy", "spgemm respgemm")
def scipy_product(data: Data, case: Case) -> Call:
    a, b = _matrix(data, "A"), _matrix(data, "B")
    return lambda: _Values(a @ b)


@peer(OURS, OURS, "neighbours")
def derived(data: Data, case: Case) -> Call:
    import hectorite

    program = hectorite.compile(OWN / "neighbours.hec")
    grid = np.array(np.meshgrid(*[range(REACH)] * 3)).reshape(3, -1)
    offset = dict(zip(("dx", "dy", "dz"), grid, strict=True))
    spans = {axis.upper(): int(np.max(data[axis], initial=0)) + 1 for axis in AXES}
    voxel = {axis: data[axis] for axis in AXES}

    def call() -> object:
        graph = program.bind(**spans, step=REACH, voxel=voxel, offset=offset)
        return _Pairs(graph.map("near", "in"), graph.map("near", "out"))

    return call


@peer("numpy sort and search", "numpy", "neighbours")
def searched(data: Data, case: Case) -> Call:
    places = np.stack([data[axis] for axis in AXES], 1)
    return lambda: _Pairs(*kernel_map(places)[:2])


@peer("scipy cKDTree", "numpy", "neighbours")
def tree(data: Data, case: Case) -> Call:
    """A tree for each call, and its pairs both ways around; offsets would come on top."""
    from scipy.spatial import cKDTree

    places = np.stack([data[axis] for axis in AXES], 1)

    def call() -> object:
        pairs = cKDTree(places).query_pairs(1.5, p=np.inf, output_type="ndarray")
        own = np.arange(len(places))
        first = np.concatenate([pairs[:, 0], pairs[:, 1], own])
        return _Pairs(first, np.concatenate([pairs[:, 1], pairs[:, 0], own]))

    return call


def repeated_cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """None: those of `respgemm` stand beside those of `spgemm`."""
    return []


KINDS = (
    Kind("spgemm", cases, build, expected, _product("spgemm", "small", "power:64:4")),
    Kind("respgemm", repeated_cases, build, expected, _product("respgemm", "small", "power:64:4")),
    Kind("neighbours", voxel_cases, build, expected, _voxels("sphere", 6), ratio=2.0),
)
