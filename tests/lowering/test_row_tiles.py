"""Wide products among other phases: a task's rows go through all phases a tile at a time."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.dialects.tile import LocalOp
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise, to_tile

LAYERS = """
set node
set kind
set item { of: node, kind: kind }
def dense(x: f32[node, I], W: f32[I, H], V: f32[H, O]) -> f32[node, O] {
  a[n, h] += x[n, i] * W[i, h]
  r[n, h]  = relu(a[n, h])
  q[n, o] += r[n, h] * V[h, o]
  return q
}
def visited(x: f32[node, I], W: f32[I, H], V: f32[H, O], w: f32[item]) -> f32[node, O] {
  s[e.of, i] += x[e.of, i] * w[e]
  a[n, h]    += s[n, i] * W[i, h]
  b[n, h]     = a[n, h] * 0.5
  q[n, o]    += b[n, h] * V[h, o]
  z[e.of, o] += q[e.of, o] * w[e]
  return z
}
def typed(x: f32[item, I], W: f32[kind, I, H], V: f32[kind, H, O]) -> f32[item, O] {
  a[e, h] += x[e, i] * W[e.kind, i, h]
  r[e, h]  = relu(a[e, h])
  q[e, o] += r[e, h] * V[e.kind, h, o]
  return q
}
def attended(x: f32[node, I], W: f32[I, H]) -> f32[node, H] {
  a[n, h] += x[n, i] * W[i, h]
  r[n, h]  = softmax(a[n, h] by n)
  return r
}
"""
SIZES = {"I": 5, "H": 160, "O": 7}


def drawn(nodes: int, items: int) -> dict[str, Any]:
    rng = np.random.default_rng(nodes + items)
    maps = {"of": rng.integers(0, nodes, items), "kind": rng.integers(0, 3, items)}
    return {"node": nodes, "kind": 3, "item": maps}


@cache
def compiled(name: str, target: str) -> Any:
    return hectorite.compile(LAYERS, target, function=name, sizes=SIZES, search=False)


def called(name: str, target: str, data: dict[str, Any]) -> Any:
    rng = np.random.default_rng(1)
    extents = {**SIZES, "node": data["node"], "kind": 3, "item": len(data["item"]["of"])}
    program = compiled(name, target)
    function = program[name]
    shapes = {
        p.name: [extents.get(dim, dim) for dim in p.dims] for p in function.signature.parameters
    }
    values = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    return function(program.bind(**data), **values)


@pytest.mark.parametrize("name", ["dense", "visited", "typed", "attended"])
@pytest.mark.parametrize("nodes, items", [(1, 0), (5, 30), (97, 203), (700, 150)])
def test_rows_go_through_all_phases(name: str, nodes: int, items: int):
    data = drawn(nodes, items)
    wanted = called(name, "reference", data)
    for target in ("cpu", "tile") if nodes == 5 else ("cpu",):
        np.testing.assert_allclose(called(name, target, data), wanted, rtol=1e-4, atol=1e-4)


def locals_of(**sizes: int) -> list[tuple[int, ...]]:
    """Shapes of the local memory of `dense`."""
    module = to_tile(optimise(hectorite.parse(LAYERS), sizes, Options(search=False)), "dense")
    return sorted(op.results[0].type.dims for op in module.walk() if isinstance(op, LocalOp))


def test_tiles_fill_blocks_and_stay_near():
    # 128 KiB of two rows of 160 are 102 rows; blocks of the products have 6 and 8 of them.
    assert locals_of(**SIZES) == [(96, 160), (96, 160)]
    # Rows of 3 KiB leave 21, three blocks of 6.
    assert locals_of(I=16, H=768, O=64) == [(18, 768), (18, 768)]
    # Weights of 2 MiB would have to come from afar for each tile.
    assert locals_of(I=512, H=1024, O=64) == []
