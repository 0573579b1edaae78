"""Products by groups of warps that overlap: the next one begins before the last is done."""

import numpy as np
import pytest
from tile_products import Case, Compiled, compiled
from xdsl.context import Context
from xdsl.dialects.scf import IfOp

from hectorite.backends.machine_code.assemble import assemble, installed
from hectorite.backends.ptx.watch import Checks
from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import CopyOp, FinishOp, WaitOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.stage_products import IN_FLIGHT, StageProducts

GPU = "sm_90a"
ONE_LEFT, NONE_LEFT = (f"wgmma.wait_group.sync.aligned {n};" for n in (1, 0))
CASE = Case(64, 64, 330, 64, 64, "bf16", "bf16", kind="flipped", threads=128, fixed=True)


@pytest.mark.parametrize(
    ("stages", "k", "kind"),
    [(4, 30, "grouped"), (5, 64, "flipped"), (5, 128, "grouped"), (4, 330, "flipped")],
)
def test_agrees(stages: int, k: int, kind: str):
    """Loops shorter than the pipeline, and blocks that are not full, too."""
    case = Case(60, 60, k, 64, 64, "f16", "f16", kind=kind, threads=128)
    made, arguments = compiled(case, GPU, stages), case.arguments()
    assert made.text.count(ONE_LEFT) == 1
    result, report = made.run(arguments, checks=Checks())
    assert report.findings == []
    np.testing.assert_array_equal(result, case.expected(arguments))


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_tile_level(stages: int):
    module = CASE.module()
    StageProducts(GPU).apply(Context(), module)
    PipelineCopies(GPU, stages).apply(Context(), module)
    module.verify()
    (product,) = [op for op in module.walk() if isinstance(op, ProductOp)]
    overlaps = stages > 3
    assert (IN_FLIGHT in product.attributes) == overlaps
    assert any(isinstance(op, FinishOp) for op in module.walk()) == overlaps
    if overlaps:  # the stage that is filled was read two iterations ago
        (wait,) = [op for op in module.walk() if isinstance(op, WaitOp)]
        assert wait.count == stages - 3
    arguments = CASE.arguments()
    np.testing.assert_array_equal(CASE.interpret(module, arguments), CASE.expected(arguments))


def test_a_stage_that_a_product_still_reads():
    """The tile interpreter finds a copy that comes an iteration too early."""
    module = CASE.module()
    StageProducts(GPU).apply(Context(), module)
    PipelineCopies(GPU, 4).apply(Context(), module)
    (product,) = [op for op in module.walk() if isinstance(op, ProductOp)]
    (branch,) = [op for op in product.parent.ops if isinstance(op, IfOp)]
    stage = product.a_indices[0]
    for copy in branch.walk():
        if isinstance(copy, CopyOp):  # into the stage that the product reads
            copy.operands = [stage if o is copy.places[0] else o for o in copy.operands]
    branch.detach()
    # A barrier tells that all threads have begun the product, not that it is done.
    product.parent.insert_ops_after([BarrierOp(), branch], product)
    with pytest.raises(HectoriteError, match="while a product that reads it is under way"):
        CASE.interpret(module, CASE.arguments())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (NONE_LEFT, "reads %f0 before `wgmma.wait_group` has waited"),
        (ONE_LEFT, "is written before `wgmma.wait_group` has waited"),
    ],
)
def test_both_waits_are_needed(line: str, message: str):
    made = compiled(CASE, GPU, 4)
    broken = Compiled(CASE, made.text.replace(line, ""), made.shape, made.sizes)
    _, report = broken.run(CASE.arguments(), checks=Checks())
    assert {finding.kind for finding in report.findings} == {"race"}
    assert any(message in finding.message for finding in report.findings)


@pytest.mark.skipif(not installed(), reason="no assembler is installed")
@pytest.mark.parametrize("stages", [3, 4, 5])
def test_the_assembler_keeps_them_asynchronous(stages: int):
    case = Case(4096, 4096, 4096, 128, 128, "f16", "f16", threads=256, fixed=True)
    assembled = assemble(compiled(case, GPU, stages).text, GPU)
    assert assembled.kernels["k"].spill_bytes == 0
    assert "serialized" not in assembled.log
