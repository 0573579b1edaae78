"""Which vectors of indices are rows in a row.

Enters: a vector of indices of a kernel. Leaves: its first row, if lane l is that row plus l.

    lanes + splat %first                                     always
    select (lanes < splat %count), lanes + splat %first, splat %first
        if %count is min(min(%first + n, %extent) - %first, n) for n lanes, %first is a multiple of
        n and the extent is a number that n divides: the block is whole wherever there is a row
"""

from __future__ import annotations

from xdsl.ir import SSAValue

from hectorite.dialects.tile import LanesOp, SplatOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.scalar import OPERATIONS, ConstantOp


def first_of_run(value: SSAValue) -> SSAValue | None:
    """The first of rows in a row, None if they are not known to be that."""
    owner = value.owner
    if isinstance(owner, OPERATIONS["add"]):
        for base, lanes in (owner.operands, reversed(owner.operands)):
            if isinstance(lanes.owner, LanesOp) and isinstance(base.owner, SplatOp):
                return base.owner.input
    if isinstance(owner, OPERATIONS["select"]):
        condition, inside, beyond = owner.operands
        first, test = first_of_run(inside), condition.owner
        (count,) = shape_of(value.type)
        if (
            first is not None
            and isinstance(beyond.owner, SplatOp)
            and isinstance(test, OPERATIONS["lt"])
            and isinstance(test.operands[0].owner, LanesOp)
            and isinstance(test.operands[1].owner, SplatOp)
            and _is_whole(test.operands[1].owner.input, first, count)
        ):
            return first
    return None


def _is_whole(below: SSAValue, first: SSAValue, count: int) -> bool:
    """Whether min(min(first + count, extent) - first, count) is count for every row there is."""
    left = _beside(below, "min", count)
    if left is None or not isinstance(left.owner, OPERATIONS["sub"]):
        return False
    end, start = left.owner.operands
    if start is not first or not isinstance(end.owner, OPERATIONS["min"]):
        return False
    numbers = [number for each in end.owner.operands if (number := _number(each)) is not None]
    return (
        len(numbers) == 1
        and numbers[0] % count == 0
        and any(_beside(each, "add", count) is first for each in end.owner.operands)
        and _is_multiple(first, count)
    )


def _beside(value: SSAValue, name: str, number: int) -> SSAValue | None:
    """The other operand of a function of two, one of which is this number."""
    if isinstance(value.owner, OPERATIONS[name]):
        for one, other in (value.owner.operands, reversed(value.owner.operands)):
            if _number(one) == number:
                return other
    return None


def _is_multiple(value: SSAValue, count: int) -> bool:
    if not isinstance(value.owner, OPERATIONS["mul"]):
        return _number(value) is not None and (_number(value) or 0) % count == 0
    factors = [_number(factor) for factor in value.owner.operands]
    return any(factor is not None and factor % count == 0 for factor in factors)


def _number(value: SSAValue) -> int | None:
    owner = value.owner
    return int(owner.number) if isinstance(owner, ConstantOp) else None
