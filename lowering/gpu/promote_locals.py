"""`promote-locals`: keep private memory whose places are known in values instead.

Enters: the `tile` dialect. Leaves: the same, where the parts of a `tile.local` whose every access
is a whole tile at fixed places are SSA values, carried by the loops and branches that store them.
Memory with an access at a place that is computed, or with two that overlap in part, stays.

    %m = tile.local : !hec.tensor<f32[1, 64]>
    tile.store %zero, %m[%0, %0] axis 1 : !hec.tensor<f32[1, 64]>, vector<64xf32>
    scf.for %i = %lo to %hi step %1 {
      %old = tile.load %m[%0, %0] axis 1 : !hec.tensor<f32[1, 64]> -> vector<64xf32>
      %new = scalar.add %old, %v : vector<64xf32>
      tile.store %new, %m[%0, %0] axis 1 : !hec.tensor<f32[1, 64]>, vector<64xf32>
    }

becomes

    %sum = scf.for %i = %lo to %hi step %1 iter_args(%old = %zero) -> (vector<64xf32>) {
      %new = scalar.add %old, %v : vector<64xf32>
      scf.yield %new : vector<64xf32>
    }
"""

from dataclasses import dataclass
from itertools import combinations, product
from typing import cast

from xdsl.context import Context
from xdsl.dialects import scf
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.tile import KernelOp, LocalOp
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp, shape_of
from hectorite.ir.scalar import ConstantOp


@dataclass(frozen=True)
class PromoteLocals(ModulePass):
    """Keep private memory whose places are known in values."""

    name = "promote-locals"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                promote_locals(kernel)


@dataclass(frozen=True)
class _Part:
    """A tile of one local memory, always accessed as a whole: a variable to be."""

    memory: LocalOp
    places: tuple[int, ...]
    axis: int | None
    step: int
    type: Attribute

    def elements(self) -> set[tuple[int, ...]]:
        """The places of its elements."""
        shape = shape_of(self.type)
        if not shape:
            return {self.places}
        at = list(self.places)
        found = set[tuple[int, ...]]()
        for lane in range(shape[0]):
            where = list(at)
            if self.axis is not None:
                where[self.axis] += lane * self.step
            found.add(tuple(where))
        return found


def promote_locals(kernel: KernelOp) -> None:
    """Promote what can be in one kernel, in place."""
    parts: dict[Operation, _Part] = {}
    memories = [op for op in kernel.body.block.ops if isinstance(op, LocalOp)]
    for memory in memories:
        parts |= _parts_of(memory) or {}
    for part in dict.fromkeys(parts.values()):
        accesses = {op for op, own in parts.items() if own == part}
        _Promotion(part.type, accesses).block(kernel.body.block, None, False)
    for memory in memories:
        if not memory.result.uses:
            memory.detach()
            memory.erase()


def _parts_of(memory: LocalOp) -> dict[Operation, _Part] | None:
    """The part that each access of a memory is; None if it has to stay memory."""
    parts: dict[Operation, _Part] = {}
    for use in memory.result.uses:
        part = _part(memory, use.operation)
        if part is None:
            return None
        parts[use.operation] = part
    different = [part.elements() for part in dict.fromkeys(parts.values())]
    if any(one & other for one, other in combinations(different, 2)):
        return None
    dims = memory.result.type.dims
    inside = set(product(*(range(cast(int, dim)) for dim in dims)))
    return parts if all(elements <= inside for elements in different) else None


def _part(memory: LocalOp, op: Operation) -> _Part | None:
    if not isinstance(op, ElementAccess) or op.pad is not None or op.valid is not None:
        return None
    if not isinstance(op, LoadOp | StoreOp) or (
        isinstance(op, StoreOp) and op.value is memory.result
    ):
        return None
    places = [_constant(value) for value in op.indices]
    type = op.result.type if isinstance(op, LoadOp) else op.value.type
    if None in places or len(shape_of(type)) > 1:
        return None
    return _Part(memory, tuple(cast(list[int], places)), op.lane_axis, op.lane_step, type)


def _constant(value: SSAValue) -> int | None:
    op = value.owner
    is_scalar = isinstance(op, ConstantOp) and not shape_of(value.type)
    return int(op.number) if is_scalar and isinstance(op, ConstantOp) else None


class _Promotion:
    """Turns one variable, of a tile type, into values. `accesses` are its loads and stores."""

    def __init__(self, type: Attribute, accesses: set[Operation]):
        self.type = type
        self.accesses = accesses
        self.inside: dict[Operation, bool] = {}

    def block(self, block: Block, value: SSAValue | None, live_after: bool) -> SSAValue | None:
        """Rewrite a block that the variable enters with `value`; what it leaves with. `live_after`
        tells whether anything reads it then."""
        ops = list(block.ops)
        live = [live_after]
        for op in reversed(ops):
            live.append(self.live_before(op, live[-1]))
        live.reverse()
        if live[0] and value is None:
            # Its contents are unspecified: any value will do.
            value = self._unspecified(block)
        for op, after in zip(ops, live[1:], strict=True):
            value = self._operation(op, value, after)
        return value

    def _unspecified(self, block: Block) -> SSAValue:
        op = ConstantOp(0, self.type)
        assert block.first_op is not None
        block.insert_op_before(op, block.first_op)
        return op.result

    def _operation(self, op: Operation, value: SSAValue | None, live: bool) -> SSAValue | None:
        if op in self.accesses:
            if isinstance(op, StoreOp):
                value = op.value
            else:
                assert value is not None
                op.results[0].replace_all_uses_with(value)
            op.detach()
            op.erase()
            return value
        if isinstance(op, scf.ForOp) and self.reaches(op):
            return self._loop(op, value, live)
        if isinstance(op, scf.IfOp) and self.reaches(op):
            return self._branch(op, value, live)
        return value

    def _loop(self, op: scf.ForOp, value: SSAValue | None, live: bool) -> SSAValue | None:
        block = op.body.block
        enters = self._enters(block, live_after=False)
        if not self.stores(op) or not (live or enters):
            # Only read inside, or made anew by each iteration.
            self.block(block, value, False)
            return value
        assert value is not None
        carried = block.insert_arg(self.type, len(block.args))
        last = self.block(block, carried, True)
        _yield_also(block, last)
        body = op.body.detach_block(block)
        new = scf.ForOp(op.lb, op.ub, op.step, [*op.iter_args, value], Region(body))
        return _replace(op, new)

    def _branch(self, op: scf.IfOp, value: SSAValue | None, live: bool) -> SSAValue | None:
        if not (live and self.stores(op)):
            for region in op.regions:
                if region.blocks:
                    self.block(region.block, value, False)
            return value
        arms: list[Region] = []
        for region in op.regions:
            block = region.detach_block(0) if region.blocks else Block([scf.YieldOp()])
            _yield_also(block, self.block(block, value, True))
            arms.append(Region(block))
        types = [*(result.type for result in op.results), self.type]
        first, second = arms
        return _replace(op, scf.IfOp(op.cond, types, first, second))

    # Liveness -----------------------------------------------------------------------------------

    def live_before(self, op: Operation, after: bool) -> bool:
        """Whether something reads, from here on, what the variable holds before `op`."""
        if op in self.accesses:
            return isinstance(op, LoadOp)
        if isinstance(op, scf.ForOp) and self.reaches(op):
            return after or self._enters(op.body.block, live_after=False)
        if isinstance(op, scf.IfOp) and self.reaches(op):
            arms = [self._enters(r.block, after) if r.blocks else after for r in op.regions]
            return any(arms)
        return after

    def _enters(self, block: Block, live_after: bool) -> bool:
        for op in reversed(list(block.ops)):
            live_after = self.live_before(op, live_after)
        return live_after

    def reaches(self, op: Operation) -> bool:
        """Whether there are accesses inside."""
        if op not in self.inside:
            self.inside[op] = any(inner in self.accesses for inner in op.walk())
        return self.inside[op]

    def stores(self, op: Operation) -> bool:
        """Whether there are stores inside."""
        return any(inner in self.accesses and isinstance(inner, StoreOp) for inner in op.walk())


def _yield_also(block: Block, value: SSAValue | None) -> None:
    assert value is not None and block.last_op is not None
    old = block.last_op
    block.insert_op_before(scf.YieldOp(*old.operands, value), old)
    old.detach()
    old.erase()


def _replace(old: Operation, new: Operation) -> SSAValue:
    """Put an operation with one result more in the place of one; that result."""
    block = old.parent_block()
    assert block is not None
    block.insert_op_before(new, old)
    for before, after in zip(old.results, new.results[:-1], strict=True):
        after.name_hint = before.name_hint
        before.replace_all_uses_with(after)
    old.detach()
    old.erase()
    return new.results[-1]
