"""The checked program: what a program means, with every name, space and type resolved.

Enters nothing; `program.py` makes it, `frontend/to_graph` turns it into the graph dialect. All
casts are explicit here, index expressions are canonical, and every index variable has what it
ranges over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hectorite.ir.diagnostics import Diagnostic, Source, Span
from hectorite.ir.element import ElementType
from hectorite.ir.index import IndexExpr
from hectorite.ir.schedule import Schedule
from hectorite.ir.schema import Schema

Dim = int | str
"""What an index variable or a dimension ranges over: a fixed extent, or a set or size by name."""


@dataclass(frozen=True)
class TensorSpec:
    """A parameter, result or local: its dimensions outermost first, none for a scalar."""

    name: str
    element: ElementType
    dims: tuple[Dim, ...]
    pad: float | int | None = None
    format: str | None = None


# Scalar expressions. They compare by identity: one object is computed once.


@dataclass(frozen=True, eq=False)
class Scalar:
    """A value at each point of a statement; `type` is the type it is computed in."""

    type: ElementType


@dataclass(frozen=True, eq=False)
class Constant(Scalar):
    value: float | int | bool


@dataclass(frozen=True, eq=False)
class Read(Scalar):
    """The element of a tensor at an access."""

    tensor: str
    access: tuple[IndexExpr, ...]


@dataclass(frozen=True, eq=False)
class Position(Scalar):
    """The value of an index expression; an integer type."""

    index: IndexExpr


@dataclass(frozen=True, eq=False)
class Size(Scalar):
    """The size of a set, or the value of a size; an integer type."""

    of: str


@dataclass(frozen=True, eq=False)
class Apply(Scalar):
    """A function of the `scalar` dialect; all arguments have the type it works in, except the
    condition of `select`. `type` is that of the result."""

    function: str
    arguments: tuple[Scalar, ...]


@dataclass(frozen=True, eq=False)
class Cast(Scalar):
    """Conversion to `type`: integers wrap, floats to integers saturate."""

    argument: Scalar


@dataclass(frozen=True, eq=False)
class Grouped(Scalar):
    """`softmax` or `mean` of the argument over all points of the statement that share the keys."""

    kind: str
    argument: Scalar
    keys: tuple[IndexExpr, ...]
    key_dims: tuple[Dim, ...]


# Statements


@dataclass(frozen=True, eq=False)
class CheckedStatement:
    """`tensor[access] operator value` for every assignment of the variables.

    `operator` is one of `=`, `+=`, `*=`, `max=`, `min=`, `mean=`. `continues` tells that the
    tensor keeps its earlier value where the statement writes nothing, or combines with it.
    """

    span: Span
    tensor: str
    operator: str
    access: tuple[IndexExpr, ...]
    variables: tuple[tuple[str, Dim], ...]
    value: Scalar
    continues: bool


@dataclass(frozen=True, eq=False)
class CheckedCall:
    """`targets = function(arguments)` on whole tensors.

    `sizes` gives each size variable of the callee in terms of the caller. An argument is the name
    of a tensor, or a scalar that no index variable occurs in.
    """

    span: Span
    targets: tuple[str, ...]
    function: str
    arguments: tuple[str | Scalar, ...]
    sizes: dict[str, Dim]


@dataclass(frozen=True, eq=False)
class CheckedFunction:
    """One function. `tensors` holds parameters and locals by name; a returned one has the type
    that its result declares. `sizes` are its size variables in order of appearance, `schedules`
    the orders for tensors by name."""

    name: str
    span: Span
    source: Source
    parameters: tuple[TensorSpec, ...]
    results: tuple[TensorSpec, ...]
    tensors: dict[str, TensorSpec]
    statements: tuple[CheckedStatement | CheckedCall, ...]
    returned: tuple[str, ...]
    returned_at: Span
    sizes: tuple[str, ...]
    schedules: Mapping[str, Schedule] = field(default_factory=dict[str, Schedule])


@dataclass(frozen=True)
class CheckedProgram:
    """A whole program: its sets and sizes, where each is declared, and its functions in order of
    declaration."""

    schema: Schema
    places: dict[str, tuple[Source, Span]]
    functions: dict[str, CheckedFunction]
    warnings: list[Diagnostic] = field(default_factory=list[Diagnostic])
