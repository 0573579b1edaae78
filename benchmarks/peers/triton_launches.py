"""Triton kernels on a GPU, as their users write them: sparse CSR times dense, and f16 products.

The kernels are those of the static comparison (`triton_kernels.py`); the product tries the tiles of
Triton's own tutorial and keeps the fastest, before anything is timed.
"""

from __future__ import annotations

import math

from benchmarks.cases import Case, Data
from benchmarks.peers.table import Call, peer
from benchmarks.peers.torch_sparse_ops import tensor, threaded_torch

TILES = ((128, 256, 64, 8, 3), (128, 128, 32, 8, 3), (64, 256, 32, 4, 4), (64, 64, 32, 4, 4))
"""tile_m, tile_n, tile_k, warps, stages."""


@peer("Triton CSR", "triton", "spmm")
def spmm(data: Data, case: Case) -> Call:
    threaded_torch()
    from benchmarks.peers.triton_kernels import spmm as kernel

    starts, columns = tensor(data["indptr"]), tensor(data["col"])
    values, x = tensor(data["A"]), tensor(data["B"])
    rows, width = data["n"], x.shape[1]
    lanes = 1 << (width - 1).bit_length()

    def call():
        y = x.new_empty(rows, width)
        kernel[(rows, 1)](
            starts, columns, values, x, y, width, x.stride(0), y.stride(0), lanes=lanes, num_warps=1
        )
        return y

    return call


@peer("Triton", "triton", "gemm16")
def product(data: Data, case: Case) -> Call:
    threaded_torch()
    from triton.runtime.errors import OutOfResources
    from triton.testing import do_bench

    from benchmarks.peers.triton_kernels import product as kernel

    a, b = tensor(data["A"]), tensor(data["B"])
    (m, k), n = a.shape, b.shape[1]

    def with_tiles(tile_m: int, tile_n: int, tile_k: int, warps: int, stages: int) -> Call:
        grid = (-(-m // tile_m) * -(-n // tile_n),)

        def call():
            c = a.new_empty(m, n)
            kernel[grid](
                a, b, c, m, n, k, a.stride(0), b.stride(0), c.stride(0), tile_m=tile_m,
                tile_n=tile_n, tile_k=tile_k, group=8, num_warps=warps, num_stages=stages,
            )  # fmt: skip
            return c

        return call

    def milliseconds(call: Call) -> float:
        try:
            return do_bench(call)
        except OutOfResources:  # tiles that are too large for the shared memory of this card
            return math.inf

    return min((with_tiles(*tiles) for tiles in TILES), key=milliseconds)
