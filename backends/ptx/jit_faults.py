"""What compiled PTX calls when an access or a thread goes wrong: the record of faults.

Enters: the `Pieces` of a kernel. Leaves: the functions `hec.fault`, `hec.inside`, `hec.outside` and
`hec.access`, which `step` and the functions around it call.
"""

from __future__ import annotations

from hectorite.backends.ptx.jit_frame import BlockSlot, Fault, FaultSlot, Launch
from hectorite.backends.ptx.jit_text import Code, Pieces, V, helper, i32, i64
from hectorite.backends.ptx.jit_values import INVARIANT

LAUNCH = V("ptr", "%launch")


def slot(code: Code, number: int, of: V = LAUNCH) -> V:
    note = INVARIANT if of == LAUNCH else ""
    return code.load("i64", code.at(of, number, "i64"), 8, note)


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
