"""What commands print: tables, colour and progress on a terminal, plain text elsewhere.

Enters: rows and messages. Leaves: text on the output stream; progress and notes go to the error
stream, so that output can be piped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""


def note(text: str) -> None:
    """One line on the error stream."""
    print(text, file=sys.stderr)


def is_terminal(stream: Any) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def working(what: str) -> Generator[Progress]:
    """While something long runs: shows on a terminal what it is, and how far it has come."""
    if not is_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> None:
    """Rows under heads. `styles` gives each row a colour (or "") on a terminal."""
    if is_terminal(sys.stdout):
        from rich.console import Console
        from rich.table import Table

        drawn = Table(*heads, box=None, header_style="bold")
        for row, style in zip(rows, styles, strict=True):
            drawn.add_row(*row, style=style)
        Console().print(drawn)
        return
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
