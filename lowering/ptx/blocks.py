"""Simpler graphs of blocks of a `ptx` kernel.

    ^1: ptx.bra ^2(%a)                     jumps to ^1 go to ^2(%a)
    ^2(%x): ... %x ...                     %x is %a, if every jump to ^2 passes %a

Enters: a kernel in SSA. Leaves: the same with fewer blocks and block arguments.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import Block, BlockArgument, SSAValue

from hectorite.dialects.ptx import BranchOp, BraOp, KernelOp, successors


def merge(block: Block, following: Block) -> None:
    """Put a block at the end of the only one that leads to it."""
    last = block.last_op
    assert isinstance(last, BraOp)
    for argument, value in zip(following.args, last.arguments, strict=True):
        argument.replace_all_uses_with(value)
    block.erase_op(last)
    for op in list(following.ops):
        op.detach()
        block.add_op(op)
    region = following.parent_region()
    assert region is not None
    region.erase_block(following)


def thread_jumps(kernel: KernelOp) -> None:
    """Let jumps to a block that only jumps on go where it goes."""
    entry = kernel.body.blocks[0]
    for block in list(kernel.body.blocks):
        jump = block.first_op
        if not isinstance(jump, BraOp) or block is entry or jump.target is block:
            continue
        uses = [use for argument in block.args for use in argument.uses]
        if any(use.operation is not jump for use in uses):
            continue
        target, passed = jump.target, tuple(jump.arguments)
        for other in kernel.body.blocks:
            if other is block or all(to is not block for to, _ in successors(other)):
                continue
            jumps = [
                (target, _through(block, values, passed)) if to is block else (to, list(values))
                for to, values in successors(other)
            ]
            _replace_jump(other, jumps)
        block.erase_op(jump)
        kernel.body.erase_block(block)


def _through(
    block: Block, values: Sequence[SSAValue], passed: Sequence[SSAValue]
) -> list[SSAValue]:
    """What a block passes on, given what it is passed."""
    known = dict(zip(block.args, values, strict=True))
    return [
        known.get(value, value) if isinstance(value, BlockArgument) else value for value in passed
    ]


def remove_single_valued_arguments(kernel: KernelOp) -> None:
    """Remove block arguments that are one value whatever way the block is reached."""
    incoming: dict[BlockArgument, list[SSAValue]] = {}
    for block in kernel.body.blocks:
        for following, values in successors(block):
            for argument, value in zip(following.args, values, strict=True):
                incoming.setdefault(argument, []).append(value)
    same: dict[SSAValue, SSAValue] = {}

    def found(value: SSAValue) -> SSAValue:
        while value in same:
            value = same[value]
        return value

    changed = True
    while changed:
        changed = False
        for argument, values in incoming.items():
            if argument in same:
                continue
            others = {found(value) for value in values} - {argument}
            if len(others) == 1:
                same[argument] = others.pop()
                changed = True
    for block in kernel.body.blocks:
        _pass_only(block, same)
    for argument in same:
        argument.replace_all_uses_with(found(argument))
    for argument in same:
        assert isinstance(argument, BlockArgument)
        argument.block.erase_arg(argument)


def _pass_only(block: Block, same: dict[SSAValue, SSAValue]) -> None:
    """Drop from a block's jump what it passes for arguments that go away."""
    jumps = [
        (target, [v for a, v in zip(target.args, values, strict=True) if a not in same])
        for target, values in successors(block)
    ]
    _replace_jump(block, jumps)


def _replace_jump(block: Block, jumps: Sequence[tuple[Block, list[SSAValue]]]) -> None:
    """Let a block end with the same kind of jump, to other blocks or with other values."""
    last = block.last_op
    if isinstance(last, BraOp):
        block.erase_op(last)
        block.add_op(BraOp(*jumps[0]))
    elif isinstance(last, BranchOp):
        condition = last.condition
        block.erase_op(last)
        block.add_op(BranchOp(condition, *jumps[0], *jumps[1]))
