"""How the operands and the result of a `tile.product` are spread over the threads of a task.

Enters: a product and the number of threads. Leaves: the layout of its result, which is also that of
its initial tile, and the layout in which it wants each vector index of its rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.layout import Layout
from hectorite.lowering.gpu.layouts import blocked
from hectorite.lowering.gpu.product_plan import product_plan


@dataclass(frozen=True)
class ProductLayouts:
    """`result` is a tile of M rows and N columns, `rows` a vector of M indices."""

    result: Layout
    rows: Layout


def product_layouts(op: ProductOp, threads: int) -> ProductLayouts:
    """The layouts of a product of blocks, or of one where each thread is on its own."""
    plan = product_plan(op, threads)
    result = blocked(shape_of(op.result.type), threads) if plan is None else plan.layout
    return ProductLayouts(result, result.slice(0))
