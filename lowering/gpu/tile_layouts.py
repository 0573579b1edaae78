"""What the passes of the GPU path ask of a kernel: how values lie, what memory is written.

Enters: a `tile.kernel`. Leaves: answers. `lies` needs the layouts that `assign_layouts` gives.
"""

from __future__ import annotations

from typing import cast

from xdsl.dialects.builtin import IntegerAttr, VectorType
from xdsl.dialects.scf import ForOp, IfOp, YieldOp
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_layout import LayoutAttr, layout_attribute
from hectorite.dialects.tile_memory import ElementAccess
from hectorite.dialects.tile_program import LaunchOp
from hectorite.ir.layout import Layout
from hectorite.ir.scalar import OPERATIONS, ConstantOp, ScalarOp

THREADS = "threads"
DEFAULT_THREADS = 32


def threads_of(kernel: KernelOp) -> int:
    """How many threads do one task of a kernel together."""
    stated = kernel.attributes.get(THREADS) or kernel.properties.get(THREADS)
    return stated.value.data if isinstance(stated, IntegerAttr) else DEFAULT_THREADS


def is_tile(value: SSAValue) -> bool:
    """Whether a value is a vector."""
    return isinstance(value.type, VectorType)


def lies(value: SSAValue) -> Layout:
    """The layout of a tile of an annotated kernel."""
    if isinstance(value, BlockArgument):
        loop = cast(ForOp, value.owner.parent_op())
        return lies(loop.iter_args[value.index - 1])
    op, number = cast(OpResult, value).op, cast(OpResult, value).index
    stated = layout_attribute(op)
    if isinstance(stated, LayoutAttr):
        return stated.data
    if isinstance(op, ForOp):
        return lies(op.iter_args[number])
    if isinstance(op, IfOp):
        return lies(yielded(op.true_region.block)[number])
    return lies(next(operand for operand in op.operands if is_tile(operand)))


def yielded(block: Block) -> tuple[SSAValue, ...]:
    """What the block of a loop or a branch passes on."""
    last = block.last_op
    return tuple(last.operands) if isinstance(last, YieldOp) else ()


def same_memory(kernel: KernelOp) -> dict[SSAValue, SSAValue]:
    """For each parameter that a launch gives the tensor of an earlier one too: that earlier one."""
    module = kernel.parent_op()
    found: dict[SSAValue, SSAValue] = {}
    for op in module.walk() if module is not None else ():
        if isinstance(op, LaunchOp) and op.kernel.root_reference == kernel.sym_name:
            first: dict[SSAValue, SSAValue] = {}
            for parameter, given in zip(kernel.parameters, op.arguments, strict=True):
                earlier = first.setdefault(given, found.get(parameter, parameter))
                if earlier is not parameter:
                    found[parameter] = earlier
    return found


def written_memory(kernel: KernelOp) -> set[SSAValue]:
    """The tensors that a kernel may write, under any name."""
    same = same_memory(kernel)
    written = {same.get(tensor, tensor) for tensor in _written(kernel)}
    return written | {name for name, tensor in same.items() if tensor in written}


def _written(kernel: KernelOp) -> set[SSAValue]:
    found: set[SSAValue] = set()
    for op in kernel.walk():
        if isinstance(op, ElementAccess) and not op.results:
            found.add(op.tensor)
        elif (target := written_by_name(op)) is not None:
            found.add(target)
    return found


def written_by_name(op: Operation) -> SSAValue | None:
    """The tensor that an operation other than a store writes."""
    return getattr(op, "target", None) if op.name.startswith("tile.") else None


def known_index(value: SSAValue) -> int | None:
    """An index if it is a constant."""
    op = value.owner
    return int(op.number) if isinstance(op, ConstantOp) and not is_tile(value) else None


def split_index(value: SSAValue) -> tuple[SSAValue | None, int]:
    """An index as a value (None: 0) and a number that is added to it."""
    if (number := known_index(value)) is not None:
        return None, number
    op = value.owner
    if isinstance(op, OPERATIONS["add"]):
        for one, other in (op.operands, reversed(op.operands)):
            if (number := known_index(other)) is not None:
                rest, more = split_index(one)
                return rest, number + more
    return value, 0


def is_elementwise(op: Operation) -> bool:
    """Whether each element of the result depends on the same element of each operand."""
    return isinstance(op, ScalarOp) or op.name == "scalar.cast"
