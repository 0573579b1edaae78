"""What a kernel's machine code is made of: its mix of instructions, its loops, its flops.

Enters: a `Listing` (`sass.py`). Leaves: `Statistics`: instructions by class, the innermost
loops that work, and the flops of one warp for each warp instruction in the loop that does most of
the arithmetic. NOP, which only fills space, is counted nowhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hectorite.backends.machine_code.sass import Instruction, Listing

CLASSES: Mapping[str, str] = {
    "tensor": "HMMA IMMA BMMA QMMA DMMA OMMA HGMMA IGMMA QGMMA BGMMA UTCHMMA UTCIMMA UTCQMMA",
    "f32": "FFMA FADD FMUL FFMA2 FADD2 FMUL2 FMNMX FMNMX3 FSETP FSEL FSET FCHK FSWZADD",
    "f64": "DFMA DADD DMUL DSETP DMNMX",
    "f16": "HFMA2 HADD2 HMUL2 HMNMX2 HSETP2 HSET2",
    "dot": "IDP IDP4A",
    "special": "MUFU",
    "convert": "F2F F2FP F2I F2IP I2F I2FP I2I I2IP FRND",
    "move": "MOV UMOV R2UR S2R S2UR CS2R CS2UR P2R R2P UP2UR UR2UP",
    "load": "LDG LD",
    "store": "STG ST",
    "copy": "LDGSTS UBLKCP UTMALDG UTMASTG UBLKPF UTMAPF",
    "atomic": "RED REDG ATOM ATOMG ATOMS UBLKRED UTMAREDG STAS",
    "shared_load": "LDS LDSM",
    "shared_store": "STS STSM",
    "local": "LDL STL",
    "constant": "LDC ULDC LDCU",
    "warp": "SHFL VOTE VOTEU REDUX CREDUX MATCH ELECT",
    "sync": "BAR DEPBAR LDGDEPBAR SYNCS MEMBAR WARPGROUP WARPSYNC ERRBAR CGAERRBAR CCTL ARRIVES "
    "FENCE ACQBULK PREEXIT UTMACMDFLUSH UCGABAR_ARV UCGABAR_WAIT CCTLL",
    "control": "BRA BRX BRXU JMP JMX EXIT CALL RET BSSY BSYNC BREAK BMOV YIELD NANOSLEEP BPT KILL",
}
"""Opcodes by class; any other is of the class `int`."""

_CLASS_OF = {name: kind for kind, names in CLASSES.items() for name in names.split()}

_SCALAR_FLOPS = {
    "FFMA": 2, "FFMA2": 4, "FADD": 1, "FMUL": 1, "FADD2": 2, "FMUL2": 2,
    "DFMA": 2, "DADD": 1, "DMUL": 1, "HFMA2": 4, "HADD2": 2, "HMUL2": 2,
}  # fmt: skip
"""Flops of one thread; a multiply-add is two."""

_SHAPES = {
    "884": (8, 8, 4), "8816": (8, 8, 16), "8832": (8, 8, 32), "88128": (8, 8, 128),
    "1684": (16, 8, 4), "1688": (16, 8, 8), "16816": (16, 8, 16), "16832": (16, 8, 32),
    "16864": (16, 8, 64), "168128": (16, 8, 128), "168256": (16, 8, 256),
}  # fmt: skip

THREADS = 32
WARPS_OF_A_GROUP = 4


@dataclass(frozen=True)
class Loop:
    """A loop that holds no other with flops: addresses of its first and last instruction, how many
    there are, flops of one warp in one turn, instructions by class."""

    start: int
    end: int
    instructions: int
    flops: int
    mix: Mapping[str, int]

    @property
    def flop_per_instruction(self) -> float:
        """Flops of one warp for each warp instruction."""
        return self.flops / self.instructions


@dataclass(frozen=True)
class Statistics:
    """Counts of one kernel. `main` is that of the `loops` with the most flops; where no loop has
    any, it is the whole kernel as if that were one turn. `called` names the routines it calls."""

    instructions: int
    instruction_mix: Mapping[str, int]
    opcodes: Mapping[str, int]
    loops: tuple[Loop, ...]
    main: Loop
    called: tuple[str, ...]

    @property
    def flop_per_instruction(self) -> float:
        """Flops of one warp for each warp instruction in `main`."""
        return self.main.flop_per_instruction


def statistics(listing: Listing) -> Statistics:
    """Count what a function is made of."""
    code = listing.instructions
    loops = tuple(_loop(code[i] for i in sorted(body)) for body in working_loops(listing))
    whole = _loop(code)
    busiest = max(loops, key=lambda loop: loop.flops, default=whole)
    counted = [i for i in code if i.name != "NOP"]
    called = {i.target for i in counted if i.name == "CALL" and i.target}
    return Statistics(
        len(counted),
        whole.mix,
        dict(Counter(i.opcode for i in counted).most_common()),
        loops,
        busiest if busiest.flops else whole,
        tuple(sorted(called)),
    )


def class_of(instruction: Instruction) -> str:
    """The class of an instruction: a key of CLASSES, or "int"."""
    if is_move(instruction):
        return "move"
    if instruction.opcode.startswith("HADD2.F32"):
        return "convert"
    return _CLASS_OF.get(instruction.name, "int")


def flops_of(instruction: Instruction) -> int:
    """Flops of one warp: two for a multiply-add, of sparse products those of the dense one."""
    if class_of(instruction) == "tensor":
        return _tensor_flops(instruction)
    if instruction.name == "IDP":
        return THREADS * 2 * (4 if ".4A" in instruction.opcode else 2)
    if class_of(instruction) not in ("f32", "f64", "f16"):
        return 0
    return THREADS * _SCALAR_FLOPS.get(instruction.name, 0)


def is_move(instruction: Instruction) -> bool:
    """Does an instruction of arithmetic only move a value, as the assembler likes to do?"""
    if instruction.opcode.startswith("IMAD.MOV"):
        return True
    operands = instruction.operands.replace(" ", "").split(",")
    return instruction.name == "HFMA2" and operands[1:3] == ["-RZ", "RZ"]


def _tensor_flops(instruction: Instruction) -> int:
    if match := re.search(r"\.(\d+)x(\d+)x(\d+)", instruction.opcode):
        shape = tuple(map(int, match.groups()))
    else:
        digits = re.search(r"\.(\d{3,6})\b", instruction.opcode)
        shape = _SHAPES.get(digits[1]) if digits else None
    if shape is None:
        return 0
    m, n, k = shape
    warps = WARPS_OF_A_GROUP if "GMMA" in instruction.name else 1
    return 2 * m * n * k // warps


def _loop(instructions: Iterable[Instruction]) -> Loop:
    counted = [i for i in instructions if i.name != "NOP"]
    mix = Counter(class_of(i) for i in counted)
    return Loop(
        counted[0].address if counted else 0,
        counted[-1].address if counted else 0,
        max(len(counted), 1),
        sum(map(flops_of, counted)),
        dict(mix.most_common()),
    )


def working_loops(listing: Listing) -> list[frozenset[int]]:
    """The natural loops that hold no other with flops, each as the numbers of its instructions, in
    order. Loops that only wait, or ask lane by lane, count one turn of theirs in that around them.
    """
    following = _successors(listing)
    leading: list[list[int]] = [[] for _ in following]
    for source, targets in enumerate(following):
        for target in targets:
            leading[target].append(source)
    bodies: dict[int, set[int]] = {}
    for source, targets in enumerate(following):
        for header in targets:
            # Code is laid out so that a branch back to an earlier place closes a loop, if the
            # place leads to the branch; a branch to itself only halts.
            if header < source:
                body = _body(header, source, leading)
                if body is not None:
                    bodies.setdefault(header, set()).update(body)
    works = {
        header
        for header, body in bodies.items()
        if any(flops_of(listing.instructions[i]) for i in body)
    }
    return [
        frozenset(body)
        for header, body in sorted(bodies.items())
        if not any(other != header and other in body for other in works)
    ]


def _body(header: int, source: int, leading: list[list[int]]) -> set[int] | None:
    """What reaches `source` without passing `header`; None if that leads around the header."""
    body = {header, source}
    waiting = [source]
    while waiting:
        for before in leading[waiting.pop()]:
            if before not in body:
                if before == 0:
                    return None
                body.add(before)
                waiting.append(before)
    return body


def _successors(listing: Listing) -> list[list[int]]:
    """For each instruction, those that may come next."""
    code = listing.instructions
    result: list[list[int]] = []
    for number, instruction in enumerate(code):
        targets: list[int] = []
        jumps = instruction.name in ("BRA", "JMP") and instruction.target in listing.labels
        if jumps:
            targets.append(listing.labels[instruction.target or ""])
        certain = not instruction.guard and not _has_condition(instruction)
        ends = instruction.name in ("BRA", "JMP", "EXIT", "RET", "BRX", "BRXU", "JMX") and certain
        if not ends and number + 1 < len(code):
            targets.append(number + 1)
        result.append([target for target in targets if target < len(code)])
    return result


def _has_condition(instruction: Instruction) -> bool:
    """Does a branch test something besides its guard (`BRA.U UP0, ...`, `BRA.DIV UR4, ...`)?"""
    return instruction.name == "BRA" and "," in instruction.operands
