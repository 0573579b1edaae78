"""Elementary functions on every lane at once: those of f32, and those of f64 by the C library.

Enters: `Lanes` of float or double. Leaves: their exp, log, tanh, sigmoid, erf, gelu, silu, sin and
cos. Those of f32 are the ones of `ir/elementary.py`, without branches, but for sine and cosine of
huge arguments.

Each becomes a function of the module, such as `hec.exp.v16f32`, that is inlined wherever it is
called: the text stays short, and the machine code is as if it had been written in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llvmlite import ir

from hectorite.backends.cpu import jit
from hectorite.backends.cpu.lanes import (
    F32,
    F64,
    I32,
    Lanes,
    declare,
    element,
    for_each_lane,
    intrinsic,
    suffix,
    where,
)
from hectorite.ir import elementary
from hectorite.ir.elementary_tables import SINGLE as PRECISION

# pi / 2 in two parts; the first has 33 significant bits: exact times a quarter turn count of 20.
HALF_PI_HIGH, HALF_PI_LOW = 1.5707963267341256, 6.077100506506192e-11
QUARTER_TURNS_LIMIT = 1.0e6
"""From about this argument on, sine and cosine go to the C library lane by lane."""


class Elementary(elementary.Elementary[Lanes]):
    """The functions of f32, as a CPU does them best."""

    def scaled(self, x: Lanes, n: Lanes) -> Lanes:
        if "+avx512f" not in jit.host().features.split(","):
            return super().scaled(x, n)
        name = f"llvm.ldexp.{suffix(x.type)}.{suffix(n.type)}"  # one instruction there
        function = declare(x.builder.module, name, x.type, [x.type, n.type])
        return Lanes(x.builder, x.builder.call(function, [x.value, n.value]))

    def sin(self, x: Lanes) -> Lanes:
        return _with_library(x, super().sin(x), "sinf")

    def cos(self, x: Lanes) -> Lanes:
        return _with_library(x, super().cos(x), "cosf")

    def quarter_turns(self, x: Lanes) -> tuple[Lanes, Lanes, None]:
        wide = x.convert("fpext", F64)
        turns = intrinsic("llvm.rint", wide * (2 / math.pi))
        r = (wide - turns * HALF_PI_HIGH - turns * HALF_PI_LOW).convert("fptrunc", F32)
        count = where(_is_small(x), turns, turns.splat(0.0)).convert("fptosi", I32)
        return count, r, None


def _is_small(x: Lanes) -> Lanes:
    return x.magnitude() < QUARTER_TURNS_LIMIT


def _with_library(x: Lanes, y: Lanes, library: str) -> Lanes:
    """`y` in the lanes where x is small; if there are others, they get the C library's function."""
    builder, good = x.builder, _is_small(x)
    bad = builder.not_(good.value)
    if isinstance(bad.type, ir.VectorType):
        bits = builder.bitcast(bad, ir.IntType(bad.type.count))
        bad = builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))
    before = builder.block
    with builder.if_then(bad, likely=False):
        function = declare(builder.module, library, F32, [F32])
        slow = where(good, y, for_each_lane(function, [x]))
        after = builder.block
    result = builder.phi(x.type)
    result.add_incoming(y.value, before)
    result.add_incoming(slow.value, after)
    return Lanes(builder, result)


_FUNCTIONS = Elementary(PRECISION)

SINGLE: dict[str, Callable[[Lanes], Lanes]] = {
    name: getattr(_FUNCTIONS, name) for name in elementary.FUNCTIONS
}
"""The functions of f32."""


def _libm(name: str) -> Callable[[Lanes], Lanes]:
    return lambda x: for_each_lane(declare(x.builder.module, name, F64, [F64]), [x])


def _sigmoid_double(x: Lanes) -> Lanes:
    power = DOUBLE["exp"](-x.magnitude())
    return where(x < 0.0, power, x.splat(1.0)) / (1.0 + power)


DOUBLE: dict[str, Callable[[Lanes], Lanes]] = {
    **{name: _libm(name) for name in ("exp", "log", "tanh", "erf", "sin", "cos")},
    "sigmoid": _sigmoid_double,
    "silu": lambda x: x * _sigmoid_double(x),
    "gelu": lambda x: x * 0.5 * _libm("erfc")(x * -math.sqrt(0.5)),
}
"""The functions of f64."""


def call(name: str, x: Lanes) -> Lanes:
    """The function `name` of x, which holds floats or doubles."""
    function = _defined(name, x.builder.module, x.type)
    return Lanes(x.builder, x.builder.call(function, [x.value]))


def _defined(name: str, module: ir.Module, type: ir.Type) -> ir.Function:
    """The module's function for lanes of `type`, written if it is not there yet."""
    label = f"hec.{name}.{suffix(type)}"
    if label in module.globals:
        return module.globals[label]
    function = ir.Function(module, ir.FunctionType(type, [type]), label)
    function.linkage = "internal"
    function.attributes.add("alwaysinline")
    function.attributes.add("nounwind")
    builder = ir.IRBuilder(function.append_basic_block())
    table = SINGLE if element(type) == F32 else DOUBLE
    builder.ret(table[name](Lanes(builder, function.args[0])).value)
    return function
