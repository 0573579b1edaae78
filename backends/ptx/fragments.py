"""Matrices spread over the lanes of a warp: fragments, and moving 8x8 tiles from and to memory.

A fragment has a few registers in each of 32 lanes. With e elements in a register (low bits first),
g = lane / 4 and t = lane % 4:

    A     register r: row g + 8 (r % 2), column e t + i + 4 e (r / 2)
    B     register r: row (k) e t + i + 4 e r, column g
    C, D  register r: row g + 8 (r / 2), column 2 t + r % 2

so a fragment becomes a matrix by a reshape and a transposition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import Access, items_of
from hectorite.backends.ptx.formats import decode
from hectorite.backends.ptx.integer import Builder
from hectorite.backends.ptx.lanes import ALL, WARP, Index, Lanes
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Instruction

Array = npt.NDArray[Any]

ELEMENT_BITS = {
    "f64": 64, "tf32": 32, "f16": 16, "bf16": 16, "s8": 8, "u8": 8, "e4m3": 8, "e5m2": 8,
    "s4": 4, "u4": 4, "b1": 1,
}  # fmt: skip


def gathered(registers: list[Array], warps: Index) -> Array:
    """Registers of whole warps as an array [warp, lane, register]."""
    rows = [register.reshape(-1, WARP)[warps] for register in registers]
    return np.stack(rows, axis=2)


def elements(fragment: Array, type: str) -> Array:
    """[warp, lane, register] of bits -> [warp, lane, register, element] of float32 (f64) numbers,
    exact for every type."""
    shape = fragment.shape
    if type == "f64":
        return fragment.view(np.float64)[..., None]
    if type in ("f16", "bf16"):
        return decode(fragment.view(np.uint16).reshape(*shape, 2), type)
    if type in ("e4m3", "e5m2"):
        return decode(fragment.view(np.uint8).reshape(*shape, 4), type)
    if type == "tf32":
        return decode(fragment, type)[..., None]
    if type in ("s8", "u8"):
        dtype = np.int8 if type == "s8" else np.uint8
        return fragment.view(dtype).reshape(*shape, 4).astype(np.float32)
    if type in ("s4", "u4"):
        shifts = np.arange(0, 32, 4, dtype=np.uint32)
        nibbles = ((fragment[..., None] >> shifts) & np.uint32(15)).astype(np.float32)
        return np.where(nibbles > 7, nibbles - 16, nibbles) if type == "s4" else nibbles
    octets = fragment.view(np.uint8).reshape(*shape, 4)
    return np.unpackbits(octets, axis=-1, bitorder="little").astype(np.float32)


def a_matrix(parts: Array, rows: int) -> Array:
    """[warp, lane, register, element] -> [warp, row, column]."""
    warps, _, registers, each = parts.shape
    high = rows // 8
    shaped = parts.reshape(warps, 8, 4, registers // high, high, each)
    return shaped.transpose(0, 4, 1, 3, 2, 5).reshape(warps, rows, -1)


def b_matrix(parts: Array) -> Array:
    """[warp, lane, register, element] -> [warp, k, column]."""
    warps, _, registers, each = parts.shape
    shaped = parts.reshape(warps, 8, 4, registers, each)
    return shaped.transpose(0, 3, 2, 4, 1).reshape(warps, -1, 8)


def c_matrix(parts: Array, rows: int) -> Array:
    """[warp, lane, value] -> [warp, row, column], 8 columns."""
    warps = len(parts)
    shaped = parts.reshape(warps, 8, 4, rows // 8, 2)
    return shaped.transpose(0, 3, 1, 2, 4).reshape(warps, rows, 8)


def c_values(matrix: Array) -> Array:
    """[warp, row, column] -> [warp, lane, value]; the inverse of `c_matrix`."""
    warps, rows, _ = matrix.shape
    shaped = matrix.reshape(warps, rows // 8, 8, 4, 2)
    return shaped.transpose(0, 2, 3, 1, 4).reshape(warps, WARP, -1)


def lanes_of_warps(warps: Index) -> Index:
    """All lanes of some warps."""
    if isinstance(warps, slice):
        return ALL
    return (warps[:, None] * WARP + np.arange(WARP)).ravel()


def _matrices(code: Code, at: Instruction) -> int:
    if "m8n8" not in at.suffix or "b16" not in at.suffix:
        raise code.unsupported()
    return next(int(part[1:]) for part in at.suffix if part in ("x1", "x2", "x4"))


class _RowAccess:
    """Rows of 16 bytes of `count` 8x8 matrices: lane 8 j + i gives the address of row i of j."""

    def __init__(self, code: Code, at: Instruction, place: Any, count: int, kind: str):
        space = "shared" if any(p.startswith("shared") for p in at.suffix) else "generic"
        self.access = Access(code, at, place, space, 16, kind)
        self.total, self.count = code.lanes, count
        self.every = np.flatnonzero(np.arange(code.lanes) % WARP < 8 * count)
        self.number = np.full(code.lanes, -1)

    def lanes(self, warps: Index) -> Lanes:
        """The lanes whose addresses count."""
        if isinstance(warps, slice):
            return Lanes.of(self.every, self.total)
        rows = warps[:, None] * WARP + np.arange(8 * self.count)
        return Lanes.of(rows.ravel(), self.total)

    def rows_of(self, index: Index, lanes: Lanes) -> Index:
        """Which of the rows, in the order of `lanes`, the lanes of `index` are."""
        if index is lanes.exact:
            return ALL
        self.number[lanes.exact] = np.arange(lanes.count)
        return self.number[index]


def ldmatrix(code: Code, at: Instruction) -> Step:
    """8x8 tiles of 16-bit elements from shared memory; with `.trans` transposed."""
    count, flips = _matrices(code, at), "trans" in at.suffix
    targets = [code.target(item, "b32") for item in items_of(at.operands[0])]
    rows = _RowAccess(code, at, at.operands[1], count, "read")

    def run(lanes: Lanes) -> None:
        warps = _present(lanes)
        chosen = rows.lanes(warps)
        data = np.zeros((chosen.count, 8), np.uint16)
        for places in rows.access.places(chosen):
            data[rows.rows_of(places.index, chosen)] = places.load(np.uint16, 8)
        tiles = data.reshape(-1, count, 8, 8)
        if flips:
            tiles = np.ascontiguousarray(tiles.swapaxes(2, 3))
        words = tiles.view(np.uint32).reshape(-1, count, WARP)
        to = lanes_of_warps(warps)
        for number, target in enumerate(targets):
            target.store(to, words[:, number].ravel())

    return run


def _present(lanes: Lanes) -> Index:
    """The warps of some lanes, without those whose lanes have all ended: their addresses are
    not to be followed."""
    if lanes.exact is ALL:
        return ALL
    numbers = lanes.indices() // WARP
    return numbers[np.concatenate(([True], numbers[1:] != numbers[:-1]))]


def stmatrix(code: Code, at: Instruction) -> Step:
    """8x8 tiles of 16-bit elements to shared memory; with `.trans` transposed."""
    count, flips = _matrices(code, at), "trans" in at.suffix
    sources = [code.operand(item, "b32") for item in items_of(at.operands[1])]
    rows = _RowAccess(code, at, at.operands[0], count, "write")

    def run(lanes: Lanes) -> None:
        warps = _present(lanes)
        chosen = rows.lanes(warps)
        words = np.stack([source.reshape(-1, WARP)[warps] for source in sources], axis=1)
        tiles = np.ascontiguousarray(words).view(np.uint16).reshape(-1, count, 8, 8)
        if flips:
            tiles = tiles.swapaxes(2, 3)
        data = np.ascontiguousarray(tiles).reshape(-1, 8)
        for places in rows.access.places(chosen):
            places.store(np.ascontiguousarray(data[rows.rows_of(places.index, chosen)]), 8)

    return run


def movmatrix(code: Code, at: Instruction) -> Step:
    """One 8x8 tile transposed within a warp."""
    source, target = code.operand(at.operands[1], "b32"), code.target(at.operands[0], "b32")

    def run(lanes: Lanes) -> None:
        warps = lanes.warps()
        words = np.ascontiguousarray(source.reshape(-1, WARP)[warps])
        tiles = words.view(np.uint16).reshape(-1, 8, 8).swapaxes(1, 2)
        flipped = np.ascontiguousarray(tiles).view(np.uint32).reshape(-1)
        target.store(lanes_of_warps(warps), flipped)

    return run


BUILDERS: dict[str, Builder] = {
    "ldmatrix": ldmatrix,
    "stmatrix": stmatrix,
    "movmatrix": movmatrix,
}
