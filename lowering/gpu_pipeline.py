"""The passes between the tile level and PTX, in order.

    tile --tile_passes--> tile with layouts --tile_to_ptx--> ptx --print--> PTX text

Enters: a module of the tile level that was scheduled for a GPU (`Machine.gpu`). Leaves: one whose
values have layouts over the threads of a block, as `ptx/tile_to_ptx.py` takes it.
"""

from collections.abc import Callable

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.ir.target import Target
from hectorite.lowering.gpu.assign_layouts import AssignLayouts
from hectorite.lowering.gpu.insert_barriers import InsertBarriers
from hectorite.lowering.gpu.pack_operands import PackOperands
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.promote_locals import PromoteLocals
from hectorite.lowering.gpu.reuse_values import ReuseValues
from hectorite.lowering.gpu.stage_products import StageProducts
from hectorite.lowering.gpu.unroll_gathers import UnrollGathers

Observe = Callable[[str, ModuleOp], None]  # called after each pass with its name and the module


def tile_passes(target: Target) -> tuple[ModulePass, ...]:
    """What happens at the tile level for a GPU once its kernels are there."""
    return (
        # Sums that live in values, not in memory, need neither layouts proven alike nor barriers.
        PromoteLocals(),
        # Values that several statements need are made once, before anything is made from them.
        ReuseValues(),
        # Operands that many blocks read lie as bulk copies want them first.
        PackOperands(target.name),
        # Whole products become loops over blocks, which the next pass can pipeline.
        StageProducts(target.name),
        # Rows that are gathered at once have their indices asked for at once, too.
        UnrollGathers(),
        PipelineCopies(target.name),
        # Layouts are chosen once for all values, when none is added any more.
        AssignLayouts(),
        # Layouts prove where no barrier is needed.
        InsertBarriers(),
    )


def for_threads(module: ModuleOp, target: Target, observe: Observe | None = None) -> ModuleOp:
    """tile -> tile: a module after all passes. Its program may have more launches than before."""
    module = module.clone()
    for each in tile_passes(target):
        each.apply(Context(), module)
        if observe is not None:
            observe(each.name, module)
    return module
