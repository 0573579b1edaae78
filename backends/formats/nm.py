"""Tensors of which at most N of each M elements along the last axis are kept.

Enters: a dense array. Leaves: an `NmOperand`: the values, and the packed codes of their places, as
`ir/tensor_format.py` lays them out. Calls take it as it is; `dense` is the way back.

    W = hectorite.nm(array, 2, 4)
    y = program.linear(x=x, W=W)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hectorite.backends.arrays import Array, KeptArray, array_of_numbers, first_true
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, fail
from hectorite.ir.tensor_format import CODES, MOST_GROUP, VALUES, Nm


class NmOperand:
    """A tensor in the format `nm(N, M)`: `values` [..., groups * N] and `codes` u8[..., bytes].

    It stands for an array of `shape` and `dtype`, which NumPy makes of it when asked.
    """

    def __init__(self, format: Nm, shape: tuple[int, ...], values: Array, codes: Array):
        self.format = format
        self.shape = shape
        self.values = values
        self.codes = codes

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of values and codes."""
        return self.values.nbytes + self.codes.nbytes

    def parts(self, name: str) -> dict[str, Array]:
        """What kernels read, by name."""
        return {name + VALUES: self.values, name + CODES: self.codes}

    def dense(self) -> Array:
        """The array, C-contiguous, with 0 where nothing is kept."""
        *outer, extent = self.shape
        groups, group = self.format.groups(extent), self.format.group
        kept = self.format.keep
        codes = unpack(self.codes, self.format.bits, groups * kept)
        whole = np.zeros((*outer, groups * group), self.dtype)
        if not whole.size:
            return whole[..., :extent]
        places = codes.reshape(*outer, groups, kept) + np.arange(groups)[:, None] * group
        rows = whole.reshape(-1, groups * group)
        row, _, _ = stored = np.nonzero(self.values.reshape(len(rows), groups, kept))
        rows[row, places.reshape(len(rows), groups, kept)[stored]] = self.values.reshape(
            len(rows), groups, kept
        )[stored]
        return np.ascontiguousarray(whole[..., :extent])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.dense().astype(dtype or self.dtype, copy=False)

    def __repr__(self) -> str:
        return f"<{self.dtype.name}{list(self.shape)} as {self.format}>"


def nm(array: Any, keep: int, group: int) -> NmOperand:
    """An array in the format `nm(keep, group)`, converted once, for any number of calls.

    Takes what calls take: NumPy, torch, or anything with the buffer protocol or DLPack, of one or
    more dimensions. Raises `HectoriteError` naming the first group that has more than `keep`
    elements other than 0.
    """
    if not (isinstance(keep, int) and isinstance(group, int) and 1 <= keep <= group <= MOST_GROUP):
        raise fail(f"nm({keep}, {group}) is no format", expected=f"1 <= N <= M <= {MOST_GROUP}")
    made = encode(array_of_numbers(array), Nm(keep, group), "the array")
    values, codes = (part.view(KeptArray) for part in (made.values, made.codes))
    return NmOperand(made.format, made.shape, values, codes)


def encode(dense: Array, format: Nm, name: str) -> NmOperand:
    """A dense array in a format; `name` is what messages call it."""
    if not dense.ndim:
        raise fail(f"{name} has no dimensions", expected=f"a last axis, of which {format} keeps")
    *outer, extent = dense.shape
    groups, group, keep = format.groups(extent), format.group, format.keep
    rows = dense.reshape(-1, extent) if dense.size else dense.reshape(0, max(extent, 1))
    if groups * group != extent and dense.size:
        rows = np.pad(rows, ((0, 0), (0, groups * group - extent)))
    flat = np.ascontiguousarray(rows).reshape(-1)
    kept = flat != 0
    counts = kept.reshape(-1, group).sum(-1, dtype=np.int16)
    if counts.max(initial=0) > keep:
        raise _broken(dense, format, name, int(np.argmax(counts > keep)))
    _fill_up(kept, counts, format, extent)
    (places,) = np.nonzero(kept)
    values = np.zeros((*outer, groups * keep), dense.dtype)
    codes = np.zeros((*outer, groups * keep), np.uint8)
    if places.size:
        slots = _slots(places, counts, keep, group)
        values.reshape(-1)[slots] = flat[places]
        codes.reshape(-1)[slots] = places % group
    return NmOperand(format, dense.shape, values, pack(codes, format))


def _fill_up(kept: Array, counts: Array, format: Nm, extent: int) -> None:
    """Keep the first of the other elements, too, in groups that keep fewer than they may."""
    (short,) = np.nonzero(counts < format.keep)
    if not short.size:
        return
    each, groups = kept.reshape(-1, format.group), format.groups(extent)
    free = ~each[short]
    free &= (short % groups)[:, None] * format.group + np.arange(format.group) < extent
    free &= np.cumsum(free, 1) <= (format.keep - counts[short])[:, None]
    each[short] |= free
    counts[short] += free.sum(1, dtype=np.int16)


def _slots(places: Array, counts: Array, keep: int, group: int) -> Array:
    """Where each kept element goes among the values."""
    if places.size == counts.size * keep:
        return np.arange(places.size)
    before = np.cumsum(counts, dtype=np.int64) - counts
    own = places // group
    return own * keep + np.arange(places.size) - before[own]


def pack(codes: Array, format: Nm) -> Array:
    """u8[..., codes] in the bits they need: u8[..., bytes]."""
    *outer, count = codes.shape
    bits, eights = format.bits, -(-count // 8)
    whole = np.zeros((*outer, eights * 8), np.uint8)
    whole[..., :count] = codes
    eight = whole.reshape(*outer, eights, 8)
    target = np.zeros((*outer, eights, bits), np.uint8)
    for number in range(8):
        byte, shift = divmod(number * bits, 8)
        wide = eight[..., number].astype(np.uint16) << shift
        target[..., byte] |= (wide & 0xFF).astype(np.uint8)
        if shift + bits > 8:
            target[..., byte + 1] |= (wide >> 8).astype(np.uint8)
    used = -(-count * bits // 8)
    packed = np.zeros((*outer, used + format.straddles), np.uint8)
    packed[..., :used] = target.reshape(*outer, eights * bits)[..., :used]
    return packed


def unpack(packed: Array, bits: int, count: int) -> Array:
    """The first `count` codes of each row: int64[..., count]."""
    start = np.arange(count) * bits
    byte, shift = start // 8, start % 8
    last = packed.shape[-1] - 1
    both = packed[..., byte].astype(np.int64)
    both |= packed[..., np.minimum(byte + 1, max(last, 0))].astype(np.int64) << 8
    return (both >> shift) & ((1 << bits) - 1)


def _broken(dense: Array, format: Nm, name: str, number: int) -> HectoriteError:
    """What is wrong with a group, the `number`th of all."""
    *outer, extent = dense.shape
    row, group = divmod(number, format.groups(extent))
    first = group * format.group
    last = min(first + format.group, extent)
    rows = np.unravel_index(row, outer) if outer else ()
    values = dense.reshape(-1, extent)[row, first:last]
    at = ", ".join([*(str(int(i)) for i in rows), f"{first}:{last}"])
    position = first_true(values != 0)[0] + first
    message = (
        f"{name}[{at}] has {np.count_nonzero(values)} elements other than 0, "
        f"the first at {position}"
    )
    expected = f"at most {format.keep} of each {format.group} along the last axis, as {format} says"
    return HectoriteError([Diagnostic(message, expected=expected, hint="prune it first")])
