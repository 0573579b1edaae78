"""Copies in bulk: chosen where they take fewer instructions, and right for any number of stages."""

import numpy as np
import pytest
from tile_products import Case, Compiled, compiled
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.parser import Parser

from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.ptx.print import module_to_text
from hectorite.backends.ptx.watch import Checks
from hectorite.dialects.context import make_context
from hectorite.dialects.tile_async import CommitOp, CopyOp
from hectorite.dialects.tile_bulk import AwaitOp, ReleaseOp
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.target import target
from hectorite.lowering.gpu import pipeline_copies
from hectorite.lowering.gpu.assign_layouts import AssignLayouts
from hectorite.lowering.gpu.bulk_copies import chosen_for_bulk, pieces
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.stage_products import StageProducts
from hectorite.lowering.ptx.tile_to_ptx import tile_to_ptx

BULK = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"

CASES = [
    Case(32, 16, 96, 16, 16, threads=64, fixed=True),
    Case(48, 32, 64, 16, 32, "f16", "f16", kind="gathered", fixed=True),
    Case(48, 32, 160, 16, 32, "tf32", "tf32", kind="grouped", fixed=True),
    Case(128, 64, 128, 64, 64, kind="flipped", fixed=True, threads=128),
    Case(128, 64, 16, 64, 64, kind="transposed", fixed=True, threads=128),
    Case(64, 64, 64, 64, 32, "i8", "i8", "i32", kind="flipped", fixed=True, threads=128),
]
"""Their rows and blocks are aligned to 16 bytes and full."""

DEEP = Case(64, 128, 128, 16, 128, threads=32, fixed=True)
"""A warp alone copies enough for bulk copies to be fewer instructions."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch):
    """Whatever can go in bulk goes in bulk."""

    def every(copies, threads, machine):
        return [c for c in copies if machine.has("bulk_copy") and pieces(c, threads) is not None]

    monkeypatch.setattr(pipeline_copies, "chosen_for_bulk", every)


def pipelined(case: Case, stages: int) -> ModuleOp:
    module = case.module()
    StageProducts("sm_90").apply(Context(), module)
    PipelineCopies("sm_90", stages).apply(Context(), module)
    module.verify()
    return module


def copies_of(case: Case, name: str) -> list[CopyOp]:
    module = case.module()
    StageProducts(name).apply(Context(), module)
    copies = [op for op in module.walk() if isinstance(op, CopyOp)]
    return chosen_for_bulk(copies, case.threads, target(name))


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_tile_level_agrees(case: Case, stages: int, always: None):
    """More stages than iterations too; and the text is the program again."""
    module = pipelined(case, stages)
    text = str(module)
    assert "tile.copy async bulk" in text
    again = Parser(make_context(), text).parse_module()
    again.verify()
    assert str(again) == text
    arguments = case.arguments()
    np.testing.assert_array_equal(case.interpret(again, arguments), case.expected(arguments))


@pytest.mark.parametrize(
    ("case", "stages", "schedule"),
    [
        (CASES[0], 1, "lockstep"),
        (CASES[0], 2, "sequential"),
        (CASES[1], 5, "reversed"),
        (CASES[1], 3, "lockstep"),
        (CASES[2], 4, "lockstep"),
        (CASES[3], 3, "lockstep"),
        (CASES[4], 3, "lockstep"),
        (CASES[5], 2, "lockstep"),
    ],
    ids=str,
)
def test_ptx_agrees(case: Case, stages: int, schedule: str, always: None):
    made, arguments = compiled(case, "sm_90", stages), case.arguments()
    assert BULK in made.text
    result, report = made.run(arguments, schedule, Checks.everything())
    assert report.findings == []
    np.testing.assert_array_equal(result, case.expected(arguments))
    shared = [line for line in report.traffic if line.space == "shared"]
    assert all(line.taken == line.ideal for line in shared)


@pytest.mark.skipif(not installed(), reason="no assembler is installed")
@pytest.mark.parametrize("name", ["sm_90", "sm_90a"])
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_assembles(case: Case, name: str, always: None):
    assembled = assemble(compiled(case, name, 3).text, name)
    assert assembled.kernels["k"].spill_bytes == 0


@pytest.mark.parametrize("k", [1, 17, 40, 130])
def test_what_is_not_full_stays_cp_async(k: int, always: None):
    """Bulk copies fill nothing with zeros."""
    case = Case(19, 11, k)
    module = pipelined(case, 3)
    assert not any(isinstance(op, CopyOp) and op.is_bulk for op in module.walk())
    arguments = case.arguments()
    np.testing.assert_array_equal(case.interpret(module, arguments), case.expected(arguments))


def test_what_they_cost_decides():
    assert copies_of(DEEP, "sm_80") == []  # has none
    chosen = copies_of(DEEP, "sm_90")
    assert [pieces(op, 32) for op in chosen] == [pieces(chosen[0], 32)]
    assert pieces(chosen[0], 32).count == 1 and pieces(chosen[0], 32).bytes == 16 * 128 * 4
    # Two cp.async of each thread are fewer instructions than waiting for a barrier object.
    assert copies_of(Case(64, 64, 64, 64, 64, fixed=True, threads=128), "sm_90") == []
    # Rows of 64 bytes never pay.
    assert all(op.rows_along is not None for op in chosen)


def test_other_copies_keep_their_groups():
    """Gathered rows come by cp.async, weights in bulk: an iteration waits for both."""
    module = pipelined(DEEP, 3)
    copies = [op for op in module.walk() if isinstance(op, CopyOp)]
    assert {op.is_bulk for op in copies} == {True, False}
    assert any(isinstance(op, CommitOp) for op in module.walk())
    arguments = DEEP.arguments()
    np.testing.assert_array_equal(DEEP.interpret(module, arguments), DEEP.expected(arguments))
    result, report = compiled(DEEP, "sm_90", 3).run(arguments)
    assert report.findings == []
    np.testing.assert_array_equal(result, DEEP.expected(arguments))


@pytest.mark.parametrize("schedule", ["lockstep", "sequential"])
def test_a_missing_wait_is_found(schedule: str, always: None):
    case = CASES[0]
    made = compiled(case, "sm_90", 2)
    lines = made.text.splitlines()
    (at,) = [n for n, line in enumerate(lines) if "mbarrier.try_wait" in line]
    # The wait and the branch back to it.
    broken = "\n".join(lines[:at] + lines[at + 2 :])
    _, report = Compiled(case, broken, made.shape, made.sizes).run(case.arguments(), schedule)
    assert {finding.kind for finding in report.findings} <= {"race", "uninitialized"}
    assert any("before it was waited for" in finding.message for finding in report.findings)


def test_a_missing_wait_at_the_tile_level(always: None):
    case = CASES[0]
    module = pipelined(case, 3)
    for op in [op for op in module.walk() if isinstance(op, AwaitOp)]:
        op.detach()
        op.erase()
    with pytest.raises(HectoriteError, match="read before its copy has been waited for"):
        case.interpret(module, case.arguments())


def test_a_pipeline_that_is_repeated_releases_its_objects(always: None):
    """Products in a loop: each begins with fresh objects."""
    case = CASES[0]
    text = case.text()
    product = next(line for line in text.splitlines() if "tile.product" in line)
    wrapped = [
        "  %start = scalar.constant 0.0 : vector<16x16xf32>",
        "  %once = scalar.constant 1 : index",
        "  %p = scf.for %turn = %zero to %two step %once iter_args(%sum = %start) -> "
        "(vector<16x16xf32>) {",
        product.replace("%p =", "%part =").replace("tile.product %x", "tile.product %sum + %x"),
        "    scf.yield %part : vector<16x16xf32>",
        "  }",
    ]
    module = Parser(make_context(), text.replace(product, "\n".join(wrapped))).parse_module()
    StageProducts("sm_90").apply(Context(), module)
    for stages in (1, 3):
        again = module.clone()
        PipelineCopies("sm_90", stages).apply(Context(), again)
        again.verify()
        assert any(isinstance(op, ReleaseOp) for op in again.walk())
        arguments = case.arguments()
        result = case.interpret(again, arguments)
        np.testing.assert_array_equal(result, 2 * case.expected(arguments))
        AssignLayouts().apply(Context(), again)
        lowered, shapes = tile_to_ptx(again, target("sm_90"))
        lowered.verify()
        made = Compiled(case, module_to_text(lowered), shapes["k"], ())
        result, report = made.run(arguments)
        assert report.findings == []
        np.testing.assert_array_equal(result, 2 * case.expected(arguments))


UNALIGNED = """
tile.kernel @k(%task: index, %x: !hec.tensor<f32[4, 8]>) {
  %zero = scalar.constant 0 : index
  %one = scalar.constant 1 : index
  %s = tile.shared : !hec.tensor<f32[2, 4]>
  %m = tile.mbarrier : !tile.mbarrier<1>
  tile.copy async bulk %x[%zero, %one] rows 0 axis 1 to %s[%zero, %zero] tells %m[%zero] \
shape [2, 4] : !hec.tensor<f32[4, 8]>, !hec.tensor<f32[2, 4]>
  tile.end
}
"""


def test_rows_that_are_not_aligned_are_refused():
    module = Parser(make_context(), UNALIGNED).parse_module()
    with pytest.raises(HectoriteError, match="aligned to 16 bytes"):
        tile_to_ptx(module, target("sm_90"))
