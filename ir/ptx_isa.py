"""The instructions of PTX: one table that says what each takes and gives, and where it exists.

    Row("mma", "D A B C", since=80, version=(7, 0), needs=("m16n8k64", "s4"), emulated=90, cost=...)

A row applies to the instructions of its name whose suffix has all parts of `needs`; of several, the
one that needs most. `slots` is the order of operands in the text: `d` a result, `D` results in
braces (without braces if there is one), `p` an optional second result after a bar, `a` an operand,
`A` operands in braces, `m` an address, `a?` an optional operand. What a mnemonic gives follows from
its suffix; `result_registers` below says how.

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
    """`ldmatrix...x4` gives four registers of 32 bits."""
    return ("b32",) * int(next(p for p in suffix if re.fullmatch(r"x\d", p))[1:])


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
    `version` is the lowest `.version` and `since` the lowest compute capability (80 is 8.0) that
    have it; `only` names the targets that do where that is not all later ones; `emulated` lists
    targets on which it becomes many machine instructions. `cost` is issue slots of a warp.
    `tied` instructions update their results in place: the last operands in braces are their values
    before.
    """

    name: str
    slots: str
    results: Results | None = None
    effect: str = "pure"
    needs: tuple[str, ...] = ()
    version: tuple[int, int] = (6, 3)
    since: int = 75
    only: tuple[str, ...] = ()
    emulated: tuple[str, ...] = ()
    cost: float = 1.0
    tied: bool = False


def _unary(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name, "d a", _last_type) for name in names)


def _binary(*names: str) -> tuple[Row, ...]:
    return tuple(Row(name, "d a b", _last_type) for name in names)


_LATER = ("sm_89", "sm_90", "sm_90a", "sm_100", "sm_120")
_HOPPER_ON = ("sm_90", "sm_90a", "sm_100", "sm_120")

TABLE: tuple[Row, ...] = (
    # Arithmetic
    *_binary("add", "sub", "min", "max", "div", "rem"),
    *_binary("and", "or", "xor", "shl", "shr", "copysign"),
    Row("add", "d a b", _last_type, needs=("bf16x2",), version=(7, 8), since=90),
    Row("sub", "d a b", _last_type, needs=("bf16x2",), version=(7, 8), since=90),
    Row("mul", "d a b", _wide),
    *(Row(name, "d a b c", _last_type) for name in ("fma", "sad")),
    Row("fma", "d a b c", _last_type, needs=("bf16x2",), version=(7, 0), since=80),
    Row("fma", "d a b c", _last_type, needs=("f32x2",), version=(8, 6), since=100),
    Row("mad", "d a b c", _wide),
    *_unary("neg", "abs", "not", "cnot", "brev"),
    *_unary("rcp", "sqrt", "rsqrt", "sin", "cos", "lg2", "ex2"),
    Row("tanh", "d a", _last_type, version=(7, 0)),
    Row("max", "d a b", _last_type, needs=("NaN", "f32"), version=(7, 0), since=80),
    Row("min", "d a b", _last_type, needs=("NaN", "f32"), version=(7, 0), since=80),
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
    Row("cvt", "d a", _first_type, needs=("tf32",), version=(7, 0), since=80),
    Row("cvt", "d a", _first_type, needs=("rn", "tf32"), version=(7, 8), since=90),
    Row("cvt", "d a b?", _first_type, needs=("bf16x2",), version=(7, 0), since=80),
    Row("cvt", "d a b?", _first_type, needs=("f16x2",), version=(7, 0), since=80),
    Row("cvt", "d a", _first_type, needs=("bf16",), version=(7, 1), since=80),
    Row("cvt", "d a b", _first_type, needs=("e4m3x2",), version=(8, 1), since=89),
    Row("cvt", "d a b", _first_type, needs=("e5m2x2",), version=(8, 1), since=89),
    Row("cvt", "d a b c", _fixed("b32"), needs=("pack",), version=(6, 5)),
    Row("cvta", "d a", _last_type),
    Row("isspacep", "d a", _fixed("pred")),
    Row("mapa", "d a b", _last_type, version=(7, 8), since=90),
    # Memory
    Row("ld", "D m a?", _vector, "read"),
    Row("ldu", "D m", _vector, "read"),
    Row("ld", "D m a?", _vector, "read", needs=("v8",), version=(8, 8), since=100),
    Row("st", "m A a?", effect="write"),
    Row("st", "m A m", effect="write", needs=("async",), version=(8, 1), since=90),
    Row("atom", "D m A b?", _vector, "sync"),
    Row("red", "m A", effect="sync"),
    *(
        Row("red", "m A", effect="sync", needs=(v, t), version=(8, 1), since=90)
        for v in ("v2", "v4", "v8")
        for t in ("f32", "f16", "bf16", "f16x2", "bf16x2")
    ),
    Row("prefetch", "m", effect="write"),
    Row("prefetchu", "m", effect="write"),
    Row("discard", "m a", effect="write", version=(7, 4), since=80),
    Row("applypriority", "m a", effect="write", version=(7, 4), since=80),
    Row("createpolicy", "d a? b?", _fixed("b64"), version=(7, 4), since=80),
    Row("cp", "m m a b? c?", effect="write", needs=("async",), version=(7, 0), since=80),
    Row("cp", "", effect="sync", needs=("async", "commit_group"), version=(7, 0), since=80),
    Row("cp", "a", effect="sync", needs=("async", "wait_group"), version=(7, 0), since=80),
    Row("cp", "", effect="sync", needs=("async", "wait_all"), version=(7, 0), since=80),
    Row("cp", "m m a m b?", effect="write", needs=("async", "bulk"), version=(8, 0), since=90),
    Row("cp", "m m a", effect="write", needs=("async", "bulk", "bulk_group"), version=(8, 0),
        since=90),  # fmt: skip
    Row("cp", "", effect="sync", needs=("async", "bulk", "commit_group"), version=(8, 0), since=90),
    Row("cp", "a", effect="sync", needs=("async", "bulk", "wait_group"), version=(8, 0), since=90),
    Row("cp", "m", effect="sync", needs=("async", "mbarrier"), version=(7, 0), since=80),
    # Matrices
    Row("ldmatrix", "D m", _matrix, "read", version=(6, 5)),
    Row("stmatrix", "m A", effect="write", version=(7, 8), since=90),
    Row("movmatrix", "d a", _fixed("b32"), "sync", version=(7, 8)),
    Row("mma", "D A B C", _accumulators(32), version=(7, 0), since=80),
    *(
        Row("mma", "D A B C", _accumulators(32), needs=(shape, "s4"), version=(7, 0), since=80,
            emulated=_HOPPER_ON, cost=cost)
        for shape, cost in (("m16n8k64", 190.0), ("m16n8k32", 100.0))
    ),  # fmt: skip
    Row("mma", "D A B C", _accumulators(32), needs=("xor", "popc"), version=(7, 0), since=80,
        emulated=_HOPPER_ON),  # fmt: skip
    Row("mma", "D A B C", _accumulators(32), needs=("and", "popc"), version=(7, 1), since=80,
        emulated=("sm_100", "sm_120")),  # fmt: skip
    *(
        Row("mma", "D A B C", _accumulators(32), needs=(f8,), version=(8, 4), since=89,
            emulated=("sm_90", "sm_90a", "sm_100"))
        for f8 in ("e4m3", "e5m2")
    ),  # fmt: skip
    Row("mma", "D A B C e a", _accumulators(32), needs=("sp::ordered_metadata",), version=(8, 5),
        since=80),  # fmt: skip
    Row("mma", "D A B C e a", _accumulators(32), needs=("sp",), version=(7, 1), since=80,
        emulated=("sm_100", "sm_120")),  # fmt: skip
    *(
        Row("wgmma", "", effect="sync", needs=(part,), version=(8, 0), only=("sm_90a",))
        for part in ("fence", "commit_group")
    ),
    Row("wgmma", "a", effect="sync", needs=("wait_group",), version=(8, 0), only=("sm_90a",)),
    # The accumulators come last among the operands, tied to the results; the text has them once.
    Row("wgmma", "D A b c? e? f? g? h?", _accumulators(128), "sync", needs=("mma_async",),
        version=(8, 0), only=("sm_90a",), tied=True),  # fmt: skip
    # Threads of a warp, of a block
    Row("shfl", "d p a b c e", _last_type, "sync"),
    Row("vote", "d a b", _vote, "sync"),
    Row("match", "d p a b", _fixed("b32"), "sync"),
    Row("redux", "d a b", _last_type, "sync", version=(7, 0), since=80),
    Row("activemask", "d", _fixed("b32"), "sync"),
    Row("elect", "d p a", _fixed("b32", "pred"), "sync", version=(8, 0), since=90),
    *(Row(name, "a? b?", effect="sync") for name in ("bar", "barrier")),
    Row("bar", "d a b? c?", _fixed("pred"), "sync", needs=("red", "pred")),
    Row("bar", "d a b? c?", _fixed("b32"), "sync", needs=("red", "popc")),
    Row("barrier", "a? b?", effect="sync", needs=("cluster",), version=(7, 8), since=90),
    *(Row(name, "", effect="sync") for name in ("membar", "fence")),
    Row("fence", "", effect="sync", needs=("proxy",), version=(8, 0), since=90),
    Row("mbarrier", "m a", effect="sync", needs=("init",), version=(7, 0), since=80),
    Row("mbarrier", "m", effect="sync", needs=("inval",), version=(7, 0), since=80),
    Row("mbarrier", "d m b?", _fixed("b64"), "sync", needs=("arrive",), version=(7, 0), since=80),
    Row("mbarrier", "d m b?", _fixed("b64"), "sync", needs=("arrive", "expect_tx"), version=(8, 0),
        since=90),  # fmt: skip
    Row("mbarrier", "m b", effect="sync", needs=("expect_tx",), version=(8, 0), since=90),
    Row("mbarrier", "d m b c?", _fixed("pred"), "sync", needs=("test_wait",), version=(7, 0),
        since=80),  # fmt: skip
    Row("mbarrier", "d m b c?", _fixed("pred"), "sync", needs=("try_wait",), version=(7, 8),
        since=90),  # fmt: skip
    Row("griddepcontrol", "", effect="sync", version=(7, 8), since=90),
    Row("setmaxnreg", "a", effect="sync", version=(8, 0), only=("sm_90a",)),
    Row("nanosleep", "a", effect="sync"),
    Row("trap", "", effect="sync"),
    Row("pmevent", "a", effect="sync"),
)  # fmt: skip

CONTROL = ("bra", "brx", "ret", "exit", "call")
"""Instructions that have operations of their own in the dialect."""

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
