"""Rewrite a loop so that copies and loads of its plan run ahead.

Enters: a kernel, a `Plan` and a number of stages. Leaves: the loop replaced by what starts it (the
copies and loads of the first iterations) and a loop in which iteration i does its own computing,
the copies of iteration i + stages - 1, and the loads of later ones, whose results it carries.

Numbers of iterations past the end are not copied for; what is loaded for them is what the last
iteration needs, so no access is one that the loop would not have made.

A product by groups of warps need not be done when the next begins, if there are stages enough: the
copies then go to the stage that was read by the last product but one, which has been waited for.

Copies that go in bulk have a barrier object for each stage. Iteration i awaits phase i / stages,
modulo 2, of the object of its stage; the loop carries it beside the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from xdsl.dialects.builtin import IntegerAttr
from xdsl.dialects.scf import ForOp, IfOp, YieldOp
from xdsl.ir import Block, BlockArgument, Operation, Region, SSAValue
from xdsl.traits import is_side_effect_free

from hectorite.dialects.tile import KernelOp, ProductOp
from hectorite.dialects.tile_async import CommitOp, CopyOp, FinishOp, SharedOp, WaitOp
from hectorite.dialects.tile_bulk import AwaitOp, BarrierObjectsOp, ExpectOp, ReleaseOp
from hectorite.dialects.tile_layout import BarrierOp
from hectorite.dialects.tile_memory import LoadOp, index
from hectorite.ir.space import TensorType
from hectorite.lowering.gpu.pipeline_plan import Plan
from hectorite.lowering.gpu.product_plan import uses_wgmma
from hectorite.lowering.gpu.stage_products import IN_FLIGHT, constant_value
from hectorite.lowering.kernels.tile_code import Code

OVERLAP = 3
"""With more stages, products of two iterations may overlap: copies still run two ahead."""

Value = Callable[[SSAValue, int], SSAValue]


class Pipeline:
    """One loop becomes a pipeline of `stages`; the copies in `bulk` go in bulk."""

    def __init__(self, kernel: KernelOp, plan: Plan, stages: int, bulk: Sequence[CopyOp] = ()):
        self.plan, self.loop = plan, plan.loop
        self.entry = kernel.body.block
        self.stages = stages
        self.copies = plan.copies if stages > 1 else []
        self.overlapping = overlapping(plan, kernel.thread_count) if stages > OVERLAP else None
        # So many iterations ahead copies go to the stage that was read last, or the one before.
        self.distance = stages - (1 if self.overlapping is None else 2)
        self.lead = plan.leads(self.distance + 1)
        self.bulk = [copy for copy in self.copies if copy in bulk]
        self.has_groups = len(self.bulk) < len(self.copies)
        self.objects: SSAValue | None = None
        self.loads = [load for load in plan.loads if load in self.lead]
        self.kept = self._kept()
        self.nearest = self._nearest()
        self.outside = Code(Block(), self.entry)
        self.step = self.loop.step

    def run(self) -> None:
        """Replace the loop, if anything of it runs ahead."""
        if not self.lead:
            return
        targets = dict.fromkeys(copy.target for copy in self.copies)
        self.buffers = {target: self._staged(target) for target in targets}
        results = self._if_any(self._pipeline) if self.loads else self._pipeline(self.outside)
        if self.copies and not self.bulk and is_repeated(self.loop):
            self.outside.add(BarrierOp())
        for op in list(self.outside.block.ops):
            op.detach()
            cast(Block, self.loop.parent).insert_op_before(op, self.loop)
        for old, new in zip(self.loop.results, results, strict=True):
            old.replace_all_uses_with(new)
        self.loop.detach()
        self.loop.erase()
        for old in self.buffers:
            cast(Operation, old.owner).detach()

    # What is needed when -----------------------------------------------------------------------

    def _kept(self) -> list[Operation]:
        """The operations that an iteration does for itself, in order."""
        ahead = {*self.copies, *self.loads}
        drops = self.plan.only_barriers and bool(self.copies)
        live = set[Operation]()
        for op in reversed(self.plan.body.ops):
            if op in ahead or isinstance(op, BarrierOp) and drops:
                continue
            used = any(
                _in_body(self.plan, use.operation) in live for result in op.results
                for use in result.uses
            )  # fmt: skip
            is_needed = isinstance(op, YieldOp) or not is_side_effect_free(op)
            if used or is_needed and not isinstance(op, LoadOp):
                live.add(op)
        return [op for op in self.plan.body.ops if op in live]

    def _nearest(self) -> dict[LoadOp, int]:
        """The fewest iterations ahead for which the value of each load is used."""
        nearest = dict[LoadOp, int]()

        def visit(value: SSAValue, lead: int, seen: set[SSAValue]) -> None:
            owner = value.owner
            if value in seen or not isinstance(owner, Operation):
                return
            seen.add(value)
            if isinstance(owner, LoadOp) and owner in self.lead:
                nearest[owner] = min(lead, nearest.get(owner, lead))
            elif owner.parent is self.plan.body:
                for operand in owner.operands:
                    visit(operand, lead, seen)

        for user in (*self.copies, *self.loads):
            for operand in user.operands:
                visit(operand, self.lead[user], set())
        seen = set[SSAValue]()
        for op in self.kept:
            for inner in op.walk():
                for operand in inner.operands:
                    visit(operand, 0, seen)
        return nearest

    # Before the loop ---------------------------------------------------------------------------

    def _staged(self, buffer: SSAValue) -> SSAValue:
        """The buffer with a dimension of stages in front."""
        type = cast(TensorType, buffer.type)
        op = SharedOp(TensorType.of(type.element, (self.stages, *type.dims)))
        op.result.name_hint = buffer.name_hint
        owner = cast(Operation, buffer.owner)
        cast(Block, owner.parent).insert_op_before(op, owner)
        return op.result

    def _if_any(self, write: Callable[[Code], Sequence[SSAValue]]) -> Sequence[SSAValue]:
        """What `write` computes, or the starting values if there is no iteration."""
        any_iteration = self.outside.scalar("lt", self.loop.lb, self.loop.ub)
        yes, no = Block(), Block()
        yes_code = Code(yes, self.entry, self.outside.constants)
        yes.add_op(YieldOp(*write(yes_code)))
        no.add_op(YieldOp(*self.loop.iter_args))
        types = [result.type for result in self.loop.results]
        op = IfOp(any_iteration, types, [yes], [no])
        self.outside.block.add_op(op)
        return op.results

    def _pipeline(self, code: Code) -> Sequence[SSAValue]:
        """The first iterations' copies and loads, and the loop."""
        if self.bulk:
            self.objects = code.add(BarrierObjectsOp(self.stages))
        last = self._last(code) if self.loads else None
        made = dict[tuple[SSAValue, int], SSAValue]()

        def number(iteration: int) -> SSAValue:
            return _advanced(code, self.loop.lb, self.step, iteration)

        def value(value: SSAValue, iteration: int) -> SSAValue:
            if value is self.plan.number and (value, iteration) not in made:
                made[value, iteration] = _clamped(code, number(iteration), iteration, last)
            return self._ahead(code, value, iteration, made, value_of)

        def value_of(inner: SSAValue, iteration: int) -> SSAValue:
            return value(inner, iteration)

        for iteration in range(self.distance if self.copies else 0):
            place = code.constant(iteration)

            def copies(inner: Code, iteration: int = iteration, place: SSAValue = place) -> None:
                self._copies(inner, iteration, number(iteration), place, value)

            # Loads lead to addresses; they are made outside of the branch.
            for copy in self.copies:
                for load in self._loads_of(copy):
                    value(load.result, iteration)
            if last is not None and not iteration:
                copies(code)
            else:
                code.choose(
                    code.scalar("lt", number(iteration), self.loop.ub), copies, lambda inner: None
                )
            self._commit(code)
        queues = [
            value(load.result, iteration)
            for load in self.loads
            for iteration in range(self.nearest.get(load, 0), self.lead[load])
        ]
        stage = [code.constant(0)] * (bool(self.copies) + bool(self.bulk))
        results = list(self._loop(code, last, [*self.loop.iter_args, *stage, *queues]))
        if self.overlapping is not None:
            assert self.overlapping.init is not None
            position = cast(BlockArgument, self.overlapping.init).index - 1
            results[position] = code.add(FinishOp(results[position]))
        if self.objects is not None and is_repeated(self.loop):
            code.add(BarrierOp())
            code.add(ReleaseOp(self.objects))
        return results[: len(self.loop.results)]

    def _commit(self, code: Code) -> None:
        if self.has_groups:
            code.add(CommitOp())

    def _last(self, code: Code) -> SSAValue:
        """The number of the last iteration, of at least one."""
        end = code.plus(self.loop.ub, -1)
        if constant_value(self.step) == 1:
            return end
        whole = code.scalar("sub", end, self.loop.lb)
        steps = code.scalar("floordiv", whole, self.step)
        return code.scalar("add", self.loop.lb, code.scalar("mul", steps, self.step))

    # In the loop -------------------------------------------------------------------------------

    def _loop(
        self, code: Code, last: SSAValue | None, carried: Sequence[SSAValue]
    ) -> Sequence[SSAValue]:
        block = Block(arg_types=[index, *(value.type for value in carried)])
        inner = Code(block, self.entry, code.constants)
        block.add_op(YieldOp(*self._iteration(inner, last, block.args)))
        loop = ForOp(self.loop.lb, self.loop.ub, self.step, carried, Region(block))
        loop.attributes |= self.loop.attributes
        code.block.add_op(loop)
        return loop.results

    def _iteration(
        self, code: Code, last: SSAValue | None, arguments: Sequence[SSAValue]
    ) -> list[SSAValue]:
        number, *state = arguments
        own = state[: len(self.loop.results)]
        stage = state[len(own)] if self.copies else None
        phase = state[len(own) + 1] if self.bulk else None
        queues = self._queues(state[len(own) + bool(self.copies) + bool(self.bulk) :])
        made = dict[tuple[SSAValue, int], SSAValue]()
        for load, values in queues.items():
            made |= {
                (load.result, lead): value
                for lead, value in enumerate(values, self.nearest.get(load, 0))
            }

        def value(value: SSAValue, lead: int) -> SSAValue:
            if value is self.plan.number and (value, lead) not in made:
                at = _advanced(code, number, self.step, lead)
                made[value, lead] = _clamped(code, at, lead, last)
            return self._ahead(code, value, lead, made, value_of)

        def value_of(inner: SSAValue, lead: int) -> SSAValue:
            return value(inner, lead)

        if stage is not None:
            self._ask(code, number, stage, phase, value)
        new = [value(load.result, self.lead[load]) for load in self.loads]
        mapper = {self.plan.number: number}
        mapper |= dict(zip(self.plan.body.args[1:], own, strict=True))
        mapper |= {load: at for (load, lead), at in made.items() if not lead}
        yielded = self._keep(code, mapper, stage)
        if stage is not None:
            end = code.scalar("eq", stage, code.constant(self.stages - 1))
            yielded.append(code.scalar("select", end, code.constant(0), code.plus(stage, 1)))
            if phase is not None:
                other = code.scalar("sub", code.constant(1), phase)
                yielded.append(code.scalar("select", end, other, phase))
        for load, loaded in zip(self.loads, new, strict=True):
            yielded += [*queues[load], loaded][1:]
        return yielded

    def _queues(self, values: Sequence[SSAValue]) -> dict[LoadOp, Sequence[SSAValue]]:
        queues, start = dict[LoadOp, Sequence[SSAValue]](), 0
        for load in self.loads:
            length = self.lead[load] - self.nearest.get(load, 0)
            queues[load] = values[start : start + length]
            start += length
        return queues

    def _ask(
        self,
        code: Code,
        number: SSAValue,
        stage: SSAValue,
        phase: SSAValue | None,
        value: Value,
    ) -> None:
        """Wait for this iteration's blocks, and start the copies of a later one."""
        lead = self.distance
        if self.has_groups:
            code.add(WaitOp(lead - 1))
        if self.objects is not None and phase is not None:
            code.add(AwaitOp(self.objects, stage, phase))
        code.add(BarrierOp())
        ahead = _advanced(code, number, self.step, lead)
        back = self.stages - lead
        before = code.scalar("lt", stage, code.constant(back))
        place = code.scalar("select", before, code.plus(stage, lead), code.plus(stage, -back))

        def copies(inner: Code) -> None:
            self._copies(inner, lead, ahead, place, value)

        code.choose(code.scalar("lt", ahead, self.loop.ub), copies, lambda inner: None)
        self._commit(code)

    def _keep(
        self, code: Code, mapper: dict[SSAValue, SSAValue], stage: SSAValue | None
    ) -> list[SSAValue]:
        """An iteration's own operations; what they yield."""
        for op in self.kept:
            if isinstance(op, YieldOp):
                break
            clone = op.clone(mapper)
            code.block.add_op(clone)
            for inner in list(clone.walk()):
                if stage is not None and any(o in self.buffers for o in inner.operands):
                    new = self._at_stage(inner, stage)
                    cast(Block, inner.parent).insert_op_before(new, inner)
                    inner.results[0].replace_all_uses_with(new.results[0])
                    for old, result in list(mapper.items()):
                        if result is inner.results[0]:
                            mapper[old] = new.results[0]
                    inner.detach()
                    inner.erase()
        last = cast(Operation, self.plan.body.last_op)
        return [mapper.get(operand, operand) for operand in last.operands]

    # Operations --------------------------------------------------------------------------------

    def _copies(
        self, code: Code, lead: int, number: SSAValue, place: SSAValue, value: Value
    ) -> None:
        """The copies of one iteration, asynchronous, to a stage."""
        made = dict[tuple[SSAValue, int], SSAValue]()

        def inside(inner: SSAValue, lead: int) -> SSAValue:
            if inner is self.plan.number:
                return number
            if isinstance(inner.owner, LoadOp) and inner.owner in self.lead:
                return value(inner, lead)
            return self._ahead(code, inner, lead, made, inside)

        # What one thread asks for comes first, together, after all that is computed for it.
        ordered = [*self.bulk, *(copy for copy in self.copies if copy not in self.bulk)]
        copies = [self._ahead_copy(copy, place, lambda v: inside(v, lead)) for copy in ordered]
        if self.objects is not None:
            bytes = sum(copy.byte_count for copy in self.bulk)
            code.add(ExpectOp(self.objects, place, bytes))
        for copy in copies:
            code.add(copy)

    def _ahead_copy(
        self, copy: CopyOp, place: SSAValue, value: Callable[[SSAValue], SSAValue]
    ) -> CopyOp:
        """A copy for another iteration, asynchronous, to a stage."""
        valid = [value(count) for count in copy.valid]
        told = self.objects if copy in self.bulk else None
        return CopyOp(
            copy.source,
            [value(i) for i in copy.indices],
            copy.column_axis,
            self.buffers[copy.target],
            [place, *copy.places],
            copy.block,
            row_axis=copy.rows_along,
            valid=(valid[0], valid[1]) if valid else None,
            is_async=True,
            tells=None if told is None else (told, place),
            spread=copy.is_spread,
            padded=copy.is_padded,
        )

    def _loads_of(self, copy: CopyOp) -> list[LoadOp]:
        """The loads that the address of a copy is computed from."""
        found, todo = list[LoadOp](), list(copy.operands)
        while todo:
            owner = todo.pop().owner
            if isinstance(owner, LoadOp) and owner in self.lead:
                found.append(owner)
            elif isinstance(owner, Operation) and owner.parent is self.plan.body:
                todo += owner.operands
        return found

    def _ahead(
        self,
        code: Code,
        value: SSAValue,
        lead: int,
        made: dict[tuple[SSAValue, int], SSAValue],
        value_of: Value,
    ) -> SSAValue:
        """A value of the body for the iteration `lead` ahead, computed once."""
        owner = value.owner
        if (value, lead) in made:
            return made[value, lead]
        if not isinstance(owner, Operation) or owner.parent is not self.plan.body:
            return value
        mapper = {operand: value_of(operand, lead) for operand in owner.operands}
        clone = owner.clone(mapper)
        code.block.add_op(clone)
        for result, new in zip(owner.results, clone.results, strict=True):
            made[result, lead] = new
        return made[value, lead]

    def _at_stage(self, op: Operation, stage: SSAValue) -> Operation:
        """A read of buffers, from one stage of them."""
        if isinstance(op, LoadOp):
            axis = None if op.lane_axis is None else op.lane_axis + 1
            new: Operation = LoadOp(
                self.buffers[op.tensor],
                [stage, *op.indices],
                op.result.type,
                axis,
                op.lane_step,
                op.pad_value,
                op.valid,
            )
        else:
            assert isinstance(op, ProductOp)
            sides = [
                (self.buffers[tensor], [stage, *indices], axis.value.data + 1)
                if tensor in self.buffers
                else (tensor, list(indices), axis.value.data)
                for tensor, indices, axis in (
                    (op.a, op.a_indices, op.a_axis),
                    (op.b, op.b_indices, op.b_axis),
                )
            ]
            n_axis = op.column_axis + len(sides[1][1]) - len(op.b_indices)
            new = ProductOp(
                op.init,
                *sides[0],
                *sides[1],
                op.extent,
                op.result.type,
                op.columns,
                n_axis,
                op.codes,
                op.code_indices,
            )
            if self.overlapping is not None:
                new.attributes[IN_FLIGHT] = IntegerAttr(1, 64)
        new.attributes |= op.attributes
        return new


def overlapping(plan: Plan, threads: int) -> ProductOp | None:
    """The one product of a loop by groups of warps that may still be under way in the next
    iteration: only it reads what copies bring, and only it uses its sum."""
    products = [op for op in plan.body.ops if isinstance(op, ProductOp)]
    if len(products) != 1 or not plan.only_barriers or not uses_wgmma(products[0], threads):
        return None
    (product,) = products
    users = {use.operation for copy in plan.copies for use in copy.target.uses}
    end = cast(Operation, plan.body.last_op)
    init = product.init
    if not users <= {product, *plan.copies} or not isinstance(init, BlockArgument):
        return None
    is_carried = init.owner is plan.body and end.operands[init.index - 1] is product.result
    alone = init.uses.get_length() == product.result.uses.get_length() == 1
    return product if is_carried and alone and users >= {product} else None


def is_repeated(loop: ForOp) -> bool:
    """Whether a loop is inside of another."""
    parent = loop.parent_op()
    while parent is not None and not isinstance(parent, ForOp):
        parent = parent.parent_op()
    return parent is not None


def _in_body(plan: Plan, op: Operation) -> Operation | None:
    """The operation of the loop's body that an operation is or lies in."""
    current: Operation | None = op
    while current is not None and current.parent is not plan.body:
        current = current.parent_op()
    return current


def _clamped(code: Code, number: SSAValue, lead: int, last: SSAValue | None) -> SSAValue:
    """The number of an iteration `lead` ahead, or of the last one where that is known."""
    return number if last is None or not lead else code.scalar("min", number, last)


def _advanced(code: Code, number: SSAValue, step: SSAValue, count: int) -> SSAValue:
    """The number of the iteration `count` later."""
    known = constant_value(step)
    if known is not None:
        return code.plus(number, known * count)
    if not count:
        return number
    return code.scalar("add", number, code.scalar("mul", step, code.constant(count)))
