"""Tools that are not ours read our IR: plain `xdsl-opt`, and MLIR's own `mlir-opt`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.universe import Universe

from hectorite.dialects.context import make_context
from hectorite.frontend.registry import UNIVERSE


def test_entry_point_gives_our_dialects_and_passes():
    every = Universe.get_multiverse()
    assert set(UNIVERSE.all_dialects) <= set(every.all_dialects)
    assert set(UNIVERSE.all_passes) <= set(every.all_passes)
    for name, make in UNIVERSE.all_dialects.items():
        assert make().name == name
    for name, make in UNIVERSE.all_passes.items():
        assert make().name == name


def test_every_dialect_is_registered():
    """A dialect that our own parser knows and `xdsl-opt` does not would stop at its first name."""
    known = {dialect.name for dialect in make_context().loaded_dialects}
    assert known - {"builtin", "scf"} == set(UNIVERSE.all_dialects)


def test_plain_xdsl_opt(tmp_path: Path):
    module = tmp_path / "softmax.mlir"
    module.write_text(
        """
graph.set @node
graph.func @f(%s: !hec.tensor<f32[node]>) -> !hec.tensor<f32[node]> {
  %a = graph.softmax %s[n] by [] for (n: node) : !hec.tensor<f32[node]>
  graph.return %a : !hec.tensor<f32[node]>
}
"""
    )
    tool = Path(sys.executable).with_name("xdsl-opt")
    command = [str(tool), "-p", "expand-softmax", str(module)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("graph.statement") == 4
    assert "graph.softmax" not in ran.stdout


def mlir_opt() -> str | None:
    """MLIR's driver: `$HECTORITE_MLIR_OPT`, on the path, or where distributions put LLVM."""
    chosen = os.environ.get("HECTORITE_MLIR_OPT") or shutil.which("mlir-opt")
    installed = sorted(Path("/usr/lib").glob("llvm-*/bin/mlir-opt"))
    return chosen or (str(installed[-1]) if installed else None)


@pytest.mark.skipif(mlir_opt() is None, reason="mlir-opt is not installed")
@pytest.mark.parametrize("name", ["graph", "tile"])
def test_mlir_opt_takes_the_generic_form(
    name: str,
    everything: dict[str, str],
    ir: Callable[[str], ModuleOp],
    generic: Callable[[ModuleOp], str],
    tmp_path: Path,
):
    """Upstream parses what we print, and we parse what upstream prints of it."""
    printed = generic(ir(everything[name]))
    module = tmp_path / "module.mlir"
    module.write_text(printed)
    tool = mlir_opt()
    assert tool is not None
    command = [tool, "--allow-unregistered-dialect", "--mlir-print-op-generic", str(module)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert generic(ir(ran.stdout)).count("\n") == printed.count("\n")
