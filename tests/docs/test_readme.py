"""What the README shows is what there is: its program, its session, its figures."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")


def block(kind: str) -> str:
    """The one fenced block of a kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


def rows(text: str) -> list[list[str]]:
    """The cells of every row of every table."""
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_program_is_the_example():
    example = (ROOT / "examples" / "rgat.hec").read_text("utf-8")
    assert example.split("\n", 1)[1] == block("hec")


def test_the_session_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    names = dict[str, object]()
    exec(block("python"), names)
    assert getattr(names["y"], "shape", None) == (1000, 64)


def test_figures_are_those_of_the_benchmarks():
    measured = {}
    for case, *figures in rows((ROOT / "docs" / "benchmarks.md").read_text("utf-8")):
        measured.setdefault(re.sub(r" \(.*\)", "", case), figures[:3])
    shown = [row for row in rows(README) if len(row) == 5 and row[0] != "case"]
    assert len(shown) >= 5
    for case, *figures in shown:
        assert measured[case] == figures[:3], f"{case}: docs/benchmarks.md has {measured[case]}"
