"""The static comparison: figures of our kernels, and registers of any cubin."""

import json

import pytest

from benchmarks import static
from benchmarks.cubin import registers
from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.machine_code.sass import find_nvdisasm
from hectorite.backends.machine_code.sass_statistics import Loop, Statistics

TWO = """.version 7.0
.target sm_80
.address_size 64
.visible .entry first(.param .u64 p) {
  .reg .b64 %rd<2>; .reg .b32 %r<2>;
  ld.param.u64 %rd1, [p];
  ld.global.b32 %r1, [%rd1];
  st.global.b32 [%rd1+4], %r1;
  ret;
}
.visible .entry second() { ret; }
"""


@pytest.mark.skipif(not installed(), reason="no assembler for PTX")
@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120"])
def test_registers_of_a_cubin(target):
    made = assemble(TWO, target)
    expected = {name: used.registers for name, used in made.kernels.items()}
    assert registers(made.cubin) == expected


@pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)
def test_our_kernels_are_compared(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(static, "find_spec", lambda name: None)
    monkeypatch.setattr(static, "SIZES", {"spmm": {"F": 128}})
    file = tmp_path / "static.json"
    assert static.compare(None, file) == 0
    shown = capsys.readouterr().out
    assert "--triton PYTHON" in shown and "spmm" in shown
    rows = json.loads(file.read_text())
    assert {row["target"] for row in rows} == {"sm_80", "sm_90", "sm_90a"}
    assert all(row["spill_bytes"] == 0 and row["flop_per_instruction"] > 0 for row in rows)


@pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)
def test_main_loops_are_as_dense_as_they_should_be():
    """Flops for each warp instruction at least those of Triton 3.6 for the same shapes."""
    figures = {(figure.case, figure.target): figure for figure in static.ours()}
    product, spmm = figures["product", "sm_80"], figures["spmm", "sm_90"]
    assert product.flop_per_instruction >= 1324 and product.registers <= 128
    assert spmm.flop_per_instruction >= 17.7
    assert all(figure.spill_bytes == 0 for figure in figures.values())


def test_loops_without_flops_are_left_out():
    loops = (Loop(0, 16, 4, 0, {}), Loop(32, 64, 8, 512, {"f32": 8}))
    found = Statistics(12, {}, {}, loops, loops[1], ())
    assert static._figures(found) == (64.0, (64.0,))
