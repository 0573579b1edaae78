"""What the machine code of derived sets is written with: its words, loads and loops.

Enters: a `Shape`, all that code depends on (how binders are found and what is summed up, no data).
Leaves: a `Writer` for a function of a task, which reaches data by the names of `words_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from llvmlite import ir

from hectorite.backends.cpu.control import counted_loop
from hectorite.backends.cpu.lanes import I1, I64, declare
from hectorite.backends.cpu.memory import POINTER

MIX = 0x9E3779B97F4A7C15
"""Odd, with bits everywhere: times this, close numbers are far apart in the high bits."""

TASKS = 64
"""Tasks of one round, at most; as many as there are bits to say which scratch is free."""

ROOM = 64
"""Numbers that a task may write behind its last one, and more than these it never does."""

NUMBERS = ("stride", "span", "most", "factor", "count", "mask", "constant", "extent", "before")
NUMBERS += ("length",)
"""Words that are no addresses."""


@dataclass(frozen=True)
class SumShape:
    """A sum over binders: its role and which binder it finds, the bits of each column."""

    role: str
    of: int
    columns: tuple[tuple[int, int], ...]

    @property
    def complete(self) -> int:
        return max((number for number, _ in self.columns), default=0)


@dataclass(frozen=True)
class Shape:
    """What code depends on. Without a `collector` it only looks how many tuples groups can have.
    `bits` are those of a number that leaves a collector, `lead` and `trailing` the numbers of
    fields. Groups of at most `short` tuples go past the collector (`short_groups.py`)."""

    stages: tuple[str, ...]
    sums: tuple[SumShape, ...]
    collector: str
    bits: int
    lead: int
    trailing: int
    short: int = 0

    def tie(self, stage: int) -> int | None:
        """The sum that finds the elements of a stage."""
        ties = (n for n, total in enumerate(self.sums) if (total.role, total.of) == ("tie", stage))
        return next(ties, None)

    def counted(self, stage: int) -> int | None:
        """That sum, if the first binder alone tells how many elements there are."""
        tie = self.tie(stage)
        if tie is None or self.stages[stage] != "direct":
            return None
        return tie if [binder for binder, _ in self.sums[tie].columns] == [0] else None


def words_of(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """What each word is: a name, and for stages, sums and fields their numbers."""
    for name in ("cuts", "groups", "length", "ahead", "chosen", "numbers", "ends", "totals"):
        yield name, 0, 0
    for name in ("before", "scratch", "stride", "free", "span", "most", "factor"):
        yield name, 0, 0
    for number, kind in enumerate(shape.stages):
        yield "count", number, 0
        if kind != "all":
            yield "begin", number, 0
        if kind == "hash":
            yield "codes", number, 0
            yield "table", number, 0
            yield "mask", number, 0
    for number, total in enumerate(shape.sums):
        yield "constant", number, 0
        for binder, _ in total.columns:
            yield "column", number, binder
    for number in range(shape.lead):
        yield "lead", number, 0
        yield "lead_field", number, 0
    for number in range(shape.trailing):
        yield "extent", number, 0
        yield "field", number, 0


def const(number: int, type: ir.Type = I64) -> ir.Constant:
    return ir.Constant(type, number)


class Writer:
    """A function of a task: words by name, and what all of them emit."""

    def __init__(self, function: ir.Function, shape: Shape):
        self.shape = shape
        self.module = function.module
        self.builder = b = ir.IRBuilder(function.append_basic_block("entry"))
        words, self.task = function.args
        self.words: dict[tuple[str, int, int], ir.Value] = {}
        for number, word in enumerate(words_of(shape)):
            place = b.gep(words, [const(number)], source_etype=I64, inbounds=True)
            self.words[word] = b.load(place, typ=I64 if word[0] in NUMBERS else POINTER)

    def word(self, name: str, number: int = 0, binder: int = 0) -> ir.Value:
        return self.words[name, number, binder]

    def at(self, base: ir.Value, index: ir.Value, type: ir.Type) -> ir.Value:
        return self.builder.gep(base, [index], source_etype=type, inbounds=True)

    def load(self, base: ir.Value, index: ir.Value, bits: int = 64) -> ir.Value:
        """An integer of an array, as 64 bits."""
        type = ir.IntType(bits)
        value = self.builder.load(self.at(base, index, type), typ=type, align=bits // 8)
        return value if bits == 64 else self.builder.sext(value, I64)

    def store(self, value: ir.Value, base: ir.Value, index: ir.Value, bits: int = 64) -> None:
        value = value if bits == 64 else self.builder.trunc(value, ir.IntType(bits))
        self.builder.store(value, self.at(base, index, ir.IntType(bits)), align=bits // 8)

    def loop(
        self, low: ir.Value, high: ir.Value, body: Callable[[ir.Value], None], short: bool = False
    ) -> None:
        """`body` for each number from `low` below `high`; only few of them, if it is `short`."""

        def step(counter: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            body(counter)
            return []

        counted_loop(self.builder, low, high, const(1), [], step, scalar=short)

    def repeat(
        self,
        start: ir.Value,
        holds: Callable[[ir.Value], ir.Value],
        step: Callable[[ir.Value], ir.Value],
    ) -> ir.Value:
        """`start`, and what `step` makes of it as long as it `holds`."""
        b = self.builder
        before = b.block
        head, body, after = (b.append_basic_block(name) for name in ("while", "step", "end"))
        b.branch(head)
        b.position_at_end(head)
        state = b.phi(I64)
        state.add_incoming(start, before)
        b.cbranch(holds(state), body, after)
        b.position_at_end(body)
        following = step(state)
        state.add_incoming(following, b.block)
        b.branch(head)
        b.position_at_end(after)
        return state

    def groups(self) -> tuple[ir.Value, ir.Value]:
        """The groups of the task."""
        after = self.builder.add(self.task, const(1))
        return self.load(self.word("cuts"), self.task), self.load(self.word("cuts"), after)

    def variable(self) -> ir.Value:
        """A place for a number that changes, which becomes a register."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(I64)
        place.type = POINTER
        return place

    def increase(self, variable: ir.Value, by: ir.Value) -> ir.Value:
        """Add to a variable; what it was before."""
        value = self.builder.load(variable, typ=I64)
        self.builder.store(self.builder.add(value, by), variable)
        return value

    def bound(self, group: ir.Value) -> ir.Value:
        """The most tuples that a group can have."""
        ahead, after = self.word("ahead"), self.builder.add(group, const(1))
        return self.builder.sub(self.load(ahead, after), self.load(ahead, group))

    def start(self, low: ir.Value) -> ir.Value:
        """Where the numbers of the task begin, whose first group is `low`: behind the most that
        those before could have, and a little room for each."""
        b, ahead = self.builder, self.word("ahead")
        first = self.load(self.word("cuts"), const(0))
        most = b.sub(self.load(ahead, low), self.load(ahead, first))
        place = b.add(most, b.mul(self.task, const(ROOM)))
        return self.at(self.word("numbers"), place, ir.IntType(self.shape.bits))

    def lowest(self, bits: ir.Value) -> ir.Value:
        """The number of the lowest bit that is set."""
        function = declare(self.module, "llvm.cttz.i64", I64, [I64, I1])
        return self.builder.call(function, [bits, const(0, I1)])

    def mixed(self, number: ir.Value) -> ir.Value:
        """A number whose low bits say nothing about those of `number`."""
        return self.builder.lshr(self.builder.mul(number, const(MIX)), const(20))
