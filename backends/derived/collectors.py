"""Collectors: sets of numbers that leave each once and in order, as loops in LLVM IR.

Enters: the writer of a task, which collects one group at a time. Leaves: for each group its numbers
behind those of the groups before.

    append   no two are equal; they are sorted if they are not already
    hash     a table of the numbers that were seen, as large as the group needs; then sorted
    bytes    a byte for each number, and one for each 64 that have some
    bits     a bit for each number, and one for each 64 bits that have some

The first is free, the second takes memory for the largest group, the others for all numbers, but
they sort by themselves; bytes are set without a look at what is there, bits are fewer.
"""

from __future__ import annotations

from llvmlite import ir

from hectorite.backends.cpu import jit
from hectorite.backends.cpu.control import counted_loop
from hectorite.backends.cpu.lanes import I1, I8, I16, I32, I64, declare
from hectorite.backends.cpu.memory import POINTER
from hectorite.backends.derived.short_groups import LANES, declared
from hectorite.backends.derived.sort import sort_function
from hectorite.backends.derived.writer import Writer, const

WRITTEN = 2
"""Numbers of a word of bits that are written without a look at how many there are."""


class Collector:
    """Collects the numbers of one group at a time, behind those of the groups before. `scratch` is
    the task's, all zero; `numbers` is where they go."""

    def __init__(self, writer: Writer, numbers: ir.Value, scratch: ir.Value):
        self.writer, self.builder = writer, writer.builder
        self.numbers, self.scratch = numbers, scratch
        self.found = writer.variable()
        """How many there are so far."""
        self.first = writer.variable()
        """How many there were before this group."""
        self.builder.store(const(0), self.found)

    def open(self, group: ir.Value) -> None:
        """Begin a group."""
        self.builder.store(self.count(), self.first)

    def add(self, number: ir.Value) -> None:
        """Take a number."""

    def close(self) -> None:
        """Leave what the group has taken in order, each once."""

    takes_stretches = False
    """Whether it takes many numbers at once."""

    def stretch(self, column: ir.Value, low: ir.Value, high: ir.Value, base: ir.Value) -> None:
        """Take some numbers of a column of 32 bits, each with `base` added."""
        raise NotImplementedError(f"{type(self).__name__} takes one number at a time")

    def count(self) -> ir.Value:
        return self.builder.load(self.found, typ=I64)

    def put(self, number: ir.Value) -> None:
        place = self.count()
        self.writer.store(number, self.numbers, place, self.writer.shape.bits)
        self.builder.store(self.builder.add(place, const(1)), self.found)

    def sort(self) -> None:
        b, bits = self.builder, self.writer.shape.bits
        first = b.load(self.first, typ=I64)
        base = self.writer.at(self.numbers, first, ir.IntType(bits))
        b.call(sort_function(self.writer.module, bits), [base, b.sub(self.count(), first)])


class _Append(Collector):
    def add(self, number: ir.Value) -> None:
        self.put(number)

    def close(self) -> None:
        self.sort()


class _Hash(Collector):
    """Numbers stand in the table plus one; 0 is an empty slot. Groups use as much of the table as
    they need, so that small ones stay near."""

    mask: ir.Value

    def open(self, group: ir.Value) -> None:
        super().open(group)
        b, writer = self.builder, self.writer
        zeros = declare(writer.module, "llvm.ctlz.i64", I64, [I64, I1])
        wide = b.or_(b.shl(writer.bound(group), const(1)), const(15))
        leading = b.call(zeros, [wide, const(1, I1)])
        self.mask = b.lshr(const(-1), leading)

    def home(self, number: ir.Value) -> ir.Value:
        return self.builder.and_(self.writer.mixed(number), self.mask)

    def following(self, slot: ir.Value) -> ir.Value:
        return self.builder.and_(self.builder.add(slot, const(1)), self.mask)

    def add(self, number: ir.Value) -> None:
        b, writer = self.builder, self.writer
        mark = b.add(number, const(1))

        def other(slot: ir.Value) -> ir.Value:
            here = writer.load(self.scratch, slot)
            return b.and_(b.icmp_signed("!=", here, mark), b.icmp_signed("!=", here, const(0)))

        slot = writer.repeat(self.home(number), other, self.following)
        fresh = b.icmp_signed("==", writer.load(self.scratch, slot), const(0))
        with b.if_then(fresh):
            writer.store(mark, self.scratch, slot)
            self.put(number)

    def close(self) -> None:
        b, writer = self.builder, self.writer

        def clear(place: ir.Value) -> None:
            def full(slot: ir.Value) -> ir.Value:
                return b.icmp_signed("!=", writer.load(self.scratch, slot), const(0))

            def empty(slot: ir.Value) -> ir.Value:
                writer.store(const(0), self.scratch, slot)
                return self.following(slot)

            number = writer.load(self.numbers, place, writer.shape.bits)
            writer.repeat(self.home(number), full, empty)

        writer.loop(b.load(self.first, typ=I64), self.count(), clear)
        self.sort()


class _Marks(Collector):
    """A mark for each number, then those that say which 64 of them have some."""

    def __init__(self, writer: Writer, numbers: ir.Value, scratch: ir.Value):
        super().__init__(writer, numbers, scratch)
        self.following = writer.variable()
        """Where the next number of a word goes."""

    def mark(self, base: ir.Value, number: ir.Value) -> None:
        """Mark one."""
        raise NotImplementedError(f"{type(self).__name__} sets no mark")

    def taken(self, base: ir.Value, word: ir.Value) -> ir.Value:
        """The marks of 64 numbers as bits; they are cleared."""
        raise NotImplementedError(f"{type(self).__name__} takes no marks")

    def upper(self) -> tuple[ir.Value, ir.Value]:
        """Where the second marks are, and how many words of them."""
        raise NotImplementedError(f"{type(self).__name__} has no second marks")

    def add(self, number: ir.Value) -> None:
        self.mark(self.scratch, number)
        self.mark(self.upper()[0], self.builder.lshr(number, const(6)))

    def close(self) -> None:
        b = self.builder
        above, count = self.upper()

        def each(number: ir.Value) -> None:
            first = b.shl(number, const(6))

            def step(left: ir.Value) -> ir.Value:
                self.word(b.or_(first, self.writer.lowest(left)))
                return b.and_(left, b.sub(left, const(1)))

            marks = self.taken(above, number)
            self.writer.repeat(marks, lambda left: b.icmp_signed("!=", left, const(0)), step)

        self.writer.loop(const(0), count, each)

    def word(self, word: ir.Value) -> None:
        """The numbers of a word. Most words have one or two: these are written in any case, and
        what is too much is written over."""
        b, writer = self.builder, self.writer
        bits = self.taken(self.scratch, word)
        first, place = b.shl(word, const(6)), self.count()
        function = declare(writer.module, "llvm.ctpop.i64", I64, [I64])
        b.store(b.add(place, b.call(function, [bits])), self.found)
        left = bits
        for number in range(WRITTEN):
            left = self.lowest_of(left, first, b.add(place, const(number)))
        with b.if_then(b.icmp_signed("!=", left, const(0))):
            if "+avx512f" in jit.host().features.split(","):
                self.compressed(bits, first, place)
            else:
                self.one_by_one(left, first, b.add(place, const(WRITTEN)))

    def lowest_of(self, bits: ir.Value, first: ir.Value, place: ir.Value) -> ir.Value:
        """Write the lowest number of a word; the others."""
        b, writer = self.builder, self.writer
        writer.store(b.add(first, writer.lowest(bits)), self.numbers, place, writer.shape.bits)
        return b.and_(bits, b.sub(bits, const(1)))

    def one_by_one(self, bits: ir.Value, first: ir.Value, place: ir.Value) -> None:
        b = self.builder
        b.store(place, self.following)

        def step(left: ir.Value) -> ir.Value:
            at = b.load(self.following, typ=I64)
            b.store(b.add(at, const(1)), self.following)
            return self.lowest_of(left, first, at)

        self.writer.repeat(bits, lambda left: b.icmp_signed("!=", left, const(0)), step)

    def compressed(self, bits: ir.Value, first: ir.Value, place: ir.Value) -> None:
        """All numbers of a word, some lanes at a time, of which those that are marked move to the
        front."""
        b, module = self.builder, self.writer.module
        lanes, mask = ir.VectorType(I32, LANES), ir.VectorType(I1, LANES)
        name = f"llvm.experimental.vector.compress.v{LANES}i32"
        move = declare(module, name, lanes, [lanes, mask, lanes])
        count = declare(module, "llvm.ctpop.i16", I16, [I16])
        one = b.insert_element(ir.Constant(lanes, ir.Undefined), b.trunc(first, I32), const(0, I32))
        spread = b.shuffle_vector(one, one, ir.Constant(lanes, [0] * LANES))
        for start in range(0, 64, LANES):
            numbers = b.add(spread, ir.Constant(lanes, list(range(start, start + LANES))))
            part = b.trunc(b.lshr(bits, const(start)), I16)
            chosen = b.call(move, [numbers, b.bitcast(part, mask), ir.Constant(lanes, None)])
            target = self.writer.at(self.numbers, place, I32)
            b.store(chosen, target, align=4)
            place = b.add(place, b.zext(b.call(count, [part]), I64))


class _Bytes(_Marks):
    """Marks are bytes: written without a look at what is there."""

    def upper(self) -> tuple[ir.Value, ir.Value]:
        b, span = self.builder, self.writer.word("span")
        words = b.add(b.lshr(span, const(6)), const(1))
        above = self.writer.at(self.scratch, b.shl(words, const(6)), I8)
        return above, b.add(b.lshr(words, const(6)), const(1))

    def mark(self, base: ir.Value, number: ir.Value) -> None:
        self.builder.store(const(1, I8), self.writer.at(base, number, I8), align=1)

    def taken(self, base: ir.Value, word: ir.Value) -> ir.Value:
        b, lanes = self.builder, ir.VectorType(I8, 64)
        place = self.writer.at(base, b.shl(word, const(6)), I8)
        zero = ir.Constant(lanes, None)
        marks = b.load(place, typ=lanes, align=64)
        b.store(zero, place, align=64)
        return b.bitcast(b.icmp_unsigned("!=", marks, zero), I64)


class _Bits(_Marks):
    """Marks are bits."""

    def upper(self) -> tuple[ir.Value, ir.Value]:
        b, writer = self.builder, self.writer
        words = b.add(b.lshr(writer.word("span"), const(6)), const(1))
        return writer.at(self.scratch, words, I64), b.add(b.lshr(words, const(6)), const(1))

    def mark(self, base: ir.Value, number: ir.Value) -> None:
        b, writer = self.builder, self.writer
        word, bit = b.lshr(number, const(6)), b.shl(const(1), b.and_(number, const(63)))
        writer.store(b.or_(writer.load(base, word), bit), base, word)

    def taken(self, base: ir.Value, word: ir.Value) -> ir.Value:
        bits = self.writer.load(base, word)
        self.writer.store(const(0), base, word)
        return bits


class Registers(Collector):
    """Collects short groups in memory of its own, and puts them in order in registers. What leaves
    it goes behind what left `beside`, the collector of longer groups."""

    takes_stretches = True

    def __init__(self, writer: Writer, beside: Collector):
        self.writer, self.builder = writer, writer.builder
        self.numbers, self.found = beside.numbers, beside.found
        self.taken = writer.variable()
        with self.builder.goto_entry_block():
            size = writer.shape.short + LANES
            self.buffer = self.builder.alloca(ir.ArrayType(I32, size))
        self.buffer.align = 64
        self.buffer.type = POINTER

    def open(self, group: ir.Value) -> None:
        self.builder.store(const(0), self.taken)

    def add(self, number: ir.Value) -> None:
        place = self.writer.increase(self.taken, const(1))
        self.writer.store(number, self.buffer, place, 32)

    def stretch(self, column: ir.Value, low: ir.Value, high: ir.Value, base: ir.Value) -> None:
        b, module = self.builder, self.writer.module
        lanes, mask = ir.VectorType(I32, LANES), ir.VectorType(I1, LANES)
        name = f"llvm.masked.load.v{LANES}i32.p0"
        load = declare(module, name, lanes, [POINTER, I32, mask, lanes])
        start, count = self.spread(base), ir.Constant(lanes, list(range(LANES)))

        def step(at: ir.Value, _: list[ir.Value]) -> list[ir.Value]:
            left = b.sub(high, at)
            there = b.icmp_signed("<", count, self.spread(left))
            source = self.writer.at(column, at, I32)
            values = b.call(load, [source, const(4, I32), there, ir.Constant(lanes, None)])
            whole = b.icmp_signed(">", left, const(LANES))
            place = self.writer.increase(self.taken, b.select(whole, const(LANES), left))
            b.store(b.add(values, start), self.writer.at(self.buffer, place, I32), align=4)
            return []

        # Most have no more than fit at once, and that none is there need not be asked.
        step(low, [])
        counted_loop(b, b.add(low, const(LANES)), high, const(LANES), [], step, rolled=True)

    def spread(self, number: ir.Value) -> ir.Value:
        b, lanes = self.builder, ir.VectorType(I32, LANES)
        one = ir.Constant(lanes, ir.Undefined)
        one = b.insert_element(one, b.trunc(number, I32), const(0, I32))
        return b.shuffle_vector(one, one, ir.Constant(lanes, [0] * LANES))

    def close(self) -> None:
        b = self.builder
        out = self.writer.at(self.numbers, self.count(), I32)
        arguments = [self.buffer, b.load(self.taken, typ=I64), out]
        self.writer.increase(self.found, b.call(declared(self.writer.module), arguments))


COLLECTORS: dict[str, type[Collector]] = {
    "append": _Append,
    "hash": _Hash,
    "bytes": _Bytes,
    "bits": _Bits,
}
