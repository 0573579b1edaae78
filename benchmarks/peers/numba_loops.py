"""Loops that a careful user of numba writes: row blocks of equal work, reused output arrays."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numpy as np

from benchmarks.cases import SLOPE, Case, Data
from benchmarks.peers.table import Call, peer

BLOCKS = 64


@cache
def kernels() -> SimpleNamespace:
    """Compiled on first use, by argument type."""
    import numba

    parallel = numba.njit(parallel=True, fastmath=True)

    @parallel
    def spmm(cut, indptr, col, a, b, out):
        for block in numba.prange(len(cut) - 1):
            for i in range(cut[block], cut[block + 1]):
                target = out[i]
                target[:] = 0
                for e in range(indptr[i], indptr[i + 1]):
                    source = b[col[e]]
                    for f in range(b.shape[1]):
                        target[f] += a[e] * source[f]

    @parallel
    def spmv(cut, indptr, col, a, x, out):
        for block in numba.prange(len(cut) - 1):
            for i in range(cut[block], cut[block + 1]):
                total = np.float32(0)
                for e in range(indptr[i], indptr[i + 1]):
                    total += a[e] * x[col[e]]
                out[i] = total

    @parallel
    def sddmm(cut, indptr, col, a, p, q, out):
        for block in numba.prange(len(cut) - 1):
            for i in range(cut[block], cut[block + 1]):
                left = p[i]
                for e in range(indptr[i], indptr[i + 1]):
                    right, dot = q[col[e]], np.float32(0)
                    for f in range(p.shape[1]):
                        dot += left[f] * right[f]
                    out[e] = a[e] * dot

    @parallel
    def attention(cut, indptr, col, z, s, t, weight, out):
        heads, width = z.shape[1], z.shape[2]
        for block in numba.prange(len(cut) - 1):
            for i in range(cut[block], cut[block + 1]):
                begin, end = indptr[i], indptr[i + 1]
                out[i] = 0
                for k in range(heads):
                    top, total = np.float32(-np.inf), np.float32(0)
                    for e in range(begin, end):
                        score = s[col[e], k] + t[i, k]
                        weight[e, k] = max(score, np.float32(SLOPE) * score)
                        top = max(top, weight[e, k])
                    for e in range(begin, end):
                        weight[e, k] = math.exp(weight[e, k] - top)
                        total += weight[e, k]
                    for e in range(begin, end):
                        weight[e, k] /= total
                for e in range(begin, end):
                    source = z[col[e]]
                    for k in range(heads):
                        for f in range(width):
                            out[i, k, f] += weight[e, k] * source[k, f]

    return SimpleNamespace(spmm=spmm, spmv=spmv, sddmm=sddmm, attention=attention)


def row_blocks(indptr: np.ndarray) -> np.ndarray:
    """First row of each of 64 blocks with about the same number of entries."""
    cut = np.searchsorted(indptr, np.linspace(0, indptr[-1], BLOCKS + 1)).astype(np.int64)
    cut[0], cut[-1] = 0, len(indptr) - 1
    return cut


def reusing(make_output, run) -> Call:
    """A call that makes its output arrays the first time and writes into them again."""
    kept: list[object] = []

    def call() -> object:
        if not kept:
            kept.append(make_output())
        return run(kept[0])

    return call


@peer("numba", "numba", "spmm spmv sddmm gat")
def numba_loops(data: Data, case: Case) -> Call:
    compiled = kernels()
    cut, indptr, col = row_blocks(data["indptr"]), data["indptr"], data["col"]

    def spmm(out: np.ndarray) -> np.ndarray:
        compiled.spmm(cut, indptr, col, data["A"], data["B"], out)
        return out

    def spmv(out: np.ndarray) -> np.ndarray:
        compiled.spmv(cut, indptr, col, data["A"], data["x"], out)
        return out

    def sddmm(out: np.ndarray) -> np.ndarray:
        compiled.sddmm(cut, indptr, col, data["A"], data["P"], data["Q"], out)
        return out

    def gat(buffers: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        weight, out = buffers
        z = (data["x"] @ flat).reshape(out.shape)
        s, t = (z * data["al"]).sum(2), (z * data["ar"]).sum(2)
        compiled.attention(cut, indptr, col, z, s, t, weight, out)
        return out

    if case.kind == "spmm":
        return reusing(lambda: np.empty_like(data["B"]), spmm)
    if case.kind == "spmv":
        return reusing(lambda: np.empty_like(data["x"]), spmv)
    if case.kind == "sddmm":
        return reusing(lambda: np.empty_like(data["A"]), sddmm)
    inputs, heads, width = data["W"].shape
    flat = data["W"].reshape(inputs, heads * width)
    shapes = (len(col), heads), (data["n"], heads, width)
    return reusing(lambda: tuple(np.empty(shape, np.float32) for shape in shapes), gat)
