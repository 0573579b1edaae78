"""PTX text of the ptx dialect: registers, moves and versions."""

import re
import shutil
import subprocess

import pytest
from xdsl.dialects.builtin import ModuleOp, StringAttr

from hectorite.backends.ptx.print import module_to_text
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.lowering.ptx.import_ptx import import_ptx
from hectorite.lowering.ptx.writer import At, PtxCode


def text_of(code: PtxCode, target: str = "sm_80") -> str:
    module = ModuleOp([code.finish()], {"ptx.target": StringAttr(target)})
    module.verify()
    return module_to_text(module)


def assemble(text: str, target: str = "sm_80") -> None:
    """Raises if the assembler refuses a text; does nothing where there is none."""
    if shutil.which("ptxas"):
        command = ["ptxas", "-arch", target, "-", "-o", "/dev/null"]
        done = subprocess.run(command, input=text, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def sum_kernel() -> PtxCode:
    code = PtxCode.kernel("total", ["x", "y", "n"], ["b64", "b64", "b32"])
    x, y, n = code.parameters

    def add(index, carried):
        at = code.op("mad.wide.s32", index, 4, x)
        return [code.op("add.f32", carried[0], code.op("ld.global.f32", At(at)))]

    (total,) = code.loop(0, n, 1, [code.constant(0.0, "f32")], add)
    code.op("st.global.f32", At(y), total)
    return code


def test_loops_need_no_moves_inside():
    text = text_of(sum_kernel())
    body = text[text.index("$L_1:") : text.index("@%p1 bra")]
    assert "mov" not in body
    assemble(text)


def test_values_that_change_places_go_through_a_spare_register():
    code = PtxCode.kernel("swap", ["x", "n"], ["b64", "b32"])
    x, n = code.parameters
    a, b = code.op("ld.global.v2.f32", At(x))
    a, b = code.loop(0, n, 1, [a, b], lambda index, carried: carried[::-1])
    code.op("st.global.v2.f32", At(x), [a, b])
    text = text_of(code)
    moves = [line.split() for line in text.splitlines() if "mov.f32" in line]
    assert len(moves) >= 3
    assemble(text)


def test_a_value_needed_after_it_is_updated_is_kept():
    code = PtxCode.kernel("keep", ["x", "n"], ["b64", "b32"])
    x, n = code.parameters
    old = code.op("ld.global.f32", At(x))
    new = code.op("add.f32", old, old, guard=code.op("setp.lt.s32", n, 3), otherwise=[old])
    code.op("st.global.v2.f32", At(x), [old, new])
    text = text_of(code)
    assert text.count("mov.f32") == 1
    assemble(text)


def test_a_value_updated_in_place_needs_no_move():
    code = PtxCode.kernel("update", ["x", "n"], ["b64", "b32"])
    x, n = code.parameters
    old = code.op("ld.global.f32", At(x))
    new = code.op("add.f32", old, old, guard=code.op("setp.lt.s32", n, 3), otherwise=[old])
    code.op("st.global.f32", At(x), new)
    assert "mov.f32" not in text_of(code)


@pytest.mark.parametrize(
    ("mnemonic", "target", "version"),
    [
        ("add.f32", "sm_80", "7.0"),
        ("tanh.approx.f32", "sm_80", "7.0"),
        ("cvt.rna.tf32.f32", "sm_80", "7.0"),
        ("add.f32", "sm_90", "7.8"),
        ("add.f32", "sm_90a", "8.0"),
    ],
)
def test_the_lowest_version(mnemonic, target, version):
    code = PtxCode.kernel("k", ["x"], ["f32"])
    (x,) = code.parameters
    code.op(mnemonic, *([x, x] if mnemonic.startswith("add") else [x]))
    text = text_of(code, target)
    assert text.startswith(f".version {version}\n.target {target}\n")
    assemble(text, target)


@pytest.mark.parametrize("number", [0.0, -0.0, 1.5, 1e300, float("inf"), float("nan")])
def test_floats_are_written_by_their_bits(number):
    code = PtxCode.kernel("k", ["x"], ["b64"])
    (x,) = code.parameters
    code.op("st.global.f32", At(x), [code.constant(number, "f32")])
    code.op("st.global.f64", At(x), [code.constant(number, "f64")])
    assemble(text_of(code))


def test_memory_of_a_block_of_a_thread_and_of_the_launch():
    code = PtxCode.kernel("k", ["x"], ["b64"])
    (x,) = code.parameters
    for address in (code.shared("tile", 1024, 128), code.shared("dynamic", 0)):
        code.op("st.shared.b32", At(address, 4), 7)
    code.op("st.local.b32", At(code.local("stack", 16)), 7)
    code.op("st.global.b32", At(x), 7)
    text = text_of(code)
    assert ".extern .shared .align 16 .b8 dynamic[];" in text
    assert ".shared .align 128 .b8 tile[1024];" in text
    assert ".local .align 16 .b8 stack[16];" in text
    assemble(text)


def test_text_is_the_same_when_read_and_printed_again():
    text = text_of(sum_kernel())
    assert module_to_text(import_ptx(parse_ptx(text))) == text


def test_numbers_are_as_wide_as_what_they_are_added_to():
    """The same number of 32 bits is in a register, as a loop updates it."""
    code = PtxCode.kernel("offsets", ["x", "n"], ["b64", "b32"])
    x, n = code.parameters
    guard = code.op("setp.lt.s32", n, 5)
    old = code.op("ld.global.b32", At(x), guard=guard, otherwise=[code.constant(4)])
    at = code.op("add.s64", code.op("mul.lo.s64", x, 4), 4)
    at = code.op("shl.b64", at, 4)
    code.op("st.global.b32", At(at), old)
    text = text_of(code)
    assert re.search(r"add\.s64 %rd\d+, %rd\d+, 4;", text), text
    assemble(text)


def test_numbers_stand_in_the_text_where_an_instruction_takes_nothing_else():
    code = PtxCode.kernel("waits", ["x", "n"], ["b64", "b32"])
    x, n = code.parameters
    guard = code.op("setp.lt.s32", n, 5)
    old = code.op("ld.global.b32", At(x), guard=guard, otherwise=[code.constant(0)])
    code.op("bar.sync", 0)
    code.op("cp.async.wait_group", 0)
    code.op("st.global.b32", At(x), old)
    text = text_of(code)
    assert "cp.async.wait_group 0;" in text, text
    assemble(text)
