"""PTX of other compilers becomes SSA, and text again that means the same."""

import shutil
import subprocess

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite import ptx
from hectorite.backends.ptx.print import module_to_text
from hectorite.dialects.context import make_context
from hectorite.dialects.ptx import KernelOp
from hectorite.dialects.ptx_instruction import InstructionOp
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.lowering.ptx.import_ptx import import_ptx

HEAD = ".version 7.0\n.target sm_80\n.address_size 64\n"


def kernel(body: str, parameters: str = ".param .u64 p, .param .u32 n", head: str = "") -> str:
    registers = ".reg .pred %p<9>; .reg .b32 %r<9>; .reg .b64 %rd<9>; .reg .f32 %f<9>;"
    return f"{HEAD}{head}.visible .entry k({parameters}) {{ {registers}\n{body}\n}}\n"


def imported(text: str) -> KernelOp:
    module = import_ptx(parse_ptx(text))
    module.verify()
    again = Parser(make_context(), str(module)).parse_module()
    assert str(again) == str(module)
    import_ptx(parse_ptx(module_to_text(module))).verify()
    (op,) = module.ops
    assert isinstance(op, KernelOp)
    return op


def test_a_loop_gets_arguments_for_what_changes_only():
    op = imported(
        kernel("""
        ld.param.u64 %rd1, [p]; ld.param.u32 %r2, [n]; mov.u32 %r1, 0; mov.f32 %f1, 0f00000000;
        $L: add.f32 %f1, %f1, 0f3F800000; add.s32 %r1, %r1, 1; setp.lt.s32 %p1, %r1, %r2;
        @%p1 bra $L;
        st.global.f32 [%rd1], %f1; ret;""")
    )
    assert [len(block.args) for block in op.body.blocks] == [2, 2, 0]


def test_both_ways_of_a_branch_meet():
    op = imported(
        kernel("""
        ld.param.u64 %rd1, [p]; ld.param.u32 %r2, [n]; setp.lt.s32 %p1, %r2, 3;
        @!%p1 bra $E; mov.u32 %r1, 5; bra.uni $D;
        $E: add.s32 %r1, %r2, 1;
        $D: st.global.u32 [%rd1], %r1; ret;""")
    )
    assert [len(block.args) for block in op.body.blocks] == [2, 0, 1]


def test_guarded_instructions_keep_the_old_value():
    op = imported(
        kernel("""
        ld.param.u64 %rd1, [p]; ld.param.u32 %r2, [n]; setp.lt.s32 %p1, %r2, 3;
        mov.f32 %f1, 0f00000000; @%p1 ld.global.f32 %f1, [%rd1];
        st.global.f32 [%rd1], %f1; ret;""")
    )
    (load,) = (i for i in op.walk() if isinstance(i, InstructionOp) and i.INSTRUCTION == "ld")
    assert len(load.otherwise) == 1


def test_returns_in_the_middle_and_indexed_branches():
    imported(
        kernel("""
        ld.param.u64 %rd1, [p]; ld.param.u32 %r2, [n]; setp.gt.s32 %p1, %r2, 2; @%p1 ret;
        $T: .branchtargets $A, $B, $C;
        brx.idx %r2, $T;
        $A: st.global.u32 [%rd1], 1; ret;
        $B: st.global.u32 [%rd1], 2; bra $C;
        $C: st.global.u32 [%rd1+4], 3; exit;""")
    )


def test_code_that_nothing_reaches_is_dropped():
    op = imported(kernel("ret; $X: bra $X;"))
    assert len(op.body.blocks) == 1


def test_tables_keep_their_contents():
    head = ".const .align 4 .u32 table[4] = {1, 2, 0xFFFFFFFF};\n"
    text = kernel("mov.u64 %rd1, table; ld.const.u32 %r1, [%rd1+8]; ret;", head=head)
    imported(text)
    assert "= {1, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0};" in module_to_text(
        import_ptx(parse_ptx(text))
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (kernel("ret;", ".param .align 8 .b8 p[16]"), "no parameters but numbers"),
        (kernel("ret;", ".param .u8 p"), "no parameters but numbers"),
        (kernel("ld.param.u32 %r1, [p+4]; ret;"), "load of part of a parameter"),
        (kernel("tex.1d.v4.f32.s32 {%f1,%f2,%f3,%f4}, [%rd1, {%r1}]; ret;"), "instruction tex"),
    ],
)
def test_what_the_dialect_lacks_is_one_message(text, message):
    with pytest.raises(HectoriteError, match=message):
        import_ptx(parse_ptx(text))


def test_bits_in_registers_of_integers_are_floats_where_they_are_used():
    """0x34000000 is 2^-23; a parameter of 32 bits may be loaded into 64, with its sign."""
    text = """.version 7.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 y, .param .u32 n)
{
  .reg .b32 %one, %small, %sum; .reg .b64 %y, %n;
  ld.param.u64 %y, [y];
  ld.param.s32 %n, [n];
  mov.b32 %one, 0f3F800000;
  mov.b32 %small, 0x34000000U;
  fma.rn.f32 %sum, %one, %small, %one;
  st.global.f32 [%y], %sum;
  st.global.u64 [%y+8], %n;
  ret;
}
"""
    again = module_to_text(import_ptx(parse_ptx(text)))
    assert again == module_to_text(import_ptx(parse_ptx(again)))
    y = np.zeros(2, np.int64)
    for mode in ("compiled", "lockstep"):
        ptx.load(again)["k"](1, 1, [y, np.int32(-5)], mode=mode)
        assert y[1] == -5
        assert y[:1].view(np.float32)[0] == np.float32(1 + 2.0**-23)
    if shutil.which("ptxas"):
        command = ["ptxas", "-arch", "sm_80", "-", "-o", "/dev/null"]
        subprocess.run(command, input=again, text=True, check=True)
