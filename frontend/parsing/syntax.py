"""The syntax tree: what a program says, word for word, before anything is resolved.

Every node has the `span` it was read from. Nodes compare by identity, because two equal spellings
at two places are two things to the checker. Expressions and index expressions share the classes
under `Expr`: which of them are affine is the checker's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import cast

from hectorite.ir.diagnostics import Source, Span


@dataclass(frozen=True, eq=False)
class Node:
    """A piece of the program and where it stands."""

    span: Span


@dataclass(frozen=True, eq=False)
class Name(Node):
    """An identifier."""

    text: str


@dataclass(frozen=True, eq=False)
class Extent(Node):
    """A size in a shape or a binder: a name, or an integer. `value` is None for a form that is
    neither, which the checker rejects."""

    value: str | int | None


# Expressions


@dataclass(frozen=True, eq=False)
class Expr(Node):
    """Anything that has a value."""


@dataclass(frozen=True, eq=False)
class Literal(Expr):
    """`3`, `0.2`, `true`, `inf`."""

    value: int | float | bool


@dataclass(frozen=True, eq=False)
class NameRef(Expr):
    """A bare name: an index variable inside brackets, else whatever is in scope."""

    name: str


@dataclass(frozen=True, eq=False)
class Binder(Expr):
    """`e: edge`, the variable `e` together with what it ranges over."""

    name: Name
    extent: Extent


@dataclass(frozen=True, eq=False)
class Path(Expr):
    """`base.field`."""

    base: Expr
    field: Name


@dataclass(frozen=True, eq=False)
class Access(Expr):
    """`tensor[indices]`."""

    tensor: Name
    indices: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Keyword(Node):
    """`name=value` among arguments."""

    name: Name
    value: Expr


@dataclass(frozen=True, eq=False)
class Call(Expr):
    """`callee(arguments, keywords)`: an intrinsic, a cast, a `fn`, or a function on tensors.

    `inner` holds a call that is itself called, as in the cast `dfp16(block=32)(x)`.
    """

    callee: Name
    arguments: tuple[Expr, ...]
    keywords: tuple[Keyword, ...] = ()
    inner: Call | None = None


@dataclass(frozen=True, eq=False)
class Grouped(Expr):
    """`softmax(value by keys)` or `mean(value by keys)`."""

    kind: Name
    value: Expr
    keys: tuple[Expr, ...]


@dataclass(frozen=True, eq=False)
class Unary(Expr):
    """`-x`, `+x`, `not x`."""

    operator: str
    operand: Expr


@dataclass(frozen=True, eq=False)
class Binary(Expr):
    """`left operator right`; `at` is where the operator stands."""

    operator: str
    left: Expr
    right: Expr
    at: Span


# Types and annotations


@dataclass(frozen=True, eq=False)
class Word(Node):
    """`name(arguments)` in a format or a schedule: `csr(dst)`, `tile(n = 64)`, `pipeline(3)`."""

    name: Name
    arguments: tuple[WordArgument, ...] = ()


@dataclass(frozen=True, eq=False)
class WordArgument(Node):
    """One argument of a `Word`, by position when `name` is None."""

    name: Name | None
    value: Word | Format | Literal


@dataclass(frozen=True, eq=False)
class Format(Node):
    """What follows `as`: `csr(dst).by(type)`."""

    words: tuple[Word, ...]


@dataclass(frozen=True, eq=False)
class TypeExpr(Node):
    """`element[extents] as format on place pad constant`; `extents` is empty for a scalar."""

    element: Word
    extents: tuple[Extent, ...]
    format: Format | None
    place: Name | None
    pad: Literal | None


# Statements


@dataclass(frozen=True, eq=False)
class Target(Node):
    """The left side of a statement; `indices` is None where no brackets were written."""

    tensor: Name
    indices: tuple[Expr, ...] | None


@dataclass(frozen=True, eq=False)
class Assign(Node):
    """`targets operator value`; more than one target only where a function is called."""

    targets: tuple[Target, ...]
    operator: str
    operator_span: Span
    value: Expr


@dataclass(frozen=True, eq=False)
class Return(Node):
    """`return a, b`."""

    names: tuple[Name, ...]


@dataclass(frozen=True, eq=False)
class Scan(Node):
    """`scan t: T { body }`."""

    variable: Name
    extent: Extent
    body: tuple[Statement, ...]


Statement = Assign | Return | Scan


# Declarations


@dataclass(frozen=True, eq=False)
class ImportDecl(Node):
    """`import "file.hec"`."""

    path: str


@dataclass(frozen=True, eq=False)
class DimDecl(Node):
    """`dim D` or `dim D = 64`."""

    name: Name
    value: int | None


@dataclass(frozen=True, eq=False)
class FieldDecl(Node):
    """`field: target` of a set."""

    name: Name
    target: Name


@dataclass(frozen=True, eq=False)
class Derivation(Node):
    """`distinct(keys) for binders where condition`. Keyword arguments are kept to be refused."""

    keys: tuple[Expr, ...]
    keywords: tuple[Keyword, ...]
    binders: tuple[Binder, ...]
    condition: Expr | None


@dataclass(frozen=True, eq=False)
class SetDeclaration(Node):
    """`set name { fields } as format = derivation`; the checker refuses a second of either."""

    name: Name
    fields: tuple[FieldDecl, ...]
    formats: tuple[Format, ...]
    derivations: tuple[Derivation, ...]


@dataclass(frozen=True, eq=False)
class ScalarFunction(Node):
    """`fn name(parameters) = body`."""

    name: Name
    parameters: tuple[Name, ...]
    body: Expr


@dataclass(frozen=True, eq=False)
class Parameter(Node):
    """`name: type`."""

    name: Name
    type: TypeExpr


@dataclass(frozen=True, eq=False)
class Function(Node):
    """`def name(parameters) -> results { body }`."""

    name: Name
    parameters: tuple[Parameter, ...]
    results: tuple[TypeExpr, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True, eq=False)
class Order(Node):
    """`y: tile(n = 64) pipeline(3)` of a schedule."""

    tensor: Name
    words: tuple[Word, ...]


@dataclass(frozen=True, eq=False)
class Schedule(Node):
    """`schedule { orders }`, about the function before it."""

    orders: tuple[Order, ...]


Declaration = ImportDecl | DimDecl | SetDeclaration | ScalarFunction | Function | Schedule


@dataclass(frozen=True, eq=False)
class Program:
    """One source text, parsed."""

    source: Source
    declarations: tuple[Declaration, ...]


def children(node: Node) -> Iterator[Node]:
    """The nodes directly under a node, in the order of the fields."""
    for item in fields(node):
        value = getattr(node, item.name)
        several = cast(tuple[object, ...], value) if isinstance(value, tuple) else (value,)
        for child in several:
            if isinstance(child, Node):
                yield child


def walk(node: Node) -> Iterator[Node]:
    """The node and everything under it, parents first, without recursion."""
    pending = [node]
    while pending:
        node = pending.pop()
        yield node
        pending.extend(reversed(list(children(node))))
