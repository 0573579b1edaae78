"""The one family of messages: every error and warning of the project is a `Diagnostic`.

Enters: a message, the place in a source text it is about, what was expected there, and a hint.
Leaves: text of the form

    rgat.hec:4:10: error: `zz` is read but never written
      4 |   y[e] = zz[e] * 2
        |          ^^
      expected: a parameter or a tensor that an earlier statement wrote
      hint: did you mean `zs`?

A stage that can find several errors collects them in a `Report` and raises once.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Severity = Literal["error", "warning"]

SHOWN_COLUMNS = 120
"""A source line longer than this is shown as a window around the caret."""


@dataclass(frozen=True)
class Source:
    """A named text. `name` is what messages call it, usually a file name."""

    name: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        """The lines, without line ends; only a newline ends a line, as in the grammar."""
        return [line.removesuffix("\r") for line in self.text.split("\n")]


@dataclass(frozen=True, order=True)
class Span:
    """A stretch of text, 1-based; the end is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`."""
        return Span(self.line, self.column, other.end_line, other.end_column)


@dataclass(frozen=True)
class Diagnostic:
    """One message. Without a `source` and `span` it is about the program or the data as a whole."""

    message: str
    span: Span | None = None
    source: Source | None = None
    expected: str | None = None
    hint: str | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        return render(self)


class HectoriteError(Exception):
    """What every stage raises on wrong input. Holds at least one diagnostic.

    `diagnostics` may contain warnings too, in source order; `str()` renders them all.
    """

    def __init__(self, diagnostics: Sequence[Diagnostic]):
        super().__init__(diagnostics)
        self.diagnostics = list(diagnostics)

    def __str__(self) -> str:
        return "\n".join(render(diagnostic) for diagnostic in self.diagnostics)


def fail(
    message: str,
    *,
    span: Span | None = None,
    source: Source | None = None,
    expected: str | None = None,
    hint: str | None = None,
) -> HectoriteError:
    """A `HectoriteError` of one diagnostic, to be raised by the caller."""
    return HectoriteError([Diagnostic(message, span, source, expected, hint)])


@dataclass
class Report:
    """Collects diagnostics, at most one error for each place, so that one fault is told once."""

    diagnostics: list[Diagnostic] = field(default_factory=list[Diagnostic])
    _told: set[tuple[str, Span | None, str]] = field(
        default_factory=set[tuple[str, Span | None, str]]
    )

    def add(self, diagnostic: Diagnostic) -> None:
        """Keep `diagnostic` unless this place already has an error or the same message."""
        name = diagnostic.source.name if diagnostic.source else ""
        about = "" if diagnostic.span and diagnostic.severity == "error" else diagnostic.message
        key = (name, diagnostic.span, about)
        if key not in self._told:
            self._told.add(key)
            self.diagnostics.append(diagnostic)

    @property
    def error_count(self) -> int:
        return sum(diagnostic.severity == "error" for diagnostic in self.diagnostics)

    @property
    def has_errors(self) -> bool:
        return self.error_count > 0

    def sorted(self) -> list[Diagnostic]:
        """Everything collected, in source order; messages without a place come last."""
        return sorted(self.diagnostics, key=_place)

    def raise_errors(self) -> None:
        """Raise what was collected if any of it is an error."""
        if self.has_errors:
            raise HectoriteError(self.sorted())


def did_you_mean(word: object, known: Iterable[str]) -> str | None:
    """A hint naming the known word nearest to `word`, or None if none is near or it is no word."""
    if not isinstance(word, str):
        return None
    names = sorted(set(known))
    folded = [name for name in names if name.lower() == word.lower() and name != word]
    near = folded or difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None


def render(diagnostic: Diagnostic, color: bool = False) -> str:
    """The text of a diagnostic, without a final newline."""
    paint = _painted if color else _plain
    tone = "31;1" if diagnostic.severity == "error" else "35;1"
    head = f"{paint(diagnostic.severity + ':', tone)} {paint(_visible(diagnostic.message), '1')}"
    source, span = diagnostic.source, diagnostic.span
    if source and span:
        head = f"{paint(f'{source.name}:{span.line}:{span.column}:', '1')} {head}"
    elif source:
        head = f"{paint(f'{source.name}:', '1')} {head}"
    parts = [head]
    if source and span and 1 <= span.line <= len(source.lines):
        text, caret = _excerpt(source.lines[span.line - 1], span)
        gutter = str(span.line)
        parts.append(f"  {paint(gutter + ' |', '34')} {text}".rstrip())
        parts.append(f"  {' ' * len(gutter)} {paint('|', '34')} {paint(caret, tone)}")
    if diagnostic.expected:
        parts.append(f"  expected: {_visible(diagnostic.expected)}")
    if diagnostic.hint:
        parts.append(f"  {paint('hint:', '36')} {_visible(diagnostic.hint)}")
    return "\n".join(parts)


def _place(diagnostic: Diagnostic) -> tuple[bool, str, Span]:
    name = diagnostic.source.name if diagnostic.source else ""
    return (diagnostic.span is None, name, diagnostic.span or Span(0, 0, 0, 0))


def _excerpt(line: str, span: Span) -> tuple[str, str]:
    """The shown part of a source line and the carets under the span."""
    start = min(span.column - 1, len(line))
    end = span.end_column - 1 if span.end_line == span.line else len(line)
    end = max(start + 1, min(end, len(line)))
    left, right = 0, len(line)
    if len(line) > SHOWN_COLUMNS:
        left = max(0, min(start - SHOWN_COLUMNS // 3, len(line) - SHOWN_COLUMNS))
        right = left + SHOWN_COLUMNS
    before = "..." if left else ""
    after = "..." if right < len(line) else ""
    text = before + _visible(line[left:right]) + after
    caret = " " * (len(before) + start - left) + "^" * max(1, min(end, right) - start)
    return text, caret


def _visible(text: str) -> str:
    """One column for each character: tabs as blanks, what cannot be printed as a box."""
    return "".join(" " if c == "\t" else c if c.isprintable() else "\ufffd" for c in text)


def _plain(text: str, _code: str) -> str:
    return text


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"
