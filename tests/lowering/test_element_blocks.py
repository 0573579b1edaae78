"""Visits that make few values of each element: several at a time, in rows of any length."""

from functools import cache
from typing import Any

import numpy as np
import pytest

import hectorite
from hectorite.dialects.tile import LocalOp
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise, to_tile

LAYER = """
set node
set kind
set edge { src: node, dst: node, kind: kind }
def attend(s: T[node, K], b: T[kind, K], c: T[K], z: T[node, K, 5]) -> T[node, K, 5] {
  a[e, k]         = softmax(leaky_relu(s[e.src, k] + b[e.kind, k] * c[k], 0.2) by e.dst, k)
  y[e.dst, k, o] += a[e, k] * z[e.src, k, o]
  return y
}
def ends(s: T[edge, K], w: T[edge], t: T[node, K]) -> (T[edge, K], T[node, K], T[node, K]) {
  r[e, k]         = s[e, k] * w[e] - t[e.dst, k]
  low[e.dst, k]  min= r[e, k]
  sum[e.dst, k]  += exp(r[e, k] - low[e.dst, k])
  return r, low, sum
}
"""
NUMBERS = {"f32": np.float32, "f64": np.float64}
ROWS = [0, 1, 3, 8, 9, 15, 40, 0, 2]


@cache
def compiled(name: str, target: str, type: str, heads: int) -> Any:
    text = LAYER.replace("T[", f"{type}[").replace("K", str(heads))
    return hectorite.compile(text, target, function=name, search=False)


def called(name: str, target: str, type: str, heads: int, in_order: bool) -> Any:
    rng = np.random.default_rng(heads)
    dst = np.repeat(np.arange(len(ROWS)), ROWS)
    dst = dst if in_order else rng.permutation(dst)
    edge = {"src": rng.integers(0, len(ROWS), len(dst)), "dst": dst}
    edge["kind"] = rng.integers(0, 2, len(dst))
    extents = {"node": len(ROWS), "edge": len(dst), "kind": 2}
    program = compiled(name, target, type, heads)
    values = {
        p.name: rng.standard_normal([extents.get(d, d) for d in p.dims]).astype(NUMBERS[type])
        for p in program[name].signature.parameters
    }
    results = program[name](program.bind(node=len(ROWS), kind=2, edge=edge), **values)
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("name", ["attend", "ends"])
@pytest.mark.parametrize(
    "type, heads", [("f32", 2), ("f32", 4), ("f32", 8), ("f64", 4), ("f32", 3)]
)
@pytest.mark.parametrize("in_order", [True, False])
def test_results(name: str, type: str, heads: int, in_order: bool):
    targets = ("cpu", "tile") if heads == 4 and type == "f32" else ("cpu",)
    wanted, *found = (
        called(name, target, type, heads, in_order) for target in ("reference", *targets)
    )
    for results in found:
        for one, other in zip(results, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def test_a_register_holds_several_elements():
    def blocks(heads: int, type: str) -> set[int]:
        text = LAYER.replace("T[", f"{type}[").replace("K", str(heads))
        module = to_tile(optimise(hectorite.parse(text), {}, Options(search=False)), "attend")
        return {op.results[0].type.dims[0] for op in module.walk() if isinstance(op, LocalOp)}

    assert blocks(4, "f32") == {1, 4} and blocks(8, "f32") == {1, 2} == blocks(4, "f64")
    assert blocks(16, "f32") == {1} == blocks(3, "f32")
