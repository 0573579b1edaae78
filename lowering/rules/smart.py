"""Nodes that cut tensors up and put them together, built so that what cancels is not built.

    concat of the stretches of one tensor, in order     that tensor, or a longer stretch of it
    stretch of a concat                                 the operand, or a stretch of it
    stretch of a stretch; concat of a concat            one of them

Enters: nodes of a graph. Leaves: a node with the wanted value. The names of variables of a node
built here are `a0`, `a1`, ... in the order of its axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.form_views import is_concat, slice_of, view
from hectorite.ir.formula import Access, Formula, Read
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Shape, concat, form


@dataclass(frozen=True)
class Stretch:
    """Elements `start` to `start + length` of a node along an axis."""

    node: int
    start: int
    length: int


def put(
    flow: Dataflow,
    kind: str,
    left: Access,
    dims: dict[str, Dim],
    shape: Shape,
    body: Formula,
    operands: Sequence[int],
    name: str | None = None,
) -> int:
    """The node of a statement, whose body reads `operands` by their number."""
    made, slots, _ = form(kind, left, dims, shape, body)
    return flow.add(made, [operands[slot] for slot in slots], name)


def length_of(flow: Dataflow, node: int, axis: int) -> int:
    """The extent of an axis that is a number."""
    dim = flow.nodes[node].shape.dims[axis]
    assert isinstance(dim, int)
    return dim


def join(flow: Dataflow, nodes: Sequence[int], axis: int) -> int:
    """The nodes one after another along an axis."""
    pieces = list[Stretch]()
    for node in nodes:
        for piece in _pieces(flow, node, axis):
            last = pieces[-1] if pieces else None
            if last and last.node == piece.node and last.start + last.length == piece.start:
                pieces[-1] = replace(last, length=last.length + piece.length)
            elif piece.length:
                pieces.append(piece)
    parts = [cut(flow, p.node, axis, p.start, p.length) for p in pieces] or [nodes[0]]
    if len(parts) == 1:
        return parts[0]
    return flow.add(concat([flow.nodes[part].shape for part in parts], axis), parts)


def _pieces(flow: Dataflow, node: int, axis: int) -> list[Stretch]:
    """What a node consists of: operands of a concat, or a stretch of what it is cut from."""
    made = flow.nodes[node].form
    if made is not None and is_concat(made) and made.axis == axis:
        return [p for operand in flow.nodes[node].operands for p in _pieces(flow, operand, axis)]
    found = None if made is None else slice_of(made)
    if found is not None and found.axis == axis:
        source = flow.nodes[node].operands[0]
        if _same_but(flow, node, source, axis):
            return [Stretch(source, found.start, found.length)]
    return [Stretch(node, 0, length_of(flow, node, axis))]


def _same_but(flow: Dataflow, node: int, source: int, axis: int) -> bool:
    """Whether two tensors differ in the extent of one axis only, and never read beside it."""
    one, other = flow.nodes[node].shape, flow.nodes[source].shape
    dims = [(a, b) for i, (a, b) in enumerate(zip(one.dims, other.dims, strict=True)) if i != axis]
    whole = isinstance(other.dims[axis], int) and other.pad is None and other.format is None
    return whole and all(a == b for a, b in dims)


def cut(flow: Dataflow, node: int, axis: int, start: int, length: int) -> int:
    """A stretch of a node along an axis."""
    shape = flow.nodes[node].shape
    if (start, length) == (0, shape.dims[axis]):
        return node
    made = flow.nodes[node].form
    if made is not None and is_concat(made) and made.axis == axis:
        found = _within(flow, node, axis, start, length)
        if found is not None:
            return found
    found = None if made is None else slice_of(made)
    if found is not None and found.axis == axis:
        source = flow.nodes[node].operands[0]
        if _same_but(flow, node, source, axis):
            return cut(flow, source, axis, found.start + start, length)
    dims = (*shape.dims[:axis], length, *shape.dims[axis + 1 :])
    names = [f"a{number}" for number in range(len(dims))]
    left = tuple(map(IndexExpr.of, names))
    access = (*left[:axis], replace(left[axis], constant=start), *left[axis + 1 :])
    over = dict(zip(names, dims, strict=True))
    return put(flow, "assign", left, over, Shape(dims, shape.element), Read(0, access), [node])


def _within(flow: Dataflow, node: int, axis: int, start: int, length: int) -> int | None:
    """The stretch of a concat from the operands that it covers."""
    end, here, parts = start + length, 0, list[int]()
    for operand in flow.nodes[node].operands:
        size = length_of(flow, operand, axis)
        first, last = max(start, here), min(end, here + size)
        if first < last:
            parts.append(cut(flow, operand, axis, first - here, last - first))
        here += size
    return join(flow, parts, axis) if parts else None


def pick(flow: Dataflow, node: int, number: int) -> int:
    """The element of the first axis with this number."""
    shape = flow.nodes[node].shape
    names = [f"a{n}" for n in range(1, len(shape.dims))]
    left = tuple(map(IndexExpr.of, names))
    over = dict(zip(names, shape.dims[1:], strict=True))
    made = Shape(shape.dims[1:], shape.element)
    access = (IndexExpr(constant=number), *left)
    return put(flow, "assign", left, over, made, Read(0, access), [node])


@dataclass(frozen=True)
class Stepped:
    """A node read at an access in which a variable counts siblings."""

    node: int
    access: Access


def stepping(flow: Dataflow, nodes: Sequence[int], name: str) -> Stepped | None:
    """Views of one node that differ by an equal step of one index: what they all are if the
    variable of this name counts them."""
    forms = [flow.nodes[node].form for node in nodes]
    reads = [None if made is None else view(made) for made in forms]
    sources = {flow.nodes[node].operands for node in nodes}
    if None in reads or len(sources) != 1 or len(nodes) < 2:
        return None
    accesses = [read.access or () for read in reads if read is not None]
    source = flow.nodes[nodes[0]].operands[0]
    moved = [
        axis
        for axis, indices in enumerate(zip(*accesses, strict=True))
        if any(index != indices[0] for index in indices)
    ]
    if len(moved) != 1 or flow.nodes[source].shape.format is not None:
        return None
    indices = [access[moved[0]] for access in accesses]
    first, step = indices[0], indices[1].constant - indices[0].constant
    steady = all(
        index == replace(first, constant=first.constant + step * number)
        for number, index in enumerate(indices)
    )
    if not steady or first.division is not None:
        return None
    counted = IndexExpr.make((Term(step, Path(name)), *first.terms), first.constant)
    access = accesses[0]
    return Stepped(source, (*access[: moved[0]], counted, *access[moved[0] + 1 :]))


def composed(
    flow: Dataflow, node: int, outer: Access, inner: Access, over: Mapping[str, Dim]
) -> Access:
    """What is read of a view's operand when the view, which reads it at `inner`, is read at
    `outer`, whose variables range over `over`. ValueError if that is no access."""
    made = flow.nodes[node].form
    assert made is not None
    at = {index.variable: to for index, to in zip(made.left, outer, strict=True)}

    def follow(path: Path) -> IndexExpr:
        index = at.get(path.variable, IndexExpr.of(path.variable))
        if not path.fields:
            return index
        if index.path is None:
            raise ValueError("a map of a sum")
        start, own = index.path.variable, made.extents[path.variable]
        if not index.path.fields and over.get(start, own) != own:
            raise ValueError("a number in the place of an element")
        return IndexExpr.of(start, *index.path.fields, *path.fields)

    return tuple(index.substitute(follow) for index in inner)
