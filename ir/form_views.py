"""What a statement is, seen as mathematics: product, view, sum, element-wise function.

Enters: a `Form`. Leaves: a description that rules and cost models read, kept for each form. Names
of operators do not exist; a convolution is a product with three roles of variables as a matrix
product is one:

    y[e.dst, o] += a[e] * z[e.src, o] * 0.5        product: factors a, z; coefficient 0.5
                                                   e scattered, in a and z; o kept, in z
    y[n, o, p]  += x[n, c, p + r - 1] * w[o, c, r] n, p kept, in x; o kept, in w; c, r reduced

Forms with a note (a schedule) or a tensor to start from are never recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

from hectorite.ir.formula import Apply, Constant, Formula, Read
from hectorite.ir.formula import factors as formula_factors
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Form

Role = Literal["kept", "scattered", "reduced"]


@dataclass(frozen=True)
class Axis:
    """An index variable of a product and where it occurs."""

    name: str
    dim: Dim
    role: Role
    """`kept`: once on the left, alone; `scattered`: on the left otherwise; `reduced`: not there."""
    factors: tuple[int, ...]
    """Numbers of the factors whose access mentions it."""
    plain: tuple[int, ...]
    """Those of them that mention it once, alone, as a plain variable."""


@dataclass(frozen=True)
class Product:
    """A sum over the reduced and scattered variables of coefficient * factors."""

    coefficient: Constant | None
    factors: tuple[Read, ...]
    axes: tuple[Axis, ...]

    def axis(self, name: str) -> Axis:
        """The axis of an index variable."""
        return next(axis for axis in self.axes if axis.name == name)

    @property
    def groups(self) -> dict[tuple[Role, tuple[int, ...]], tuple[str, ...]]:
        """Aggregated axes: the variables of each role that occur in the same factors."""
        found = dict[tuple[Role, tuple[int, ...]], tuple[str, ...]]()
        for axis in self.axes:
            key = (axis.role, axis.factors)
            found[key] = (*found.get(key, ()), axis.name)
        return found

    def position(self, factor: int, name: str) -> int | None:
        """Which index of a factor's access is the plain variable; None if none is."""
        access = self.factors[factor].access or ()
        return next((p for p, index in enumerate(access) if index.variable == name), None)


def recognised(form: Form) -> bool:
    """Whether rules may look at a form: a statement without schedule and starting tensor."""
    return form.body is not None and not form.init and form.note is None and form.kind != "softmax"


@cache
def product(form: Form) -> Product | None:
    """A sum (kind `add`) of products of reads and at most one constant; None for others."""
    return multiplied(form) if form.kind == "add" else None


@cache
def scaled(form: Form) -> Product | None:
    """A product of reads without a sum (kind `assign`), `y[n, o] = x[n, o] * s[o]`."""
    return multiplied(form) if form.kind == "assign" else None


@cache
def multiplied(form: Form) -> Product | None:
    """Product of reads and at most one constant, summed (`add`) or not (`assign`)."""
    if not recognised(form) or form.kind not in ("add", "assign"):
        return None
    parts = () if form.body is None else tuple(formula_factors(form.body))
    factors = tuple(part for part in parts if isinstance(part, Read))
    constants = [part for part in parts if isinstance(part, Constant)]
    if not factors or len(constants) > 1 or len(factors) + len(constants) != len(parts):
        return None
    axes = tuple(_axis(form, name, dim, factors) for name, dim in form.dims)
    return Product(constants[0] if constants else None, factors, axes)


@cache
def pointwise(form: Form) -> bool:
    """Whether each point is computed by itself: `=` with plain variables on the left."""
    return recognised(form) and form.kind == "assign" and form.plain_left


@cache
def elementwise(form: Form) -> bool:
    """Whether it is pointwise and every read is of a scalar or at plain distinct variables, so
    that operands are taken whole, in some order of their axes."""
    return pointwise(form) and all(
        read.access is None or _distinct_plain(read.access) for read in form.reads
    )


@cache
def view(form: Form) -> Read | None:
    """The only read of a statement that just rearranges, repeats or selects elements."""
    body = form.body
    whole = pointwise(form) and isinstance(body, Read) and body.access is not None
    return body if whole and isinstance(body, Read) else None


@cache
def permutation(form: Form) -> tuple[int, ...] | None:
    """For a view that takes the whole operand: which axis of it each result axis is."""
    read = view(form)
    if read is None or not _distinct_plain(read.access or ()):
        return None
    names = [index.variable for index in read.access or ()]
    left = [index.variable for index in form.left]
    same = sorted(map(str, names)) == sorted(map(str, left))
    return tuple(map(names.index, left)) if same else None


@dataclass(frozen=True)
class Slice:
    """A stretch of one axis, all other axes being taken whole and in order."""

    axis: int
    start: int
    length: int


@cache
def slice_of(form: Form) -> Slice | None:
    """The stretch that a view takes of its operand; None if it is no such view. A stretch may be
    the whole axis: that depends on the operand."""
    read = view(form)
    if read is None or len(read.access or ()) != len(form.left):
        return None
    moved = [
        (axis, index)
        for axis, (index, to) in enumerate(zip(read.access or (), form.left, strict=True))
        if index != to
    ]
    if len(moved) > 1:
        return None
    axis, index = moved[0] if moved else (0, form.left[0] if form.left else IndexExpr())
    length = form.shape.dims[axis] if form.left else None
    if not isinstance(length, int):
        return None
    start = IndexExpr(index.terms)
    same = bool(form.left) and start == form.left[axis] and index.division is None
    return Slice(axis, index.constant, length) if same and index.constant >= 0 else None


@cache
def is_concat(form: Form) -> bool:
    """Whether it puts operands one after another."""
    return form.kind == "concat" and form.note is None


@cache
def reduction(form: Form) -> Read | None:
    """The only read of a sum, product, maximum or minimum over it."""
    body = form.body
    if not recognised(form) or form.kind == "assign" or not isinstance(body, Read):
        return None
    return body if body.access is not None else None


@cache
def sum_terms(form: Form) -> tuple[Formula, ...] | None:
    """The two or more terms of a pointwise sum."""
    body = form.body
    if pointwise(form) and isinstance(body, Apply) and body.function == "add":
        return body.arguments
    return None


def _distinct_plain(access: tuple[IndexExpr, ...]) -> bool:
    names = [index.variable for index in access]
    return None not in names and len(set(names)) == len(names)


def _axis(form: Form, name: str, dim: Dim, factors: tuple[Read, ...]) -> Axis:
    on_left = [index for index in form.left if name in index.variables]
    role: Role = "reduced"
    if on_left:
        role = "kept" if len(on_left) == 1 and on_left[0].variable == name else "scattered"
    uses = [[i for i in read.access or () if name in i.variables] for read in factors]
    return Axis(
        name,
        dim,
        role,
        tuple(number for number, found in enumerate(uses) if found),
        tuple(n for n, found in enumerate(uses) if len(found) == 1 and found[0].variable == name),
    )
