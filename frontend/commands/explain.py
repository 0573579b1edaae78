"""`hectorite explain PROGRAM`: which rewrites were chosen, where, and what each is worth.

Enters: parsed arguments. Leaves: a table of the steps with costs before and after, what was refused
and why, the function before and after with the cost of each statement; with `--html` all of it as a
page, with `--json` as the facts that `--replay` reads.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from hectorite.backends.bound.binding import Binding
from hectorite.backends.bound.cardinalities import cardinalities
from hectorite.frontend.commands.call import asked, assumed_size
from hectorite.frontend.compiled.facts import Facts
from hectorite.frontend.compiled.format_choice import Setting, all_candidates
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.console import note, table, working
from hectorite.frontend.data.inputs import DEFAULT_SIZE
from hectorite.frontend.explain.page import page
from hectorite.frontend.explain.search import Answer, Question, explain, first_wrong_step, replay
from hectorite.frontend.explanation import Candidate, Explanation, Row, StepRow
from hectorite.frontend.program_text import CODE, ProgramText, read_program
from hectorite.frontend.units import ratio, seconds
from hectorite.ir.devices import device_named
from hectorite.ir.diagnostics import fail


@dataclass(frozen=True)
class _Data:
    """What a call takes, where data was given or the program needs none."""

    binding: Binding
    arguments: dict[str, Any]


def run(chosen: Namespace) -> int:
    """Explain one function."""
    text = read_program(chosen.program, dict(chosen.size))
    if text.form in (*CODE, "tile"):
        expected = "a program, or IR of the graph level"
        raise fail(f"{text.name} holds {text.form}, past the rewrites", expected=expected)
    facts = facts_of(text, None)
    data, question, notes = _asked(chosen, text, facts)
    with working(f"explaining {question.function}"):
        if chosen.replay is None:
            answer = explain(question)
        else:
            answer = replay(question, _steps_of(chosen.replay))
    explanation = answer.explanation(notes)
    if data is not None and facts.schema.sets:
        explanation.formats = _formats(answer, data, chosen)
    if chosen.measure:
        from hectorite.frontend.explain.measured import measured

        explanation.measured = measured(answer, *_needed(data, "--measure"))
    _show(chosen, explanation)
    return _bisect(answer, data) if chosen.bisect else 0


def _formats(answer: Answer, data: _Data, chosen: Namespace) -> list[Candidate]:
    """What storage formats would cost on the data."""
    question, module = answer.question, answer.module_after()
    on_gpu = question.device.name != "cpu"
    about = module, question.function, data.binding, question.device, on_gpu, question.sizes
    return list(all_candidates(Setting(*about), tuple(chosen.formats)))


def _asked(
    chosen: Namespace, text: ProgramText, facts: Facts
) -> tuple[_Data | None, Question, list[str]]:
    """The data of a call if there is any, what is asked, and what had to be assumed."""
    call = asked(chosen, text, facts)
    name, signature, sizes = call.function, call.signature, call.sizes
    maps = any(decl.fields and decl.given for decl in facts.schema.sets.values())
    known, data, notes = tuple[str, ...](), None, list[str]()
    if call.data is not None or not maps:
        binding = call.bind()
        inputs = call.inputs(binding)
        data, sizes, assumed = _Data(binding, inputs.arguments), inputs.sizes, inputs.assumed
        known = cardinalities(binding, facts.counted.get(name, ()))
    else:
        assumed = [size for size in signature.sizes if size not in sizes]
        sizes = {**dict.fromkeys(assumed, DEFAULT_SIZE), **sizes}
        known = tuple(f"{name}={size}" for name, size in call.set_sizes.items())
        notes.append("no data is given: numbers of elements are estimates")
    notes += [assumed_size(size, DEFAULT_SIZE) for size in assumed]
    unknown = [given for given in chosen.fixed if given not in signature.names]
    if unknown:
        expected = f"one of {', '.join(signature.names)}"
        raise fail(f"`{name}` has no parameter `{unknown[0]}`", expected=expected)
    # The initialisers of a model are the same in every call.
    held = () if text.given is None else tuple(text.given.arrays)
    question = Question(
        text,
        name,
        {size: sizes[size] for size in signature.sizes},
        device_named(chosen.device),
        known,
        tuple(chosen.forbid),
        tuple(chosen.force),
        tuple(dict.fromkeys((*held, *chosen.fixed))),
        chosen.thorough,
    )
    return data, question, notes


def _needed(data: _Data | None, option: str) -> tuple[Binding, dict[str, Any]]:
    if data is None:
        raise fail(f"{option} runs the function, so it needs data", hint="--data FILE.npz")
    return data.binding, data.arguments


def _steps_of(file: str) -> list[StepRow]:
    """The steps that `--json` wrote."""
    try:
        facts = json.loads(Path(file).read_text())
        return [
            StepRow(**step | {"statements": tuple(step["statements"])}) for step in facts["steps"]
        ]
    except OSError as error:
        raise fail(f"cannot read {file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        expected = "what `hectorite explain --json` prints"
        raise fail(f"{file} holds no steps", expected=expected) from error


def _bisect(answer: Answer, data: _Data | None) -> int:
    wrong = first_wrong_step(answer, *_needed(data, "--bisect"))
    if wrong is None:
        print(f"all {len(answer.outcome.steps)} steps keep the results")
        return 0
    step = answer.outcome.steps[wrong - 1]
    where = ", ".join(step.statements)
    print(f"step {wrong} changes the results: {step.rule} at {where} {step.detail}")
    return 1


def _show(chosen: Namespace, explanation: Explanation) -> None:
    if chosen.html is not None:
        _write(chosen.html, page(explanation))
    if chosen.json:
        print(json.dumps(explanation.facts, indent=1))
        return
    for line in explanation.notes:
        note(line)
    _side("before", explanation.before, explanation.predicted[0])
    _side("after", explanation.after, explanation.predicted[1])
    _steps(explanation)
    if explanation.refused:
        print("\nrefused")
        rows = [
            [row.rule, ", ".join(row.statements), row.detail, seconds(row.loss), row.why]
            for row in explanation.refused
        ]
        table(["rule", "where", "how", "would add", "why not"], rows, [""] * len(rows))
    _show_formats(explanation)
    before, after = explanation.predicted
    print(f"\npredicted for {explanation.device}: {_change(before, after)}")
    if explanation.measured is not None:
        found = explanation.measured
        print(f"measured here: {_change(found.before, found.after)}, {found.verdict}")


def _show_formats(explanation: Explanation) -> None:
    """The formats of each set."""
    for name, several in groupby(explanation.formats, key=lambda each: each.set):
        print(f"\nformats of {name}")
        rows = [
            [
                each.format,
                "" if each.seconds is None else seconds(each.seconds),
                "chosen" if each.chosen else "",
                each.note,
            ]
            for each in several
        ]
        table(["format", "predicted", "", "on this data"], rows, [""] * len(rows))


def _change(before: float, after: float) -> str:
    return f"{seconds(before)} -> {seconds(after)} ({ratio(before, after)})"


def _side(title: str, rows: Sequence[Row], total: float) -> None:
    print(f"{title}, {seconds(total)}")
    cells = [[row.text, seconds(row.seconds) if row.seconds else "", row.why] for row in rows]
    table(["statement", "predicted", "bound by"], cells, ["dim" if r.fixed else "" for r in rows])
    print()


def _steps(explanation: Explanation) -> None:
    if not explanation.steps:
        print("no rewrite that is allowed makes it cheaper")
        return
    rows = list[list[str]]()
    for chain, steps in explanation.chains():
        for position, step in enumerate(steps):
            rows.append([_bracket(chain, position, len(steps)), *_cells(step)])
    heads = ["", "rule", "where", "how", "before", "after", ""]
    table(heads, rows, [""] * len(rows))


def _bracket(chain: int | None, position: int, length: int) -> str:
    """The left edge of a losing chain: only all of its steps together pay."""
    if chain is None or length == 1:
        return ""
    return "/" if position == 0 else "\\" if position == length - 1 else "|"


def _cells(step: StepRow) -> list[str]:
    change = ratio(step.before, step.after)
    where = ", ".join(step.statements)
    return [step.rule, where, step.detail, seconds(step.before), seconds(step.after), change]


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise fail(f"cannot write {file}: {error.strerror}") from error
