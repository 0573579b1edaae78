"""How large the blocks of a segment product are: rows r, lanes j, and elements of one step.

Enters: the extents of r and j, the element types, and the machine. Leaves: a `SegmentShape`.

    64 x 64 of f32 on a CPU     6 rows x 64 lanes: 24 registers of 16 accumulators; 64 elements at
                                a time, so that what they gather stays near while blocks pass by
    16 x 64 of tf32 on a GPU    16 rows x 64 lanes, 16 elements: two steps of a tensor instruction
    8 x 64 of tf32 on a GPU     8 x 64 swapped: the 64 are rows of the instruction, the 8 its lanes
"""

from collections.abc import Sequence
from dataclasses import dataclass

from xdsl.ir import Attribute

from hectorite.ir.element import element_of
from hectorite.lowering.kernels.product_shape import (
    LEAST_LANES,
    LEAST_ROWS,
    powers_of_two,
    vector_lanes,
)
from hectorite.lowering.machine import Machine

NEAR_BYTES = 32 << 10
"""CPU: bytes of gathered rows that stay near, in half of the first cache."""

FEWEST, MOST = 16, 256
"""CPU: elements of one step."""

DEPTH_BYTES = 64
"""GPU: bytes of one column of a block of elements, at most: two steps of tensor instructions."""

LEAST_DEPTH = 16

LEAST_OF_THREAD = 32
"""GPU: accumulators of one thread, if that leaves a warp: fewer would load more for each."""

MOST_POINTS = 64 * 64
"""GPU: accumulators of one task."""


@dataclass(frozen=True)
class SegmentShape:
    """A block of `rows` by `lanes`, and `depth` elements of a step. On a GPU, `threads` do one
    block together, and a `swapped` one has j for rows and r for lanes."""

    rows: int
    lanes: int
    depth: int
    threads: int = 32
    swapped: bool = False


def segment_shape(
    rows: int,
    lanes: int,
    type: Attribute,
    inputs: Sequence[Attribute],
    machine: Machine,
    wanted: Sequence[int | None] = (None, None, None),
) -> SegmentShape:
    """The blocks of a segment product of `rows` by `lanes` that is accumulated in `type`, from
    elements of `inputs`. `wanted` are rows, lanes and depth that a schedule asks a GPU for."""
    if machine.is_gpu:
        return _thread_block(rows, lanes, inputs or [type], wanted)
    size = element_of(type).storage.itemsize
    width = min(lanes, vector_lanes(type, machine))
    height = block_height(rows, powers_of_two(width), size, machine)
    depth = NEAR_BYTES // ((rows + lanes) * size)
    return SegmentShape(height, width, max(FEWEST, min(MOST, depth)))


def block_height(rows: int, widths: Sequence[int], size: int, machine: Machine) -> int:
    """Rows of a CPU's blocks of vectors of these widths, of elements of `size` bytes: as many as
    registers hold, in blocks that are about alike."""
    registers = sum(-(-width * size // machine.register_bytes) for width in widths)
    most = max(1, min(machine.most_rows, machine.accumulators // registers))
    return -(-rows // -(-rows // most))


def row_blocks(rows: int, widths: Sequence[int], size: int, machine: Machine) -> int:
    """How many such blocks there are, one that is not full apart."""
    return rows // block_height(rows, widths, size, machine)


def _thread_block(
    rows: int, lanes: int, inputs: Sequence[Attribute], wanted: Sequence[int | None]
) -> SegmentShape:
    swapped = (wanted[0] or rows) <= LEAST_LANES
    least = (LEAST_LANES, LEAST_ROWS) if swapped else (LEAST_ROWS, LEAST_LANES)
    height = wanted[0] or (LEAST_LANES if swapped else _block(rows, least[0], 64))
    width = wanted[1] or _block(lanes, least[1], min(128, MOST_POINTS // height))
    size = min(element_of(each).storage.itemsize for each in inputs)
    points = height * width
    depth = wanted[2] or max(LEAST_DEPTH, min(DEPTH_BYTES // size, 32))
    depth *= 1 if wanted[2] or points < MOST_POINTS else 2
    threads = next((n for n in (128, 64) if points >= LEAST_OF_THREAD * n), 32)
    return SegmentShape(height, width, depth, threads, swapped)


def _block(extent: int, least: int, most: int) -> int:
    """The widest block that is not much less full than the fullest."""
    widths = [n for n in (128, 64, 32, 16, 8) if least <= n <= most]
    padded = {width: -(-extent // width) * width for width in widths}
    return next(width for width in widths if 4 * padded[width] <= 5 * padded[widths[-1]])
