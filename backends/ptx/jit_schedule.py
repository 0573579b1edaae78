"""How the threads of a block run in compiled PTX: one after the other, each to where it waits.

Enters: the finished `Step` of a kernel. Leaves: the functions around it,

    void @hectorite.block(ptr launch, i64 number)      # one block, from its start to its end

A kernel in which no thread waits is three loops around `step`. Otherwise each warp runs its lanes
to their next suspension and makes the collectives whose lanes have all come, until none is left;
then barriers are released for which the block has come. If nobody can go on, that is a fault. This
order is as far from lockstep as can be, so a missing barrier shows.
"""

from __future__ import annotations

from hectorite.backends.ptx.jit_faults import LAUNCH, slot
from hectorite.backends.ptx.jit_frame import BlockSlot, Fault, Launch, aligned
from hectorite.backends.ptx.jit_step import Step
from hectorite.backends.ptx.jit_text import Code, V, i32, i64
from hectorite.backends.ptx.jit_waits import add_waits

ENTRY = "hectorite.block"
SHARED_ALIGNMENT = 1024
IDLE_ROUNDS = 1 << 22
"""After so many rounds in which threads only asked whether they may go on, they never will."""


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
    add_waits(step)
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
