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
from hectorite.frontend.rules.well_formed import check_form
from hectorite.ir.diagnostics import fail
from hectorite.lowering.rules.catalogue import admit, law_of, rules
from hectorite.lowering.rules.families import fixed, some, varies
from hectorite.lowering.rules.pdl import pdl_of
from hectorite.lowering.rules.scalar import ScalarLaw
from hectorite.lowering.rules.term import (
    Concat,
    Law,
    Part,
    Pick,
    Stack,
    Total,
    View,
    apply,
    bundle,
    contract,
    function,
    tensor,
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
    check_form(law)
    report = check_rule(law)
    if report.fault is not None:
        raise fail(f"the rule `{law.name}` is refused: {report.fault}", hint=str(law))
    admit(law)
    return report
