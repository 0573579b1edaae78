"""Coefficients and constants of the elementary functions, for each precision.

They were fitted for this file. f32: weighted least squares on 4001 Chebyshev points, with the
weights of Lawson's iteration, which tends to the least maximum error; the coefficients were rounded
to f32 one after another, the rest fitted again each time. f64: interpolation at Chebyshev points in
60 digits, of the least degree whose error, relative to the function, is below 2^-57.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Precision:
    """What the functions need to know about a precision.

    Polynomials, the constant coefficient first:

    - `exp`: (e^r - 1) / r on |r| <= ln(2) / 2; `exp_fine`: the same for functions that add errors
      of their own
    - `log`: (log(1 + f) - f + f^2 / 2) / f^3 where sqrt(1/2) <= 1 + f < sqrt(2)
    - `tanh`: (tanh(x) - x) / x^3 of x^2, |x| <= `tanh_near`
    - `erf`: erf(x) / x - 1 of x^2, |x| <= 1
    - `tail`: erfcx(a / sqrt(2)) / 2 * (a + c) of (a - c) / (a + c), 0 <= a <= `tail_end`, with c
      the `tail_middle`
    - `sin`, `cos`: (sin(r) - r) / r^3 and (cos(r) - 1 + r^2 / 2) / r^4 of r^2, |r| <= pi / 4
    """

    mantissa: int
    """Bits of a stored mantissa."""
    bias: int
    """What is added to an exponent to store it."""
    root_half: int
    """The bits of sqrt(1/2)."""
    ln2_high: float
    """ln 2 in two parts; the first has few enough bits for its product with an exponent to be
    exact."""
    ln2_low: float
    exp_least: float
    """At this, e^x is below the least number of the precision."""
    exp_greatest: float
    """At this, e^x is above the greatest."""
    exp: tuple[float, ...]
    exp_fine: tuple[float, ...]
    log: tuple[float, ...]
    tanh: tuple[float, ...]
    tanh_near: float
    erf: tuple[float, ...]
    tail: tuple[float, ...]
    tail_middle: float
    tail_end: float
    """At this, the normal distribution has no tail left."""
    sin: tuple[float, ...]
    cos: tuple[float, ...]

    @property
    def log2_e(self) -> float:
        return 1 / math.log(2)

    @property
    def tiny(self) -> float:
        """The least normal number."""
        return 2.0 ** (1 - self.bias)


SINGLE = Precision(
    mantissa=23,
    bias=127,
    root_half=0x3F3504F3,
    ln2_high=0.693145751953125,
    ln2_low=1.4286068203094173e-06,
    exp_least=-104.0,
    exp_greatest=89.0,
    exp=(0.9999997019767761, 0.49999138712882996, 0.16667646169662476, 0.04189937561750412,
         0.008290210738778114),
    exp_fine=(1.0, 0.4999999403953552, 0.1666651964187622, 0.04166826233267784,
              0.008368857204914093, 0.0013821447500959039),
    log=(0.3333333134651184, -0.2500082552433014, 0.20001250505447388, -0.1662319004535675,
         0.14201176166534424, -0.13161464035511017, 0.1276620775461197, -0.07636449486017227),
    tanh=(-0.3333328366279602, 0.13331486284732819, -0.05374317243695259, 0.020649708807468414,
          -0.0057162027806043625),
    tanh_near=0.625,
    erf=(0.12837916612625122, -0.3761262595653534, 0.11283578723669052, -0.026853347197175026,
         0.005187162198126316, -0.0007997853099368513, 7.806903158780187e-05),
    tail=(0.7066566348075867, -0.4336921274662018, 0.1319880187511444, 0.009237848222255707,
          -0.016393719241023064, -0.0016107656992971897, 0.0025420761667191982,
          0.0007045312086120248, -0.0003256011987105012, -0.0001721151638776064),
    tail_middle=2.5,
    tail_end=15.0,
    sin=(-0.16666655242443085, 0.00833218451589346, -0.00019517206237651408),
    cos=(0.0416666679084301, -0.0013888981193304062, 2.4822447812766768e-05,
         -2.891817416639242e-07),
)  # fmt: skip

_EXP = (1.0, 0.5, 0.1666666666666668, 0.04166666666666668, 0.008333333333319589,
        0.0013888888888879073, 0.00019841269890076403, 2.4801587336442236e-05,
        2.755724088722987e-06, 2.75572632790885e-07, 2.5110049204818658e-08,
        2.0918137737642736e-09)  # fmt: skip

DOUBLE = Precision(
    mantissa=52,
    bias=1023,
    root_half=0x3FE6A09E667F3BCD,
    ln2_high=0.6931471805598903,
    ln2_low=5.497923018708371e-14,
    exp_least=-746.0,
    exp_greatest=710.0,
    exp=_EXP,
    exp_fine=_EXP,
    log=(0.33333333333333337, -0.2499999999999993, 0.19999999999993223, -0.16666666666697305,
         0.1428571428759174, -0.12499999997109267, 0.11111110909841072, -0.0999999999631727,
         0.09090919875998202, -0.08333345056413204, 0.0769198812013375, -0.0714223204915847,
         0.06671985555271291, -0.06265031869518063, 0.05837018351464999, -0.05368280388050548,
         0.0537187789066478, -0.06129561980727906, 0.0566642324205218, -0.025061228095282464),
    tanh=(-0.3333333333333333, 0.13333333333333042, -0.05396825396789699, 0.021869488519008305,
          -0.008863235103240878, 0.0035921217511549622, -0.0014557754120478055,
          0.0005896606577757043, -0.0002375906496055562, 9.257116129556769e-05,
          -3.12011014257974e-05, 6.485163482793113e-06),
    tanh_near=0.625,
    erf=(0.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792,
         0.0052239776248180145, -0.000854832698083379, 0.0001205533111164271,
         -1.4925595266831182e-05, 1.6461000484121368e-06, -1.6350312701054695e-07,
         1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11),
    tail=(0.7552851304157515, -0.6078966419718921, 0.38713740074221453, -0.18652185795965726,
          0.06039657489093656, -0.007540188966726791, -0.003479692367393595,
          0.0016308184575887011, 0.00013334431240964574, -0.000231094935169459,
          -1.9082584797734333e-06, 3.5144686053003464e-05, 7.166663245221031e-07,
          -5.9201733230161025e-06, -6.296965605815823e-07, 1.0215540371961016e-06,
          2.7180452962592834e-07, -1.549649174224745e-07, -8.540841815685125e-08,
          1.3280797787310328e-08, 1.961961086135556e-08, 1.91827702037334e-09,
          -2.5220994578780736e-09, -7.262419810409579e-10),
    tail_middle=4.0,
    tail_end=39.0,
    sin=(-0.16666666666666666, 0.008333333333333331, -0.0001984126984126506,
         2.7557319219335453e-06, -2.5052106231157904e-08, 1.605853141458901e-10,
         -7.586685070091267e-13),
    cos=(0.041666666666666664, -0.0013888888888887395, 2.4801587298763433e-05,
         -2.7557317270560326e-07, 2.0876146024689747e-09, -1.1382614868556325e-11),
)  # fmt: skip
