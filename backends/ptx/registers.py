"""Registers for the values of a `ptx` kernel: which values share one.

Enters: a kernel in SSA. Leaves: a number for each value; values with one number live in one
register. A block argument and what is passed for it share a register where their lives do not
overlap, so that loops need no moves; so do results that an instruction updates in place. All
other values have registers of their own: the assembler allocates the real ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from xdsl.ir import Block, BlockArgument, Operation, SSAValue

from hectorite.dialects.ptx import ConstantOp, KernelOp, successors
from hectorite.dialects.ptx_instruction import InstructionOp

Segment = tuple[int, int]


def _written_out(kernel: KernelOp) -> set[SSAValue]:
    """Constants that stand in the text where they are used and need no register.

    One that an instruction updates in place is in a register from the start: a move just before
    would come between instructions that must follow each other.
    """
    constants: set[SSAValue] = set()
    updated: set[SSAValue] = set()
    for op in kernel.walk():
        if isinstance(op, ConstantOp):
            constants.add(op.result)
        elif isinstance(op, InstructionOp):
            updated.update(old for _, old in op.tied)
    return constants - updated


@dataclass
class _Lives:
    """Where each value lives, as segments of positions: an operation reads at an even position and
    writes at the next odd one."""

    segments: dict[SSAValue, list[Segment]] = field(default_factory=dict[SSAValue, list[Segment]])

    def add(self, value: SSAValue, start: int, end: int) -> None:
        self.segments.setdefault(value, []).append((start, max(end, start + 1)))


def _live_out(kernel: KernelOp, constants: set[SSAValue]) -> dict[Block, set[SSAValue]]:
    """Values that live at the end of each block, by iteration to a fixed point."""
    blocks = list(kernel.body.blocks)
    used: dict[Block, set[SSAValue]] = {}
    defined: dict[Block, set[SSAValue]] = {}
    for block in blocks:
        written: set[SSAValue] = set(block.args)
        read: set[SSAValue] = set()
        for op in block.ops:
            read.update(v for v in op.operands if v not in written and v not in constants)
            written.update(op.results)
        used[block], defined[block] = read, written
    live_in = {block: set(used[block]) for block in blocks}
    live_out: dict[Block, set[SSAValue]] = {block: set() for block in blocks}
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            out = live_out[block]
            for following, _ in successors(block):
                out |= live_in[following]
            new = used[block] | (out - defined[block])
            if new != live_in[block]:
                live_in[block], changed = new, True
    return live_out


def _lives(kernel: KernelOp, constants: set[SSAValue]) -> tuple[_Lives, dict[Operation, int]]:
    live_out, lives = _live_out(kernel, constants), _Lives()
    positions: dict[Operation, int] = {}
    at = 0
    for block in kernel.body.blocks:
        first = at
        last_use: dict[SSAValue, int] = {}
        start: dict[SSAValue, int] = dict.fromkeys(block.args, first + 1)
        at += 2
        for op in block.ops:
            positions[op] = at
            for operand in op.operands:
                if operand not in constants:
                    last_use[operand] = at
            for result in op.results:
                if result not in constants:
                    start[result] = at + 1
            at += 2
        end = at
        at += 2
        for value in {**start, **last_use, **dict.fromkeys(live_out[block])}:
            upper = end if value in live_out[block] else last_use.get(value, 0)
            lives.add(value, start.get(value, first), upper)
    return lives, positions


@dataclass
class _Classes:
    """Sets of values that share a register, with the union of their lives."""

    lives: _Lives
    parent: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])

    def find(self, value: SSAValue) -> SSAValue:
        while (parent := self.parent.get(value)) is not None:
            value = parent
        return value

    def join(self, a: SSAValue, b: SSAValue) -> bool:
        """Let two values share a register if they may; whether they do."""
        a, b = self.find(a), self.find(b)
        if a is b:
            return True
        mine, other = self.lives.segments.get(a, []), self.lives.segments.get(b, [])
        if a.type != b.type or _overlap(mine, other):
            return False
        self.parent[b] = a
        self.lives.segments[a] = sorted([*mine, *other])
        return True


def _overlap(a: list[Segment], b: list[Segment]) -> bool:
    """Whether two sorted lists of segments have a point in common."""
    i = j = 0
    while i < len(a) and j < len(b):
        if max(a[i][0], b[j][0]) < min(a[i][1], b[j][1]):
            return True
        if a[i][1] <= b[j][1]:
            i += 1
        else:
            j += 1
    return False


def _edges(kernel: KernelOp) -> Iterator[tuple[BlockArgument, SSAValue]]:
    """Arguments with what is passed for them; those of backward jumps first."""
    order = {block: number for number, block in enumerate(kernel.body.blocks)}
    pairs: list[tuple[bool, BlockArgument, SSAValue]] = []
    for block in kernel.body.blocks:
        for following, values in successors(block):
            forward = order[following] > order[block]
            pairs += [(forward, a, v) for a, v in zip(following.args, values, strict=True)]
    for wanted in (False, True):
        yield from ((a, v) for forward, a, v in pairs if forward is wanted)


def assign_registers(kernel: KernelOp) -> dict[SSAValue, int]:
    """A number for every value that is in a register, counted from 0 for each kind.

    Constants that are not among them stand in the text where they are used.
    """
    constants = _written_out(kernel)
    lives, positions = _lives(kernel, constants)
    for segments in lives.segments.values():
        segments.sort()
    classes = _Classes(lives)
    for block in kernel.body.blocks:
        for op in block.ops:
            if isinstance(op, InstructionOp):
                for result, old in op.tied:
                    if old not in constants and classes.join(old, result):
                        continue
                    # A move before the instruction fills the register: it is written early.
                    root = classes.find(result)
                    early = (positions[op] - 1, positions[op] + 2)
                    lives.segments[root] = sorted([*lives.segments[root], early])
    for argument, value in _edges(kernel):
        if value not in constants:
            classes.join(argument, value)
    return _numbered(kernel, classes, constants)


def _numbered(kernel: KernelOp, classes: _Classes, constants: set[SSAValue]) -> dict[SSAValue, int]:
    counts: dict[str, int] = {}
    numbers: dict[SSAValue, int] = {}
    for block in kernel.body.blocks:
        values = [*block.args, *(result for op in block.ops for result in op.results)]
        for value in values:
            if value in constants:
                continue
            root = classes.find(value)
            if root not in numbers:
                kind = str(root.type)
                numbers[root] = counts.get(kind, 0)
                counts[kind] = numbers[root] + 1
            numbers[value] = numbers[root]
    return numbers
