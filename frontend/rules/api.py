"""Rewrite rules for users: look at those there are, add own ones after a check.

Enters: laws, in the terms of `lowering/rules/term.py`. Leaves: rules that the optimiser uses. A law
that is wrong raises `HectoriteError`, which says where it failed.

    from hectorite import rules as r

    A, B, C = r.tensor("A", "m j"), r.tensor("B", "j k"), r.tensor("C", "k n")
    r.register(r.Law("left-first", "associate",
                     r.contract("m n", A, r.contract("j n", B, C)),
                     r.contract("m n", r.contract("m k", A, B), C),
                     "A (B C) = (A B) C.", algebra=frozenset({"ring", "reassoc_fp"})))
"""

from __future__ import annotations

from hectorite.frontend.rules.check import RuleReport, check_rule
from hectorite.ir.diagnostics import fail
from hectorite.lowering.rules.catalogue import admit, law_of, rules
from hectorite.lowering.rules.families import fixed, some, varies
from hectorite.lowering.rules.pdl import pdl_of
from hectorite.lowering.rules.scalar import ScalarLaw
from hectorite.lowering.rules.term import (
    TAGS,
    Concat,
    Law,
    Part,
    Pick,
    Stack,
    Tensor,
    Total,
    View,
    apply,
    bundle,
    contract,
    function,
    is_many,
    letters_of,
    tensor,
    walk,
)

__all__ = [
    "Concat",
    "Law",
    "Part",
    "Pick",
    "RuleReport",
    "ScalarLaw",
    "Stack",
    "Total",
    "View",
    "apply",
    "bundle",
    "check_rule",
    "contract",
    "fixed",
    "function",
    "law_of",
    "pdl_of",
    "register",
    "rules",
    "some",
    "tensor",
    "varies",
]


def register(law: Law | ScalarLaw) -> RuleReport:
    """Add a rule if its check admits it; the report of the check.

    Raises `HectoriteError` if the rule is malformed or wrong, or if the check could not tell it
    from a wrong one.
    """
    _well_formed(law)
    report = check_rule(law)
    if report.fault is not None:
        raise fail(f"the rule `{law.name}` is refused: {report.fault}", hint=str(law))
    admit(law)
    return report


def _well_formed(law: Law | ScalarLaw) -> None:
    if not isinstance(law, Law | ScalarLaw):
        raise fail(f"{law!r} is no rule", expected="a Law or a ScalarLaw")
    unknown = sorted(set(law.algebra) - set(TAGS))
    if unknown:
        raise fail(f"`{unknown[0]}` is no algebra tag", expected=", ".join(TAGS))
    if not law.name or set(law.name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise fail(f"{law.name!r} is no name of a rule", expected="lower case, digits and hyphens")
    if isinstance(law, ScalarLaw):
        _formulas(law)
        return
    names = {part.name for part in walk(law.target) if isinstance(part, Tensor)}
    missing = sorted(names - set(law.tensors))
    if missing:
        raise fail(f"`{missing[0]}` stands on the right of `{law.name}`, but not on the left")
    if is_many(law.source) != is_many(law.target):
        raise fail(f"`{law.name}` has siblings on one side and one value on the other")
    if letters_of(law.source) != letters_of(law.target):
        raise fail(f"the two sides of `{law.name}` have different letters")


def _formulas(law: ScalarLaw) -> None:
    try:
        sides = (law.source, law.target)
    except (SyntaxError, ValueError) as error:
        hint = "write both sides as in `(y + b) * s = y * s + b * s`"
        raise fail(f"`{law.text}` is no law: {error}", hint=hint) from error
    if not law.fixed <= set(law.names) or not all(sides):
        raise fail(f"`{law.name}` wants a name to be fixed that its left side lacks")
