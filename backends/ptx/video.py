"""Instructions on the two halves or four bytes of a register: `vadd4`, `vabsdiff2`, ...

    vadd4.u32.s32.s32.sat %d, %a, %b, %c;       each byte of d: a + b, clamped to the type of d
    vabsdiff4.u32.u32.u32.add %d, %a, %b, %c;   the sum of the four differences, and c

Selectors and masks of parts (`%a.b3210`) are not read by the parser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.convert import COMPARISONS
from hectorite.backends.ptx.integer import Builder
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Instruction

Array = npt.NDArray[Any]


def _average(a: Array, b: Array) -> Array:
    """Half the sum, rounded up."""
    return (a + b + 1) >> 1


_OPERATIONS: dict[str, Callable[[Array, Array], Array]] = {
    "vadd": np.add,
    "vsub": np.subtract,
    "vavrg": _average,
    "vabsdiff": lambda a, b: np.abs(a - b),
    "vmin": np.minimum,
    "vmax": np.maximum,
}


def _parts(values: Array, bits: int, is_signed: bool) -> Array:
    """[register] -> [register, part] of int64, the lowest part first."""
    dtype = f"{'i' if is_signed else 'u'}{bits // 8}"
    return np.ascontiguousarray(values).view(dtype).reshape(len(values), -1).astype(np.int64)


def video(code: Code, at: Instruction) -> Step:
    """Any of these instructions; the parts are as many as its name says."""
    name, bits = at.name[:-1], 32 // int(at.name[-1])
    types = [part for part in at.suffix if part in ("s32", "u32")]
    if name == "vset":
        operation = COMPARISONS[next(part for part in at.suffix if part in COMPARISONS)]
        types.insert(0, "u32")
    else:
        operation = _OPERATIONS[name]
    result_type, a_type, b_type = (type == "s32" for type in types[:3])
    adds, saturates = "add" in at.suffix, "sat" in at.suffix
    a, b, c = (code.operand(operand, "u32") for operand in at.operands[1:4])
    limits = np.iinfo(f"{'i' if result_type else 'u'}{bits // 8}")

    def run(a: Array, b: Array, c: Array) -> Array:
        parts = operation(_parts(a, bits, a_type), _parts(b, bits, b_type)).astype(np.int64)
        if adds:
            return ((parts.sum(axis=1) + c) & 0xFFFFFFFF).astype(np.uint32)
        if saturates:
            parts = np.clip(parts, limits.min, limits.max)
        return parts.astype(f"u{bits // 8}").view(np.uint32)[:, 0]

    return code.elementwise(run, code.target(at.operands[0], "u32"), a, b, c)


BUILDERS: dict[str, Builder] = {
    f"{name}{count}": video for name in (*_OPERATIONS, "vset") for count in (2, 4)
}
