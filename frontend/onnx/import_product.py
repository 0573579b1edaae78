"""ONNX operators that are sums of products: `MatMul`, `Gemm`, `Einsum`.

Enters: nodes with two tensors, or for `Einsum` any number. Leaves: one statement for each.

    y = MatMul(a, b)      y[b0, m, n] += a[b0, m, k] * b[0, k, n]        b: f32[1, 64, 32]
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from hectorite.frontend.onnx.import_elementwise import number
from hectorite.frontend.onnx.import_node import Node, Table
from hectorite.frontend.onnx.import_values import (
    HERE,
    Access,
    Graph,
    Tensor,
    Unsupported,
    at,
    axes,
    broadcast,
    stretched,
)
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()


@OPERATORS.of("MatMul")
def _matmul(graph: Graph, node: Node) -> Sequence[Tensor]:
    return [matmul(graph, node.input(0), node.input(1))]


def matmul(graph: Graph, a: Tensor, b: Tensor) -> Tensor:
    """A product of matrices, for each place of the axes before; vectors have no such axes."""
    batch_a, batch_b = a.dims[:-2], b.dims[:-2]
    batch = broadcast(batch_a, batch_b)
    names = axes(len(batch), "b")
    (length,) = broadcast((a.dims[-1],), (b.dims[-2 if b.rank > 1 else -1],))
    rows = [("m", a.dims[-2])] if a.rank > 1 else []
    columns = [("n", b.dims[-1])] if b.rank > 1 else []
    kept = [*zip(names, batch, strict=True), *rows, *columns]
    k = IndexExpr.of("k")
    of_a = (*stretched(batch_a, batch, names), *(IndexExpr.of(n) for n, _ in rows), k)
    of_b = (*stretched(batch_b, batch, names), k, *(IndexExpr.of(n) for n, _ in columns))

    def write(body: Body) -> SSAValue:
        return body.apply("mul", graph.read(body, a, of_a), graph.read(body, b, of_b))

    return graph.statement(
        "add",
        at([name for name, _ in kept]),
        [*kept, ("k", length)],
        tuple(dim for _, dim in kept),
        a.element,
        write,
    )


@OPERATORS.of("Gemm")
def _gemm(graph: Graph, node: Node) -> Sequence[Tensor]:
    a, b, c = node.input(0), node.input(1), node.optional(2)
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    turn_a, turn_b = node.attribute("transA", 0), node.attribute("transB", 0)
    m, k = a.dims[::-1] if turn_a else a.dims
    _, n = b.dims[::-1] if turn_b else b.dims
    (k,) = broadcast((k,), (b.dims[1 if turn_b else 0],))

    def write(body: Body) -> SSAValue:
        one = graph.read(body, a, at("km" if turn_a else "mk"))
        return body.apply("mul", one, graph.read(body, b, at("nk" if turn_b else "kn")))

    variables = [("m", m), ("n", n), ("k", k)]
    product = graph.statement("add", at("mn"), variables, (m, n), a.element, write)

    def add(body: Body, p: SSAValue, *rest: SSAValue) -> SSAValue:
        p = p if alpha == 1.0 else body.apply("mul", number(body, alpha, p), p)
        for value in rest:
            scaled = value if beta == 1.0 else body.apply("mul", number(body, beta, value), value)
            p = body.apply("add", p, scaled)
        return p

    if c is None and alpha == 1.0:
        return [product]
    return [graph.elementwise([product, *([] if c is None else [c])], add)]


@OPERATORS.of("Einsum")
def _einsum(graph: Graph, node: Node) -> Sequence[Tensor]:
    inputs = node.given
    text = node.attribute("equation")
    text = (text.decode() if isinstance(text, bytes) else text).replace(" ", "")
    if "..." in text:
        raise Unsupported("with `...`")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = sorted(set("".join(terms)))
        right = "".join(letter for letter in letters if "".join(terms).count(letter) == 1)
    if len(terms) != len(inputs) or any(
        len(t) != x.rank for t, x in zip(terms, inputs, strict=True)
    ):
        raise Unsupported(f"equation={text} on tensors of other ranks")
    extents = dict[str, Dim]()
    for term, x in zip(terms, inputs, strict=True):
        for letter, dim in zip(term, x.dims, strict=True):
            (extents[letter],) = broadcast((extents.get(letter, 1),), (dim,))

    def access(term: str, x: Tensor) -> Access:
        return tuple(
            HERE if dim == 1 and extents[letter] != 1 else IndexExpr.of(letter)
            for letter, dim in zip(term, x.dims, strict=True)
        )

    def write(body: Body) -> SSAValue:
        values = [graph.read(body, x, access(t, x)) for t, x in zip(terms, inputs, strict=True)]
        total = values[0]
        for value in values[1:]:
            total = body.apply("mul", total, value)
        return total

    order = [*right, *(letter for letter in extents if letter not in right)]
    return [
        graph.statement(
            "assign" if len(order) == len(right) else "add",
            at(right),
            [(letter, extents[letter]) for letter in order],
            tuple(extents[letter] for letter in right),
            inputs[0].element,
            write,
        )
    ]
