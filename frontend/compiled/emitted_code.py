"""LLVM IR and assembly as `emit` prints them: code under comments that say how to call it.

Enters: the plan of a function, the accesses to check, and its code. Leaves: one text, and from that
text, perhaps edited, a signature and the checks again. The plan comes first
(`backends/host/plan.py`), then the checks, then the code:

    ; hectorite plan 1
    ; {"name": "scale", ...
    ; hectorite checks 1
    ; [{"is": "Check", ...
    define void @...
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hectorite.backends.host.plan import COMMENT, HEADER, Plan, comment, plan_from_text
from hectorite.frontend.compiled.facts import Facts
from hectorite.frontend.compiled.facts_json import decode, encode
from hectorite.frontend.compiled.range_checks import Check
from hectorite.frontend.compiled.signature import Parameter, Signature
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import fail

CHECKS = "hectorite checks 1"


def emitted(level: str, plan: Plan, checks: Sequence[Check], code: str) -> str:
    """The text of one function at the level "llvm" or "asm"."""
    mark = COMMENT[level]
    lines = [f"{mark} {CHECKS}", *(f"{mark} {json.dumps(encode(check))}" for check in checks)]
    return comment(plan, level) + ("\n".join(lines) + "\n" if checks else "") + code


def facts_of_code(text: ProgramText) -> Facts:
    """What calling emitted code takes. Raises `HectoriteError` if its head is damaged."""
    plan = plan_from_text(text.text, text.name)
    signature = _signature(plan)
    return Facts(plan.schema, {plan.name: signature}, {plan.name: _checks(text)})


def has_plan(text: ProgramText) -> bool:
    """Does a text of code begin with the plan that `emit` writes there?"""
    return text.text.startswith(f"{COMMENT[text.form]} {HEADER}")


def _signature(plan: Plan) -> Signature:
    parameters = tuple(
        Parameter(p.name, p.element, p.dims or (), scalar=p.dims is None) for p in plan.parameters
    )
    made = {step["to"]: step for step in plan.steps if step["do"] == "allocate"}
    results: list[Parameter] = []
    for number, value in enumerate(plan.results):
        name = f"result{number}"
        if value in made:
            results.append(Parameter(name, made[value]["element"], tuple(made[value]["dims"])))
        else:
            passed = parameters[value]
            results.append(Parameter(name, passed.element_name, passed.dims, passed.scalar))
    schema = plan.schema
    dims = [dim for item in (*parameters, *results) for dim in item.dims]
    sizes = dict.fromkeys(d for d in dims if isinstance(d, str) and d not in schema.sets)
    return Signature(plan.name, parameters, tuple(results), tuple(sizes))


def _checks(text: ProgramText) -> tuple[Check, ...]:
    mark = COMMENT[text.form]
    lines = text.text.splitlines()
    if f"{mark} {CHECKS}" not in lines:
        return ()
    checks: list[Any] = []
    for line in lines[lines.index(f"{mark} {CHECKS}") + 1 :]:
        if not line.startswith(f'{mark} {{"is": "Check"'):
            break
        try:
            checks.append(decode(json.loads(line.removeprefix(mark))))
        except (ValueError, KeyError, TypeError) as error:
            raise fail(
                f"a check at the head of {text.name} is damaged",
                hint="emit it again; only the code below the head is meant to be edited",
            ) from error
    return tuple(checks)
