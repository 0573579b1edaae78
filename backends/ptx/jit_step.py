"""One thread of a PTX kernel as an LLVM function: registers, addresses, control, suspension.

Enters: a kernel without calls (`jit_inline.py`). Leaves: the text of

    i32 @step(ptr launch, ptr block, ptr record, ptr mail, i32 lane, i32 x, y, z, i32 cx, cy, cz)

which runs a thread from its beginning, or from where it was suspended, to its end or to the next
barrier or warp collective, and says which (`Status`). Registers are memory of the function, which
LLVM turns into values; at a suspension the live ones move to the record of the thread.

Instructions themselves are written by the functions of `HANDLERS` in the modules beside this one;
each takes the `Step` and the instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hectorite.backends.ptx.jit_address import STOPPED, Addresses
from hectorite.backends.ptx.jit_frame import Fault, Layout, Record, Status, aligned
from hectorite.backends.ptx.jit_inline import refuse
from hectorite.backends.ptx.jit_text import FLOATS, TRUE, Code, Pieces, V, i32, i64, width
from hectorite.ir.diagnostics import Source
from hectorite.ir.ptx.flow import (
    Block,
    branch_targets,
    in_cycle,
    live_after,
    live_registers,
    reads,
    target_tables,
    writes,
)
from hectorite.ir.ptx.syntax import Function, Guard, Instruction, Module, Operand, Register

STEP_PARAMETERS = (
    ("ptr", "launch"),
    ("ptr", "block"),
    ("ptr", "record"),
    ("ptr", "mail"),
    ("i32", "lane"),
    *(("i32", name) for name in ("x", "y", "z", "cx", "cy", "cz")),
    ("ptr", "shared"),
)

MASKED = frozenset({"shfl", "match", "redux"})
"""Collectives whose last operand says which lanes take part."""

Handler = Callable[["Step", Instruction], None]


@dataclass
class Suspension:
    """A place where a thread waits."""

    number: int
    status: Status
    line: int


@dataclass
class Collective:
    """A warp collective as its thread sees it: words that it brings, and where results go.

    `perform(code, mail, taking)` writes the exchange: `mail` is where its words begin, `taking` the
    lanes that take part (i32); `%shared` is shared memory. `mask` None means all lanes that still
    run; a soft collective takes those that are here.
    """

    inputs: list[V]
    outputs: list[tuple[Operand, str]]
    perform: Callable[[Code, V, V], None]
    mask: V | None = None
    soft: bool = False

    @property
    def slots(self) -> int:
        """Words of mail: what comes in, then what goes out."""
        return len(self.inputs) + sum(max(1, width(type) // 32) for _, type in self.outputs)


class Step(Addresses):
    """Writes the function of one thread."""

    def __init__(
        self,
        module: Module,
        kernel: Function,
        pieces: Pieces,
        handlers: Mapping[str, Handler],
        collectives: Mapping[str, Callable[[Step, Instruction], Collective]],
        source: Source | None,
        checked: bool,
    ):
        super().__init__(module, kernel, Code(pieces), source, checked)
        self.pieces = pieces
        self.handlers, self.makers = handlers, collectives
        self.tables = target_tables(kernel.body)
        self.live = live_registers(self.blocks)
        self.cycles = in_cycle(self.blocks)
        self.suspensions: list[Suspension] = []
        self.performers: dict[int, list[tuple[int, Collective]]] = {}
        self.mail_slots = 0
        self.saved = Layout()
        self.needs_threads = False
        self.at_label = {label: b.number for b in self.blocks for label in b.labels}

    # What the kernel needs.

    @property
    def record_bytes(self) -> int:
        """Memory that a suspended thread needs; a multiple of 16."""
        return aligned(Record.FRAME + self.frame_bytes + self.saved.end, 16)

    @property
    def suspension_lines(self) -> list[int]:
        """The lines at which threads wait, by the number of the suspension from 1."""
        return [suspension.line for suspension in self.suspensions]

    @property
    def suspends(self) -> bool:
        """Whether threads of a block need records: they wait, or count each other."""
        return bool(self.suspensions) or self.needs_threads

    # Control.

    def guarded(self, guard: Guard) -> V:
        value = self.read(Register(guard.register), "i1")
        return self.code.op("xor", value, TRUE) if guard.negated else value

    def text(self) -> str:
        """The whole function."""
        for block in self.blocks:
            self._block(block)
        self.code.label(STOPPED)
        self.code.do(f"ret i32 {int(Status.DONE)}")
        prologue = self._prologue()
        listed = ", ".join(f"{type} %{name}" for type, name in STEP_PARAMETERS)
        if not self.suspends:
            listed += "".join(f", {value}" for value in self.preloaded())
        self.code.lines[:0] = prologue
        # A thread that never waits is the body of a loop, which LLVM may turn into vectors.
        inline = "noinline" if self.suspends else "alwaysinline"
        return self.code.function(f"define internal i32 @step({listed}) {inline}")

    def preloaded(self) -> list[V]:
        """What of the launch a thread reads. Where no thread waits, the block reads it once, ahead
        of its loops, and passes it to `step`."""
        return [self.preloads[name][0] for name in self._preload_order()]

    def preload_lines(self) -> list[str]:
        """The code that reads it."""
        return [f"  {line}" for name in self._preload_order() for line in self.preloads[name][1]]

    def _preload_order(self) -> list[str]:
        # Slots first: parameters are loaded through one of them.
        return sorted(self.preloads, key=lambda name: not name.startswith("%slot"))

    def _prologue(self) -> list[str]:
        lines = self.preload_lines() if self.suspends else []
        for name, type in (*self.registers.items(), ("%cc", "i1")):
            lines.append(f'  %"r:{name}" = alloca {type}')
            zero = "0.0" if type in FLOATS else "0"
            lines.append(f'  store {type} {zero}, ptr %"r:{name}"')
        if self.suspends:
            lines.append(f"  %frame = getelementptr i8, ptr %record, i64 {int(Record.FRAME)}")
            lines.append("  %resume = load i32, ptr %record")
            cases = " ".join(f"i32 {s.number}, label %resume{s.number}" for s in self.suspensions)
            lines.append(f"  switch i32 %resume, label %b0 [ {cases} ]")
        else:
            lines.append(f"  %frame = alloca [{max(self.frame_bytes, 1)} x i8], align 16")
            lines.append("  br label %b0")
        return lines

    def _block(self, block: Block) -> None:
        code, instructions = self.code, block.instructions
        code.label(f"b{block.number}")
        index = 0
        while index < len(instructions):
            self.here = (block, index)
            instruction = instructions[index]
            if instruction.name in ("bra", "brx"):
                self._branch(block, instruction)
                return
            count = self._grouped(instructions, index)
            if count:
                self._guarded(instruction, lambda c=count, i=index: self._collect(block, i, c))
                index += count
                continue
            self._guarded(instruction, lambda i=instruction: self._one(i))
            if instruction.name in ("ret", "exit", "trap") and instruction.guard is None:
                return
            index += 1
        if block.number + 1 < len(self.blocks):
            code.do(f"br label %b{block.number + 1}")
        else:
            code.do(f"ret i32 {int(Status.DONE)}")

    def _guarded(self, instruction: Instruction, write: Callable[[], None]) -> None:
        if instruction.guard is None:
            write()
            return
        with self.code.when(self.guarded(instruction.guard)):
            write()
            if instruction.name in ("ret", "exit", "trap"):
                self.code.label(self.code.name("dead"))

    def _one(self, instruction: Instruction) -> None:
        if instruction.name in ("ret", "exit"):
            self.code.do(f"ret i32 {int(Status.DONE)}")
        elif instruction.name == "trap":
            kind = Fault.ASSERTION if instruction.suffix else Fault.TRAP
            self.stop(kind)
        else:
            handler = self.handlers.get(instruction.name)
            if handler is None:
                raise self.wrong(instruction)
            try:
                handler(self, instruction)
            except (KeyError, IndexError, ValueError):
                raise self.wrong(instruction, "this form of it") from None

    def _branch(self, block: Block, instruction: Instruction) -> None:
        code = self.code
        targets = branch_targets(instruction, self.tables)
        numbers = [self.at_label[label] for label in targets if label in self.at_label]
        if not numbers or len(numbers) != len(targets):
            raise refuse(self.source, instruction.line, "this branch goes to no label")
        if instruction.name == "brx":
            cases = " ".join(f"i32 {i}, label %b{n}" for i, n in enumerate(numbers))
            where = self.read(instruction.operands[0], "i32")
            taken = f"switch {where}, label %b{numbers[0]} [ {cases} ]"
        else:
            taken = f"br label %b{numbers[0]}"
        if instruction.guard is None:
            code.do(taken)
            return
        following = f"b{block.number + 1}"
        if block.number + 1 >= len(self.blocks):
            raise refuse(self.source, instruction.line, "nothing follows this branch")
        holds = self.guarded(instruction.guard)
        if instruction.name == "bra":
            code.do(f"br {holds}, label %b{numbers[0]}, label %{following}")
            return
        inside = code.name("switch")
        code.do(f"br {holds}, label %{inside}, label %{following}")
        code.label(inside)
        code.do(taken)

    # Suspension.

    def _grouped(self, instructions: Sequence[Instruction], index: int) -> int:
        """How many instructions from here are warp collectives that one suspension can serve."""
        first = instructions[index]
        if maker_name(first) not in self.makers:
            return 0
        if first.guard is not None or first.name in ("vote", "activemask"):
            return 1
        written: set[str] = set()
        count = 0
        for item in instructions[index:]:
            same = maker_name(item) == maker_name(first) and item.guard is None
            if not same or written & {*reads(item), *writes(item)}:
                break
            if first.name in MASKED and item.operands[-1] != first.operands[-1]:
                break
            written.update(writes(item))
            count += 1
        return max(count, 1)

    def _collect(self, block: Block, index: int, count: int) -> None:
        """A group of collectives: bring the words, wait, take the results."""
        group = block.instructions[index : index + count]
        number = len(self.suspensions) + 1
        performers: list[tuple[int, Collective]] = []
        offset = 0
        for shift, instruction in enumerate(group):
            self.here = (block, index + shift)
            try:
                collective = self.makers[maker_name(instruction)](self, instruction)
            except (KeyError, IndexError, ValueError):
                raise self.wrong(instruction, "this form of it") from None
            for slot, value in enumerate(collective.inputs):
                self.code.store(value, self._mail(offset + slot), 4)
            performers.append((offset, collective))
            offset += collective.slots
        self.mail_slots = max(self.mail_slots, offset)
        first = performers[0][1]
        mask = i32(0) if first.soft else (first.mask or i32(-1))
        self.performers[number] = performers
        self.here = (block, index)
        self.suspend(Status.WARP, number, count=count, mask=mask)
        for start, collective in performers:
            slot = start + len(collective.inputs)
            for operand, type in collective.outputs:
                slot = self._take(operand, type, slot)

    def _take(self, operand: Operand, type: str, slot: int) -> int:
        code = self.code
        value = code.load("i32", self._mail(slot), 4)
        if width(type) == 64:
            high = code.load("i32", self._mail(slot + 1), 4)
            wide = code.op("shl", code.resized(high, "i64"), i64(32))
            value = code.op("or", wide, code.resized(value, "i64"))
        if type == "i1":
            value = code.compare("ne", value, i32(0))
        self.write(operand, self.fitted(value, type))
        return slot + max(1, width(type) // 32)

    def _mail(self, slot: int) -> V:
        at = self.code.at(V("ptr", "%mail"), 32 * slot, "i32")
        return self.code.at(at, self.code.resized(V("i32", "%lane"), "i64"), "i32")

    def suspend(
        self,
        status: Status,
        key: int = 0,
        *,
        count: int = 1,
        key_value: V | None = None,
        mask: V | None = None,
        value: V | None = None,
    ) -> None:
        """Leave the function here and go on here at the next call. What is live is kept.

        The `count` instructions from here are served by this; what they write is not kept, unless
        they have written it already.
        """
        block, index = self.here
        number = len(self.suspensions) + 1
        self.suspensions.append(Suspension(number, status, block.instructions[index].line))
        live = set(live_after(block, index + count - 1, self.live))
        if status in (Status.WARP, Status.BARRIER):
            served = block.instructions[index : index + count]
            live -= {name for item in served if not item.guard for name in writes(item)}
        # Sorted by width, so that narrow registers fill no holes; and the same in every run.
        kept = sorted(live, key=lambda name: (-width(self.registers[name]), name))
        code = self.code
        for name in kept:
            code.store(self._widened(name), self._saved_place(name))
        words = ((Record.KEY, key_value or i32(key)), (Record.MASK, mask), (Record.VALUE, value))
        for offset, word in words:
            if word is not None:
                code.store(word, code.at(V("ptr", "%record"), int(offset)), 4)
        code.store(i32(number), V("ptr", "%record"), 4)
        code.do(f"ret i32 {int(status)}")
        code.label(f"resume{number}")
        for name in kept:
            kind = self.registers[name]
            stored = code.load("i8" if kind == "i1" else kind, self._saved_place(name))
            code.store(self.fitted(stored, kind), self.place_of(name))

    def _widened(self, name: str) -> V:
        value = self.raw(name)
        return self.code.resized(value, "i8") if value.type == "i1" else value

    def _saved_place(self, name: str) -> V:
        size = max(1, width(self.registers[name]) // 8)
        if name not in self.saved.offsets:
            self.saved.add(name, size, size)
        start = Record.FRAME + self.frame_bytes
        return self.code.at(V("ptr", "%record"), start + self.saved.offsets[name])


def maker_name(instruction: Instruction) -> str:
    """Under which name a warp collective is listed: `mma`, `wgmma.mma_async`, `bar.warp`."""
    if instruction.name in ("bar", "barrier", "wgmma", "elect"):
        return f"{instruction.name}.{instruction.suffix[0]}" if instruction.suffix else ""
    return instruction.name
