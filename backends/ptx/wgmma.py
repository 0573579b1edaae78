"""Products of matrices by four warps: `wgmma`, with operands in shared memory.

A descriptor names a matrix in shared memory: where it begins, two strides and a swizzle. Rows of
16 bytes are the unit of all layouts, so a matrix is gathered in pieces of 16 bytes:

    swizzle of W bytes   row r, piece c at     W (r % 8) + stride (r / 8) + 16 c       (K-major)
    none                                      16 (r % 8) + stride (r / 8) + leading c

and for a matrix stored along M or N, with rows of k and pieces along the other direction, as
`_offsets` says. Swizzling exchanges pieces: bits 4 to 6 of the address with bits 7 to 9.
Products are done when they are issued; `wait_group` has nothing left to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import Bytes, Places, items_of
from hectorite.backends.ptx.fragments import (
    ELEMENT_BITS,
    a_matrix,
    c_matrix,
    c_values,
    elements,
    gathered,
)
from hectorite.backends.ptx.integer import Builder
from hectorite.backends.ptx.lanes import WARP, Lanes
from hectorite.backends.ptx.matrix import (
    accumulator_values,
    finish,
    operand_types,
    product_of,
    store_values,
)
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.isa import shape_of
from hectorite.ir.ptx.syntax import Braces, Immediate, Instruction, Operand

Array = npt.NDArray[Any]

_GROUP = 128
_PIECE = 16
_SWIZZLES = {0: 0, 1: 128, 2: 64, 3: 32}


def wgmma(code: Code, at: Instruction) -> Step:
    """`fence`, `commit_group` and `wait_group` order nothing here; `mma_async` multiplies."""
    if "mma_async" not in at.suffix:
        return lambda lanes: None
    return _product(code, at)


def _product(code: Code, at: Instruction) -> Step:
    if code.width % _GROUP:
        raise code.error("`wgmma` needs blocks of a multiple of 128 threads")
    if any(part.startswith("sp") for part in at.suffix):
        raise code.unsupported("sparse operands")
    m, n, k = shape_of(at.suffix)
    d_type, a_type, b_type, _ = operand_types(code, at)
    type = "b32" if d_type == "f16" else d_type
    targets = [code.target(item, type) for item in items_of(at.operands[0])]
    sums = [code.operand(item, type) for item in items_of(at.operands[0])]
    scale, scale_negated = _scale(code, at.operands[3])
    signs, flips = _switches(code, at.operands[4:], isinstance(at.operands[1], Braces))
    load_a = _left(code, at, at.operands[1], a_type, k, flips[0])
    load_b = _from_memory(code, at, at.operands[2], b_type, n, k, flips[1])
    multiply = product_of(at, a_type)

    def run(lanes: Lanes) -> None:
        groups = _groups(lanes)
        warps = (groups[:, None] * 4 + np.arange(4)).ravel()
        left = load_a(groups, warps) * np.float32(signs[0])
        right = load_b(groups) * np.float32(signs[1])
        product = multiply(left, right.swapaxes(1, 2))
        old = accumulator_values(gathered(sums, warps), d_type)
        # Each 8 columns are a fragment of four values; the four warps have 16 rows each.
        parts = old.reshape(len(groups), 4, WARP, n // 8, 4).transpose(0, 3, 1, 2, 4)
        start = c_matrix(parts.reshape(-1, WARP, 4), 16).reshape(-1, n // 8, 4, 16, 8)
        start = start.transpose(0, 2, 3, 1, 4).reshape(len(groups), m, n)
        kept = scale[groups * _GROUP] ^ scale_negated
        start = np.where(kept[:, None, None], start, start.dtype.type(0))
        total = finish(product, start, d_type, "satfinite" in at.suffix)
        parts = total.reshape(-1, 4, 16, n // 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 8)
        values = c_values(parts).reshape(-1, n // 8, WARP, 4).transpose(0, 2, 1, 3)
        index = (warps[:, None] * WARP + np.arange(WARP)).ravel()
        store_values(targets, values.reshape(-1, WARP, n // 2), d_type, index)

    return run


def _groups(lanes: Lanes) -> Array:
    """The groups of four warps that have lanes here."""
    return np.unique(lanes.indices() // _GROUP)


def _scale(code: Code, operand: Operand) -> tuple[Array, bool]:
    """Whether to add to what is in the registers."""
    if isinstance(operand, Immediate):
        return code.constant(bool(operand.value), "pred"), False
    return code.predicate(operand)


def _switches(
    code: Code, operands: tuple[Operand, ...], a_in_registers: bool
) -> tuple[tuple[int, int], tuple[bool, bool]]:
    """Signs of A and B, and which of them are stored along M and N."""
    numbers = [int(item.value) for item in operands if isinstance(item, Immediate)]
    if len(numbers) != len(operands):
        raise code.error("the switches of `wgmma` must be numbers")
    signs = (numbers[0], numbers[1]) if len(numbers) >= 2 else (1, 1)
    flips = [bool(number) for number in numbers[2:]]
    if a_in_registers:
        flips.insert(0, False)
    a_flip, b_flip = (*flips, False, False)[:2]
    return signs, (a_flip, b_flip)


def _left(
    code: Code, at: Instruction, operand: Operand, type: str, k: int, flips: bool
) -> Callable[[Array, Array], Array]:
    """How A is read, [group, 64, k]: from registers or shared memory."""
    if isinstance(operand, Braces):
        registers = [code.operand(item, "b32") for item in operand.items]

        def from_registers(groups: Array, warps: Array) -> Array:
            parts = a_matrix(elements(gathered(registers, warps), type), 16)
            return parts.reshape(len(groups), 64, k)

        return from_registers
    load = _from_memory(code, at, operand, type, 64, k, flips)
    return lambda groups, warps: load(groups)


def _offsets(rows: int, k: int, each: int, flips: bool, width: int) -> tuple[Array, ...]:
    """Where pieces stand: constant part, factors of the leading and of the stride offset; all
    [rows, pieces of a row] (or [k, pieces] for a matrix stored along M or N)."""
    if not flips:
        row, piece = np.meshgrid(np.arange(rows), np.arange(k // each), indexing="ij")
        fixed = (row % 8) * (width or _PIECE) + (piece * _PIECE if width else 0)
        return fixed, piece * (width == 0), row // 8
    row, piece = np.meshgrid(np.arange(k), np.arange(rows // each), indexing="ij")
    if width == 0:
        return (row % 8) * _PIECE, row // 8, piece
    across = width // _PIECE
    return (row % 8) * width + piece % across * _PIECE, piece // across, row // 8


def _from_memory(
    code: Code, at: Instruction, operand: Operand, type: str, rows: int, k: int, flips: bool
) -> Callable[[Array], Array]:
    """How a matrix [group, rows, k] is read through a descriptor in a 64-bit register."""
    descriptors = code.operand(operand, "u64")
    each = _PIECE * 8 // ELEMENT_BITS[type]
    words = code.shared.view(np.uint32).reshape(-1, _PIECE // 4)
    buffer = Bytes(code.shared)
    layouts = {width: _offsets(rows, k, each, flips, width) for width in _SWIZZLES.values()}

    def load(groups: Array) -> Array:
        first = groups * _GROUP
        descriptor = descriptors[first].astype(np.int64)
        kinds = (descriptor >> 62) & 3
        pieces = np.empty((len(groups), *layouts[0][0].shape, _PIECE // 4), np.uint32)
        for kind in np.unique(kinds):
            chosen = kinds == kind
            address = _addresses(descriptor[chosen], layouts[_SWIZZLES[int(kind)]], int(kind))
            last = code.shared_limit - _PIECE
            if int(address.max()) > last:
                beyond = address[address > last]
                code.watch.out_of_bounds(at, "shared", beyond, _PIECE, "read")
                address = np.minimum(address, last)
            flat = address + (code.block_of[first[chosen]] * code.shared_bytes)[:, None, None]
            if code.watch.is_watching:
                reader = np.broadcast_to(first[chosen][:, None, None], flat.shape).ravel()
                places = Places(reader, buffer, flat.ravel(), "shared")
                code.watch.access(at, places, _PIECE, "read")
            pieces[chosen] = words[flat >> 4]
        matrix = elements(pieces.reshape(len(groups), -1, _PIECE // 4), type)
        matrix = matrix.reshape(len(groups), -1, rows if flips else k)
        return matrix.swapaxes(1, 2) if flips else matrix

    return load


def _addresses(descriptor: Array, layout: tuple[Array, ...], kind: int) -> Array:
    """Addresses of all pieces, [descriptor, ...]."""
    fixed, by_leading, by_stride = layout
    start = (descriptor & 0x3FFF) << 4
    leading = (descriptor >> 16 & 0x3FFF) << 4
    stride = (descriptor >> 32 & 0x3FFF) << 4
    address = start[:, None, None] + fixed
    address = address + leading[:, None, None] * by_leading + stride[:, None, None] * by_stride
    mask = {0: 0, 1: 7, 2: 3, 3: 1}[kind]
    return address ^ ((address >> 7 & mask) << 4)


BUILDERS: dict[str, Builder] = {"wgmma": wgmma}
