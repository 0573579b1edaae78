"""Matrices of which whole blocks are kept, as calls take them.

Enters: a dense matrix. Leaves: a `BsrOperand`: the blocks that have an element other than 0, and
where they are. These are a set of their own, which the call's binding gets (`bind`).

    W = hectorite.bsr(array, 16, 16)
    y = program.linear(x=x, W=W)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from hectorite.backends.arrays import Array, KeptArray, array_of_numbers
from hectorite.ir.diagnostics import fail
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.tensor_format import BLOCK, BLOCKS, COLUMNS, ROWS, Bsr

if TYPE_CHECKING:
    from hectorite.backends.bound.binding import Binding


class BsrOperand:
    """A matrix in the format `bsr(h, w)`: `blocks` [blocks, h, w], and for each the number of its
    block row and column, int32. It stands for an array of `shape` and `dtype`."""

    def __init__(
        self, format: Bsr, shape: tuple[int, ...], blocks: Array, row: Array, column: Array
    ):
        self.format = format
        self.shape = shape
        self.blocks = blocks
        self.row, self.column = row, column
        self._bound: WeakKeyDictionary[Binding, dict[str, Binding]] = WeakKeyDictionary()

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.blocks.dtype

    @property
    def ndim(self) -> int:
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes of blocks and of where they are."""
        return self.blocks.nbytes + self.row.nbytes + self.column.nbytes

    def parts(self, name: str) -> dict[str, Array]:
        """What kernels read, by name."""
        return {name + BLOCKS: self.blocks}

    def dense(self) -> Array:
        """The array, C-contiguous, with 0 where nothing is kept."""
        (rows, columns), (h, w) = self.shape, (self.format.height, self.format.width)
        whole = np.zeros((rows // h, columns // w, h, w), self.dtype)
        whole[self.row, self.column] = self.blocks
        return np.ascontiguousarray(whole.transpose(0, 2, 1, 3)).reshape(rows, columns)

    def bind(self, binding: Binding, name: str) -> Binding:
        """The binding with the set of blocks of the parameter `name`, written FUNCTION.NAME."""
        from hectorite.backends.bound.binding import Binding

        bound = self._bound.setdefault(binding, {})
        if name not in bound:
            decls = declarations(name)
            (rows, columns), format = self.shape, self.format
            given = {
                decls[0].name: rows // format.height,
                decls[1].name: columns // format.width,
                decls[2].name: {"row": self.row, "column": self.column},
            }
            schema = binding.schema
            sets = schema.sets | {decl.name: decl for decl in decls}
            bound[name] = Binding(Schema(sets, schema.sizes), binding.given | given)
        return bound[name]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.dense().astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"<{self.dtype.name}{list(self.shape)} as {self.format}>"


def declarations(name: str) -> tuple[SetDecl, SetDecl, SetDecl]:
    """The sets of a parameter, written FUNCTION.NAME: block rows, block columns, blocks."""
    rows, columns, block = (name + suffix for suffix in (ROWS, COLUMNS, BLOCK))
    return SetDecl(rows), SetDecl(columns), SetDecl(block, (("row", rows), ("column", columns)))


def bsr(array: Any, height: int, width: int) -> BsrOperand:
    """A matrix in the format `bsr(height, width)`, converted once, for any number of calls.

    Takes what calls take: NumPy, torch, or anything with the buffer protocol or DLPack. Raises
    `HectoriteError` if it is no matrix, or one that cannot be cut into whole blocks.
    """
    if not all(isinstance(size, int) and size > 0 for size in (height, width)):
        raise fail(f"bsr({height}, {width}) is no format", expected="two positive integers")
    made = encode_bsr(array_of_numbers(array), Bsr(height, width), "the array")
    made.blocks = made.blocks.view(KeptArray)
    return made


def encode_bsr(dense: Array, format: Bsr, name: str) -> BsrOperand:
    """A dense matrix in a format; `name` is what messages call it."""
    if dense.ndim != 2:
        raise fail(f"{name} has {dense.ndim} dimensions", expected=f"a matrix, as {format} says")
    rows, columns = dense.shape
    if (fault := format.fault(rows, columns)) is not None:
        raise fail(f"{name} cannot be stored as {format}: {fault}")
    h, w = format.height, format.width
    whole = dense.reshape(rows // h, h, columns // w, w)
    row, column = np.nonzero((whole != 0).any(axis=(1, 3)))
    blocks = np.ascontiguousarray(whole[row, :, column])
    return BsrOperand(format, dense.shape, blocks, row.astype(np.int32), column.astype(np.int32))
