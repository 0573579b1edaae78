"""The words of PTX text.

Enters: a `Source`. Leaves: `Tokens`, parallel tuples of kinds, texts and offsets, without comments
and without the line tables (`.loc`, `.file`) that end with their line.

Kinds: `name` (an instruction with its suffixes, a register, a label), `dot` (`.reg`, `.b32`),
`number`, `bits` (`0f3F800000`, `0d...`), `string`, and every punctuation mark as its own kind.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass

from hectorite.ir.diagnostics import HectoriteError, Source, Span, fail

_TOKEN = re.compile(
    r"""
      (?P<blank>\s+|//[^\n]*|/\*.*?\*/|\.(?:loc|file)\b[^\n]*|^\#[^\n]*)
    | (?P<bits>0[fF][0-9a-fA-F]{8}\b|0[dD][0-9a-fA-F]{16}\b)
    | (?P<number>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\d+U?)
    | (?P<name>(?:[A-Za-z_]|[$%])[\w$]*(?:(?:\.|::)\w+)*)
    | (?P<dot>\.[A-Za-z_]\w*(?:::\w+)*)
    | (?P<string>"[^"\n]*")
    | (?P<mark>[][(){}<>,;:=@!|+\-*~&^])
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Tokens:
    """The tokens of `source`; the last one has kind `end`."""

    source: Source
    kinds: tuple[str, ...]
    texts: tuple[str, ...]
    starts: tuple[int, ...]
    line_starts: tuple[int, ...]

    def line(self, index: int) -> int:
        """The line of a token, from 1."""
        return bisect_right(self.line_starts, self.starts[index])

    def span(self, index: int) -> Span:
        """Where a token stands."""
        return _span(self.line_starts, self.starts[index], max(1, len(self.texts[index])))


def tokenize(source: Source) -> Tokens:
    """All tokens of a text. Raises `HectoriteError` at a character that no PTX word begins with."""
    text = source.text
    line_starts = (0, *(found.end() for found in re.finditer("\n", text)))
    kinds: list[str] = []
    texts: list[str] = []
    starts: list[int] = []
    position, match = 0, _TOKEN.match
    while position < len(text):
        found = match(text, position)
        if found is None:
            raise _unreadable(source, line_starts, position)
        kind = found.lastgroup
        if kind != "blank":
            word = found.group()
            kinds.append(word if kind == "mark" else str(kind))
            texts.append(word)
            starts.append(position)
        position = found.end()
    kinds.append("end")
    texts.append("")
    starts.append(len(text))
    return Tokens(source, tuple(kinds), tuple(texts), tuple(starts), line_starts)


def _span(line_starts: tuple[int, ...], start: int, length: int) -> Span:
    line = bisect_right(line_starts, start)
    column = start - line_starts[line - 1] + 1
    return Span(line, column, line, column + length)


def _unreadable(source: Source, line_starts: tuple[int, ...], position: int) -> HectoriteError:
    here = source.text[position]
    hint = None
    if here == "/":
        hint = "this comment is never closed"
    elif here == '"':
        hint = "this string is never closed"
    return fail(
        f"`{here}` begins no word of PTX",
        source=source,
        span=_span(line_starts, position, 1),
        hint=hint,
    )
