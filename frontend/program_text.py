"""The text of a program: where it comes from, which level it is, and its module.

Enters: a path, or a text (anything with a newline). Leaves: the text and those of the files it
imports, which together decide what is in the cache; and, when first asked for, the parsed module.

A text is a program of the language, or IR of any level as `emit` prints it: the content decides.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from hectorite.ir.diagnostics import Diagnostic, HectoriteError, Source, Span, fail, render

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.ir import Operation, SSAValue
    from xdsl.utils.exceptions import ParseError

    from hectorite.frontend.onnx.data import Given
    from hectorite.frontend.onnx.model import OnnxModel

LEVELS = ("graph", "graph-opt", "sparse", "tile", "llvm", "asm", "ptx-ir", "ptx", "cubin", "sass")
"""The levels that can be printed, in the order of compilation: after tile come those of a CPU, then
those of a GPU."""

CODE = ("llvm", "asm", "ptx")
"""The forms of text that are past the last level that has a module."""

_PLAN = "hectorite plan"
"""Begins the first comment of emitted LLVM IR, assembly and PTX."""

_IMPORT = re.compile(r'^\s*import\s+"([^"\n]*)"', re.MULTILINE)
_TILE = re.compile(r'^\s*"?tile\.(program|kernel)\b', re.MULTILINE)
_PTX = re.compile(r"^\s*\.version\s+\d+\.\d+\s*(//.*)?\n\s*\.target\s", re.MULTILINE)
_PTX_IR = re.compile(r'^\s*"?ptx\.kernel\b', re.MULTILINE)
_MODULE = re.compile(r'^\s*"?(builtin\.module|graph\.\w+|tile\.\w+)\b', re.MULTILINE)


@dataclass(frozen=True)
class ProgramText:
    """A program as text. `form` is "source" for the language, else "graph", "tile", "llvm", "asm"
    or "ptx". `path` is None for a text that was given as such."""

    name: str
    text: str
    form: str
    path: Path | None = None
    ir: str | None = None
    """The text as it was, where PTX was given in the `ptx` dialect; `text` is then plain PTX."""
    ready: ModuleOp | None = field(default=None, repr=False, compare=False)
    """The module, where it was there before its text."""
    given: Given | None = field(default=None, repr=False, compare=False)
    """What an imported model brings beside its program."""

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Everything that the meaning of the program depends on."""
        found: dict[str, str] = {}
        if self.form == "source":
            folder = Path() if self.path is None else self.path.parent
            _gather_imports(self.text, folder, found)
        return (self.form, self.text, *(part for item in found.items() for part in item))

    @property
    def module(self) -> ModuleOp:
        """The verified module. Raises `HectoriteError` for every fault in the text, and for
        machine code, which has no module."""
        return self._loaded[0]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the checker warned of, rendered."""
        return self._loaded[1]

    @cached_property
    def _loaded(self) -> tuple[ModuleOp, tuple[str, ...]]:
        if self.ready is not None:
            return self.ready, ()
        if self.ir is not None:
            return parse_ir(self.ir, self.name), ()
        if self.form in CODE:
            raise fail(
                f"{self.name} holds {self.form}, which is past the last level that has a module",
                expected="a program, or IR of the levels graph, graph-opt or tile",
            )
        if self.form != "source":
            return parse_ir(self.text, self.name), ()
        from hectorite.frontend.to_graph.program import load_source

        found: list[Diagnostic] = []
        module = load_source(self.text if self.path is None else self.path, found)
        return module, tuple(render(warning) for warning in found)


ProgramLike: TypeAlias = "str | os.PathLike[str] | OnnxModel"
"""A path, the text of a program (anything with a newline), or an imported ONNX model."""


def read_program(path_or_text: ProgramLike, sizes: Mapping[str, int] | None = None) -> ProgramText:
    """The program in a file, in a string that contains a newline, or of an imported model.

    A file that ends in `.onnx` is imported, `sizes` in the place of its named lengths. Raises
    `HectoriteError` if the file cannot be read.
    """
    held: ProgramText | None = getattr(path_or_text, "program_text", None)
    if held is not None:
        return held
    given = cast("str | os.PathLike[str]", path_or_text)  # anything else is refused below
    if _is_onnx(given):
        from hectorite.frontend.onnx.model import from_onnx

        return from_onnx(given, sizes).program_text
    if isinstance(given, str) and "\n" in given:
        text = given
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise fail("the text holds half a character (a lone surrogate)", expected="Unicode")
        return _program("<text>", text, None)
    try:
        name = os.fspath(given)
        text = Path(name).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail(
            f"{os.fspath(given)} is not text: byte {error.start} is not UTF-8",
            expected="a program (.hec), or IR as `hectorite emit` prints it",
        ) from error
    except (OSError, TypeError, ValueError) as error:
        raise _unreadable(given, error) from error
    return _program(name, text, Path(name))


def _is_onnx(path: str | os.PathLike[str]) -> bool:
    if isinstance(path, str) and "\n" in path:
        return False
    return isinstance(path, str | os.PathLike) and os.fspath(path).endswith(".onnx")


def _program(name: str, text: str, path: Path | None) -> ProgramText:
    form = form_of(text)
    if form != "ptx-ir":
        return ProgramText(name, text, form, path)
    from hectorite.backends.ptx.print import module_to_text

    code = head_of(text) + module_to_text(parse_ir(text, name))
    return ProgramText(name, code, "ptx", path, text)


def head_of(text: str) -> str:
    """The comments that a text of the `ptx` dialect or PTX begins with: its plan and checks."""
    lines = text.splitlines(keepends=True)
    return "".join(takewhile(lambda line: line.startswith("//"), lines))


def form_of(text: str) -> str:
    """What a text holds: "source", "graph", "tile", "llvm", "asm", "ptx-ir" or "ptx"."""
    if text.startswith(f"; {_PLAN}"):
        return "llvm"
    if text.startswith(f"# {_PLAN}"):
        return "asm"
    if _PTX_IR.search(text):
        return "ptx-ir"
    if text.startswith(f"// {_PLAN}") or _PTX.search(text):
        return "ptx"
    if _TILE.search(text):
        return "tile"
    return "graph" if _MODULE.search(text) else "source"


def parse_ir(text: str, name: str) -> ModuleOp:
    """Parse and verify IR of the graph or tile level; faults become diagnostics."""
    from xdsl.parser import Parser
    from xdsl.utils.exceptions import DiagnosticException, ParseError, VerifyException

    from hectorite.dialects.context import make_context
    from hectorite.frontend.check.ir import check_names, used_too_early

    source = Source(name, text)
    try:
        module = Parser(make_context(), text, name).parse_module()
    except ParseError as error:
        raise parse_fault(error, source) from error
    except HectoriteError:
        raise
    except (VerifyException, DiagnosticException) as error:
        raise HectoriteError([Diagnostic(_first_line(error), source=source)]) from error
    except Exception as error:  # what a broken text trips over inside a parser of attributes
        said = f"this is not IR that can be read: {_first_line(error)}"
        raise HectoriteError([Diagnostic(said, source=source)]) from error
    try:
        module.verify()
    except (VerifyException, DiagnosticException) as error:
        raise _verify_fault(module, error, source) from error
    early = used_too_early(module)
    if early is not None:
        raise _order_fault(module, *early, source)
    check_names(module, source)
    return module


def parse_fault(error: ParseError, source: Source | None = None) -> HectoriteError:
    """A fault that xDSL's parser found, as a diagnostic."""
    text = error.span.input
    source = source or Source(text.name, str(text.content))
    span = _span(source.text, error.span.start, error.span.end)
    return HectoriteError([Diagnostic(error.msg, span, source)])


def _gather_imports(text: str, folder: Path, found: dict[str, str]) -> None:
    """The texts of imported files by path, theirs included; a file that cannot be read counts as
    empty, since parsing the program will tell."""
    for name in _IMPORT.findall(text):
        path = folder / name
        key = str(path.absolute())
        if key in found:
            continue
        try:
            found[key] = path.read_text("utf-8")
        except (OSError, ValueError):
            found[key] = ""
        _gather_imports(found[key], path.parent, found)


def _unreadable(given: Any, error: Exception) -> HectoriteError:
    reason = getattr(error, "strerror", None) or str(error)
    hint = None
    if isinstance(error, FileNotFoundError):
        from hectorite.ir.diagnostics import did_you_mean

        folder = Path(given).parent
        beside = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        hint = did_you_mean(Path(given).name, beside)
        hint = hint or "a program given as text contains a newline"
    return fail(f"cannot read {given}: {reason}", expected="the path of a program", hint=hint)


def _span(text: str, start: int, end: int) -> Span:
    line = text.count("\n", 0, start) + 1
    column = start - (text.rfind("\n", 0, start) + 1) + 1
    stop = min(end, text.find("\n", start) if "\n" in text[start:end] else end)
    return Span(line, column, line, column + max(1, stop - start))


def _verify_fault(module: ModuleOp, error: Exception, source: Source) -> HectoriteError:
    """A fault that verifying found, at the operation that has it."""
    from xdsl.utils.exceptions import DiagnosticException

    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
        except DiagnosticException as own:
            return HectoriteError(
                [Diagnostic(_first_line(own), _line_of(module, op, source), source)]
            )
    return HectoriteError([Diagnostic(_first_line(error), source=source)])


def _order_fault(
    module: ModuleOp, op: Operation, value: SSAValue, source: Source
) -> HectoriteError:
    """An operation that uses a value which is not there yet."""
    name = (
        f"`%{value.name_hint}`" if value.name_hint else f"operand {list(op.operands).index(value)}"
    )
    said = f"{name} of `{op.name}` is used before it is made"
    return HectoriteError([Diagnostic(said, _line_of(module, op, source), source)])


def _line_of(module: ModuleOp, op: Operation, source: Source) -> Span | None:
    """Where an operation stands in a text that writes one to a line, as printing does: as many of
    its kind begin a line before it as the module has before it."""
    before = 0
    for other in module.walk():
        if other is op:
            break
        before += other.name == op.name
    start = re.compile(rf'^\s*(?:%[^=]*= )?"?{re.escape(op.name)}\b')
    lines = [number for number, line in enumerate(source.lines, 1) if start.match(line)]
    if before >= len(lines):
        return None
    line = source.lines[lines[before] - 1]
    indent = len(line) - len(line.lstrip())
    return Span(lines[before], indent + 1, lines[before], len(line.rstrip()) + 1)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
