"""What all tests share: a cache folder of their own, and FileCheck in this process.

A file `tests/**/*.mlir` or `.hec` with lines such as

    // RUN: hectorite opt %s -p expand-softmax | filecheck %s

is a test: each such command runs by calling `main`, and FileCheck reads what it prints. Lines that
start with `not` must fail, `2>&1` joins the error stream. In `.hec` files the comment is `#`.

`pytest --target cuda` runs the suite on a GPU, `--target ptx` on the executor of PTX, and
`--target cuda --stand-in` on the executor behind cuda-python, through the driver of `driver/`.
"""

import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import Options, parse_argv_options
from filecheck.parser import Parser
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # tests and benchmarks are used from the checkout, not installed

from tests.driver import stand_in  # noqa: E402

# No test depends on how busy the machine is, nor on chance: what is drawn is the same every time.
# tests/property/sampling.py draws anew where that is asked for.
settings.register_profile(
    "hectorite",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hectorite")

RUN = re.compile(r"^(?://|#|;) RUN: (.*)$", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--target", help="what programs run on where a test names no target")
    parser.addoption(
        "--stand-in", action="store_true", help="a CUDA driver that hands launches to the executor"
    )


def pytest_configure(config: pytest.Config) -> None:
    """With `--target cuda` every program whose target is not the point of a test runs on a GPU."""
    target = config.getoption("--target")
    if target:
        os.environ["HECTORITE_TARGET"] = target
    if config.getoption("--stand-in"):
        folder = tempfile.TemporaryDirectory(prefix="stand-in-")
        config.add_cleanup(folder.cleanup)
        stand_in.use(stand_in.build(Path(folder.name)))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """What the stand-in did, so that nobody takes a run without launches for one."""
    if config.getoption("--stand-in"):
        done = ", ".join(f"{count} {what}" for what, count in stand_in.calls().items())
        terminalreporter.write_line(f"stand-in: {done or 'not started in this process'}")


@pytest.fixture(scope="session")
def target() -> str:
    """The target that `--target` names, `cpu` without it."""
    return os.environ.get("HECTORITE_TARGET", "cpu")


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither see nor fill the cache of the user."""
    before = os.environ.get("HECTORITE_CACHE")
    os.environ["HECTORITE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["HECTORITE_CACHE"]
    else:
        os.environ["HECTORITE_CACHE"] = before


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "CheckedFile | None":
    if file_path.suffix in (".mlir", ".hec") and RUN.search(file_path.read_text("utf-8")):
        return CheckedFile.from_parent(parent, path=file_path)
    return None


class CheckedFile(pytest.File):
    """A file with RUN lines."""

    def collect(self) -> Iterator[pytest.Item]:
        commands = RUN.findall(self.path.read_text("utf-8"))
        for number, command in enumerate(commands, 1):
            name = f"run{number}" if len(commands) > 1 else "run"
            yield CheckedCommand.from_parent(self, name=name, command=command)


class CheckedCommand(pytest.Item):
    """One RUN line."""

    def __init__(self, command: str, **arguments: Any):
        super().__init__(**arguments)
        self.command = command

    def runtest(self) -> None:
        produce, _, check = self.command.partition(" | filecheck ")
        status, printed, said = run_command(produce.replace("%s", str(self.path)))
        must_fail = produce.startswith("not ")
        if (status != 0) != must_fail:
            raise AssertionError(f"{produce} ended with status {status}\n{printed}\n{said}")
        if "2>&1" in produce:
            printed = said + printed
        if check:
            filecheck(check.replace("%s", str(self.path)), printed)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str:
        if isinstance(excinfo.value, AssertionError):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo, style))

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.path.name}: {self.command}"


def run_command(command: str) -> tuple[int, str, str]:
    """Status, output and errors of one `hectorite` command."""
    from hectorite.frontend.cli import main

    words = [word for word in shlex.split(command) if word not in ("not", "2>&1")]
    assert words[0] == "hectorite", f"only hectorite runs in this process, not {words[0]}"
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(words[1:])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
    return status, out.getvalue(), err.getvalue()


def filecheck(arguments: str, text: str) -> None:
    """Raises `AssertionError` with the line that is not matched, and the whole text."""
    options: Options = parse_argv_options(["filecheck", *shlex.split(arguments)])
    matcher = Matcher(options, FInput("output", text), Parser.from_opts(options))
    matcher.stderr = io.StringIO()
    if matcher.run() != 0:
        raise AssertionError(f"{matcher.stderr.getvalue()}\nthe whole output:\n{text}")


@pytest.fixture
def hectorite() -> Any:
    """Runs a command line: `hectorite("check", path)` gives status, output and errors."""

    def run(*words: object) -> tuple[int, str, str]:
        return run_command(shlex.join(["hectorite", *map(str, words)]))

    return run
