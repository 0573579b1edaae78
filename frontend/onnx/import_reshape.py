"""Reshapes in index notation.

Enters: a tensor and the shape that it is to have. Leaves: statements that read it there.

Axes are matched from the front in groups of one product. In a group the new axes give one place,
an affine sum, of which an old axis is the quotient or the remainder. An index has one division, so
a group of more than two old axes is put together two at a time.

    y[i0] = x[i0 // 4, i0 % 4]                  x: f32[3, 4]
    y[i0, i1] = x[(6*i0 + i1) // 4, (6*i0 + i1) % 4]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hectorite.frontend.onnx.import_values import (
    HERE,
    Access,
    Dims,
    Graph,
    Tensor,
    Unsupported,
)
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.space import Dim


@dataclass(frozen=True)
class Product:
    """A number of elements: an integer times sizes."""

    number: int = 1
    names: tuple[str, ...] = ()

    def times(self, dim: Dim) -> Product:
        if isinstance(dim, int):
            return Product(self.number * dim, self.names)
        return Product(self.number, tuple(sorted((*self.names, dim))))

    def over(self, other: Product) -> Dim | None:
        """What this is as a multiple of another, if that is an integer or one size."""
        names = list(self.names)
        for name in other.names:
            if name not in names:
                return None
            names.remove(name)
        if other.number == 0 or self.number % other.number:
            return None
        number = self.number // other.number
        if not names:
            return number
        return names[0] if len(names) == 1 and number == 1 else None

    def __str__(self) -> str:
        return "*".join([*self.names, *([str(self.number)] if self.number != 1 else [])] or ["1"])


def product(dims: Sequence[Dim]) -> Product:
    """The number of elements of a shape."""
    total = Product()
    for dim in dims:
        total = total.times(dim)
    return total


def wanted_shape(dims: Dims, shape: Dims, zero_is_zero: bool) -> Dims:
    """The shape that a `Reshape` asks for, in which 0 stands for the old length and -1 for what is
    left."""
    found = [
        dims[axis] if dim == 0 and not zero_is_zero and axis < len(dims) else dim
        for axis, dim in enumerate(shape)
    ]
    if -1 in found:
        rest = product([dim for dim in found if dim != -1])
        length = product(dims).over(rest)
        if length is None:
            raise Unsupported(_mismatch(dims, shape))
        found[found.index(-1)] = length
    return tuple(found)


def reshape(graph: Graph, x: Tensor, shape: Dims) -> Tensor:
    """The elements of a tensor in the same order in another shape."""
    if shape == x.dims:
        return x
    if product(x.dims) != product(shape):
        raise Unsupported(_mismatch(x.dims, shape))
    if product(shape).number == 0:
        return graph.fill(shape, x.element, 0)
    made = x
    groups = _groups(made.dims, shape)
    while any(len(old) > 2 for old, _ in groups):
        made = _put_together(graph, made, [old for old, _ in groups])
        groups = _groups(made.dims, shape)

    def access(names: list[str]) -> Access:
        found = [HERE] * made.rank
        for old, new in groups:
            whole = position([(names[axis], shape[axis]) for axis in new])
            if len(old) == 1:
                found[old[0]] = whole
            elif old:
                divisor = made.dims[old[1]]
                found[old[0]] = IndexExpr.make(whole.terms, whole.constant, ("floordiv", divisor))
                found[old[1]] = IndexExpr.make(whole.terms, whole.constant, ("mod", divisor))
        return tuple(found)

    result = graph.view(made, shape, access)
    result.origin = x.origin
    return result


def _groups(old: Dims, new: Dims) -> list[tuple[list[int], list[int]]]:
    """Axes of both shapes that hold the same elements, the axes of length 1 left out."""
    olds = [axis for axis, dim in enumerate(old) if dim != 1]
    news = [axis for axis, dim in enumerate(new) if dim != 1]
    found = list[tuple[list[int], list[int]]]()
    while olds or news:
        left, right = [olds.pop(0)] if olds else [], [news.pop(0)] if news else []
        while (one := product([old[a] for a in left])) != (two := product([new[a] for a in right])):
            # The side that lacks something of the other goes on.
            lacks = any(one.names.count(n) < two.names.count(n) for n in two.names)
            grows = lacks or (one.number < two.number and set(one.names) <= set(two.names))
            if olds and (grows or not news):
                left.append(olds.pop(0))
            elif news:
                right.append(news.pop(0))
            else:
                raise Unsupported(_mismatch(old, new))
        found.append((left, right))
    return found


def position(axes: Sequence[tuple[str, Dim]]) -> IndexExpr:
    """The position of a point among all, the last axis running fastest."""
    terms, stride = list[Term](), Product()
    for name, dim in reversed(axes):
        terms.append(Term(stride.number, Path(name), stride.names))
        stride = stride.times(dim)
    return IndexExpr.make(terms)


def _put_together(graph: Graph, x: Tensor, groups: Sequence[Sequence[int]]) -> Tensor:
    """In each group of more than two axes, the last two made one."""
    last = {group[-1] for group in groups if len(group) > 2}
    before = {group[-2] for group in groups if len(group) > 2}
    dims = list[Dim]()
    for axis, dim in enumerate(x.dims):
        if axis in last:
            joined = product([dims.pop(), dim])
            if joined.names:
                raise Unsupported(
                    f'{joined} elements in one axis, so give sizes={{"{joined.names[0]}": ...}}'
                )
            dims.append(joined.number)
        elif dim != 1:
            dims.append(dim)

    def access(names: list[str]) -> Access:
        rest = iter(names)
        found = list[IndexExpr]()
        name = ""
        for axis, dim in enumerate(x.dims):
            if dim == 1:
                found.append(HERE)
                continue
            name = name if axis in last else next(rest)
            index = IndexExpr.of(name)
            if axis in last:
                index = IndexExpr.make(index.terms, 0, ("mod", dim))
            elif axis in before:
                following = min(a for a in last if a > axis)
                index = IndexExpr.make(index.terms, 0, ("floordiv", x.dims[following]))
            found.append(index)
        return tuple(found)

    return graph.view(x, tuple(dims), access)


def _mismatch(old: Dims, new: Dims) -> str:
    shapes = [", ".join(map(str, dims)) for dims in (old, new)]
    names = [dim for dim in (*old, *new) if isinstance(dim, str)]
    hint = f'; give sizes={{"{names[0]}": ...}}' if names else ""
    return f"from [{shapes[0]}] to [{shapes[1]}]{hint}"
