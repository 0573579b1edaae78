"""Products as machine code: no spills, native instructions, and loops with little beside them."""

import pytest
from tile_products import Case, compiled

import hectorite
from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.machine_code.sass import disassemble, find_nvdisasm
from hectorite.backends.machine_code.sass_statistics import Statistics, statistics

pytestmark = pytest.mark.skipif(not installed(), reason="no assembler is installed")
disassembler = pytest.mark.skipif(find_nvdisasm() is None, reason="no disassembler is installed")

TYPES = [
    ("f16", "f16", "f32"),
    ("bf16", "bf16", "f32"),
    ("tf32", "tf32", "f32"),
    ("i8", "u8", "i32"),
    ("f32", "f32", "f32"),
    ("f16", "f32", "f32"),
    ("i16", "i16", "i64"),
]


def square(*types: str, kind: str = "rows", rows: int = 128) -> Case:
    """A product of 4096 x 4096 x 4096 in square blocks."""
    a, b, c = types
    threads = 256 if rows == 128 else 128
    return Case(4096, 4096, 4096, rows, rows, a, b, c, kind, threads, fixed=True)


def machine_code(case: Case, target: str) -> tuple[int, Statistics]:
    """Registers, and what the instructions are."""
    assembled = assemble(compiled(case, target, stages=3).text, target)
    assert assembled.kernels["k"].spill_bytes == 0
    listing = disassemble(assembled.cubin)["k"]
    return assembled.kernels["k"].registers, statistics(listing)


@pytest.mark.parametrize(("target", "kind"), [("sm_80", "gathered"), ("sm_90", "flipped")])
@pytest.mark.parametrize("types", TYPES, ids="-".join)
def test_no_spills(types: tuple[str, str, str], kind: str, target: str):
    case = square(*types, kind=kind, rows=64)
    assembled = assemble(compiled(case, target, stages=2).text, target)
    assert assembled.kernels["k"].spill_bytes == 0


@pytest.mark.parametrize("kind", ["rows", "gathered", "flipped"])
def test_groups_of_warps(kind: str):
    case = square("f16", "f16", "f32", kind=kind)
    assembled = assemble(compiled(case, "sm_90a", stages=3).text, "sm_90a")
    assert assembled.kernels["k"].spill_bytes == 0
    assert "serialized" not in assembled.log
    assert "wgmma" in compiled(case, "sm_90a", stages=3).text


@disassembler
def test_f16_main_loop():
    """At least what Triton 3.6 reaches: 1324 flops for each instruction, 128 registers."""
    registers, found = machine_code(square("f16", "f16", "f32"), "sm_80")
    assert found.main is not None
    assert found.main.flops / found.main.instructions >= 1324
    assert registers <= 128
    assert found.main.mix["tensor"] == 32


@disassembler
@pytest.mark.parametrize(
    ("types", "flops"),
    [
        (("bf16", "bf16", "f32"), 1324),
        (("tf32", "tf32", "f32"), 320),
        (("i8", "i8", "i32"), 1800),
        (("f32", "f32", "f32"), 55),
    ],
    ids=lambda value: str(value),
)
def test_other_main_loops(types: tuple[str, str, str], flops: int):
    _, found = machine_code(square(*types), "sm_80")
    assert found.main is not None
    assert found.main.flops / found.main.instructions >= flops


@pytest.mark.parametrize("target", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("type", "result"), [("f16", "f32"), ("i8", "i32"), ("tf32", "f32")])
def test_rows_that_are_copied_element_by_element_do_not_spill(type: str, result: str, target: str):
    """Rows of an odd number of elements begin anywhere."""
    program = f"""
        set node
        set etype
        set edge {{ src: node, dst: node, type: etype }}
        def f(x: {type}[node, 33], W: {type}[etype, 17, 33]) -> {result}[node, 17] {{
          y[e.dst, o] += x[e.src, i] * W[e.type, o, i]
          return y
        }}
    """
    text = hectorite.emit(program, "ptx", target=target)
    kernels = assemble(text, target).kernels
    assert [kernel.spill_bytes for kernel in kernels.values()] == [0] * len(kernels)
