"""Whether a law of a user is one at all, before its check draws places for it.

Enters: a `Law` or `ScalarLaw` as somebody wrote it. Leaves: nothing, or `HectoriteError` that says
which part of it is none: a function that there is not, a name that nobody binds, a missing term.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.ir.formula import NARY, Apply, Formula
from hectorite.ir.scalar import FUNCTIONS
from hectorite.lowering.rules.scalar import ScalarLaw
from hectorite.lowering.rules.term import (
    TAGS,
    Condition,
    Law,
    Statement,
    Tensor,
    Term,
    is_many,
    letters_of,
    walk,
)


def check_form(law: Any) -> None:
    """Raises `HectoriteError` if it is no law."""
    if not isinstance(law, Law | ScalarLaw):
        raise fail(f"{law!r} is no rule", expected="a Law or a ScalarLaw")
    if not isinstance(law.algebra, frozenset | set):
        raise fail(f"the algebra of `{law.name}` is {law.algebra!r}", expected="a set of tags")
    unknown = sorted(set(law.algebra) - set(TAGS))
    if unknown:
        raise fail(f"`{unknown[0]}` is no algebra tag", expected=", ".join(TAGS))
    if not law.name or set(law.name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise fail(f"{law.name!r} is no name of a rule", expected="lower case, digits and hyphens")
    if isinstance(law, ScalarLaw):
        _formulas(law)
    else:
        _terms(law)


def _terms(law: Law) -> None:
    for side in (law.source, law.target):
        _term(law, side)
    names = {part.name for part in walk(law.target) if isinstance(part, Tensor)}
    missing = sorted(names - set(law.tensors))
    if missing:
        raise fail(f"`{missing[0]}` stands on the right of `{law.name}`, but not on the left")
    for condition in law.where:
        if not isinstance(condition, Condition):
            raise fail(f"{condition!r} is no condition", expected="what fixed, some, varies make")
        for name in condition.fixed:
            if name not in law.tensors:
                listed = ", ".join(f"`{known}`" for known in law.tensors)
                raise fail(f"`{law.name}` asks something of `{name}`", expected=f"one of {listed}")
    if is_many(law.source) != is_many(law.target):
        raise fail(f"`{law.name}` has siblings on one side and one value on the other")
    if letters_of(law.source) != letters_of(law.target):
        raise fail(f"the two sides of `{law.name}` have different letters")
    if isinstance(law.source, Tensor):
        raise fail(f"`{law.name}` replaces a tensor", expected="a statement on the left")


def _term(law: Law, term: Any) -> None:
    if not isinstance(term, get_args(Term)):
        raise fail(
            f"{term!r} is no term of `{law.name}`",
            expected="what tensor, bundle, contract, apply, function, Concat and others make",
        )
    if isinstance(term, Statement):
        for argument in term.arguments:
            _term(law, argument)
        if not term.arguments:
            raise fail(f"`{term}` of `{law.name}` is a statement without an operand")
        if not term.function.startswith("?"):
            _function(law.name, term.function, len(term.arguments))
    elif not isinstance(term, Tensor):
        _term(law, term.term)


def _function(law: str, name: str, arguments: int) -> None:
    if name not in FUNCTIONS:
        hint = did_you_mean(name, list(FUNCTIONS))
        raise fail(f"there is no function `{name}`, which `{law}` has", hint=hint)
    arity = FUNCTIONS[name].arity
    if arguments != arity and not (name in NARY and arguments):
        raise fail(f"`{name}` takes {arity}, and `{law}` gives it {arguments}")


def _formulas(law: ScalarLaw) -> None:
    hint = "write both sides as in `(y + b) * s = y * s + b * s`"
    if not isinstance(law.text, str):
        raise fail(f"{law.text!r} is no law", hint=hint)
    try:
        sides = (law.source, law.target)
    except (SyntaxError, ValueError) as error:
        raise fail(f"`{law.text}` is no law: {error}", hint=hint) from error
    for side in sides:
        for part in _applied(side):
            _function(law.name, part.function, len(part.arguments))
    if not law.fixed <= set(law.names) or not all(sides):
        raise fail(f"`{law.name}` wants a name to be fixed that its left side lacks")


def _applied(formula: Formula) -> Iterator[Apply]:
    if isinstance(formula, Apply):
        yield formula
        for argument in formula.arguments:
            yield from _applied(argument)
