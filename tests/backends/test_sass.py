"""What a listing is made of: classes, loops, flops. The listings here are ours."""

import pytest

from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.machine_code.emulation import emulated, matrix_instructions
from hectorite.backends.machine_code.sass import (
    Instruction,
    disassemble,
    find_nvdisasm,
    read_listing,
)
from hectorite.backends.machine_code.sass_statistics import class_of, flops_of, statistics
from hectorite.ir.diagnostics import HectoriteError

needs_tools = pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)


def listing(*lines, name="k"):
    """A listing of instructions and labels as the disassembler prints it."""
    shown = [f"//--------------------- .text.{name}    --------------------------"]
    shown += [f'        .other          {name},@"STO_CUDA_ENTRY STV_DEFAULT"', f".text.{name}:"]
    address = 0
    for line in lines:
        if line.endswith(":"):
            shown.append(line)
        else:
            shown.append(f"        /*{address:04x}*/                   {line} ;")
            address += 16
    return read_listing("\n".join(shown) + "\n")[name]


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("FFMA R0, R1, R2, R3", 64),
        ("FADD.FTZ R0, R1, R2", 32),
        ("FMNMX R0, R1, R2, !PT", 0),
        ("DFMA R0, R2, R4, R6", 64),
        ("HFMA2.MMA R0, R1, R2, R3", 128),
        ("HFMA2.MMA R0, -RZ, RZ, 0, 0", 0),
        ("HADD2.F32 R0, -RZ, R1.H0_H0", 0),
        ("IDP.4A.S8.S8 R0, R1, R2, R3", 256),
        ("IMAD R0, R1, R2, R3", 0),
        ("HMMA.16816.F32 R0, R4, R8, R0", 4096),
        ("HMMA.1688.F32.TF32 R0, R4, R8, R0", 2048),
        ("HMMA.SP.16832.F32 R0, R4, R8, R0, R1, 0x0", 8192),
        ("IMMA.16832.S8.S8 R0, R4, R8, R0", 8192),
        ("BMMA.168256.AND.POPC R0, R4, R8, R0", 65536),
        ("DMMA.8x8x4 R0, R2, R4, R6", 512),
        ("HGMMA.64x128x16.F32 R24, gdesc[UR4], R24, gsb0", 65536),
        ("LDG.E.128 R0, desc[UR4][R2.64]", 0),
    ],
)
def test_flops_of_one_warp(text, flops):
    opcode, _, operands = text.partition(" ")
    assert flops_of(Instruction(0, opcode, operands)) == flops


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("IMAD.MOV.U32 R0, RZ, RZ, R1", "move"),
        ("IMAD.WIDE R0, R1, R2, R4", "int"),
        ("LDSM.16.M88.4 R0, [R1]", "shared_load"),
        ("LDGSTS.E.BYPASS.128 [R1], [R2.64]", "copy"),
        ("STL [R1+0x4], R2", "local"),
        ("MUFU.EX2 R0, R1", "special"),
        ("HADD2.F32 R0, -RZ, R1.H0_H0", "convert"),
        ("SHFL.BFLY PT, R0, R1, 0x1, 0x1f", "warp"),
        ("BAR.SYNC.DEFER_BLOCKING 0x0", "sync"),
    ],
)
def test_classes(text, kind):
    opcode, _, operands = text.partition(" ")
    assert class_of(Instruction(0, opcode, operands)) == kind


def test_only_the_innermost_loops_count():
    found = statistics(
        listing(
            "MOV R1, c[0x0][0x28]",
            ".L_x_1:",
            "FFMA R0, R1, R2, R0",
            ".L_x_2:",
            "LDG.E R2, [R4.64]",
            "FFMA R0, R1, R2, R0",
            "FFMA R3, R1, R2, R3",
            "NOP",
            "@P0 BRA `(.L_x_2)",
            "@P1 BRA `(.L_x_1)",
            "EXIT",
            ".L_x_3:",
            "BRA `(.L_x_3)",
            "NOP",
        )
    )
    assert [(loop.start, loop.end, loop.instructions) for loop in found.loops] == [(0x20, 0x60, 4)]
    assert found.flop_per_instruction == 2 * 64 / 4
    assert found.instruction_mix == {"f32": 3, "control": 4, "move": 1, "load": 1}
    assert found.instructions == 9


def test_the_loop_with_the_most_flops_is_the_main_one():
    found = statistics(
        listing(
            ".L_x_1:",
            "FADD R0, R1, R2",
            "@P0 BRA `(.L_x_1)",
            ".L_x_2:",
            "LDS R4, [R5]",
            "LDS R8, [R5]",
            "HMMA.16816.F32 R0, R4, R8, R0",
            "@P0 BRA `(.L_x_2)",
            "EXIT",
        )
    )
    assert len(found.loops) == 2
    assert found.flop_per_instruction == 4096 / 4


def test_code_beside_a_loop_is_not_in_it():
    """A branch that leaves the loop, and one that only some of its instructions reach."""
    found = statistics(
        listing(
            ".L_x_1:",
            "FFMA R0, R1, R2, R0",
            "@P2 BRA `(.L_x_2)",
            "@P3 BRA `(.L_x_4)",
            "FFMA R0, R1, R2, R0",
            "@P0 BRA `(.L_x_1)",
            "BRA `(.L_x_3)",
            ".L_x_2:",
            "FMUL R0, R0, R0",
            "EXIT",
            ".L_x_4:",
            "FADD R0, R0, R1",
            "BRA `(.L_x_1)",
            ".L_x_3:",
            "EXIT",
        )
    )
    # The slow path at .L_x_4 leads back to the head: it belongs to the loop, .L_x_2 does not.
    assert [loop.instructions for loop in found.loops] == [7]
    assert found.main.flops == 2 * 64 + 32


def test_without_a_loop_the_whole_kernel_counts():
    found = statistics(listing("FFMA R0, R1, R2, R0", "EXIT", "NOP"))
    assert found.loops == ()
    assert found.flop_per_instruction == 32


def test_predicates_conditions_and_calls():
    found = statistics(
        listing(
            ".L_x_1:",
            "BRA.DIV UR4, `(.L_x_2)",
            "@!UP0 FFMA R0, R1, R2, R0",
            "CALL.REL.NOINC `($k$__cuda_sm3x_div_rn_noftz_f32_slowpath)",
            "@!P0 BRA `(.L_x_1)",
            ".L_x_2:",
            "EXIT",
        )
    )
    assert found.called == ("$k$__cuda_sm3x_div_rn_noftz_f32_slowpath",)
    assert found.main.instructions == 4 and found.main.flops == 64


FP8 = """.version 8.4
.target sm_89
.address_size 64
.visible .entry k(.param .u64 p) {
  .reg .f32 %f<8>; .reg .b32 %r<8>; .reg .b64 %rd<2>; .reg .pred %p<2>;
  ld.param.u64 %rd1, [p];
  mov.u32 %r7, 0;
again:
  ld.global.v4.b32 {%r0, %r1, %r2, %r3}, [%rd1];
  ld.global.v2.b32 {%r4, %r5}, [%rd1+16];
  ld.global.v4.f32 {%f0, %f1, %f2, %f3}, [%rd1+32];
  mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32
    {%f0, %f1, %f2, %f3}, {%r0, %r1, %r2, %r3}, {%r4, %r5}, {%f0, %f1, %f2, %f3};
  st.global.v4.f32 [%rd1+48], {%f0, %f1, %f2, %f3};
  add.s32 %r7, %r7, 1;
  add.s64 %rd1, %rd1, 64;
  setp.lt.s32 %p1, %r7, 100;
  @%p1 bra again;
  ret;
}
"""


@needs_tools
def test_emulated_matrix_instructions_are_found():
    mnemonic = "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32"
    assert matrix_instructions(FP8) == {"k": (mnemonic,)}
    for target, expected in (("sm_89", {}), ("sm_90", {"k": (mnemonic,)}), ("sm_120", {})):
        listings = disassemble(assemble(FP8, target).cubin)
        assert emulated(FP8, listings) == expected
        found = statistics(listings["k"])
        assert found.instruction_mix["tensor"] == (2 if expected else 1) * _unrolled(found)


def test_a_text_without_functions_has_no_matrix_instructions():
    assert matrix_instructions(".version 7.0\n.target sm_80\n.address_size 64\n") == {}


def _unrolled(found):
    """How many turns of the loop of FP8 the assembler has put into its code."""
    return found.instruction_mix["load"] // 3


@needs_tools
def test_kernels_come_first():
    listings = disassemble(assemble(FP8, "sm_90").cubin)
    assert next(iter(listings.values())).is_kernel
    assert "HMMA" in listings["k"].text


@pytest.mark.skipif(find_nvdisasm() is None, reason="no disassembler")
def test_what_is_no_cubin_is_refused():
    with pytest.raises(HectoriteError, match="nvdisasm refuses the cubin"):
        disassemble(b"not a cubin")
