"""torch without a graph library: sparse CSR (MKL), gather and scatter, and its compiler."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from types import ModuleType

import numpy as np

from benchmarks.cases import SLOPE, Case, Data
from benchmarks.peers.table import Call, Skip, peer


@cache
def threaded_torch() -> ModuleType:
    """torch with the number of threads of this run, without gradients."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.set_grad_enabled(False)
    torch.set_float32_matmul_precision("highest")  # no tf32 for anybody: nothing of ours uses it
    return torch


def on_gpu() -> bool:
    """Whether this race is one of GPUs; then every tensor of torch lives there."""
    return os.environ.get("BENCHMARK_DEVICE") == "cuda"


def place() -> str:
    """Where tensors live. A default device would slow down every call of torch from Python."""
    return "cuda" if on_gpu() else "cpu"


def tensor(array: np.ndarray):
    """The array as a torch tensor, without a copy where it is contiguous and stays here."""
    return threaded_torch().from_numpy(np.ascontiguousarray(array)).to(place())


@lru_cache(maxsize=1)
def compiler_for(case: Case) -> ModuleType:
    """torch, whose compiler has forgotten the case before: it gives up on a function that it has
    compiled for too many shapes, and what it compiled for this case must stay until it is timed."""
    torch = threaded_torch()
    torch._dynamo.reset()
    return torch


def indices(array: np.ndarray):
    """An index array as torch wants it: int64."""
    return tensor(array.astype(np.int64))


def row_softmax(torch, score, row, n: int):
    """Softmax of score [E] or [E, heads] over the entries of each row."""
    wide = row if score.ndim == 1 else row[:, None].expand_as(score)
    shape = (n, *score.shape[1:])
    top = score.new_full(shape, -torch.inf).scatter_reduce(0, wide, score, "amax")
    weight = (score - top[row]).exp()
    return weight / score.new_zeros(shape).index_add(0, row, weight)[row]


def compressed(data: Data, values: np.ndarray):
    """A CSR tensor with 32-bit indices, which is what MKL takes."""
    parts = (tensor(data["indptr"]), tensor(data["col"]), tensor(values))
    return threaded_torch().sparse_csr_tensor(*parts, (data["n"], data["n"]))


@peer("torch CSR (MKL)", "torch", "spmm spmv sddmm")
def csr(data: Data, case: Case) -> Call:
    torch = threaded_torch()
    if case.kind == "spmm":
        a, b = compressed(data, data["A"]), tensor(data["B"])
        return lambda: a @ b
    if case.kind == "spmv":
        a, x = compressed(data, data["A"]), tensor(data["x"])
        return lambda: a @ x
    pattern = compressed(data, np.zeros_like(data["A"]))
    a, p, q = tensor(data["A"]), tensor(data["P"]), tensor(data["Q"]).t()
    return lambda: torch.sparse.sampled_addmm(pattern, p, q, beta=0.0).values() * a


def gathered(data: Data, case: Case):
    """The kind as gathers and scatters, with its arguments: what torch users write first."""
    torch = threaded_torch()
    row, col, n = indices(data["row"]), indices(data["col"]), data["n"]

    def spmm(a, b):
        return b.new_zeros(n, b.shape[1]).index_add(0, row, a[:, None] * b[col])

    def sddmm(a, p, q):
        return a * (p[row] * q[col]).sum(1)

    def gat(x, w, al, ar):
        z = (x @ w.flatten(1)).view(n, *w.shape[1:])
        score = (z * al).sum(2)[col] + (z * ar).sum(2)[row]
        score = torch.nn.functional.leaky_relu(score, SLOPE)
        weight = row_softmax(torch, score, row, n)
        return z.new_zeros(z.shape).index_add(0, row, weight[:, :, None] * z[col])

    names = {"spmm": ("A", "B"), "sddmm": ("A", "P", "Q"), "gat": ("x", "W", "al", "ar")}
    function = {"spmm": spmm, "sddmm": sddmm, "gat": gat}[case.kind]
    return function, [tensor(data[name]) for name in names[case.kind]]


@peer("torch gather/scatter", "torch", "spmm sddmm gat")
def eager(data: Data, case: Case) -> Call:
    function, arguments = gathered(data, case)
    return lambda: function(*arguments)


@peer("torch.compile gather/scatter", "inductor", "spmm sddmm gat", slow_start=True)
def compiled(data: Data, case: Case) -> Call:
    if case.kind == "spmm" and len(data["row"]) > 100_000 and not on_gpu():
        raise Skip("compiled scatters are atomic additions: 100x slower than CSR at this size")
    function, arguments = gathered(data, case)
    fused = compiler_for(case).compile(function)
    return lambda: fused(*arguments)
