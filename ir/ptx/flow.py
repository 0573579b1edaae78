"""How control and registers flow through PTX text: blocks, reads and writes, liveness.

Enters: a function of `syntax.py`. Leaves: its basic blocks with their successors, for each
instruction the registers that it reads and writes, and for each block the registers that are live
where it begins. Calls can be replaced by the called functions' text
before (`backends/ptx/jit_inline.py`).

    @%p1 bra $done;          Block 0 ends here; successors: the block of $done, and the next
    mov.u32 %r1, %r2;        Block 1: reads {%r2}, writes {%r1}
    $done:                   Block 2
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hectorite.ir.ptx.syntax import (
    Address,
    Braces,
    Call,
    Function,
    Instruction,
    Label,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
)

NO_RESULT = frozenset(
    """
    st red bra brx ret exit trap brkpt bar barrier fence membar cp prefetch prefetchu discard
    applypriority nanosleep pmevent griddepcontrol setmaxnreg stmatrix stackrestore
    multimem tensormap
    """.split()  # noqa: SIM905
)
"""Instructions none of whose operands is a result, whatever stands first."""

ENDS = frozenset({"ret", "exit", "trap"})
"""After these, unless guarded, a thread does not go on in this function."""


@dataclass
class Block:
    """Instructions that run one after the other. `successors` are numbers of blocks."""

    number: int
    labels: list[str] = field(default_factory=list[str])
    instructions: list[Instruction] = field(default_factory=list[Instruction])
    successors: list[int] = field(default_factory=list[int])


def registers_in(operand: Operand) -> Iterator[str]:
    """The names of all registers that an operand mentions."""
    match operand:
        case Register(name):
            yield name
        case Address(base, _, coordinates):
            yield from registers_in(base)
            for item in coordinates:
                yield from registers_in(item)
        case Braces(items):
            for item in items:
                yield from registers_in(item)
        case Pair(first, second):
            yield from registers_in(first)
            yield from registers_in(second)
        case Negated(inner):
            yield from registers_in(inner)
        case Call(results, _, arguments):
            for item in (*results, *arguments):
                yield from registers_in(item)
        case _:
            pass


def results_of(instruction: Instruction) -> tuple[Operand, ...]:
    """The operands that an instruction writes."""
    operands = instruction.operands
    if instruction.name == "call":
        return operands[0].results if operands and isinstance(operands[0], Call) else ()
    if instruction.name in NO_RESULT and "red" not in instruction.suffix[:1]:
        return ()
    if instruction.name in ("st", "red", "multimem", "cp"):
        return ()
    if operands and isinstance(operands[0], Register | Pair | Braces | Sink):
        return operands[:1]
    return ()


def writes(instruction: Instruction) -> list[str]:
    """The registers that an instruction may write, in order."""
    return [name for operand in results_of(instruction) for name in registers_in(operand)]


def reads(instruction: Instruction) -> list[str]:
    """The registers that an instruction reads, its guard among them, in order."""
    found = [instruction.guard.register] if instruction.guard else []
    if instruction.name == "call":
        for operand in instruction.operands:
            sources = operand.arguments if isinstance(operand, Call) else (operand,)
            found += [name for source in sources for name in registers_in(source)]
        return found
    skipped = len(results_of(instruction))
    for operand in instruction.operands[skipped:]:
        found += registers_in(operand)
    if instruction.mnemonic.startswith("wgmma.mma_async"):
        found += writes(instruction)  # the accumulators are read as well
    return found


def blocks_of(body: Sequence[Instruction | Label]) -> list[Block]:
    """The basic blocks of a function's text, in its order. The first is where it begins; every
    block has at least a place, so a label at the end has an empty one."""
    blocks = [Block(0)]
    tables: dict[str, tuple[str, ...]] = {}
    fresh = True
    for item in body:
        if isinstance(item, Label):
            if item.targets:
                tables[item.name] = item.targets
                continue
            if not fresh:
                blocks.append(Block(len(blocks)))
            blocks[-1].labels.append(item.name)
            fresh = not blocks[-1].instructions
            continue
        blocks[-1].instructions.append(item)
        fresh = False
        if item.name in ("bra", "brx") or item.name in ENDS:
            blocks.append(Block(len(blocks)))
            fresh = True
    _connect(blocks, tables)
    return blocks


def branch_targets(instruction: Instruction, tables: dict[str, tuple[str, ...]]) -> list[str]:
    """The labels that a branch may go to."""
    last = instruction.operands[-1] if instruction.operands else None
    name = getattr(last, "name", None)
    if not isinstance(name, str):
        return []
    return list(tables.get(name, (name,)))


def target_tables(body: Sequence[Instruction | Label]) -> dict[str, tuple[str, ...]]:
    """The `.branchtargets` tables by name."""
    return {item.name: item.targets for item in body if isinstance(item, Label) and item.targets}


def live_registers(blocks: Sequence[Block]) -> list[frozenset[str]]:
    """For each block the registers whose values at its beginning may still be read."""
    uses: list[set[str]] = []
    kills: list[set[str]] = []
    for block in blocks:
        used, killed = set[str](), set[str]()
        for instruction in block.instructions:
            used.update(name for name in reads(instruction) if name not in killed)
            if instruction.guard is None:
                killed.update(writes(instruction))
        uses.append(used)
        kills.append(killed)
    live = [frozenset[str]() for _ in blocks]
    changed = True
    while changed:
        changed = False
        for block in reversed(blocks):
            after = frozenset[str]().union(*(live[s] for s in block.successors))
            before = frozenset(uses[block.number] | (after - kills[block.number]))
            if before != live[block.number]:
                live[block.number] = before
                changed = True
    return live


def live_after(block: Block, index: int, live: Sequence[frozenset[str]]) -> frozenset[str]:
    """The registers live behind instruction `index` of a block. `live` is of `live_registers`."""
    now = set[str]().union(*(live[s] for s in block.successors))
    for instruction in reversed(block.instructions[index + 1 :]):
        if instruction.guard is None:
            now.difference_update(writes(instruction))
        now.update(reads(instruction))
    return frozenset(now)


def in_cycle(blocks: Sequence[Block]) -> set[int]:
    """The numbers of the blocks that a thread can reach again after leaving them."""
    inside: set[int] = set()
    for block in blocks:
        seen: set[int] = set()
        pending = list(block.successors)
        while pending:
            number = pending.pop()
            if number in seen:
                continue
            seen.add(number)
            pending += blocks[number].successors
        if block.number in seen:
            inside.add(block.number)
    return inside


def _connect(blocks: list[Block], tables: dict[str, tuple[str, ...]]) -> None:
    at = {label: block.number for block in blocks for label in block.labels}
    for block in blocks:
        last = block.instructions[-1] if block.instructions else None
        following = [block.number + 1] if block.number + 1 < len(blocks) else []
        if last is None or not (last.name in ("bra", "brx") or last.name in ENDS):
            block.successors = following
            continue
        taken: list[int] = []
        if last.name in ("bra", "brx"):
            taken = [at[label] for label in branch_targets(last, tables) if label in at]
        block.successors = taken + (following if last.guard is not None else [])


def function_named(functions: Sequence[Function], name: str) -> Function | None:
    """The definition of a function, else a declaration of it, else None."""
    same = [function for function in functions if function.name == name]
    defined = [function for function in same if not function.is_declaration]
    return (defined or same or [None])[0]
