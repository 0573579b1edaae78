"""Products of blocks in shared memory by tensor instructions.

Enters: a `tile.product` with an `MmaPlan`. Leaves: for each step of k the parts of both operands,
loaded from shared memory as the instruction wants them, and one instruction for each tile of the
warp. The parts of a step are loaded before the instructions of the step before.

Thread t + 4 g of a warp holds, for elements of 32 / e bits, of an instruction's operands

    a  register r: row g + 8 (r % 2), k = e t + i + 4 e (r / 2)        ldmatrix gives just these,
                                                                       transposed for two bytes;
    b  register r: k = e t + i + 4 e r, column g                       if k goes along its rows,
                                                                       or transposed for two bytes

Where `a` has two of each four steps, an instruction takes as much of it and twice as much of `b`,
and from each thread a word with the codes of what `a` keeps, which are stored as it wants them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import SharedOp
from hectorite.lowering.gpu.product_plan import COLUMNS, ROWS, STEP_BYTES, WARP, MmaPlan
from hectorite.lowering.gpu.shared_layout import InStage, SharedPlace, shared_layout
from hectorite.lowering.gpu.tile_layouts import is_tile, known_index
from hectorite.lowering.ptx.access import scaled_sum
from hectorite.lowering.ptx.convert import constant
from hectorite.lowering.ptx.kernel import PtxKernel
from hectorite.lowering.ptx.number import PtxNumber
from hectorite.lowering.ptx.writer import At

Parts = list[list[SSAValue]]

LDMATRIX = "ldmatrix.sync.aligned.m8n8.x{}{}.shared.b16"


FIRST_LANES = 0
"""Of each four lanes, the first two hold what `a` keeps; all have it here."""


@dataclass
class Prepared:
    """Where each thread reads the operands of a product."""

    plan: MmaPlan
    a: SharedPlace
    b: SharedPlace


def prepare(kernel: PtxKernel, op: ProductOp, plan: MmaPlan) -> None:
    """Compute, where the kernel starts, what the threads' addresses are made of."""
    a, b = _a_place(kernel, op, plan), _b_place(kernel, op, plan)
    prepared = Prepared(plan, a, b)
    for step in range(_steps(plan)):
        if not plan.operands.is_sparse or step % 2 == 0:
            for at in _a_offsets(plan, step // 2 if plan.operands.is_sparse else step):
                a.at(*at)
        for at in _b_offsets(plan, step):
            b.at(*at)
    kernel.prepared[op] = prepared


def product(kernel: PtxKernel, op: ProductOp) -> list[SSAValue]:
    """The registers of the result."""
    prepared: Prepared = kernel.prepared[op]
    plan, code = prepared.plan, kernel.code
    if op.init is not None:
        sums = list(kernel.registers[op.init])
    else:
        zero = constant(code, 0, plan.operands.result)
        sums = [zero] * plan.layout.register_count
    a = prepared.a.in_stage(stage_of(kernel, op.a_indices))
    b = prepared.b.in_stage(stage_of(kernel, op.b_indices))

    rows = None if op.codes is None else CodeRows(kernel, op, plan)

    def parts(step: int) -> tuple[Parts, Parts]:
        if rows is not None:
            halves = (_b_parts(kernel, plan, b, 2 * step + half) for half in range(2))
            across = [[*low, *high] for low, high in zip(*halves, strict=True)]
            return _a_parts(kernel, plan, a, step), across
        both = _a_parts(kernel, plan, a, step), _b_parts(kernel, plan, b, step)
        return both if plan.operands.a.name != "tf32" else _rounded(kernel, both)

    steps = _steps(plan) // (1 if rows is None else 2)
    following = parts(0)
    for step in range(steps):
        a_parts, b_parts = following
        if step + 1 < steps:
            following = parts(step + 1)
        for down in range(plan.tiles[0]):
            more = () if rows is None else (rows.word(down, step), code.immediate(FIRST_LANES))
            for across in range(plan.tiles[1]):
                places = [plan.register(down, across, i) for i in range(4)]
                before = [sums[place] for place in places]
                after = code.op(plan.mnemonic, a_parts[down], b_parts[across], before, *more)
                for place, value in zip(places, after, strict=True):
                    sums[place] = value
    return sums


class CodeRows:
    """Where the codes of a thread's rows are, for the steps of one product. Lane t + 4 g tells of
    row g in its lower half and of row g + 8 in its upper, of the part of an instruction's steps
    that t has: one of two for elements of two bytes, of four for one."""

    def __init__(self, kernel: PtxKernel, op: ProductOp, plan: MmaPlan):
        assert op.codes is not None
        self.code = kernel.code
        self.memory = kernel.memories[op.codes]
        self.parts = 4 // plan.operands.a.storage.itemsize
        part = _bits(kernel, kernel.thread, 0, self.parts)
        self.starts: list[tuple[At, At]] = []
        for down in range(plan.tiles[0]):
            registers = [
                plan.layout.slice_register(plan.register(down, 0, 2 * number), 0)
                for number in range(2)
            ]
            upper, lower = (self._start(kernel, op, register, part) for register in registers)
            self.starts.append((upper, lower))

    def _start(self, kernel: PtxKernel, op: ProductOp, register: int, part: SSAValue | None) -> At:
        base = self.memory.base
        for axis, index in enumerate(op.code_indices):
            picked = kernel.registers[index][register if is_tile(index) else 0]
            base = scaled_sum(kernel, self.memory, picked, self.memory.strides[axis], 1, base)
        assert part is not None
        return At(kernel.code.op("mad.wide.s32", part, 2, base))

    def word(self, down: int, step: int) -> SSAValue:
        """What a thread holds for an instruction."""
        load = f"ld.{self.memory.read_space}.u16"
        rows = (
            self.code.op(load, start.plus(2 * self.parts * step), results=["b32"])
            for start in self.starts[down]
        )
        return self.code.op("prmt.b32", *rows, 0x5410)


def stage_of(kernel: PtxKernel, indices: Sequence[SSAValue]) -> SSAValue | None:
    """The stage that a block is in, None for the first."""
    if len(indices) == 2 or known_index(indices[0]) == 0:
        return None
    return kernel.value(indices[0])


def _rounded(kernel: PtxKernel, parts: tuple[Parts, Parts]) -> tuple[Parts, Parts]:
    """Elements of tf32 are rounded when they are read; tensor instructions would cut them off."""

    def one(value: SSAValue) -> SSAValue:
        number = PtxNumber(kernel.code, value, "s32").from_bits().value
        return kernel.code.op("cvt.rna.tf32.f32", number)

    a, b = ([[one(value) for value in values] for values in side] for side in parts)
    return a, b


def _steps(plan: MmaPlan) -> int:
    return plan.operands.depth // plan.step


# Where threads read ------------------------------------------------------------------------------


def _bits(kernel: PtxKernel, value: SSAValue, shift: int, count: int) -> SSAValue | None:
    """`count` values from a bit on, a power of two; None if there is one value."""
    if count == 1:
        return None
    if shift:
        value = kernel.code.op("shr.u32", value, shift)
    return kernel.code.op("and.b32", value, count - 1)


def _sum(kernel: PtxKernel, *terms: tuple[SSAValue | None, int]) -> SSAValue | None:
    """The sum of registers times numbers."""
    total = None
    for value, factor in terms:
        if value is None:
            continue
        if total is None:
            total = value if factor == 1 else kernel.code.op("mul.lo.s32", value, factor)
        elif factor == 1:
            total = kernel.code.op("add.s32", total, value)
        else:
            total = kernel.code.op("mad.lo.s32", value, factor, total)
    return total


def _warp(kernel: PtxKernel, plan: MmaPlan, axis: int) -> SSAValue | None:
    """The number of the thread's warp, down or across; across comes first."""
    shift = WARP.bit_length() - 1
    if axis == 0:
        shift += plan.warps[1].bit_length() - 1
    return _bits(kernel, kernel.thread, shift, plan.warps[axis])


def _place(
    kernel: PtxKernel, tensor: SSAValue, row: SSAValue | None, column: SSAValue | None
) -> SharedPlace:
    owner = tensor.owner
    assert isinstance(owner, SharedOp)
    base = kernel.memories[tensor].base
    return SharedPlace(kernel.code, shared_layout(owner, kernel.threads), base, row, column)


def _a_place(kernel: PtxKernel, op: ProductOp, plan: MmaPlan) -> SharedPlace:
    lane, warp = kernel.thread, _warp(kernel, plan, 0)
    height = ROWS * plan.tiles[0]
    if not plan.operands.a_transposed:
        row = _sum(kernel, (_bits(kernel, lane, 0, 16), 1), (warp, height))
        column = _sum(kernel, (_bits(kernel, lane, 4, 2), 16))
        return _place(kernel, op.a, row, column)
    size = plan.operands.a.storage.itemsize
    if size == 2:
        row = _sum(kernel, (_bits(kernel, lane, 0, 8), 1), (_bits(kernel, lane, 4, 2), 8))
        column = _sum(kernel, (_bits(kernel, lane, 3, 2), 16), (warp, 2 * height))
        return _place(kernel, op.a, row, column)
    row = _sum(kernel, (_bits(kernel, lane, 0, 4), 4 // size))
    run = plan.row_interleave * size
    column = _sum(kernel, (_bits(kernel, lane, 2, 8), run), (warp, height * size))
    return _place(kernel, op.a, row, column)


def _a_offsets(plan: MmaPlan, step: int) -> list[tuple[int, int]]:
    """Rows and bytes from a thread's place to what it reads for each tile down."""
    size = plan.operands.a.storage.itemsize
    if plan.operands.a_transposed and size == 2:
        return [(plan.step * step, 2 * ROWS * down) for down in range(plan.tiles[0])]
    if plan.operands.a_transposed:
        return _word_offsets(plan, step, 2 * plan.tiles[0], size, plan.row_interleave)
    return [(ROWS * down, STEP_BYTES * step) for down in range(plan.tiles[0])]


def _a_parts(kernel: PtxKernel, plan: MmaPlan, place: InStage, step: int) -> Parts:
    size, offsets = plan.operands.a.storage.itemsize, _a_offsets(plan, step)
    if plan.operands.a_transposed and size != 2:
        halves = _words(kernel, place, offsets, size, plan.row_interleave)
        pairs = zip(halves[::2], halves[1::2], strict=True)
        return [[first[0], second[0], first[1], second[1]] for first, second in pairs]
    mnemonic = LDMATRIX.format(4, ".trans" if plan.operands.a_transposed else "")
    return [list(kernel.code.op(mnemonic, place.at(*at))) for at in offsets]


def _b_place(kernel: PtxKernel, op: ProductOp, plan: MmaPlan) -> SharedPlace:
    lane, warp, size = kernel.thread, _warp(kernel, plan, 1), plan.operands.b.storage.itemsize
    width = COLUMNS * plan.tiles[1] * size
    if plan.operands.b_transposed:
        near = (_bits(kernel, lane, 0, 8), 1), (_bits(kernel, lane, 4, 2), 8)
        row = _sum(kernel, *near, (warp, COLUMNS * plan.tiles[1]))
        column = _sum(kernel, (_bits(kernel, lane, 3, 2), 16))
        return _place(kernel, op.b, row, column)
    if size == 2:
        row = _sum(kernel, (_bits(kernel, lane, 0, 16), 1))
        column = _sum(kernel, (_bits(kernel, lane, 4, 2), 16), (warp, width))
        return _place(kernel, op.b, row, column)
    row = _sum(kernel, (_bits(kernel, lane, 0, 4), 4 // size))
    column = _sum(kernel, (_bits(kernel, lane, 2, 8), plan.interleave * size), (warp, width))
    return _place(kernel, op.b, row, column)


def _b_offsets(plan: MmaPlan, step: int) -> list[tuple[int, int]]:
    """Rows and bytes from a thread's place to everything that it reads of `b`."""
    size, v = plan.operands.b.storage.itemsize, plan.interleave
    first = plan.step * step
    if plan.operands.b_transposed:
        return [(COLUMNS * i, STEP_BYTES * step) for i in range(0, plan.tiles[1], 2)]
    if size == 2:
        return [(first, 2 * COLUMNS * across) for across in range(0, plan.tiles[1], 2)]
    return _word_offsets(plan, step, plan.tiles[1], size, v)


def _word_offsets(
    plan: MmaPlan, step: int, count: int, size: int, run: int
) -> list[tuple[int, int]]:
    """Rows and bytes from a thread's place to what it reads of `count` times eight columns at the
    rows of a step, `run` neighbours at once."""
    rows = (
        [4 * r for r in range(2)] if size == 4 else [16 * r + i for r in range(2) for i in range(4)]
    )
    return [
        (plan.step * step + row, COLUMNS * run * outer * size)
        for outer in range(count // run)
        for row in rows
    ]


def _b_parts(kernel: PtxKernel, plan: MmaPlan, place: InStage, step: int) -> Parts:
    offsets = _b_offsets(plan, step)
    size, v = plan.operands.b.storage.itemsize, plan.interleave
    if size == 2 or plan.operands.b_transposed:
        return _matrices(kernel, plan, place, offsets)
    return _words(kernel, place, offsets, size, v)


def _words(
    kernel: PtxKernel, place: InStage, offsets: Sequence[tuple[int, int]], size: int, run: int
) -> Parts:
    """Two words for each of eight columns, of neighbours along k."""
    parts: Parts = []
    each = 2 if size == 4 else 8
    for first in range(0, len(offsets), each):
        group = [place.at(*at) for at in offsets[first : first + each]]
        if size == 4:
            rows = [[kernel.code.op("ld.shared.b32", at)] for at in group]
        else:
            loads = [kernel.code.op(f"ld.shared.u{8 * run}", at, results=["b32"]) for at in group]
            rows = [_byte_columns(kernel, loads[i : i + 4], run) for i in (0, 4)]
        parts += [list(pair) for pair in zip(*rows, strict=True)]
    return parts


def _matrices(
    kernel: PtxKernel, plan: MmaPlan, place: InStage, offsets: Sequence[tuple[int, int]]
) -> Parts:
    """Two tiles across from each load; the last alone if they are odd."""
    parts: Parts = []
    form = "" if plan.operands.b_transposed else ".trans"
    for at in offsets:
        if len(parts) + 1 < plan.tiles[1]:
            four = kernel.code.op(LDMATRIX.format(4, form), place.at(*at))
            parts += [list(four[:2]), list(four[2:])]
        else:
            parts.append(list(kernel.code.op(LDMATRIX.format(2, form), place.at(*at))))
    return parts


def _byte_columns(kernel: PtxKernel, rows: Sequence[SSAValue], count: int) -> list[SSAValue]:
    """Four rows of up to four bytes, transposed: a word for each column."""

    def mix(a: SSAValue, b: SSAValue, selector: int) -> SSAValue:
        return kernel.code.op("prmt.b32", a, b, selector)

    low = mix(rows[0], rows[1], 0x5140), mix(rows[2], rows[3], 0x5140)
    columns = [mix(*low, 0x5410)]
    if count > 1:
        columns.append(mix(*low, 0x7632))
    if count > 2:
        high = mix(rows[0], rows[1], 0x7362), mix(rows[2], rows[3], 0x7362)
        columns += [mix(*high, 0x5410), mix(*high, 0x7632)]
    return columns
