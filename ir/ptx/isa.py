"""The instructions of PTX: one table that says what each takes and gives.

    Row("mma", "D A B C e a", _accumulators(32), needs=("sp",))

A row applies to the instructions of its name whose suffix has all parts of `needs`; of several, the
one that needs most. `slots` is the order of operands in the text: `d` a result, `D` results in
braces (without braces if there is one), `p` an optional second result after a bar, `a` an operand,
`A` operands in braces, `m` an address, `a?` an optional operand. What a mnemonic gives follows from
its suffix; `result_registers` below says how. On which targets it exists is in `ir.ptx.limits`.

Registers have no signedness: an instruction says how it reads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

REGISTERS = ("pred", "b16", "b32", "b64", "b128", "f32", "f64")
"""Kinds of registers."""

_KINDS = {
    "pred": "pred",
    "f32": "f32",
    "f64": "f64",
    "f16": "b16",
    "bf16": "b16",
    "b16": "b16",
    # Integers of 8 bits are kept in 32: loads, stores and conversions allow a wider register.
    **{f"{sign}{bits}": "b32" for sign in "sub" for bits in (8, 32)},
    **dict.fromkeys(("f16x2", "bf16x2", "tf32", "s16x2", "u16x2", "e4m3x4", "e5m2x4"), "b32"),
    **dict.fromkeys(("s16", "u16", "e4m3x2", "e5m2x2"), "b16"),
    **{f"{sign}64": "b64" for sign in "sub"},
    "f32x2": "b64",
    "b128": "b128",
}


def register_kind(type: str) -> str | None:
    """The kind of register that holds a PTX type, None if it is not a type."""
    return _KINDS.get(type)


def types_of(suffix: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of a suffix that are types, in order."""
    return tuple(part for part in suffix if part in _KINDS)


Results = Callable[[tuple[str, ...]], tuple[str, ...]]


def _first_type(suffix: tuple[str, ...]) -> tuple[str, ...]:
    return (_KINDS[types_of(suffix)[0]],)


def _last_type(suffix: tuple[str, ...]) -> tuple[str, ...]:
    return (_KINDS[types_of(suffix)[-1]],)


def _wide(suffix: tuple[str, ...]) -> tuple[str, ...]:
    """`mul.wide.s32` gives twice the bits; other forms the type itself."""
    kind = _KINDS[types_of(suffix)[-1]]
    if "wide" not in suffix:
        return (kind,)
    return ("b32" if types_of(suffix)[-1].endswith("16") else "b64",)


def _vector(suffix: tuple[str, ...]) -> tuple[str, ...]:
    """`ld.global.v4.f32` gives four."""
    count = next((int(p[1:]) for p in suffix if re.fullmatch(r"v\d", p)), 1)
    return _last_type(suffix) * count


def _fixed(*kinds: str) -> Results:
    return lambda suffix: kinds


def _matrix(suffix: tuple[str, ...]) -> tuple[str, ...]:
    """`ldmatrix...x4` gives four registers of 32 bits, of 16 by 16 bytes twice as many."""
    count = int(next(p for p in suffix if re.fullmatch(r"x\d", p))[1:])
    return ("b32",) * (2 * count if "m16n16" in suffix else count)


def shape_of(suffix: tuple[str, ...]) -> tuple[int, int, int]:
    """m, n and k of a matrix instruction."""
    for part in suffix:
        if match := re.fullmatch(r"m(\d+)n(\d+)k(\d+)", part):
            return int(match[1]), int(match[2]), int(match[3])
    raise ValueError("a matrix instruction without a shape")


def _accumulators(threads: int) -> Results:
    def results(suffix: tuple[str, ...]) -> tuple[str, ...]:
        m, n, _ = shape_of(suffix)
        type = types_of(suffix)[0]
        each = m * n // threads
        if type == "f16":
            return ("b32",) * (each // 2)
        return (_KINDS[type],) * each

    return results


def _vote(suffix: tuple[str, ...]) -> tuple[str, ...]:
    return ("b32",) if "ballot" in suffix else ("pred",)


@dataclass(frozen=True)
class Row:
    """What is so of some instructions of one name.

    `effect` is "pure", "read" or "write" (memory), or "sync" (must neither move nor be merged).
    `tied` instructions update their results in place: the last operands in braces are their values
    before.
    """

    name: str
    slots: str
    results: Results | None = None
    effect: str = "pure"
    needs: tuple[str, ...] = ()
    tied: bool = False


def _unary(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name, "d a", _last_type) for name in names)


def _binary(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name, "d a b", _last_type) for name in names)


TABLE: tuple[Row, ...] = (
    # Arithmetic
    *_binary("add", "sub", "div", "rem"),
    *(Row(name, "d a b c?", _last_type) for name in ("min", "max")),
    *_binary("and", "or", "xor", "shl", "shr", "copysign"),
    Row("mul", "d a b", _wide),
    *(Row(name, "d a b c", _last_type) for name in ("fma", "sad")),
    Row("mad", "d a b c", _wide),
    *_unary("neg", "abs", "not", "cnot", "brev"),
    *_unary("rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2", "tanh"),
    *(Row(name, "d a", _fixed("b32")) for name in ("popc", "clz", "bfind")),
    Row("bfe", "d a b c", _last_type),
    Row("bfi", "d a b c e", _last_type),
    Row("shf", "d a b c", _last_type),
    Row("prmt", "d a b c", _last_type),
    Row("lop3", "d a b c e", _last_type),
    *(Row(name, "d a b c", _fixed("b32")) for name in ("dp4a", "dp2a")),
    Row("testp", "d a", _fixed("pred")),
    Row("setp", "d p a b c?", _fixed("pred")),
    Row("set", "d a b", _first_type),
    Row("selp", "d a b c", _last_type),
    Row("slct", "d a b c", _first_type),
    # Moves and conversions
    Row("mov", "d a", _last_type),
    Row("cvt", "d a b?", _first_type),
    Row("cvt", "d a b c?", _fixed("b32"), needs=("pack",)),
    Row("cvta", "d a", _last_type),
    Row("isspacep", "d a", _fixed("pred")),
    Row("mapa", "d a b", _last_type),
    # Memory
    Row("ld", "D m a?", _vector, "read"),
    Row("ldu", "D m", _vector, "read"),
    Row("st", "m A a?", effect="write"),
    Row("st", "m A m", effect="write", needs=("async",)),
    Row("atom", "D m A b?", _vector, "sync"),
    Row("red", "m A a?", effect="sync"),
    Row("red", "m A m", effect="sync", needs=("async",)),
    Row("prefetch", "m", effect="write"),
    Row("prefetchu", "m", effect="write"),
    Row("discard", "m a", effect="write"),
    Row("applypriority", "m a", effect="write"),
    Row("createpolicy", "d a? b?", _fixed("b64")),
    Row("cp", "m m a b? c?", effect="write", needs=("async",)),
    Row("cp", "", effect="sync", needs=("async", "commit_group")),
    Row("cp", "a", effect="sync", needs=("async", "wait_group")),
    Row("cp", "", effect="sync", needs=("async", "wait_all")),
    Row("cp", "m", effect="sync", needs=("async", "mbarrier", "arrive")),
    Row("cp", "m m a m b?", effect="write", needs=("async", "bulk")),
    Row("cp", "m m a b?", effect="write", needs=("async", "bulk", "bulk_group")),
    Row("cp", "m m m b? c?", effect="write", needs=("async", "bulk", "tensor")),
    Row("cp", "m m b?", effect="write", needs=("async", "bulk", "tensor", "bulk_group")),
    Row("cp", "m a b?", effect="write", needs=("async", "bulk", "prefetch")),
    Row("cp", "", effect="sync", needs=("async", "bulk", "commit_group")),
    Row("cp", "a", effect="sync", needs=("async", "bulk", "wait_group")),
    # Matrices
    Row("ldmatrix", "D m", _matrix, "read"),
    Row("stmatrix", "m A", effect="write"),
    Row("movmatrix", "d a", _fixed("b32"), "sync"),
    Row("mma", "D A B C", _accumulators(32)),
    Row("mma", "D A B C e a", _accumulators(32), needs=("sp",)),
    *(Row("wgmma", "", effect="sync", needs=(part,)) for part in ("fence", "commit_group")),
    Row("wgmma", "a", effect="sync", needs=("wait_group",)),
    # The accumulators come last among the operands, tied to the results; the text has them once.
    Row(
        "wgmma",
        "D A b c? e? f? g? h? i? j?",
        _accumulators(128),
        "sync",
        needs=("mma_async",),
        tied=True,
    ),
    # Threads of a warp, of a block
    Row("shfl", "d p a b c e", _last_type, "sync"),
    Row("vote", "d a b", _vote, "sync"),
    Row("match", "d p a b", _fixed("b32"), "sync"),
    Row("redux", "d a b", _last_type, "sync"),
    Row("activemask", "d", _fixed("b32"), "sync"),
    Row("elect", "d p a", _fixed("b32", "pred"), "sync"),
    *(Row(name, "a? b?", effect="sync") for name in ("bar", "barrier")),
    *(
        Row(name, "d a b? c?", _fixed(kind), "sync", needs=("red", part))
        for name in ("bar", "barrier")
        for part, kind in (("pred", "pred"), ("popc", "b32"))
    ),
    *(Row(name, "", effect="sync") for name in ("membar", "fence")),
    Row("mbarrier", "m a", effect="sync", needs=("init",)),
    Row("mbarrier", "m", effect="sync", needs=("inval",)),
    *(
        Row("mbarrier", "d m b?", _fixed("b64"), "sync", needs=(part,))
        for part in ("arrive", "arrive_drop")
    ),
    Row("mbarrier", "m b", effect="sync", needs=("expect_tx",)),
    Row("mbarrier", "d m b", _fixed("b64"), "sync", needs=("arrive", "expect_tx")),
    *(
        Row("mbarrier", "d m b c?", _fixed("pred"), "sync", needs=(part,))
        for part in ("test_wait", "try_wait")
    ),
    Row("griddepcontrol", "", effect="sync"),
    Row("setmaxnreg", "a", effect="sync"),
    Row("nanosleep", "a", effect="sync"),
    Row("trap", "", effect="sync"),
    Row("pmevent", "a", effect="sync"),
)

_BY_NAME: dict[str, list[Row]] = {}
for _row in TABLE:
    _BY_NAME.setdefault(_row.name, []).append(_row)

NAMES = tuple(_BY_NAME)
"""The names of all instructions of the table, in its order."""


def split(mnemonic: str) -> tuple[str, tuple[str, ...]]:
    """`ld.global.f32` -> ("ld", ("global", "f32"))."""
    name, *suffix = mnemonic.split(".")
    return name, tuple(suffix)


@cache
def row_of(name: str, suffix: tuple[str, ...]) -> Row | None:
    """The row of an instruction, None if the table has none."""
    parts = set(suffix) | {part.split("::")[0] for part in suffix}
    fitting = [row for row in _BY_NAME.get(name, ()) if parts.issuperset(row.needs)]
    return max(fitting, key=lambda row: len(row.needs), default=None)


def result_registers(name: str, suffix: tuple[str, ...]) -> tuple[str, ...]:
    """Kinds of registers that an instruction gives, an optional second result apart."""
    row = row_of(name, suffix)
    return row.results(suffix) if row is not None and row.results is not None else ()
