"""The older products of matrices by a warp, `wmma.load`, `wmma.mma` and `wmma.store`.

How a fragment lies in registers is nobody's business but these three instructions': here lane l
holds the elements from l n on, in the order of rows, where n is what a lane must hold; registers
beyond those are left as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.access import Access, items_of
from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.fragments import elements, gathered, lanes_of_warps
from hectorite.backends.ptx.integer import Builder
from hectorite.backends.ptx.lanes import WARP, Index, Lanes
from hectorite.backends.ptx.matrix import accumulator_values, finish, store_values
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.isa import shape_of
from hectorite.ir.ptx.syntax import Instruction, Operand

Array = npt.NDArray[Any]

_WHOLE_REGISTERS = frozenset({"f32", "s32", "f64", "tf32"})
_TYPES = ("f16", "bf16", "tf32", "f64", "f32", "s8", "u8", "s32")


def wmma(code: Code, at: Instruction) -> Step:
    if at.suffix[0] == "mma":
        return _multiply(code, at)
    return _move(code, at)


def _move(code: Code, at: Instruction) -> Step:
    """`wmma.load.a.sync.aligned.row.m16n16k16.global.f16 {...}, [p], stride;` and stores."""
    m, n, k = shape_of(at.suffix)
    rows, columns = {"a": (m, k), "b": (k, n), "c": (m, n), "d": (m, n)}[at.suffix[1]]
    type = next((part for part in at.suffix if part in _TYPES), None)
    if type is None:
        raise code.unsupported("elements of this type")
    by_columns, loads = "col" in at.suffix, at.suffix[0] == "load"
    place, fragment = (at.operands[1], at.operands[0]) if loads else at.operands[:2]
    spaces = [part for part in at.suffix if part.startswith(("global", "shared"))]
    space = spaces[0].partition("::")[0] if spaces else "generic"
    dtype = np.dtype(DTYPES["b32" if type == "tf32" else type][0])
    size, held = dtype.itemsize, rows * columns // WARP
    access = Access(code, at, place, space, size, "read" if loads else "write")
    stride = _stride(code, at, rows if by_columns else columns)
    parts = _parts_of(code, fragment, type, held)
    lane = code.numbers % WARP
    leaders = code.numbers - lane

    def addresses(index: Index, number: int) -> Array:
        row, column = np.divmod(lane[index] * held + number, columns)
        first = leaders[index]
        slow, fast = (column, row) if by_columns else (row, column)
        step = slow * stride[first].astype(np.int64) + fast
        return access.base[first].astype(np.int64) + access.offset + step * size

    def run(lanes: Lanes) -> None:
        index = lanes.exact
        for number in range(held):
            for places in access.at_addresses(index, addresses(index, number)):
                if loads:
                    parts[number][places.index] = places.load(parts[number].dtype, 1)
                else:
                    places.store(np.ascontiguousarray(parts[number][places.index]), 1)

    return run


def _stride(code: Code, at: Instruction, default: int) -> Array:
    if len(at.operands) > 2:
        return code.operand(at.operands[2], "u32")
    return code.constant(default, "u32")


def _parts_of(code: Code, fragment: Operand, type: str, held: int) -> list[Array]:
    """The elements of a fragment, each an array over all lanes that shares the registers."""
    items = items_of(fragment)
    if type in _WHOLE_REGISTERS:
        kind = "b32" if type == "tf32" else type
        found = [code.operand(item, kind) for item in items]
    else:
        dtype = np.dtype(DTYPES[type][0])
        each = 4 // dtype.itemsize
        words = [code.operand(item, "b32") for item in items]
        found = [word.view(dtype).reshape(-1, each)[:, i] for word in words for i in range(each)]
    if len(found) < held:
        raise code.error(f"expected registers for {held} elements in each lane")
    return found[:held]


def _multiply(code: Code, at: Instruction) -> Step:
    m, n, k = shape_of(at.suffix)
    types = [part for part in at.suffix if part in _TYPES]
    d_type, a_type, b_type, c_type = (
        types if len(types) == 4 else (types[0], "f16", "f16", types[-1])
    )
    kind = "b64" if a_type == "f64" else "b32"
    a = [code.operand(item, kind) for item in items_of(at.operands[1])]
    b = [code.operand(item, kind) for item in items_of(at.operands[2])]
    c = [code.operand(item, _register(c_type)) for item in items_of(at.operands[3])]
    targets = [code.target(item, _register(d_type)) for item in items_of(at.operands[0])]

    def matrix(registers: list[Array], warps: Index, type: str, rows: int, columns: int) -> Array:
        parts = elements(gathered(registers, warps), type)
        held = rows * columns // WARP
        return parts.reshape(len(parts), WARP, -1)[:, :, :held].reshape(len(parts), rows, columns)

    def run(lanes: Lanes) -> None:
        warps = lanes.warps()
        product = matrix(a, warps, a_type, m, k) @ matrix(b, warps, b_type, k, n)
        start = accumulator_values(gathered(c, warps), c_type).reshape(-1, m, n)
        total = finish(product, start, d_type, "satfinite" in at.suffix)
        values = total.reshape(len(total), WARP, -1)
        store_values(targets, values, d_type, lanes_of_warps(warps))

    return run


def _register(type: str) -> str:
    return "b32" if type == "f16" else type


BUILDERS: dict[str, Builder] = {"wmma": wmma}
