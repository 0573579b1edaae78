"""The declarative form of rules: terms over tensors whose axes are letters.

    x, w = bundle("x", "..."), bundle("w", "... n", many=True)
    f = function("f")
    Law("merge-siblings", "merge", f("... n", x, w), Part(f("... n", x, Concat(w, "n")), "n"))

A letter stands for a group of index variables with one role: which tensors have them, and whether
they are summed. So one rule covers products of matrices, of batches, of types and convolutions. A
letter along which something is concatenated or cut stands for one plain variable. `...` stands for
all other variables. What is written `q:g` is the index `q // (size of q / size of g)`.

A tensor with `many` stands for two or more alike, the siblings; what is made of it stands for as
many statements, until `Concat`, `Stack` or `Total` make one of them. `Part` and `Pick` are the
siblings again. A bundle is what one or more reads of a statement give together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

Letters = tuple[str, ...]
REST = "..."
Order = Literal["", "reversed", "rotated", "repeated"]


@dataclass(frozen=True)
class Tensor:
    """A tensor that a rule is about, at the letters at which it is read."""

    name: str
    letters: Letters
    many: bool = False
    bundle: bool = False
    turned: bool = False
    """Read with its axes moved on by one, as only a mutant is."""

    def at(self, letters: str) -> Tensor:
        """The same tensor read at other letters."""
        return replace(self, letters=tuple(letters.split()))

    def __str__(self) -> str:
        turned = ", turned" if self.turned else ""
        return f"{self.name}{'*' if self.many else ''}[{' '.join(self.letters)}{turned}]"


@dataclass(frozen=True)
class Statement:
    """A function of the arguments at every point of the letters, summed over those that are not on
    the left. The function is `mul`, another of `ir/scalar.py`, or `?name`: any body and any kind
    of statement, the same wherever the name stands. A `-` before it
    changes the sign, a `~` doubles it."""

    function: str
    left: Letters
    arguments: tuple[Term, ...]

    def __str__(self) -> str:
        inside = ", ".join(map(str, self.arguments))
        return f"{self.function.replace('?', '')}[{' '.join(self.left)}]({inside})"


@dataclass(frozen=True)
class Concat:
    """The siblings one after another along the axis of a letter."""

    term: Term
    letter: str
    order: Order = ""
    """Other than as they are only in a mutant."""

    def __str__(self) -> str:
        order = f", {self.order}" if self.order else ""
        return f"concat({self.term}, {self.letter}{order})"


@dataclass(frozen=True)
class Stack:
    """The siblings one after another, told apart by a new letter. They have one shape."""

    term: Term
    letter: str

    def __str__(self) -> str:
        return f"stack({self.term}, {self.letter})"


@dataclass(frozen=True)
class Total:
    """The sum of the siblings."""

    term: Term

    def __str__(self) -> str:
        return f"total({self.term})"


@dataclass(frozen=True)
class Part:
    """What stands where the sibling stood in a `Concat`; `shift` moves it."""

    term: Term
    letter: str
    shift: int = 0

    def __str__(self) -> str:
        moved = f" + {self.shift}" if self.shift else ""
        return f"part({self.term}, {self.letter}{moved})"


@dataclass(frozen=True)
class Pick:
    """The element of a letter that a `Stack` gave to the sibling."""

    term: Term
    letter: str
    shift: int = 0

    def __str__(self) -> str:
        moved = f" + {self.shift}" if self.shift else ""
        return f"pick({self.term}, {self.letter}{moved})"


@dataclass(frozen=True)
class View:
    """A tensor that is read through a view of it: a slice, a transpose, a gather. As a target it
    is read directly, at the access that the two give together."""

    term: Tensor

    def __str__(self) -> str:
        return f"view({self.term})"


@dataclass(frozen=True)
class Window:
    """A tensor read in the window in which another product reads it, which has the place of this
    read in it."""

    term: Tensor

    def __str__(self) -> str:
        return f"window({self.term})"


@dataclass(frozen=True)
class Widen:
    """Weights for that window: zero but in one place; `shift` moves it."""

    term: Tensor
    shift: int = 0

    def __str__(self) -> str:
        moved = f" + {self.shift}" if self.shift else ""
        return f"widen({self.term}{moved})"


Term = Tensor | Statement | Concat | Stack | Total | Part | Pick | View | Window | Widen

Tag = Literal["ring", "field", "commutative", "reassoc_fp", "exact_int", "annihilates_zero"]
TAGS: dict[str, str] = {
    "ring": "sums and products with the laws of a ring: floats up to rounding, wrapping integers",
    "field": "division as well: floats only",
    "commutative": "factors or terms change places",
    "reassoc_fp": "floats are added or multiplied in another order",
    "exact_int": "integers stay exact; those that saturate do not qualify",
    "annihilates_zero": "zero times anything is zero",
}


@dataclass(frozen=True)
class Condition:
    """What a rule asks of the tensors it binds; `test` takes a graph and a binding. `fixed` names
    tensors that it asks to follow from weights alone: that is looked at first."""

    text: str
    test: Callable[[Any, Any], bool]
    fixed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Law:
    """A rewrite rule: wherever `source` stands, `target` has the same value."""

    name: str
    family: str
    source: Term
    target: Term
    doc: str = ""
    algebra: frozenset[Tag] = frozenset()
    where: tuple[Condition, ...] = ()
    inside: bool = False
    """Whether the source, a product, may be some factors inside of a larger body."""

    def __str__(self) -> str:
        conditions = f"  where {' and '.join(map(str, self.where))}" if self.where else ""
        return f"{self.name}: {self.source} -> {self.target}{conditions}"

    @cached_property
    def singles(self) -> frozenset[str]:
        """Letters that stand for one plain variable."""
        parts = (*walk(self.source), *walk(self.target))
        return frozenset(part.letter for part in parts if isinstance(part, Concat | Part))

    @cached_property
    def fixed(self) -> frozenset[str]:
        """Tensors that must follow from weights alone."""
        return frozenset(name for condition in self.where for name in condition.fixed)

    @cached_property
    def many(self) -> bool:
        """Whether it is about siblings."""
        return any(isinstance(part, Tensor) and part.many for part in walk(self.source))

    @cached_property
    def windows(self) -> tuple[str, ...]:
        """Tensors that the target reads in a window of another product."""
        return tuple(p.term.name for p in walk(self.target) if isinstance(p, Window))

    @cached_property
    def siblings(self) -> bool:
        """Whether it replaces several statements at once."""
        return is_many(self.source)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the source, by name, as they first stand there."""
        found = dict[str, Tensor]()
        for part in walk(self.source):
            if isinstance(part, Tensor):
                found.setdefault(part.name, part)
        return found


def children(term: Term) -> tuple[Term, ...]:
    """The terms directly inside one."""
    if isinstance(term, Statement):
        return term.arguments
    return () if isinstance(term, Tensor) else (term.term,)


def with_children(term: Term, inside: tuple[Term, ...]) -> Term:
    """The same term around other terms."""
    if isinstance(term, Tensor):
        return term
    if isinstance(term, Statement):
        return replace(term, arguments=inside)
    return replace(term, term=inside[0])


def walk(term: Term) -> Iterator[Term]:
    """The term and all inside of it, outermost first."""
    yield term
    for child in children(term):
        yield from walk(child)


def is_many(term: Term) -> bool:
    """Whether a term stands for siblings rather than for one value."""
    if isinstance(term, Concat | Stack | Total):
        return False
    if isinstance(term, Part | Pick):
        return True
    if isinstance(term, Tensor):
        return term.many
    return any(map(is_many, children(term)))


def letters_of(term: Term) -> frozenset[str]:
    """The letters at which a value is read."""
    if isinstance(term, Tensor):
        return frozenset(letter for part in term.letters for letter in part.split(":")[:1])
    if isinstance(term, Statement):
        return frozenset(term.left)
    extra = {term.letter} if isinstance(term, Stack) else set[str]()
    return (letters_of(term.term) | extra) - ({term.letter} if isinstance(term, Pick) else set())


def scalable(law: Law) -> frozenset[Statement]:
    """Products of the source that may have a constant factor: it goes to the outermost product of
    the target."""

    def outermost(term: Term) -> Statement | None:
        while not isinstance(term, Statement | Tensor):
            term = term.term
        return term if isinstance(term, Statement) and term.function.lstrip("-~") == "mul" else None

    found, waiting = set[Statement](), [outermost(law.source)]
    while waiting:
        here = waiting.pop()
        if here is not None and here not in found:
            found.add(here)
            waiting += [outermost(a) for a in here.arguments if isinstance(a, Statement)]
    return frozenset(found) if outermost(law.target) is not None else frozenset()


def interchangeable(law: Law, one: Tensor, other: Tensor) -> bool:
    """Whether a rule stays the same when two of its tensors change their names."""

    def renamed(term: Term) -> Term:
        if isinstance(term, Tensor):
            return replace(
                term, name={one.name: other.name, other.name: one.name}.get(term.name, term.name)
            )
        inside = tuple(map(renamed, children(term)))
        return with_children(term, inside)

    def sides(terms: tuple[Term, Term]) -> tuple[str, str]:
        return _sorted_text(terms[0]), _sorted_text(terms[1])

    conditions = {name in law.fixed for name in (one.name, other.name)}
    before, after = (law.source, law.target), (renamed(law.source), renamed(law.target))
    return len(conditions) == 1 and sides(before) == sides(after)


def _sorted_text(term: Term) -> str:
    """A term as text, the factors of products in one order."""
    inside = [_sorted_text(child) for child in children(term)]
    if isinstance(term, Tensor):
        return str(term)
    if isinstance(term, Statement):
        inside = sorted(inside) if term.function == "mul" else inside
        return f"{term.function}[{term.left}]({inside})"
    return f"{replace(term, term=Tensor('', ()))}({inside})"


def tensor(name: str, letters: str = REST, many: bool = False) -> Tensor:
    """One tensor."""
    return Tensor(name, tuple(letters.split()), many)


def bundle(name: str, letters: str = REST, many: bool = False) -> Tensor:
    """One or more reads of a statement that a rule treats alike."""
    return Tensor(name, tuple(letters.split()), many, True)


def contract(left: str, *arguments: Term) -> Statement:
    """The product of the arguments, summed over the letters that are not on the left."""
    return Statement("mul", tuple(left.split()), arguments)


def apply(function: str, left: str, *arguments: Term) -> Statement:
    """A scalar function of the arguments at every point."""
    return Statement(function, tuple(left.split()), arguments)


def function(name: str) -> Callable[..., Statement]:
    """A variable for any body of a statement, with its kind."""

    def statement(left: str, *arguments: Term) -> Statement:
        return Statement(f"?{name}", tuple(left.split()), arguments)

    return statement
