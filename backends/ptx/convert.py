"""Moves, conversions, comparisons and selections as steps over lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.float import element_of, flushed, mode_of
from hectorite.backends.ptx.formats import DTYPES, decode, encode
from hectorite.backends.ptx.integer import Builder, is_float, value_type
from hectorite.backends.ptx.lanes import Lanes
from hectorite.backends.ptx.memory import (
    GLOBAL_BASE,
    LOCAL_WINDOW,
    PARAM_WINDOW,
    SHARED_WINDOW,
    WINDOW_BYTES,
)
from hectorite.backends.ptx.thread_code import Code, Step, Target
from hectorite.ir.ptx.syntax import Braces, Immediate, Instruction, Operand, Pair, Sink

Array = npt.NDArray[Any]


def copied(values: Array) -> Array:
    return values


def mov(code: Code, at: Instruction) -> Step:
    """A copy, or the parts of a register put together or taken apart."""
    type = value_type(code, at)
    first, source = at.operands[0], at.operands[1]
    if isinstance(first, Braces):
        return _apart(code, first, source, type)
    if isinstance(source, Braces):
        return _together(code, first, source, type)
    return code.elementwise(np.positive if _is_number(type) else copied,
                            code.target(first, type), code.operand(source, type))  # fmt: skip


def _is_number(type: str) -> bool:
    return type != "pred" and DTYPES[type][1] == 1


def _part_type(code: Code, type: str, count: int) -> str:
    bits = int(type[1:].removesuffix("x2")) // count
    part = f"b{bits}"
    if part not in DTYPES:
        raise code.unsupported(f"{count} parts of .{type}")
    return part


def _together(code: Code, first: Operand, source: Braces, type: str) -> Step:
    part = _part_type(code, type, len(source.items))
    sources = [code.operand(item, part) for item in source.items]
    target = code.target(first, type)
    whole = np.dtype(DTYPES[type][0])
    shape = (len(sources),)

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        parts = [source[chosen] for source in sources]
        both = np.empty((len(parts[0]), *shape), parts[0].dtype)
        for index, values in enumerate(parts):
            both[:, index] = values
        packed = both.view(whole)
        target.store(chosen, packed[:, 0] if packed.shape[1] == 1 else packed)

    return run


def _apart(code: Code, first: Braces, source: Operand, type: str) -> Step:
    part = _part_type(code, type, len(first.items))
    targets = [
        (index, code.target(item, part))
        for index, item in enumerate(first.items)
        if not isinstance(item, Sink)
    ]
    values = code.operand(source, type)

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        parts = np.ascontiguousarray(values[chosen])
        parts = parts.view(DTYPES[part][0]).reshape(len(parts), -1)
        for index, target in targets:
            target.store(chosen, parts[:, index])

    return run


# Conversions.


def cvt(code: Code, at: Instruction) -> Step:
    """Between any two types, with rounding and saturation; pairs from two numbers or a pair."""
    if at.suffix[0] == "pack":
        return _pack(code, at)
    types = [part for part in at.suffix if part in DTYPES]
    if len(types) != 2 or {"rs", "scaled::n2::ue8m0"} & set(at.suffix):
        raise code.unsupported()
    to, source = types
    if to.endswith("x2"):
        return _pair_conversion(code, at, to, source)
    if source.endswith("x2"):
        raise code.unsupported(f"from .{source} to .{to}")
    values = code.operand(at.operands[1], source)
    target = code.target(at.operands[0], to)
    if is_float(to):
        return code.elementwise(_to_float(at, to, source), target, values)
    if is_float(source):
        return code.elementwise(_float_to_integer(at, to, source), target, values)
    return code.elementwise(_between_integers(at, to), target, values)


def _to_float(at: Instruction, to: str, source: str) -> Callable[[Array], Array]:
    mode, saturate = mode_of(at), "satfinite" in at.suffix
    whole = next((part for part in at.suffix if part in _WHOLE), None)
    ftz = "ftz" in at.suffix

    def run(a: Array) -> Array:
        values = decode(a, source) if is_float(source) else a
        if ftz and values.dtype == np.float32:
            values = flushed(values)
        if whole is not None:
            values = _WHOLE[whole](values)
        if "relu" in at.suffix:
            values = np.where(values < 0, values.dtype.type(0), values)
        if values.dtype.kind != "f" and not (to in ("f32", "f64") and mode == "rn"):
            return _integer_to(values, to, mode)
        result = encode(values, to, mode, saturate)
        if "sat" in at.suffix:
            number = decode(result, to)
            number = np.where(np.isnan(number), 0, np.clip(number, 0, 1))
            result = encode(number.astype(np.float32 if to != "f64" else np.float64), to)
        return flushed(result) if ftz and to == "f32" else result

    return run


def _integer_to(values: Array, to: str, mode: str) -> Array:
    """Integers as a float type in a rounding mode."""
    exact = values.astype(np.float64)
    if values.dtype.itemsize == 8:
        whole = exact.astype(np.longdouble) - values.astype(np.longdouble)
        error = (-whole).astype(np.float64)
        if to == "f64":
            return _next_to(exact, error, mode)
        # 64 bits may not fit in a float64: to odd, so that the second rounding is right.
        bits = exact.view(np.int64)
        fix = ((bits & 1) == 0) & (error != 0)
        step = np.where((error > 0) == (exact > 0), 1, -1)
        exact = np.where(fix, bits + step, bits).view(np.float64)
    return exact if to == "f64" else encode(exact, to, mode)


def _next_to(nearest: Array, error: Array, mode: str) -> Array:
    """`nearest + error`, a float64 and what rounding it lost, rounded in a direction instead."""
    towards = {"rz": np.zeros_like(nearest), "rm": -np.inf, "rp": np.inf}[mode]
    beyond = np.where(np.asarray(towards) > nearest, error > 0, error < 0)
    return np.where(beyond, np.nextafter(nearest, towards), nearest)


def _float_to_integer(at: Instruction, to: str, source: str) -> Callable[[Array], Array]:
    round_whole = _WHOLE[next((part for part in at.suffix if part in _WHOLE), "rzi")]
    dtype = np.dtype(DTYPES[to][0])
    limits = np.iinfo(dtype)
    nan = 1 << (limits.bits - 1) if source == "f64" or limits.bits == 64 else 0
    ftz = "ftz" in at.suffix

    def run(a: Array) -> Array:
        values = decode(a, source)
        if ftz and values.dtype == np.float32:
            values = flushed(values)
        whole = round_whole(values.astype(np.float64))
        is_nan = np.isnan(whole)
        low, high = whole <= float(limits.min), whole >= float(limits.max)
        inside = np.where(is_nan | low | high, 0.0, whole).astype(dtype)
        result = np.where(low, dtype.type(limits.min), inside)
        result = np.where(high, dtype.type(limits.max), result)
        return np.where(is_nan, np.array(nan, np.uint64).astype(dtype), result)

    return run


def _between_integers(at: Instruction, to: str) -> Callable[[Array], Array]:
    dtype = np.dtype(DTYPES[to][0])
    if "sat" not in at.suffix:
        return lambda a: a.astype(dtype)
    limits = np.iinfo(dtype)

    def run(a: Array) -> Array:
        info = np.iinfo(a.dtype)
        low, high = max(limits.min, info.min), min(limits.max, info.max)
        return np.clip(a, a.dtype.type(low), a.dtype.type(high)).astype(dtype)

    return run


_WHOLE: dict[str, Callable[[Array], Array]] = {
    "rni": np.rint,
    "rzi": np.trunc,
    "rmi": np.floor,
    "rpi": np.ceil,
}


def _pair_conversion(code: Code, at: Instruction, to: str, source: str) -> Step:
    """`cvt.rn.bf16x2.f32 d, a, b`: `a` becomes the upper half. Or a pair to a pair."""
    target, element = code.target(at.operands[0], to), element_of(to)
    mode = mode_of(at)
    saturate = "satfinite" in at.suffix or element in ("e4m3", "e5m2")

    def convert(values: Array) -> Array:
        if "relu" in at.suffix:
            values = np.where(values < 0, values.dtype.type(0), values)
        return encode(values, element, mode, saturate)

    if source.endswith("x2"):
        values = code.operand(at.operands[1], source)

        def widen(pair: Array) -> Array:
            return convert(decode(np.ascontiguousarray(pair), element_of(source)))

        return code.elementwise(widen, target, values)
    upper, lower = (code.operand(operand, source) for operand in at.operands[1:3])

    def both(upper: Array, lower: Array) -> Array:
        return np.stack([convert(lower), convert(upper)], axis=1)

    return code.elementwise(both, target, upper, lower)


def _pack(code: Code, at: Instruction) -> Step:
    """`cvt.pack.sat.s8.s32.b32 d, a, b, c`: narrow `a` and `b`, above what is left of `c`."""
    types = [part for part in at.suffix if part in DTYPES]
    narrow = np.dtype(DTYPES[types[0]][0])
    limits, bits = np.iinfo(narrow), 8 * narrow.itemsize
    a, b = (code.operand(operand, "s32") for operand in at.operands[1:3])
    rest = at.operands[3:]
    c = code.operand(rest[0] if rest else Immediate(0), "u32")
    mask = np.uint32((1 << bits) - 1)

    def run(a: Array, b: Array, c: Array) -> Array:
        high, low = (
            np.clip(v, limits.min, limits.max).astype(np.int32).view(np.uint32) & mask
            for v in (a, b)
        )
        rest = c << np.uint32(2 * bits) if bits < 16 else np.uint32(0)
        return rest | (high << np.uint32(bits)) | low

    return code.elementwise(run, code.target(at.operands[0], "u32"), a, b, c)


# Comparisons and selections.

COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "equ": lambda a, b: ~_ordered(a, b) | (a == b),
    "neu": np.not_equal,
    "ltu": lambda a, b: ~(a >= b),
    "leu": lambda a, b: ~(a > b),
    "gtu": lambda a, b: ~(a <= b),
    "geu": lambda a, b: ~(a < b),
    "num": lambda a, b: _ordered(a, b),
    "nan": lambda a, b: ~_ordered(a, b),
}
_COMBINED: dict[str, np.ufunc] = {
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
}


def _ordered(a: Array, b: Array) -> Array:
    return ~(np.isnan(a) | np.isnan(b))


def _comparison(code: Code, at: Instruction, type: str) -> Callable[[Array, Array], Array]:
    name = at.suffix[0]
    if name not in COMPARISONS:
        raise code.unsupported(f"the comparison .{name}")
    compare, element = COMPARISONS[name], element_of(type)
    if name == "ne" and is_float(type):
        compare = _differ
    if type[0] == "s" or type[0] in "ub" and not is_float(type):
        return compare
    ftz = "ftz" in at.suffix and type == "f32"
    if element in ("f32", "f64") and not ftz:
        return compare

    def run(a: Array, b: Array) -> Array:
        left, right = decode(a, element), decode(b, element)
        return compare(flushed(left), flushed(right)) if ftz else compare(left, right)

    return run


def _differ(a: Array, b: Array) -> Array:
    """Different and both numbers."""
    return (a != b) & _ordered(a, b)


def setp(code: Code, at: Instruction) -> Step:
    """A predicate, and beside it the predicate of the opposite comparison."""
    type = value_type(code, at)
    compare = _comparison(code, at, type)
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    first, second = at.operands[0], None
    if isinstance(first, Pair):
        first, second = first.first, code.target(first.second, "pred")
    target = code.target(first, "pred")
    combine = next((part for part in at.suffix[1:] if part in _COMBINED), None)
    if type.endswith("x2"):
        return _paired_setp(compare, a, b, target, second)
    if combine is None and second is None:
        return code.elementwise(compare, target, a, b)
    if combine is None:
        condition, negated = code.constant(True, "pred"), False
        join: Callable[..., Array] = np.logical_and
    else:
        condition, negated = code.predicate(at.operands[3])
        join = _COMBINED[combine]

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        result, other = compare(a[chosen], b[chosen]), condition[chosen]
        if negated:
            other = ~other
        opposite = ~result
        # The joined predicates are computed first: a result may be the condition itself.
        joined, joined_opposite = join(result, other), join(opposite, other)
        target.store(chosen, joined)
        if second is not None:
            second.store(chosen, joined_opposite)

    return run


def _paired_setp(
    compare: Callable[[Array, Array], Array],
    a: Array,
    b: Array,
    target: Target,
    second: Target | None,
) -> Step:
    """Of pairs: one predicate for each half."""

    def run(lanes: Lanes) -> None:
        chosen = lanes.pure
        result = compare(np.ascontiguousarray(a[chosen]), np.ascontiguousarray(b[chosen]))
        target.store(chosen, result[:, 0])
        if second is not None:
            second.store(chosen, result[:, 1])

    return run


def set_(code: Code, at: Instruction) -> Step:
    """All ones or 1.0 where the comparison holds, else 0."""
    to, type = [part for part in at.suffix if part in DTYPES][-2:]
    compare = _comparison(code, at, type)
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    target = code.target(at.operands[0], to)
    combine = next((part for part in at.suffix[1:] if part in _COMBINED), None)
    if combine is None:
        condition, negated = code.constant(True, "pred"), False
        join = np.logical_and
    else:
        condition, negated = code.predicate(at.operands[3])
        join = _COMBINED[combine]
    if to.endswith("x2"):
        raise code.unsupported("pairs as result")
    no = np.zeros(1, target.dtype)
    yes = encode(np.ones(1, np.float32), to) if is_float(to) else ~no

    def run(a: Array, b: Array, condition: Array) -> Array:
        result = join(compare(a, b), ~condition if negated else condition)
        return np.where(result, yes, no)

    return code.elementwise(run, target, a, b, condition)


def selp(code: Code, at: Instruction) -> Step:
    type = value_type(code, at)
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    condition, negated = code.predicate(at.operands[3])
    if negated:
        a, b = b, a
    function = _row_selected if a.ndim == 2 else np.where
    return code.elementwise(function, code.target(at.operands[0], type), condition, a, b)


def _row_selected(condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition[:, None], a, b)


def slct(code: Code, at: Instruction) -> Step:
    """The first operand where the third is not negative."""
    to, type = [part for part in at.suffix if part in DTYPES][-2:]
    a, b = (code.operand(operand, to) for operand in at.operands[1:3])
    c = code.operand(at.operands[3], type)
    return code.elementwise(_sign_selected, code.target(at.operands[0], to), a, b, c)


def _sign_selected(a: Array, b: Array, c: Array) -> Array:
    return np.where(c >= 0, a, b)


# Generic addresses.

_WINDOWS = {
    "global": 0,
    "const": 0,
    "shared": SHARED_WINDOW,
    "local": LOCAL_WINDOW,
    "param": PARAM_WINDOW,
}


def space_of(at: Instruction) -> str | None:
    """The state space that an instruction names, without `::cta` and the like."""
    for part in at.suffix:
        space = part.partition("::")[0]
        if space in _WINDOWS:
            return space
    return None


def cvta(code: Code, at: Instruction) -> Step:
    space = space_of(at)
    type = value_type(code, at)
    if space is None or type != "u64":
        raise code.unsupported()
    window = np.int64(-_WINDOWS[space] if "to" in at.suffix else _WINDOWS[space])
    a = code.operand(at.operands[1], "s64")
    target = code.target(at.operands[0], "s64")
    return code.elementwise(np.add, target, a, code.constant(window, "s64"))


def isspacep(code: Code, at: Instruction) -> Step:
    space = space_of(at)
    assert space is not None
    a = code.operand(at.operands[1], "s64")
    start = _WINDOWS[space] or GLOBAL_BASE
    end = SHARED_WINDOW if not _WINDOWS[space] else start + WINDOW_BYTES

    def inside(a: Array) -> Array:
        return (a >= start) & (a < end)

    return code.elementwise(inside, code.target(at.operands[0], "pred"), a)


def mapa(code: Code, at: Instruction) -> Step:
    """A shared address in another block of the cluster; clusters have one block here."""
    type = value_type(code, at)
    rank = at.operands[2]
    if not (isinstance(rank, Immediate) and rank.value == 0):
        raise code.unsupported("blocks of a cluster other than the first")
    source = code.operand(at.operands[1], type)
    return code.elementwise(copied, code.target(at.operands[0], type), source)


BUILDERS: dict[str, Builder] = {
    "mov": mov,
    "cvt": cvt,
    "setp": setp,
    "set": set_,
    "selp": selp,
    "slct": slct,
    "cvta": cvta,
    "isspacep": isspacep,
    "mapa": mapa,
}
