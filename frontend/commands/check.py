"""`hectorite check PROGRAM`: what is wrong in a program, and what it defines if nothing is.

Enters: parsed arguments. Leaves: warnings on the error stream and the signatures of the functions;
errors are raised. With `--json`, both are one JSON object and the status alone tells.
"""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from typing import Any

from hectorite.frontend.compiled.facts import Facts, check_sizes, pick_function
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.console import note
from hectorite.frontend.data.inputs import split_sizes
from hectorite.frontend.program_text import read_program
from hectorite.ir.diagnostics import Diagnostic, HectoriteError


def run(chosen: Namespace) -> int:
    """Check one program."""
    try:
        facts = facts_of(read_program(chosen.program, dict(chosen.size)), None)
        check_sizes(facts, split_sizes(facts.schema, dict(chosen.size))[1])
        names = facts.signatures if chosen.fn is None else [_chosen(facts, chosen)]
    except HectoriteError as error:
        if not chosen.json:
            raise
        print(json.dumps({"errors": [_plain(d) for d in error.diagnostics]}, indent=1))
        return 1
    functions = [str(facts.signatures[name]) for name in names]
    if chosen.json:
        print(json.dumps({"errors": [], "warnings": facts.warnings, "functions": functions}))
        return 0
    for warning in facts.warnings:
        note(warning)
    for function in functions:
        print(function)
    return 0


def _chosen(facts: Facts, chosen: Namespace) -> str:
    return pick_function(facts, chosen.fn, chosen.program)


def _plain(diagnostic: Diagnostic) -> dict[str, Any]:
    source, span = diagnostic.source, diagnostic.span
    return {
        "message": diagnostic.message,
        "severity": diagnostic.severity,
        "file": None if source is None else source.name,
        "span": None if span is None else asdict(span),
        "expected": diagnostic.expected,
        "hint": diagnostic.hint,
    }
