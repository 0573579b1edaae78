"""How a product of two blocks in shared memory is shared out among the threads of a task.

Enters: a `tile.product` and a number of threads. Leaves: an `MmaPlan` where a tensor instruction
has its element types (a `WgmmaPlan` if the product says `unit = "wgmma"` and it fits), else an
`FmaPlan`; nothing where operands are not blocks in shared memory.

    f16 x f16 -> f32, 128 x 128, 256 threads     2 x 4 warps of 4 x 4 instructions m16n8k16
    f32 x f32 -> f32, 128 x 128, 256 threads     16 x 16 threads of 8 x 8 elements

With elements of one byte a thread has `interleave` neighbouring columns of as many instructions, so
that one load brings parts of them all: column g of instruction i is column g * interleave + i. In
the same way, if k goes before the rows of `a`, it has `row_interleave` neighbouring rows, of which
each instruction takes two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import SSAValue

from hectorite.dialects.tile import LanesOp, ProductOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.layout import Digit, Layout
from hectorite.ir.scalar import scalar_type
from hectorite.ir.space import TensorType
from hectorite.lowering.gpu.layouts import power_below
from hectorite.lowering.gpu.stage_products import GROUP, UNIT, constant_value, is_shared

WARP = 32
ROWS, COLUMNS = 16, 8
"""Of one tensor instruction, which takes 32 bytes of k of each row."""
STEP_BYTES = 32
GROUP_ROWS = 64
"""Rows of one instruction of a group of four warps."""
VECTOR_BYTES = 16


@dataclass(frozen=True)
class Operands:
    """What a product on shared memory is: `depth` steps of k; `a_transposed` if rows of `a` are
    along its last dimension, with k before them; `b_transposed` if columns of `b` come before k."""

    rows: int
    columns: int
    depth: int
    a: ElementType
    b: ElementType
    result: ElementType
    a_transposed: bool
    b_transposed: bool
    is_sparse: bool = False
    """Whether `a` has two of each four steps."""


@dataclass(frozen=True)
class MmaPlan:
    """`mnemonic` takes `step` elements of k. Each of `warps` (down, across) does `tiles` (down,
    across) instructions for every step."""

    operands: Operands
    mnemonic: str
    step: int
    warps: tuple[int, int]
    repeats: int
    tiles: tuple[int, int]
    interleave: int
    row_interleave: int = 1

    @property
    def layout(self) -> Layout:
        """Of the result: (g, 2t), (g, 2t + 1), (g + 8, 2t), ... for t = lane % 4, g = lane / 4."""
        v, (down, across) = self.interleave, self.tiles
        threads = [
            Digit(4, (0, 2 * v)),
            Digit(8, (self.row_interleave, 0)),
            Digit(self.warps[1], (0, COLUMNS * across)),
            Digit(self.warps[0], (ROWS * down, 0)),
            Digit(self.repeats, (0, 0)),
        ]
        registers = [
            Digit(v, (0, 1)),
            Digit(2, (0, v)),
            Digit(2, (8 if self.row_interleave == 1 else 1, 0)),
            Digit(across // v, (0, COLUMNS * v)),
            *self._digits_down(),
        ]
        return Layout.of((self.operands.rows, self.operands.columns), threads, registers)

    def _digits_down(self) -> list[Digit]:
        down = self.tiles[0]
        if self.row_interleave < 4:
            return [Digit(down, (ROWS, 0))]
        return [Digit(2, (2, 0)), Digit(down // 2, (2 * ROWS, 0))]

    def register(self, down: int, across: int, accumulator: int) -> int:
        """Which register of the layout is accumulator 0 to 3 of an instruction."""
        v = self.interleave
        outer, inner = divmod(across, v)
        column, half = accumulator & 1, accumulator >> 1
        return inner + v * (column + 2 * (half + 2 * (outer + self.tiles[1] // v * down)))


@dataclass(frozen=True)
class WgmmaPlan:
    """Each of `groups` (down, across) of four warps does `tiles` instructions, one below the
    other, of 64 rows and `width` columns for every `step` elements of k."""

    operands: Operands
    mnemonic: str
    step: int
    groups: tuple[int, int]
    tiles: int
    width: int

    @property
    def layout(self) -> Layout:
        """Of the result: 16 rows for each warp of a group, in each as for `MmaPlan`."""
        threads = [
            Digit(4, (0, 2)),
            Digit(8, (1, 0)),
            Digit(4, (ROWS, 0)),
            Digit(self.groups[1], (0, self.width)),
            Digit(self.groups[0], (GROUP_ROWS * self.tiles, 0)),
        ]
        registers = [
            Digit(2, (0, 1)),
            Digit(2, (8, 0)),
            Digit(self.width // COLUMNS, (0, COLUMNS)),
            Digit(self.tiles, (GROUP_ROWS, 0)),
        ]
        return Layout.of((self.operands.rows, self.operands.columns), threads, registers)


@dataclass(frozen=True)
class FmaPlan:
    """`threads` (down, across) each do `elements` (down, across) of the result; of those, `run`
    (down, across) are neighbours."""

    operands: Operands
    threads: tuple[int, int]
    repeats: int
    elements: tuple[int, int]
    run: tuple[int, int]

    @property
    def layout(self) -> Layout:
        """Of the result. A warp is 8 threads across by 4 down, if there are as many."""
        (down, across), (row_run, run) = self.threads, self.run
        near = min(across, 8)
        low = min(down, WARP // near)
        threads = [
            Digit(near, (0, run)),
            Digit(low, (row_run, 0)),
            Digit(across // near, (0, run * near)),
            Digit(down // low, (row_run * low, 0)),
            Digit(self.repeats, (0, 0)),
        ]
        registers = [
            Digit(run, (0, 1)),
            Digit(self.elements[1] // run, (0, run * across)),
            Digit(row_run, (1, 0)),
            Digit(self.elements[0] // row_run, (row_run * down, 0)),
        ]
        return Layout.of((self.operands.rows, self.operands.columns), threads, registers)


Plan = MmaPlan | WgmmaPlan | FmaPlan

SWIZZLES = (32, 64, 128)
"""Bytes of a row that descriptors of blocks in shared memory know how to spread."""


def uses_wgmma(op: ProductOp, threads: int) -> bool:
    """Whether a product is done by groups of warps."""
    return isinstance(product_plan(op, threads), WgmmaPlan)


def product_plan(op: ProductOp, threads: int) -> Plan | None:
    """How the threads of a task do a product together; None if each is on its own."""
    operands = _operands(op)
    if operands is None:
        return None
    plan = None
    if op.attributes.get(UNIT) == StringAttr("wgmma"):
        plan = wgmma_plan(operands, threads)
    return plan or _mma_plan(operands, threads) or _fma_plan(operands, threads)


def _operands(op: ProductOp) -> Operands | None:
    """A product of whole blocks in shared memory, for a fixed extent."""
    depth = constant_value(op.extent)
    if not (is_shared(op.a) and is_shared(op.b)) or not depth or op.columns is not None:
        return None
    a, b = (cast(TensorType, t.type) for t in (op.a, op.b))
    rank = len(a.dims)
    rows, columns = shape_of(op.result.type)
    a_axis, is_sparse = op.a_axis.value.data, op.codes is not None
    row_axis = 2 * rank - 3 - a_axis
    b_axes = {len(b.dims) - 2, len(b.dims) - 1}
    if {rank, len(b.dims)} - {2, 3}:  # a stage, rows and columns
        return None
    b_transposed = op.b_axis.value.data == len(b.dims) - 1
    if a_axis < rank - 2 or {op.b_axis.value.data, op.column_axis} != b_axes:
        return None
    if not _are_lanes(op.a_indices[row_axis]) or constant_value(op.a_indices[a_axis]) != 0:
        return None
    if any(constant_value(i) != 0 for i in op.b_indices[-2:]):
        return None
    if any(shape_of(i.type) for n, i in enumerate(op.a_indices) if n != row_axis):
        return None
    kept = depth // 2 if is_sparse else depth
    block = (depth, rows) if a_axis == rank - 2 else (rows, kept)
    b_block = (columns, depth) if b_transposed else (depth, columns)
    if a.dims[-2:] != block or b.dims[-2:] != b_block:
        return None
    result = element_of(scalar_type(op.result.type))
    elements = a.element_type, b.element_type, result
    transposed = a_axis == rank - 2, b_transposed
    return Operands(rows, columns, depth, *elements, *transposed, is_sparse)


def _are_lanes(value: SSAValue) -> bool:
    return isinstance(value.owner, LanesOp)


def _mma_types(operands: Operands) -> tuple[str, str, str, str] | None:
    """Types of a tensor instruction: results, a, b, c; None if there is none for these."""
    a, b, result = operands.a, operands.b, operands.result.name
    if a.name == b.name and a.name in ("f16", "bf16", "tf32") and result == "f32":
        return "f32", a.name, b.name, "f32"
    signs = {"int": "s8", "sign": "s8", "uint": "u8"}
    small = all(e.kind in signs and e.storage.itemsize == 1 for e in (a, b))
    if small and result == "i32":
        return "s32", signs[a.kind], signs[b.kind], "s32"
    return None


def _mma_plan(operands: Operands, threads: int) -> MmaPlan | None:
    types = _mma_types(operands)
    if types is None:
        return None
    size = operands.a.storage.itemsize
    step = STEP_BYTES // size
    deep = 2 * step if operands.is_sparse else step
    if operands.rows % ROWS or operands.columns % COLUMNS or operands.depth % deep:
        return None
    if operands.a_transposed and operands.is_sparse:
        return None
    warps = _warps(operands, threads // WARP)
    tiles = operands.rows // ROWS // warps[0], operands.columns // COLUMNS // warps[1]
    interleave = 1
    if size == 1 and not operands.b_transposed:
        interleave = next(v for v in (4, 2, 1) if tiles[1] % v == 0)
    row_interleave = 1
    if size == 1 and operands.a_transposed:
        row_interleave = 2 if tiles[0] % 2 else 4
    unit = "mma.sp::ordered_metadata" if operands.is_sparse else "mma"
    mnemonic = f"{unit}.sync.aligned.m16n8k{deep}.row.col.{'.'.join(types)}"
    repeats = threads // WARP // (warps[0] * warps[1])
    return MmaPlan(operands, mnemonic, step, warps, repeats, tiles, interleave, row_interleave)


def wgmma_plan(operands: Operands, threads: int) -> WgmmaPlan | None:
    """The plan of a product for groups of four warps, None if they do not do such a one."""
    types, count = _mma_types(operands), threads // GROUP
    if types is None or not count or operands.a_transposed:
        return None
    if operands.a.name == "tf32":
        return None  # must be rounded on the way, which memory does not do
    size = operands.a.storage.itemsize
    b_row = (operands.depth if operands.b_transposed else operands.columns) * size
    fits = operands.depth * size in SWIZZLES and (
        b_row in SWIZZLES or not operands.b_transposed and b_row % SWIZZLES[-1] == 0
    )
    # What is not two bytes wide is read along k only.
    if not fits or operands.rows % GROUP_ROWS or not (operands.b_transposed or size == 2):
        return None
    down = min(count, (operands.rows // GROUP_ROWS) & -(operands.rows // GROUP_ROWS))
    across = count // down
    width = operands.columns // across
    if operands.columns % (16 * across) or width > 256 or across > 1 and not operands.b_transposed:
        return None
    step = STEP_BYTES // size
    mnemonic = f"wgmma.mma_async.sync.aligned.m64n{width}k{step}.{'.'.join(types[:3])}"
    tiles = operands.rows // GROUP_ROWS // down
    return WgmmaPlan(operands, mnemonic, step, (down, across), tiles, width)


def _warps(operands: Operands, count: int) -> tuple[int, int]:
    """Warps down and across: as many as there is work for, with the least to load for each."""
    down, across = operands.rows // ROWS, operands.columns // COLUMNS
    choices = [
        (1 << i, 1 << j)
        for i in range(count.bit_length())
        for j in range(count.bit_length() - i)
        if down % (1 << i) == 0 and across % (1 << j) == 0
    ]

    def cost(warps: tuple[int, int]) -> tuple[int, int, int]:
        loads = ROWS * down // warps[0] + COLUMNS * across // warps[1]
        return -warps[0] * warps[1], loads, warps[0]

    return min(choices, key=cost)


def _fma_plan(operands: Operands, threads: int) -> FmaPlan | None:
    rows, columns = operands.rows, operands.columns
    choices = [
        (1 << i, 1 << j)
        for i in range(threads.bit_length())
        for j in range(threads.bit_length() - i)
        if rows % (1 << i) == 0 and columns % (1 << j) == 0
    ]

    def cost(grid: tuple[int, int]) -> tuple[int, int, int]:
        return -grid[0] * grid[1], rows // grid[0] + columns // grid[1], grid[0]

    grid = min(choices, key=cost)
    elements = rows // grid[0], columns // grid[1]
    run = 1 if operands.b_transposed else _run(elements[1], operands.b)
    row_run = _run(elements[0], operands.a) if operands.a_transposed else 1
    return FmaPlan(operands, grid, threads // (grid[0] * grid[1]), elements, (row_run, run))


def _run(elements: int, type: ElementType) -> int:
    """Neighbours that one load brings: at most four, and a divisor of what a thread has."""
    most = min(4, VECTOR_BYTES // type.storage.itemsize)
    return min(most, elements & -elements, power_below(elements))
