"""Machine code that builds derived sets: loops over binders, and sets of numbers.

Enters: the shape of a `JoinPlan` (how binders are found and what is summed up, no data). Leaves: a
module of LLVM IR that defines

    void @derive.join(ptr %words, i64 %tasks)     each task: its groups, tuples as numbers
    void @derive.spread(ptr %words, i64 %tasks)   each task: those numbers as fields of the set
    void @derive.index(ptr %words, i64 %one)      fills the hash table of each stage that has one

`words` are addresses and numbers, 8 bytes each, in the order of `words_of`. A group's numbers go
through a collector, which leaves each once, in order:

    append   no two are equal; they are sorted if they are not already
    hash     a table of the numbers that were seen, as large as the group needs; then sorted
    bitmap   a bit for each number, and one for each 64 bits that have some

The first is free, the second takes memory for the largest group, the third for all numbers, but it
sorts by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce

from llvmlite import ir

from hectorite.backends.cpu.control import counted_loop
from hectorite.backends.cpu.lanes import I1, I8, I32, I64, declare
from hectorite.backends.cpu.memory import POINTER
from hectorite.backends.derived.sort import sort_function, sort_text

MIX = 0x9E3779B97F4A7C15
"""Odd, with bits everywhere: times this, close numbers are far apart in the high bits."""

NEAR = 3
"""Codes that are alike but for so many low bits stay side by side in a stage's table."""

WRITTEN = 2
"""Numbers of a word of a bitmap that are written without a look at how many there are."""

ENTRIES = ("derive.join", "derive.spread", "derive.index")


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
    """What code depends on. `bits` are those of a number that leaves a collector, `lead` and
    `trailing` the numbers of fields."""

    stages: tuple[str, ...]
    sums: tuple[SumShape, ...]
    collector: str
    bits: int
    lead: int
    trailing: int


def words_of(shape: Shape) -> Iterator[tuple[str, int, int]]:
    """What each word is: a name, and for stages, sums and fields their numbers."""
    for name in ("cuts", "groups", "bounds", "numbers", "starts", "counts", "scratch", "stride"):
        yield name, 0, 0
    yield "span", 0, 0
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
    yield "ends", 0, 0
    for number in range(shape.lead):
        yield "lead", number, 0
        yield "lead_field", number, 0
    for number in range(shape.trailing):
        yield "extent", number, 0
        yield "field", number, 0


def derive_ir(shape: Shape) -> str:
    """The text of the module."""
    module = ir.Module("derive")
    parallel = declare(module, "hec_parallel", ir.VoidType(), [POINTER, POINTER, I64])
    tasks = ("join", _Join), ("spread", _Spread), ("index", _Index)
    for name, writer in tasks:
        signature = ir.FunctionType(ir.VoidType(), [POINTER, I64])
        task = ir.Function(module, signature, f"task.{name}")
        task.linkage = "internal"
        task.attributes.add("nounwind")
        writer(task, shape).write()
        entry = ir.Function(module, signature, f"derive.{name}")
        builder = ir.IRBuilder(entry.append_basic_block("entry"))
        builder.call(parallel, [task, *entry.args])
        builder.ret_void()
    dropped = ("target triple", "target datalayout", "; ModuleID", 'declare void @"sort.')
    lines = [line for line in str(module).splitlines() if not line.startswith(dropped)]
    return "\n".join(lines) + "\n" + sort_text(shape.bits)


def const(number: int, type: ir.Type = I64) -> ir.Constant:
    return ir.Constant(type, number)


class _Writer:
    """A function of a task: words by name, and what all of them emit."""

    def __init__(self, function: ir.Function, shape: Shape):
        self.shape = shape
        self.module = function.module
        self.builder = b = ir.IRBuilder(function.append_basic_block("entry"))
        words, self.task = function.args
        self.words: dict[tuple[str, int, int], ir.Value] = {}
        for number, word in enumerate(words_of(shape)):
            place = b.gep(words, [const(number)], source_etype=I64, inbounds=True)
            is_number = word[0] in ("stride", "span", "count", "mask", "constant", "extent")
            self.words[word] = b.load(place, typ=I64 if is_number else POINTER)

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

    def loop(self, low: ir.Value, high: ir.Value, body: Callable[[ir.Value], None]) -> None:
        def step(counter: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            body(counter)
            return []

        counted_loop(self.builder, low, high, const(1), [], step)

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

    def lowest(self, bits: ir.Value) -> ir.Value:
        """The number of the lowest bit that is set."""
        function = declare(self.module, "llvm.cttz.i64", I64, [I64, I1])
        return self.builder.call(function, [bits, const(0, I1)])

    def mixed(self, number: ir.Value) -> ir.Value:
        """A number whose low bits say nothing about those of `number`."""
        return self.builder.lshr(self.builder.mul(number, const(MIX)), const(20))


class _Join(_Writer):
    """Goes through the assignments of a task's groups, and collects their keys."""

    def __init__(self, function: ir.Function, shape: Shape):
        super().__init__(function, shape)
        b = self.builder
        self.found = b.alloca(I64)  # numbers of this task so far
        self.following = b.alloca(I64)  # where the next one of a word goes
        self.found.type = self.following.type = POINTER
        start = self.load(self.word("starts"), self.task)
        self.numbers = self.at(self.word("numbers"), start, ir.IntType(shape.bits))
        offset = b.mul(self.task, self.word("stride"))
        self.scratch = b.gep(self.word("scratch"), [offset], source_etype=I8, inbounds=True)

    def write(self) -> None:
        b = self.builder
        b.store(const(0), self.found)
        low, high = self.groups()
        self.loop(low, high, self.group)
        b.ret_void()

    def group(self, group: ir.Value) -> None:
        b, collector = self.builder, _COLLECTORS[self.shape.collector](self)
        start = b.load(self.found, typ=I64)
        collector.open(group)
        sums = [self.word("constant", number) for number in range(len(self.shape.sums))]
        after = b.add(group, const(1))
        low, high = (self.load(self.word("groups"), g) for g in (group, after))
        self.loop(low, high, lambda at: self.assigned(0, at, sums, collector))
        collector.close(start)
        count = b.sub(b.load(self.found, typ=I64), start)
        self.store(count, self.word("counts"), group)

    def assigned(
        self, binder: int, at: ir.Value, sums: list[ir.Value], collector: _Collector
    ) -> None:
        """Binder number `binder` stands at a place of its order."""
        b, shape = self.builder, self.shape
        sums = list(sums)
        for number, total in enumerate(shape.sums):
            for other, bits in total.columns:
                if other == binder:
                    value = self.load(self.word("column", number, binder), at, bits)
                    sums[number] = b.add(sums[number], value)
        holds = [
            b.icmp_signed(total.role, sums[number], const(0))
            for number, total in enumerate(shape.sums)
            if total.role not in ("key", "tie") and total.complete == binder
        ]
        if not holds:
            self.onward(binder, sums, collector)
            return
        with b.if_then(reduce(b.and_, holds)):
            self.onward(binder, sums, collector)

    def onward(self, binder: int, sums: list[ir.Value], collector: _Collector) -> None:
        """The next binder, or the key of a whole assignment."""
        b, shape = self.builder, self.shape
        stage = binder + 1
        if stage == len(shape.stages):
            key = next(n for n, total in enumerate(shape.sums) if total.role == "key")
            collector.add(sums[key])
            return
        tie = next(
            (n for n, total in enumerate(shape.sums) if (total.role, total.of) == ("tie", stage)),
            None,
        )
        kind = shape.stages[stage]

        def each(at: ir.Value) -> None:
            self.assigned(stage, at, sums, collector)

        if tie is None or kind == "all":
            self.loop(const(0), self.word("count", stage), each)
            return
        begin = self.word("begin", stage)
        place = sums[tie] if kind == "direct" else self.searched(stage, sums[tie])
        low = self.load(begin, place, 32)
        high = self.load(begin, b.add(place, const(1)), 32)
        self.loop(low, high, each)

    def searched(self, stage: int, code: ir.Value) -> ir.Value:
        """The place of a code among the distinct ones of a stage; the last, which has no
        elements, if it is not there."""
        b = self.builder
        table, mask = self.word("table", stage), self.word("mask", stage)

        def differs(slot: ir.Value) -> ir.Value:
            here = self.load(table, b.shl(slot, const(1)))
            return b.and_(b.icmp_signed("!=", here, code), b.icmp_signed(">=", here, const(0)))

        first = b.and_(_home(self, code), mask)
        step = lambda slot: b.and_(b.add(slot, const(1)), mask)  # noqa: E731
        slot = self.repeat(first, differs, step)
        return self.load(table, b.add(b.shl(slot, const(1)), const(1)))


def _home(writer: _Writer, code: ir.Value) -> ir.Value:
    """Where a code is looked for first: neighbours are side by side."""
    b = writer.builder
    far = b.shl(writer.mixed(b.lshr(code, const(NEAR))), const(NEAR))
    return b.or_(far, b.and_(code, const((1 << NEAR) - 1)))


class _Index(_Writer):
    """Enters the distinct codes of each stage into its table: pairs of a code (-1: none) and its
    place, -1 standing for the place after the last one at first."""

    def write(self) -> None:
        b = self.builder
        for number, kind in enumerate(self.shape.stages):
            if kind != "hash":
                continue
            table, mask = self.word("table", number), self.word("mask", number)
            codes, count = self.word("codes", number), self.word("count", number)
            slots = b.add(mask, const(1))

            def clear(slot: ir.Value, table: ir.Value = table, count: ir.Value = count) -> None:
                self.store(const(-1), table, b.shl(slot, const(1)))
                self.store(count, table, b.add(b.shl(slot, const(1)), const(1)))

            def enter(
                place: ir.Value,
                table: ir.Value = table,
                mask: ir.Value = mask,
                codes: ir.Value = codes,
            ) -> None:
                code = self.load(codes, place)
                taken = lambda slot: b.icmp_signed(  # noqa: E731
                    ">=", self.load(table, b.shl(slot, const(1))), const(0)
                )
                step = lambda slot: b.and_(b.add(slot, const(1)), mask)  # noqa: E731
                slot = self.repeat(b.and_(_home(self, code), mask), taken, step)
                self.store(code, table, b.shl(slot, const(1)))
                self.store(place, table, b.add(b.shl(slot, const(1)), const(1)))

            self.loop(const(0), slots, clear)
            self.loop(const(0), count, enter)
        b.ret_void()


class _Spread(_Writer):
    """Copies the numbers of a task's groups behind those of the tasks before, as fields."""

    def write(self) -> None:
        b, shape = self.builder, self.shape
        start = self.load(self.word("starts"), self.task)
        low, high = self.groups()
        numbers = self.at(self.word("numbers"), start, ir.IntType(shape.bits))
        target = self.load(self.word("ends"), low)

        def group(number: ir.Value) -> None:
            begin = self.load(self.word("ends"), number)
            end = self.load(self.word("ends"), b.add(number, const(1)))
            for k in range(shape.lead):
                value = self.load(self.word("lead", k), number, 32)
                field = self.word("lead_field", k)
                self.loop(begin, end, lambda at, v=value, f=field: self.store(v, f, at, 32))

        self.loop(low, high, group)
        count = b.sub(self.load(self.word("ends"), high), target)
        self.loop(const(0), count, lambda at: self.fields(numbers, at, target))
        b.ret_void()

    def fields(self, numbers: ir.Value, at: ir.Value, target: ir.Value) -> None:
        """Take a number apart into the values of its fields, the last first."""
        b, bits = self.builder, self.shape.bits
        type = ir.IntType(bits)
        rest = b.load(self.at(numbers, at, type), typ=type, align=bits // 8)
        place = b.add(at, target)
        for k in reversed(range(self.shape.trailing)):
            value = rest
            if k:
                extent = self.word("extent", k)
                extent = extent if bits == 64 else b.trunc(extent, type)
                rest, value = b.udiv(rest, extent), b.urem(rest, extent)
            value = b.trunc(value, I32) if bits == 64 else value
            b.store(value, self.at(self.word("field", k), place, I32), align=4)


class _Collector:
    """Collects the numbers of one group at a time behind those of the groups before."""

    def __init__(self, join: _Join):
        self.join, self.builder = join, join.builder

    def open(self, group: ir.Value) -> None:
        """Begin a group."""

    def add(self, number: ir.Value) -> None:
        """Take a number."""

    def close(self, start: ir.Value) -> None:
        """Leave what was taken since number `start` in order, each once."""

    def put(self, number: ir.Value) -> None:
        b, join = self.builder, self.join
        place = b.load(join.found, typ=I64)
        join.store(number, join.numbers, place, join.shape.bits)
        b.store(b.add(place, const(1)), join.found)

    def sort(self, start: ir.Value) -> None:
        join, b = self.join, self.builder
        base = join.at(join.numbers, start, ir.IntType(join.shape.bits))
        count = b.sub(b.load(join.found, typ=I64), start)
        b.call(sort_function(join.module, join.shape.bits), [base, count])


class _Append(_Collector):
    def add(self, number: ir.Value) -> None:
        self.put(number)

    def close(self, start: ir.Value) -> None:
        self.sort(start)


class _Hash(_Collector):
    """Numbers stand in the table plus one; 0 is an empty slot. Groups use as much of the table as
    they need, so that small ones stay near."""

    mask: ir.Value

    def open(self, group: ir.Value) -> None:
        b, join = self.builder, self.join
        zeros = declare(join.module, "llvm.ctlz.i64", I64, [I64, I1])
        bound = join.load(join.word("bounds"), group)
        wide = b.or_(b.shl(bound, const(1)), const(15))
        leading = b.call(zeros, [wide, const(1, I1)])
        self.mask = b.lshr(const(-1), leading)

    def home(self, number: ir.Value) -> ir.Value:
        return self.builder.and_(self.join.mixed(number), self.mask)

    def following(self, slot: ir.Value) -> ir.Value:
        return self.builder.and_(self.builder.add(slot, const(1)), self.mask)

    def add(self, number: ir.Value) -> None:
        b, join = self.builder, self.join
        mark = b.add(number, const(1))

        def other(slot: ir.Value) -> ir.Value:
            here = join.load(join.scratch, slot)
            return b.and_(b.icmp_signed("!=", here, mark), b.icmp_signed("!=", here, const(0)))

        slot = join.repeat(self.home(number), other, self.following)
        fresh = b.icmp_signed("==", join.load(join.scratch, slot), const(0))
        with b.if_then(fresh):
            join.store(mark, join.scratch, slot)
            self.put(number)

    def close(self, start: ir.Value) -> None:
        b, join = self.builder, self.join

        def clear(place: ir.Value) -> None:
            def full(slot: ir.Value) -> ir.Value:
                return b.icmp_signed("!=", join.load(join.scratch, slot), const(0))

            def empty(slot: ir.Value) -> ir.Value:
                join.store(const(0), join.scratch, slot)
                return self.following(slot)

            number = join.load(join.numbers, place, join.shape.bits)
            join.repeat(self.home(number), full, empty)

        join.loop(start, b.load(join.found, typ=I64), clear)
        self.sort(start)


class _Bitmap(_Collector):
    """The bits of a task, then those that say which 64 of them have some."""

    def summary(self) -> tuple[ir.Value, ir.Value]:
        """Where the second bits are, and how many words of them."""
        b, join = self.builder, self.join
        words = b.add(b.lshr(join.word("span"), const(6)), const(1))
        return join.at(join.scratch, words, I64), b.add(b.lshr(words, const(6)), const(1))

    def add(self, number: ir.Value) -> None:
        b, join = self.builder, self.join
        bits, (above, _) = join.scratch, self.summary()
        for base in (bits, above):
            word, bit = b.lshr(number, const(6)), b.shl(const(1), b.and_(number, const(63)))
            join.store(b.or_(join.load(base, word), bit), base, word)
            number = word

    def close(self, start: ir.Value) -> None:
        b, join = self.builder, self.join
        above, count = self.summary()

        def each(base: ir.Value, word: ir.Value, body: Callable[[ir.Value], None]) -> None:
            """The bits of a word, which is cleared."""
            bits = join.load(base, word)
            join.store(const(0), base, word)

            def step(left: ir.Value) -> ir.Value:
                body(b.or_(b.shl(word, const(6)), join.lowest(left)))
                return b.and_(left, b.sub(left, const(1)))

            join.repeat(bits, lambda left: b.icmp_signed("!=", left, const(0)), step)

        def word_of_words(number: ir.Value) -> None:
            each(above, number, self.numbers)

        join.loop(const(0), count, word_of_words)

    def numbers(self, word: ir.Value) -> None:
        """The bits of a word as numbers, which is cleared. Most words have one or two: these are
        written in any case, and what is too much is written over."""
        b, join = self.builder, self.join
        bits = join.load(join.scratch, word)
        join.store(const(0), join.scratch, word)
        count = b.call(declare(join.module, "llvm.ctpop.i64", I64, [I64]), [bits])
        first, place = b.shl(word, const(6)), b.load(join.found, typ=I64)
        b.store(b.add(place, count), join.found)

        def write(left: ir.Value, at: ir.Value) -> ir.Value:
            join.store(b.add(first, join.lowest(left)), join.numbers, at, join.shape.bits)
            return b.and_(left, b.sub(left, const(1)))

        left = bits
        for number in range(WRITTEN):
            left = write(left, b.add(place, const(number)))
        with b.if_then(b.icmp_signed("!=", left, const(0))):
            b.store(b.add(place, const(WRITTEN)), join.following)

            def step(rest: ir.Value) -> ir.Value:
                at = b.load(join.following, typ=I64)
                b.store(b.add(at, const(1)), join.following)
                return write(rest, at)

            join.repeat(left, lambda rest: b.icmp_signed("!=", rest, const(0)), step)


_COLLECTORS: dict[str, type[_Collector]] = {
    "append": _Append,
    "hash": _Hash,
    "bitmap": _Bitmap,
}
