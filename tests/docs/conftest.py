"""The documents in `docs/` are tests: what they show is what happens.

A document is Markdown; its fenced blocks are checked by their first word:

    hec           a program without errors; `program=NAME` names it for blocks further down, and a
                  `warning` block after it holds what `check` warns of
    values        data for the program above and its results, `y == [...]`: cpu and reference agree
    hec-error     a program with errors, told word for word in the `text` block after it
    mlir emit=LEVEL   what `emit` prints for the program above, or for `program=NAME`, with
                  `sizes=O=4,K=2`; `...` stands for any lines, or the rest of one
    mlir parse    IR that parses, verifies and prints as it stands
    python        a session, as in doctest, in one namespace for the whole document
    console       commands with what they print; `hec file=NAME` and `python` blocks write files

Other blocks are prose. `python tests/docs/rewrite.py docs/FILE.md` writes into a document what its
programs and commands give now.
"""

import doctest
import io
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOCUMENTS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```(\S[^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TARGETS = (os.environ.get("HECTORITE_TARGET", "cpu"), "reference")
TOLERANCE = 1e-3
"""Results are shown with four digits."""


@dataclass
class Block:
    """One fenced block. `start` and `stop` are where its text stands in the document."""

    words: list[str]
    text: str
    start: int
    stop: int
    line: int

    @property
    def kind(self) -> str:
        return self.words[0]

    def option(self, name: str, default: str = "") -> str:
        """The value of `name=value` after the first word."""
        start = f"{name}="
        given = (word.removeprefix(start) for word in self.words if word.startswith(start))
        return next(given, default)


@dataclass
class Example:
    """A block that is checked, with the program it is about and the block after it."""

    block: Block
    program: str
    after: Block | None

    @property
    def name(self) -> str:
        return f"line {self.block.line}: {' '.join(self.block.words)}"


def read_blocks(text: str) -> list[Block]:
    return [
        Block(m[1].split(), m[2], m.start(2), m.end(2), text.count("\n", 0, m.start()) + 1)
        for m in FENCE.finditer(text)
    ]


def read_examples(path: Path) -> list[Example]:
    """Every block of a document that is checked on its own."""
    blocks = read_blocks(path.read_text("utf-8"))
    programs, current, examples = dict[str, str](), "", list[Example]()
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block.kind in ("hec", "hec-error"):
            current = block.text
            programs[block.option("program")] = current
        about = programs[block.option("program")] if block.option("program") else current
        if block.kind in CHECKS and not (block.kind == "mlir" and len(block.words) == 1):
            examples.append(Example(block, about, after))
    return examples


# What a block shows, as it is now


def messages_of(program: str) -> str:
    """The errors of a program, or its warnings if it has none."""
    from hectorite.frontend.to_graph.program import load_source
    from hectorite.ir.diagnostics import Diagnostic, HectoriteError, render

    found: list[Diagnostic] = []
    try:
        load_source(program, found)
    except HectoriteError as error:
        return f"{error}\n"
    return "".join(f"{render(warning)}\n" for warning in found)


def shown_values(program: str, text: str, target: str) -> Iterator[tuple[str, Any, Any]]:
    """(name, what is shown, what the program gives) for every result of a `values` block."""
    import hectorite

    constants = {"inf": np.inf, "nan": np.nan, "true": True, "false": False}
    pairs = re.findall(r"^(\S+) (=|==) (.*)$", text, re.MULTILINE)
    given = {name: eval(value, constants) for name, how, value in pairs if how == "="}
    shown = {name: eval(value or "None", constants) for name, how, value in pairs if how == "=="}
    prog = hectorite.compile(program, target)
    function = list(prog.functions.values())[-1]
    elements = {p.name: p.element.storage for p in function.signature.parameters}
    sets: dict[str, Any] = {}
    for name, value in given.items():
        if "." in name:
            owner, field = name.split(".")
            sets.setdefault(owner, {})[field] = np.array(value, np.int32)
        elif name in prog.schema.sets:
            sets[name] = value
    arguments = {n: np.array(given[n], type) for n, type in elements.items()}
    sizes = {n: given[n] for n in function.signature.sizes if n in given and n not in elements}
    if sizes:
        prog = hectorite.compile(program, target, sizes)
    results = prog[function.signature.name](prog.bind(**sets), **arguments)
    results = results if isinstance(results, tuple) else (results,)
    for result, value in zip(function.signature.results, results, strict=True):
        assert value.dtype == result.element.storage
        yield result.name, shown.get(result.name), value


def emitted(program: str, block: Block) -> str:
    import hectorite

    pairs = (pair.split("=") for pair in block.option("sizes").split(",") if pair)
    sizes = {name: int(value) for name, value in pairs}
    return hectorite.emit(program, block.option("emit"), sizes).rstrip("\n") + "\n"


def printed(module: str) -> str:
    """IR parsed, verified and printed again."""
    import hectorite
    from hectorite.frontend.levels.text import module_text

    return module_text(hectorite.parse(module), generic=False).rstrip("\n") + "\n"


# How it is compared


def is_abbreviated(shown: str) -> bool:
    """Whether `...` at the end of a line stands for something."""
    return re.search(r"\.\.\.$", shown, re.MULTILINE) is not None


def contains(shown: str, whole: str) -> bool:
    """Whether the text shown is the whole, where a line `...` stands for any lines, and `...` at
    the end of a line for the rest of it."""

    def pattern(line: str) -> str:
        if line.strip() == "...":
            return r"(?:.*\n)*?"
        start = line.removesuffix("...")
        return re.escape(start) + (r".*\n" if start != line else r"\n")

    return re.fullmatch("".join(map(pattern, shown.splitlines())), whole) is not None


def same(shown: str, whole: str) -> None:
    assert contains(shown, whole), f"the document shows\n{shown}\nbut now it is\n{whole}"


def check_program(example: Example, _session: "Session") -> None:
    after = example.after
    shown = after.text if after is not None and after.kind == "warning" else ""
    same(shown, messages_of(example.program))


def check_error(example: Example, _session: "Session") -> None:
    assert example.after is not None and example.after.kind == "text", "expected a text block"
    same(example.after.text, messages_of(example.program))


def check_values(example: Example, _session: "Session") -> None:
    warnings.simplefilter("ignore", UserWarning)  # shown by the program's own block
    for target in TARGETS:
        for name, shown, value in shown_values(example.program, example.block.text, target):
            assert shown is not None, f"the document does not show {name}: {value}"
            wide = value.astype(np.float64)
            tolerance = TOLERANCE if value.dtype.kind in "fV" else 0
            np.testing.assert_allclose(wide, shown, tolerance, tolerance, err_msg=target)


def check_ir(example: Example, _session: "Session") -> None:
    if "parse" in example.block.words:
        same(example.block.text, printed(example.block.text))
    else:
        same(example.block.text, emitted(example.program, example.block))


class Session:
    """The namespace of the `python` blocks of one document, and the folder of its files."""

    def __init__(self, folder: Path):
        self.names: dict[str, Any] = {}
        self.folder = folder
        self.done = 0
        """Where in the document the session has come to."""

    def reach(self, examples: list[Example], line: int) -> None:
        """Do what stands before a line, which another process may have been given to check."""
        for example in examples:
            if self.done < example.block.line < line:
                if example.block.kind == "python":
                    self.python(example.block.text, example.name)
                elif example.block.kind == "console":
                    for command, _ in read_commands(example.block.text):
                        self.console(command)
        self.done = max(self.done, line)

    def python(self, text: str, name: str) -> str:
        """Run one block; what differs, as doctest says it."""
        said = io.StringIO()
        test = doctest.DocTestParser().get_doctest(text, self.names, name, None, 0)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
        runner.run(test, out=said.write, clear_globs=False)
        self.names.update(test.globs)
        return said.getvalue()

    def console(self, command: str) -> str:
        """What one command prints, on both streams."""
        from hectorite.frontend.cli import main

        said = io.StringIO()
        words = shlex.split(command)
        assert words[0] == "hectorite"
        with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
            main(words[1:])
        return "".join(f"{line.rstrip()}\n" for line in said.getvalue().splitlines())


def check_python(example: Example, session: Session) -> None:
    differences = session.python(example.block.text, example.name)
    assert not differences, differences


def check_console(example: Example, session: Session) -> None:
    for command, shown in read_commands(example.block.text):
        same(shown, session.console(command))


def read_commands(text: str) -> list[tuple[str, str]]:
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


CHECKS: dict[str, Callable[[Example, Session], None]] = {
    "hec": check_program,
    "hec-error": check_error,
    "values": check_values,
    "mlir": check_ir,
    "python": check_python,
    "console": check_console,
}


def write_files(path: Path, folder: Path) -> None:
    """The files that a document names."""
    for block in read_blocks(path.read_text("utf-8")):
        if block.option("file"):
            (folder / block.option("file")).write_text(block.text, "utf-8")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`example` runs through the document that the module names."""
    if "example" in metafunc.fixturenames:
        examples = read_examples(DOCUMENTS / metafunc.module.DOCUMENT)
        metafunc.parametrize("example", examples, ids=[example.name for example in examples])


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the files of the document, as the current one."""
    folder, before = tmp_path_factory.mktemp("document"), Path.cwd()
    write_files(DOCUMENTS / request.module.DOCUMENT, folder)
    os.chdir(folder)
    yield Session(folder)
    os.chdir(before)


@pytest.fixture
def check(session: Session, request: pytest.FixtureRequest) -> Callable[[Example], None]:
    def run(example: Example) -> None:
        if example.block.kind in ("python", "console"):
            session.reach(read_examples(DOCUMENTS / request.module.DOCUMENT), example.block.line)
        CHECKS[example.block.kind](example, session)

    return run
