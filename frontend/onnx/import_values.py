"""The graph function that grows while an ONNX model is imported.

Enters: requests of the operators' files, tensor by tensor: a statement, a read, a parameter.
Leaves: the block of a `graph.func`, with its parameters, the arrays of those that the model holds,
and the sets whose maps are arrays of indices.

A `Tensor` is a value of that function, or numbers that are known (shapes and axes above all), which
become a parameter only if a statement reads them. A dimension is an integer or the name of a size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from xdsl.ir import Block, BlockArgument, OpResult, SSAValue
from xdsl.rewriter import Rewriter

from hectorite.dialects.graph import IndexOp, SizeOp, SoftmaxOp, StatementOp
from hectorite.frontend.onnx.data import IndexSet
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.graph.statement_body import Body

Array = np.ndarray[Any, Any]
Dims = tuple[Dim, ...]
Access = tuple[IndexExpr, ...]
Scalars = (
    Callable[[Body, SSAValue], SSAValue]
    | Callable[[Body, SSAValue, SSAValue], SSAValue]
    | Callable[[Body, SSAValue, SSAValue, SSAValue], SSAValue]
)
"""Writes a body: takes it and the values that it reads, gives the value that it yields."""

HERE = IndexExpr()
"""The only position of a dimension of length 1."""


class Unsupported(Exception):
    """Why one node cannot be imported."""


@dataclass(eq=False)
class Tensor:
    """One value of an ONNX graph.

    `known` are its numbers, names of sizes among them as text; `value` is what a statement reads.
    `origin` is the name of the graph input whose elements these are, in the same order.
    """

    dims: Dims
    element: ElementType
    value: SSAValue | None = None
    known: Array | None = None
    origin: str | None = None
    name: str = ""

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def number(self) -> Any:
        """The one number that all elements are, None if they differ or are not known."""
        known = self.known
        if known is None or known.size == 0 or (known.size > 1 and any(known.strides)):
            return None
        return known.ravel()[0] if known.size == 1 else known[(0,) * known.ndim]

    def extent(self, axis: int, why: str) -> int:
        """The length of an axis. Raises `Unsupported` if it is only a name."""
        return integer(self.dims[axis], why)


def integer(dim: Dim, why: str) -> int:
    """A dimension that has to be a number. Raises `Unsupported` if it is only a name."""
    if isinstance(dim, str):
        raise Unsupported(f'{why} has to be a number, so give sizes={{"{dim}": ...}}')
    return dim


def identifier(name: str) -> str:
    """A name as parameters can have it."""
    plain = re.sub(r"\W", "_", str(name), flags=re.ASCII)  # bytes, where it is no text
    return plain if plain and not plain[0].isdigit() else f"_{plain}"


def affine(coefficients: dict[str, int], constant: int = 0) -> IndexExpr:
    """A sum of variables times integers."""
    terms = [Term(number, Path(name)) for name, number in coefficients.items()]
    return IndexExpr.make(terms, constant)


def axes(rank: int, letter: str = "i") -> list[str]:
    """Index variables, one for each axis."""
    return [f"{letter}{axis}" for axis in range(rank)]


def at(names: Sequence[str]) -> Access:
    """The access at plain variables."""
    return tuple(map(IndexExpr.of, names))


def broadcast(*shapes: Dims) -> Dims:
    """The shape that all are stretched to. Raises `Unsupported` if there is none."""
    rank = max(map(len, shapes))
    found = list[Dim]()
    for axis in range(-rank, 0):
        lengths = dict.fromkeys(dims[axis] for dims in shapes if len(dims) >= -axis)
        longer = [length for length in lengths if length != 1] or [1]
        if len(longer) > 1:
            listed = " and ".join(map(str, longer))
            named = [length for length in longer if isinstance(length, str)]
            hint = f'; if they are equal, give sizes={{"{named[0]}": ...}}' if named else ""
            raise Unsupported(f"lengths {listed} meet on one axis{hint}")
        found.append(longer[0])
    return tuple(found)


def stretched(dims: Dims, to: Dims, names: Sequence[str]) -> Access:
    """The access of a tensor that is stretched to a shape over `names`."""
    last = names[len(names) - len(dims) :]
    wide = to[len(to) - len(dims) :]
    return tuple(
        HERE if dim == 1 and over != 1 else IndexExpr.of(name)
        for dim, over, name in zip(dims, wide, last, strict=True)
    )


@dataclass
class Graph:
    """The function so far. `hint` names what is made next, `sizes` are the names of sizes."""

    hint: str = "t"
    sizes: set[str] = field(default_factory=set[str])
    block: Block = field(default_factory=Block)
    names: list[str] = field(default_factory=list[str])
    arrays: dict[str, Array] = field(default_factory=dict[str, Array])
    """What the parameters are that the model holds; the same in every call."""
    index_sets: list[IndexSet] = field(default_factory=list[IndexSet])

    # parameters

    def parameter(self, name: str, element: ElementType, dims: Dims) -> SSAValue:
        """A new parameter, under this name or one like it."""
        argument = self.block.insert_arg(TensorType.of(element, dims), len(self.names))
        self.names.append(self.free(name))
        argument.name_hint = self.names[-1]
        return argument

    def free(self, name: str) -> str:
        """An identifier like `name` that nothing has yet."""
        taken = {*self.names, *self.sizes}
        taken |= {n for each in self.index_sets for n in (each.name, each.target)}
        plain, count = identifier(name), 2
        free = plain
        while free in taken:
            free, count = f"{plain}v{count}", count + 1
        return free

    def value(self, tensor: Tensor) -> SSAValue:
        """What statements read; known numbers become a parameter, or are filled in."""
        if tensor.value is None:
            known = tensor.known
            assert known is not None
            if tensor.number is not None:
                filled = self.fill(tensor.dims, tensor.element, tensor.number)
                tensor.value = filled.value
            elif known.dtype == object:
                raise Unsupported(_named_sizes(known))
            else:
                tensor.value = self.parameter(
                    tensor.name or "constant", tensor.element, tensor.dims
                )
                array = np.ascontiguousarray(known, tensor.element.storage)
                self.arrays[self.names[-1]] = array.reshape(known.shape)
        assert tensor.value is not None
        return tensor.value

    # statements

    def statement(
        self,
        kind: str,
        left: Access,
        variables: Sequence[tuple[str, Dim]],
        dims: Dims,
        element: ElementType,
        write: Callable[[Body], SSAValue],
        pad: float | int | None = None,
        init: Tensor | None = None,
    ) -> Tensor:
        """`T[left] kind= ...` over the variables; T has the shape `dims`."""
        body = Body()
        value = write(body)
        start = None if init is None else init.value
        type = TensorType.of(element, dims, pad)
        op = body.statement(kind, left, variables, type, value, start, self.hint)
        self.block.add_op(op)
        return Tensor(dims, element, op.result)

    def read(self, body: Body, tensor: Tensor, access: Access) -> SSAValue:
        """An element, in the type that it computes in. A number that is known stands for itself."""
        compute = tensor.element.compute.xdsl
        number = tensor.number if tensor.value is None else None
        if isinstance(number, str):
            return body.cast(body.add(SizeOp(number, ELEMENTS["i64"].xdsl)), compute)
        if number is not None:
            return body.constant(number.item() if hasattr(number, "item") else number, compute)
        return body.cast(body.read(self.value(tensor), access), compute)

    def elementwise(
        self,
        inputs: Sequence[Tensor],
        function: Scalars,
        element: ElementType | None = None,
        dims: Dims | None = None,
    ) -> Tensor:
        """One function of the elements of tensors that are stretched to one shape."""
        dims = broadcast(*(tensor.dims for tensor in inputs)) if dims is None else dims
        names, to = axes(len(dims)), dims

        def write(body: Body) -> SSAValue:
            values = [self.read(body, t, stretched(t.dims, to, names)) for t in inputs]
            return function(body, *values)

        variables = list(zip(names, dims, strict=True))
        return self.statement(
            "assign", at(names), variables, dims, element or inputs[0].element, write
        )

    def view(self, tensor: Tensor, dims: Dims, access: Callable[[list[str]], Access]) -> Tensor:
        """The elements of a tensor at other places."""
        names = axes(len(dims))
        return self.statement(
            "assign",
            at(names),
            list(zip(names, dims, strict=True)),
            dims,
            tensor.element,
            lambda body: body.read(self.value(tensor), access(names)),
        )

    def fill(self, dims: Dims, element: ElementType, number: Any) -> Tensor:
        """One number everywhere."""
        single = Tensor((), element, known=np.array(number, object))
        return self.elementwise([single], lambda body, x: x, element, dims)

    def reduce(
        self,
        kind: str,
        tensor: Tensor,
        over: Sequence[int],
        function: Callable[[Body, SSAValue], SSAValue] = lambda body, x: x,
        keep: bool = True,
        element: ElementType | None = None,
    ) -> Tensor:
        """Combine `function` of the elements along the axes `over`, which stay with length 1 if
        they are kept."""
        names = axes(tensor.rank)
        left = [
            HERE if axis in over else IndexExpr.of(name)
            for axis, name in enumerate(names)
            if keep or axis not in over
        ]
        dims = tuple(
            1 if axis in over else dim
            for axis, dim in enumerate(tensor.dims)
            if keep or axis not in over
        )
        return self.statement(
            kind,
            tuple(left),
            list(zip(names, tensor.dims, strict=True)),
            dims,
            element or tensor.element,
            lambda body: function(body, self.read(body, tensor, at(names))),
        )

    # values that read something outside of their shape

    def padded(self, tensor: Tensor, number: float | int) -> SSAValue:
        """The tensor with `number` around it: it is declared so, or if it cannot be, a copy is."""
        value = self.value(tensor)
        type = value.type
        assert isinstance(type, TensorType)
        if type.pad_value == number:
            return value
        if type.pad_value is None and _may_change(value):
            tensor.value = _retyped(value, TensorType.of(type.element, type.dims, number))
            return tensor.value
        names = axes(tensor.rank)
        copy = self.statement(
            "assign",
            at(names),
            list(zip(names, tensor.dims, strict=True)),
            tensor.dims,
            tensor.element,
            lambda body: body.read(value, at(names)),
            number,
        )
        assert copy.value is not None
        return copy.value


def index(body: Body, expression: IndexExpr, element: ElementType = ELEMENTS["i32"]) -> SSAValue:
    """The value of an index expression."""
    return body.add(IndexOp(expression, element.xdsl))


def count_of(body: Body, dims: Sequence[Dim], element: ElementType) -> SSAValue:
    """The number of elements that a tensor of this shape has."""
    fixed = int(np.prod([dim for dim in dims if isinstance(dim, int)], dtype=np.int64))
    total = body.constant(fixed, element.xdsl)
    for dim in dims:
        if isinstance(dim, str):
            size = body.cast(body.add(SizeOp(dim)), element.xdsl)
            total = body.apply("mul", total, size)
    return total


def _named_sizes(known: Array) -> str:
    named = sorted({str(part) for part in known.ravel() if isinstance(part, str)})
    listed = ", ".join(f'"{name}": ...' for name in named)
    return f"it depends on sizes that are not numbers, so give sizes={{{listed}}}"


def _chain(value: SSAValue) -> list[SSAValue]:
    """The value, and those that it goes on from piece by piece."""
    found = [value]
    while isinstance(value, OpResult) and isinstance(value.op, StatementOp):
        if value.op.init is None:
            break
        value = value.op.init
        found.append(value)
    return found


def _may_change(value: SSAValue) -> bool:
    """Whether a value can be declared with a pad: no other value has to have its type."""
    if not isinstance(value, BlockArgument) and isinstance(value.owner, SoftmaxOp):
        return False
    chain = _chain(value)
    for place, each in enumerate(chain):
        for use in each.uses:
            op = use.operation
            if isinstance(op, SoftmaxOp):
                return False
            if isinstance(op, StatementOp) and (place == 0 or op.result is not chain[place - 1]):
                return False
    return True


def _retyped(value: SSAValue, type: TensorType) -> SSAValue:
    made = [Rewriter.replace_value_with_new_type(each, type) for each in _chain(value)]
    return made[0]
