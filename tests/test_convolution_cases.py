"""The benchmark's kinds of convolution: their data, their results, and padding of the products."""

from itertools import product

import numpy as np
import pytest

import hectorite
from benchmarks import cases
from benchmarks.families import convolution, hypergraph, kinds
from hectorite.ir.index import IndexExpr
from hectorite.lowering.emit.scattered_product import TARGET_BYTES

FEATURES = 64


def test_kernel_map():
    voxels = convolution.surface("torus", 12)
    found = set(zip(*(column.tolist() for column in convolution.kernel_map(voxels)), strict=True))
    steps = np.array(np.meshgrid(*[convolution.REACH] * 3)).T.reshape(-1, 3)
    places = {tuple(place): number for number, place in enumerate(voxels.tolist())}
    wanted = set()
    for (number, place), (k, step) in product(enumerate(voxels.tolist()), enumerate(steps)):
        other = places.get(tuple(np.add(place, step).tolist()))
        if other is not None:
            wanted.add((other, number, k))
    assert found == wanted


@pytest.mark.parametrize("name", convolution.SURFACES)
def test_products_are_hardly_padded(name: str):
    """None of a CPU's rows is multiplied in vain; of a GPU's, in tiles of 64, less than 1 %."""
    voxels = convolution.surface(name, convolution.SURFACES[name])
    source, target, k = (m.astype(np.int32) for m in convolution.kernel_map(voxels))
    program = hectorite.compile(convolution.EXAMPLE)
    pairs = {"in": source, "out": target, "k": k}
    binding = program.bind(voxel=len(voxels), offset=27, pair=pairs)
    rows = binding.blocks("pair", (_key("out"), _key("k")), TARGET_BYTES // (4 * FEATURES))
    assert rows.start[-1] == len(k) and (np.diff(rows.start) > 0).all()
    assert (np.diff(target[rows.permutation][rows.start[0] : rows.start[1]]) >= 0).all()
    tiles = len(binding.runs("pair", [_key("k")], 64))
    assert tiles * 64 < 1.01 * len(k)


def _key(field: str) -> IndexExpr:
    return IndexExpr.of("p", field)


@pytest.mark.parametrize("kind", ["conv", "hyper"])
def test_our_results(kind: str):
    case = kinds()[kind].small
    data = cases.build(case, None)
    family = {"conv": convolution, "hyper": hypergraph}[kind]
    result = np.asarray(family.compiled(data, case)())
    wanted = family.expected(
        {
            name: value.astype(float)
            if isinstance(value, np.ndarray) and value.dtype == np.float32
            else value
            for name, value in data.items()
        }
    )
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)
