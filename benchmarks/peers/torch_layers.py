"""Relational layers in plain torch, eager and compiled.

Two ways to apply a weight per edge type: one product for each relation over its edges (`loop`), or
a batch of row times matrix with the weights gathered per edge (`gather`), which only pays where
the compiler fuses the gather into the product.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from benchmarks.cases import FEATURES, SLOPE, Case, Data
from benchmarks.peers.table import Call, Skip, peer
from benchmarks.peers.torch_sparse_ops import (
    compiler_for,
    indices,
    row_softmax,
    tensor,
    threaded_torch,
)

WEIGHTS = {
    "rgcn": ("W", "W0", "norm"),
    "rgat": ("W", "al", "ar"),
    "hgt": ("Wk", "Wq", "Wv", "Wa", "Wm", "mu", "Wo"),
}


def group_starts(kind: np.ndarray, kinds: int) -> list[int]:
    """Where each kind begins in a sorted array, and its length at the end."""
    return np.searchsorted(kind, np.arange(kinds + 1)).tolist()


def group_sizes(kind: np.ndarray, kinds: int) -> list[int]:
    """How many elements each kind has."""
    return [end - begin for begin, end in pairwise(group_starts(kind, kinds))]


def weights_of(data: Data, kind: str) -> dict:
    """The parameters of a layer, heads of one dropped: [*, 64, 64] and [*]."""
    kept = {}
    for name in WEIGHTS[kind]:
        value = tensor(data[name])
        one_head = kind == "hgt"
        shape = (len(value),) if name == "mu" else (len(value), FEATURES, FEATURES)
        kept[name] = value.reshape(shape) if one_head else value
    return kept


def layer(data: Data, kind: str, gather_weights: bool):
    """The layer as a function of h, the way the papers write it."""
    torch = threaded_torch()
    src, dst, edge_type = (indices(data[name]) for name in ("src", "dst", "type"))
    n = data["n"]
    edges_of = group_sizes(data["type"], data["R"])
    nodes_of = group_sizes(data["ntype"], data["T"])
    p = weights_of(data, kind)

    def by_group(x, w, sizes):
        return torch.cat([part @ wr for part, wr in zip(x.split(sizes), w.unbind(0), strict=True)])

    def by_edge(x, w):
        if gather_weights:
            return torch.bmm(x[:, None], w[edge_type])[:, 0]
        return by_group(x, w, edges_of)

    def into_nodes(message):
        return message.new_zeros(n, FEATURES).index_add(0, dst, message)

    def rgcn(h):
        message = by_edge(h[src], p["W"]) * p["norm"][:, None]
        return torch.relu(h @ p["W0"] + into_nodes(message))

    def rgat(h):
        source, target = by_edge(h[src], p["W"]), by_edge(h[dst], p["W"])
        score = (source * p["al"][edge_type]).sum(1) + (target * p["ar"][edge_type]).sum(1)
        score = torch.nn.functional.leaky_relu(score, SLOPE)
        return into_nodes(row_softmax(torch, score, dst, n)[:, None] * source)

    def hgt(h):
        k, q, v = (by_group(h, p[name], nodes_of) for name in ("Wk", "Wq", "Wv"))
        scale = (p["mu"] / math.sqrt(FEATURES))[edge_type]
        score = (by_edge(k[src], p["Wa"]) * q[dst]).sum(1) * scale
        weight = row_softmax(torch, score, dst, n)
        t = into_nodes(weight[:, None] * by_edge(v[src], p["Wm"]))
        return by_group(torch.nn.functional.gelu(t), p["Wo"], nodes_of)

    return {"rgcn": rgcn, "rgat": rgat, "hgt": hgt}[kind]


@peer("torch loop", "torch", "rgcn rgat hgt")
def eager(data: Data, case: Case) -> Call:
    function, h = layer(data, case.kind, gather_weights=False), tensor(data["h"])
    return lambda: function(h)


@peer("torch.compile loop", "inductor", "rgcn rgat hgt", slow_start=True)
def compiled_loop(data: Data, case: Case) -> Call:
    if data["R"] > 128:
        raise Skip(f"{data['R']} unrolled products take minutes to compile")
    return compiled(data, case, gather_weights=False)


@peer("torch.compile gather", "inductor", "rgcn rgat hgt", slow_start=True)
def compiled_gather(data: Data, case: Case) -> Call:
    return compiled(data, case, gather_weights=True)


def compiled(data: Data, case: Case, gather_weights: bool) -> Call:
    torch = compiler_for(case)
    function, h = torch.compile(layer(data, case.kind, gather_weights)), tensor(data["h"])
    return lambda: function(h)
