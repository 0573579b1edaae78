"""What lets the threads of a block that wait go on, in compiled PTX.

Enters: the finished `Step` of a kernel. Leaves: the functions of its scheduler,

    hec.start       records of threads that have not begun
    hec.warp        one warp as far as it goes, with the collectives whose lanes have all come
    hec.barriers    releases the barriers to which the block has come
    hec.stuck       the fault of a block in which nobody can go on
"""

from __future__ import annotations

from hectorite.backends.ptx.jit_faults import slot
from hectorite.backends.ptx.jit_frame import BlockSlot, Launch, Record, Status
from hectorite.backends.ptx.jit_step import Step
from hectorite.backends.ptx.jit_text import Code, V, helper, i32, i64

BARRIERS = 17


def add_waits(step: Step) -> None:
    """The functions above."""
    _add_exchange(step)
    _add_warp(step)
    _add_barriers(step)
    _add_start(step)


def _field_at(code: Code, record: V, offset: Record) -> V:
    return code.at(record, int(offset))


def _each_record(code: Code, step: Step, records: V, index: V) -> V:
    wide = code.resized(index, "i64")
    return code.at(records, code.op("mul", wide, i64(step.record_bytes)))


def _status(code: Code, record: V) -> V:
    return code.load("i32", _field_at(code, record, Record.STATUS), 4)


def _set_status(code: Code, record: V, status: Status) -> None:
    code.store(i32(status), _field_at(code, record, Record.STATUS), 4)


def _add_start(step: Step) -> None:
    """Records of threads that have not begun."""

    def body(code: Code, given: list[V]) -> None:
        _, records = given
        sizes = [code.resized(slot(code, Launch.BLOCK_X + axis), "i32") for axis in range(3)]
        with code.loop(sizes[2]) as z, code.loop(sizes[1]) as y, code.loop(sizes[0]) as x:
            row = code.op("add", code.op("mul", z, sizes[1]), y)
            number = code.op("add", code.op("mul", row, sizes[0]), x)
            record = _each_record(code, step, records, number)
            code.do(f"store [8 x i32] zeroinitializer, {record}, align 4")
            for offset, value in ((Record.X, x), (Record.Y, y), (Record.Z, z)):
                code.store(value, _field_at(code, record, offset), 4)

    helper(
        step.pieces,
        "hec.start",
        "void",
        [("ptr", "launch"), ("ptr", "records")],
        body,
        "noinline optsize",
    )

    def stuck(code: Code, given: list[V]) -> None:
        launch, block, records, threads, kind = given
        told = code.alloca("i1")
        code.store(V("i1", "false"), told)
        with code.loop(threads) as thread:
            record = _each_record(code, step, records, thread)
            waits = code.compare("ne", _status(code, record), i32(Status.DONE))
            first = code.op("xor", code.load("i1", told), V("i1", "true"))
            with code.when(code.op("and", waits, first)):
                code.store(V("i1", "true"), told)
                at = code.load("i32", record, 4)
                code.call_void("hec.fault", launch, block, thread, kind, i32(0),
                               code.resized(at, "i64"), i64(0))  # fmt: skip

    parameters = [("ptr", "launch"), ("ptr", "block"), ("ptr", "records"), ("i32", "threads"),
                  ("i32", "kind")]  # fmt: skip
    helper(step.pieces, "hec.stuck", "void", parameters, stuck, "cold noinline")


def _add_warp(step: Step) -> None:
    """A warp as far as it goes. Gives 1 if a lane came further, 2 if one asks again."""

    def body(code: Code, given: list[V]) -> V:
        launch, block, records, mail, lanes, cx, cy, cz, shared = given
        flags = code.alloca("i32")
        code.store(i32(0), flags)
        again = code.name("again")
        code.do(f"br label %{again}")
        code.label(again)
        with code.loop(lanes) as lane:
            record = _each_record(code, step, records, lane)
            ready = code.compare("eq", _status(code, record), i32(Status.READY))
            with code.when(ready):
                xyz = [
                    code.load("i32", _field_at(code, record, at), 4)
                    for at in (Record.X, Record.Y, Record.Z)
                ]
                values = [launch, block, record, mail, lane, *xyz, cx, cy, cz, shared]
                status = code.call("i32", "step", *values)
                code.store(status, _field_at(code, record, Record.STATUS), 4)
                asks = code.compare("eq", status, i32(Status.PAUSE))
                flag = code.select(asks, i32(2), i32(1))
                code.store(code.op("or", code.load("i32", flags), flag), flags)
        end = code.name("end")
        if step.performers:
            made = code.call("i1", "hec.exchange", records, mail, lanes, shared)
            with code.when(made):
                code.store(code.op("or", code.load("i32", flags), i32(1)), flags)
            code.do(f"br {made}, label %{again}, label %{end}")
        else:
            code.do(f"br label %{end}")
        code.label(end)
        with code.loop(lanes) as lane:
            record = _each_record(code, step, records, lane)
            paused = code.compare("eq", _status(code, record), i32(Status.PAUSE))
            with code.when(paused):
                _set_status(code, record, Status.READY)
        return code.load("i32", flags)

    names = ("cx", "cy", "cz")
    parameters = [("ptr", "launch"), ("ptr", "block"), ("ptr", "records"), ("ptr", "mail"),
                  ("i32", "lanes"), *(("i32", n) for n in names), ("ptr", "shared")]  # fmt: skip
    helper(step.pieces, "hec.warp", "i32", parameters, body, "noinline optsize")


def _add_exchange(step: Step) -> None:
    """One collective of a warp for which all its lanes have come; whether there was one."""
    if not step.performers:
        return

    def perform(code: Code, given: list[V]) -> None:
        key, mail, taking, _ = given
        after = code.name("made")
        labels = {number: code.name("site") for number in step.performers}
        cases = " ".join(f"i32 {n}, label %{label}" for n, label in labels.items())
        code.do(f"switch {key}, label %{after} [ {cases} ]")
        for number, group in step.performers.items():
            code.label(labels[number])
            for offset, collective in group:
                place = code.at(mail, 32 * offset, "i32")
                collective.perform(code, place, taking)
            code.do(f"br label %{after}")
        code.label(after)

    parameters = [("i32", "key"), ("ptr", "mail"), ("i32", "taking"), ("ptr", "shared")]
    helper(step.pieces, "hec.perform", "void", parameters, perform, "noinline optsize")

    def body(code: Code, given: list[V]) -> V:
        records, mail, lanes, shared = given
        done = code.alloca("i1")
        code.store(V("i1", "false"), done)
        alive = _mask(code, step, records, lanes, Record.STATUS, Status.DONE, differs=True)
        waiting = _mask(code, step, records, lanes, Record.STATUS, Status.WARP)
        for soft in (False, True):
            with code.loop(lanes) as lane:
                _try(code, step, (records, mail, lanes, shared), done, alive, waiting, lane, soft)
        return code.load("i1", done)

    parameters = [("ptr", "records"), ("ptr", "mail"), ("i32", "lanes"), ("ptr", "shared")]
    helper(step.pieces, "hec.exchange", "i1", parameters, body, "noinline optsize")


def _mask(
    code: Code, step: Step, records: V, lanes: V, at: Record, value: int | V, differs: bool = False
) -> V:
    """The lanes whose word at `at` is (or is not) `value`."""
    place = code.alloca("i32")
    code.store(i32(0), place)
    wanted = value if isinstance(value, V) else i32(value)
    with code.loop(lanes) as lane:
        record = _each_record(code, step, records, lane)
        found = code.load("i32", _field_at(code, record, at), 4)
        holds = code.compare("ne" if differs else "eq", found, wanted)
        bit = code.op("shl", code.resized(holds, "i32"), lane)
        code.store(code.op("or", code.load("i32", place), bit), place)
    return code.load("i32", place)


def _try(
    code: Code,
    step: Step,
    warp: tuple[V, V, V, V],
    done: V,
    alive: V,
    waiting: V,
    lane: V,
    soft: bool,
) -> None:
    """The collective at which one lane waits, if all that take part are there."""
    records, mail, lanes, shared = warp
    record = _each_record(code, step, records, lane)
    bit = code.op("shl", i32(1), lane)
    waits = code.compare("ne", code.op("and", waiting, bit), i32(0))
    undone = code.op("xor", code.load("i1", done), V("i1", "true"))
    mask = code.load("i32", _field_at(code, record, Record.MASK), 4)
    fits = code.compare("eq" if soft else "ne", mask, i32(0))
    with code.when(code.op("and", code.op("and", waits, undone), fits)):
        key = code.load("i32", _field_at(code, record, Record.KEY), 4)
        same = _mask(code, step, records, lanes, Record.KEY, key)
        here = code.op("and", same, waiting)
        required = here if soft else code.op("or", code.op("and", mask, alive), bit)
        absent = code.op("and", required, code.op("xor", here, i32(-1)))
        with code.when(code.compare("eq", absent, i32(0))):
            code.call_void("hec.perform", key, mail, required, shared)
            code.store(V("i1", "true"), done)
            with code.loop(lanes) as other:
                taken = code.op("and", code.op("lshr", required, other), i32(1))
                with code.when(code.compare("ne", taken, i32(0))):
                    _set_status(code, _each_record(code, step, records, other), Status.READY)


def _add_barriers(step: Step) -> None:
    """Release barriers to which the block has come: 1 if one is released, 4 if all are done."""

    def body(code: Code, given: list[V]) -> V:
        block, records, threads = given
        table = f"[{BARRIERS} x i32]"
        counts, needs, sums = (code.alloca(table) for _ in range(3))
        for place in (counts, needs, sums):
            code.do(f"store {table} zeroinitializer, {place}")
        alive, result = code.alloca("i32"), code.alloca("i32")
        code.store(i32(0), alive)
        code.store(i32(0), result)
        _count(code, step, records, threads, alive, (counts, needs, sums))
        with code.when(code.compare("eq", code.load("i32", alive), i32(0))):
            code.store(i32(4), result)
        arrivals = code.at(block, 8 * int(BlockSlot.ARRIVED))
        with code.loop(i32(BARRIERS)) as barrier:
            wide = code.resized(barrier, "i64")
            count, need, total = (
                code.load("i32", code.at(place, wide, "i32"), 4) for place in (counts, needs, sums)
            )
            arrived_at = code.at(arrivals, code.call("i64", "llvm.umin.i64", wide, i64(15)), "i32")
            present = code.op("add", count, code.load("i32", arrived_at, 4))
            everyone = code.compare("eq", count, code.load("i32", alive))
            enough = code.compare("uge", present, need)
            sized = code.compare("ne", need, i32(0))
            complete = code.select(sized, enough, everyone)
            some = code.compare("ne", count, i32(0))
            with code.when(code.op("and", some, complete)):
                code.store(i32(0), arrived_at, 4)
                code.store(i32(1), result)
                _release(code, step, records, threads, barrier, count, total)
        return code.load("i32", result)

    parameters = [("ptr", "block"), ("ptr", "records"), ("i32", "threads")]
    helper(step.pieces, "hec.barriers", "i32", parameters, body, "noinline optsize")


def _count(
    code: Code, step: Step, records: V, threads: V, alive: V, tables: tuple[V, V, V]
) -> None:
    """How many threads are alive, and for each barrier how many wait, what they need and bring."""
    with code.loop(threads) as thread:
        record = _each_record(code, step, records, thread)
        status = _status(code, record)
        lives = code.resized(code.compare("ne", status, i32(Status.DONE)), "i32")
        code.store(code.op("add", code.load("i32", alive), lives), alive)
        with code.when(code.compare("eq", status, i32(Status.BARRIER))):
            key = code.load("i32", _field_at(code, record, Record.KEY), 4)
            wide = code.resized(code.op("and", key, i32(255)), "i64")
            wide = code.call("i64", "llvm.umin.i64", wide, i64(BARRIERS - 1))
            value = code.load("i32", _field_at(code, record, Record.VALUE), 4)
            needed = code.load("i32", _field_at(code, record, Record.MASK), 4)
            for place, added in zip(tables, (i32(1), needed, value), strict=True):
                at = code.at(place, wide, "i32")
                if added is needed:
                    code.store(needed, at, 4)
                else:
                    code.store(code.op("add", code.load("i32", at, 4), added), at, 4)


def _release(
    code: Code, step: Step, records: V, threads: V, barrier: V, count: V, total: V
) -> None:
    """Let the threads at a barrier go on, with the result of its reduction."""
    with code.loop(threads) as thread:
        record = _each_record(code, step, records, thread)
        waits = code.compare("eq", _status(code, record), i32(Status.BARRIER))
        key = code.load("i32", _field_at(code, record, Record.KEY), 4)
        here = code.compare("eq", code.op("and", key, i32(255)), barrier)
        with code.when(code.op("and", waits, here)):
            how = code.op("lshr", key, i32(8))
            every = code.resized(code.compare("eq", total, count), "i32")
            some = code.resized(code.compare("ne", total, i32(0)), "i32")
            other = code.select(code.compare("eq", how, i32(2)), some, total)
            value = code.select(code.compare("eq", how, i32(1)), every, other)
            code.store(value, _field_at(code, record, Record.VALUE), 4)
            _set_status(code, record, Status.READY)
