"""What follows a product element by element is done on its block: results, and which kernels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite.dialects.tile import KernelOp, ProductOp
from hectorite.ir.target import target
from hectorite.lowering.machine import Machine
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise, to_tile

HEAD = """
set node
set kind
set edge { src: node, dst: node, kind: kind }
def f(x: T[node, I], W: T[I, O], V: T[kind, I, O], b: f32[O], r: f32[node, O], t: f32[O, node],
      e: f32[edge, O], s: f32[node], a: f32) -> """
PRODUCT = "  y[n, o] += f32(x[n, i]) * f32(W[i, o])\n"
PROGRAMS = {
    "bias and activation": (
        "f32[node, O]",
        "  z[n, o] = relu(y[n, o] + b[o])\n  return z\n",
    ),
    "residual": ("f16[node, O]", "  z[n, o] = f16(a * y[n, o] + r[n, o])\n  return z\n"),
    "chain": (
        "(f32[node, O], f32[node, O])",
        "  u[n, o] = y[n, o] * y[n, o] + b[o]\n  z[m, o] = u[m, o] - y[m, o]\n  return u, z\n",
    ),
    "transposed": ("f32[O, node]", "  z[o, n] = max(y[n, o], t[o, n])\n  return z\n"),
}
APART = {
    "rows": ("f32[node, O]", "  z[n, o] = y[n, o] * s[n]\n  return z\n"),
    "sums": ("f32[node]", "  z[n] += y[n, o]\n  return z\n"),
    "gathered": ("f32[edge, O]", "  z[p, o] = y[p.src, o]\n  return z\n"),
}


def program(case: tuple[str, str], type: str = "f16", product: str = PRODUCT) -> str:
    results, rest = case
    head = HEAD.replace("T[", f"{type}[")
    return f"{head}{results} {{\n{product}{rest}}}\n"


def kernels(text: str, search: bool = True) -> list[KernelOp]:
    module = optimise(hectorite.parse(text), {"I": 40, "O": 48}, Options(search=search))
    tile = to_tile(module, "f", Machine.gpu(target("sm_80")))
    tile.verify()
    return [op for op in tile.ops if isinstance(op, KernelOp)]


def agree(
    text: str, nodes: int, inner: int, lanes: int, seed: int, *targets: str, search: bool = True
) -> None:
    wanted: Any = None
    sizes, draw = {"I": inner, "O": lanes}, np.random.default_rng(seed)
    maps = {name: draw.integers(0, nodes, 70).astype(np.int32) for name in ("src", "dst")}
    maps["kind"] = draw.integers(0, 3, 70).astype(np.int32)
    extents = {**sizes, "node": nodes, "edge": 70, "kind": 3}
    for each in ("reference", *targets):
        compiled = hectorite.compile(text, each, sizes=sizes, cache=False, search=search)
        function, drawn = compiled["f"], np.random.default_rng(seed)
        arguments = {
            p.name: drawn.integers(-2, 3, [extents.get(d, d) for d in p.dims]).astype(
                p.element.storage
            )[()]
            for p in function.signature.parameters
        }
        found = function(compiled.bind(node=nodes, kind=3, edge=maps), **arguments)
        found = found if isinstance(found, tuple) else (found,)
        wanted = wanted or found
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(np.float64(one), np.float64(other))


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_one_kernel_and_the_product_is_not_stored(name: str):
    (kernel,) = kernels(program(PROGRAMS[name]))
    assert any(isinstance(op, ProductOp) for op in kernel.walk())
    stores = [op for op in kernel.walk() if op.name == "tile.store"]
    assert len(stores) == (2 if name == "chain" else 1)


@pytest.mark.parametrize("name", APART)
def test_what_needs_more_than_the_block_is_a_kernel_of_its_own(name: str):
    assert len(kernels(program(APART[name]))) > 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_results_are_those_of_the_statements(name: str):
    agree(program(PROGRAMS[name]), 77, 40, 24, 3, "tile", "ptx:sm_90a")


@settings(max_examples=2, deadline=None)
@given(
    st.sampled_from(sorted(PROGRAMS)),
    st.sampled_from(["f16", "f32"]),
    st.integers(1, 150),
    st.integers(4, 70),
    st.integers(8, 70),
)
def test_any_sizes(name: str, type: str, nodes: int, inner: int, lanes: int):
    agree(program(PROGRAMS[name], type), nodes, inner, lanes, 1, "ptx:sm_80")


TYPED = "  y[p, o] += f32(x[p.src, i]) * f32(V[p.kind, i, o])\n"


def test_rows_of_a_grouped_product_are_followed_in_their_order():
    text = program(
        ("f32[edge, O]", "  z[p, o] = relu(y[p, o]) + e[p, o]\n  return z\n"), "f16", TYPED
    )
    assert len(kernels(text, search=False)) == 1
    agree(text, 20, 32, 16, 2, "tile", "ptx:sm_80", search=False)
