"""What of a loop may run ahead: its copies to shared memory, and the loads that lead to addresses.

Enters: a loop of a kernel. Leaves: a `Plan`, or nothing where there is nothing to gain. An
operation may run ahead if it depends on the number of the iteration and on nothing else that the
loop computes, and reads only what the loop does not write.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.scf import ForOp
from xdsl.ir import Block, Operation, SSAValue
from xdsl.traits import is_side_effect_free

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import CopyOp, SharedOp
from hectorite.dialects.tile_memory import LoadOp, StoreOp


@dataclass
class Plan:
    """`copies` go to buffers that may have several stages; `loads` may run ahead, in their order.

    `only_barriers` tells that all barriers of the loop are there for those buffers.
    """

    loop: ForOp
    copies: list[CopyOp] = field(default_factory=list[CopyOp])
    loads: list[LoadOp] = field(default_factory=list[LoadOp])
    only_barriers: bool = True

    @property
    def body(self) -> Block:
        return self.loop.body.block

    @property
    def number(self) -> SSAValue:
        """The induction variable."""
        return self.body.args[0]

    def leads(self, stages: int) -> dict[Operation, int]:
        """How many iterations ahead each copy and load runs that does run ahead.

        Copies run `stages - 1` ahead; what an address is loaded from, one further than its user.
        """
        lead: dict[Operation, int] = dict.fromkeys(self.copies, stages - 1) if stages > 1 else {}
        for load in reversed(self.loads):
            users = [user for user in self._users(load) if user is not load]
            further = [lead.get(user, 0) + 1 for user in users if isinstance(user, CopyOp | LoadOp)]
            if further and max(further) > 0:
                lead[load] = max(further)
        return lead

    def _users(self, load: LoadOp) -> Iterator[Operation]:
        """The copies, and loads that may run ahead, whose addresses a load leads to."""
        todo, seen = [load.result], set[SSAValue]()
        while todo:
            value = todo.pop()
            if value in seen:
                continue
            seen.add(value)
            for use in value.uses:
                user = use.operation
                if user in self.copies or user in self.loads:
                    yield user
                elif user.parent is self.body and is_side_effect_free(user):
                    todo += user.results


def plan_loop(loop: ForOp) -> Plan | None:
    """What may run ahead in a loop, None if nothing may that is worth it."""
    plan = Plan(loop)
    written = {op.tensor for op in loop.body.walk() if isinstance(op, StoreOp)}
    written |= {op.target for op in loop.body.walk() if isinstance(op, CopyOp)}
    for op in plan.body.ops:
        if isinstance(op, LoadOp) and op.tensor not in written and not _is_shared(op.tensor):
            if _runs_ahead(plan, op, op.operands) and _varies(plan, op):
                plan.loads.append(op)
        elif isinstance(op, CopyOp) and _is_staged(plan, op, written):
            plan.copies.append(op)
    plan.copies = [
        copy
        for copy in plan.copies
        if all(other in plan.copies for other in _fill(plan, copy.target))
    ]
    buffers = {copy.target for copy in plan.copies}
    plan.only_barriers = all(
        operand in buffers
        for op in loop.body.walk()
        for operand in op.operands
        if _is_shared(operand)
    )
    return plan if plan.copies or plan.leads(1) else None


def _is_shared(value: SSAValue) -> bool:
    return isinstance(value.owner, SharedOp)


def _is_staged(plan: Plan, copy: CopyOp, written: set[SSAValue]) -> bool:
    """Whether a copy may go to several stages of its buffer."""
    if copy.is_async is not None or copy.source in written:
        return False
    fill = _fill(plan, copy.target)
    uses = [use.operation for use in copy.target.uses if use.operation not in fill]
    inside = all(_is_inside(plan.loop, op) for op in uses)
    if not inside or not all(isinstance(op, LoadOp | ProductOp) for op in uses):
        return False
    if any(_comes_before(plan, op, copy) for op in uses):
        return False
    outside = [*copy.indices, *copy.valid, copy.source]
    return _runs_ahead(plan, copy, outside) and not any(
        _is_inside(plan.loop, place.owner)
        for place in copy.places
        if isinstance(place.owner, Operation)
    )


def _fill(plan: Plan, buffer: SSAValue) -> list[CopyOp]:
    """The copies of the loop that fill a buffer."""
    return [op for op in plan.body.ops if isinstance(op, CopyOp) and op.target is buffer]


def _is_inside(loop: ForOp, op: Operation) -> bool:
    return loop.is_ancestor(op)


def _comes_before(plan: Plan, op: Operation, copy: CopyOp) -> bool:
    """Whether an operation of the loop (or one it lies in) stands before a copy."""
    top = op
    while top.parent is not plan.body:
        above = top.parent_op()
        assert above is not None
        top = above
    return top.is_before_in_block(copy)


def _runs_ahead(plan: Plan, op: Operation, values: Sequence[SSAValue]) -> bool:
    """Whether values of the loop's body follow from the number of the iteration alone."""
    for value in values:
        owner = value.owner
        if isinstance(owner, Block):
            if owner is plan.body and value is not plan.number:
                return False
        elif plan.loop.is_ancestor(owner) and not (
            owner.parent is plan.body
            and (owner in plan.loads or is_side_effect_free(owner) and not owner.regions)
            and _runs_ahead(plan, owner, owner.operands)
        ):
            return False
    return True


def _varies(plan: Plan, op: Operation) -> bool:
    """Whether an operation depends on the number of the iteration."""
    return any(
        value is plan.number
        or isinstance(value.owner, Operation)
        and value.owner.parent is plan.body
        and _varies(plan, value.owner)
        for value in op.operands
    )
