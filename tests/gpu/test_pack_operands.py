"""Operands packed for bulk copies into blocks for descriptors: the same products as without."""

import re
from pathlib import Path

import numpy as np
import pytest
from tile_products import Case
from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp
from xdsl.parser import Parser

import hectorite
from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.machine_code.resources import machine_code
from hectorite.backends.machine_code.sass import find_nvdisasm
from hectorite.backends.ptx.machine import Launch, execute
from hectorite.backends.ptx.print import module_to_text
from hectorite.backends.ptx.watch import Checks
from hectorite.dialects.context import make_context
from hectorite.dialects.tile import KernelOp, ProductOp
from hectorite.dialects.tile_async import CopyOp
from hectorite.ir.element import ELEMENTS
from hectorite.ir.ptx.parse import parse_ptx
from hectorite.ir.target import target
from hectorite.lowering.gpu import pack_operands
from hectorite.lowering.gpu.assign_layouts import AssignLayouts
from hectorite.lowering.gpu.insert_barriers import InsertBarriers
from hectorite.lowering.gpu.pack_operands import PackOperands
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.stage_products import StageProducts
from hectorite.lowering.ptx.tile_to_ptx import tile_to_ptx

GPU = "sm_90a"
CASES = [
    Case(64, 64, 100, 64, 64, "f16", "f16", threads=128, fixed=True),
    Case(128, 256, 128, 128, 128, "bf16", "bf16", threads=256, fixed=True),
    Case(128, 96, 128, 64, 32, "f16", "f16", kind="flipped", threads=128, fixed=True),
    Case(64, 64, 140, 64, 64, "i8", "u8", "i32", kind="flipped", threads=128, fixed=True),
    Case(128, 64, 192, 64, 64, "f16", "f16", kind="gathered", threads=128, fixed=True),
]
"""The last one gathers its rows, so only its weights are packed."""

PROGRAM = """
def product(A: f16[M, K], B: f16[K, N]) -> f16[M, N] {
  C[m, n] += A[m, k] * B[k, n]
  return C
}
schedule { C: tile(m = 64, n = 64) pipeline(3) }
"""


def staged(case: Case, stages: int) -> ModuleOp:
    module = case.module()
    for each in (
        PackOperands(GPU, always=True),
        StageProducts(GPU),
        PipelineCopies(GPU, stages),
    ):
        each.apply(Context(), module)
        module.verify()
    return module


def packed(operand: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """The format in NumPy: panels of 128-byte rows whose pieces of 16 bytes are exchanged."""
    rows, columns = (-(-n // b) * b for n, b in zip(operand.shape, block, strict=True))
    whole = np.zeros((rows, columns), operand.dtype)
    whole[: operand.shape[0], : operand.shape[1]] = operand
    unit, row, place = 16 // operand.itemsize, np.arange(rows)[:, None], np.arange(8)
    panels = whole.reshape(rows, -1, 8, unit).swapaxes(0, 1)
    return np.ascontiguousarray(panels[:, row, place ^ row % 8]).reshape(len(panels), rows, -1)


def test_documented_example():
    """Launches and products of the file's example, without their types."""

    def shown(text: str) -> list[str]:
        lines = re.sub(r" : \(.*| : i64|(?<=%k) : .*> -> [^ \n]*", "", text).splitlines()
        names = ("tile.launch @", "tile.product %")
        return [line.strip() for line in lines if any(name in line for name in names)]

    module, (before, after) = CASES[0].module(), pack_operands.__doc__.split("\nbecomes\n")
    assert shown(str(module)) == shown(before)
    PackOperands(GPU, always=True).apply(Context(), module)
    assert shown(str(module)) == shown(after)


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tile_level_agrees(case: Case, stages: int):
    module = staged(case, stages)
    text = str(module)
    again = Parser(make_context(), text).parse_module()
    assert str(again) == text and " spread " in text
    arguments = case.arguments()
    np.testing.assert_array_equal(case.interpret(again, arguments), case.expected(arguments))


def test_what_is_packed_how():
    """The kernel that packs against the format in NumPy."""
    case = CASES[0]
    module = case.module()
    PackOperands(GPU, always=True).apply(Context(), module)
    (product,) = [op for op in module.walk() if isinstance(op, ProductOp)]
    assert {name for name in product.attributes if "packed" in name} == {"packed_a", "packed_b"}
    text = str(module).replace("tile.return %y : !hec.tensor<f32[64, 64]>",
                               "tile.return %4 : !hec.tensor<f16[2, 64, 64]>")  # fmt: skip
    text = text.replace("-> !hec.tensor<f32[64, 64]> {", "-> !hec.tensor<f16[2, 64, 64]> {", 1)
    arguments = case.arguments()
    got = case.interpret(Parser(make_context(), text).parse_module(), arguments)
    np.testing.assert_array_equal(got, packed(arguments["x"], (64, 64)))


@pytest.mark.parametrize(
    ("case", "stages", "schedule"),
    [(CASES[0], 3, "lockstep"), (CASES[0], 1, "lockstep"), (CASES[1], 2, "lockstep"),
     (CASES[2], 3, "lockstep"), (CASES[3], 2, "lockstep"), (CASES[4], 3, "lockstep")],
    ids=str,
)  # fmt: skip
def test_ptx_agrees(case: Case, stages: int, schedule: str):
    module = staged(case, stages)
    AssignLayouts().apply(Context(), module)
    InsertBarriers().apply(Context(), module)
    copies = [op for op in module.walk() if isinstance(op, CopyOp) and op.is_spread]
    blocks = {op.source.name_hint: op.target.type.dims[-2:] for op in copies}
    lowered, shapes = tile_to_ptx(module, target(GPU))
    lowered.verify()
    text, arguments = module_to_text(lowered), case.arguments()
    assert "wgmma.mma_async" in text
    given = [
        packed(arguments[name], blocks[f"{name}_packed"])
        for name in ("x", "w")
        if f"{name}_packed" in blocks
    ]
    y = np.zeros((case.m, case.n), ELEMENTS[case.c].storage)
    tasks = (case.m // case.rows) * (case.n // case.columns)
    values = [arguments["x"], arguments["w"], arguments["picks"], y, *given, np.int32(tasks)]
    shape = shapes["k"]
    launch = Launch(parse_ptx(text), "k", (tasks,), (shape.block,), values, shape.shared)
    report = execute(launch, schedule, Checks.everything(), unwritten=(y,))
    assert report.findings == []
    np.testing.assert_array_equal(y, case.expected(arguments))


@pytest.mark.parametrize("sizes", [(128, 128, 192), (128, 200, 100), (130, 128, 320)], ids=str)
def test_whole_programs_agree(sizes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Through the plan, which has the launches that pack, in compiled mode and checked."""
    monkeypatch.setattr(pack_operands, "_pays", lambda *_: True)
    m, n, k = sizes
    (tmp_path / "product.hec").write_text(PROGRAM)
    text = hectorite.emit(
        tmp_path / "product.hec", "ptx", sizes={"M": m, "N": n, "K": k}, target=GPU
    )
    assert "_pack" in text and "wgmma" in text
    (tmp_path / "product.ptx").write_text(text)
    program = hectorite.compile(tmp_path / "product.ptx", target=f"ptx:{GPU}")
    draw = np.random.default_rng(0)
    a = draw.integers(-3, 4, (m, k)).astype(np.float16)
    b = draw.integers(-3, 4, (k, n)).astype(np.float16)
    np.testing.assert_array_equal(program.product(A=a, B=b), (a.astype("f4") @ b).astype("f2"))


def test_packing_is_little_beside_the_product():
    """Large products pack both operands; smaller ones, and those with few columns, do not."""
    program = Path(__file__).parents[2] / "benchmarks" / "programs" / "static.hec"

    def bulk(m: int, n: int, k: int, name: str = GPU) -> bool:
        sizes = {"M": m, "N": n, "K": k}
        text = hectorite.emit(program, "ptx", sizes=sizes, function="product", target=name)
        return "cp.async.bulk" in text

    assert bulk(8192, 8192, 8192)
    assert not bulk(4096, 4096, 4096)
    assert not bulk(65536, 128, 128)
    assert not bulk(8192, 8192, 8192, "sm_90")


@pytest.mark.skipif(
    not installed() or find_nvdisasm() is None, reason="no assembler, or no disassembler"
)
def test_machine_code():
    """More flops for each instruction than with cp.async, and no spills."""
    program = Path(__file__).parents[2] / "benchmarks" / "programs" / "static.hec"
    found = {}
    for size in (4096, 8192):
        sizes = dict.fromkeys("MNK", size)
        text = hectorite.emit(program, "ptx", sizes=sizes, function="product", target=GPU)
        kernels = {k.name: k for k in machine_code(text, GPU, listed=True).kernels}
        assert all(kernel.spill_bytes == 0 for kernel in kernels.values())
        assert "serialized" not in assemble(text, GPU).log
        found[size] = kernels["product_0"].statistics.flop_per_instruction
    assert found[8192] >= found[4096] >= 3013


def test_a_parameter_that_is_written_is_not_packed():
    case = CASES[0]
    store = "tile.store %zero_f, %w[%zero, %zero] : !hec.tensor<f16[100, 64]>, f16"
    text = case.text().replace("  tile.end", f"  {store}\n  tile.end")
    zero = "  %zero_f = scalar.constant 0.0 : f16\n"
    text = text.replace("  %zero = scalar", f"{zero}  %zero = scalar", 1)
    module = Parser(make_context(), text).parse_module()
    PackOperands(GPU, always=True).apply(Context(), module)
    (product,) = [op for op in module.walk() if isinstance(op, ProductOp)]
    assert isinstance(product.attributes["packed_a"], IntegerAttr)
    assert "packed_b" not in product.attributes
    assert len([op for op in module.ops if isinstance(op, KernelOp)]) == 2
