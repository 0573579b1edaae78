"""Bulk copies of a loop with one stage: each iteration waits for its own.

Enters: the plan of a loop, and which of its copies go in bulk. Leaves: the loop with those copies
asynchronous, expected before the first and awaited after the last of them:

    tile.expect %m[%zero] bytes 8192
    tile.copy async bulk %w[%k, %zero] rows 0 axis 1 to %b[%zero, %zero] tells %m[%zero] ...
    tile.await %m[%zero] phase %odd           of the number of the iteration
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from xdsl.dialects.scf import ForOp
from xdsl.ir import Block, Operation, SSAValue

from hectorite.dialects.tile_async import CopyOp
from hectorite.dialects.tile_bulk import AwaitOp, BarrierObjectsOp, ExpectOp, ReleaseOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.lowering.gpu.pipeline_loop import is_repeated
from hectorite.lowering.gpu.pipeline_plan import Plan
from hectorite.lowering.kernels.tile_code import Code


def wait_in_place(plan: Plan, bulk: Sequence[CopyOp]) -> Plan:
    """Rewrite the loop; its plan with the copies that it has now."""
    loop = plan.loop
    objects = BarrierObjectsOp(1)
    _before(loop, objects)
    zero, phase = _phase(loop)
    made: dict[CopyOp, CopyOp] = {}
    _before(bulk[0], ExpectOp(objects.result, zero, sum(copy.byte_count for copy in bulk)))
    for copy in bulk:
        made[copy] = _in_bulk(copy, objects.result, zero)
    plan.body.insert_op_after(AwaitOp(objects.result, zero, phase), made[bulk[-1]])
    if is_repeated(loop):
        block = cast(Block, loop.parent)
        block.insert_op_after(ReleaseOp(objects.result), loop)
        block.insert_op_after(BarrierOp(), loop)
    return replace(plan, copies=[made.get(copy, copy) for copy in plan.copies])


def _before(place: Operation, op: Operation) -> None:
    cast(Block, place.parent).insert_op_before(op, place)


def _in_bulk(copy: CopyOp, objects: SSAValue, number: SSAValue) -> CopyOp:
    new = CopyOp(
        copy.source,
        copy.indices,
        copy.column_axis,
        copy.target,
        copy.places,
        copy.block,
        row_axis=copy.rows_along,
        tells=(objects, number),
        spread=copy.is_spread,
    )
    _before(copy, new)
    copy.detach()
    copy.erase()
    return new


def _phase(loop: ForOp) -> tuple[SSAValue, SSAValue]:
    """The number 0, and whether an iteration is an odd one, at the start of the body."""
    outside, inside = Code(Block()), Code(Block())
    zero, two = outside.constant(0), outside.constant(2)
    inside.constants = outside.constants
    done = inside.scalar("sub", loop.body.block.args[0], loop.lb)
    phase = inside.scalar("mod", inside.scalar("floordiv", done, loop.step), two)
    for op in list(outside.block.ops):
        op.detach()
        _before(loop, op)
    first = cast(Operation, loop.body.block.first_op)
    for op in list(inside.block.ops):
        op.detach()
        _before(first, op)
    return zero, phase
