"""Source texts: reading a program and those it imports.

Enters: a path or a text. Leaves: the parsed programs, each file once, imported ones before those
that import them. A path after `import` is relative to the file it stands in.
"""

from __future__ import annotations

import os
from pathlib import Path

from hectorite.frontend.parsing import syntax
from hectorite.frontend.parsing.parse import parse_program
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Source, did_you_mean, fail


def read_source(path_or_text: str | os.PathLike[str]) -> Source:
    """A text as it is if it has a newline, else the contents of the file of that name."""
    if isinstance(path_or_text, str) and "\n" in path_or_text:
        return Source("<text>", path_or_text)
    path = Path(path_or_text)
    text, reason = _read(path)
    if text is None:
        raise fail(
            f"cannot read {path}: {reason}",
            expected="the path of a program; a program given as text contains a newline",
            hint=_near_file(path),
        )
    return Source(str(path), text)


def with_imports(source: Source) -> list[syntax.Program]:
    """The program of a source, last, after all that it imports.

    Raises `HectoriteError` with the syntax errors of all files, and for files that cannot be read.
    """
    diagnostics: list[Diagnostic] = []
    programs: dict[Path, syntax.Program | None] = {}
    start = Path(source.name)
    pending = [(start, source, False)]
    ordered: list[syntax.Program] = []
    while pending:
        path, text, below_done = pending.pop()
        key = _identity(path)
        if below_done:
            program = programs[key]
            if program is not None:
                ordered.append(program)
            continue
        if key in programs:
            continue
        programs[key] = None
        try:
            program = programs[key] = parse_program(text)
        except HectoriteError as error:
            diagnostics += error.diagnostics
            continue
        pending.append((path, text, True))
        for node in reversed(program.declarations):
            if isinstance(node, syntax.ImportDecl):
                pending += _imported(node, path.parent, text, diagnostics)
    if diagnostics:
        raise HectoriteError(diagnostics)
    return ordered


def _imported(
    node: syntax.ImportDecl, folder: Path, source: Source, diagnostics: list[Diagnostic]
) -> list[tuple[Path, Source, bool]]:
    path = folder / node.path
    text, reason = _read(path)
    if text is not None:
        return [(path, Source(str(path), text), False)]
    message = f"cannot read `{node.path}`: {reason}"
    expected = "the path of a program, relative to this file"
    diagnostics.append(Diagnostic(message, node.span, source, expected, _near_file(path)))
    return []


def _read(path: Path) -> tuple[str | None, str]:
    """The text of a file, or None and the reason."""
    try:
        return path.read_bytes().decode("utf-8"), ""
    except UnicodeDecodeError as error:
        return None, f"byte {error.start} is not UTF-8"
    except (OSError, ValueError) as error:
        return None, getattr(error, "strerror", None) or str(error)


def _identity(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path


def _near_file(path: Path) -> str | None:
    try:
        beside = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        return None
    return did_you_mean(path.name, beside)
