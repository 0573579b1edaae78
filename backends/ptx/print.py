"""PTX text of a module of the `ptx` dialect: the table of instructions, and a loop.

Enters: a module with the attribute `ptx.target`. Leaves: text with the lowest `.version` that its
instructions and its target need, so that old drivers take it.

    %6, %7 = ptx.ld "global.v2.f32" [%5 + 8] : (f32, f32)
    ld.global.v2.f32 {%f1, %f2}, [%rd3+8];
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from io import StringIO

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from hectorite.backends.ptx.registers import assign_registers
from hectorite.dialects.ptx import (
    BranchOp,
    BraOp,
    CommentOp,
    ConstantOp,
    KernelOp,
    RetOp,
    SpecialOp,
    UndefinedOp,
    VariableOp,
)
from hectorite.dialects.ptx_instruction import InstructionOp, Slot, kind_of
from hectorite.dialects.ptx_legality import target_of
from hectorite.ir.ptx.limits import OLDEST, TARGET_VERSIONS, lowest_version

Move = tuple[str, str, str]  # kind of register, destination, source

PREFIX = {
    "pred": "%p",
    "b16": "%rs",
    "b32": "%r",
    "b64": "%rd",
    "b128": "%rq",
    "f32": "%f",
    "f64": "%fd",
}
"""How the names of each kind of register begin."""


def module_to_text(module: ModuleOp) -> str:
    """The PTX of all kernels of a module."""
    kernels = [op for op in module.ops if isinstance(op, KernelOp)]
    target = target_of(module) or "sm_80"
    major, minor = needed_version(module, target)
    head = f".version {major}.{minor}\n.target {target}\n.address_size 64\n"
    variables = (op for op in module.walk() if isinstance(op, VariableOp))
    shared = sorted({_declaration(op) + "\n" for op in variables if _is_of_module(op)})
    return "\n".join([head, *shared, *(KernelText(kernel).text() for kernel in kernels)])


def needed_version(module: ModuleOp, target: str) -> tuple[int, int]:
    """The lowest `.version` in which a target and all instructions of a module exist."""
    instructions = (op for op in module.walk() if isinstance(op, InstructionOp))
    least = (lowest_version(op.mnemonic, target, len(op.slots)) for op in instructions)
    return max(least, default=TARGET_VERSIONS.get(target, OLDEST))


def _is_of_module(op: VariableOp) -> bool:
    """Whether a variable is declared outside of kernels: launches size it, or it has data."""
    return op.bytes.value.data == 0 or op.space.data in ("global", "const")


def _declaration(op: VariableOp) -> str:
    size, align = op.bytes.value.data, op.align.value.data
    declared = f".{op.space.data} .align {align} .b8 {op.symbol.data}"
    if size == 0:
        return f".extern {declared}[];"
    if op.data is None:
        return f"{declared}[{size}];"
    numbers = ", ".join(str(byte) for byte in bytes.fromhex(op.data.data))
    return f"{declared}[{size}] = {{{numbers}}};"


def number_text(number: float | int, kind: str) -> str:
    """A number as PTX writes it; floats by their bits."""
    if kind == "f32":
        # A number that f32 cannot hold has become infinite in the register, too.
        bits = struct.unpack("<I", _packed_f32(float(number)))[0]
        return f"0f{bits:08X}"
    if kind == "f64":
        return f"0d{struct.unpack('<Q', struct.pack('<d', float(number)))[0]:016X}"
    return str(int(number))


def _packed_f32(number: float) -> bytes:
    try:
        return struct.pack("<f", number)
    except OverflowError:
        return struct.pack("<f", float("inf") if number > 0 else float("-inf"))


class KernelText:
    """Prints one kernel."""

    def __init__(self, kernel: KernelOp):
        self.kernel = kernel
        self.registers = assign_registers(kernel)
        self.blocks = list(kernel.body.blocks)
        self.labels = {block: f"$L_{number}" for number, block in enumerate(self.blocks)}
        self.extra: dict[str, int] = {}  # registers for moves in a circle
        self.counts: dict[str, int] = {}  # registers that the text has, by how they begin
        self.lines: list[str] = []
        self.edges = 0
        self.jumped: set[str] = set()  # label lines that some jump names

    def text(self) -> str:
        """The kernel: its head, declarations and body."""
        for number, block in enumerate(self.blocks):
            following = self.blocks[number + 1] if number + 1 < len(self.blocks) else None
            if number == 0:
                self._parameters(block)
            self.lines.append(f"{self.labels[block]}:")
            for op in block.ops:
                self._operation(op, following)
        lines = self._with_registers(self._with_labels())
        out = StringIO()
        out.write(self._head())
        out.write("{\n")
        for line in [*self._declarations(), *lines]:
            out.write(line if line.startswith("$") else f"  {line}")
            out.write("\n")
        out.write("}\n")
        return out.getvalue()

    def _with_labels(self) -> list[str]:
        """The lines of the body, with labels only where jumps go, numbered in order."""
        labels = [line for line in self.lines if line.startswith("$") and line in self.jumped]
        number = {line[:-1]: f"$L_{i}" for i, line in enumerate(labels, 1)}
        lines = [line for line in self.lines if not line.startswith("$") or line in self.jumped]
        return [re.sub(r"\$[LE]_\d+", lambda m: number[m[0]], line) for line in lines]

    def _head(self) -> str:
        name = self.kernel.sym_name.data
        parameters = ",\n".join(
            f"  .param .{kind_of(argument)} {name}_param_{number}"
            for number, argument in enumerate(self.blocks[0].args)
        )
        threads = self.kernel.threads
        limit = "" if threads is None else f"\n.maxntid {threads.value.data}, 1, 1"
        if (resident := self.kernel.resident) is not None:
            limit += f"\n.minnctapersm {resident.value.data}"
        return f".visible .entry {name}(\n{parameters}\n){limit}\n"

    def _with_registers(self, lines: list[str]) -> list[str]:
        """The lines with registers numbered as they appear."""
        found: dict[str, str] = {}

        def renamed(match: re.Match[str]) -> str:
            prefix, register = match[1], match[0]
            if register not in found:
                found[register] = f"{prefix}{self.counts.get(prefix, 0)}"
                self.counts[prefix] = self.counts.get(prefix, 0) + 1
            return found[register]

        pattern = re.compile(r"(%(?:p|rs|rd|rq|r|fd|f))\d+\b")
        return [line if line.startswith("//") else pattern.sub(renamed, line) for line in lines]

    def _declarations(self) -> Iterable[str]:
        for kind, prefix in PREFIX.items():
            if prefix in self.counts:
                yield f".reg .{kind} {prefix}<{self.counts[prefix]}>;"
        for op in self.kernel.walk():
            if isinstance(op, VariableOp) and not _is_of_module(op):
                yield _declaration(op)

    def _parameters(self, entry: Block) -> None:
        name = self.kernel.sym_name.data
        for number, argument in enumerate(entry.args):
            if argument.uses:
                register = self._name(argument)
                kind = kind_of(argument)
                self._line(f"ld.param.{kind} {register}, [{name}_param_{number}]")

    # Operands ----------------------------------------------------------------------------------

    def _name(self, value: SSAValue) -> str:
        """The text of an operand: a register, or a constant where it is used."""
        if value not in self.registers:
            assert isinstance(value.owner, ConstantOp)
            return number_text(value.owner.number, kind_of(value))
        return f"{PREFIX[kind_of(value)]}{self.registers[value]}"

    def _slot(self, slot: Slot, values: Sequence[SSAValue]) -> str:
        names = [self._name(value) for value in values]
        if slot.braces:
            return "{" + ", ".join(names) + "}"
        if slot.offset is None:
            return names[0]
        offset = f"+{slot.offset}" if slot.offset else ""
        if len(names) == 1:
            return f"[{names[0]}{offset}]"
        return f"[{names[0]}{offset}, {{{', '.join(names[1:])}}}]"

    def _results(self, op: InstructionOp) -> list[str]:
        names = [self._name(result) for result in op.registers]
        if len(names) <= 1:
            return names
        row = op.row
        if row is not None and "p" in row.slots.split():
            return ["|".join(names)]
        return ["{" + ", ".join(names) + "}"]

    # Operations --------------------------------------------------------------------------------

    def _line(self, text: str) -> None:
        self.lines.append(f"{text};")

    def _operation(self, op: Operation, following: Block | None) -> None:
        if isinstance(op, InstructionOp):
            self._instruction(op)
        elif isinstance(op, BraOp | BranchOp):
            self._jump(op, following)
        else:
            OTHERS[type(op)](self, op)

    def _instruction(self, op: InstructionOp) -> None:
        for result, old in op.tied:
            self._move(result, old)
        groups = list(op.grouped)
        row = op.row
        if row is not None and row.tied:
            groups.pop()  # the accumulators: the text has them once, as results
        operands = [*self._results(op), *(self._slot(slot, values) for slot, values in groups)]
        guard = ""
        if op.guard is not None:
            guard = f"@{'' if op.negated is None else '!'}{self._name(op.guard)} "
        self._line(f"{guard}{op.mnemonic} {', '.join(operands)}".rstrip())

    def _constant(self, op: Operation) -> None:
        """Most constants stand where they are used."""
        assert isinstance(op, ConstantOp)
        if op.result in self.registers:
            kind = kind_of(op.result)
            self._line(f"mov.{kind} {self._name(op.result)}, {number_text(op.number, kind)}")

    def _undefined(self, op: Operation) -> None:
        """An undefined register is only declared."""

    def _special(self, op: Operation) -> None:
        assert isinstance(op, SpecialOp)
        bits = "u64" if kind_of(op.result) == "b64" else "u32"
        self._line(f"mov.{bits} {self._name(op.result)}, %{op.register.data}")

    def _variable(self, op: Operation) -> None:
        assert isinstance(op, VariableOp)
        bits = "u32" if kind_of(op.result) == "b32" else "u64"
        self._line(f"mov.{bits} {self._name(op.result)}, {op.symbol.data}")

    def _comment(self, op: Operation) -> None:
        assert isinstance(op, CommentOp)
        self.lines.append(f"// {op.text.data}")

    def _ret(self, op: Operation) -> None:
        self._line("ret")

    # Jumps and the moves along them ------------------------------------------------------------

    def _jump(self, op: BraOp | BranchOp, following: Block | None) -> None:
        if isinstance(op, BraOp):
            self._along(op.target, self._moves(op.target, op.arguments), following)
            return
        condition = self._name(op.condition)
        then_moves, else_moves = self._shared_moves(op, condition)
        if not then_moves and op.then_block is not following:
            self._bra(op.then_block, f"@{condition} ")
            self._along(op.else_block, else_moves, following)
        elif not else_moves:
            self._bra(op.else_block, f"@!{condition} ")
            self._along(op.then_block, then_moves, following)
        else:
            self.edges += 1
            label = f"$E_{self.edges}"
            self.jumped.add(f"{label}:")
            self._line(f"@!{condition} bra {label}")
            self._along(op.then_block, then_moves, None)
            self.lines.append(f"{label}:")
            self._along(op.else_block, else_moves, following)

    def _shared_moves(self, op: BranchOp, condition: str) -> tuple[list[Move], list[Move]]:
        """The moves of both ways of a branch, those that both need done before it."""
        then_moves = self._moves(op.then_block, op.then_arguments)
        else_moves = self._moves(op.else_block, op.else_arguments)
        sources = {source for _, _, source in (*then_moves, *else_moves)} | {condition}
        both = [m for m in then_moves if m in else_moves and m[1] not in sources]
        self._copy(both)
        return [m for m in then_moves if m not in both], [m for m in else_moves if m not in both]

    def _along(self, target: Block, moves: list[Move], following: Block | None) -> None:
        self._copy(moves)
        if target is not following:
            self._bra(target)

    def _bra(self, target: Block, guard: str = "") -> None:
        self.jumped.add(f"{self.labels[target]}:")
        self._line(f"{guard}bra {self.labels[target]}")

    def _moves(self, target: Block, values: Sequence[SSAValue]) -> list[Move]:
        """The moves that an edge needs."""
        pairs = zip(target.args, values, strict=True)
        moves = [(kind_of(a), self._name(a), self._name(v)) for a, v in pairs if a.uses]
        return [move for move in moves if move[1] != move[2]]

    def _move(self, to: SSAValue, value: SSAValue) -> None:
        if self._name(to) != self._name(value):
            self._line(f"mov.{kind_of(to)} {self._name(to)}, {self._name(value)}")

    def _copy(self, moves: list[Move]) -> None:
        """All moves at once: one whose destination others still read waits."""
        waiting = list(moves)
        while waiting:
            read = {source for _, _, source in waiting}
            ready = [move for move in waiting if move[1] not in read]
            for kind, to, source in ready:
                self._line(f"mov.{kind} {to}, {source}")
            waiting = [move for move in waiting if move not in ready]
            if waiting and not ready:
                kind, to, source = waiting[0]
                spare = self._spare(kind)
                self._line(f"mov.{kind} {spare}, {source}")
                waiting[0] = (kind, to, spare)

    def _spare(self, kind: str) -> str:
        """A register of its own for a move in a circle."""
        used = [number for value, number in self.registers.items() if kind_of(value) == kind]
        number = max(used, default=-1) + 1 + self.extra.get(kind, 0)
        self.extra[kind] = self.extra.get(kind, 0) + 1
        return f"{PREFIX[kind]}{number}"


OTHERS: dict[type[Operation], Callable[[KernelText, Operation], None]] = {
    ConstantOp: KernelText._constant,  # pyright: ignore[reportPrivateUsage]
    UndefinedOp: KernelText._undefined,  # pyright: ignore[reportPrivateUsage]
    SpecialOp: KernelText._special,  # pyright: ignore[reportPrivateUsage]
    VariableOp: KernelText._variable,  # pyright: ignore[reportPrivateUsage]
    CommentOp: KernelText._comment,  # pyright: ignore[reportPrivateUsage]
    RetOp: KernelText._ret,  # pyright: ignore[reportPrivateUsage]
}
