"""Where a syntax error does damage: the text as a sequence of segments that parse on their own.

Enters: a text and the position of an error in it. Leaves: the stretch to blank out so that the
rest still parses. A segment ends at `{`, `}`, and at a line end or `;` outside ( ) and [ ]:

    def f(x: f32[n],       one segment, up to `{`
          y: f32) -> f32 {
      s += x[              one segment, up to the line end after `]`
        n]
    }                      an empty segment, up to `}`
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field

from hectorite.ir.diagnostics import Span

_MARK = re.compile(r'#[^\n]*|"[^"\n]*"|[()\[\]{};\n]')
_GOES_ON = re.compile(r"([-+*/%<>,]|[=!]=|\b(and|or))[ \t\r]*(#[^\n]*)?$")
_STATEMENT = re.compile(
    r"[ \t\r]*(\}|return\b|scan\b|\w+[ \t]*(\[[^\]\n]*\])?[ \t]*(,|(max|min|mean|[-+*/])?=(?!=)))"
)
_PAIRS = {")": "(", "]": "["}


@dataclass
class Outline:
    """The brackets and segments of a text. `depth` is how deep ( and [ nest, at `deepest`."""

    text: str
    depth: int = 0
    deepest: Span = Span(1, 1, 1, 2)
    ends: list[int] = field(default_factory=list[int])
    """Where segments end, the end of the text last."""
    lines: list[int] = field(default_factory=list[int])
    """Where lines start."""

    def __post_init__(self) -> None:
        self.lines = [0] + [match.end() for match in re.finditer("\n", self.text)]
        open_brackets: list[int] = []
        for match in _MARK.finditer(self.text):
            mark, at = match[0], match.start()
            if mark in ("(", "["):
                open_brackets.append(at)
                if len(open_brackets) > self.depth:
                    self.depth, self.deepest = len(open_brackets), self.span(at)
            elif mark in _PAIRS and open_brackets:
                open_brackets.pop()
            elif mark in ("{", "}"):
                open_brackets.clear()
                self.ends.append(at)
            elif mark in (";", "\n") and not open_brackets and not self._goes_on(at):
                self.ends.append(at)
        self.ends.append(len(self.text))

    def _goes_on(self, line_end: int) -> bool:
        """Whether a line ends in an operator and the next one is no statement (as `LineEnds`)."""
        line = self.text[self.text.rfind("\n", 0, line_end) + 1 : line_end]
        return bool(_GOES_ON.search(line)) and not _STATEMENT.match(self.text, line_end + 1)

    def span(self, position: int) -> Span:
        """The span of one character."""
        line = bisect_right(self.lines, position)
        column = position - self.lines[line - 1] + 1
        return Span(line, column, line, column + 1)

    def unclosed_before(self, position: int) -> int | None:
        """The innermost bracket open at `position` that nothing closes: for `(` and `[` in its
        segment, for `{` in the text."""
        stack: list[int] = []
        for match in _MARK.finditer(self.text, 0, position):
            if match[0] in ("(", "[", "{"):
                stack.append(match.start())
            elif match[0] in (")", "]", "}") and stack:
                stack.pop()
        if not stack:
            return None
        if self.text[stack[-1]] == "{":
            return stack[-1] if position >= len(self.text) else None
        return None if self._closed(stack[-1]) else stack[-1]

    def same_line(self, start: int, stop: int) -> bool:
        return "\n" not in self.text[start:stop] and stop < len(self.text)

    def damaged(self, position: int, unclosed: int | None) -> tuple[int, int]:
        """The stretch to blank out after an error at `position`; empty if nothing is left to.

        `unclosed` is the bracket open there that nothing closes: its segment runs too far, so
        that the damage ends with its line.
        """
        if unclosed is not None:
            if self.text[unclosed] == "{":
                return 0, 0
            start, stop = self._start_of(unclosed), self._line_end(unclosed)
            end = self._stop_of(unclosed)
            is_head = self.text[end : end + 1] == "{"
            return (start, self._matching(end + 1)) if is_head else (start, stop)
        start, stop = self._start_of(position), self._stop_of(position)
        if self.text[start:stop].strip() == "" and stop < len(self.text):
            stop += 1  # only the `{`, `}` or line end itself is left to blame
            return (start, stop) if self.text[stop - 1] != "{" else (start, self._matching(stop))
        if self.text[stop : stop + 1] == "{":
            return start, self._matching(stop + 1)
        return start, stop

    def _start_of(self, position: int) -> int:
        before = [end for end in self.ends if end < position]
        return before[-1] + 1 if before else 0

    def _stop_of(self, position: int) -> int:
        return next(end for end in self.ends if end >= min(position, len(self.text)))

    def _line_end(self, position: int) -> int:
        end = self.text.find("\n", position)
        return len(self.text) if end < 0 else end

    def _closed(self, bracket: int) -> bool:
        depth = 0
        for match in _MARK.finditer(self.text, bracket, self._stop_of(bracket)):
            depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(match[0], 0)
            if depth == 0:
                return True
        return False

    def _matching(self, position: int) -> int:
        """Just after the `}` that closes a `{` standing just before `position`."""
        depth = 1
        for match in _MARK.finditer(self.text, position):
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if depth == 0:
                return match.end()
        return len(self.text)


def blank(text: str, start: int, stop: int) -> str:
    """The text with a stretch replaced by blanks; line ends stay, so positions stay true."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:stop]) + text[stop:]
