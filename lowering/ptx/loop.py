"""Loops as PTX: addresses that the counter moves are carried, not computed anew.

Enters: an `scf.for`. Leaves: a loop of the `ptx` dialect. An access of its body whose one changing
index is the counter (and perhaps a number) has a pointer, which each iteration moves on; accesses
that differ by a number share one. The assembler then unrolls the loop with numbers as offsets.

    %p = %e + 4 * %lower
    loop { %x = ptx.ld "global.nc.f32" [%p]; ...; %p = %p + 4 }
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xdsl.dialects.scf import ForOp
from xdsl.ir import Block, Operation, SSAValue

from hectorite.dialects.tile_memory import ElementAccess, StoreOp
from hectorite.lowering.gpu.tile_layouts import is_tile, known_index, split_index
from hectorite.lowering.ptx.access import Access
from hectorite.lowering.ptx.copies import prepare_sources
from hectorite.lowering.ptx.kernel import PtxKernel
from hectorite.lowering.ptx.writer import At

MOST_POINTERS = 8
"""Addresses that one loop carries; each takes two registers."""

LowerBlock = Callable[[PtxKernel, Block], list[SSAValue]]


class _Pointer:
    """An address that moves with the counter, and the accesses that use it, each with what it
    adds to the counter."""

    def __init__(self, access: Access, axis: int):
        self.access = access
        self.axis = axis
        self.users: list[tuple[ElementAccess, int]] = []

    def step(self, kernel: PtxKernel, by: SSAValue, known: int | None) -> SSAValue | int:
        """How many bytes an iteration moves it."""
        stride = self.access.memory.strides[self.axis]
        if stride.value is None and known is not None:
            return known * stride.factor
        if self.access.memory.space == "shared":
            return kernel.code.op("mul.lo.s32", by, stride.factor)
        if stride.value is None:
            return kernel.code.op("mul.wide.s32", by, stride.factor)
        return kernel.code.op("mul.lo.s64", kernel.code.op("cvt.s64.s32", by), stride.value)


def loop(kernel: PtxKernel, op: ForOp, lower_block: LowerBlock) -> Sequence[SSAValue]:
    """The registers of the results of a loop."""
    code = kernel.code
    counter, *carried = op.body.block.args
    lower, upper, step = (kernel.value(bound) for bound in (op.lb, op.ub, op.step))
    prepare_sources(kernel, op)
    pointers = _pointers(kernel, op)
    starts = [pointer.access.start(pointer.axis, lower) for pointer in pointers]
    steps = [pointer.step(kernel, step, known_index(op.step)) for pointer in pointers]

    def body(index: SSAValue, values: Sequence[SSAValue]) -> list[SSAValue]:
        moving, others = values[: len(pointers)], values[len(pointers) :]
        kernel.registers[counter] = [index]
        kernel.define(carried, others)
        for pointer, start, value in zip(pointers, starts, moving, strict=True):
            stride = pointer.access.memory.strides[pointer.axis]
            for user, ahead in pointer.users:
                kernel.pointers[user] = At(value, start.offset + ahead * stride.factor)
        new = lower_block(kernel, op.body.block)
        moved = [
            code.op("add.s32" if pointer.access.memory.space == "shared" else "add.s64", value, by)
            for pointer, value, by in zip(pointers, moving, steps, strict=True)
        ]
        return [*moved, *new]

    first = [*(start.base for start in starts), *kernel.flat(op.iter_args)]
    results = code.loop(lower, upper, step, first, body)
    return results[len(pointers) :]


def _pointers(kernel: PtxKernel, loop: ForOp) -> list[_Pointer]:
    """The addresses that a loop may carry: those that most accesses share first come."""
    found: dict[tuple[object, ...], _Pointer] = {}
    for op in loop.body.walk():
        if isinstance(op, ElementAccess) and (moved := _moved_index(op, loop)) is not None:
            axis, ahead = moved
            tile = op.value if isinstance(op, StoreOp) else op.results[0]
            access = Access(kernel, op, tile)
            if ahead and access.memory.strides[axis].value is not None:
                continue
            others = tuple(split_index(i) for number, i in enumerate(op.indices) if number != axis)
            key = (op.tensor, axis, others, access.layout, access.axis)
            found.setdefault(key, _Pointer(access, axis)).users.append((op, ahead))
    return list(found.values())[:MOST_POINTERS]


def _moved_index(op: ElementAccess, loop: ForOp) -> tuple[int, int] | None:
    """The one index of an access that the counter moves, and what is added to the counter; None
    if another one changes too, or none."""
    if _is_inside(op.tensor, loop):
        return None
    moved: list[tuple[int, int]] = []
    for axis, index in enumerate(op.indices):
        rest, ahead = split_index(index)
        if rest is loop.body.block.args[0]:
            moved.append((axis, ahead))
        elif is_tile(index) or (rest is not None and _is_inside(rest, loop)):
            return None
    return moved[0] if len(moved) == 1 else None


def _is_inside(value: SSAValue, loop: ForOp) -> bool:
    """Whether a value is made in the body of a loop."""
    block: Block | None = value.owner if isinstance(value.owner, Block) else value.owner.parent
    while block is not None:
        parent: Operation | None = block.parent_op()
        if parent is loop:
            return True
        block = None if parent is None else parent.parent
    return False
