"""A module of the tile level as PTX text, with the plan of its program ahead.

Enters: a module with one `tile.program` and the kernels it launches, scheduled for a GPU. Leaves:
the program's plan, and the PTX of its kernels.
"""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp

from hectorite.backends.host.plan import Blocks, Plan, comment, plan_of
from hectorite.backends.ptx.print import module_to_text
from hectorite.ir.target import Target
from hectorite.lowering.gpu_pipeline import Observe, for_threads
from hectorite.lowering.ptx.tile_to_ptx import tile_to_ptx


def lower_to_ptx(
    module: ModuleOp, target: Target, observe: Observe | None = None
) -> tuple[Plan, ModuleOp]:
    """The plan of a module's program, and its kernels in the `ptx` dialect; `observe` sees the
    module after each pass.

    Raises `HectoriteError` for what the target has no code for.
    """
    module = for_threads(module, target, observe)
    plan = plan_of(module)
    lowered, shapes = tile_to_ptx(module, target)
    lowered.verify()
    blocks = {
        name: Blocks(shape.block, shape.per_block, shape.shared) for name, shape in shapes.items()
    }
    return plan.with_blocks(blocks), lowered


def compile_ptx(
    module: ModuleOp, target: Target, observe: Observe | None = None
) -> tuple[Plan, str]:
    """What `lower_to_ptx` says, with the kernels as PTX text."""
    plan, lowered = lower_to_ptx(module, target, observe)
    return plan, module_to_text(lowered)


def to_ptx_text(module: ModuleOp, target: Target) -> str:
    """PTX of a module, its plan ahead as comments."""
    plan, text = compile_ptx(module, target)
    return f"{comment(plan, 'ptx')}\n{text}"
