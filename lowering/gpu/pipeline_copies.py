"""`pipeline-copies`: loops ask for what later iterations need while they compute.

Enters: tile IR for a GPU. Leaves: loops whose copies to shared memory run some iterations ahead,
into as many stages of the buffer, and whose loads of indices run one iteration further ahead, in
registers. A buffer takes part if copies in the loop fill it and it is read only there. Loops
without copies that gather load their indices an iteration ahead. `stages` at a loop says how
many stages there are; otherwise a model of the target chooses (`pipeline_model.py`). Copies that
take fewer instructions in bulk go in bulk (`bulk_copies.py`).

    scf.for %i = %lower to %upper step %c1 {
      %r = tile.load %index[%i]
      tile.copy %x[%r, %zero] rows 0 axis 1 to %s[%zero, %zero] shape [8, 64]
      tile.barrier

becomes, with two stages,

    (the copy of the first iteration, and the index of the second)
    scf.for %i = %lower to %upper step %c1 iter_args(%stage = %zero, %r = %second) {
      tile.wait 0
      tile.barrier
      scf.if %more { tile.copy async %x[%r, %zero] rows 0 axis 1 to %s[%other, ...] }
      tile.commit
      %next = tile.load %index[%ahead]
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp
from xdsl.dialects.scf import ForOp
from xdsl.passes import ModulePass

from hectorite.dialects.tile import KernelOp
from hectorite.ir.diagnostics import fail
from hectorite.ir.target import DEFAULT_TARGET, target
from hectorite.lowering.gpu.bulk_copies import chosen_for_bulk
from hectorite.lowering.gpu.bulk_in_place import wait_in_place
from hectorite.lowering.gpu.pipeline_loop import Pipeline
from hectorite.lowering.gpu.pipeline_model import choose_stages, fits, loop_cost
from hectorite.lowering.gpu.pipeline_plan import Plan, plan_loop
from hectorite.lowering.gpu.stage_products import STAGES


@dataclass(frozen=True)
class PipelineCopies(ModulePass):
    """Loops ask for what later iterations need while they compute."""

    name = "pipeline-copies"

    target: str = DEFAULT_TARGET
    stages: int = 0
    """Stages of every loop that does not say; 0 for what the model chooses."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for kernel in op.ops:
            if isinstance(kernel, KernelOp):
                self._kernel(kernel)

    def _kernel(self, kernel: KernelOp) -> None:
        loops = [op for op in kernel.walk() if isinstance(op, ForOp) and _is_innermost(op)]
        for loop in loops:
            plan = plan_loop(loop)
            if plan is not None:
                stages = self._stages(kernel, plan)
                machine = target(self.target)
                bulk = chosen_for_bulk(plan.copies, kernel.thread_count, machine)
                if stages == 1 and bulk:
                    plan = wait_in_place(plan, bulk)
                Pipeline(kernel, plan, stages, bulk).run()

    def _stages(self, kernel: KernelOp, plan: Plan) -> int:
        chosen = plan.loop.attributes.get(STAGES)
        if isinstance(chosen, IntegerAttr):
            self._check(kernel, plan, chosen.value.data)
            return chosen.value.data
        return self.stages or choose_stages(kernel, plan, target(self.target))

    def _check(self, kernel: KernelOp, plan: Plan, stages: int) -> None:
        machine = target(self.target)
        cost = loop_cost(kernel, plan, machine)
        if stages < 1 or not fits(cost, stages, machine):
            needed = (stages * cost.stage_bytes + cost.other_bytes) >> 10
            raise fail(
                f"a pipeline of {stages} stages does not fit: it takes {needed} KiB of shared "
                f"memory, and a block of {machine.name} has {machine.shared_per_block >> 10} KiB",
                hint="fewer stages, or smaller tiles",
            )


def _is_innermost(loop: ForOp) -> bool:
    return not any(isinstance(op, ForOp) for op in loop.body.walk())
