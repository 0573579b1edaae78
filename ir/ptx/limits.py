"""Where an instruction of PTX exists, and where it is a machine instruction of its own.

Enters: a mnemonic (`mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32`) and the name of a target.
Leaves: the lowest `.version` that has it, whether the target has it, whether it is native there.

    Limit("mma", "m16n8k64 s4", version=(7, 0), since=80, emulated={"sm_90": 190, ...})

A limit holds for the instructions of its name whose suffix has all the parts it lists (`f32.bf16`
is two neighbours, `sp::` any part that begins so) and which have as many operands; all limits that
hold for an instruction hold together. `tests/backends/test_ptx_limits.py` assembles an instruction
for each row and target and compares: every number here is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from hectorite.ir.ptx.isa import split
from hectorite.ir.target import TARGETS, target

Version = tuple[int, int]

OLDEST: Version = (6, 3)
"""The `.version` of everything without a limit."""

TARGET_VERSIONS: Mapping[str, Version] = {
    "sm_75": (6, 3),
    "sm_80": (7, 0),
    "sm_86": (7, 1),
    "sm_89": (7, 8),
    "sm_90": (7, 8),
    "sm_90a": (8, 0),
    "sm_100": (8, 6),
    "sm_100a": (8, 6),
    "sm_120": (8, 7),
    "sm_120a": (8, 7),
}
"""The lowest `.version` that knows each `.target`."""


@dataclass(frozen=True)
class Limit:
    """`version` and `since` (a capability, 80 is 8.0) are the lowest that have the instructions;
    `only` are the targets that have them where not all later ones do; `emulated` gives the number
    of machine instructions on those targets that have none of their own for it."""

    name: str
    parts: frozenset[str]
    version: Version = OLDEST
    since: int = 75
    only: tuple[str, ...] = ()
    emulated: Mapping[str, int] | None = None
    operands: int = 0
    """It holds from so many operands on, results not counted."""
    without: str = ""
    """It does not hold where the suffix has this part."""


def legal(mnemonic: str, on: str, operands: int = 0) -> bool:
    """Does the target `on` have an instruction with so many operands, results not counted?"""
    return why_not(mnemonic, on, operands) is None


def why_not(mnemonic: str, on: str, operands: int = 0) -> str | None:
    """Which targets have an instruction that the target `on` lacks; None if it has it."""
    for limit in limits_of(mnemonic, operands):
        if limit.only and on not in limit.only:
            return ", ".join(limit.only) + " only"
        if not limit.only and _capability(on) < limit.since:
            return f"sm_{limit.since} and later"
    return None


def native(mnemonic: str, on: str, operands: int = 0) -> bool:
    """Has the target `on` a machine instruction for it, and not only a sequence of others?"""
    return legal(mnemonic, on, operands) and machine_instructions(mnemonic, on) is None


def machine_instructions(mnemonic: str, on: str) -> int | None:
    """With how many machine instructions a target emulates an instruction; None if it does not."""
    counts = [
        (len(limit.parts), limit.emulated[on])
        for limit in limits_of(mnemonic)
        if limit.emulated is not None and on in limit.emulated
    ]
    return max(counts)[1] if counts else None


def lowest_version(mnemonic: str, on: str | None = None, operands: int = 0) -> Version:
    """The lowest `.version` that has an instruction, and that knows the target `on` if given."""
    least = [limit.version for limit in limits_of(mnemonic, operands)]
    if on is not None:
        least.append(TARGET_VERSIONS.get(on, OLDEST))
    return max(least, default=OLDEST)


@cache
def limits_of(mnemonic: str, operands: int = 0) -> tuple[Limit, ...]:
    """The limits that hold for an instruction with so many operands."""
    name, suffix = split(mnemonic)
    parts = {*suffix, *(part.split("::")[0] + "::" for part in suffix if "::" in part)}
    parts |= {f"{left}.{right}" for left, right in pairwise(suffix)}
    return tuple(
        limit
        for limit in _BY_NAME.get(name, ())
        if limit.parts <= parts and limit.operands <= operands and limit.without not in suffix
    )


def _capability(on: str) -> int:
    if on in TARGETS:
        major, minor = target(on).capability
        return 10 * major + minor
    return int("".join(letter for letter in on if letter.isdigit()))


def _limits(
    names: str,
    parts: str | tuple[str, ...] = "",
    version: Version = OLDEST,
    since: int = 75,
    only: tuple[str, ...] = (),
    emulated: Mapping[str, int] | None = None,
    operands: int = 0,
    without: str = "",
) -> list[Limit]:
    """The same limit for several names, and for several lists of parts."""
    alternatives = (parts,) if isinstance(parts, str) else parts
    return [
        Limit(name, frozenset(words.split()), version, since, only, emulated, operands, without)
        for name in names.split()
        for words in alternatives
    ]


def _from_hopper(sm_90: int, sm_100: int, sm_120: int | None = None) -> Mapping[str, int]:
    """Emulation on sm_90 and all later targets."""
    last = sm_100 if sm_120 is None else sm_120
    return {"sm_90": sm_90, "sm_90a": sm_90, "sm_100": sm_100, "sm_120": last}


_MEMORY = "ld st atom red"
_INTEGERS = tuple(f"bf16 {sign}{bits}" for sign in "su" for bits in (16, 32, 64))
_WIDE = ("v8 f32", "v8 b32", "v8 s32", "v8 u32", "v4 b64", "v4 s64", "v4 u64", "v4 f64")
_VECTORS = (
    *(f"v{n} {t}" for n in (2, 4) for t in ("f32", "f16", "bf16", "f16x2", "bf16x2")),
    "v8 f16",
    "v8 bf16",
)
_FP8 = ("e4m3", "e5m2")


def _sparse(*parts: str) -> tuple[str, ...]:
    """Both sparse forms."""
    return tuple(f"{form} {words}" for form in ("sp", "sp::") for words in parts)


LIMITS: tuple[Limit, ...] = (
    # Arithmetic
    *_limits("add sub mul", ("bf16", "bf16x2"), (7, 8), 90),
    *_limits("add min max", ("s16x2", "u16x2"), (8, 0), 90),
    *_limits("min max", "relu", (8, 0), 90),
    *_limits("add sub mul fma", "f32x2", (8, 6), 100),
    *_limits("fma", ("bf16", "bf16x2", "relu"), (7, 0), 80),
    *_limits("min max", ("NaN", "f16", "f16x2", "bf16", "bf16x2"), (7, 0), 80),
    *_limits("min max", "xorsign", (7, 2), 86),
    *_limits("min max", "f32", (8, 8), 100, operands=3),
    *_limits("neg abs", ("bf16", "bf16x2"), (7, 0), 80),
    *_limits("abs", ("f16", "f16x2"), (6, 5)),
    *_limits("ex2", ("f16", "f16x2"), (7, 0)),
    *_limits("tanh", "", (7, 0)),
    *_limits("ex2 tanh", ("bf16", "bf16x2"), (7, 8), 90),
    *_limits("setp set", ("bf16", "bf16x2"), (7, 8), 90),
    # Conversions
    *_limits("cvt", ("bf16", "bf16x2", "f16x2", "tf32", "relu"), (7, 0), 80),
    *_limits("cvt", "f32.bf16", (7, 1), 80),
    *_limits("cvt", (*_INTEGERS, "bf16 f16", "bf16 f64", "rni bf16"), (7, 8), 90),
    *_limits("cvt", ("rn tf32", "rz tf32"), (7, 8), 90),
    *_limits("cvt", "satfinite tf32", (8, 1), 80),
    *_limits("cvt", "rn satfinite tf32", (8, 6), 100),
    *_limits("cvt", ("e4m3x2", "e5m2x2"), (8, 1), 89),
    *_limits("cvt", "pack", (6, 5)),
    # Memory
    *_limits(f"{_MEMORY} ldmatrix isspacep", "shared::cta", (7, 8)),
    *_limits(f"{_MEMORY} isspacep mapa", "shared::cluster", (7, 8), 90),
    *_limits("mapa", "", (7, 8), 90),
    *_limits(f"{_MEMORY} fence", "cluster", (7, 8), 90),
    *_limits("ld st", ("L1::no_allocate", "L1::evict_last", "L1::evict_first"), (7, 4)),
    *_limits("ld", ("L2::64B", "L2::128B"), (7, 4)),
    *_limits("ld", "L2::256B", (7, 4), 80),
    *_limits(_MEMORY, "L2::cache_hint", (7, 4), 80),
    *_limits("ld st", "b128", (8, 3)),
    *_limits("ld st", _WIDE, (8, 8), 100),
    *_limits("st red", "async", (8, 1), 90),
    *_limits("atom red", ("bf16", "bf16x2"), (7, 8), 90),
    *_limits("atom red", _VECTORS, (8, 1), 90),
    *_limits("atom", "b128", (8, 3), 90),
    *_limits("prefetch", "L2::evict_last", (7, 4), 80),
    *_limits("discard applypriority createpolicy", "", (7, 4), 80),
    # Copies
    *_limits("cp", "async", (7, 0), 80),
    *_limits("cp", ("L2::64B", "L2::128B", "L2::256B", "L2::cache_hint"), (7, 4), 80),
    *_limits("cp", "mbarrier shared::cta", (7, 8), 80),
    *_limits("cp", "bulk", (8, 0), 90),
    *_limits("cp", "bulk mbarrier::complete_tx::bytes shared::cta global", (8, 6), 90),
    # Matrices
    *_limits("ldmatrix", "", (6, 5)),
    *_limits("ldmatrix", "b8", (8, 6), only=("sm_100a", "sm_120a")),
    *_limits("stmatrix", "", (7, 8), 90),
    *_limits("movmatrix", "", (7, 8)),
    *_limits("mma", "", (6, 5)),
    *_limits("mma", ("f16 m16n8k16", "tf32", "bf16", "f64"), (7, 0), 80),
    *_limits("mma", ("f64 m16n8k4", "f64 m16n8k8", "f64 m16n8k16"), (7, 8), 90),
    *_limits(
        "mma",
        tuple(f"{shape} {t}" for shape in ("m16n8k16", "m16n8k32") for t in ("s8", "u8")),
        (7, 0),
        80,
    ),
    *_limits("mma", ("m16n8k32 s4", "m16n8k32 u4", "m16n8k64"), (7, 0), 80),
    *_limits("mma", "m16n8k64 s4", emulated=_from_hopper(190, 190)),
    *_limits("mma", "m16n8k64 u4", emulated=_from_hopper(27, 27)),
    *_limits("mma", "m16n8k64 u4 s4", emulated=_from_hopper(83, 83)),
    *_limits("mma", "m16n8k32 s4", emulated=_from_hopper(100, 99)),
    *_limits("mma", "m16n8k32 u4", emulated=_from_hopper(19, 19)),
    *_limits("mma", "m8n8k32 s4", emulated=_from_hopper(67, 70)),
    *_limits("mma", "m8n8k32 u4", emulated=_from_hopper(15, 18)),
    *_limits("mma", "xor", (7, 0)),
    *_limits("mma", ("b1 m16n8k128", "b1 m16n8k256"), (7, 0), 80),
    *_limits("mma", "and popc", (7, 1), 80),
    *_limits("mma", "m16n8k256 xor", emulated=_from_hopper(16, 140)),
    *_limits("mma", "m16n8k128 xor", emulated=_from_hopper(12, 87)),
    *_limits("mma", "m8n8k128 xor", emulated=_from_hopper(10, 64)),
    *_limits("mma", "m16n8k256 and", emulated={"sm_100": 109, "sm_120": 109}),
    *_limits("mma", "m16n8k128 and", emulated={"sm_100": 56, "sm_120": 56}),
    *_limits("mma", "m8n8k128 and", emulated={"sm_100": 44, "sm_120": 44}),
    *_limits("mma", _FP8, (8, 4), 89, emulated={"sm_90": 18, "sm_90a": 18, "sm_100": 18}),
    *_limits("mma", tuple(f"{t} f16" for t in _FP8), (8, 7), 89),
    *_limits(
        "mma",
        tuple(f"{t} m16n8k16" for t in _FP8),
        (8, 7),
        89,
        emulated={"sm_90": 12, "sm_90a": 12, "sm_100": 12},
    ),
    *_limits("mma", "kind::f8f6f4", (8, 6), only=("sm_100a", "sm_120a")),
    *_limits("mma", ("e2m1", "e2m3", "e3m2"), (8, 7), only=("sm_120a",)),
    # Sparse matrices; Blackwell has no plain form of f16 and bytes, whose metadata it must sort
    *_limits("mma", ("sp", "sp::"), (7, 1), 80),
    *_limits("mma", "sp::ordered_metadata", (8, 5), 80),
    *_limits("mma", "sp f16", emulated={"sm_100": 53, "sm_120": 53}),
    *_limits("mma", "sp f16 m16n8k16", emulated={"sm_100": 35, "sm_120": 35}),
    *_limits("mma", ("sp s8 m16n8k32", "sp u8 m16n8k32"), emulated={"sm_100": 50, "sm_120": 50}),
    *_limits("mma", ("sp s8", "sp u8"), emulated={"sm_100": 73, "sm_120": 73}),
    *_limits("mma", _sparse("m16n8k128 s4"), emulated=_from_hopper(249, 343)),
    *_limits("mma", _sparse("m16n8k64 s4"), emulated=_from_hopper(130, 192)),
    *_limits("mma", _sparse("m16n8k128 u4"), emulated=_from_hopper(33, 129)),
    *_limits("mma", _sparse("m16n8k64 u4"), emulated=_from_hopper(22, 86)),
    *_limits("mma", _sparse(*_FP8), emulated={"sm_90": 90, "sm_90a": 90, "sm_100": 156}),
    *_limits("wgmma", "", (8, 0), only=("sm_90a",)),
    *_limits("wgmma", "sp", (8, 2), only=("sm_90a",)),
    *_limits("wgmma", ("u8.s8", "s8.u8"), (8, 4), only=("sm_90a",)),
    # Threads of a warp, of a block, of a cluster
    *_limits("redux", "", (7, 0), 80),
    *_limits("redux", "f32", (8, 6), only=("sm_100a",)),
    *_limits("elect", "", (8, 0), 90),
    *_limits("bar barrier", "cta", (7, 8)),
    *_limits("barrier", "cluster", (7, 8), 90),
    *_limits("barrier", ("cluster release", "cluster relaxed", "cluster acquire"), (8, 0), 90),
    *_limits("fence", "proxy alias", (7, 5)),
    *_limits("fence", ("proxy async", "mbarrier_init"), (8, 0), 90),
    *_limits("fence", "tensormap::", (8, 3), 90),
    *_limits("mbarrier", "", (7, 0), 80),
    *_limits("mbarrier", "arrive", (7, 8), 90, operands=2, without="noComplete"),
    *_limits("mbarrier", "test_wait parity", (7, 1), 80),
    *_limits("mbarrier", "shared::cta", (7, 8), 80),
    *_limits("mbarrier", ("release", "acquire"), (8, 0), 80),
    *_limits("mbarrier", "relaxed", (8, 0), 90),
    *_limits("mbarrier", ("arrive relaxed", "test_wait relaxed", "try_wait relaxed"), (8, 6), 90),
    *_limits("mbarrier", "try_wait", (7, 8), 90),
    *_limits("mbarrier", ("expect_tx", "shared::cluster", "cluster"), (8, 0), 90),
    *_limits("griddepcontrol", "", (7, 8), 90),
    *_limits("setmaxnreg", "", (8, 0), only=("sm_90a", "sm_100a", "sm_120a")),
)

_BY_NAME: dict[str, list[Limit]] = {}
for _limit in LIMITS:
    _BY_NAME.setdefault(_limit.name, []).append(_limit)
