"""Machine code that builds derived sets: loops over binders.

Enters: a `Shape`. Leaves: a module of LLVM IR that defines

    void @derive.bound(ptr %words, i64 %tasks)    each task: how many tuples its groups can have;
                                                  then `ahead` adds them up and groups are cut

or, for a shape with a collector,

    void @derive.join(ptr %words, i64 %tasks)     each task: its groups, tuples as numbers; then
                                                  `totals` are how many there are before each task
    void @derive.spread(ptr %words, i64 %tasks)   each task: those numbers as fields of the set
    void @derive.lead(ptr %words, i64 %tasks)     each task: the fields that its groups tell
    void @derive.index(ptr %words, i64 %one)      fills the hash table of each stage that has one

`words` are addresses and numbers, 8 bytes each, in the order of `words_of`. The numbers of a group
go through a collector (`collectors.py`), those of a short one through registers
(`short_groups.py`).
"""

from __future__ import annotations

from functools import reduce

from llvmlite import ir

from hectorite.backends.cpu.lanes import I8, I32, I64, declare
from hectorite.backends.cpu.memory import POINTER
from hectorite.backends.derived.collectors import COLLECTORS, Collector, Registers
from hectorite.backends.derived.sort import sort_text
from hectorite.backends.derived.writer import TASKS, Shape, Writer, const

NEAR = 3
"""Codes that are alike but for so many low bits stay side by side in a stage's table."""


def entries_of(shape: Shape) -> tuple[str, ...]:
    """The functions that the module defines."""
    return tuple(f"derive.{name}" for name in _tasks_of(shape))


def derive_ir(shape: Shape) -> str:
    """The text of the module."""
    module = ir.Module("derive")
    parallel = declare(module, "hec_parallel", ir.VoidType(), [POINTER, POINTER, I64])
    signature = ir.FunctionType(ir.VoidType(), [POINTER, I64])

    def function(writer: type[_Task], name: str) -> ir.Function:
        made = ir.Function(module, signature, name)
        made.linkage = "internal"
        made.attributes.add("nounwind")
        writer(made, shape).write()
        return made

    for name, (writer, after) in _tasks_of(shape).items():
        task = function(writer, f"task.{name}")
        entry = ir.Function(module, signature, f"derive.{name}")
        builder = ir.IRBuilder(entry.append_basic_block("entry"))
        builder.call(parallel, [task, *entry.args])
        if after is not None:
            builder.call(function(after, f"after.{name}"), entry.args)
        builder.ret_void()
    dropped = ("target triple", "target datalayout", "; ModuleID", 'declare void @"sort.')
    lines = [line for line in str(module).splitlines() if not line.startswith(dropped)]
    return "\n".join(lines) + "\n" + sort_text(shape.bits)


def _tasks_of(shape: Shape) -> dict[str, tuple[type[_Task], type[_Task] | None]]:
    """Functions: what each task does, and what is done once after all of them."""
    if not shape.collector:
        return {"bound": (_Bound, _Cut)}
    alone = {"spread": _Spread, "lead": _Lead, "index": _Index}
    return {"join": (_Join, _Total), **{name: (task, None) for name, task in alone.items()}}


class _Task(Writer):
    """The function of a task."""

    def write(self) -> None:
        """The whole of it."""
        raise NotImplementedError(f"{type(self).__name__} writes no task")


class _Bound(_Task):
    """Counts the tuples that each group can have: the elements of stages that are found by the
    first binder alone; of others the most are a `factor`."""

    def write(self) -> None:
        b = self.builder
        total = self.variable()
        stages = [n for n in range(1, len(self.shape.stages)) if self.shape.counted(n) is not None]

        def group(number: ir.Value) -> None:
            b.store(const(0), total)
            after = b.add(number, const(1))
            low, high = (self.load(self.word("groups"), g, 32) for g in (number, after))
            if stages:
                self.loop(low, high, each, short=True)
            else:
                b.store(b.sub(high, low), total)
            bound = b.mul(b.load(total, typ=I64), self.word("factor"))
            most = self.word("most")
            bound = b.select(b.icmp_signed("<", bound, most), bound, most)
            self.store(bound, self.word("ahead"), after)

        def each(at: ir.Value) -> None:
            count = reduce(b.mul, (self.elements(stage, at) for stage in stages))
            b.store(b.add(b.load(total, typ=I64), count), total)

        self.loop(*self.groups(), group)
        b.ret_void()

    def elements(self, stage: int, at: ir.Value) -> ir.Value:
        b, tie = self.builder, self.shape.counted(stage)
        assert tie is not None
        ((_, bits),) = self.shape.sums[tie].columns
        code = b.add(self.load(self.word("column", tie, 0), at, bits), self.word("constant", tie))
        begin, after = self.word("begin", stage), b.add(code, const(1))
        return b.sub(self.load(begin, after, 32), self.load(begin, code, 32))


class _Cut(_Task):
    """Adds up what groups can have at most, and cuts them into at most TASKS tasks with like bounds
    of tuples and numbers of groups. `chosen` gets the number of tasks, the most that a group can
    have, and the cuts."""

    def write(self) -> None:
        b, ahead, length = self.builder, self.word("ahead"), self.word("length")
        most, total, tasks, due = (self.variable() for _ in range(4))
        for variable in (most, total, tasks, due):
            b.store(const(0), variable)
        self.store(const(0), ahead, const(0))

        def add(group: ir.Value) -> None:
            after = b.add(group, const(1))
            bound, greatest = self.load(ahead, after), b.load(most, typ=I64)
            b.store(b.select(b.icmp_signed(">", bound, greatest), bound, greatest), most)
            self.store(b.add(self.increase(total, bound), bound), ahead, after)

        self.loop(const(0), length, add)
        work = b.add(b.load(total, typ=I64), length)
        share = b.add(b.udiv(work, const(TASKS)), const(1))
        cuts = self.at(self.word("chosen"), const(2), I64)

        def look(group: ir.Value) -> None:
            done = b.add(self.load(ahead, group), group)
            with b.if_then(b.icmp_signed(">=", done, b.load(due, typ=I64))):
                self.store(group, cuts, self.increase(tasks, const(1)))
                b.store(b.mul(b.add(b.udiv(done, share), const(1)), share), due)

        self.loop(const(0), length, look)
        self.store(length, cuts, b.load(tasks, typ=I64))
        self.store(b.load(tasks, typ=I64), self.word("chosen"), const(0))
        self.store(b.load(most, typ=I64), self.word("chosen"), const(1))
        b.ret_void()


class _Join(_Task):
    """Goes through the assignments of a task's groups, and collects their keys."""

    def write(self) -> None:
        b = self.builder
        low, high = self.groups()
        slot = self.claimed()
        offset = b.mul(slot, self.word("stride"))
        scratch = b.gep(self.word("scratch"), [offset], source_etype=I8, inbounds=True)
        collector = COLLECTORS[self.shape.collector](self, self.start(low), scratch)
        short = Registers(self, collector) if self.shape.short else None
        self.loop(low, high, lambda group: self.group(group, collector, short))
        self.store(collector.count(), self.word("totals"), self.task)
        b.atomic_rmw("or", self.word("free"), b.shl(const(1), slot), "release")
        b.ret_void()

    def claimed(self) -> ir.Value:
        """The scratch of one task, which no other has at the same time. All are left as they are
        found, so that it does not matter which it is."""
        b, free = self.builder, self.word("free")
        head, take, after = (b.append_basic_block(name) for name in ("claim", "take", "claimed"))
        b.branch(head)
        b.position_at_end(head)
        mask = b.load_atomic(free, "monotonic", 8, typ=I64)
        b.cbranch(b.icmp_signed("!=", mask, const(0)), take, head)
        b.position_at_end(take)
        slot = self.lowest(mask)
        left = b.and_(mask, b.sub(mask, const(1)))
        b.cbranch(b.extract_value(b.cmpxchg(free, mask, left, "acquire"), 1), after, head)
        b.position_at_end(after)
        return slot

    def group(self, group: ir.Value, collector: Collector, short: Collector | None) -> None:
        b = self.builder
        after = b.add(group, const(1))
        low, high = (self.load(self.word("groups"), g, 32) for g in (group, after))
        sums = [self.word("constant", number) for number in range(len(self.shape.sums))]

        def collect(by: Collector) -> None:
            by.open(group)
            self.loop(low, high, lambda at: self.assigned(0, at, sums, by))
            by.close()

        with b.if_then(b.icmp_signed("<", low, high)):
            if short is None:
                collect(collector)
            else:
                # As many tuples as there could be may come from more assignments.
                most = self.bound(group)
                few = b.icmp_signed("<=", most, const(self.shape.short))
                few = b.and_(few, b.icmp_signed("<", most, self.word("span")))
                with b.if_else(few) as (then, otherwise):
                    with then:
                        collect(short)
                    with otherwise:
                        collect(collector)
        self.store(collector.count(), self.word("ends"), after, 32)

    def assigned(
        self, binder: int, at: ir.Value, sums: list[ir.Value], collector: Collector
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

    def onward(self, binder: int, sums: list[ir.Value], collector: Collector) -> None:
        """The next binder, or the key of a whole assignment."""
        b, shape = self.builder, self.shape
        stage = binder + 1
        if stage == len(shape.stages):
            key = next(n for n, total in enumerate(shape.sums) if total.role == "key")
            collector.add(sums[key])
            return
        tie = shape.tie(stage)
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
        key = self.only_key(stage)
        if key is None or not collector.takes_stretches:
            self.loop(low, high, each)
        else:
            collector.stretch(self.word("column", key, stage), low, high, sums[key])

    def only_key(self, stage: int) -> int | None:
        """The number of the key, if all that the last stage does is to add a column of 32 bits."""
        shape = self.shape
        if stage + 1 < len(shape.stages):
            return None
        found = [
            (number, bits)
            for number, total in enumerate(shape.sums)
            for binder, bits in total.columns
            if binder == stage
        ]
        if len(found) != 1 or found[0][1] != 32 or shape.sums[found[0][0]].role != "key":
            return None
        return found[0][0]

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


def _home(writer: Writer, code: ir.Value) -> ir.Value:
    """Where a code is looked for first: neighbours are side by side."""
    b = writer.builder
    far = b.shl(writer.mixed(b.lshr(code, const(NEAR))), const(NEAR))
    return b.or_(far, b.and_(code, const((1 << NEAR) - 1)))


class _Index(_Task):
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


class _Total(_Task):
    """Makes how many numbers tasks have into how many those before each have."""

    def write(self) -> None:
        b, totals, total = self.builder, self.word("totals"), self.variable()
        b.store(const(0), total)

        def add(task: ir.Value) -> None:
            self.store(self.increase(total, self.load(totals, task)), totals, task)

        self.loop(const(0), self.task, add)
        self.store(b.load(total, typ=I64), totals, self.task)
        b.ret_void()


class _Spread(_Task):
    """Copies the numbers of a task's groups behind those of the tasks before, as fields, and lets
    their ends count these and those `before` the round as well."""

    def write(self) -> None:
        b = self.builder
        low, high = self.groups()
        numbers, totals = self.start(low), self.word("totals")
        target = self.load(totals, self.task)
        count = b.sub(self.load(totals, b.add(self.task, const(1))), target)
        self.loop(const(0), count, lambda at: self.fields(numbers, at, target))
        offset = b.add(target, self.word("before"))

        def group(number: ir.Value) -> None:
            after = b.add(number, const(1))
            end = b.add(self.load(self.word("ends"), after, 32), offset)
            self.store(end, self.word("ends"), after, 32)

        self.loop(low, high, group)
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


class _Lead(_Task):
    """Writes the leading fields of the elements of a task's groups, which the groups have."""

    def write(self) -> None:
        b, shape, ends = self.builder, self.shape, self.word("ends")

        def group(number: ir.Value) -> None:
            begin = self.load(ends, number, 32)
            end = self.load(ends, b.add(number, const(1)), 32)
            for k in range(shape.lead):
                value = self.load(self.word("lead", k), number, 32)
                field = self.word("lead_field", k)
                self.loop(begin, end, lambda at, v=value, f=field: self.store(v, f, at, 32))

        self.loop(*self.groups(), group)
        b.ret_void()
