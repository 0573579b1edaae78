"""Layers on graphs, written in the language, each in the order of products that is wrong for it.

Enters: a scale for nodes and edges. Leaves: networks whose sets are random graphs of the size and
the skew of Cora and ogbn-arxiv.
"""

from __future__ import annotations

from benchmarks.networks.network import Draw, Network, from_program, scaled

CORA = (2708, 10556)
ARXIV = (169_343, 1_166_243)

_SETS = """set node
set edge {{ src: node, dst: node }}

"""

_AGGREGATE_FIRST = """def gcn(
    x: f32[node, {0}], W: f32[{0}, {1}], V: f32[{1}, {2}], norm: f32[edge]
) -> f32[node, {2}] {{
  a[e.dst, i] += x[e.src, i] * norm[e]
  p[n, h]     += a[n, i] * W[i, h]
  r[n, h]      = relu(p[n, h])
  b[e.dst, h] += r[e.src, h] * norm[e]
  y[n, o]     += b[n, h] * V[h, o]
  return y
}}
"""

_PROJECT_FIRST = """def gcn(
    x: f32[node, {0}], W: f32[{0}, {1}], V: f32[{1}, {2}], norm: f32[edge]
) -> f32[node, {2}] {{
  p[n, h]     += x[n, i] * W[i, h]
  a[e.dst, h] += p[e.src, h] * norm[e]
  r[n, h]      = relu(a[n, h])
  q[n, o]     += r[n, h] * V[h, o]
  y[e.dst, o] += q[e.src, o] * norm[e]
  return y
}}
"""

_SCORES = """def scores(x: f32[node, {0}], W: f32[{0}, {1}], a: f32[{2}]) -> f32[edge] {{
  xs[e, i] = x[e.src, i]
  xd[e, i] = x[e.dst, i]
  zs[e, o] += xs[e, i] * W[i, o]
  zd[e, o] += xd[e, i] * W[i, o]
  c[e, o]       = zs[e, o]
  c[e, o + {1}] = zd[e, o]
  s[e] += c[e, k] * a[k]
  y[e]  = leaky_relu(s[e], 0.2)
  return y
}}
"""


def gcn_aggregate_first(scale: float = 1.0) -> Network:
    """Two layers of GCN, 1433 -> 16 -> 7 features on a graph like Cora, edges before products."""
    return _gcn("gcn_aggregate_first", _AGGREGATE_FIRST, (1433, 16, 7), scale)


def gcn_project_first(scale: float = 1.0) -> Network:
    """Two layers of GCN, 16 -> 256 -> 7 features on a graph like Cora, products before edges."""
    return _gcn("gcn_project_first", _PROJECT_FIRST, (16, 256, 7), scale)


def _gcn(name: str, program: str, widths: tuple[int, int, int], scale: float) -> Network:
    nodes, edges = (scaled(count, scale) for count in CORA)
    first, second, third = (scaled(width, scale) for width in widths)
    draws = {
        "x": Draw((nodes, first)),
        "W": Draw((first, second), first**-0.5),
        "V": Draw((second, third), second**-0.5),
        "norm": Draw((edges,), 0.1, 0.25, positive=True),
    }
    text = (_SETS + program).format(first, second, third)
    return from_program(name, text, draws, ["W", "V"], _graph(nodes, edges))


def gat_scores(scale: float = 1.0) -> Network:
    """Attention scores as they are written in papers: both ends of each edge projected, put beside
    each other, and multiplied by one vector; 128 -> 64 features on a graph like ogbn-arxiv."""
    nodes, edges = (scaled(count, scale) for count in ARXIV)
    inner, outer = scaled(128, scale), scaled(64, scale)
    draws = {
        "x": Draw((nodes, inner)),
        "W": Draw((inner, outer), inner**-0.5),
        "a": Draw((2 * outer,), outer**-0.5),
    }
    text = (_SETS + _SCORES).format(inner, outer, 2 * outer)
    return from_program("gat_scores", text, draws, ["W", "a"], _graph(nodes, edges))


def _graph(nodes: int, edges: int) -> dict[str, int | dict[str, Draw]]:
    return {
        "node": nodes,
        "edge": {"src": Draw((edges,), below=nodes, skew=2.0), "dst": Draw((edges,), below=nodes)},
    }
