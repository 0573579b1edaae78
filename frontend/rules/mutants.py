"""Mutants of a rule: its target with one fault, which the check of the rule has to notice.

Enters: a rule. Leaves: rules with another target: operands swapped, left out or doubled, an axis
read for another, the wrong order of siblings, a stretch moved by one, a wrong sign or factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hectorite.lowering.rules.term import (
    Concat,
    Law,
    Part,
    Pick,
    Statement,
    Tensor,
    Term,
    Widen,
    children,
    with_children,
)


@dataclass(frozen=True)
class Mutant:
    """A rule with a fault, and what the fault is."""

    law: Law
    fault: str


def mutants(law: Law) -> Iterator[Mutant]:
    """All mutants, in a fixed order, each target once."""
    seen = {law.target}
    for target, fault in _changed(law.target):
        if target not in seen:
            seen.add(target)
            yield Mutant(replace(law, name=f"{law.name} ({fault})", target=target), fault)


def _changed(term: Term) -> Iterator[tuple[Term, str]]:
    yield from _here(term)
    inside = children(term)
    for position, child in enumerate(inside):
        for other, fault in _changed(child):
            yield with_children(term, (*inside[:position], other, *inside[position + 1 :])), fault


def _here(term: Term) -> Iterator[tuple[Term, str]]:
    match term:
        case Widen():
            yield replace(term, shift=1), "one place further in the window"
            yield replace(term, shift=-1), "one place before in the window"
        case Part() | Pick():
            yield replace(term, shift=1), "the stretch one further"
            yield replace(term, shift=-1), "the stretch one before"
        case Concat():
            yield replace(term, order="reversed"), "concatenated in the other order"
            yield replace(term, order="rotated"), "concatenated from the second on"
            yield replace(term, order="repeated"), "concatenated with the first twice"
        case Statement():
            yield from _of_statement(term)
        case Tensor():
            yield replace(term, turned=True), f"{term.name} read with its axes turned"
            for letters in _swapped(term.letters):
                yield replace(term, letters=letters), f"{term.name} read at other letters"
        case _:
            pass


def _of_statement(term: Statement) -> Iterator[tuple[Term, str]]:
    yield replace(term, function=f"-{term.function}"), "the wrong sign"
    yield replace(term, function=f"~{term.function}"), "taken twice"
    count = len(term.arguments)
    if count > 1:
        turned = (*term.arguments[1:], term.arguments[0])
        yield replace(term, arguments=turned), "operands in another order"
        for number in range(count):
            rest = (*term.arguments[:number], *term.arguments[number + 1 :])
            yield replace(term, arguments=rest), f"without operand {number + 1}"
    for number, argument in enumerate(term.arguments):
        more = (*term.arguments[: number + 1], argument, *term.arguments[number + 1 :])
        yield replace(term, arguments=more), f"operand {number + 1} twice"
    for left in _swapped(term.left):
        yield replace(term, left=left), "the result transposed"


def _swapped(letters: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Two neighbours changed; `...` has no place of its own."""
    for number in range(len(letters) - 1):
        if "..." not in letters[number : number + 2]:
            yield (*letters[:number], *letters[number : number + 2][::-1], *letters[number + 2 :])
