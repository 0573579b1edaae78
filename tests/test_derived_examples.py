"""Sets that programs make, large enough for machine code: neighbours of voxels, products."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hectorite

EXAMPLES = Path(__file__).parents[1] / "examples"
AXES = ("x", "y", "z")

KERNEL = """
set batch
set X
set Y
set Z
set voxel {{ n: batch, x: X, y: Y, z: Z }}
set step
set offset {{ dx: step, dy: step, dz: step }}
set coarse {{ n: batch, x: X, y: Y, z: Z }} = distinct(
    v.n, v.x // {s}, v.y // {s}, v.z // {s}) for v: voxel
set near {{ in: voxel, out: coarse, k: offset }} = distinct(p, q, k)
    for p: voxel, q: coarse, k: offset
    where p.n == q.n and {where}
def degrees(w: f32[offset]) -> f32[coarse] {{
  y[p.out] += w[p.k]
  return y
}}
"""


def surface(count: int) -> np.ndarray:
    """Distinct (batch, x, y, z), sorted: two dented spheres."""
    rng = np.random.default_rng(0)
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    places = 16 + direction * (12 + np.sin(5 * direction[:, :1]))
    return np.unique(np.column_stack([rng.integers(0, 2, count), places.astype(int)]), axis=0)


def neighbours(
    voxels: np.ndarray, size: int, stride: int, dilation: int
) -> tuple[list[tuple[int, ...]], list[tuple[int, int, int]]]:
    """The coarse voxels, and all (in, out, k), by dictionaries."""
    coarse = sorted({(n, *(c // stride for c in rest)) for n, *rest in voxels.tolist()})
    number = {place: index for index, place in enumerate(map(tuple, voxels.tolist()))}
    found: list[tuple[int, int, int]] = []
    reach = dilation * (size // 2)
    for out, (n, *place) in enumerate(coarse):
        for k, steps in enumerate(product(range(size), repeat=3)):
            at = (stride * c + dilation * d - reach for c, d in zip(place, steps, strict=True))
            if (there := number.get((n, *at))) is not None:
                found.append((there, out, k))
    return coarse, sorted(found)


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 1, 1), (3, 1, 2), (2, 2, 1)]
)
def test_neighbours_of_voxels(size: int, stride: int, dilation: int):
    voxels = surface(1500)
    conditions = (
        f"p.{axis} == {stride}*q.{axis} + {dilation}*k.d{axis} - {dilation * (size // 2)}"
        for axis in AXES
    )
    program = hectorite.compile(KERNEL.format(s=stride, where=" and ".join(conditions)))
    steps = np.array(list(product(range(size), repeat=3))).T
    graph = program.bind(
        batch=2,
        **dict.fromkeys("XYZ", 32),
        step=size,
        voxel=dict(zip(("n", *AXES), voxels.T, strict=True)),
        offset=dict(zip(("dx", "dy", "dz"), steps, strict=True)),
    )
    coarse, pairs = neighbours(voxels, size, stride, dilation)
    made = zip(*(graph.map("coarse", field).tolist() for field in ("n", *AXES)), strict=True)
    assert list(made) == coarse
    maps = (graph.map("near", field).tolist() for field in ("in", "out", "k"))
    assert list(zip(*maps, strict=True)) == pairs
    weights = np.arange(size**3, dtype=np.float32)
    wanted = np.bincount([o for _, o, _ in pairs], [k for _, _, k in pairs], len(coarse))
    assert (program.degrees(graph, w=weights) == wanted).all()


def sparse(rng: np.random.Generator, rows: int, columns: int, count: int) -> dict[str, Any]:
    return {"row": rng.integers(0, rows, count), "col": rng.integers(0, columns, count)}


def dense(entries: dict[str, Any], values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    matrix = np.zeros((rows, columns))
    np.add.at(matrix, (entries["row"], entries["col"]), values)
    return matrix


def test_products_of_sparse_matrices():
    """Entries in any order, some of them twice; only wanted ones; the own transpose."""
    rng = np.random.default_rng(1)
    rows, mid, columns = 300, 200, 250
    a, b = sparse(rng, rows, mid, 3000), sparse(rng, mid, columns, 3000)
    wanted = sparse(rng, rows, columns, 4000)
    program = hectorite.compile(EXAMPLES / "spgemm.hec")
    graph = program.bind(row=rows, mid=mid, col=columns, a=a, b=b, m=wanted)
    A, B = (rng.integers(-8, 9, 3000).astype(np.float32) for _ in range(2))
    left, right = dense(a, A, rows, mid), dense(b, B, mid, columns)
    structure = dense(a, np.ones(3000), rows, mid) @ dense(b, np.ones(3000), mid, columns)
    places = np.nonzero(structure)
    assert (graph.map("c", "row") == places[0]).all() and (graph.map("c", "col") == places[1]).all()
    assert (program.spgemm(graph, A=A, B=B) == (left @ right)[places]).all()
    some = left @ right
    assert (program.masked(graph, A=A, B=B) == some[wanted["row"], wanted["col"]]).all()
    own = np.nonzero(dense(a, np.ones(3000), rows, mid) @ dense(a, np.ones(3000), rows, mid).T)
    assert (program.gram(graph, A=A) == (left @ left.T)[own]).all()
