"""What is known to divide an index: the proof that neighbouring elements are one aligned access.

Enters: an index value inside a kernel. Leaves: a number that divides it whatever the task.
"""

from __future__ import annotations

from math import gcd

from xdsl.dialects.builtin import VectorType
from xdsl.dialects.scf import ForOp
from xdsl.ir import BlockArgument, SSAValue

from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp

MOST = 64
"""No access is wider than this many elements, so no greater divisor matters."""

_COMMON = ("add", "sub", "min", "max")


def divisor(value: SSAValue) -> int:
    """The greatest power of two up to 64 that is known to divide an index."""
    return gcd(_divisor(value, 8), MOST)


def _divisor(value: SSAValue, depth: int) -> int:
    if depth == 0 or isinstance(value.type, VectorType):
        return 1
    if isinstance(value, BlockArgument):
        loop = value.owner.parent_op()
        if isinstance(loop, ForOp) and value.index == 0:
            return gcd(_divisor(loop.lb, depth - 1), _divisor(loop.step, depth - 1))
        return 1
    op = value.owner
    if isinstance(op, ConstantOp):
        return abs(int(op.number)) or MOST
    if isinstance(op, CastOp):
        return _divisor(op.input, depth - 1)
    if not isinstance(op, ScalarOp):
        return 1
    parts = [_divisor(operand, depth - 1) for operand in op.operands]
    name = op.FUNCTION.name
    if name in _COMMON:
        return gcd(*parts)
    if name == "mul":
        return parts[0] * parts[1]
    return gcd(*parts[1:]) if name == "select" else 1
