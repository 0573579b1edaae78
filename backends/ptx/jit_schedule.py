"""How the threads of a block run in compiled PTX: one after the other, each to where it waits.

Enters: the finished `Step` of a kernel. Leaves: the functions around it,

    void @hectorite.block(ptr launch, i64 number)      # one block, from its start to its end

A kernel in which no thread waits is three loops around `step`. Otherwise each warp runs its lanes
to their next suspension and makes the collectives whose lanes have all come, until none is left;
then barriers are released for which the block has come. If nobody can go on, that is a fault. This
order is as far from lockstep as can be, so a missing barrier shows.
"""

from __future__ import annotations

from hectorite.backends.ptx.jit_frame import (
    BlockSlot,
    Fault,
    FaultSlot,
    Launch,
    Record,
    Status,
    aligned,
)
from hectorite.backends.ptx.jit_step import STEP_PARAMETERS, Step
from hectorite.backends.ptx.jit_text import Code, Pieces, V, helper, i32, i64
from hectorite.backends.ptx.jit_values import INVARIANT

ENTRY = "hectorite.block"
SHARED_ALIGNMENT = 1024
IDLE_ROUNDS = 1 << 22
"""After so many rounds in which threads only asked whether they may go on, they never will."""

LAUNCH, BLOCK = V("ptr", "%launch"), V("ptr", "%block")
GO_ON = STEP_PARAMETERS[5:]  # what of the parameters of step is a coordinate, and shared memory
BARRIERS = 17


def slot(code: Code, number: int, of: V = LAUNCH) -> V:
    note = INVARIANT if of == LAUNCH else ""
    return code.load("i64", code.at(of, number, "i64"), 8, note)


def field_at(code: Code, record: V, offset: Record) -> V:
    return code.at(record, int(offset))


def add_runtime(pieces: Pieces) -> None:
    """The functions that `step` itself calls: the record of faults, the table of allocations."""

    def fault(code: Code, given: list[V]) -> None:
        launch, block, thread, kind, line, address, size = given
        place = code.cast("inttoptr", slot(code, Launch.FAULT, launch), "ptr")
        number = slot(code, BlockSlot.NUMBER, block)
        again, held = code.name("again"), code.name("held")
        code.do(f"br label %{again}")
        code.label(again)
        pair = code.let("{ i64, i1 }", f"cmpxchg {place}, i64 0, i64 1 acquire monotonic")
        code.do(f"br {code.let('i1', f'extractvalue {pair}, 1')}, label %{held}, label %{again}")
        code.label(held)
        # The lowest block that has a fault is told, whichever runs first.
        recorded = slot(code, FaultSlot.BLOCK, place)
        with code.when(code.compare("slt", number, recorded)):
            values = [number, code.resized(kind, "i64"), code.resized(line, "i64", True)]
            values += [address, size, code.resized(thread, "i64")]
            for index, value in enumerate(values, int(FaultSlot.BLOCK)):
                code.store(value, code.at(place, index, "i64"), 8)
        code.do(f"store atomic i64 0, {place} release, align 8")

    parameters = [("ptr", "launch"), ("ptr", "block"), ("i32", "thread"), ("i32", "kind"),
                  ("i32", "line"), ("i64", "address"), ("i64", "size")]  # fmt: skip
    helper(pieces, "hec.fault", "void", parameters, fault, "cold noinline nounwind")

    def inside(code: Code, given: list[V]) -> V:
        launch, block, address, size = given
        found = code.alloca("i1")

        def within(start: V, end: V) -> V:
            room = code.op("sub", end, start)
            offset = code.op("sub", address, start)
            fits = code.compare("ule", size, room)
            below = code.compare("ule", offset, code.op("sub", room, size))
            return code.op("and", fits, below)

        shared = slot(code, BlockSlot.SHARED, block)
        end = code.op("add", shared, slot(code, Launch.SHARED_BYTES, launch))
        own = code.op("or", within(shared, end), within(
            slot(code, BlockSlot.RECORDS, block), slot(code, BlockSlot.RECORDS_END, block)
        ))  # fmt: skip
        code.store(own, found)
        table = code.cast("inttoptr", slot(code, Launch.TABLE, launch), "ptr")
        with code.loop(slot(code, Launch.TABLE_COUNT, launch)) as index:
            at = code.at(table, code.op("mul", index, i64(2)), "i64")
            hit = within(slot(code, 0, at), slot(code, 1, at))
            code.store(code.op("or", code.load("i1", found), hit), found)
        return code.load("i1", found)

    parameters = [("ptr", "launch"), ("ptr", "block"), ("i64", "address"), ("i64", "size")]
    helper(pieces, "hec.inside", "i1", parameters, inside, "noinline nounwind")
    _add_accesses(pieces)


WHO = [("ptr", "launch"), ("ptr", "block"), *(("i32", name) for name in ("x", "y", "z", "line"))]
"""The thread that does something, and where in the text, as the functions below take it."""


def _add_accesses(pieces: Pieces) -> None:
    """What a thread calls whose access is not where it was expected."""

    def outside(code: Code, given: list[V]) -> None:
        launch, block, x, y, z, line, kind, address, size, alignment = given
        sizes = [code.resized(slot(code, Launch.BLOCK_X + axis, launch), "i32") for axis in (0, 1)]
        row = code.op("add", code.op("mul", z, sizes[1]), y)
        thread = code.op("add", code.op("mul", row, sizes[0]), x)
        low = code.op("and", address, code.op("sub", alignment, i64(1)))
        aligned_ = code.compare("eq", low, i64(0))
        told = code.select(aligned_, kind, i32(Fault.MISALIGNED))
        code.call_void("hec.fault", launch, block, thread, told, line, address, size)

    place = [("i64", "address"), ("i64", "size"), ("i64", "alignment")]
    parameters = [*WHO, ("i32", "kind"), *place]
    helper(pieces, "hec.outside", "void", parameters, outside, "cold noinline nounwind")

    def access(code: Code, given: list[V]) -> V:
        launch, block, *_, address, size, alignment = given
        found = code.call("i1", "hec.inside", launch, block, address, size)
        low = code.op("and", address, code.op("sub", alignment, i64(1)))
        fine = code.op("and", found, code.compare("eq", low, i64(0)))
        with code.when(code.op("xor", fine, V("i1", "true"))):
            kind = i32(Fault.OUT_OF_BOUNDS)
            code.call_void("hec.outside", *given[:6], kind, address, size, alignment)
        return fine

    helper(pieces, "hec.access", "i1", [*WHO, *place], access, "noinline nounwind")


def block_function(step: Step) -> str:
    """The text of all functions around `step`."""
    code = Code(step.pieces)
    number = V("i64", "%number")
    fault = code.cast("inttoptr", slot(code, Launch.FAULT), "ptr")
    recorded = code.let("i64", f"load atomic i64, {code.at(fault, 1, 'i64')} monotonic, align 8")
    run, out = code.name("run"), code.name("out")
    code.do(f"br {code.compare('sgt', number, recorded)}, label %{out}, label %{run}")
    code.label(run)
    coordinates = _coordinates(code, number)
    block = code.alloca(f"[{int(BlockSlot.COUNT)} x i64]", 64)
    code.do(f"store [{int(BlockSlot.COUNT)} x i64] zeroinitializer, {block}, align 8")
    wide = [code.resized(c, "i64") for c in coordinates]
    for index, value in enumerate([*wide, number]):
        code.store(value, code.at(block, index, "i64"), 8)
    memory, shared, behind = _memory(code, step, block)
    if step.suspends:
        _scheduled(code, step, block, coordinates, shared, behind)
    else:
        _plain(code, step, block, coordinates, shared)
    code.call_void("free", memory)
    code.do(f"br label %{out}")
    code.label(out)
    code.do("ret void")
    text = code.function(f"define void @{ENTRY}(ptr %launch, i64 %number)")
    return text


def _coordinates(code: Code, number: V) -> list[V]:
    x, y = slot(code, Launch.GRID_X), slot(code, Launch.GRID_Y)
    row = code.op("udiv", number, x)
    places = [code.op("urem", number, x), code.op("urem", row, y), code.op("udiv", row, y)]
    return [code.resized(place, "i32") for place in places]


def _threads(code: Code) -> V:
    xy = code.op("mul", slot(code, Launch.BLOCK_X), slot(code, Launch.BLOCK_Y))
    return code.op("mul", xy, slot(code, Launch.BLOCK_Z))


def _memory(code: Code, step: Step, block: V) -> tuple[V, V, V]:
    """Memory for a block: what to free, shared memory, and what is behind it (mail, records)."""
    shared_bytes = slot(code, Launch.SHARED_BYTES)
    padded = code.op("and", code.op("add", shared_bytes, i64(63)), i64(-64))
    total = code.op("add", padded, i64(SHARED_ALIGNMENT))
    if step.suspends:
        warps = code.op("lshr", code.op("add", _threads(code), i64(31)), i64(5))
        each = i64(32 * step.record_bytes + _mail_bytes(step))
        total = code.op("add", total, code.op("mul", warps, each))
    # A kernel without memory of a block needs none.
    none = code.compare("eq", total, i64(SHARED_ALIGNMENT))
    wanted = code.select(none, i64(0), total)
    memory = code.alloca("ptr")
    code.do(f"store ptr null, {memory}")
    with code.when(code.compare("ne", wanted, i64(0))):
        code.store(code.call("ptr", "malloc", wanted), memory)
    start = code.cast("ptrtoint", code.load("ptr", memory), "i64")
    start = code.op("add", start, i64(SHARED_ALIGNMENT - 1))
    start = code.op("and", start, i64(-SHARED_ALIGNMENT))
    shared = code.cast("inttoptr", start, "ptr")
    code.store(start, code.at(block, int(BlockSlot.SHARED), "i64"), 8)
    # Memory that nobody wrote reads as -1, or NaN: a wrong result is better seen than not.
    code.pieces.declare("llvm.memset.p0.i64", "void", "ptr", "i8", "i64", "i1")
    code.do(f"call void @llvm.memset.p0.i64({shared}, i8 -1, {shared_bytes}, i1 false)")
    behind = code.at(shared, padded)
    return code.load("ptr", memory), shared, behind


def _mail_bytes(step: Step) -> int:
    return aligned(128 * step.mail_slots, 64)


def _plain(code: Code, step: Step, block: V, coordinates: list[V], shared: V) -> None:
    """No thread waits for another: three loops."""
    code.lines += step.preload_lines()
    sizes = [code.resized(slot(code, Launch.BLOCK_X + axis), "i32") for axis in range(3)]
    with code.loop(sizes[2]) as z, code.loop(sizes[1]) as y, code.loop(sizes[0]) as x:
        values = [LAUNCH, block, V("ptr", "null"), V("ptr", "null"), i32(0), x, y, z]
        code.call("i32", "step", *values, *coordinates, shared, *step.preloaded())


def _scheduled(
    code: Code, step: Step, block: V, coordinates: list[V], shared: V, behind: V
) -> None:
    """Rounds: every warp as far as it goes, then the barriers."""
    _add_exchange(step)
    _add_warp(step)
    _add_barriers(step)
    _add_start(step)
    threads = code.resized(_threads(code), "i32")
    warps = code.op("lshr", code.op("add", threads, i32(31)), i32(5))
    mails = code.op("mul", code.resized(warps, "i64"), i64(_mail_bytes(step)))
    records = code.at(behind, mails)
    start = code.cast("ptrtoint", records, "i64")
    extent = code.op("mul", code.resized(threads, "i64"), i64(step.record_bytes))
    code.store(start, code.at(block, int(BlockSlot.RECORDS), "i64"), 8)
    code.store(code.op("add", start, extent), code.at(block, int(BlockSlot.RECORDS_END), "i64"), 8)
    code.call_void("hec.start", LAUNCH, records)
    idle = code.alloca("i32")
    code.store(i32(0), idle)
    round_, stuck, over = code.name("round"), code.name("stuck"), code.name("over")
    code.do(f"br label %{round_}")
    code.label(round_)
    flags = code.alloca("i32")
    code.store(i32(0), flags)
    with code.loop(warps) as warp:
        wide = code.resized(warp, "i64")
        first = code.at(records, code.op("mul", wide, i64(32 * step.record_bytes)))
        mail = code.at(behind, code.op("mul", wide, i64(_mail_bytes(step))))
        left = code.op("sub", threads, code.op("shl", warp, i32(5)))
        lanes = code.call("i32", "llvm.umin.i32", left, i32(32))
        moved = code.call("i32", "hec.warp", LAUNCH, block, first, mail, lanes,
                          *coordinates, shared)  # fmt: skip
        code.store(code.op("or", code.load("i32", flags), moved), flags)
    state = code.call("i32", "hec.barriers", block, records, threads)
    code.store(code.op("or", code.load("i32", flags), state), flags)
    seen = code.load("i32", flags)
    # Bits: 1 somebody came further, 2 somebody asks again, 4 all are done.
    moved = code.compare("ne", code.op("and", seen, i32(1)), i32(0))
    counted = code.select(moved, i32(0), code.op("add", code.load("i32", idle), i32(1)))
    code.store(counted, idle)
    nobody = code.compare("eq", code.op("and", seen, i32(7)), i32(0))
    tired = code.compare("sgt", counted, i32(IDLE_ROUNDS))
    go = code.name("go")
    done = code.compare("ne", code.op("and", seen, i32(4)), i32(0))
    code.do(f"br {done}, label %{over}, label %{go}")
    code.label(go)
    code.do(f"br {code.op('or', nobody, tired)}, label %{stuck}, label %{round_}")
    code.label(stuck)
    kind = code.select(tired, i32(Fault.NO_PROGRESS), i32(Fault.DEADLOCK))
    code.call_void("hec.stuck", LAUNCH, block, records, threads, kind)
    code.do(f"br label %{over}")
    code.label(over)


def _each_record(code: Code, step: Step, records: V, index: V) -> V:
    wide = code.resized(index, "i64")
    return code.at(records, code.op("mul", wide, i64(step.record_bytes)))


def _status(code: Code, record: V) -> V:
    return code.load("i32", field_at(code, record, Record.STATUS), 4)


def _set_status(code: Code, record: V, status: Status) -> None:
    code.store(i32(status), field_at(code, record, Record.STATUS), 4)


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
                code.store(value, field_at(code, record, offset), 4)

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
                    code.load("i32", field_at(code, record, at), 4)
                    for at in (Record.X, Record.Y, Record.Z)
                ]
                values = [launch, block, record, mail, lane, *xyz, cx, cy, cz, shared]
                status = code.call("i32", "step", *values)
                code.store(status, field_at(code, record, Record.STATUS), 4)
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
        found = code.load("i32", field_at(code, record, at), 4)
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
    mask = code.load("i32", field_at(code, record, Record.MASK), 4)
    fits = code.compare("eq" if soft else "ne", mask, i32(0))
    with code.when(code.op("and", code.op("and", waits, undone), fits)):
        key = code.load("i32", field_at(code, record, Record.KEY), 4)
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
            key = code.load("i32", field_at(code, record, Record.KEY), 4)
            wide = code.resized(code.op("and", key, i32(255)), "i64")
            wide = code.call("i64", "llvm.umin.i64", wide, i64(BARRIERS - 1))
            value = code.load("i32", field_at(code, record, Record.VALUE), 4)
            needed = code.load("i32", field_at(code, record, Record.MASK), 4)
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
        key = code.load("i32", field_at(code, record, Record.KEY), 4)
        here = code.compare("eq", code.op("and", key, i32(255)), barrier)
        with code.when(code.op("and", waits, here)):
            how = code.op("lshr", key, i32(8))
            every = code.resized(code.compare("eq", total, count), "i32")
            some = code.resized(code.compare("ne", total, i32(0)), "i32")
            other = code.select(code.compare("eq", how, i32(2)), some, total)
            value = code.select(code.compare("eq", how, i32(1)), every, other)
            code.store(value, field_at(code, record, Record.VALUE), 4)
            _set_status(code, record, Status.READY)
