"""ONNX operators that put elements in other places: reshapes, transposes, pieces, copies.

Enters: nodes such as `Reshape`, `Concat`, `Slice`. Leaves: statements that read at other indices.

    y = Reshape(x, [2, 3, 4])     y[i0, i1, i2] = x[i0, 4*i1 + i2]             x: f32[2, 12]
    y = Reshape(x, [2, 12])       y[i0, i1] = x[i0, i1 // 4, i1 % 4]           x: f32[2, 3, 4]
    y = Concat(a, b, axis=0)      y[i0] = a[i0]; y[i0 + 3] = b[i0]             a: f32[3]
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from hectorite.frontend.onnx.import_node import Node, Table, dims_of, from_front
from hectorite.frontend.onnx.import_reshape import reshape, wanted_shape
from hectorite.frontend.onnx.import_values import (
    HERE,
    Access,
    Dims,
    Graph,
    Tensor,
    Unsupported,
    affine,
    at,
    axes,
    broadcast,
    index,
    integer,
    stretched,
)
from hectorite.ir.element import ELEMENTS
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.lowering.graph.statement_body import Body

OPERATORS = Table()


@OPERATORS.of("Reshape")
def _reshape(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, known = node.input(0), node.known(1, "shapes")
    assert known is not None
    shape = wanted_shape(x.dims, dims_of(known), bool(node.attribute("allowzero", 0)))
    return [reshape(graph, x, shape)]


@OPERATORS.of("Flatten")
def _flatten(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    axis = node.attribute("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    return [reshape(graph, x, (_product(x.dims[:axis]), _product(x.dims[axis:])))]


def _product(dims: Dims) -> Dim:
    longer = [dim for dim in dims if dim != 1]
    if len(longer) == 1:
        return longer[0]
    total = 1
    for dim in longer:
        total *= integer(dim, "a length that is multiplied by another")
    return total


@OPERATORS.of("Squeeze")
def _squeeze(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    given = node.axes(1, x.rank)
    gone = [axis for axis, dim in enumerate(x.dims) if dim == 1] if given is None else given
    for axis in gone:
        if x.extent(axis, "a length that is dropped") != 1:
            raise Unsupported(f"axis {axis} has the length {x.dims[axis]}, not 1")
    return [reshape(graph, x, tuple(d for axis, d in enumerate(x.dims) if axis not in gone))]


@OPERATORS.of("Unsqueeze")
def _unsqueeze(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    given = node.integers(1, "axes")
    given = node.attribute("axes", []) if given is None else given
    new = {from_front(axis, x.rank + len(given)) for axis in given}
    old = iter(x.dims)
    return [
        reshape(graph, x, tuple(1 if a in new else next(old) for a in range(x.rank + len(given))))
    ]


@OPERATORS.of("Transpose")
def _transpose(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    return [transpose(graph, x, node.attribute("perm") or range(x.rank)[::-1])]


def transpose(graph: Graph, x: Tensor, order: Sequence[int]) -> Tensor:
    """The axes of a tensor in another order."""
    if list(order) == list(range(x.rank)):
        return x

    def access(names: list[str]) -> Access:
        return at([names[list(order).index(axis)] for axis in range(x.rank)])

    return graph.view(x, tuple(x.dims[axis] for axis in order), access)


@OPERATORS.of("DepthToSpace", "SpaceToDepth")
def _blocks(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, block = node.input(0), node.attribute("blocksize")
    n, channels, high, wide = (x.extent(axis, "every length") for axis in range(4))
    if node.op == "SpaceToDepth":
        parts = reshape(graph, x, (n, channels, high // block, block, wide // block, block))
        parts = transpose(graph, parts, (0, 3, 5, 1, 2, 4))
        return [reshape(graph, parts, (n, channels * block * block, high // block, wide // block))]
    inner = channels // (block * block)
    if node.attribute("mode", "DCR") == "DCR":
        parts = reshape(graph, x, (n, block, block, inner, high, wide))
        parts = transpose(graph, parts, (0, 3, 4, 1, 5, 2))
    else:
        parts = reshape(graph, x, (n, inner, block, block, high, wide))
        parts = transpose(graph, parts, (0, 1, 4, 2, 5, 3))
    return [reshape(graph, parts, (n, inner, high * block, wide * block))]


@OPERATORS.of("Expand")
def _expand(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, known = node.input(0), node.known(1, "shapes")
    assert known is not None
    dims = broadcast(x.dims, dims_of(known))
    if dims == x.dims:
        return [x]
    return [graph.view(x, dims, lambda names: stretched(x.dims, dims, names))]


@OPERATORS.of("Tile")
def _tile(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, repeats = node.input(0), node.integers(1, "repeats")
    assert repeats is not None
    dims = tuple(
        dim if count == 1 else integer(dim, "a length that is repeated") * count
        for dim, count in zip(x.dims, repeats, strict=True)
    )

    def access(names: list[str]) -> Access:
        return tuple(
            IndexExpr.of(name)
            if count == 1
            else IndexExpr.make(affine({name: 1}).terms, 0, ("mod", dim))
            for name, dim, count in zip(names, x.dims, repeats, strict=True)
        )

    return [graph.view(x, dims, access)]


@OPERATORS.of("Concat")
def _concat(graph: Graph, node: Node) -> Sequence[Tensor]:
    return [concat(graph, node.given, node.axis(0))]


def concat(graph: Graph, parts: Sequence[Tensor], axis: int) -> Tensor:
    """Tensors one after another along an axis."""
    parts = [part for part in parts if part.dims[axis] != 0] or list(parts[:1])
    if len(parts) == 1:
        return parts[0]
    lengths = [part.extent(axis, "a length that is put beside another") for part in parts]
    others = broadcast(*(part.dims[:axis] + (1,) + part.dims[axis + 1 :] for part in parts))
    dims = (*others[:axis], sum(lengths), *others[axis + 1 :])
    names, start = axes(len(dims)), 0
    made: Tensor | None = None
    for part, length in zip(parts, lengths, strict=True):
        left = list(at(names))
        left[axis] = affine({names[axis]: 1}, start)
        made = graph.statement(
            "assign",
            tuple(left),
            list(zip(names, part.dims, strict=True)),
            dims,
            part.element,
            lambda body, part=part: body.read(graph.value(part), at(names)),
            init=made,
        )
        start += length
    assert made is not None
    return made


@OPERATORS.of("Split")
def _split(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, axis = node.input(0), node.axis(0)
    length = x.extent(axis, "a length that is split")
    sizes = node.integers(1, "lengths of the parts")
    if sizes is None:
        count = node.attribute("num_outputs", len(node.outputs))
        each = -(-length // count)
        sizes = [min(each, length - each * place) for place in range(count)]
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [
        cut(graph, x, {axis: (start, 1, size)}) for start, size in zip(starts, sizes, strict=True)
    ]


@OPERATORS.of("Slice")
def _slice(graph: Graph, node: Node) -> Sequence[Tensor]:
    x = node.input(0)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    assert starts is not None and ends is not None
    given = node.integers(3, "axes") or range(len(starts))
    steps = node.integers(4, "steps") or [1] * len(starts)
    cuts = dict[int, tuple[int, int, int]]()
    for start, end, axis, step in zip(starts, ends, given, steps, strict=True):
        axis = from_front(axis, x.rank)
        if (start, step) == (0, 1) and end >= 2**31 - 1:
            continue
        whole = range(x.extent(axis, "a length that is sliced"))[start:end:step]
        cuts[axis] = (whole.start, whole.step, len(whole))
    return [cut(graph, x, cuts)]


def cut(graph: Graph, x: Tensor, cuts: dict[int, tuple[int, int, int]]) -> Tensor:
    """A part of a tensor: for some axes start, step and length."""
    lengths = tuple(cuts[axis][2] if axis in cuts else dim for axis, dim in enumerate(x.dims))
    moved = {axis: c for axis, c in cuts.items() if c != (0, 1, x.dims[axis])}
    if not moved:
        return x

    def access(names: list[str]) -> Access:
        found = list(at(names))
        for axis, (start, step, _) in moved.items():
            found[axis] = affine({names[axis]: step}, start)
        return tuple(found)

    return graph.view(x, lengths, access)


@OPERATORS.of("Pad")
def _pad(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, pads = node.input(0), node.integers(1, "pads")
    assert pads is not None
    if node.attribute("mode", "constant") != "constant":
        raise Unsupported(f"mode={node.attribute('mode')}")
    filler = node.known(2, "values")
    number = 0 if filler is None or filler.size == 0 else filler.ravel()[0].item()
    given = node.integers(3, "axes")
    touched = range(x.rank) if given is None else [from_front(axis, x.rank) for axis in given]
    before = dict(zip(touched, pads, strict=False))
    after = dict(zip(touched, pads[len(pads) // 2 :], strict=True))
    dims = tuple(
        dim
        if (before.get(axis, 0), after.get(axis, 0)) == (0, 0)
        else integer(dim, "a length that is padded") + before[axis] + after[axis]
        for axis, dim in enumerate(x.dims)
    )
    value = graph.padded(x, float(number) if x.element.is_float else int(number))

    def access(names: list[str]) -> Access:
        return tuple(affine({n: 1}, -before.get(axis, 0)) for axis, n in enumerate(names))

    return [graph.view(Tensor(x.dims, x.element, value), dims, access)]


@OPERATORS.of("Trilu")
def _trilu(graph: Graph, node: Node) -> Sequence[Tensor]:
    x, upper = node.input(0), node.attribute("upper", 1)
    shift = (node.integers(1, "diagonals") or [0])[0]
    names = axes(x.rank)

    def write(body: Body) -> SSAValue:
        away = index(body, affine({names[-1]: 1, names[-2]: -1}, -shift))
        kept = body.apply("ge" if upper else "le", away, body.constant(0, ELEMENTS["i32"].xdsl))
        value = graph.read(body, x, at(names))
        return body.apply("select", kept, value, body.constant(0, value.type))

    variables = list(zip(names, x.dims, strict=True))
    return [graph.statement("assign", at(names), variables, x.dims, x.element, write)]


@OPERATORS.of("ConstantOfShape")
def _constant_of_shape(graph: Graph, node: Node) -> Sequence[Tensor]:
    known = node.known(0, "shapes")
    assert known is not None
    value = node.attribute("value")
    element = ELEMENTS["f32"] if value is None else value.element
    return [graph.fill(dims_of(known), element, 0.0 if value is None else value.number)]


@OPERATORS.of("Shape", "Size")
def _shape(graph: Graph, node: Node) -> Sequence[Tensor]:
    raise Unsupported("of a tensor whose lengths are not known")


def single(graph: Graph, x: Tensor, axis: int, place: int) -> Tensor:
    """One position of an axis, which goes."""
    dims = x.dims[:axis] + x.dims[axis + 1 :]

    def access(names: list[str]) -> Access:
        here = IndexExpr.make((), place) if place else HERE
        return (*at(names[:axis]), here, *at(names[axis:]))

    return graph.view(x, dims, access)
