"""Elementary functions of f32 on every lane at once, and those of f64 by the C library.

Enters: `Lanes` of float or double. Leaves: their exp, log, tanh, sigmoid, erf, gelu, silu, sin and
cos. The f32 ones have no branches (but for sine and cosine of huge arguments). Over all numbers,
with infinities and NaN, they err by at most 4 units in the last place, exp and log 2, gelu 6.

Each becomes a function of the module, such as `hec.exp.v16f32`, that is inlined wherever it is
called: the text stays short, and the machine code is as if it had been written in place.

The coefficients were fitted for this file: weighted least squares on 4001 Chebyshev points, with
the weights of Lawson's iteration, which tends to the least maximum error; the coefficients were
rounded to f32 one after another, the rest fitted again each time. The ranges are given with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from llvmlite import ir

from hectorite.backends import jit
from hectorite.backends.lanes import (
    F32,
    F64,
    I32,
    INFINITY,
    NAN,
    Lanes,
    declare,
    element,
    fma,
    for_each_lane,
    intrinsic,
    like,
    polynomial,
    suffix,
    where,
)

LOG2_E = 1 / math.log(2)
# ln 2 in two parts; the first has 15 significant bits: its product with an exponent is exact.
LN2_HIGH, LN2_LOW = 0.693145751953125, 1.4286068203094173e-06

# (e^r - 1) / r on |r| <= ln(2) / 2
EXP = (0.9999997019767761, 0.49999138712882996, 0.16667646169662476, 0.04189937561750412,
       0.008290210738778114)  # fmt: skip
# the same to seven more bits, for functions that add errors of their own
EXP_FINE = (1.0, 0.4999999403953552, 0.1666651964187622, 0.04166826233267784,
            0.008368857204914093, 0.0013821447500959039)  # fmt: skip
# (log(1 + f) - f + f^2 / 2) / f^3 where sqrt(1/2) <= 1 + f < sqrt(2)
LOG = (0.3333333134651184, -0.2500082552433014, 0.20001250505447388, -0.1662319004535675,
       0.14201176166534424, -0.13161464035511017, 0.1276620775461197,
       -0.07636449486017227)  # fmt: skip
# (tanh(x) - x) / x^3 of x^2, |x| <= 0.625
TANH = (-0.3333328366279602, 0.13331486284732819, -0.05374317243695259, 0.020649708807468414,
        -0.0057162027806043625)  # fmt: skip
# erf(x) / x - 1 of x^2, |x| <= 1
ERF = (0.12837916612625122, -0.3761262595653534, 0.11283578723669052, -0.026853347197175026,
       0.005187162198126316, -0.0007997853099368513, 7.806903158780187e-05)  # fmt: skip
# erfcx(a / sqrt(2)) / 2 * (a + 2.5) of (a - 2.5) / (a + 2.5), 0 <= a <= 15
TAIL = (0.7066566348075867, -0.4336921274662018, 0.1319880187511444, 0.009237848222255707,
        -0.016393719241023064, -0.0016107656992971897, 0.0025420761667191982,
        0.0007045312086120248, -0.0003256011987105012, -0.0001721151638776064)  # fmt: skip
# (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 of r^2, |r| <= pi / 4
SIN = (-0.16666655242443085, 0.00833218451589346, -0.00019517206237651408)
COS = (0.0416666679084301, -0.0013888981193304062, 2.4822447812766768e-05, -2.891817416639242e-07)

# pi / 2 in two parts; the first has 33 significant bits: exact times a quarter turn count of 20.
HALF_PI_HIGH, HALF_PI_LOW = 1.5707963267341256, 6.077100506506192e-11
QUARTER_TURNS_LIMIT = 1.0e6
"""From about this argument on, sine and cosine go to the C library lane by lane."""


def exp(x: Lanes) -> Lanes:
    return scaled(*exp_parts(x))


def exp_parts(x: Lanes, coefficients: tuple[float, ...] = EXP) -> tuple[Lanes, Lanes]:
    """(m, n) with e^x = m * 2^n, m between 0.7 and 1.5, n an integer between -150 and 128."""
    x = x.at_least(-104.0).at_most(89.0)
    whole = intrinsic("llvm.lrint", x * LOG2_E, result=like(x.type, I32))  # any number for NaN
    n = whole.convert("sitofp", F32)
    r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x))
    return polynomial(r, (1.0, *coefficients)), whole


def scaled(x: Lanes, n: Lanes) -> Lanes:
    """x * 2^n for -160 <= n <= 160, correctly rounded also below the normal numbers."""
    if "+avx512f" in jit.host().features.split(","):  # one instruction there
        name = f"llvm.ldexp.{suffix(x.type)}.{suffix(n.type)}"
        function = declare(x.builder.module, name, x.type, [x.type, n.type])
        return Lanes(x.builder, x.builder.call(function, [x.value, n.value]))
    half = n >> 1
    return x * power_of_two(half) * power_of_two(n - half)


def power_of_two(n: Lanes) -> Lanes:
    return ((n + 127) << 23).convert("bitcast", F32)


def log(x: Lanes) -> Lanes:
    tiny = x < 2.0**-126
    bits = where(tiny, x * 2.0**23, x).convert("bitcast", I32)
    root_half = 0x3F3504F3
    exponent = (bits - root_half) >> 23
    f = (bits - (exponent << 23)).convert("bitcast", F32) - 1.0
    n = exponent.convert("sitofp", F32) - where(tiny, x.splat(23.0), x.splat(0.0))
    square = f * f
    rest = fma(n, LN2_LOW, fma(square * f, polynomial(f, LOG), -0.5 * square))
    y = fma(n, LN2_HIGH, f + rest)
    y = where(x < INFINITY, y, x)  # also NaN
    y = where(x.equal(0.0), x.splat(-INFINITY), y)
    return where(x < 0.0, x.splat(NAN), y)


def tanh(x: Lanes) -> Lanes:
    square, size = x * x, intrinsic("llvm.fabs", x)
    near = fma(x * square, polynomial(square, TANH), x)
    far = 1.0 - 2.0 / (exp(size + size) + 1.0)
    return where(size < 0.625, near, intrinsic("llvm.copysign", far, x))


def sigmoid(x: Lanes) -> Lanes:
    power = exp(-intrinsic("llvm.fabs", x))
    return where(x < 0.0, power, x.splat(1.0)) / (1.0 + power)


def silu(x: Lanes) -> Lanes:
    m, n = exp_parts(-intrinsic("llvm.fabs", x))
    # x is multiplied in before the power is scaled: the power alone may have lost its digits.
    below = where(x > -104.0, scaled(x * m, n), x * 0.0)
    return where(x < 0.0, below, x) / (1.0 + scaled(m, n))


def upper_tail(a: Lanes) -> tuple[Lanes, Lanes]:
    """The probability that a standard normal variable exceeds a >= 0, as (p, n) for p * 2^n."""
    a = a.at_most(15.0)
    square = a * a
    lost = fma(a, a, -square)  # what rounding the square took away
    m, n = exp_parts(-0.5 * square, EXP_FINE)
    inverse = 1.0 / (a + 2.5)
    ratio = polynomial(fma(inverse, -5.0, 1.0), TAIL) * inverse
    return fma(m * lost, -0.5, m) * ratio, n


def erf(x: Lanes) -> Lanes:
    square, size = x * x, intrinsic("llvm.fabs", x)
    near = fma(x, polynomial(square, ERF), x)
    far = 1.0 - 2.0 * scaled(*upper_tail(size * math.sqrt(2)))
    return where(size < 1.0, near, intrinsic("llvm.copysign", far, x))


def gelu(x: Lanes) -> Lanes:
    size = intrinsic("llvm.fabs", x)
    p, n = upper_tail(size)
    product = where(size < 15.0, scaled(x * p, n), x.at_most(0.0) * 0.0)
    return where(x < 0.0, product, x - product)


def sin(x: Lanes) -> Lanes:
    return _turned(x, 0, "sinf")


def cos(x: Lanes) -> Lanes:
    return _turned(x, 1, "cosf")


def _turned(x: Lanes, quarter: int, library: str) -> Lanes:
    """The sine of x plus a number of quarter turns."""
    wide = x.convert("fpext", F64)
    turns = intrinsic("llvm.rint", wide * (2 / math.pi))
    r = (wide - turns * HALF_PI_HIGH - turns * HALF_PI_LOW).convert("fptrunc", F32)
    small = intrinsic("llvm.fabs", x) < QUARTER_TURNS_LIMIT
    count = where(small, turns, turns.splat(0.0)).convert("fptosi", I32) + quarter
    square = r * r
    sine = fma(r * square, polynomial(square, SIN), r)
    cosine = fma(square * square, polynomial(square, COS), fma(square, -0.5, 1.0))
    y = where((count & 1).differs(0), cosine, sine)
    y = where((count & 2).differs(0), -y, y)
    return _with_library(x, y, small, library)


def _with_library(x: Lanes, y: Lanes, good: Lanes, library: str) -> Lanes:
    """`y` in the good lanes; if there are others, they get the C library's function of x."""
    builder = x.builder
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


SINGLE: dict[str, Callable[[Lanes], Lanes]] = {
    "exp": exp,
    "log": log,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "erf": erf,
    "gelu": gelu,
    "sin": sin,
    "cos": cos,
}
"""The functions of f32."""


def _libm(name: str) -> Callable[[Lanes], Lanes]:
    return lambda x: for_each_lane(declare(x.builder.module, name, F64, [F64]), [x])


def _sigmoid_double(x: Lanes) -> Lanes:
    power = DOUBLE["exp"](-intrinsic("llvm.fabs", x))
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
