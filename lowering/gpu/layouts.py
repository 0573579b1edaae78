"""Which layouts there are to choose from, and where a thread's elements are as PTX values.

Enters: shapes and numbers of threads; or a layout, a builder of PTX and the thread's number.
Leaves: layouts (ir/layout.py); or the place of a thread's first element, as registers, from which
all its other elements are a constant away.

    blocked((64,), 32)      [64] threads 32:[2] registers 2:[1]
    blocked((6,), 32)       [6] threads 8:[1] 4:[0]
    blocked((6, 64), 32)    [6, 64] threads 16:[0,4] 2:[1,0] registers 4:[0,1] 3:[2,0]
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.ir import SSAValue

from hectorite.ir.layout import Digit, Layout
from hectorite.lowering.ptx.writer import PtxCode

ACCESS_BYTES = 16
"""The widest load or store of one thread."""


def power_below(number: int) -> int:
    """The greatest power of two that is not above a number >= 1."""
    return 1 << number.bit_length() - 1


def power_above(number: int) -> int:
    """The least power of two that is not below a number >= 1."""
    return 1 << (number - 1).bit_length()


def blocked(shape: Sequence[int], threads: int, most: int = 4) -> Layout:
    """Neighbouring threads hold neighbouring runs of up to `most` (a power of two) elements of the
    last dimension; what is left of the threads goes to rows, and repeats beyond the last row."""
    if not shape:
        return Layout.uniform(threads)
    *rows, columns = shape
    share = columns * (rows[0] if rows else 1) // threads
    run = min(most, power_below(max(1, share)), power_above(columns))
    across = min(threads, power_above(-(-columns // run)))
    down = min(threads // across, power_above(rows[0])) if rows else 1
    unit = [(1,)] if not rows else [(0, 1), (1, 0)]

    def digit(count: int, step: int, axis: int = 0) -> Digit:
        return Digit(count, tuple(step * part for part in unit[axis]))

    in_threads = [digit(across, run)]
    registers = [digit(run, 1), digit(-(-columns // (run * across)), run * across)]
    if rows:
        in_threads.append(digit(down, 1, 1))
        registers.append(digit(-(-rows[0] // down), down, 1))
    in_threads.append(digit(threads // (across * down), 0))
    return Layout.of(shape, in_threads, registers)


def first_place(code: PtxCode, layout: Layout, thread: SSAValue) -> tuple[SSAValue | None, ...]:
    """The place of the thread's register 0, for each dimension a b32; None stands for 0.

    `thread` is the number of the thread in its task, a b32.
    """
    totals: list[SSAValue | None] = [None] * layout.rank
    weight = 1
    for digit in layout.threads:
        if digit.moves:
            value = digit_value(code, layout, thread, digit.count, weight)
            for axis, step in enumerate(digit.step):
                if step:
                    totals[axis] = _plus(code, totals[axis], value, step)
        weight *= digit.count
    return tuple(totals)


def element(
    code: PtxCode, layout: Layout, thread: SSAValue, register: int
) -> tuple[SSAValue | int, ...]:
    """The place of one register's element, for each dimension a b32 or a number known now."""
    places: list[SSAValue | int] = []
    for first, offset in zip(
        first_place(code, layout, thread), layout.offset(register), strict=True
    ):
        moved = first if first is None or not offset else code.op("add.s32", first, offset)
        places.append(offset if moved is None else moved)
    return tuple(places)


def digit_value(
    code: PtxCode, layout: Layout, thread: SSAValue, count: int, weight: int
) -> SSAValue:
    """One digit of the thread's number; counts of all layouts of threads are powers of two."""
    if weight > 1:
        thread = code.op("shr.u32", thread, weight.bit_length() - 1)
    if weight * count < layout.thread_count:
        thread = code.op("and.b32", thread, count - 1)
    return thread


def first_copy(code: PtxCode, layout: Layout, thread: SSAValue) -> SSAValue | None:
    """A predicate that holds in one of the threads that hold the same elements; None if no two
    threads do."""
    mask, weight = 0, 1
    for digit in layout.threads:
        if not digit.moves:
            mask |= (digit.count - 1) * weight
        weight *= digit.count
    if not mask:
        return None
    part = thread if mask == layout.thread_count - 1 else code.op("and.b32", thread, mask)
    return code.op("setp.eq.s32", part, 0)


def _plus(code: PtxCode, total: SSAValue | None, value: SSAValue, step: int) -> SSAValue:
    if total is None:
        return value if step == 1 else code.op("mul.lo.s32", value, step)
    if step == 1:
        return code.op("add.s32", total, value)
    return code.op("mad.lo.s32", value, step, total)
