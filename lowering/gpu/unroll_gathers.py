"""`unroll-gathers`: loops that gather rows do several iterations at a time.

Enters: tile IR for a GPU. Leaves: loops that sum rows, each read at an index that is itself read,
with several iterations one after the other in their body and a loop for those that are left over.
The order of the sums stays, so the results are bitwise the same; but the reads of several rows are
under way at once, and the loop's own instructions are shared.

    scf.for %i = %lower to %upper step %c1 iter_args(%sum = %zero) { ... }

becomes

    %whole = %lower + (%upper - %lower) // 4 * 4
    scf.for %i = %lower to %whole step %c4 iter_args(%sum = %zero) { ... ... ... ... }
    scf.for %i = %whole to %upper step %c1 iter_args(...) { ... }
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, VectorType
from xdsl.dialects.scf import ForOp, YieldOp
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.traits import is_side_effect_free

from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_layout import AtOp
from hectorite.dialects.tile_memory import LoadOp, shape_of
from hectorite.ir.element import element_of
from hectorite.lowering.gpu.pipeline_plan import plan_loop
from hectorite.lowering.gpu.stage_products import constant_value
from hectorite.lowering.kernels.tile_code import Code

MOST_OPERATIONS = 40
"""A longer body has work enough of its own."""

GATHERED_REGISTERS = 64
"""Registers of a thread that rows under way may take."""


@dataclass(frozen=True)
class UnrollGathers(ModulePass):
    """Loops that gather rows do several iterations at a time."""

    name = "unroll-gathers"

    most: int = 4
    """The most iterations of one turn."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                for loop in [loop for loop in kernel.walk() if isinstance(loop, ForOp)]:
                    count = self._count(kernel, loop)
                    if count > 1:
                        _unroll(kernel, loop, count)

    def _count(self, kernel: KernelOp, loop: ForOp) -> int:
        """How many iterations a turn should do; 1 where there is nothing to gain."""
        ops = list(loop.body.block.ops)
        if len(ops) > MOST_OPERATIONS or constant_value(loop.step) != 1:
            return 1
        if not all(_only_reads(op) for op in ops):
            return 1
        plan = plan_loop(loop)
        if plan is None or plan.copies:
            return 1
        each = sum(_registers(op.result) for op in ops if isinstance(op, LoadOp))
        budget = GATHERED_REGISTERS * kernel.thread_count
        return next((n for n in (self.most, self.most // 2) if n * each <= budget), 1)


def _only_reads(op: Operation) -> bool:
    if op.regions:
        return False
    return isinstance(op, LoadOp | AtOp | YieldOp) or is_side_effect_free(op)


def _registers(value: SSAValue) -> int:
    """Registers that all threads together need for a value that was read."""
    if not isinstance(value.type, VectorType):
        return 1
    type = cast("VectorType[Attribute]", value.type)  # pyright: ignore[reportUnknownMemberType]
    bits = element_of(type.get_element_type()).bits
    return prod(shape_of(type)) * max(1, bits // 32)


def _unroll(kernel: KernelOp, loop: ForOp, count: int) -> None:
    """Replace a loop of step 1 by one of step `count` and one for what is left over."""
    code = Code(Block(), kernel.body.block)
    extent = code.scalar("max", code.scalar("sub", loop.ub, loop.lb), code.constant(0))
    left = code.scalar("mod", extent, code.constant(count))
    whole = code.scalar("add", loop.lb, code.scalar("sub", extent, left))

    def several(inner: Code, number: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        for step in range(count):
            carried = _iteration(inner, loop, inner.plus(number, step), carried)
        return carried

    def one(inner: Code, number: SSAValue, carried: Sequence[SSAValue]) -> Sequence[SSAValue]:
        return _iteration(inner, loop, number, carried)

    results = code.loop(loop.lb, whole, count, loop.iter_args, several)
    results = code.loop(whole, loop.ub, 1, results, one)
    for op in list(code.block.ops):
        op.detach()
        cast(Block, loop.parent).insert_op_before(op, loop)
    for old, new in zip(loop.results, results, strict=True):
        new.name_hint = old.name_hint
        old.replace_all_uses_with(new)
    loop.detach()
    loop.erase()


def _iteration(
    code: Code, loop: ForOp, number: SSAValue, carried: Sequence[SSAValue]
) -> Sequence[SSAValue]:
    """A copy of a loop's body for one number; what it yields."""
    body = loop.body.block
    mapper: dict[SSAValue, SSAValue] = dict(zip(body.args, (number, *carried), strict=True))
    for op in body.ops:
        if isinstance(op, YieldOp):
            return [mapper.get(value, value) for value in op.operands]
        code.block.add_op(op.clone(mapper))
    raise AssertionError("a loop's body ends with what it yields")
