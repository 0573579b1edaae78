"""Every message of the frontend, word for word.

The files in `messages/` hold cases: a title, a program, and what the frontend says about it, errors
or else warnings. `python tests/frontend/test_messages.py` writes what it says now into them, so
that a change of wording is reviewed as a difference.
"""

import sys
from pathlib import Path

import pytest

from hectorite.frontend.to_graph.program import load_source
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, render

FOLDER = Path(__file__).parent / "messages"

Case = tuple[str, str, str]


def read_cases(path: Path) -> list[Case]:
    """(title, program, expected messages) of one file."""
    cases: list[Case] = []
    for part in path.read_text("utf-8").split("### ")[1:]:
        title, rest = part.split("\n", 1)
        program, expected = rest.split("\n---\n", 1)
        cases.append((title, program + "\n", expected.rstrip("\n")))
    return cases


def messages_of(program: str) -> str:
    """The errors of a program, or its warnings if it has none."""
    warnings: list[Diagnostic] = []
    try:
        load_source(program, warnings)
    except HectoriteError as error:
        return str(error)
    return "\n".join(map(render, warnings))


ALL = [
    pytest.param(*case[1:], id=f"{path.stem}: {case[0]}")
    for path in sorted(FOLDER.glob("*.txt"))
    for case in read_cases(path)
]


@pytest.mark.parametrize(("program", "expected"), ALL)
def test_messages(program: str, expected: str):
    assert messages_of(program) == expected


def test_there_are_cases():
    assert len(ALL) > 90


def write_cases() -> None:
    for path in sorted(FOLDER.glob("*.txt")):
        parts = (
            f"### {title}\n{program}---\n{messages_of(program)}\n"
            for title, program, _ in read_cases(path)
        )
        path.write_text("\n".join(parts), "utf-8")


if __name__ == "__main__":
    sys.exit(write_cases())
