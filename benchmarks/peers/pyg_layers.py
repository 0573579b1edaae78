"""PyTorch Geometric's own layers, with the weights of the case copied in.

They use pyg-lib, torch_scatter and torch_sparse by themselves where those are installed.
"""

from __future__ import annotations

import os

import numpy as np

from benchmarks.cases import FEATURES, HEADS, SLOPE, Case, Data
from benchmarks.peers.table import Call, Skip, peer
from benchmarks.peers.torch_layers import group_starts
from benchmarks.peers.torch_sparse_ops import indices, on_gpu, place, tensor, threaded_torch


def fill(parameter, value: np.ndarray) -> None:
    """Sets a parameter of a layer, in the layer's own shape."""
    parameter.data.copy_(tensor(value).reshape(parameter.shape))


def refuse_huge(byte_count: int, what: str) -> None:
    """Skips a layer that would take most of the memory of the machine, or of its GPU."""
    if on_gpu():
        memory = threaded_torch().cuda.mem_get_info()[1]
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if byte_count > memory / 4:
        raise Skip(f"{what}: {byte_count / 2**30:.0f} GiB")


def copied_weights(data: Data, copies: int) -> None:
    size = len(data["src"]) * copies * FEATURES * FEATURES * 4
    refuse_huge(size, f"copies a weight matrix for each edge, {copies} times")


@peer("PyG RGCNConv", "pyg", "rgcn")
def rgcn(data: Data, case: Case) -> Call:
    return relational_convolution(data, "RGCNConv")


@peer("PyG FastRGCNConv", "pyg", "rgcn")
def fast_rgcn(data: Data, case: Case) -> Call:
    copied_weights(data, 1)
    return relational_convolution(data, "FastRGCNConv")


def relational_convolution(data: Data, name: str) -> Call:
    torch = threaded_torch()
    from torch_geometric import nn

    # Its mean over each relation is the norm of the case.
    kind = getattr(nn, name)
    conv = kind(FEATURES, FEATURES, data["R"], aggr="mean", bias=False, is_sorted=True)
    conv = conv.to(place())
    fill(conv.weight, data["W"])
    fill(conv.root, data["W0"])
    h, edges = tensor(data["h"]), torch.stack([indices(data["src"]), indices(data["dst"])])
    edge_type = indices(data["type"])
    return lambda: conv(h, edges, edge_type).relu_()


@peer("PyG RGATConv", "pyg", "rgat")
def rgat(data: Data, case: Case) -> Call:
    copied_weights(data, 2)
    torch = threaded_torch()
    from torch_geometric.nn import RGATConv

    conv = RGATConv(FEATURES, FEATURES, data["R"], heads=1, negative_slope=SLOPE, bias=False)
    conv = conv.to(place())
    fill(conv.weight, data["W"])
    fill(conv.k, data["al"][0])
    fill(conv.q, data["ar"][0])
    h, edges = tensor(data["h"]), torch.stack([indices(data["src"]), indices(data["dst"])])
    edge_type = indices(data["type"])
    return lambda: conv(h, edges, edge_type)


@peer("PyG HGTConv", "pyg", "hgt")
def hgt(data: Data, case: Case) -> Call:
    torch = threaded_torch()
    from torch_geometric.nn import HGTConv

    ntype, starts = data["ntype"], group_starts(data["ntype"], data["T"])
    edge_starts = group_starts(data["type"], data["R"])
    relations = []
    for r in range(data["R"]):
        edges = slice(edge_starts[r], edge_starts[r + 1])
        ends = [np.unique(ntype[data[end][edges]]) for end in ("src", "dst")]
        if any(len(end) != 1 for end in ends):
            raise Skip(f"edge type {r} does not join exactly one pair of node types")
        relations.append((str(ends[0][0]), f"relation{r}", str(ends[1][0])))
    names = [str(t) for t in range(data["T"])]
    conv = HGTConv(FEATURES, FEATURES, (names, relations), heads=1)
    conv = conv.to(place())
    for t, name in enumerate(names):
        stacked = [data[w][t].reshape(FEATURES, FEATURES).T for w in ("Wk", "Wq", "Wv")]
        fill(conv.kqv_lin.lins[name].weight, np.concatenate(stacked))
        fill(conv.out_lin.lins[name].weight, data["Wo"][t].reshape(FEATURES, FEATURES).T)
        for linear in (conv.kqv_lin.lins[name], conv.out_lin.lins[name]):
            linear.bias.data.zero_()
        conv.skip[name].data.fill_(100.0)  # its residual connection is not part of the case
    fill(conv.k_rel.weight, data["Wa"])
    fill(conv.v_rel.weight, data["Wm"])
    edges = {}
    for r, relation in enumerate(relations):
        fill(conv.p_rel["__".join(relation)], data["mu"][r])
        part = slice(edge_starts[r], edge_starts[r + 1])
        ends = (data["src"][part] - starts[int(relation[0])],)
        ends += (data["dst"][part] - starts[int(relation[2])],)
        edges[relation] = torch.stack([indices(end) for end in ends])
    h = tensor(data["h"])
    parts = {name: h[starts[t] : starts[t + 1]] for t, name in enumerate(names)}

    def call():
        out = conv(parts, edges)
        return torch.cat([out[name] for name in names])

    return call


@peer("PyG GATConv", "pyg", "gat")
def gat(data: Data, case: Case) -> Call:
    torch = threaded_torch()
    from torch_geometric.nn import GATConv

    inputs, _, width = data["W"].shape
    conv = GATConv(
        inputs, width, heads=HEADS, negative_slope=SLOPE, add_self_loops=False, bias=False
    )
    conv = conv.to(place())
    fill(conv.lin.weight, data["W"].reshape(inputs, HEADS * width).T)
    fill(conv.att_src, data["al"])
    fill(conv.att_dst, data["ar"])
    x, edges = tensor(data["x"]), torch.stack([indices(data["col"]), indices(data["row"])])
    return lambda: conv(x, edges).view(-1, HEADS, width)
