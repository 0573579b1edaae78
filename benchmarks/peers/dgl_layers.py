"""DGL, where a release that works with the installed torch can be imported."""

from __future__ import annotations

from benchmarks.cases import FEATURES, HEADS, Case, Data
from benchmarks.peers.pyg_layers import fill
from benchmarks.peers.table import Call, peer
from benchmarks.peers.torch_sparse_ops import indices, tensor, threaded_torch


@peer("DGL", "dgl", "spmm sddmm gat")
def sparse(data: Data, case: Case) -> Call:
    threaded_torch()
    import dgl
    import dgl.nn

    ends = (tensor(data["col"]), tensor(data["row"]))
    graph = dgl.graph(ends, num_nodes=data["n"])
    graph.create_formats_()
    if case.kind == "gat":
        conv = dgl.nn.GATConv(
            FEATURES, FEATURES // HEADS, HEADS, bias=False, allow_zero_in_degree=True
        )
        fill(conv.fc.weight, data["W"].reshape(FEATURES, FEATURES).T)
        fill(conv.attn_l, data["al"])
        fill(conv.attn_r, data["ar"])
        x = tensor(data["x"])
        return lambda: conv(graph, x)
    a = tensor(data["A"])
    if case.kind == "spmm":
        b, column = tensor(data["B"]), a[:, None]
        return lambda: dgl.ops.u_mul_e_sum(graph, b, column)
    p, q = tensor(data["P"]), tensor(data["Q"])
    return lambda: dgl.ops.u_dot_v(graph, q, p)[:, 0] * a


@peer("DGL RelGraphConv", "dgl", "rgcn")
def relational(data: Data, case: Case) -> Call:
    threaded_torch()
    import dgl
    import dgl.nn

    graph = dgl.graph((indices(data["src"]), indices(data["dst"])), num_nodes=data["n"])
    graph.create_formats_()
    conv = dgl.nn.RelGraphConv(FEATURES, FEATURES, data["R"], bias=False, self_loop=True)
    fill(conv.linear_r.W, data["W"])
    fill(conv.loop_weight, data["W0"])
    h, edge_type = tensor(data["h"]), indices(data["type"])
    norm = tensor(data["norm"])[:, None]
    return lambda: conv(graph, h, edge_type, norm=norm, presorted=True).relu_()
