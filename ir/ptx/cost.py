"""What an instruction of PTX costs on a target, from published rates.

Enters: a mnemonic and a target. Leaves: the cycles for which one warp's instruction keeps its unit
of an SM busy when enough warps are there, so that costs of instructions of one unit add up:
`fma.rn.f32` costs half a cycle on an A100 (64 lanes) and a quarter on an H100 (128).

What many machine instructions stand for (a division, an emulated `mma`) costs as many of the
integer unit. Latency is not in it, nor memory beyond the load and store units.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hectorite.ir.ptx.isa import register_kind, shape_of, split, types_of
from hectorite.ir.ptx.limits import machine_instructions
from hectorite.ir.target import Target

LOAD_LANES = 32
"""Threads of which the load and store units take 4 bytes each in a cycle."""

EXPANSIONS: Mapping[str, Mapping[str, int]] = {
    "div": {"s16": 22, "s32": 22, "u32": 16, "s64": 80, "u64": 65, "f64": 85}
    | {"rn": 16, "full": 8, "approx": 5},
    "rem": {"s32": 20, "u32": 15, "s64": 75, "u64": 62},
    "rcp": {"rn": 12, "f64": 43},
    "sqrt": {"rn": 14, "f64": 44},
    "rsqrt": {"f64": 31},
}
"""Machine instructions of one instruction, on its usual path where it has a rare one, by a part of
its suffix; those of the other forms run at the rate of their unit."""

_MUFU = ("rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh")
_POPC = ("popc", "clz", "bfind", "brev", "redux", "match")
_MEMORY = ("ld", "ldu", "st", "atom", "red", "ldmatrix", "stmatrix")
_SHUFFLE = ("shfl", "vote", "movmatrix", "elect", "activemask")
_UNITS = {"f32": "f32", "f64": "f64", "f16": "f16x2", "f16x2": "f16x2"} | dict.fromkeys(
    ("bf16", "bf16x2"), "bf16x2"
)
_FLOAT = ("add", "sub", "mul", "mad", "fma", "min", "max", "neg", "abs", "setp", "set", "testp")
_OF_TENSOR = {"u8": "s8", "u4": "s4", "e4m3": "fp8", "e5m2": "fp8"}


def cost(mnemonic: str, target: Target) -> float:
    """Cycles of a unit of one SM for the instruction of one warp."""
    name, suffix = split(mnemonic)
    count = machine_instructions(mnemonic, target.name)
    if count is not None:
        return count * _cycles(target, "int")
    if name in ("mma", "wgmma"):
        return _tensor_cycles(name, suffix, target)
    if name in EXPANSIONS:
        counts = [EXPANSIONS[name][part] for part in suffix if part in EXPANSIONS[name]]
        if counts:
            return max(counts) * _cycles(target, "int")
    if name in _MEMORY or name == "cp":
        return _memory_cycles(name, suffix)
    return _cycles(target, unit_of(name, suffix)) * _width(name, suffix)


def unit_of(name: str, suffix: tuple[str, ...]) -> str:
    """The unit of an SM that runs a scalar instruction: one of `target.LANES_OF`."""
    types = types_of(suffix)
    if name in _MUFU or name in _POPC:
        return "mufu"
    if name == "cvt":
        return "cvt"
    if name in _SHUFFLE:
        return "shuffle"
    if name in ("shl", "shr", "shf", "bfe", "bfi"):
        return "shift"
    if name in _FLOAT and types and types[-1] in _UNITS:
        return _UNITS[types[-1]]
    return "mul" if name in ("mul", "mad", "dp4a", "dp2a") else "int"


def _cycles(target: Target, unit: str) -> float:
    return target.threads_per_warp / target.lanes[unit]


def _width(name: str, suffix: tuple[str, ...]) -> int:
    """Machine instructions of one on 64-bit integers; a product of them takes four."""
    types = types_of(suffix)
    wide = bool(types) and register_kind(types[-1]) == "b64" and types[-1] != "f32x2"
    if not wide or name in ("mov", "cvt"):
        return 1
    return 4 if name in ("mul", "mad") else 2


def _memory_cycles(name: str, suffix: tuple[str, ...]) -> float:
    """Cycles of the load and store units, by the bytes of each thread."""
    if name in ("ldmatrix", "stmatrix"):
        return float(next((part[1:] for part in suffix if re.fullmatch(r"x\d", part)), 1))
    if name == "cp":
        return 1.0 if {"bulk", "commit_group", "wait_group", "wait_all"} & set(suffix) else 4.0
    bits = {"b16": 16, "b64": 64, "f64": 64, "b128": 128}
    types = types_of(suffix)
    each = bits.get(register_kind(types[-1]) or "", 32) if types else 32
    count = next((int(part[1:]) for part in suffix if re.fullmatch(r"v\d", part)), 1)
    return max(1.0, each * count / LOAD_LANES)


def _tensor_cycles(name: str, suffix: tuple[str, ...], target: Target) -> float:
    """Cycles of the tensor cores of an SM; of wgmma, those that a warp of its four stands for.

    The 2:4 sparse form does its dense shape at twice the rate.
    """
    if name == "wgmma" and "mma_async" not in suffix:
        return 1.0
    m, n, k = shape_of(suffix)
    types = [part for part in suffix if re.fullmatch(r"[a-z]+\d+(m\d+)?", part)]
    operand = next(_OF_TENSOR.get(t, t) for t in _operand_types(types))
    rates = target.wgmma if name == "wgmma" else target.tensor
    sparse = any(part.split("::")[0] == "sp" for part in suffix)
    flops = 2 * m * n * k / (2 if sparse else 1) / (4 if name == "wgmma" else 1)
    return flops / rates.get(operand, target.tensor["f16"])


def _operand_types(types: list[str]) -> list[str]:
    """The types after that of the result, which is the first."""
    return types[1:2] or types
