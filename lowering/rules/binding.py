"""What the names of a rule stand for at one place.

A value is a node and the access at which it is read, in terms of the rule's index variables, which
are named after their letters (`n0`, `v3`). Siblings have bindings of their own for what differs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from hectorite.ir.formula import Access, Constant
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Shape
from hectorite.lowering.rules.split import Captured


class Value(NamedTuple):
    """A tensor read at an access; a scalar has none."""

    node: int
    access: Access | None


@dataclass(frozen=True)
class Root:
    """The statement that is replaced: what it computes, and where it writes it."""

    left: Access
    shape: Shape
    name: str | None = None


@dataclass
class Sibling:
    """What is different for each of the siblings."""

    tensors: dict[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])
    dims: dict[str, Dim] = field(default_factory=dict[str, Dim])
    """Extents of variables along which the siblings are concatenated."""
    node: int | None = None
    """The statement of the source that it is."""


@dataclass(frozen=True)
class WindowOf:
    """How another product reads a tensor: the access, and for each variable of the window where
    the read of the rule stands in it. The extents are among those of the binding."""

    access: Access
    places: tuple[tuple[str, int], ...]


@dataclass
class Binding:
    """One place where the source of a rule stands."""

    tensors: dict[str, tuple[Value, ...]] = field(default_factory=dict[str, tuple[Value, ...]])
    dims: dict[str, Dim] = field(default_factory=dict[str, Dim])
    letters: dict[str, str] = field(default_factory=dict[str, str])
    functions: dict[str, Captured] = field(default_factory=dict[str, Captured])
    constants: tuple[Constant, ...] = ()
    """Numbers that products of the source have as a factor."""
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    siblings: list[Sibling] = field(default_factory=list[Sibling])
    root: Root | None = None
    views: dict[str, Value] = field(default_factory=dict[str, Value])
    """How tensors are read through views, where the source is built."""
    window: WindowOf | None = None

    def copy(self) -> Binding:
        """A binding that can go on by itself."""
        siblings = [Sibling(dict(s.tensors), dict(s.dims), s.node) for s in self.siblings]
        return Binding(
            dict(self.tensors),
            dict(self.dims),
            dict(self.letters),
            dict(self.functions),
            self.constants,
            dict(self.sizes),
            siblings,
            self.root,
            dict(self.views),
            self.window,
        )

    def nodes(self, name: str) -> list[int]:
        """All nodes that a tensor of the rule stands for."""
        found = [value.node for value in self.tensors.get(name, ())]
        for sibling in self.siblings:
            found += [value.node for value in sibling.tensors.get(name, ())]
        return found

    def group(self, letter: str) -> list[str]:
        """The variables of a letter."""
        return [name for name, of in self.letters.items() if of == letter]

    def fresh(self, letter: str) -> str:
        """A name for one more variable of a letter."""
        taken = {*self.letters}
        start = "v" if letter == "..." else letter
        return next(n for n in (f"{start}{k}" for k in range(len(taken) + 1)) if n not in taken)

    def dim(self, name: str, sibling: int | None) -> Dim:
        """The extent of a variable, for one sibling or over all of them."""
        if not any(name in s.dims for s in self.siblings):
            return self.dims[name]
        if sibling is not None:
            return self.siblings[sibling].dims[name]
        sizes = [s.dims[name] for s in self.siblings]
        return sum(size for size in sizes if isinstance(size, int))
