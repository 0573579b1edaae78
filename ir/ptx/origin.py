"""Which statement of the program a line of PTX comes from.

Enters: PTX text of ours and the number of a line. Leaves: the statement that produced the line. The
convention is a comment line above the instructions of a statement,

    // at spread.hec:5: y[e.dst, d] += x[e.src, d] * w[e]

which holds for all lines below it, up to the next such comment or the end of the kernel (a line
that begins with `}`). `// at -` says that the lines below belong to no statement. The name of the
file and the number of the line may be missing (`// at y[v] = 2`): then only the statement is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MARK = "// at "
_NOBODY = "-"
_PLACE = re.compile(r"([^\s:][^:]*):(\d+): (.*)")


@dataclass(frozen=True)
class Origin:
    """A statement, and the file and line where it stands if they are known (line is 1-based)."""

    statement: str
    file: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = "" if self.file is None else f"{self.file}:{self.line}: "
        return place + self.statement


def origin_comment(origin: Origin | None) -> str:
    r"""The comment that begins the lines of a statement, without a line end; of none, of nobody's.

    A statement of several lines becomes one, and letters that are not ASCII, which PTX does not
    allow anywhere, become their numbers (`\xe9`).
    """
    if origin is None:
        return _MARK + _NOBODY
    line = " ".join(str(origin).split())
    return _MARK + line.encode("ascii", "backslashreplace").decode("ascii")


def statement_of(text: str, line: int) -> Origin | None:
    """The statement that produced a line (1-based) of PTX text, None where no comment tells."""
    for above in reversed(text.split("\n")[:line]):
        if above.startswith("}"):
            return None
        said = above.strip()
        if said.startswith(_MARK):
            return _read(said.removeprefix(_MARK).strip())
    return None


def _read(said: str) -> Origin | None:
    if said == _NOBODY:
        return None
    if place := _PLACE.fullmatch(said):
        return Origin(place[3], place[1], int(place[2]))
    return Origin(said)
