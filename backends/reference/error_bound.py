"""How far a correct result may lie from the reference: running error analysis.

Enters: what the reference takes. Leaves: each result with a bound, element by element, on the
difference to what any correct level computes: in the types of the program, in any order of the
reductions, products and sums inside a statement regrouped. So a level is compared to the reference
within a bound that follows from its reduction lengths, types and data, not within a constant.

A value has three lanes: the value in float64, a bound on its error, and its magnitude, the value
computed from absolute values, because what cancels in one order need not cancel in another.

A comparison, rounding or cast to an integer whose operand is within its error of the threshold may
go either way; what depends on it has an infinite bound, as has what overflows. Such elements are
checked with `run_reference(..., own_types=True)` instead.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from hectorite.backends.reference.arithmetic import Arithmetic, Axes, Fold, Lanes, dot
from hectorite.backends.reference.error_rules import COMPARISONS, EXACT, RULES
from hectorite.backends.reference.interpreter import Evaluator, bind, find_function, value_element
from hectorite.ir.element import ElementType
from hectorite.ir.rounding import greatest, holds, smallest
from hectorite.ir.scalar import Array, apply, convert, wrap

SAFETY = 2.0
"""Roundings that one operation counts for."""

DEVIATIONS = 8.0
"""Rounding errors of a sum of n terms add up to at most n of them, and those of a long sum, which
are about independent, hardly ever to more than a few times the square root of n. The smaller is
taken: with n alone, a term that is missing from a long sum would go unnoticed."""

BIAS = 0.125
"""Roundings of equal terms are not independent: each is off to the same side, by at most half a
step of a partial sum, which on average is half of the sum. Where terms cancel they differ."""


@dataclass(frozen=True)
class Bounded:
    """A result of the reference and the greatest difference that a correct result may have:
    0 where it must be equal, infinity where nothing can be said."""

    value: Array
    bound: Array


@dataclass(frozen=True)
class Difference:
    """The worst element of a result: its distance from the reference, the bound there, and where
    it is. `place` is None if the result is empty or nothing can be said about any element."""

    error: float
    bound: float
    place: tuple[int, ...] | None

    @property
    def ok(self) -> bool:
        return self.error <= self.bound


def run_with_bounds(
    module: ModuleOp,
    function_name: str,
    sizes: Mapping[str, int],
    maps: Mapping[tuple[str, str], Array],
    arguments: Mapping[str, Any],
) -> tuple[Bounded, ...]:
    """Results of a function as `run_reference` gives them, with their bounds."""
    func = find_function(module, function_name)
    evaluator = Evaluator(bind(module, func, sizes, maps, arguments), ErrorAnalysis())
    with np.errstate(all="ignore"):
        results = evaluator.function(func, arguments)
    return tuple(
        Bounded(evaluator.arithmetic.result(lanes, value_element(type)), lanes[1])
        for lanes, type in zip(results, func.outputs, strict=True)
    )


def difference(expected: Bounded, actual: Array) -> Difference:
    """Compare a result with the reference: the element that exceeds its bound most.

    Non-finite values must be the same, NaN for NaN.
    """
    wide = np.float64 if expected.value.dtype.kind == "f" else object
    value, found = expected.value.astype(wide), np.asarray(actual).astype(wide)
    if value.shape != found.shape:
        return Difference(np.inf, 0.0, ())
    if not value.size:
        return Difference(0.0, 0.0, None)
    with np.errstate(all="ignore"):
        error = np.abs(value - found).astype(np.float64)
        same = (value == found) | ((value != value) & (found != found))
        error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
        error = np.where(np.isinf(expected.bound), 0.0, error)
        excess = error / np.maximum(expected.bound, 1e-300)
    place = tuple(int(i) for i in np.unravel_index(int(np.argmax(excess)), excess.shape))
    known = not np.isinf(expected.bound[place])
    return Difference(float(error[place]), float(expected.bound[place]), place if known else None)


class ErrorAnalysis(Arithmetic):
    """Arithmetic on value, error and magnitude."""

    def load(self, array: Array, element: ElementType) -> Lanes:
        (value,) = super().load(array, element)
        return value, np.zeros(value.shape), np.abs(value).astype(np.float64)

    def apply(self, name: str, arguments: Sequence[Lanes], element: ElementType) -> Lanes:
        value = apply(name, [lanes[0] for lanes in arguments], element)
        if name == "select":
            return _select(value, *arguments)
        if name in COMPARISONS and element.is_float:
            return _exact(value, _close(*arguments))
        if name in ("and", "or"):
            return _exact(value, _undecided(name, *arguments))
        if not element.is_float:
            return _exact(value, _any_error(arguments))
        error, magnitude = RULES[name](value, _unit(element), *arguments)
        if name in EXACT:
            return value, error, magnitude
        return _checked(value, error + _least(element), magnitude, element)

    def cast(self, value: Lanes, source: ElementType, target: ElementType) -> Lanes:
        v, error, magnitude = value
        (result,) = super().cast((v,), source, target)
        if source.is_float and target.is_float:
            return _rounded(result, error, magnitude, source, target)
        if target.is_float:
            doubt = 1.0 if source.kind == "bool" else np.inf
            step = np.where(np.abs(v) * target.epsilon > 0.5, _unit(target) * np.abs(v), 0.0)
            return result, np.where(error > 0, doubt, step), np.abs(result)
        if source.is_float:
            moved = [convert(v + step, source, target) != result for step in (-error, error)]
            return _exact(result, moved[0] | moved[1] | np.isinf(error))
        return _exact(result, error > 0)

    def folds(self, kind: str, element: ElementType) -> Sequence[Fold]:
        first = super().folds(kind, element)[0]
        if not element.is_float:
            return (first, (np.maximum, 0.0), (np.maximum, 0.0), (np.add, 0.0))
        fold = np.maximum if kind in ("max", "min") else first[0]
        start = 0.0 if kind in ("max", "min") else float(element.identity(kind))
        return (first, (fold, start), (fold, start), (np.add, 0.0))

    def spread(self, kind: str, value: Lanes) -> Lanes:
        """A fourth lane counts. For products the second is the greatest possible magnitude."""
        v, error, magnitude = value
        if kind == "mul" and v.dtype.kind == "f":
            error = magnitude + error
        return v, error, magnitude, np.ones(v.shape)

    def dot(self, one: Lanes, other: Lanes, axes: Axes, shape: Axes, element: ElementType) -> Lanes:
        def summed(a: int, b: int) -> Array:
            # Data without errors is common, and then there is nothing to add up.
            if not (one[a].any() and other[b].any()):
                return np.zeros(())
            return dot(one[a], other[b], axes, shape)

        magnitude = summed(2, 2)
        error = summed(2, 1) + summed(1, 2) + summed(1, 1) + _unit(element) * magnitude
        value = dot(one[0], other[0], axes, shape)
        count = math.prod(shape[axis] for axis in axes)
        lanes = (value, error, magnitude, np.asarray(float(count)))
        return tuple(np.broadcast_to(lane, value.shape) for lane in lanes)

    def settle(self, kind: str, lanes: Lanes, element: ElementType, stored: ElementType) -> Lanes:
        v, error, magnitude, count = lanes
        if not element.is_float:
            return self.cast(_exact(wrap(v, element), error > 0), element, stored)
        unit = _unit(element)
        if kind == "add":
            rounding = DEVIATIONS * np.sqrt(count) * magnitude + BIAS * count * np.abs(v)
            rounding = np.minimum(count * magnitude, rounding)
            error = error + unit * rounding + count * _least(element)
        elif kind == "mul":
            error = error - magnitude + error * np.expm1(count * np.log1p(unit)) + _least(element)
        if kind in ("add", "mul"):
            v, error, magnitude = _checked(v, error, magnitude, element)
        return self.cast((v, error, np.abs(v)), element, stored)


def _unit(element: ElementType) -> float:
    return SAFETY * element.compute.epsilon


def _least(element: ElementType) -> float:
    """The least normal number: what is smaller may be flushed to zero."""
    return float(np.finfo(element.compute.storage).tiny)


def _checked(value: Array, error: Array, magnitude: Array, element: ElementType) -> Lanes:
    """Nothing is known about what may overflow."""
    reach = np.maximum(magnitude, np.abs(value) + error)
    known = np.isfinite(value) & (reach <= greatest(element.compute))
    return value, np.where(known, error, np.inf), magnitude


def _rounded(
    value: Array, error: Array, magnitude: Array, source: ElementType, target: ElementType
) -> Lanes:
    """A cast between floats. A value that is exact rounds alike everywhere."""
    if holds(target, source):
        return value, error, magnitude
    reach = np.abs(value) + error
    if target.is_short:
        step = 2 * target.epsilon * reach + smallest(target)
        rounded = np.where(error > 0, error + step, 0.0)
    else:
        # The reference does not round to f32.
        rounded = error + _unit(target) * reach + _least(target)
    rounded = np.where(reach <= greatest(target), rounded, np.inf)
    # Infinities and NaN are not rounded.
    return value, np.where(np.isfinite(value), rounded, error), magnitude


def _exact(value: Array, doubtful: Array) -> Lanes:
    """A value of an exact type, which is either right or anything."""
    value = np.asarray(value)
    error = np.where(np.broadcast_to(doubtful, value.shape), np.inf, 0.0)
    return value, error, np.abs(value.astype(np.float64))


def _any_error(arguments: Sequence[Lanes]) -> Array:
    doubtful = np.zeros((), np.bool_)
    for _, error, _ in arguments:
        doubtful = doubtful | (error > 0)
    return doubtful


def _close(a: Lanes, b: Lanes) -> Array:
    """Whether a comparison might go the other way: values within their errors of each other.
    Infinities without error compare like any exact value."""
    error = a[1] + b[1]
    return (error > 0) & ~(np.abs(a[0] - b[0]) > error)


def _undecided(name: str, a: Lanes, b: Lanes) -> Array:
    """A certain operand may decide `and` and `or` alone."""
    deciding: Callable[[Array], Array] = np.logical_not if name == "and" else np.asarray
    decided = ((a[1] == 0) & deciding(a[0])) | ((b[1] == 0) & deciding(b[0]))
    return ((a[1] > 0) | (b[1] > 0)) & ~decided


def _select(value: Array, condition: Lanes, yes: Lanes, no: Lanes) -> Lanes:
    """Where the condition is in doubt, either side may be taken."""
    chosen = np.where(condition[0], yes[1], no[1])
    apart = np.abs(yes[0].astype(np.float64) - no[0]) + np.maximum(yes[1], no[1])
    if value.dtype.kind != "f":
        apart = np.where(apart > 0, np.inf, 0.0)
    error = np.where(condition[1] > 0, apart, chosen)
    error = np.where(np.isnan(error), np.inf, error)
    return value, error, np.maximum(yes[2], no[2])
