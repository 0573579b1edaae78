"""`canonicalize-graph`: fold constants and drop scalar operations that change nothing.

Enters: the `graph` dialect. Leaves: the same, with simpler bodies. Only identities that hold for
every value are used, NaN, infinities and the sign of zero included: `x + 0` goes for integers, but
for floats only `x + -0.0`. Index variables stay even if nothing depends on them, because a variable
that is reduced counts how often the value is combined.

    y[e] = x[e] / sqrt(4.0)

becomes

    y[e] = x[e] * 0.5
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, OpResult, SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.rounding import holds, stored
from hectorite.ir.scalar import OPERATIONS, Array, CastOp, ConstantOp, ScalarOp, apply, convert

Simpler = SSAValue | Operation | None
"""What may stand for an operation: a value, a new operation, or nothing better."""


@dataclass(frozen=True)
class CanonicalizeGraph(ModulePass):
    """Fold constants and drop scalar operations that change nothing."""

    name = "canonicalize-graph"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for inner in op.walk():
            if isinstance(inner, StatementOp | FuncOp):
                _canonicalize(inner)


def _canonicalize(parent: StatementOp | FuncOp) -> None:
    block = parent.body.block
    for op in list(block.ops):
        if not isinstance(op, ScalarOp | CastOp):
            continue
        simpler = simplified(op)
        if simpler is None:
            continue
        if isinstance(simpler, Operation):
            block.insert_op_before(simpler, op)
            simpler = simpler.results[0]
        op.results[0].replace_all_uses_with(simpler)
        op.detach()
        op.erase()
    for op in reversed(list(block.ops)):
        if isinstance(op, ScalarOp | CastOp | ConstantOp) and not op.results[0].uses:
            op.detach()
            op.erase()


def simplified(op: ScalarOp | CastOp) -> Simpler:
    """What may stand for a scalar operation, or None."""
    if isinstance(op, CastOp):
        return _folded_cast(op) or _shorter_cast(op)
    rule = RULES.get(op.FUNCTION.name)
    return _folded(op) or (rule(op) if rule is not None else None)


def constant_of(value: SSAValue) -> float | int | None:
    """The number that a value is known to be."""
    owner = value.op if isinstance(value, OpResult) else None
    return owner.number if isinstance(owner, ConstantOp) else None


def _element(value: SSAValue) -> ElementType:
    return element_of(value.type)


def _stored(value: Array, element: ElementType) -> float | int:
    with np.errstate(all="ignore"):
        return stored(value, element).astype(_carrier(element)).item()


def _carrier(element: ElementType) -> np.dtype[Any]:
    """A NumPy type in which a constant is computed with."""
    return np.dtype(np.float64 if element.is_float else np.int64)


def _number(value: SSAValue) -> Array:
    element = _element(value)
    number = np.asarray(constant_of(value), _carrier(element))
    if element.kind == "bool":
        return number != 0
    return np.asarray(_stored(number, element), _carrier(element))


def _folded(op: ScalarOp) -> Simpler:
    if any(constant_of(operand) is None for operand in op.operands):
        return None
    element = _element(op.operands[-1])
    value = apply(op.FUNCTION.name, [_number(operand) for operand in op.operands], element)
    return ConstantOp(_stored(value, _element(op.result)), op.result.type)


def _folded_cast(op: CastOp) -> Simpler:
    if constant_of(op.input) is None:
        return None
    value = convert(_number(op.input), _element(op.input), _element(op.result))
    return ConstantOp(_stored(value, _element(op.result)), op.result.type)


def _shorter_cast(op: CastOp) -> Simpler:
    if op.input.type == op.result.type:
        return op.input
    inner = op.input.op if isinstance(op.input, OpResult) else None
    # A cast that every value survives may as well not have been.
    if not isinstance(inner, CastOp) or not holds(_element(op.input), _element(inner.input)):
        return None
    return (
        inner.input if inner.input.type == op.result.type else CastOp(inner.input, op.result.type)
    )


def _other(op: ScalarOp, number: float | int) -> SSAValue | None:
    """The second of two operands of which one, in any order, is the constant `number`."""
    for one, other in (op.operands, reversed(op.operands)):
        found = constant_of(one)
        if found is None or found != number:
            continue
        if math.copysign(1, found) == math.copysign(1, number):
            return other
    return None


def _same(op: ScalarOp) -> SSAValue | None:
    return op.operands[0] if op.operands[0] is op.operands[1] else None


def _add(op: ScalarOp) -> Simpler:
    return _other(op, -0.0 if _element(op.result).is_float else 0)


def _sub(op: ScalarOp) -> Simpler:
    right = constant_of(op.operands[1])
    if right == 0 and math.copysign(1, right) == 1:
        return op.operands[0]
    if _same(op) is not None and not _element(op.result).is_float:
        return ConstantOp(0, op.result.type)
    return None


def _mul(op: ScalarOp) -> Simpler:
    if (value := _other(op, 1)) is not None:
        return value
    if (value := _other(op, -1)) is not None:
        return OPERATIONS["neg"](value)
    if not _element(op.result).is_float and _other(op, 0) is not None:
        return ConstantOp(0, op.result.type)
    return None


def _div(op: ScalarOp) -> Simpler:
    value, divisor = op.operands[0], constant_of(op.operands[1])
    if divisor == 1:
        return value
    if divisor is None or not math.isfinite(divisor) or abs(math.frexp(divisor)[0]) != 0.5:
        return None
    if abs(math.frexp(divisor)[1]) > 100:
        return None  # the reciprocal might not be a normal number of a shorter type
    reciprocal = ConstantOp(1 / divisor, op.result.type)
    assert op.parent is not None
    op.parent.insert_op_before(reciprocal, op)
    return OPERATIONS["mul"](value, reciprocal.result)


def _floordiv(op: ScalarOp) -> Simpler:
    if constant_of(op.operands[1]) == 1 and not _element(op.result).is_float:
        return op.operands[0]
    return None


def _mod(op: ScalarOp) -> Simpler:
    if constant_of(op.operands[1]) == 1 and not _element(op.result).is_float:
        return ConstantOp(0, op.result.type)
    return None


def _pow(op: ScalarOp) -> Simpler:
    base, exponent = op.operands[0], constant_of(op.operands[1])
    if exponent == 0:
        return ConstantOp(1, op.result.type)
    if exponent == 1:
        return base
    return OPERATIONS["mul"](base, base) if exponent == 2 else None


def _same_inside(op: ScalarOp) -> Operation | None:
    """What gives the operand of a function, if that is the same function."""
    owner = op.operands[0].owner
    return owner if isinstance(owner, ScalarOp) and type(owner) is type(op) else None


def _twice(op: ScalarOp) -> Simpler:
    """f(f(x)) is x."""
    inner = _same_inside(op)
    return None if inner is None else inner.operands[0]


def _once(op: ScalarOp) -> Simpler:
    """f(f(x)) is f(x)."""
    return None if _same_inside(op) is None else op.operands[0]


def _and(op: ScalarOp) -> Simpler:
    if _other(op, 0) is not None:
        return ConstantOp(0, op.result.type)
    return _same(op) or _other(op, 1)


def _or(op: ScalarOp) -> Simpler:
    if _other(op, 1) is not None:
        return ConstantOp(1, op.result.type)
    return _same(op) or _other(op, 0)


def _select(op: ScalarOp) -> Simpler:
    condition, yes, no = op.operands
    if yes is no:
        return yes
    known = constant_of(condition)
    return None if known is None else (yes if known else no)


RULES: dict[str, Callable[[ScalarOp], Simpler]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _pow,
    "neg": _twice,
    "not": _twice,
    "abs": _once,
    "relu": _once,
    "floor": _once,
    "ceil": _once,
    "round": _once,
    "min": _same,
    "max": _same,
    "and": _and,
    "or": _or,
    "select": _select,
}
"""Simplifications of each function."""
