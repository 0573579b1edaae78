"""Products of matrices by a warp: `mma.sync`, dense and 2:4 sparse, of every type.

Products are exact; sums of floats are float32 (float64 of f64) in the order of NumPy's product,
which is not a tensor core's. Integers are exact. Layouts are in `fragments.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import items_of
from hectorite.backends.ptx.formats import encode
from hectorite.backends.ptx.fragments import (
    ELEMENT_BITS,
    a_matrix,
    b_matrix,
    c_matrix,
    c_values,
    elements,
    gathered,
    lanes_of_warps,
)
from hectorite.backends.ptx.integer import Builder
from hectorite.backends.ptx.lanes import WARP, Lanes
from hectorite.backends.ptx.thread_code import Code, Step, Target
from hectorite.ir.ptx.isa import shape_of
from hectorite.ir.ptx.syntax import Immediate, Instruction, Operand

Array = npt.NDArray[Any]

_ACCUMULATORS = frozenset({"f16", "f32", "f64", "s32"})
ELEMENT_TYPES = frozenset(ELEMENT_BITS)
_SPARSE = ("sp", "sp::ordered_metadata")


def operand_types(code: Code, at: Instruction) -> tuple[str, str, str, str]:
    """The types of D, A, B and C."""
    known = [part for part in at.suffix if part in ELEMENT_TYPES | _ACCUMULATORS]
    if len(known) == 3:
        known.append(known[0])
    if len(known) != 4:
        raise code.unsupported("it does not name four types")
    d, a, b, c = known
    if d not in _ACCUMULATORS or c not in _ACCUMULATORS or a not in ELEMENT_BITS:
        raise code.unsupported(f"of types {' '.join(known)}")
    return d, a, b, c


def mma(code: Code, at: Instruction) -> Step:
    """D = A B + C."""
    m, n, k = shape_of(at.suffix)
    if n != 8 or m not in (8, 16):
        raise code.unsupported(f"the shape m{m}n{n}k{k}")
    d_type, a_type, b_type, c_type = operand_types(code, at)
    if (m, k, a_type) == (8, 4, "f16"):
        raise code.unsupported("the shape m8n8k4 of f16")
    kind = "b64" if a_type == "f64" else "b32"
    a, b = (
        [code.operand(item, kind) for item in items_of(operand)] for operand in at.operands[1:3]
    )
    c = [code.operand(item, _register_of(c_type)) for item in items_of(at.operands[3])]
    targets = [code.target(item, _register_of(d_type)) for item in items_of(at.operands[0])]
    is_sparse = any(part in at.suffix for part in _SPARSE)
    _check_counts(code, (m, n, k), (a_type, b_type, c_type), (a, b, c), 1 + is_sparse)
    spread = _metadata(code, at, a_type, k) if is_sparse else None
    multiply = product_of(at, a_type)

    def run(lanes: Lanes) -> None:
        warps = lanes.warps()
        left = a_matrix(elements(gathered(a, warps), a_type), m)
        if spread is not None:
            left = spread(left, warps)
        right = b_matrix(elements(gathered(b, warps), b_type))
        start = c_matrix(accumulator_values(gathered(c, warps), c_type), m)
        total = finish(multiply(left, right), start, d_type, "satfinite" in at.suffix)
        store_values(targets, c_values(total), d_type, lanes_of_warps(warps))

    return run


def _check_counts(
    code: Code,
    shape: tuple[int, int, int],
    types: tuple[str, str, str],
    operands: tuple[list[Array], list[Array], list[Array]],
    a_ratio: int,
) -> None:
    """The numbers of registers that shape and types ask for."""
    m, n, k = shape
    sizes = (m * k // a_ratio, k * n, m * n)
    accumulator_bits = {"f16": 16, "f32": 32, "s32": 32, "f64": 64}
    for name, type, size, given in zip("ABC", types, sizes, operands, strict=True):
        bits = accumulator_bits[type] if name == "C" else ELEMENT_BITS[type]
        wanted = size * bits // WARP // (64 if type == "f64" else 32)
        if len(given) != wanted:
            raise code.error(f"expected {wanted} registers for {name}, got {len(given)}")


def _register_of(type: str) -> str:
    return "b32" if type == "f16" else type


def product_of(at: Instruction, type: str) -> Callable[[Array, Array], Array]:
    """How matrices of elements are multiplied; of bits, by counting those of `and` or `xor`."""
    if type != "b1" or "and" in at.suffix:
        return np.matmul

    def differing(left: Array, right: Array) -> Array:
        both = np.matmul(left, right)
        return left.sum(axis=2)[:, :, None] + right.sum(axis=1)[:, None, :] - 2 * both

    return differing


def accumulator_values(registers: Array, type: str) -> Array:
    """[warp, lane, register] -> [warp, lane, value]."""
    if type != "f16":
        return registers
    warps, lanes, _ = registers.shape
    return registers.view(np.float16).reshape(warps, lanes, -1)


def finish(product: Array, start: Array, type: str, saturates: bool) -> Array:
    """A product added to what was there, in the type of the result."""
    if type == "s32":
        total = product.astype(np.int64) + start
        if saturates:
            total = np.clip(total, -(1 << 31), (1 << 31) - 1)
        return total.astype(np.int32)
    if type == "f64":
        return product + start
    return encode(product + start.astype(np.float32), type)


def store_values(targets: list[Target], values: Array, type: str, index: Any) -> None:
    """[warp, lane, value] into registers; halves in pairs."""
    if type == "f16":
        values = np.ascontiguousarray(values).view(np.uint32)
    for number, target in enumerate(targets):
        target.store(index, values[:, :, number].ravel())


def _metadata(code: Code, at: Instruction, type: str, k: int) -> Callable[[Array, Any], Array]:
    """The function that spreads a compressed A to its columns, from the metadata operand.

    Four bits say where the two kept elements of a chunk of four stand (for tf32, the one of two;
    for 4-bit types, the two kept pairs of a chunk of eight). A lane's word has the bits of 16
    columns of its row (lower half) and of the row 8 below (upper half); for tf32, of 8 columns.
    """
    word = code.operand(at.operands[4], "b32")
    selector = _selector(code, at.operands[5])
    chunk = {"tf32": 2, "s4": 8, "u4": 8}.get(type, 4)
    chunks = k // chunk
    words = max(1, chunks // 4)
    if words > 4 or selector * words + words > 4:
        raise code.error("the metadata selector is too large for this shape")
    first = selector * words
    each = 2 if type in ("s4", "u4") else 1
    kept = 1 if type == "tf32" else 2
    base = np.arange(chunks)[:, None] * chunk

    def spread(left: Array, warps: Any) -> Array:
        lanes = word.reshape(-1, 8, 4)[warps][:, :, first : first + words]
        halves = lanes[..., None] >> np.array([0, 16], np.uint32) & np.uint32(0xFFFF)
        nibbles = halves[..., None] >> np.arange(0, 16, 4, dtype=np.uint32) & np.uint32(15)
        # [warp, g, word, half, chunk of the word] -> [warp, row, chunk]
        rows = nibbles.transpose(0, 3, 1, 2, 4).reshape(len(lanes), 16, -1)[:, :, :chunks]
        if type == "tf32":
            place = (rows >> np.uint32(3))[..., None]
        else:
            place = np.stack([rows & np.uint32(3), rows >> np.uint32(2)], axis=-1)
        columns = (base + place * each)[..., None] + np.arange(each)
        columns = columns.reshape(len(lanes), 16, chunks * kept * each)
        full = np.zeros((len(lanes), 16, k), left.dtype)
        np.put_along_axis(full, columns.astype(np.int64), left, axis=2)
        return full

    return spread


def _selector(code: Code, operand: Operand) -> int:
    if not isinstance(operand, Immediate):
        raise code.error("the metadata selector must be a number")
    return int(operand.value)


BUILDERS: dict[str, Builder] = {"mma": mma}
