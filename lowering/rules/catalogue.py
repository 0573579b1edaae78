"""All rules that search may use: those of the project and those that users have added.

Enters: laws, the user's after their check (frontend/rules/api.py). Leaves: rules of the search.
"""

from __future__ import annotations

from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.lowering.rules.families import LAWS
from hectorite.lowering.rules.matching import LawRule
from hectorite.lowering.rules.scalar import SCALAR_LAWS, ScalarLaw, ScalarRule
from hectorite.lowering.rules.term import Law

_RULES: dict[str, LawRule | ScalarRule] = {
    **{law.name: LawRule(law) for law in LAWS},
    **{law.name: ScalarRule(law) for law in SCALAR_LAWS},
}


def rules() -> list[LawRule | ScalarRule]:
    """All rules; what they have found out about forms is kept with them."""
    return list(_RULES.values())


def law_of(name: str) -> Law | ScalarLaw:
    """The law of a rule; `HectoriteError` if there is none of this name."""
    if name not in _RULES:
        raise fail(f"there is no rule `{name}`", hint=did_you_mean(name, list(_RULES)))
    return _RULES[name].law


def admit(law: Law | ScalarLaw) -> None:
    """Add a rule that has passed its check, or put it in the place of one of its name."""
    _RULES[law.name] = LawRule(law) if isinstance(law, Law) else ScalarRule(law)
