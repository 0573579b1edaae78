"""A product and a sum as one instruction, which rounds once.

Enters: a sum of floats at the tile level, one of whose terms is a product that nobody else wants.
Leaves: the three operands of `a * b + c`, for an `fma`.
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from hectorite.ir.element import ElementType, element_of
from hectorite.ir.scalar import OPERATIONS, ScalarOp, scalar_type
from hectorite.lowering.ptx.arithmetic import apply
from hectorite.lowering.ptx.convert import register_type
from hectorite.lowering.ptx.writer import PtxCode

_ADD, _MUL = OPERATIONS["add"], OPERATIONS["mul"]


def multiply_add(
    code: PtxCode, a: SSAValue, b: SSAValue, c: SSAValue, element: ElementType
) -> SSAValue:
    """a * b + c of registers of one element type."""
    if element.is_float:
        return code.op(f"fma.rn.{register_type(element)}", a, b, c)
    if element.name in ("i32", "index"):
        return code.op("mad.lo.s32", a, b, c)
    return apply(code, "add", element, [apply(code, "mul", element, [a, b]), c])


def fused_operands(op: ScalarOp) -> tuple[SSAValue, SSAValue, SSAValue] | None:
    """a, b and c if the operation is a * b + c and alone in using the product; else None."""
    product = _fused_product(op)
    if product is None:
        return None
    first, second = op.operands
    a, b = product.operands
    return a, b, second if first is product.result else first


def is_fused_away(op: ScalarOp) -> bool:
    """Whether a product becomes part of the sum that uses it."""
    if not isinstance(op, _MUL) or op.result.uses.get_length() != 1:
        return False
    (use,) = op.result.uses
    return isinstance(use.operation, ScalarOp) and _fused_product(use.operation) is op


def _fused_product(op: ScalarOp) -> ScalarOp | None:
    """The product that a sum takes in: its first term if both are products."""
    if not isinstance(op, _ADD) or not element_of(scalar_type(op.result.type)).is_float:
        return None
    for term in op.operands:
        if isinstance(term.owner, _MUL) and term.uses.get_length() == 1:
            return term.owner
    return None
