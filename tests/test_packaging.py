"""What is installed, and what importing it costs."""

import subprocess
import sys
from importlib.metadata import distribution, entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

HEAVY = ("xdsl", "numpy", "llvmlite", "lark", "rich", "torch")


def modules_after(code):
    """What a fresh interpreter has imported after running `code`."""
    shown = f"import sys\n{code}\nprint(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", shown], capture_output=True, text=True, check=True, cwd="/"
    )
    return done.stdout.splitlines()[-1].split()


def test_importing_is_free():
    imported = modules_after("import hectorite")
    assert not set(HEAVY) & set(imported)


def test_help_imports_nothing_heavy():
    code = "from hectorite.frontend.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert not set(HEAVY) & set(modules_after(code))


def test_running_needs_no_display_library():
    text = "def f(x: f32[3]) -> f32[3] {\\n return x\\n}\\n"
    assert "rich" not in modules_after(f"import hectorite\nhectorite.compile('{text}')")


def test_the_public_names():
    import hectorite

    for name in ("compile", "emit", "parse", "bind", "verify", "grad"):
        assert callable(getattr(hectorite, name))
        assert getattr(hectorite, name).__doc__
        assert name in dir(hectorite)
    with pytest.raises(AttributeError):
        _ = hectorite.nothing


def test_entry_points():
    names = {point.name: point.value for point in distribution("hectorite").entry_points}
    assert names["hectorite"]
    scripts = {point.name: point.value for point in entry_points(group="console_scripts")}
    assert scripts["hectorite"] == "hectorite.frontend.cli:main"
    universe = {point.name: point for point in entry_points(group="xdsl.universe")}
    assert universe["hectorite"].load().all_passes


def test_plain_xdsl_opt_finds_our_passes(tmp_path, capsys):
    from xdsl.xdsl_opt_main import xDSLOptMain

    file = tmp_path / "sets.mlir"
    file.write_text("graph.set @node\n")
    xDSLOptMain(args=[str(file), "-p", "expand-softmax"]).run()
    assert "graph.set @node" in capsys.readouterr().out


def test_the_readme_commands_are_what_ci_runs():
    text = (ROOT / "README.md").read_text("utf-8")
    commands = [line for line in text.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert "ast:xdsl" in commands[0]
    assert "pytest" in commands[1]


def test_nothing_needs_a_gpu_driver():
    imported = modules_after(
        "import hectorite.backends.cpu.program, hectorite.frontend.commands.run"
    )
    assert "cuda" not in imported
