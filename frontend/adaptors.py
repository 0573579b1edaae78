"""Graphs and sparse matrices of other libraries, as what `bind` takes for the sets of a program.

Enters: a scipy.sparse matrix, a PyG `HeteroData` or a networkx graph. Leaves: a dict to be passed
on as `prog.bind(**from_scipy(matrix))`. None of these libraries is imported here, and index arrays
are passed on without a copy where they have the right layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hectorite.backends.arrays import to_numpy
from hectorite.ir.diagnostics import fail

Array = np.ndarray[Any, Any]
Sets = dict[str, Any]


def from_scipy(
    matrix: Any,
    set: str = "nz",
    row: str = "row",
    col: str = "col",
    rows: str = "row",
    cols: str = "col",
) -> Sets:
    """The stored entries of a sparse matrix as a set with a row and a column map.

    For `set nz { row: row, col: col }`: `{"nz": {"row": r, "col": c}, "row": m, "col": n}`, where
    `r` and `c` are integer arrays of one element for each stored entry, explicit zeros and
    duplicates included, in the order of `matrix.tocoo()`, whose `data` are the values to pass as
    the tensor over `nz`. `set`, `row` and `col` name the set and its maps, `rows` and `cols` the
    sets they map into; if these are the same set the matrix must be square.

    Raises `HectoriteError` if `matrix` is not a two-dimensional scipy.sparse matrix or array.
    """
    if not hasattr(matrix, "tocoo") or len(getattr(matrix, "shape", ())) != 2:
        raise fail(
            f"from_scipy was given {_named(matrix)}", expected="a two-dimensional sparse matrix"
        )
    entries = matrix.tocoo()
    m, n = (int(length) for length in matrix.shape)
    if rows == cols and m != n:
        raise fail(
            f"a {m} by {n} matrix cannot have rows and columns in one set `{rows}`",
            hint="name two sets: from_scipy(matrix, rows=..., cols=...)",
        )
    return {set: {row: entries.row, col: entries.col}, rows: m, cols: n}


def from_hetero_data(data: Any, reverse: bool = False) -> Sets:
    """A PyG `HeteroData` as one relational graph.

    For `set node { type: ntype }` and `set edge { src: node, dst: node, type: etype }`: the nodes
    of all types are numbered one type after the other in the order of `data.node_types`, and edges
    likewise in the order of `data.edge_types`, so features are stacked in that order:
    `torch.cat([data[t].x for t in data.node_types])`. `edge` has int32 maps, one element for each
    column of each `edge_index`. With `reverse`, every edge is followed, after all others, by its
    reverse, whose type is its own plus the number of edge types.

    Raises `HectoriteError` if `data` is no such object, the number of nodes of a type is not known,
    or an `edge_index` is not a pair of rows of integers that number nodes.
    """
    if not (hasattr(data, "node_types") and hasattr(data, "edge_types")):
        raise fail(f"from_hetero_data was given {_named(data)}", expected="a PyG HeteroData")
    ends = [kind for source, _, target in data.edge_types for kind in (source, target)]
    kinds = dict.fromkeys([*data.node_types, *ends])
    counts = {kind: _node_count(data, kind) for kind in kinds}
    start = dict(zip(counts, _offsets(list(counts.values())), strict=True))
    sources, targets = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    for kind in data.edge_types:
        ends = _edge_index(data, kind, counts)
        sources.append((ends[0] + start[kind[0]]).astype(np.int32))
        targets.append((ends[1] + start[kind[2]]).astype(np.int32))
    lengths = [len(part) for part in sources[1:]]
    src, dst = np.concatenate(sources), np.concatenate(targets)
    relation = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    edge = {"src": src, "dst": dst, "type": relation}
    return {
        "ntype": len(counts),
        "etype": len(lengths) * (2 if reverse else 1),
        "node": {"type": np.repeat(np.arange(len(counts), dtype=np.int32), list(counts.values()))},
        "edge": _with_reverse(edge, len(lengths)) if reverse else edge,
    }


def from_networkx(graph: Any, node_type: str | None = None, edge_type: str | None = None) -> Sets:
    """A networkx graph, directed or not, with or without parallel edges.

    For `set node` and `set edge { src: node, dst: node }`: nodes are numbered in the order of
    `graph.nodes`, edges in the order of `graph.edges`; an undirected edge becomes two, the second
    ones after all first ones (a loop stays one). With `node_type` or `edge_type`, the name of an
    attribute, `node` has a map `type` into `ntype`, and `edge` one into `etype`: types are numbered
    in the order of their values, or of the text of these where they do not compare.

    Raises `HectoriteError` if `graph` is not a networkx graph or an attribute is missing somewhere.
    """
    if not (hasattr(graph, "nodes") and hasattr(graph, "edges") and hasattr(graph, "is_directed")):
        raise fail(f"from_networkx was given {_named(graph)}", expected="a networkx graph")
    number = {node: index for index, node in enumerate(graph.nodes)}
    edges = list(graph.edges(data=True))
    src = np.array([number[u] for u, _, _ in edges], np.int32)
    dst = np.array([number[v] for _, v, _ in edges], np.int32)
    edge: dict[str, Array] = {"src": src, "dst": dst}
    sets: Sets = {"node": len(number), "edge": edge}
    if node_type is not None:
        kinds, sets["ntype"] = _typed([(n, a) for n, a in graph.nodes(data=True)], node_type)
        sets["node"] = {"type": kinds}
    if edge_type is not None:
        edge["type"], sets["etype"] = _typed([((u, v), a) for u, v, a in edges], edge_type)
    if not graph.is_directed():
        back = {**edge, "src": dst, "dst": src}
        other = src != dst
        sets["edge"] = {name: np.concatenate([edge[name], back[name][other]]) for name in edge}
    return sets


def _typed(items: list[tuple[Any, Mapping[str, Any]]], attribute: str) -> tuple[Array, int]:
    """int32[len(items)]: the number of the type of each, and how many types there are."""
    values: list[Any] = []
    for name, attributes in items:
        if attribute not in attributes:
            raise fail(f"{name} has no attribute `{attribute}`", hint="give every one its type")
        values.append(attributes[attribute])
    different = list(dict.fromkeys(values))
    try:
        different.sort()
    except TypeError:
        different.sort(key=str)
    number = {value: index for index, value in enumerate(different)}
    return np.array([number[value] for value in values], np.int32), len(number)


def _node_count(data: Any, kind: str) -> int:
    count = getattr(data[kind], "num_nodes", None) if kind in data.node_types else None
    if count is None:
        raise fail(
            f"the number of nodes of type `{kind}` is not known",
            hint=f'set data["{kind}"].num_nodes',
        )
    return int(count)


def _edge_index(data: Any, kind: tuple[str, str, str], counts: Mapping[str, int]) -> Array:
    """int64[2, E]: node numbers within the types of both ends, checked."""
    name = f"the edge_index of {kind}"
    try:
        ends = to_numpy(data[kind].edge_index)
    except (TypeError, AttributeError, KeyError) as error:
        raise fail(f"{name} {error}", expected="an integer array of shape (2, E)") from error
    if ends.ndim != 2 or ends.shape[0] != 2 or ends.dtype.kind not in "iu":
        raise fail(
            f"{name} is {ends.dtype.name} of shape {ends.shape}",
            expected="an integer array of shape (2, E)",
        )
    for row, node in zip(ends, (kind[0], kind[2]), strict=True):
        if row.size and (row.min() < 0 or row.max() >= counts[node]):
            at = int(np.argmax((row < 0) | (row >= counts[node])))
            raise fail(
                f"{name} has {row[at]} in column {at}, which is not a node of type `{node}`",
                expected=f"0 to {counts[node] - 1}",
            )
    return ends.astype(np.int64)


def _offsets(counts: list[int]) -> list[int]:
    return [sum(counts[:index]) for index in range(len(counts))]


def _with_reverse(edge: dict[str, Array], relations: int) -> dict[str, Array]:
    return {
        "src": np.concatenate([edge["src"], edge["dst"]]),
        "dst": np.concatenate([edge["dst"], edge["src"]]),
        "type": np.concatenate([edge["type"], edge["type"] + np.int32(relations)]),
    }


def _named(value: Any) -> str:
    return f"an object of type {type(value).__name__}"
