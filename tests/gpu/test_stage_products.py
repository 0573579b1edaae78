"""Products through shared memory compute what products from memory do."""

import numpy as np
import pytest
from tile_products import Case
from xdsl.context import Context
from xdsl.dialects.scf import ForOp

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import CopyOp
from hectorite.lowering.gpu.stage_products import StageProducts, is_shared

CASES = [
    Case(16, 8, 32),
    Case(37, 19, 45),
    Case(33, 8, 1, rows=32),
    Case(16, 8, 0),
    Case(21, 17, 40, kind="gathered", rows=16, columns=16),
    Case(21, 17, 40, kind="transposed", rows=16, columns=16),
    Case(40, 9, 33, kind="grouped"),
    Case(40, 9, 33, kind="flipped"),
    Case(20, 10, 64, a="f16", b="f16"),
    Case(20, 16, 70, a="i8", b="u8", c="i32", fixed=True),
    Case(20, 8, 64, a="bf16", b="f32", fixed=True),
    Case(20, 10, 31, a="f64", b="f64", c="f64", attributes="block_k = 8 : i64"),
    Case(20, 10, 31, a="i64", b="i16", c="i64", kind="transposed"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees(case: Case):
    module, arguments = case.module(), case.arguments()
    expected = case.expected(arguments)
    np.testing.assert_array_equal(case.interpret(module, arguments), expected)
    StageProducts().apply(Context(), module)
    module.verify()
    products = [op for op in module.walk() if isinstance(op, ProductOp)]
    assert all(is_shared(op.a) and is_shared(op.b) for op in products)
    np.testing.assert_array_equal(case.interpret(module, arguments), expected)


@pytest.mark.parametrize(("m", "blocks"), [(32, [(16, 16), (16, 8)]), (40, [(16, 16), (16, 8)])])
def test_transposed_rows_are_copied_as_they_lie(m: int, blocks: list[tuple[int, int]]):
    """Where every block of rows is whole; else rows repeat others, and are gathered."""
    module = Case(m, 16, 64, kind="transposed", fixed=True).module()
    StageProducts().apply(Context(), module)
    copies = [op for op in module.walk() if isinstance(op, CopyOp)]
    assert [op.block for op in copies] == blocks
    assert [op.rows_along for op in copies] == [0 if m == 32 else None, 0]


def test_no_counts_where_all_is_known():
    module = Case(32, 16, 64, fixed=True).module()
    StageProducts().apply(Context(), module)
    assert all(not op.valid for op in module.walk() if isinstance(op, CopyOp))


def test_stages_go_to_the_loop():
    module = Case(32, 16, 64, attributes="stages = 3 : i64").module()
    StageProducts().apply(Context(), module)
    (loop,) = [op for op in module.walk() if isinstance(op, ForOp)]
    assert "stages = 3" in str(loop)


def test_small_products_stay():
    module = Case(32, 16, 64, rows=8).module()
    before = str(module)
    StageProducts().apply(Context(), module)
    assert str(module) == before
