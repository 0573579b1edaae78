"""Where a compiled PTX kernel finds everything: the memory layouts that its parts agree on.

Enters: the variables of a kernel. Leaves: offsets. Machine code sees

- `launch`, 8-byte slots (`Launch`): parameters, module variables, sizes of block and grid, the
  table of allocations, the record of the first fault;
- `block`, 8-byte slots (`BlockSlot`): where this block is, and its memory;
- one record for each thread of a block that can be suspended (`Record`), then the frame (variables
  in local memory and of calls), then the registers that live across a suspension;
- `mail`, one for each warp: 32-bit words `[slot][lane]`, through which collectives exchange.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

from hectorite.ir.ptx.syntax import Variable


class Launch(IntEnum):
    """Slots of the launch."""

    PARAMETERS = 0
    VARIABLES = 1
    BLOCK_X = 2
    BLOCK_Y = 3
    BLOCK_Z = 4
    GRID_X = 5
    GRID_Y = 6
    GRID_Z = 7
    SHARED_BYTES = 8
    DYNAMIC_BYTES = 9
    TABLE = 10
    TABLE_COUNT = 11
    FAULT = 12
    RANGES = 13  # then start and length for each parameter that is an address
    CONSTANT_END = 14
    FIRST_RANGE = 16


class BlockSlot(IntEnum):
    """Slots of a block."""

    X = 0
    Y = 1
    Z = 2
    NUMBER = 3
    SHARED = 4
    RECORDS = 5
    RECORDS_END = 6
    CLOCK = 7
    ARRIVED = 8  # sixteen words of 32 bits: who came to a barrier without waiting
    COUNT = 16


class Record(IntEnum):
    """Byte offsets in the record of a thread; 32-bit words."""

    RESUME = 0
    STATUS = 4
    X = 8
    Y = 12
    Z = 16
    KEY = 20  # what it waits for
    MASK = 24  # of a warp collective: who takes part; of a barrier: how many
    VALUE = 28  # of a barrier with a reduction: what it brings, and the result
    FRAME = 32


class Status(IntEnum):
    """What a thread does next; `step` returns it."""

    READY = 0
    DONE = 1
    WARP = 2
    BARRIER = 3
    PAUSE = 4


class Fault(IntEnum):
    """Why a launch stops."""

    OUT_OF_BOUNDS = 1
    MISALIGNED = 2
    SHARED_OUT_OF_BOUNDS = 3
    LOCAL_OUT_OF_BOUNDS = 4
    TRAP = 5
    ASSERTION = 6
    DEADLOCK = 7
    DIVERGENT = 8
    NO_PROGRESS = 9


class FaultSlot(IntEnum):
    """Slots of the record of a fault."""

    LOCK = 0
    BLOCK = 1
    KIND = 2
    LINE = 3
    ADDRESS = 4
    SIZE = 5
    THREAD = 6
    COUNT = 8


SIZES = {
    "pred": 1,
    **{f"{sign}{bits}": bits // 8 for sign in "sub" for bits in (8, 16, 32, 64)},
    **{"f16": 2, "bf16": 2, "f16x2": 4, "bf16x2": 4, "f32": 4, "f64": 8, "b128": 16, "tf32": 4},
    **{"e4m3x2": 2, "e5m2x2": 2, "f32x2": 8},
}
"""Bytes of an element of each PTX type."""


def bytes_of(variable: Variable) -> int:
    """How much memory a variable takes; one without a size takes none."""
    count = 1 if variable.count is None else variable.count
    return SIZES[variable.type] * count


def aligned(offset: int, alignment: int) -> int:
    return -(-offset // alignment) * alignment


@dataclass
class Layout:
    """Variables one behind the other: the offset of each, and the end of the last."""

    offsets: dict[str, int] = field(default_factory=dict[str, int])
    sizes: dict[str, int] = field(default_factory=dict[str, int])
    end: int = 0

    def add(self, name: str, size: int, alignment: int) -> int:
        """Place `size` bytes; their offset."""
        self.end = aligned(self.end, alignment)
        self.offsets[name], self.sizes[name] = self.end, size
        self.end += size
        return self.offsets[name]


def layout_of(variables: Iterable[Variable]) -> Layout:
    """Variables in their order, each at a multiple of its alignment."""
    layout = Layout()
    for variable in variables:
        alignment = variable.align or SIZES[variable.type]
        layout.add(variable.name, bytes_of(variable), alignment)
    return layout
