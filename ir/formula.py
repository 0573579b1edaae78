"""Scalar expressions as immutable trees: the bodies of statements, for passes that search.

    formula ::= Read(slot, access)          element of the operand in that slot; no access: a scalar
              | Constant(number, element)
              | Index(expression, element)  an index expression as an integer
              | Size(name, element)
              | Apply(function, formulas)   `mul` and `add` take two or more, other functions theirs
              | Cast(formula, element)

    a[e] * z[e.src, o] * 0.5
    Apply("mul", (Read(0, (e,)), Read(1, (e.src, o)), Constant(0.5, "f32")))

Element types are given by name. Equal formulas compare equal and hash alike.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from hectorite.ir.index import IndexExpr
from hectorite.ir.space import access_text

Access = tuple[IndexExpr, ...]


@dataclass(frozen=True)
class Read:
    """The element of an operand at an access; of a scalar operand (access None) its value."""

    slot: int
    access: Access | None

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.slot, self.access))

    def __str__(self) -> str:
        return f"#{self.slot}{'' if self.access is None else access_text(self.access)}"


@dataclass(frozen=True)
class Constant:
    """A number of an element type."""

    number: float | int
    element: str

    def __str__(self) -> str:
        return f"{self.number}:{self.element}"


@dataclass(frozen=True)
class Index:
    """The value of an index expression."""

    expression: IndexExpr
    element: str

    def __str__(self) -> str:
        return f"({self.expression}):{self.element}"


@dataclass(frozen=True)
class Size:
    """The number of elements of a set, or the value of a size."""

    of: str
    element: str

    def __str__(self) -> str:
        return f"size({self.of}):{self.element}"


@dataclass(frozen=True)
class Apply:
    """A scalar function of `ir/scalar.py` by its name."""

    function: str
    arguments: "tuple[Formula, ...]"

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.function, self.arguments))

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class Cast:
    """A value in another element type."""

    argument: "Formula"
    element: str

    def __str__(self) -> str:
        return f"{self.element}({self.argument})"


Formula = Read | Constant | Index | Size | Apply | Cast

NARY = ("add", "mul")
"""Functions that take any number of arguments here; they associate and commute."""


def children(formula: Formula) -> tuple[Formula, ...]:
    """The formulas directly inside one."""
    if isinstance(formula, Apply):
        return formula.arguments
    return (formula.argument,) if isinstance(formula, Cast) else ()


def walk(formula: Formula) -> Iterator[Formula]:
    """The formula and all inside of it, outermost first, from left to right."""
    yield formula
    for child in children(formula):
        yield from walk(child)


def factors(formula: Formula) -> Iterator[Formula]:
    """What is multiplied, from left to right: the formula itself if it is no product."""
    if isinstance(formula, Apply) and formula.function == "mul":
        for argument in formula.arguments:
            yield from factors(argument)
    else:
        yield formula


def reads(formula: Formula) -> list[Read]:
    """The reads, from left to right, each as often as it stands there."""
    return [part for part in walk(formula) if isinstance(part, Read)]


def indices(formula: Formula) -> Iterator[IndexExpr]:
    """Every index expression, from left to right."""
    for part in walk(formula):
        if isinstance(part, Read):
            yield from part.access or ()
        elif isinstance(part, Index):
            yield part.expression


def variables(formula: Formula) -> tuple[str, ...]:
    """Index variables, each once, from left to right."""
    return tuple(dict.fromkeys(name for index in indices(formula) for name in index.variables))


def rebuild(formula: Formula, change: "Callable[[Formula], Formula | None]") -> Formula:
    """Replace parts: where `change` gives a formula it stands for the part, else the part is
    rebuilt from its rebuilt children."""
    changed = change(formula)
    if changed is not None:
        return changed
    if isinstance(formula, Apply):
        return Apply(formula.function, tuple(rebuild(a, change) for a in formula.arguments))
    if isinstance(formula, Cast):
        return Cast(rebuild(formula.argument, change), formula.element)
    return formula


def with_indices(formula: Formula, change: Callable[[IndexExpr], IndexExpr]) -> Formula:
    """Change every index expression."""

    def leaf(part: Formula) -> Formula | None:
        if isinstance(part, Read) and part.access is not None:
            return Read(part.slot, tuple(map(change, part.access)))
        if isinstance(part, Index):
            return Index(change(part.expression), part.element)
        return None

    return rebuild(formula, leaf)


def with_slots(formula: Formula, slots: Mapping[int, int]) -> Formula:
    """Renumber the operands."""

    def leaf(part: Formula) -> Formula | None:
        return Read(slots[part.slot], part.access) if isinstance(part, Read) else None

    return rebuild(formula, leaf)


def nary(function: str, arguments: "tuple[Formula, ...] | list[Formula]") -> Formula:
    """A sum or product of any number of formulas, nested ones taken in; one alone is itself."""
    flat = list[Formula]()
    for argument in arguments:
        inside = isinstance(argument, Apply) and argument.function == function
        flat += argument.arguments if inside and isinstance(argument, Apply) else (argument,)
    return flat[0] if len(flat) == 1 else Apply(function, tuple(flat))
