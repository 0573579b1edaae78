"""How large the blocks of a product are: rows, and lanes of one strip of its result.

Enters: the extent of the lanes, the element type that is accumulated in, and the machine. Leaves:
a `BlockShape`.

    64 lanes of f32 on a CPU     6 rows x 64 lanes: 24 registers of 16 accumulators
    61 lanes, packed             6 rows x 64 lanes: panels have room for a strip that is not full
"""

from dataclasses import dataclass

from xdsl.ir import Attribute

from hectorite.ir.element import element_of
from hectorite.ir.space import Dim
from hectorite.lowering.machine import Machine


@dataclass(frozen=True)
class BlockShape:
    """Rows of one block and lanes of one strip. A result is `wide` if it has so many strips that
    weights are better kept than rows. On a GPU, `threads` do one block together."""

    rows: int
    lanes: int
    wide: bool
    threads: int = 32


LEAST_ROWS, LEAST_LANES = 16, 8
"""The smallest block that tensor instructions do."""

MOST_ACCUMULATORS = 256 * 128
"""The largest block whose accumulators 256 threads hold in registers."""


def powers_of_two(number: int) -> list[int]:
    """The powers of two that add up to a number, greatest first: vectors of other lengths are
    slow on most machines."""
    return [1 << bit for bit in reversed(range(number.bit_length())) if number >> bit & 1]


def vector_lanes(type: Attribute, machine: Machine) -> int:
    """Lanes of a vector of this element type."""
    return machine.vector_bytes // element_of(type).storage.itemsize


def block_shape(
    rows: Dim,
    extent: int,
    type: Attribute,
    packed: bool,
    machine: Machine,
    wanted: tuple[int | None, int | None] = (None, None),
) -> BlockShape:
    """The blocks of a product with these rows and `extent` lanes that is accumulated in `type`.
    `wanted` are rows and lanes that a schedule asks a GPU for."""
    if machine.is_gpu:
        return _thread_block(rows, extent, type, machine, wanted)
    size = element_of(type).storage.itemsize
    lanes = powers_of_two(extent)[0]
    if packed and lanes < extent:
        lanes *= 2
    lanes = min(lanes, vector_lanes(type, machine))
    registers = -(-lanes * size // machine.register_bytes)
    height = max(1, min(machine.most_rows, machine.accumulators // registers))
    return BlockShape(height, lanes, extent * size > 2 * machine.vector_bytes)


def _thread_block(
    rows: Dim,
    extent: int,
    type: Attribute,
    machine: Machine,
    wanted: tuple[int | None, int | None],
) -> BlockShape:
    """Rows are a multiple of 16 and lanes of 8, as tensor instructions have them."""
    most = max(LEAST_LANES, machine.most_block_lanes * 4 // element_of(type).storage.itemsize)
    lanes = wanted[1] or _strip_lanes(extent, most)
    strips = -(-extent // lanes)
    height = machine.most_rows if isinstance(rows, int) else machine.most_rows // 2
    if isinstance(rows, int):
        while height > LEAST_ROWS and (
            height >= 2 * rows or -(-rows // height) * strips < machine.enough_blocks
        ):
            height //= 2
    height = wanted[0] or height
    return BlockShape(height, lanes, True, _threads(height * lanes))


def _strip_lanes(extent: int, most: int) -> int:
    """The widest strip that is not much less full than the fullest."""
    widths = [most >> shift for shift in range(8) if most >> shift >= LEAST_LANES]
    padded = {width: -(-extent // width) * width for width in widths}
    return next(width for width in widths if 4 * padded[width] <= 5 * padded[widths[-1]])


def _threads(elements: int) -> int:
    """Threads for a block of so many accumulators: at most 64 and at least 8 for each."""
    if elements > 128 * 64:
        return 256
    return next((n for n in (128, 64) if elements >= 8 * n), 32)
