"""Tensors drawn from a seed, for parameters that no data is given for.

Enters: the name, shape, element type and format of a tensor, and a seed. Leaves: an array that
depends on nothing else, so that a program gives the same result on every run and every target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hectorite.ir.element import ElementType
from hectorite.ir.tensor_format import Bsr, Nm

Array = np.ndarray[Any, Any]

INTEGERS = 8
"""Wide integers are drawn from -8 .. 7 or 0 .. 15, so that sums of products stay small."""


def draw(
    name: str,
    shape: Sequence[int],
    element: ElementType,
    seed: int,
    *,
    over_set: Sequence[bool] | None = None,
    format: str | None = None,
) -> Array:
    """The tensor `name`, C-contiguous, in the storage type of `element`.

    - Floats are standard normal. A tensor with two or more axes that are not sets is taken for
      weights, and divided by the root of the product of those axes without the last, about the
      length of the sum it enters, so that what products of features and weights give stays near 1.
      `over_set` tells which axes are sets (default: none).
    - Integers are uniform, over the whole type up to four bits and over 16 values beyond; the
      one-bit sign type is -1 or +1, bool is either.
    - With the format `nm(N, M)`, N random values of each M along the last axis are kept, with
      `bsr(h, w)` each block of a matrix with a probability of a half.
    """
    generator = np.random.Generator(np.random.PCG64([seed % 2**64, *name.encode()]))
    lengths = tuple(int(n) for n in shape)
    if element.is_float:
        wide = np.float64 if element.name == "f64" else np.float32
        values = generator.standard_normal(lengths, wide)
        values *= wide(1 / math.sqrt(_sum_length(lengths, over_set)))
    elif element.kind == "sign":
        values = generator.integers(0, 2, lengths, np.int8) * 2 - 1
    else:
        low, high = element.bounds
        low, high = (max(low, -INTEGERS), min(high, INTEGERS - 1)) if low else (0, min(high, 15))
        values = generator.integers(low, high + 1, lengths)
    drawn = np.asarray(values).astype(element.storage)
    few = Nm.of(format)
    if few is not None and lengths:
        kept = _kept(generator, lengths, few.keep, few.group)
        return np.where(kept, drawn, np.zeros_like(drawn))
    blocks = Bsr.of(format)
    if blocks is not None and len(lengths) == 2 and blocks.fault(*lengths) is None:
        h, w = blocks.height, blocks.width
        half = generator.random((lengths[0] // h, lengths[1] // w)) < 0.5
        return np.where(half.repeat(h, 0).repeat(w, 1), drawn, np.zeros_like(drawn))
    return drawn


def _sum_length(shape: tuple[int, ...], over_set: Sequence[bool] | None) -> int:
    plain = [n for axis, n in enumerate(shape) if not (over_set and over_set[axis])]
    return max(1, math.prod(plain[:-1])) if len(plain) > 1 else 1


def _kept(generator: np.random.Generator, shape: tuple[int, ...], keep: int, group: int) -> Array:
    """bool[shape]: true at `keep` places of each `group` along the last axis."""
    *outer, last = shape
    groups = -(-last // group)
    rank = generator.random((*outer, groups, group), np.float32).argsort(axis=-1).argsort(axis=-1)
    return (rank < keep).reshape(*outer, groups * group)[..., :last]
