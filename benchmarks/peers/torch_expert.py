"""The best we know how to write in torch without a kernel of our own.

Relational layers: transform each distinct (type, source) once, one product for each relation into a
shared output; fold attention vectors through the weights; leave scores and aggregation to MKL's CSR
kernels. Graph attention: all heads as the blocks of one CSR matrix.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.cases import FEATURES, HEADS, SLOPE, Case, Data
from benchmarks.peers.table import Call, peer
from benchmarks.peers.torch_layers import group_starts, weights_of
from benchmarks.peers.torch_sparse_ops import indices, place, tensor, threaded_torch


def row_pointers(row: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))]).astype(np.int32)


class Compacted:
    """A typed graph with its distinct (type, source) pairs, its entries in order of destination."""

    def __init__(self, data: Data) -> None:
        torch = threaded_torch()
        self.n, key = data["n"], data["type"].astype(np.int64) * data["n"]
        pairs, pair_of = np.unique(key + data["src"], return_inverse=True)
        order = np.lexsort((pair_of, data["dst"]))
        self.order = order
        self.pairs = len(pairs)
        self.pair_node = indices(pairs % self.n)
        self.pair_starts = group_starts(pairs // self.n, data["R"])
        self.indptr = tensor(row_pointers(data["dst"], self.n))
        self.col = tensor(pair_of[order].astype(np.int32))
        self.row, self.wide_col = indices(data["dst"][order]), indices(pair_of[order])
        targets, target_of = np.unique((key + data["dst"])[order], return_inverse=True)
        self.target_of = indices(target_of)
        self.torch = torch
        self.source_pattern = self.pattern(pairs, data["R"])
        self.target_pattern = self.pattern(targets, data["R"])

    def pattern(self, keys: np.ndarray, relations: int):
        """Sorted (type, node) pairs as an MKL matrix [types, nodes] of zeros."""
        starts = tensor(row_pointers(keys // self.n, relations))
        nodes = tensor((keys % self.n).astype(np.int32))
        zero = self.torch.zeros(len(keys), device=place())
        return self.torch.sparse_csr_tensor(starts, nodes, zero, (relations, self.n))

    def matrix(self, values):
        """The entries as an MKL matrix [nodes, pairs]."""
        shape = (self.n, self.pairs)
        build = self.torch.sparse_csr_tensor
        return build(self.indptr, self.col, values, shape, check_invariants=False)

    def softmax(self, score):
        """Softmax of score [entries] over each destination."""
        torch = self.torch
        top = score.new_full((self.n,), -torch.inf).scatter_reduce_(0, self.row, score, "amax")
        weight = score.sub_(top[self.row]).exp_()
        total = score.new_zeros(self.n).index_add_(0, self.row, weight)
        return weight.div_(total[self.row])


def grouped_product(torch, x, weight, starts):
    """x[rows of r] @ weight[r] for each r, written into one output."""
    out = x.new_empty(len(x), weight.shape[2])
    for r, (begin, end) in enumerate(zip(starts, starts[1:], strict=False)):
        if end > begin:
            torch.mm(x[begin:end], weight[r], out=out[begin:end])
    return out


@peer("torch expert", "torch", "rgcn rgat hgt", expert=True)
def relational(data: Data, case: Case) -> Call:
    torch = threaded_torch()
    graph, h, p = Compacted(data), tensor(data["h"]), weights_of(data, case.kind)
    leaky_relu = torch.nn.functional.leaky_relu
    node_starts = group_starts(data["ntype"], data["T"])

    def transformed(x, weight):
        return grouped_product(torch, x[graph.pair_node], weight, graph.pair_starts)

    def by_node_type(x, weight):
        return grouped_product(torch, x, weight, node_starts)

    def node_scores(pattern, vectors):
        """dot(W[type] vectors[type], h[node]) for each distinct pair, nothing else computed."""
        folded = torch.bmm(p["W"], vectors[:, :, None])[:, :, 0]
        return torch.sparse.sampled_addmm(pattern, folded, h.t(), beta=0.0).values()

    def rgcn():
        return (h @ p["W0"]).add_(graph.matrix(norm) @ transformed(h, p["W"])).relu_()

    def rgat():
        source = transformed(h, p["W"])
        from_source = node_scores(graph.source_pattern, p["al"])
        from_target = node_scores(graph.target_pattern, p["ar"])
        score = from_source[graph.wide_col] + from_target[graph.target_of]
        return graph.matrix(graph.softmax(leaky_relu(score, SLOPE, True))) @ source

    def hgt():
        k, q, v = (by_node_type(h, p[name]) for name in ("Wk", "Wq", "Wv"))
        key = transformed(k, p["Wa"] * (p["mu"] / math.sqrt(FEATURES))[:, None, None])
        score = torch.sparse.sampled_addmm(graph.matrix(zero), q, key.t(), beta=0.0).values()
        t = graph.matrix(graph.softmax(score)) @ transformed(v, p["Wm"])
        return by_node_type(torch.nn.functional.gelu(t), p["Wo"])

    zero = torch.zeros(len(graph.col), device=place())
    norm = tensor(data["norm"][graph.order]) if case.kind == "rgcn" else None
    return {"rgcn": rgcn, "rgat": rgat, "hgt": hgt}[case.kind]


@peer("torch expert", "torch", "gat", expert=True)
def attention(data: Data, case: Case) -> Call:
    torch = threaded_torch()
    n, entries = data["n"], len(data["row"])
    row, col = indices(data["row"]), indices(data["col"])
    x, weight = tensor(data["x"]), tensor(data["W"].transpose(1, 0, 2))
    left, right = (tensor(data[name])[:, :, None] for name in ("al", "ar"))
    # Head k is rows and columns k n .. (k + 1) n of one matrix.
    heads = np.arange(HEADS, dtype=np.int64)[:, None]
    col_of_head = tensor((data["col"] + heads * n).astype(np.int32).ravel())
    starts = (data["indptr"][:-1] + heads * entries).ravel()
    indptr = tensor(np.append(starts, HEADS * entries).astype(np.int32))
    row_of_head = indices((data["row"] + heads * n).ravel())
    shape = (HEADS * n, HEADS * n)

    def gat():
        z = torch.matmul(x, weight)
        to_source, to_target = ((z @ a)[:, :, 0] for a in (left, right))
        score = to_source[:, col].add_(to_target[:, row]).view(-1)
        score = torch.nn.functional.leaky_relu(score, SLOPE, True)
        top = score.new_full((HEADS * n,), -torch.inf)
        top.scatter_reduce_(0, row_of_head, score, "amax")
        share = score.sub_(top[row_of_head]).exp_()
        total = score.new_zeros(HEADS * n).index_add_(0, row_of_head, share)
        share.div_(total[row_of_head])
        a = torch.sparse_csr_tensor(indptr, col_of_head, share, shape, check_invariants=False)
        return (a @ z.view(HEADS * n, -1)).view(HEADS, n, -1).transpose(0, 1).contiguous()

    return gat
