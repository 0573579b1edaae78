"""The C kernels of `kernels.c` as peers: what a specialist writes for one shape."""

from __future__ import annotations

import numpy as np

from benchmarks.cases import Case, Data
from benchmarks.native import NoCompiler, aligned, call, library
from benchmarks.peers.numba_loops import reusing
from benchmarks.peers.table import Call, Skip, peer


def require_compiler() -> None:
    try:
        library()
    except NoCompiler as reason:
        raise Skip(str(reason)) from None


@peer("C expert", "native", "spmm spmv sddmm", expert=True)
def products(data: Data, case: Case) -> Call:
    require_compiler()
    pattern = (data["n"], data["indptr"], data["col"], data["A"])

    def spmm(out: np.ndarray) -> np.ndarray:
        call(f"spmm{case.width}", *pattern, data["B"], out)
        return out

    def spmv(out: np.ndarray) -> np.ndarray:
        call("spmv", *pattern, data["x"], out)
        return out

    def sddmm(out: np.ndarray) -> np.ndarray:
        call("sddmm64", *pattern, data["P"], data["Q"], out)
        return out

    if case.kind == "spmm":
        return reusing(lambda: aligned(data["B"].shape), spmm)
    if case.kind == "spmv":
        return reusing(lambda: aligned(data["x"].shape), spmv)
    return reusing(lambda: aligned(data["A"].shape), sddmm)


@peer("C expert", "native", "gat", expert=True)
def attention(data: Data, case: Case) -> Call:
    require_compiler()
    n, (inputs, heads, width) = data["n"], data["W"].shape
    x, weight = data["x"], data["W"].reshape(inputs, heads * width)
    longest = int(np.diff(data["indptr"]).max())

    def gat(buffers: list[np.ndarray]) -> np.ndarray:
        z, s, t, y = buffers
        call("gat_nodes", n, x, weight, data["al"], data["ar"], z, s, t)
        call("gat_edges", n, longest, data["indptr"], data["col"], s, t, z, y)
        return y.reshape(n, heads, width)

    shapes = ((n, heads * width), (n, heads), (n, heads), (n, heads * width))
    return reusing(lambda: [aligned(shape) for shape in shapes], gat)
