"""Storage formats of tensors: what is kept of one, by which names, in which shapes.

Enters: the text after `as` in a tensor's type. Leaves: the numbers of the format, and how large its
parts are.

    W: f16[M, K] as nm(2, 4)      W.values: f16[M, K / 2]      W.codes: u8[M, K / 8]

`nm(N, M)` keeps at most N of each M elements along the last axis. The values of a group stand in
order; one with fewer than N of them is filled up with others, which are 0 (or where the tensor ends
before there are as many, with 0 after its values). What is 0 contributes nothing. Of each value a
code of `bits` bits says which of its group it was. The codes of a row of groups follow each other
without gaps, the lowest bits of a byte first; eight codes are `bits` bytes.

    W: f16[M, K] as bsr(16, 8)    W.blocks: f16[f.W.block, 16, 8]
                                  f.W.block {row: f.W.rows, column: f.W.columns}

`bsr(h, w)` keeps the blocks of h rows and w columns that have an element other than 0, by rows and
in them by columns. They are a set that comes with the tensor, not with the data of the program.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_GROUP = 256
"""The longest group: its codes have eight bits. Up to 32 elements lie in banks of their own."""

VALUES, CODES, BLOCKS = ".values", ".codes", ".blocks"
"""What the names of parts end in, which no name of a program does."""

ROWS, COLUMNS, BLOCK = ".rows", ".columns", ".block"
"""What the names of the sets of blocks end in, after those of a function and a parameter."""

_BSR = re.compile(r"\s*bsr\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*")
_NM = re.compile(r"\s*nm\(\s*(\d+)\s*,\s*(\d+)\s*\)\s*")


@dataclass(frozen=True)
class Bsr:
    """Blocks of `height` rows and `width` columns."""

    height: int
    width: int

    @staticmethod
    def of(text: str | None) -> Bsr | None:
        """The format that a text names, None for any other."""
        match = _BSR.fullmatch(text or "")
        return None if match is None else Bsr(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"bsr({self.height}, {self.width})"

    def fault(self, rows: int, columns: int) -> str | None:
        """What keeps a matrix from being cut into whole blocks."""
        for number, size, what in ((rows, self.height, "rows"), (columns, self.width, "columns")):
            if number % size:
                return f"its {number} {what} are no multiple of {size}"
        return None


@dataclass(frozen=True)
class Nm:
    """At most `keep` of each `group` elements along the last axis."""

    keep: int
    group: int

    @staticmethod
    def of(text: str | None) -> Nm | None:
        """The format that a text names, None for any other."""
        match = _NM.fullmatch(text or "")
        return None if match is None else Nm(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"nm({self.keep}, {self.group})"

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return max(1, (self.group - 1).bit_length())

    @property
    def straddles(self) -> bool:
        """Whether some codes lie in two bytes."""
        return 8 % self.bits != 0

    def groups(self, extent: int) -> int:
        """Groups of a row of so many elements, the last of them perhaps shorter."""
        return -(-extent // self.group)

    def entries(self, extent: int) -> int:
        """Values of a row."""
        return self.groups(extent) * self.keep

    def row_bytes(self, extent: int) -> int:
        """Bytes of the codes of a row, and one more where codes lie in two bytes, so that the last
        has a second."""
        return -(-self.entries(extent) * self.bits // 8) + self.straddles

    def bytes(self, rows: int, extent: int, width: int) -> int:
        """Bytes of `rows` rows whose values take `width` bytes each."""
        return rows * (self.entries(extent) * width + self.row_bytes(extent))
