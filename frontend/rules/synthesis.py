"""Finds laws: small terms over matrices that have equal values.

Enters: names of operations and how many of them a side may have. Leaves: laws that pass the check
of rules, with the text that declares them.

    matmul(A, add(B, C)) and add(matmul(A, B), matmul(A, C)) agree in the field on random matrices

Pairs are left out that follow from smaller ones: by renaming, because both sides apply one
operation to the same operand, because sums and products commute and associate, or by rewriting one
side with laws found before. What is left is put into letters, so that it holds for all ranks, and
checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from hectorite.backends.reference.prime_field import PRIMES, FieldArithmetic
from hectorite.frontend.rules.check import RuleReport, check_rule
from hectorite.frontend.rules.law_text import (
    Operation,
    Tree,
    code_of,
    law_of_pair,
    size_of,
    text_of,
)
from hectorite.frontend.rules.operations import OPERATIONS, UNARY
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ELEMENTS
from hectorite.ir.scalar import Array
from hectorite.lowering.rules.term import Law

NAMES = ("A", "B", "C")
SIDE = 3
MOST_TERMS = 40_000


@dataclass(frozen=True)
class Candidate:
    """A law that was found and admitted."""

    law: Law
    code: str
    report: RuleReport


@dataclass(frozen=True)
class Synthesis:
    """How many terms were tried, how many pairs of equal value they have, and the laws."""

    terms: int
    pairs: int
    laws: list[Candidate]


def synthesise(operations: Sequence[str], most: int) -> Synthesis:
    """Laws between terms of at most `most` operations each.

    Raises `HectoriteError` for an unknown operation, or if there are too many terms.
    """
    for operation in operations:
        if operation not in OPERATIONS:
            raise fail(f"there is no operation `{operation}`", expected=", ".join(OPERATIONS))
    if most < 1 or most > 3:
        raise fail(f"a side cannot have {most} operations", expected="1 to 3")
    classes, count = _classes(tuple(operations), most)
    pairs = [(one, other) for terms in classes for one, other in _pairs(terms)]
    laws = list[Candidate]()
    found = list[tuple[Tree, Tree]]()
    for left, right in _pruned(pairs, found):
        law = law_of_pair(left, right, f"found-{len(laws) + 1}")
        found.append((left, right))
        if law is None:
            continue
        report = check_rule(law)
        if report.ok:
            laws.append(Candidate(law, code_of(law), report))
    return Synthesis(count, len(pairs), laws)


# enumeration


def _classes(operations: tuple[str, ...], most: int) -> tuple[list[list[Tree]], int]:
    """Terms of equal value, the smallest first; and the number of terms."""
    arithmetic = FieldArithmetic(PRIMES[0])
    drawn = np.random.default_rng(0)
    levels: list[list[tuple[Tree, Array]]] = [
        [(name, drawn.integers(0, PRIMES[0], (SIDE, SIDE))) for name in NAMES]
    ]
    for count in range(1, most + 1):
        levels.append(list(_grown(operations, levels, count, arithmetic)))
        if sum(map(len, levels)) > MOST_TERMS:
            raise fail("there are too many terms", hint="take fewer operations")
    classes = dict[tuple[object, ...], list[Tree]]()
    for term, value in (entry for level in levels for entry in level):
        classes.setdefault((value.shape, value.tobytes()), []).append(term)
    kept = [sorted(terms, key=_weight) for terms in classes.values() if len(terms) > 1]
    return kept, sum(map(len, levels))


def _grown(
    operations: tuple[str, ...],
    levels: list[list[tuple[Tree, Array]]],
    count: int,
    arithmetic: FieldArithmetic,
) -> Iterator[tuple[Tree, Array]]:
    """Terms with one operation on top and `count` in all."""
    for operation in operations:
        if operation in UNARY:
            for term, value in levels[count - 1]:
                yield Operation(operation, (term,)), _value(operation, [value], arithmetic)
            continue
        for below in range(count):
            for (a, x), (b, y) in product(levels[below], levels[count - 1 - below]):
                commutes = operation in ("add", "mul") and text_of(a) > text_of(b)
                if not commutes and _fits(operation, x, y):
                    yield Operation(operation, (a, b)), _value(operation, [x, y], arithmetic)


def _fits(operation: str, x: Array, y: Array) -> bool:
    match operation:
        case "matmul":
            return x.shape[1] == y.shape[0]
        case "concat":
            return x.shape[0] == y.shape[0]
        case _:
            return x.shape == y.shape


def _value(operation: str, values: list[Array], arithmetic: FieldArithmetic) -> Array:
    p, element = arithmetic.prime, ELEMENTS["f32"]
    match operation:
        case "matmul":
            return (values[0][:, :, None] * values[1][None] % p).sum(axis=1) % p
        case "transpose":
            return np.ascontiguousarray(values[0].T)
        case "concat":
            return np.concatenate(values, axis=1)
        case _:
            return arithmetic.apply(operation, [(value,) for value in values], element)[0]


def _weight(term: Tree) -> tuple[int, str]:
    return size_of(term), text_of(term)


# pruning


def _pairs(terms: list[Tree]) -> Iterator[tuple[Tree, Tree]]:
    for term in terms[1:]:
        yield term, terms[0]


def _pruned(
    pairs: list[tuple[Tree, Tree]], found: list[tuple[Tree, Tree]]
) -> Iterator[tuple[Tree, Tree]]:
    """Pairs that do not follow from others; the caller adds to `found` what it has taken."""
    seen = set[str]()
    for pair in sorted(pairs, key=lambda pair: (*_weight(pair[0]), *_weight(pair[1]))):
        left, right = _renamed(pair)
        if (name := f"{text_of(left)} = {text_of(right)}") in seen:
            continue
        seen.add(name)
        if _normal(left) == _normal(right) or _congruent(left, right):
            continue
        if not _joined(left, right, found):
            yield left, right


def _renamed(pair: tuple[Tree, Tree]) -> tuple[Tree, Tree]:
    names = dict[str, str]()

    def rename(term: Tree) -> Tree:
        if isinstance(term, str):
            if term not in names:
                names[term] = NAMES[len(names)]
            return names[term]
        return Operation(term.name, tuple(map(rename, term.operands)))

    return rename(pair[0]), rename(pair[1])


def _congruent(left: Tree, right: Tree) -> bool:
    """Whether both sides apply one operation and share an operand of it."""
    if isinstance(left, str) or isinstance(right, str) or left.name != right.name:
        return False
    return any(_normal(a) == _normal(b) for a, b in zip(left.operands, right.operands, strict=True))


@cache
def _normal(term: Tree) -> str:
    """The text of a term with sums and element-wise products sorted and flat."""
    if isinstance(term, str):
        return term
    if term.name in ("add", "mul"):
        return f"{term.name}({', '.join(sorted(map(_normal, _flat(term, term.name))))})"
    return f"{term.name}({', '.join(map(_normal, term.operands))})"


def _flat(term: Tree, operation: str) -> list[Tree]:
    if isinstance(term, str) or term.name != operation:
        return [term]
    return [part for inner in term.operands for part in _flat(inner, operation)]


def _joined(left: Tree, right: Tree, laws: list[tuple[Tree, Tree]]) -> bool:
    """Whether laws turn one side into the other in at most three steps."""
    goal, here = _normal(right), {_normal(left): left}
    for _ in range(3):
        here = {_normal(t): t for term in here.values() for t in _steps(term, laws)}
        if goal in here:
            return True
        if len(here) > 400:
            return False
    return False


def _steps(term: Tree, laws: list[tuple[Tree, Tree]]) -> Iterator[Tree]:
    for one, other in laws:
        for source, target in ((one, other), (other, one)):
            names = dict[str, Tree]()
            if _match(source, term, names) and all(n in names for n in _names(target)):
                yield _filled(target, names)
    if isinstance(term, str):
        return
    if term.name in ("add", "mul"):
        yield Operation(term.name, term.operands[::-1])
    for position, inner in enumerate(term.operands):
        for changed in _steps(inner, laws):
            before, after = term.operands[:position], term.operands[position + 1 :]
            yield Operation(term.name, (*before, changed, *after))


def _match(pattern: Tree, term: Tree, names: dict[str, Tree]) -> bool:
    if isinstance(pattern, str):
        return names.setdefault(pattern, term) == term
    if isinstance(term, str) or term.name != pattern.name:
        return False
    return all(_match(a, b, names) for a, b in zip(pattern.operands, term.operands, strict=True))


def _names(term: Tree) -> set[str]:
    return {term} if isinstance(term, str) else set[str]().union(*map(_names, term.operands))


def _filled(term: Tree, names: dict[str, Tree]) -> Tree:
    if isinstance(term, str):
        return names[term]
    return Operation(term.name, tuple(_filled(inner, names) for inner in term.operands))
