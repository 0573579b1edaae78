"""Laws between terms over matrices, as laws between terms over letters, and as text.

Enters: two trees, such as of `matmul(A, add(B, C))`, of equal value. Leaves: a law whose letters
make it hold for all ranks, and the Python text that declares it. A transpose is another order of
letters and needs no operation; two tensors that are treated alike become siblings.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hectorite.lowering.rules.term import (
    Concat,
    Law,
    Statement,
    Tensor,
    Term,
    Total,
    apply,
    contract,
    tensor,
)


@dataclass(frozen=True)
class Operation:
    """An operation on trees."""

    name: str
    operands: tuple[Tree, ...]


Tree = str | Operation
"""The name of a matrix, or an operation."""

LETTERS = "mnkijlpqrst"


def text_of(tree: Tree) -> str:
    """`matmul(A, add(B, C))`."""
    return (
        tree if isinstance(tree, str) else f"{tree.name}({', '.join(map(text_of, tree.operands))})"
    )


def size_of(tree: Tree) -> int:
    """The number of operations."""
    return 0 if isinstance(tree, str) else 1 + sum(map(size_of, tree.operands))


class _Axes:
    """Which axes of all the matrices are one letter."""

    def __init__(self):
        self.same = dict[int, int]()
        self.tensors = dict[str, tuple[int, int]]()

    def fresh(self) -> int:
        self.same[len(self.same)] = len(self.same)
        return len(self.same) - 1

    def find(self, axis: int) -> int:
        while self.same[axis] != axis:
            axis = self.same[axis]
        return axis

    def join(self, one: int, other: int) -> None:
        self.same[max(self.find(one), self.find(other))] = min(self.find(one), self.find(other))

    def of(self, tree: Tree) -> tuple[int, int]:
        """The axes of the value of a tree."""
        if isinstance(tree, str):
            if tree not in self.tensors:
                self.tensors[tree] = (self.fresh(), self.fresh())
            return self.tensors[tree]
        parts = [self.of(inner) for inner in tree.operands]
        if tree.name == "transpose":
            return parts[0][1], parts[0][0]
        if tree.name == "matmul":
            self.join(parts[0][1], parts[1][0])
            return parts[0][0], parts[1][1]
        for other in parts[1:]:
            self.join(parts[0][0], other[0])
            self.join(parts[0][1], other[1])
        return parts[0]


def law_of_pair(left: Tree, right: Tree, name: str) -> Law | None:
    """The law; None if it needs no law in letters, or cannot be written in them."""
    siblings = _siblings(left, right)
    axes = _Axes()
    one, other = axes.of(left), axes.of(right)
    for a, b in zip(one, other, strict=True):
        axes.join(a, b)
    if siblings:
        for a, b in zip(*(axes.of(s) for s in siblings), strict=True):
            axes.join(a, b)
    for tree in (left, right):
        if not _distinct(tree, axes):
            return None
    writer = _Writer(axes, siblings)
    source, target = writer.term(left), writer.term(right)
    if source is None or target is None or not isinstance(source, Statement | Concat):
        return None
    if str(source) == str(target) or _flat(source) == _flat(target):
        return None
    doc = f"{text_of(left)} = {text_of(right)}."
    return Law(name, "found", source, target, doc, frozenset({"ring", "reassoc_fp"}))


def _distinct(tree: Tree, axes: _Axes) -> bool:
    """Whether no value has one letter twice, and no product sums a letter that it keeps."""
    one, other = map(axes.find, axes.of(tree))
    if one == other:
        return False
    if isinstance(tree, str):
        return True
    if tree.name == "matmul" and axes.find(axes.of(tree.operands[0])[1]) in (one, other):
        return False
    return all(_distinct(inner, axes) for inner in tree.operands)


def _siblings(left: Tree, right: Tree) -> tuple[str, str] | None:
    """The two names that every concat treats alike."""
    found = set[tuple[str, str]]()
    for tree in (left, right):
        for u, v in _concats(tree):
            pairs = list(dict.fromkeys(_differences(u, v)))
            names = [(a, b) for a, b in pairs if isinstance(a, str) and isinstance(b, str)]
            if len(pairs) != 1 or len(names) != 1:
                return None
            found.add(names[0])
    return found.pop() if len(found) == 1 else None


def _concats(tree: Tree) -> Iterator[tuple[Tree, Tree]]:
    if isinstance(tree, str):
        return
    if tree.name == "concat":
        yield tree.operands[0], tree.operands[1]
    for inner in tree.operands:
        yield from _concats(inner)


def _differences(u: Tree, v: Tree) -> Iterator[tuple[Tree, Tree]]:
    if u == v:
        return
    if isinstance(u, str) or isinstance(v, str) or u.name != v.name:
        yield u, v
        return
    for a, b in zip(u.operands, v.operands, strict=True):
        yield from _differences(a, b)


class _Writer:
    def __init__(self, axes: _Axes, siblings: tuple[str, str] | None):
        self.axes, self.siblings = axes, siblings
        self.letters = dict[int, str]()

    def of(self, tree: Tree) -> str:
        """The letters of a value."""
        found = [self.axes.find(axis) for axis in self.axes.of(tree)]
        return " ".join(self.letters.setdefault(axis, LETTERS[len(self.letters)]) for axis in found)

    def term(self, tree: Tree) -> Term | None:
        if isinstance(tree, str):
            many = self.siblings is not None and tree in self.siblings
            name = self.siblings[0] if many and self.siblings else tree
            return tensor(name, self.of(name), many)
        if tree.name == "transpose":
            inner = self.term(tree.operands[0])
            if isinstance(inner, Statement):
                return Statement(inner.function, tuple(self.of(tree).split()), inner.arguments)
            return inner
        if tree.name == "concat":
            inner = self.term(tree.operands[0]) if self.siblings else None
            return None if inner is None else Concat(inner, self.of(tree).split()[1])
        parts = [self.term(inner) for inner in tree.operands]
        inside = [part for part in parts if part is not None]
        if len(inside) != len(parts):
            return None
        if tree.name in ("matmul", "mul"):
            return contract(self.of(tree), *inside)
        return apply(tree.name, self.of(tree), *inside)


def _flat(term: Term) -> str:
    """A term as text, products of products taken as one and in one order."""
    if isinstance(term, Statement):
        inside = sorted(map(_flat, term.arguments))
        return f"{term.function}[{' '.join(term.left)}]({', '.join(inside)})"
    if isinstance(term, Tensor):
        return str(term)
    return f"{type(term).__name__}({_flat(term.term)})"


def code_of(law: Law) -> str:
    """The Python text that declares a law."""
    declared = [
        f"{t.name} = tensor({t.name!r}, {' '.join(t.letters)!r}{', many=True' * t.many})"
        for t in law.tensors.values()
    ]
    lines = [
        f"Law({law.name!r}, {law.family!r},",
        f"    {_code(law.source)},",
        f"    {_code(law.target)},",
        f"    {law.doc!r}, frozenset({sorted(law.algebra)!r}))",
    ]
    return "\n".join([*declared, *lines])


def _code(term: Term) -> str:
    if isinstance(term, Tensor):
        return term.name
    if isinstance(term, Statement):
        inside = ", ".join(map(_code, term.arguments))
        left = " ".join(term.left)
        if term.function == "mul":
            return f"contract({left!r}, {inside})"
        return f"apply({term.function!r}, {left!r}, {inside})"
    if isinstance(term, Concat):
        return f"Concat({_code(term.term)}, {term.letter!r})"
    assert isinstance(term, Total)
    return f"Total({_code(term.term)})"
