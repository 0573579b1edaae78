"""What calling the functions of a program takes, its IR apart.

Enters: a program's schema, the signatures of its functions, and the accesses to check. Leaves: the
same, of one function or all, and names and sizes that a caller gives, checked against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hectorite.backends.bound.intake import MOST
from hectorite.frontend.compiled.range_checks import Check
from hectorite.frontend.compiled.signature import Signature
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, did_you_mean, fail
from hectorite.ir.schema import Schema

Sizes = dict[str, int]


@dataclass(frozen=True)
class Facts:
    """What calling the functions of a program takes, IR apart."""

    schema: Schema
    signatures: dict[str, Signature]
    checks: dict[str, tuple[Check, ...]]
    warnings: tuple[str, ...] = ()
    counted: dict[str, tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]] = field(
        default_factory=dict[str, tuple[tuple[str, tuple[tuple[str, ...], ...]], ...]]
    )
    """For each function the tuples of paths whose numbers decide how it is rewritten."""


def check_sizes(facts: Facts, sizes: Mapping[str, int]) -> Sizes:
    """Given sizes, checked. Raises `HectoriteError` for every name or value that is wrong."""
    if not isinstance(sizes, Mapping):
        raise fail(f"`sizes` is {sizes!r}", expected='a mapping from names to integers, {"O": 64}')
    used = {name for signature in facts.signatures.values() for name in signature.sizes}
    wrong: list[Diagnostic] = []
    for name, value in sizes.items():
        fixed = facts.schema.sizes.get(name)
        if name in facts.schema.sets:
            message, hint = f"`{name}` is a set, not a size", "its size comes with the data"
            wrong.append(Diagnostic(message, hint=hint))
        elif not _is_size(value):
            message = f"the size `{name}` is {value!r}"
            wrong.append(Diagnostic(message, expected=f"an integer from 0 to {MOST}"))
        elif fixed is not None and fixed != value:
            message = f"the size `{name}` cannot be {value}"
            wrong.append(Diagnostic(message, expected=f"{fixed}, as declared"))
        elif fixed is None and name not in used and name not in facts.schema.sizes:
            listed = ", ".join(f"`{n}`" for n in sorted(used)) or "none"
            hint = did_you_mean(name, used)
            wrong.append(Diagnostic(f"no function has a size `{name}`", None, None, listed, hint))
    if wrong:
        raise HectoriteError(wrong)
    return {name: int(value) for name, value in sizes.items()}


def _is_size(value: Any) -> bool:
    is_integer = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return is_integer and bool(0 <= value <= MOST)


def pick_function(facts: Facts, function: str | None, name: str) -> str:
    """The function asked for, or the last one. Raises `HectoriteError` if there is none."""
    if not facts.signatures:
        raise fail(f"{name} defines no function", expected="def name(...) -> type { ... }")
    if function is None:
        return list(facts.signatures)[-1]
    if function not in list(facts.signatures):
        raise fail(
            f"{name} has no function `{function}`",
            expected=f"one of {', '.join(f'`{n}`' for n in facts.signatures)}",
            hint=did_you_mean(function, facts.signatures),
        )
    return function


def restricted(facts: Facts, function: str, name: str) -> Facts:
    """Facts of one function alone, which `pick_function` finds."""
    chosen = pick_function(facts, function, name)
    signature, checks = facts.signatures[chosen], facts.checks.get(chosen, ())
    counted = {chosen: facts.counted.get(chosen, ())}
    return Facts(facts.schema, {chosen: signature}, {chosen: checks}, facts.warnings, counted)
