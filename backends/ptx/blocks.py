"""A kernel's text as blocks of steps, and which instructions bring threads together.

Enters: the instructions of a kernel. Leaves: `StepBlock`s: steps that run one after the other, and
where control goes then. An instruction for which threads wait (`bar.sync`, `shfl.sync`,
`mma.sync`, ...) begins a block; nothing else is in it. Every instruction becomes a step here, so
what the executor does not know is told before anything runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx import access as ptx_access
from hectorite.backends.ptx import async_copies as ptx_async
from hectorite.backends.ptx import atomic as ptx_atomic
from hectorite.backends.ptx import barriers as ptx_barriers
from hectorite.backends.ptx import bits as ptx_bits
from hectorite.backends.ptx import convert as ptx_convert
from hectorite.backends.ptx import float as ptx_float
from hectorite.backends.ptx import fragments as ptx_fragments
from hectorite.backends.ptx import integer as ptx_integer
from hectorite.backends.ptx import matrix as ptx_matrix
from hectorite.backends.ptx import video as ptx_video
from hectorite.backends.ptx import warp as ptx_warp
from hectorite.backends.ptx import wgmma as ptx_wgmma
from hectorite.backends.ptx import wmma as ptx_wmma
from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.diagnostics import did_you_mean
from hectorite.ir.ptx.syntax import Immediate, Instruction, Label, Symbol

Array = npt.NDArray[Any]

BUILDERS: dict[str, ptx_integer.Builder] = {
    **ptx_integer.BUILDERS,
    **ptx_bits.BUILDERS,
    **ptx_convert.BUILDERS,
    **ptx_access.BUILDERS,
    **ptx_atomic.BUILDERS,
    **ptx_warp.BUILDERS,
    **ptx_fragments.BUILDERS,
    **ptx_matrix.BUILDERS,
    **ptx_async.BUILDERS,
    **ptx_barriers.BUILDERS,
    **ptx_wgmma.BUILDERS,
    **ptx_wmma.BUILDERS,
    **ptx_video.BUILDERS,
    "copysign": ptx_float.copysign,
    "testp": ptx_float.testp,
}
_WARP_LEVEL = frozenset({"shfl", "vote", "match", "redux", "elect"})
_MATRIX_LEVEL = frozenset({"mma", "wmma", "ldmatrix", "stmatrix", "movmatrix"})
CLUSTER_BARRIER = 16
"""The number under which `barrier.cluster` waits; those of a block are 0 to 15."""


@dataclass
class StepBlock:
    """Steps, then a place to go. `meeting` is "warp", "group" (four warps) or "barrier" if threads
    come together before the steps; `members` is the mask of those that a warp waits for.
    `is_common`: all threads that come here come to the same barrier, and it needs all of them."""

    number: int
    steps: list[Step] = field(default_factory=list[Step])
    instructions: list[Instruction] = field(default_factory=list[Instruction])
    following: int = 0
    condition: Array | None = None
    negated: bool = False
    target: int = 0
    table: tuple[Array, Array] | None = None
    meeting: str | None = None
    members: Array | None = None
    barrier: Array | None = None
    is_common: bool = True
    count: Array | None = None


def meeting_of(at: Instruction) -> str | None:
    """How threads come together for an instruction."""
    if at.name in ("bar", "barrier"):
        if "warp" in at.suffix:
            return "warp"
        if "arrive" in at.suffix:
            return None
        return "barrier"
    if at.name == "wgmma":
        return "group" if "mma_async" in at.suffix else "warp"
    if at.name in _MATRIX_LEVEL:
        return "warp"
    return "warp" if at.name in _WARP_LEVEL and "sync" in at.suffix else None


class BlockBuilder:
    """Cuts the body into blocks and turns instructions into steps."""

    def __init__(self, code: Code):
        self.code = code
        self.blocks: list[StepBlock] = [StepBlock(0)]
        self.labels: dict[str, int] = {}
        self.tables: dict[str, tuple[str, ...]] = {}
        self.jumps: list[tuple[StepBlock, Instruction, str]] = []

    def build(self) -> list[StepBlock]:
        """All blocks; a thread that goes to a number beyond them has ended."""
        for item in self.code.function.body:
            if isinstance(item, Label):
                self.label(item)
            else:
                self.code.at = item
                self.instruction(item)
        self.open_block()
        self.end = len(self.blocks) - 1
        self.blocks.pop()
        self.connect()
        return self.blocks

    @property
    def last(self) -> StepBlock:
        return self.blocks[-1]

    def open_block(self) -> None:
        """A new block; the last one goes on to it."""
        block = StepBlock(len(self.blocks))
        self.last.following = block.number
        self.blocks.append(block)

    def label(self, item: Label) -> None:
        if item.targets:
            self.tables[item.name] = item.targets
            return
        if self.last.instructions or self.last.condition is not None:
            self.open_block()
        self.labels[item.name] = self.last.number

    def instruction(self, at: Instruction) -> None:
        if at.name in ("bra", "brx", "ret", "exit"):
            self.control(at)
            return
        meeting = meeting_of(at)
        if meeting is None:
            self.last.instructions.append(at)
            self.last.steps.append(build_step(self.code, at))
            return
        self.meet(at, meeting)

    def meet(self, at: Instruction, meeting: str) -> None:
        """An instruction that threads do together, in a block of its own."""
        skipping = None
        if at.guard is not None:
            skipping = self.last
            self.condition(at, not at.guard.negated)
            self.open_block()
            at = Instruction(at.line, at.name, at.suffix, at.operands)
        elif self.last.instructions:
            self.open_block()
        block = self.last
        block.instructions.append(at)
        block.meeting = meeting
        if meeting == "warp":
            block.members = ptx_warp.members_of(self.code, at)
        elif meeting == "barrier":
            self.barrier(block, at)
        block.steps.append(build_step(self.code, at))
        self.open_block()
        if skipping is not None:
            skipping.target = self.last.number

    def barrier(self, block: StepBlock, at: Instruction) -> None:
        """Which barrier, and how many threads it needs."""
        code = self.code
        if "cluster" in at.suffix:
            block.barrier = code.constant(CLUSTER_BARRIER, "u32")
            return
        operands = at.operands[1:] if "red" in at.suffix else at.operands
        counted = operands[1:2]
        if "red" in at.suffix:
            counted = operands[1:2] if len(operands) == 3 else ()
        block.barrier = code.operand(operands[0] if operands else Immediate(0), "u32")
        count = counted[0] if counted else None
        if isinstance(count, Immediate) and count.value == code.width:
            count = None
        block.count = None if count is None else code.operand(count, "u32")
        block.is_common = count is None and (not operands or isinstance(operands[0], Immediate))

    def condition(self, at: Instruction, negated: bool) -> None:
        assert at.guard is not None
        self.last.condition = self.code.registers[at.guard.register]
        self.last.negated = negated

    def control(self, at: Instruction) -> None:
        block = self.last
        block.instructions.append(at)
        if at.guard is not None:
            self.condition(at, at.guard.negated)
        if at.name in ("ret", "exit"):
            self.jumps.append((block, at, ""))
        elif at.name == "bra":
            self.jumps.append((block, at, _label_of(self.code, at)))
        else:
            self.jumps.append((block, at, "brx"))
        self.open_block()

    def connect(self) -> None:
        for block, at, name in self.jumps:
            self.code.at = at
            if name == "brx":
                self.table(block, at)
                continue
            target = self.labels.get(name, self.end) if name else self.end
            block.target = self.final(target)
            if block.condition is None:
                block.following = block.target
        for block in self.blocks:
            block.following = self.final(block.following)

    def final(self, number: int) -> int:
        """The end, for a block that does nothing but end: threads leave as soon as they may."""
        if number >= self.end:
            return self.end
        block = self.blocks[number]
        only_ends = [at.name for at in block.instructions] in (["ret"], ["exit"])
        return self.end if only_ends and block.condition is None else number

    def table(self, block: StepBlock, at: Instruction) -> None:
        name = at.operands[1]
        if not isinstance(name, Symbol) or name.name not in self.tables or at.guard is not None:
            raise self.code.unsupported()
        index = self.code.operand(at.operands[0], "u32")
        targets = [self.final(self.labels[label]) for label in self.tables[name.name]]
        block.table = (index, np.asarray(targets))


def _label_of(code: Code, at: Instruction) -> str:
    target = at.operands[0]
    if not isinstance(target, Symbol):
        raise code.error("expected a label")
    return target.name


def build_step(code: Code, at: Instruction) -> Step:
    """The step of an instruction, for the lanes where its guard holds.

    Raises `HectoriteError` for what the executor does not know.
    """
    code.at = at
    builder = _builder(code, at)
    try:
        step = builder(code, at)
    except (IndexError, KeyError, StopIteration, ValueError, TypeError) as fault:
        raise code.error(f"`{at.mnemonic}` is not understood with these operands") from fault
    if code.watch.is_watching:
        step = code.watch.watched(code, at, step)
    if at.guard is None:
        return step
    return code.guarded(step, at.guard.register, at.guard.negated)


def _builder(code: Code, at: Instruction) -> ptx_integer.Builder:
    types = [part for part in at.suffix if part in DTYPES]
    if at.name in ptx_float.BUILDERS and types and ptx_integer.is_float(types[-1]):
        return ptx_float.BUILDERS[at.name]
    if at.name == "trap":
        return _trap
    if at.name == "nanosleep":
        return _sleep
    if at.name in BUILDERS:
        return BUILDERS[at.name]
    known = {*BUILDERS, *ptx_float.BUILDERS}
    raise code.error(
        f"`{at.mnemonic}` is not supported by the executor", hint=did_you_mean(at.name, known)
    )


def _trap(code: Code, at: Instruction) -> Step:
    def run(lanes: Lanes) -> None:
        raise code.error("the kernel reached a trap", at)

    return run


def _sleep(code: Code, at: Instruction) -> Step:
    def run(lanes: Lanes) -> None:
        code.is_spinning = True

    return run
