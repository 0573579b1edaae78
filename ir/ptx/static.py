"""What is wrong with PTX before it runs: registers, widths, barriers.

Enters: a module of `syntax.py`. Leaves: `StaticFinding`s in the order of the text.

    uninitialized     a register is read where no path has written it
    type_mismatch     an instruction reads or writes a register of another width or kind
    divergent_barrier a barrier of the whole block that only some of its threads may reach

A barrier counts as divergent if whether a thread comes to it depends on a value that differs
between threads: one that comes from `%tid` or `%laneid`, or that is written where only some threads
come. Threads that have ended are no threads of the block any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hectorite.ir.ptx.flow import Block, blocks_of, reads, writes
from hectorite.ir.ptx.syntax import (
    Function,
    Instruction,
    Module,
    Operand,
    Pair,
    Register,
    Special,
)


@dataclass(frozen=True, order=True)
class StaticFinding:
    """A fault at a line of the text."""

    line: int
    kind: str
    message: str


def static_findings(module: Module, kernel: str | None = None) -> list[StaticFinding]:
    """All findings in a module, or in one kernel of it."""
    found: set[StaticFinding] = set()
    for function in module.functions:
        if function.is_declaration or kernel not in (None, function.name):
            continue
        blocks = blocks_of(function.body)
        reached = reachable(blocks)
        found.update(_uninitialized(function, blocks, reached))
        found.update(_mismatches(function))
        if function.is_entry:
            found.update(_divergent_barriers(blocks, reached))
    return sorted(found)


def reachable(blocks: Sequence[Block]) -> set[int]:
    """The numbers of the blocks that control can come to."""
    seen: set[int] = set()
    pending = [0]
    while pending:
        number = pending.pop()
        if number not in seen:
            seen.add(number)
            pending += blocks[number].successors
    return seen


# Registers.


def _uninitialized(
    function: Function, blocks: Sequence[Block], reached: set[int]
) -> Iterator[StaticFinding]:
    """Reads that no write comes before on any path."""
    before: dict[int, set[str]] = {number: set() for number in reached}
    before[0] = {v.name for v in function.parameters if v.space == "reg"}
    pending = sorted(reached, reverse=True)
    while pending:
        block = blocks[pending.pop()]
        after = set(before[block.number])
        for instruction in block.instructions:
            after.update(writes(instruction))
        for successor in block.successors:
            if not after <= before[successor]:
                before[successor] |= after
                pending.append(successor)
    for number in sorted(reached):
        written = set(before[number])
        for instruction in blocks[number].instructions:
            for name in dict.fromkeys(reads(instruction)):
                if name not in written:
                    message = f"`{name}` is read, and nothing has written it on any path to here"
                    yield StaticFinding(instruction.line, "uninitialized", message)
            written.update(writes(instruction))


WIDTHS = {
    "pred": 1,
    **{f"{sign}{bits}": bits for sign in "sub" for bits in (8, 16, 32, 64)},
    **{"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "b128": 128, "f16x2": 32, "bf16x2": 32},
    **{"tf32": 32, "f32x2": 64, "s16x2": 32, "u16x2": 32},
}
UNIFORM = frozenset(
    """
    add sub mul mad fma div rem min max abs neg and or xor not cnot sqrt rsqrt rcp sin cos lg2 ex2
    tanh popc clz brev copysign sad
    """.split()  # noqa: SIM905
)
"""Instructions all of whose operands have the one type that the suffix ends with."""
COUNTING = frozenset({"popc", "clz"})


def _mismatches(function: Function) -> Iterator[StaticFinding]:
    for item in function.body:
        if not isinstance(item, Instruction):
            continue
        for operand, wanted, may_be_wider in _typed_operands(item):
            inner = operand.first if isinstance(operand, Pair) else operand
            if not isinstance(inner, Register):
                continue
            declared = function.registers[inner.name]
            if not _agree(declared, wanted, may_be_wider):
                message = f"`{item.mnemonic}` takes .{wanted} where `{inner.name}` is .{declared}"
                yield StaticFinding(item.line, "type_mismatch", message)


def _typed_operands(item: Instruction) -> Iterator[tuple[Operand, str, bool]]:
    """Operands whose type follows from the suffix: operand, type, whether it may be wider."""
    types = [part for part in item.suffix if part in WIDTHS]
    if not types:
        return
    if item.name in UNIFORM:
        wide = {16: "32", 32: "64"}.get(WIDTHS[types[-1]]) if "wide" in item.suffix else None
        for number, operand in enumerate(item.operands):
            type = types[-1]
            if wide and number in (0, 3):
                type = type[0] + wide
            elif item.name in COUNTING and number == 0:
                type = "b32"
            yield operand, type, False
    elif item.name in ("shl", "shr"):
        for operand, type in zip(item.operands, (types[-1], types[-1], "u32"), strict=False):
            yield operand, type, False
    elif item.name == "setp":
        yield from ((operand, types[-1], False) for operand in item.operands[1:3])
    elif item.name == "selp":
        yield from ((operand, types[-1], False) for operand in item.operands[:3])
    elif item.name == "mov" and len(item.operands) == 2:
        yield from ((operand, types[-1], False) for operand in item.operands)
    elif item.name == "cvt" and len(types) == 2 and len(item.operands) == 2:
        yield item.operands[0], types[0], True
        yield item.operands[1], types[1], True
    elif item.name == "ld":
        yield item.operands[0], types[-1], True
    elif item.name == "st":
        yield item.operands[-1], types[-1], True


def _agree(declared: str, wanted: str, may_be_wider: bool) -> bool:
    """Whether a register of one type may stand where another is wanted."""
    have, want = WIDTHS.get(declared), WIDTHS.get(wanted)
    if have is None or want is None:
        return True
    if may_be_wider and have > want and not _is_float(declared):
        return True
    if have != want:
        return False
    untyped = declared[0] == "b" and declared != "bf16" or wanted[0] == "b" and wanted != "bf16"
    packed = "x2" in wanted or wanted == "tf32" or "x2" in declared
    return untyped or packed or may_be_wider or _is_float(declared) == _is_float(wanted)


def _is_float(type: str) -> bool:
    return type.startswith(("f", "bf"))


# Barriers.

DIFFERENT = frozenset({"tid", "laneid", "warpid", "clock", "clock64", "globaltimer"})
"""Special registers that differ between threads; so do those that begin with `lanemask`."""
EXCHANGES = frozenset({"atom", "shfl", "match", "activemask", "elect", "vote", "redux", "mma"})
"""Instructions whose results may differ between threads, whatever they are given."""


def _divergent_barriers(blocks: Sequence[Block], reached: set[int]) -> Iterator[StaticFinding]:
    barriers = [
        (block.number, item)
        for block in blocks
        if block.number in reached
        for item in block.instructions
        if is_block_barrier(item)
    ]
    if not barriers:
        return
    decided_by = control_dependences(blocks, reached)
    different, guards = _different(blocks, reached, decided_by)
    for number, item in barriers:
        if item.guard is not None and item.guard.register in different:
            message = f"only threads for which `{item.guard.register}` holds come to this barrier"
            yield StaticFinding(item.line, "divergent_barrier", message)
        for branch in sorted(decided_by[number]):
            if branch in guards:
                last = blocks[branch].instructions[-1]
                message = (
                    f"whether a thread comes to this barrier depends on the branch in line "
                    f"{last.line}, and `{guards[branch]}` differs between threads"
                )
                yield StaticFinding(item.line, "divergent_barrier", message)
                break


def is_block_barrier(item: Instruction) -> bool:
    """A barrier that waits for every thread of the block."""
    if item.name not in ("bar", "barrier") or "warp" in item.suffix or "cluster" in item.suffix:
        return False
    return "sync" in item.suffix and len(item.operands) == 1


def _different(
    blocks: Sequence[Block], reached: set[int], decided_by: dict[int, set[int]]
) -> tuple[set[str], dict[int, str]]:
    """Registers that differ between threads, and the register of each branch that does."""
    different: set[str] = set()
    guards: dict[int, str] = {}
    changed = True
    while changed:
        changed = False
        for number in sorted(reached):
            some_come = any(branch in guards for branch in decided_by[number])
            for item in blocks[number].instructions:
                sources = reads(item)
                if some_come or _is_different(item) or any(s in different for s in sources):
                    new = set(writes(item)) - different
                    different |= new
                    changed |= bool(new)
            last = blocks[number].instructions[-1:]
            if last and len(set(blocks[number].successors)) > 1 and number not in guards:
                found = [name for name in reads(last[0]) if name in different]
                if found:
                    guards[number] = found[0]
                    changed = True
    return different, guards


def _is_different(item: Instruction) -> bool:
    if item.name in EXCHANGES:
        return True
    names = [operand.name for operand in item.operands if isinstance(operand, Special)]
    return any(n.partition(".")[0] in DIFFERENT or n.startswith("lanemask") for n in names)


def control_dependences(blocks: Sequence[Block], reached: set[int]) -> dict[int, set[int]]:
    """For each block the branches that decide whether control comes to it.

    A branch whose other way is the end at once decides nothing: who has ended is not waited for.
    """
    ends = {number for number in reached if _only_ends(blocks[number])}
    following: dict[int, list[int]] = {}
    for number in reached:
        successors = list(dict.fromkeys(blocks[number].successors))
        going_on = [s for s in successors if s not in ends]
        following[number] = going_on if going_on else successors
    behind = _postdominators(_ending(following, blocks), reached)
    decided: dict[int, set[int]] = {number: set() for number in reached}
    for branch in reached:
        if len(following[branch]) < 2:
            continue
        for successor in following[branch]:
            for number in behind[successor]:
                if number == branch or number not in behind[branch]:
                    decided[number].add(branch)
    return _closed(decided)


def _ending(following: dict[int, list[int]], blocks: Sequence[Block]) -> dict[int, list[int]]:
    """The ways through the blocks, with those to an end put back where no other way leads to one:
    a loop that only the end leaves."""
    ending = {number for number in following if not following[number]}
    pending = list(ending)
    while pending:
        behind = pending.pop()
        for number, successors in following.items():
            if behind in successors and number not in ending:
                ending.add(number)
                pending.append(number)
    return {
        number: successors if number in ending else list(dict.fromkeys(blocks[number].successors))
        for number, successors in following.items()
    }


def _closed(decided: dict[int, set[int]]) -> dict[int, set[int]]:
    """With the branches that decide whether control comes to a deciding branch."""
    changed = True
    while changed:
        changed = False
        for branches in decided.values():
            more = set[int]().union(*(decided[branch] for branch in branches)) - branches
            branches |= more
            changed |= bool(more)
    return decided


def _only_ends(block: Block) -> bool:
    items = block.instructions
    return not items or (len(items) == 1 and items[0].name in ("ret", "exit", "trap"))


def _postdominators(following: dict[int, list[int]], reached: set[int]) -> dict[int, set[int]]:
    """For each block those through which every way from it to the end leads, itself among them."""
    behind = {number: set(reached) if following[number] else {number} for number in reached}
    changed = True
    while changed:
        changed = False
        for number in sorted(reached, reverse=True):
            if not following[number]:
                continue
            common = set[int].intersection(*(behind[s] for s in following[number]))
            now = common | {number}
            if now != behind[number]:
                behind[number] = now
                changed = True
    return behind
