"""Copies of blocks of operands that lie packed (`pack_operands.py`).

Enters: a product, one of its operands and the tensor [..., panel, row, 128 bytes] that it was
packed into. Leaves: for each block of k the copies of its panels, whose chunks of 16 bytes lie as
memory for descriptors has them. Panels are beside each other along the operand's last dimension:
that of the columns where k comes before them (`k_first`), else k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import SPREAD_BYTES, CopyOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.space import TensorType
from hectorite.lowering.kernels.row_runs import first_of_run
from hectorite.lowering.kernels.tile_code import Code


@dataclass(frozen=True)
class Operand:
    """One side of a product as a matrix: its tensor, the indices before its last two dimensions,
    the first of its rows (or columns) of the block, how many there are, whether k comes before
    them."""

    tensor: SSAValue
    others: tuple[SSAValue, ...]
    start: SSAValue
    count: int
    k_first: bool

    @property
    def line(self) -> int:
        """Elements in a row of a panel."""
        return SPREAD_BYTES // cast(TensorType, self.tensor.type).element_type.storage.itemsize

    def extents(self, depth: int) -> tuple[int, int]:
        """Of a block."""
        return (depth, self.count) if self.k_first else (self.count, depth)


def left_operand(op: ProductOp) -> Operand | None:
    """The rows of a product if they follow each other, with k along them; None if not."""
    if len(op.a_indices) < 2 or op.a_axis.value.data != len(op.a_indices) - 1:
        return None
    *others, rows, _ = op.a_indices
    first = first_of_run(rows) if shape_of(rows.type) else None
    if first is None or any(shape_of(other.type) for other in others):
        return None
    return Operand(op.a, tuple(others), first, shape_of(op.result.type)[0], k_first=False)


def right_operand(op: ProductOp) -> Operand | None:
    """The columns of a product, if they and k are the last two dimensions; None if not."""
    rank, k_axis, n_axis = len(op.b_indices), op.b_axis.value.data, op.column_axis
    if rank < 2 or {k_axis, n_axis} != {rank - 2, rank - 1}:
        return None
    columns = shape_of(op.result.type)[1]
    return Operand(
        op.b, tuple(op.b_indices[:-2]), op.b_indices[n_axis], columns, n_axis == rank - 1
    )


class PanelCopies:
    """The copies of one operand, in the loop over blocks of k."""

    def __init__(self, code: Code, operand: Operand, packed: SSAValue):
        """`code` writes before the loop."""
        self.operand, self.packed = operand, packed
        self.panels: list[SSAValue] = []
        if operand.k_first:
            self.panels = _beside(code, operand.start, operand.count, operand.line)

    def write(self, code: Code, k: SSAValue, depth: int, shared: SSAValue) -> None:
        """The copies of the block at k."""
        operand, zero = self.operand, code.constant(0)
        panels, row = self.panels, k
        if not operand.k_first:
            panels, row = _beside(code, k, depth, operand.line), operand.start
        last = len(operand.others) + 2
        shape = operand.extents(depth)[0], operand.line
        for number, panel in enumerate(panels):
            at: Sequence[SSAValue] = [*operand.others, panel, row, zero]
            places = [zero, code.constant(number * operand.line)]
            code.add(
                CopyOp(self.packed, at, last, shared, places, shape, row_axis=last - 1, spread=True)
            )


def _beside(code: Code, start: SSAValue, count: int, line: int) -> list[SSAValue]:
    """The panels of `count` elements from a multiple of `line` on."""
    first = code.scalar("floordiv", start, code.constant(line))
    return [code.plus(first, number) for number in range(count // line)]
