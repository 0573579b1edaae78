"""Floating-point instructions as steps over lanes.

f32 and f64 compute in their type; f16 and bf16 (and their pairs) in float32, whose results are
rounded to the type; that is exact for one operation. Fused products are exact, with one rounding.
Approximate functions (`ex2.approx`, `rcp.approx`, ...) give the correctly rounded value of NumPy's
function, which is nearer to the truth than a GPU's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.formats import (
    FORMATS,
    decode,
    encode,
    round_to,
    to_odd,
    two_product,
    two_sum,
)
from hectorite.backends.ptx.integer import Builder, value_type
from hectorite.backends.ptx.thread_code import Code, Step
from hectorite.ir.ptx.syntax import Instruction

Array = npt.NDArray[Any]
Function = Callable[..., Array]

_LEAST_NORMAL = {np.dtype(t): np.finfo(t).smallest_normal for t in (np.float32, np.float64)}


def element_of(type: str) -> str:
    """`f16x2` -> `f16`."""
    return type.removesuffix("x2")


def mode_of(at: Instruction) -> str:
    """The rounding mode that an instruction names; `rn` if none."""
    return next((part for part in at.suffix if part in ("rz", "rm", "rp", "rna")), "rn")


def flushed(values: Array) -> Array:
    """Floats without numbers below the normal ones, which become zeros of their sign."""
    small = np.abs(values) < _LEAST_NORMAL[values.dtype]
    zero = values.dtype.type(0)
    return np.where(small, np.copysign(zero, values), values) if small.any() else values


def finished(function: Function, at: Instruction, type: str) -> Function:
    """A function of float32 or float64 arrays, with `.ftz`, `.sat` and `.relu` around it."""
    ftz = "ftz" in at.suffix and type in ("f32", "f64")
    sat, relu = "sat" in at.suffix, "relu" in at.suffix
    if not (ftz or sat or relu):
        return function

    def run(*sources: Array) -> Array:
        result = function(*(flushed(source) for source in sources) if ftz else sources)
        if ftz:
            result = flushed(result)
        if sat:
            result = np.where(np.isnan(result), 0, np.clip(result, 0, 1)).astype(result.dtype)
        if relu:
            result = np.where(result < 0, result.dtype.type(0), result)
        return result

    return run


def float_operation(code: Code, at: Instruction, function: Function, count: int) -> Step:
    """A step of an operation given as a function of float32 (f64: float64) arrays."""
    type = value_type(code, at)
    element = element_of(type)
    sources = [code.operand(operand, type) for operand in at.operands[1 : 1 + count]]
    target = code.target(at.operands[0], type)
    function = finished(function, at, type)
    if element in ("f32", "f64"):
        return code.elementwise(function, target, *sources)

    def run(*sources: Array) -> Array:
        return encode(function(*(decode(source, element) for source in sources)), element)

    return code.elementwise(run, target, *sources)


def _directed(exact: Callable[..., tuple[Array, Array]], mode: str, type: str) -> Function:
    """A function whose result, known as a float64 sum and its error, is rounded in a direction."""

    def run(*sources: Array) -> Array:
        high, error = exact(*(source.astype(np.float64) for source in sources))
        if type == "f64":
            return _step_towards(high, error, mode)
        return round_to(to_odd(high, error), FORMATS[type], mode).astype(np.float32)

    return run


def _step_towards(high: Array, error: Array, mode: str) -> Array:
    """A rounded float64 sum moved to its neighbour where the direction asks for it."""
    down = error < 0
    up = error > 0
    if mode == "rm":
        return np.where(down, np.nextafter(high, -np.inf), high)
    if mode == "rp":
        return np.where(up, np.nextafter(high, np.inf), high)
    return np.where(np.where(high > 0, down, up), np.nextafter(high, 0.0), high)


def _difference(a: Array, b: Array) -> tuple[Array, Array]:
    return two_sum(a, -b)


def _product64(a: Array, b: Array) -> tuple[Array, Array]:
    return two_product(a, b)


def arithmetic(function: np.ufunc, exact: Callable[..., tuple[Array, Array]]) -> Builder:
    """`add`, `sub`, `mul`."""

    def build(code: Code, at: Instruction) -> Step:
        mode, type = mode_of(at), element_of(value_type(code, at))
        chosen: Function = function
        if mode != "rn":
            if type not in ("f32", "f64"):
                raise code.unsupported(f".{mode} of .{type}")
            chosen = _directed(exact, mode, type)
        return float_operation(code, at, chosen, 2)

    return build


def fused_single(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float32, rounded once."""
    product = a.astype(np.float64) * b
    total = product + c
    result = total.astype(np.float32)
    # A float64 sum that lies halfway between two float32 may have been rounded there.
    halfway = (total.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    small = np.abs(result) < np.finfo(np.float32).smallest_normal
    if halfway.any() or small.any():
        high, error = two_sum(product, c.astype(np.float64))
        exact = to_odd(high, np.where(np.isfinite(error), error, 0.0)).astype(np.float32)
        result = np.where((halfway | small) & np.isfinite(total), exact, result)
    return result


def fused_double(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of float64, rounded once where nothing over- or underflows."""
    high, low = two_product(a, b)
    middle, rest = two_sum(c, low)
    top, bottom = two_sum(high, middle)
    result = top + to_odd(*two_sum(rest, bottom))
    plain = a * b + c
    return np.where(np.isfinite(plain) & np.isfinite(result), result, plain)


def _fused_small(a: Array, b: Array, c: Array) -> Array:
    """a * b + c of f16 or bf16 numbers, exact enough to be rounded once more."""
    product = a.astype(np.float64) * b
    high, error = two_sum(product, c.astype(np.float64))
    odd = to_odd(high, np.where(np.isfinite(error), error, 0.0))
    # To odd again, so that the last rounding sees float32 that no tie can have come from.
    single = odd.astype(np.float32)
    rest = odd - single
    return to_odd_single(single, np.where(np.isfinite(rest), rest, 0.0))


def to_odd_single(high: Array, error: Array) -> Array:
    """float32 rounded to odd, given the rounded value and what it is short of."""
    bits = high.view(np.int32)
    fix = ((bits & 1) == 0) & (error != 0) & np.isfinite(high)
    step = np.where((error > 0) == (high > 0), 1, -1).astype(np.int32)
    return np.where(fix, bits + step, bits).view(np.float32)


def _exact_fused(a: Array, b: Array, c: Array) -> tuple[Array, Array]:
    return two_sum(a * b, c)


def fma(code: Code, at: Instruction) -> Step:
    type, mode = element_of(value_type(code, at)), mode_of(at)
    if mode != "rn":
        if type != "f32":
            raise code.unsupported(f".{mode} of .{type}")
        return float_operation(code, at, _directed(_exact_fused, mode, type), 3)
    function = {"f32": fused_single, "f64": fused_double}.get(type, _fused_small)
    return float_operation(code, at, function, 3)


def _approximate(function: Function) -> Builder:
    """A function of one number, computed in float64 and rounded."""

    def build(code: Code, at: Instruction) -> Step:
        type, mode = element_of(value_type(code, at)), mode_of(at)

        def run(a: Array) -> Array:
            exact = function(a.astype(np.float64))
            if type == "f64":
                return exact
            if mode != "rn":
                return round_to(exact, FORMATS["f32"], mode).astype(np.float32)
            return exact.astype(np.float32)

        return float_operation(code, at, run, 1)

    return build


def div(code: Code, at: Instruction) -> Step:
    type, mode = value_type(code, at), mode_of(at)
    if mode == "rn":
        return float_operation(code, at, np.divide, 2)

    def exact(a: Array, b: Array) -> tuple[Array, Array]:
        high = a / b
        product, low = two_product(high, b)
        rest = ((a - product) - low) / b
        return high, np.where(np.isfinite(rest), rest, 0.0)

    return float_operation(code, at, _directed(exact, mode, type), 2)


def extremum(is_least: bool) -> Builder:
    """`min`, `max`: the number if the other is NaN; with `.NaN`, NaN if one is."""
    ignoring = np.fmin if is_least else np.fmax
    strict = np.minimum if is_least else np.maximum

    def build(code: Code, at: Instruction) -> Step:
        choose = strict if "NaN" in at.suffix else ignoring
        by_magnitude = "abs" in at.suffix

        def run(*sources: Array) -> Array:
            if by_magnitude:
                sources = tuple(map(np.abs, sources))
            result = choose(sources[0], sources[1])
            for source in sources[2:]:
                result = choose(result, source)
            zeros = (result == 0) & (np.signbit(sources[0]) != np.signbit(sources[1]))
            if zeros.any():
                result = np.where(zeros, result.dtype.type(-0.0 if is_least else 0.0), result)
            if "xorsign" in at.suffix:
                negative = np.signbit(sources[0]) != np.signbit(sources[1])
                result = np.where(negative, -np.abs(result), np.abs(result))
            return result

        return float_operation(code, at, run, len(at.operands) - 1)

    return build


def sign_only(function: Callable[[Array], Array]) -> Builder:
    """`abs`, `neg`: of the bits, so that nothing is rounded."""

    def build(code: Code, at: Instruction) -> Step:
        type = value_type(code, at)
        element = element_of(type)
        if element in ("f32", "f64"):
            return float_operation(code, at, function, 1)
        source = code.operand(at.operands[1], type)
        is_abs = function is np.absolute

        def run(a: Array) -> Array:
            bits = np.ascontiguousarray(a).view(np.uint16)
            sign = np.uint16(0x8000)
            return (bits & ~sign if is_abs else bits ^ sign).view(a.dtype)

        return code.elementwise(run, code.target(at.operands[0], type), source)

    return build


def copysign(code: Code, at: Instruction) -> Step:
    """The second operand with the sign of the first."""
    type = value_type(code, at)
    a, b = (code.operand(operand, type) for operand in at.operands[1:3])
    target = code.target(at.operands[0], type)
    return code.elementwise(np.copysign, target, b, a)


def testp(code: Code, at: Instruction) -> Step:
    type, kind = value_type(code, at), at.suffix[0]
    tiny = np.finfo(np.float32 if type == "f32" else np.float64).tiny

    def number(a: Array) -> Array:
        return ~np.isnan(a)

    def normal(a: Array) -> Array:
        return np.isfinite(a) & (np.abs(a) >= tiny)

    def subnormal(a: Array) -> Array:
        return (np.abs(a) < tiny) & (a != 0)

    tests: dict[str, Function] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": number,
        "notanumber": np.isnan,
        "normal": normal,
        "subnormal": subnormal,
    }
    if kind not in tests:
        raise code.unsupported()
    a = code.operand(at.operands[1], type)
    return code.elementwise(tests[kind], code.target(at.operands[0], "pred"), a)


def _reciprocal(a: Array) -> Array:
    return 1.0 / a


def _reciprocal_root(a: Array) -> Array:
    return 1.0 / np.sqrt(a)


BUILDERS: dict[str, Builder] = {
    "add": arithmetic(np.add, two_sum),
    "sub": arithmetic(np.subtract, _difference),
    "mul": arithmetic(np.multiply, _product64),
    "fma": fma,
    "mad": fma,
    "div": div,
    "rcp": _approximate(_reciprocal),
    "sqrt": _approximate(np.sqrt),
    "rsqrt": _approximate(_reciprocal_root),
    "sin": _approximate(np.sin),
    "cos": _approximate(np.cos),
    "ex2": _approximate(np.exp2),
    "lg2": _approximate(np.log2),
    "tanh": _approximate(np.tanh),
    "min": extremum(True),
    "max": extremum(False),
    "abs": sign_only(np.absolute),
    "neg": sign_only(np.negative),
    "copysign": copysign,
    "testp": testp,
}
"""Builders for float types; the same names of integer types are in `integer.py`."""
