"""ONNX operators that pick by index: `Gather`, `ScatterND`.

Enters: nodes with a tensor of indices. Leaves: statements. Where the indices are an input of the
model, or constants that follow no rule, they become a set whose map they are; elsewhere an element
is found by comparing its position.

    y = Gather(table, ids)     set ids_element { at: ids_row }
                               y[i0, i1] = table[p.at, i1]   for p: ids_element at i0
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from xdsl.ir import SSAValue

from hectorite.frontend.onnx.data import IndexSet
from hectorite.frontend.onnx.import_elementwise import number
from hectorite.frontend.onnx.import_layout import cut, single
from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_reshape import position, product, reshape
from hectorite.frontend.onnx.import_values import (
    Array,
    Dims,
    Graph,
    Tensor,
    Unsupported,
    at,
    axes,
    index,
)
from hectorite.ir.element import ELEMENTS
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()


@OPERATORS.of("Gather")
def _gather(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, indices, axis = node.input(0), node.input(1), node.axis(0)
    dims = x.dims[:axis] + indices.dims + x.dims[axis + 1 :]
    if indices.known is not None and indices.known.dtype != object:
        picked = _regular(graph, x, axis, indices.known)
        if picked is not None:
            return [picked]
    elif indices.origin is None:
        return [_compared(graph, x, indices, axis, dims)]
    picks = index_set(graph, indices, x.dims[axis])
    names = axes(x.rank)
    picked = [*x.dims]
    picked[axis] = picks.name
    access = list(at(names))
    access[axis] = IndexExpr.of(names[axis], "at")
    rows = graph.statement(
        "assign",
        at(names),
        list(zip(names, picked, strict=True)),
        tuple(picked),
        x.element,
        lambda body: body.read(graph.value(x), tuple(access)),
    )
    return [_spread(graph, rows, axis, indices.dims, dims)]


def _spread(graph: Graph, rows: Tensor, axis: int, shape: Dims, dims: Dims) -> Tensor:
    """The elements of a set as the points of a shape."""

    def access(names: list[str]) -> tuple[IndexExpr, ...]:
        inner = list(zip(names[axis : axis + len(shape)], shape, strict=True))
        return (*at(names[:axis]), position(inner), *at(names[axis + len(shape) :]))

    return graph.view(rows, dims, access)


def _regular(graph: Graph, x: Tensor, axis: int, known: Array) -> Tensor | None:
    """The elements at constant indices that follow a rule: one, or evenly spaced."""
    if known.ndim > 1 or known.size == 0:
        return None
    length = x.dims[axis]
    if known.min() < 0:
        if isinstance(length, str):
            raise Unsupported(f'an index from the end, so give sizes={{"{length}": ...}}')
        known = np.where(known < 0, known + length, known)
    steps = np.diff(known.ravel())
    if isinstance(length, int) and not (known.min() >= 0 and known.max() < length):
        raise Unsupported(f"index {known.max()} of {length}")
    if known.ndim == 0:
        return single(graph, x, axis, int(known))
    if steps.size and (steps[0] == 0 or np.any(steps != steps[0])):
        return None
    step = int(steps[0]) if steps.size else 1
    return cut(graph, x, {axis: (int(known[0]), step, known.size)})


def _compared(graph: Graph, x: Tensor, indices: Tensor, axis: int, dims: Dims) -> Tensor:
    """The elements at indices that are computed: of all, the one whose position it is."""
    names = axes(len(dims))
    own = names[axis : axis + indices.rank]
    source = (*names[:axis], "v", *names[axis + indices.rank :])
    i64 = ELEMENTS["i64"]

    def write(body: Body) -> SSAValue:
        wanted = body.cast(graph.read(body, indices, at(own)), i64.xdsl)
        place = index(body, IndexExpr.of("v"), i64)
        length = _length(graph, body, x.dims[axis])
        negative = body.apply("lt", wanted, number(body, 0, wanted))
        from_end = body.apply("select", negative, body.apply("add", wanted, length), wanted)
        value = graph.read(body, x, at(source))
        return body.apply(
            "select", body.apply("eq", from_end, place), value, number(body, 0, value)
        )

    variables = [*zip(names, dims, strict=True), ("v", x.dims[axis])]
    kind = "max" if x.element.kind == "bool" else "add"
    return graph.statement(kind, at(names), variables, dims, x.element, write)


def _length(graph: Graph, body: Body, dim: Dim) -> SSAValue:
    known = np.empty((), object)
    known[()] = dim
    return graph.read(body, Tensor((), ELEMENTS["i64"], known=known), ())


def index_set(graph: Graph, indices: Tensor, rows: Dim) -> IndexSet:
    """The set whose map these indices are, made when they are first used on so many rows."""
    source = indices.origin if indices.known is None else indices.known
    assert source is not None
    for found in graph.index_sets:
        texts = isinstance(source, str) and isinstance(found.source, str)
        same = found.source is source or (texts and found.source == source)
        if same and found.rows == rows:
            return found
    name = indices.origin or indices.name or graph.hint
    made = IndexSet(graph.free(f"{name}_element"), graph.free(f"{name}_row"), rows, source)
    graph.index_sets.append(made)
    return made


@OPERATORS.of("ScatterND")
def _scatter(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, indices, updates = node.input(0), node.input(1), node.input(2)
    if indices.dims[-1] != 1:
        raise Unsupported(f"with indices of {indices.dims[-1]} numbers")
    kinds = {"add": "add", "mul": "mul", "max": "max", "min": "min"}
    reduction = node.attribute("reduction", "none")
    if reduction not in kinds:
        raise Unsupported(f"reduction={reduction}")
    if indices.origin is None and indices.known is None:
        raise Unsupported("at indices that are computed")
    picks = index_set(graph, indices, x.dims[0])
    places = indices.dims[:-1]
    flat = reshape(graph, updates, (_count(places), *updates.dims[len(places) :]))
    names = axes(x.rank)

    def write(body: Body) -> SSAValue:
        return graph.read(body, flat, at(names))

    # What is added to is a copy: the statement goes on from it.
    start = graph.elementwise([x], lambda body, value: value)
    variables = [(names[0], picks.name), *zip(names[1:], x.dims[1:], strict=True)]
    left = (IndexExpr.of(names[0], "at"), *at(names[1:]))
    return [
        graph.statement(kinds[reduction], left, variables, x.dims, x.element, write, init=start)
    ]


def _count(dims: Dims) -> Dim:
    total = product(dims)
    if not total.names:
        return total.number
    if total.number == 1 and len(total.names) == 1:
        return total.names[0]
    raise Unsupported(f'{total} indices, so give sizes={{"{total.names[0]}": ...}}')
