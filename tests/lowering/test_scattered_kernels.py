"""Scattered products as kernels: results in the tile interpreter and on the CPU, on odd maps."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise

SETS = "set row\nset kind\nset pair { from: row, to: row, kind: kind }\n"
CONVOLUTION = """
def f(x: f32[row, I], W: f32[kind, I, O]) -> f32[row, O] {
  y[p.to, o] += x[p.from, i] * W[p.kind, i, o]
  return y
}
"""
OF_TARGETS = CONVOLUTION.replace("kind", "row").replace("p.row", "p.to")
LAYER = """
def f(x: f32[row, I], W: f32[kind, I, O], V: f32[I, O], s: f32[pair]) -> f32[row, O] {
  y[n, o]    += x[n, i] * V[i, o]
  y[p.to, o] += x[p.from, i] * W[p.kind, i, o] * s[p]
  z[n, o]     = relu(y[n, o])
  return z
}
"""
HEADS = """
def f(x: i32[row, 2, I], W: i32[kind, 2, I, O], s: i32[pair, 2]) -> i32[row, 2, O] {
  y[p.to, h, o] += x[p.from, h, i] * W[p.kind, h, i, o] * s[p, h]
  return y
}
"""
SCALED = """
def f(x: f32[row, I], W: f32[kind, I, O], s: f32[pair]) -> f32[row, O] {
  y[p.to, o] += x[p.from, i] * W[p.kind, i, o] * s[p]
  return y
}
"""


def summed_first(sizes: dict[str, int]) -> str:
    """The graph of `SCALED` that sums what shares target and kind before it multiplies."""
    options = Options(search=False, force=("y:order=x s by (kind, to)",))
    return str(optimise(hectorite.parse(SETS + SCALED), sizes, options))


PAIRS = {"none": (9, 3, 0), "one": (1, 1, 1), "some": (23, 3, 150), "skewed": (40, 2, 90)}


def drawn(name: str) -> dict[str, Any]:
    rows, kinds, pairs = PAIRS[name]
    rng = np.random.default_rng(len(name))
    maps = {"from": rng.integers(0, rows, pairs), "to": rng.integers(0, rows, pairs)}
    if name == "skewed":
        maps["to"][: pairs // 2] = rows - 1  # duplicates of pair and kind among them
    maps["kind"] = rng.integers(0, kinds, pairs)
    return {"row": rows, "kind": kinds, "pair": maps}


def tensors(function: Any, data: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    extents = {**sizes, "row": data["row"], "kind": data["kind"], "pair": len(data["pair"]["to"])}
    made = {}
    for parameter in function.signature.parameters:
        shape = [extents.get(dim, dim) for dim in parameter.dims]
        dtype = {"f32": np.float32, "i32": np.int32}[parameter.element_name]
        made[parameter.name] = rng.integers(-4, 5, shape).astype(dtype)
    return made


@cache
def compiled(body: str, extents: tuple[tuple[str, int], ...], target: str) -> Any:
    sizes = dict(extents)
    if body == "sums":
        return hectorite.compile(summed_first(sizes), target=target, search=False)
    return hectorite.compile(SETS + body, target=target, sizes=sizes, search=False)


@pytest.mark.parametrize("data", PAIRS)
@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        (CONVOLUTION, {"I": 5, "O": 4}),
        (CONVOLUTION, {"I": 6, "O": 150}),
        (OF_TARGETS, {"I": 5, "O": 8}),
        (LAYER, {"I": 19, "O": 34}),
        (HEADS, {"I": 4, "O": 16}),
        ("sums", {"I": 9, "O": 8}),
    ],
)
def test_results(body: str, sizes: dict[str, int], data: str):
    sets = drawn(data)
    found = dict[str, Any]()
    for target in ("reference", "tile", "cpu"):
        program = compiled(body, tuple(sizes.items()), target)
        graph = program.bind(**sets)
        given = tensors(program.f, sets, sizes)
        found[target] = np.array(program.f(graph, **given))
    # Small integers: every order of adding gives the same.
    assert (found["tile"] == found["reference"]).all()
    assert (found["cpu"] == found["reference"]).all()


@pytest.mark.parametrize("body", [CONVOLUTION, LAYER, HEADS, "sums"])
def test_one_kernel_and_no_tensor_of_rows(body: str):
    sizes = {"I": 8, "O": 16}
    source, given = (summed_first(sizes), {}) if body == "sums" else (SETS + body, sizes)
    text = hectorite.emit(source, "tile", given, options=Options(search=False))
    assert text.count("tile.kernel") == 1
    assert "tile.store add own" in text
    made = [line for line in text.splitlines() if "tile.allocate" in line]
    assert not any("[pair" in line or "[pair_" in line for line in made)


def test_sums_are_the_same_every_time():
    rng = np.random.default_rng(3)
    maps = {name: rng.integers(0, n, 4000) for name, n in (("from", 90), ("to", 90), ("kind", 5))}
    program = hectorite.compile(SETS + CONVOLUTION, sizes={"I": 8, "O": 16}, search=False)
    graph = program.bind(row=90, kind=5, pair=maps)
    x = rng.standard_normal((90, 8), np.float32)
    weights = rng.standard_normal((5, 8, 16), np.float32)
    first = np.array(program.f(graph, x=x, W=weights))
    wanted = np.zeros((90, 16))
    products = np.einsum("pi,pio->po", x[maps["from"]].astype(float), weights[maps["kind"]])
    np.add.at(wanted, maps["to"], products)
    np.testing.assert_allclose(first, wanted, rtol=1e-4, atol=1e-3)
    for _ in range(5):
        assert (np.array(program.f(graph, x=x, W=weights)) == first).all()


def test_a_gpu_keeps_two_kernels():
    text = hectorite.emit(
        SETS + CONVOLUTION, "tile", {"I": 16, "O": 16}, target="sm_80", options=Options()
    )
    assert "tile.store add" not in text


SPLIT = CONVOLUTION + "schedule { y: work(split) }\n"


def test_a_gpu_adds_with_atomics_where_it_is_told_to():
    text = hectorite.emit(SETS + SPLIT, "tile", {"I": 16, "O": 16}, target="sm_80")
    assert "tile.store add " in text and "tile.store add own" not in text
    assert "[pair, 16]" not in text
    data, sizes = drawn("some"), {"I": 16, "O": 16}
    found = list[Any]()
    for target in ("reference", "ptx:sm_80"):
        program = hectorite.compile(SETS + SPLIT, target=target, sizes=sizes)
        given = tensors(program.f, data, sizes)
        found.append(np.array(program.f(program.bind(**data), **given)))
    assert (found[0] == found[1]).all()
