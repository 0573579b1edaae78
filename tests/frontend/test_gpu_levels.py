"""`emit` at the levels of a GPU: PTX, machine code, listings, and what kernels take."""

import json
import re
from types import SimpleNamespace

import pytest

import hectorite
from hectorite.backends.machine_code.assemble import installed
from hectorite.backends.machine_code.sass import find_nvdisasm
from hectorite.frontend.program_text import form_of
from hectorite.ir.diagnostics import HectoriteError

needs_assembler = pytest.mark.skipif(not installed(), reason="no assembler for PTX")
needs_tools = pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)

PROGRAM = """
set node
set edge { src: node, dst: node }
def sum(x: f32[node, O], w: f32[edge]) -> f32[node, O] {
  y[e.dst, o] += x[e.src, o] * w[e]
  return y
}
"""

FOREIGN = """//
// Made by somebody else
//

.version 7.1
.target sm_86
.address_size 64

.visible .entry scale(.param .u64 p) {
  .reg .b64 %rd<2>; .reg .f32 %f<2>; .shared .align 4 .b8 held[64];
  ld.param.u64 %rd1, [p];
  ld.global.f32 %f1, [%rd1];
  mul.f32 %f1, %f1, 0f40000000;
  st.global.f32 [%rd1], %f1;
  ret;
}
"""


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "sum.hec"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def foreign(tmp_path):
    path = tmp_path / "scale.ptx"
    path.write_text(FOREIGN)
    return path


def test_forms():
    ours = hectorite.emit(PROGRAM, "ptx", sizes={"O": 4})
    assert form_of(ours) == form_of(FOREIGN) == form_of(FOREIGN.replace("\n", "\r\n")) == "ptx"
    assert form_of(PROGRAM) == "source"


@pytest.mark.parametrize("target", ["sm_80", "sm_89", "sm_90a", "sm_120"])
def test_ptx_names_its_target_and_the_lowest_version(target):
    text = hectorite.emit(PROGRAM, "ptx", sizes={"O": 4}, target=target)
    assert text.startswith("// hectorite plan 1\n")
    versions = {"sm_80": "7.0", "sm_89": "7.8", "sm_90a": "8.0", "sm_120": "8.7"}
    assert f"\n.version {versions[target]}\n.target {target}\n.address_size 64\n" in text
    assert '"kernel": "sum_0"' in text and '"per_block": ' in text
    assert hectorite.emit(text, "ptx") == text


def test_the_tile_level_is_scheduled_for_a_target():
    sizes = {"O": 256}
    cpu = hectorite.emit(PROGRAM, "tile", sizes=sizes)
    gpu = hectorite.emit(PROGRAM, "tile", sizes=sizes, target="sm_90")
    assert cpu != gpu
    assert hectorite.emit(gpu, "ptx", target="sm_90") == hectorite.emit(
        PROGRAM, "ptx", sizes=sizes, target="sm_90"
    )


def test_passes_of_a_gpu_are_shown(hectorite, program):
    status, printed, _ = hectorite("emit", program, "--level", "ptx", "--between-passes")
    assert status == 0
    assert "// after insert-barriers" in printed and ".visible .entry" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--level", "ptx", "--target", "sm90"), "did you mean `sm_90`?"),
        (("--level", "llvm", "--target", "sm_90"), "the level llvm is not for a GPU"),
        (("--level", "tile", "--json"), "the level tile has no table of resources"),
        (("--level", "graph", "--resources"), "the level graph has no table of resources"),
    ],
)
def test_wrong_arguments(hectorite, program, arguments, said):
    status, printed, told = hectorite("emit", program, *arguments)
    assert (status, printed) == (1, "")
    assert said in told and "Traceback" not in told


def test_ptx_goes_to_no_earlier_level(hectorite, foreign):
    status, _, told = hectorite("emit", foreign, "--level", "tile")
    assert status == 1
    assert "is of the level ptx, from which tile cannot be made" in told
    assert "expected: one of ptx-ir, ptx, cubin, sass" in told


def test_a_cubin_is_no_text():
    with pytest.raises(HectoriteError, match="a cubin is no text"):
        hectorite.emit(FOREIGN, "cubin")
    with pytest.raises(HectoriteError, match="a cubin is no text"):
        hectorite.emit(PROGRAM, "cubin", sizes={"O": 4})


@needs_assembler
def test_a_cubin_goes_to_a_file(hectorite, program, foreign, tmp_path):
    for source, target in ((program, "sm_80"), (foreign, "sm_86"), (foreign, "sm_90")):
        out = tmp_path / "made.cubin"
        arguments = ("--level", "cubin", "--target", target, "--out", out)
        assert hectorite("emit", source, *arguments)[0] == 0
        assert out.read_bytes().startswith(b"\x7fELF")


@needs_assembler
def test_a_terminal_gets_no_cubin(hectorite, foreign, monkeypatch):
    terminal = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("hectorite.frontend.commands.emit.sys", SimpleNamespace(stdout=terminal))
    status, printed, told = hectorite("emit", foreign, "--level", "cubin")
    assert (status, printed) == (1, "")
    assert "write it with --out FILE" in told


@needs_tools
@pytest.mark.parametrize("level", ["ptx", "cubin", "sass"])
def test_the_table_as_json(hectorite, program, level):
    arguments = ("--level", level, "--target", "sm_90", "--size", "O=128", "--json")
    status, printed, _ = hectorite("emit", program, *arguments)
    assert status == 0
    (kernel,) = json.loads(printed)
    assert kernel["name"] == "sum_0"
    assert kernel["spill_bytes"] == 0 and kernel["registers"] <= 255
    assert kernel["shared_bytes"] >= 0 and kernel["emulated"] == []
    assert kernel["instruction_mix"]["f32"] > 0
    assert kernel["flop_per_instruction"] > 1


@needs_tools
def test_the_table_for_people(hectorite, foreign):
    status, printed, told = hectorite("emit", foreign, "--level", "sass", "--resources")
    assert status == 0
    assert re.search(r"FMUL|FADD", printed)
    assert told.startswith("kernel  registers  shared  spills  flop/instr  instructions\nscale ")


@needs_tools
def test_listings_hold_every_kernel():
    listing = hectorite.emit(PROGRAM, "sass", sizes={"O": 128}, target="sm_80")
    assert ".text.sum_0:" in listing and "FFMA" in listing
    assert hectorite.emit(FOREIGN, "sass").count("EXIT") >= 1


@needs_assembler
def test_faults_of_ptx_are_at_their_lines(hectorite, foreign):
    foreign.write_text(FOREIGN.replace("mul.f32 %f1, %f1,", "mul.f32 %f1,"))
    status, _, told = hectorite("emit", foreign, "--level", "cubin", "--json")
    assert status == 1
    assert re.search(r"scale\.ptx:13:3: error: the assembler says: .*'mul'", told)
