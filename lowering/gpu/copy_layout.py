"""How a copy to shared memory is shared out among the threads of a task.

Enters: a `tile.copy` and a number of threads. Leaves: the layout of its block: neighbouring threads
have neighbouring runs of a row, each as many elements as one access may take, 16 bytes at most;
and the layout in which it wants a vector of indices of rows. Of a bulk copy a thread has a row.
"""

from __future__ import annotations

from math import gcd
from typing import cast

from hectorite.dialects.tile_async import CopyOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.layout import Layout
from hectorite.ir.space import TensorType
from hectorite.lowering.gpu.divisors import divisor
from hectorite.lowering.gpu.layouts import ACCESS_BYTES, blocked


def copy_layout(op: CopyOp, threads: int) -> Layout:
    """The layout of the block that is copied."""
    return blocked(op.block, threads, neighbours(op))


def rows_layout(op: CopyOp, threads: int) -> Layout:
    """The layout of a vector with an index for each row of the block."""
    if op.is_bulk:
        return blocked((op.block[0], 1), threads, 1).slice(0)
    return copy_layout(op, threads).slice(0)


def neighbours(op: CopyOp) -> int:
    """How many elements of a row, 16 bytes at most, are side by side on both sides, and aligned to
    as many."""
    source, target = (cast(TensorType, t.type) for t in (op.source, op.target))
    last = len(source.dims) - 1
    if op.column_axis != last:
        return 1
    common = gcd(ACCESS_BYTES // source.element_type.storage.itemsize, op.block[1])
    common = gcd(common, cast(int, target.dims[-1]), divisor(op.places[-1]))
    stride = 1
    for axis in range(last, -1, -1):
        index = op.indices[axis]
        common = gcd(common, stride * (1 if shape_of(index.type) else divisor(index)))
        if axis == op.rows_along:
            common = gcd(common, stride)
        extent = source.dims[axis]
        stride *= extent if isinstance(extent, int) else 1
    return common
