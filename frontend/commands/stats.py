"""`hectorite stats PROGRAM --data FILE`: what storage formats cost on this data.

Enters: parsed arguments. Leaves: for each set and tensor that has a format its bytes, blocks,
padding and what else applies, as a table or with `--json` as a list of objects.
"""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any, cast

from hectorite.frontend.commands.call import asked, tell_assumed
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.console import note, table, working
from hectorite.frontend.program_text import CODE, read_program
from hectorite.frontend.stats.formats import Subject, stats
from hectorite.ir.diagnostics import fail


def run(chosen: Namespace) -> int:
    """Print the statistics of one function on data."""
    text = read_program(chosen.program, dict(chosen.size))
    if text.form in (*CODE, "tile"):
        expected = "a program, or IR of the graph level"
        raise fail(f"{text.name} holds {text.form}, past the formats", expected=expected)
    facts = facts_of(text, None)
    call = asked(chosen, text, facts)
    binding = call.bind()
    inputs = call.inputs(binding)
    given = (binding, inputs.sizes, inputs.arguments, chosen.formats)
    subject = Subject(text, facts, call.function, *given)
    with working(f"counting {call.function}"):
        found = stats(subject)
    if chosen.json:
        print(json.dumps(found, indent=1))
        return 0
    tell_assumed(inputs)
    if not found:
        note("no set and no tensor has a format; --as SET=FORMAT gives one")
        return 0
    _print(found)
    return 0


def _print(found: list[dict[str, Any]]) -> None:
    heads = list(dict.fromkeys(key for facts in found for key in facts))
    rows = [[_cell(facts.get(head)) for head in heads] for facts in found]
    table(
        ["fact", *(str(facts["name"]) for facts in found)], _turned(heads, rows), [""] * len(heads)
    )


def _turned(heads: list[str], rows: list[list[str]]) -> list[list[str]]:
    """A line for each fact, a column for each set or tensor."""
    return [[head, *column] for head, column in zip(heads, zip(*rows, strict=True), strict=True)]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(part["name"]) for part in cast(list[dict[str, Any]], value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
