"""Submanifold sparse convolution: a real kernel map, and surfaces cut into voxels.

Enters: a case whose graph is `file:NAME` (maps pair.in, pair.out, pair.k) or `surface:NAME:CELLS`,
a sphere or a torus in a cube of so many cells along each edge. Leaves: its pairs, sorted by offset,
as peers keep them; features and weights of `width` channels.

    n, offsets, in out k [pairs] sorted by k, I [n, width], F [offsets, width, width]
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.cases import Case, Data, generator
from benchmarks.families import Kind
from benchmarks.peers.table import OURS, Call, peer
from benchmarks.peers.torch_sparse_ops import indices, tensor, threaded_torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "sparse_conv.hec"
REACH = (-1, 0, 1)
"""Offsets along one axis, of a kernel of three voxels."""


def cases(data_dir: Path | None, quick: bool) -> list[Case]:
    """The real map at three widths, two surfaces at one; small ones where it has to be quick."""
    if quick:
        return [_case("sphere", "surface:sphere:24", 32)]
    found = [_case(name, f"surface:{name}:{cells}", 64) for name, cells in SURFACES.items()]
    if data_dir is not None:
        found += [_case("scan", "file:sparse_conv", width) for width in (32, 64, 128)]
    return found


def _case(name: str, graph: str, width: int) -> Case:
    return Case("sparse", f"conv{width}.{name}", "conv", graph, width)


def build(case: Case, data_dir: Path | None) -> Data:
    """The pairs of a case, and what is convolved."""
    source, *rest = case.graph.split(":")
    if source == "file":
        with np.load((data_dir or Path()) / f"{rest[0]}.npz") as file:
            maps = [file[f"pair.{field}"] for field in ("in", "out", "k")]
            n, offsets = int(file["voxel"]), int(file["offset"])
    else:
        voxels = surface(rest[0], int(rest[1]))
        maps, n, offsets = kernel_map(voxels), len(voxels), len(REACH) ** 3
    order = np.argsort(maps[2], kind="stable")
    rng = generator(case.name, case.graph)
    features = rng.standard_normal((n, case.width), np.float32)
    weights = rng.standard_normal((offsets, case.width, case.width), np.float32)
    names = zip(("in", "out", "k"), maps, strict=True)
    data: Data = {name: np.ascontiguousarray(m[order], np.int32) for name, m in names}
    scale = np.float32(case.width**-0.5)
    return data | {"n": n, "offsets": offsets, "I": features, "F": weights * scale}


def surface(name: str, cells: int) -> np.ndarray:
    """int32 [voxels, 3], sorted: the cells that a surface passes through."""
    axis = np.arange(cells) - (cells - 1) / 2
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    distance = SHAPES[name](x, y, z, cells)
    return np.argwhere(np.abs(distance) < 0.5).astype(np.int32)


def _sphere(x: np.ndarray, y: np.ndarray, z: np.ndarray, cells: int) -> np.ndarray:
    return np.sqrt(x * x + y * y + z * z) - 0.45 * cells


def _torus(x: np.ndarray, y: np.ndarray, z: np.ndarray, cells: int) -> np.ndarray:
    ring = np.sqrt(x * x + y * y) - 0.3 * cells
    return np.sqrt(ring * ring + z * z) - 0.12 * cells


SHAPES: dict[str, Callable[..., np.ndarray]] = {"sphere": _sphere, "torus": _torus}
SURFACES = {"sphere": 112, "torus": 144}


def kernel_map(voxels: np.ndarray) -> list[np.ndarray]:
    """The voxels (in, out, k) that are neighbours by offset k, each pair once."""
    span = int(voxels.max(initial=0)) + 3

    def code(places: np.ndarray) -> np.ndarray:
        a, b, c = (places.astype(np.int64) + 1).T
        return (a * span + b) * span + c

    known = code(voxels)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for k, step in enumerate(np.array(np.meshgrid(REACH, REACH, REACH)).T.reshape(-1, 3)):
        wanted = code(voxels + step)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        out = np.flatnonzero(known[at] == wanted)
        found.append((at[out], out, np.full(len(out), k)))
    return [np.concatenate(columns) for columns in zip(*found, strict=True)]


def expected(data: Data) -> np.ndarray:
    """The convolution, offset by offset."""
    inputs, weights = data["I"], data["F"]
    result = np.zeros((data["n"], weights.shape[2]))
    for k in range(data["offsets"]):
        here = data["k"] == k
        np.add.at(result, data["out"][here], inputs[data["in"][here]] @ weights[k])
    return result


@peer(OURS, OURS, "conv")
def compiled(data: Data, case: Case) -> Call:
    import hectorite

    sizes = {"Ci": case.width, "Co": case.width}
    program = hectorite.compile(EXAMPLE, sizes=sizes)
    pairs = {field: data[field] for field in ("in", "out", "k")}
    graph = program.bind(voxel=data["n"], offset=data["offsets"], pair=pairs)
    return lambda: program.sparse_conv(graph, I=data["I"], F=data["F"])


@peer("torch gather-product-scatter", "torch", "conv")
def gather_product_scatter(data: Data, case: Case) -> Call:
    """For each offset: gather rows, multiply, add to rows."""
    torch = threaded_torch()
    bounds = np.searchsorted(data["k"], np.arange(data["offsets"] + 1)).tolist()
    places = [
        (indices(data["in"][low:high]), indices(data["out"][low:high]))
        for low, high in zip(bounds, bounds[1:], strict=False)
    ]
    features, weights, n = tensor(data["I"]), tensor(data["F"]), data["n"]

    def call() -> object:
        result = torch.zeros(n, weights.shape[2])
        for k, (source, target) in enumerate(places):
            result.index_add_(0, target, torch.mm(features.index_select(0, source), weights[k]))
        return result

    return call


KINDS = (Kind("conv", cases, build, expected, _case("small", "surface:sphere:6", 16), ratio=2.0),)
