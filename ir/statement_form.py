"""One statement without its operands: what it does, apart from what it does it to.

    y[e.dst, o] += a[e] * z[e.src, o]
    Form(kind="add", left=(i0.dst, i1), dims=(("i0", "edge"), ("i1", 64)), shape=("node", 64),
         element="f32", body=Apply("mul", (Read(0, (i0,)), Read(1, (i0.src, i1)))))

A form is canonical: variables are named i0, i1, ... in the order in which they appear on the left,
then in the body, and operands are numbered as they appear. Forms are kept once, so equal ones are
the same object, and what a pass finds out about one can be kept with it. The layers of a deep
network share a few dozen.

Besides the kinds of a statement there are `concat` (the operands one after another along an axis)
and `softmax` (of its only operand, over the points that share `keys`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from xdsl.dialects.builtin import DictionaryAttr

from hectorite.ir.formula import (
    Access,
    Formula,
    Read,
    reads,
    variables,
    with_indices,
    with_slots,
)
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim, access_text

Dims = tuple[tuple[str, Dim], ...]
"""Index variables and what each ranges over."""

Note = tuple[DictionaryAttr, tuple[str, ...]]
"""Attributes of a statement, and the names of its variables that they may mention."""


@dataclass(frozen=True)
class Shape:
    """What a tensor is: its dimensions, element type, and what an access out of range reads.
    A scalar argument has no dimensions and `scalar` set."""

    dims: tuple[Dim, ...]
    element: str
    pad: float | int | None = None
    format: str | None = None
    scalar: bool = False

    def __str__(self) -> str:
        pad = "" if self.pad is None else f" pad {self.pad}"
        return f"{self.element}[{', '.join(map(str, self.dims))}]{pad}"


@dataclass(frozen=True, eq=False)
class Form:
    """A statement without operands; made by `form`, `concat` and `softmax`.

    `init` tells that the last operand is the tensor to start from. `note` keeps attributes of the
    statement (a schedule) that no rewrite may lose: a form with one is left as it is.
    """

    kind: str
    left: Access
    dims: Dims
    shape: Shape
    body: Formula | None
    init: bool = False
    keys: Access = ()
    axis: int = 0
    operands: int = 0
    note: Note | None = None

    @cached_property
    def text(self) -> str:
        """All of it in one line; equal for equal forms only."""
        over = ", ".join(f"{name}: {dim}" for name, dim in self.dims)
        more = f" by {access_text(self.keys)}" if self.keys else ""
        start = " from init" if self.init else ""
        what = f"axis {self.axis} of {self.operands}" if self.body is None else str(self.body)
        note = "" if self.note is None else f" note {self.note}"
        left = access_text(self.left)
        return f"{self.kind} {left} for ({over}) : {self.shape} {what}{more}{start}{note}"

    @cached_property
    def digest(self) -> str:
        """A short name for the form, the same in every process."""
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()

    @cached_property
    def reads(self) -> tuple[Read, ...]:
        """The reads of the body, from left to right."""
        return () if self.body is None else tuple(reads(self.body))

    @cached_property
    def extents(self) -> Mapping[str, Dim]:
        """What each index variable ranges over."""
        return dict(self.dims)

    @cached_property
    def alone(self) -> tuple[str, ...]:
        """Variables that stand alone on the left."""
        return tuple(i.variable for i in self.left if i.variable is not None)

    @cached_property
    def reduced(self) -> tuple[str, ...]:
        """Variables that do not stand alone on the left."""
        return tuple(name for name, _ in self.dims if name not in self.alone)

    @cached_property
    def plain_left(self) -> bool:
        """Whether the left accesses are distinct plain variables."""
        return len(set(self.alone)) == len(self.left)

    def __repr__(self) -> str:
        return f"<{self.text}>"


_FORMS: dict[object, Form] = {}


def _kept(candidate: Form) -> Form:
    key = (
        candidate.kind,
        candidate.left,
        candidate.dims,
        candidate.shape,
        candidate.body,
        candidate.init,
        candidate.keys,
        candidate.axis,
        candidate.operands,
        candidate.note,
    )
    return _FORMS.setdefault(key, candidate)


def form(
    kind: str,
    left: Sequence[IndexExpr],
    dims: Mapping[str, Dim],
    shape: Shape,
    body: Formula,
    init: bool = False,
    note: Note | None = None,
) -> tuple[Form, tuple[int, ...], tuple[str, ...]]:
    """The form of a statement, which of the old slots each of its operands was, and the old names
    of its variables in their new order.

    `init` says that the operand after the highest slot of the body is the tensor to start from;
    it stays last. Variables of `dims` that occur nowhere are kept: they count.
    """
    return _form(kind, tuple(left), tuple(dims.items()), shape, body, init, note)


@cache
def _form(
    kind: str,
    left: Access,
    over: Dims,
    shape: Shape,
    body: Formula,
    init: bool,
    note: Note | None,
) -> tuple[Form, tuple[int, ...], tuple[str, ...]]:
    dims = dict(over)
    order = dict.fromkeys(name for index in left for name in index.variables)
    order |= dict.fromkeys(variables(body))
    idle = sorted((name for name in dims if name not in order), key=lambda n: str(dims[n]))
    names = {old: f"i{number}" for number, old in enumerate([*order, *idle])}
    slots = tuple(dict.fromkeys(read.slot for read in reads(body)))
    renamed = with_indices(body, lambda index: index.rename(names))
    renamed = with_slots(renamed, {old: new for new, old in enumerate(slots)})
    made = Form(
        kind,
        tuple(index.rename(names) for index in left),
        tuple((new, dims[old]) for old, new in names.items()),
        shape,
        renamed,
        init,
        operands=len(slots) + init,
        note=note,
    )
    return _kept(made), slots, tuple(names)


def concat(parts: Sequence[Shape], axis: int) -> Form:
    """The operands one after another along an axis whose extents are numbers."""
    total = sum(dim for part in parts if isinstance(dim := part.dims[axis], int))
    dims = (*parts[0].dims[:axis], total, *parts[0].dims[axis + 1 :])
    shape = Shape(dims, parts[0].element)
    sizes = tuple((f"part{k}", part.dims[axis]) for k, part in enumerate(parts))
    return _kept(Form("concat", (), sizes, shape, None, axis=axis, operands=len(parts)))


def softmax(shape: Shape, keys: Access, variables: Sequence[str]) -> Form:
    """exp(x) over its sum over the points that share the keys; one variable per dimension."""
    names = {old: f"i{number}" for number, old in enumerate(variables)}
    dims = tuple(zip(names.values(), shape.dims, strict=True))
    keys = tuple(index.rename(names) for index in keys)
    left = tuple(map(IndexExpr.of, names.values()))
    body = Read(0, left)
    return _kept(Form("softmax", left, dims, shape, body, keys=keys, operands=1))
