"""Exact arithmetic in a prime field, for telling whether two programs mean the same.

Enters: what the reference enters, floats as elements of the field (whole numbers from 0 to p - 1).
Leaves: results in the field. Sums, products and quotients are those of the field, so programs that
agree by the laws of a field agree exactly; constants are taken as the fractions that they are.

Other functions are random polynomials of third degree, one for each name, without a constant term
where f(0) = 0. Maximum, minimum and comparisons go by a random order of the field. Two programs
that differ then differ in almost every draw. Integers and bool are exact as ever. Rounding between
float types is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, cast

import numpy as np

from hectorite.backends.reference.arithmetic import Arithmetic, Axes, Fold, Lanes
from hectorite.ir.element import ElementType
from hectorite.ir.rounding import nearest
from hectorite.ir.scalar import Array
from hectorite.ir.scalar import apply as apply_exactly

PRIMES = (1073740439, 536870219)
"""Safe primes below 2^30, the second half of the first: products of two elements fit 64 bits."""

ZERO_AT_ZERO = frozenset(
    ("abs", "sqrt", "sin", "tanh", "relu", "gelu", "silu", "erf", "floor", "ceil", "round")
)
ORDERED = {"lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}


class FieldArithmetic(Arithmetic):
    """Floats as elements of the field of integers modulo a prime below 2^30."""

    def __init__(self, prime: int, seed: int = 0):
        super().__init__()
        self.prime, self.seed = prime, seed
        self._infinite = {sign: self._key(f"{sign} infinity", 1)[0] for sign in (-1, 1)}

    def _key(self, name: str, count: int) -> list[int]:
        """Numbers of the field that depend on a name and the seed alone, none of them 0."""
        keys = list[int]()
        for number in range(count):
            text = f"{self.seed} {name} {number}".encode()
            digest = hashlib.blake2b(text, digest_size=8).digest()
            keys.append(1 + int.from_bytes(digest, "big") % (self.prime - 1))
        return keys

    def dtype(self, element: ElementType) -> np.dtype[Any]:
        return np.dtype(np.int64) if element.is_float else super().dtype(element)

    def load(self, array: Array, element: ElementType) -> Lanes:
        if not element.is_float:
            return super().load(array, element)
        return (np.asarray(array, np.int64) % self.prime,)

    def constant(self, number: float | int, element: ElementType) -> Lanes:
        if not element.is_float:
            return super().constant(number, element)
        number = float(nearest(number, element))
        if number != number or number in (float("inf"), float("-inf")):
            return (np.asarray(self._infinite[-1 if number < 0 else 1], np.int64),)
        exact = Fraction(number)
        inverse = pow(exact.denominator, self.prime - 2, self.prime)
        return (np.asarray(exact.numerator * inverse % self.prime, np.int64),)

    def apply(self, name: str, arguments: Sequence[Lanes], element: ElementType) -> Lanes:
        values = [lanes[0] for lanes in arguments]
        if not element.is_float:
            return super().apply(name, arguments, element)
        return (self._apply(name, values),)

    def _apply(self, name: str, values: list[Array]) -> Array:
        p = self.prime
        match name:
            case "add" | "sub" | "mul":
                return (
                    cast(Array, {"add": np.add, "sub": np.subtract}.get(name, np.multiply)(*values))
                    % p
                )
            case "neg":
                return -values[0] % p
            case "div":
                return values[0] * self._inverse(values[1]) % p
            case "max" | "min":
                a, b = np.broadcast_arrays(*values)
                first = self._rank(a) >= self._rank(b)
                return np.where(first if name == "max" else ~first, a, b)
            case "lt" | "le" | "gt" | "ge":
                return cast(Array, ORDERED[name](self._rank(values[0]), self._rank(values[1])))
            case "eq" | "ne" | "select":
                return np.asarray(_EXACT[name](*values))
            case _:
                return self._opaque(name, values)

    def _opaque(self, name: str, values: list[Array]) -> Array:
        """A polynomial that only the name decides."""
        keys, total = self._key(name, 4 * len(values)), np.zeros((), np.int64)
        if name not in ZERO_AT_ZERO:
            total = total + self._key(f"{name} constant", 1)[0]
        for position, value in enumerate(values):
            one, two, three, mixed = keys[4 * position : 4 * position + 4]
            square = value * value % self.prime
            total = (total + one * value + two * square % self.prime) % self.prime
            total = (total + three * (square * value % self.prime)) % self.prime
            total = (total + mixed * (total * value % self.prime)) % self.prime
        return total

    def _inverse(self, value: Array) -> Array:
        """1 / value; 0 for 0."""
        result, power, rest = np.ones_like(value), value, self.prime - 2
        while rest:
            if rest & 1:
                result = result * power % self.prime
            power, rest = power * power % self.prime, rest >> 1
        return result

    def _rank(self, value: Array) -> Array:
        """Where a value stands in the random order; different values at different places."""
        factor, shift = self._key("order", 2)
        rank = (value * factor + shift) % self.prime
        rank = np.where(value == self._infinite[1], self.prime, rank)
        return np.where(value == self._infinite[-1], -1, rank)

    def cast(self, value: Lanes, source: ElementType, target: ElementType) -> Lanes:
        if target.is_float:
            return (value[0].astype(np.int64) % self.prime,)
        if not source.is_float:
            return super().cast(value, source, target)
        if target.kind == "bool":
            return (value[0] != 0,)
        whole = self._opaque("to integer", [value[0]])
        return (apply_exactly("add", [whole, np.zeros((), np.int64)], target),)

    def folds(self, kind: str, element: ElementType) -> Sequence[Fold]:
        if not element.is_float:
            return super().folds(kind, element)
        start = element.identity(kind)
        if start not in (0, 1):
            start = self._infinite[-1 if start < 0 else 1]
        return ((cast(np.ufunc, _Fold(lambda a, b: self._apply(_OF_KIND[kind], [a, b]))), start),)

    def dot(self, one: Lanes, other: Lanes, axes: Axes, shape: Axes, element: ElementType) -> Lanes:
        product = np.broadcast_to(one[0] * other[0] % self.prime, shape)
        return (product.sum(axis=axes, keepdims=True) % self.prime,)

    def settle(self, kind: str, lanes: Lanes, element: ElementType, stored: ElementType) -> Lanes:
        if element.is_float:
            return self.cast((lanes[0] % self.prime,), element, stored)
        return super().settle(kind, lanes, element, stored)

    def result(self, value: Lanes, element: ElementType) -> Array:
        return value[0] if element.is_float else super().result(value, element)


_OF_KIND = {"assign": "add", "add": "add", "mul": "mul", "max": "max", "min": "min"}
_EXACT: dict[str, Callable[..., Any]] = {"eq": np.equal, "ne": np.not_equal, "select": np.where}


class _Fold:
    """What stands for a function of NumPy where values accumulate."""

    def __init__(self, combine: Callable[[Array, Array], Array]):
        self.combine = combine

    def at(self, out: Array, where: Array, values: Array) -> None:
        """Combine values into places, of which some may be equal, one after another."""
        where, values = np.broadcast_arrays(where, values)
        order = np.argsort(where, kind="stable")
        where, values = where[order], values[order]
        while where.size:
            first = np.concatenate(([True], where[1:] != where[:-1]))
            places = where[first]
            out[places] = self.combine(out[places], values[first])
            where, values = where[~first], values[~first]

    def reduce(self, values: Array, axis: Axes, dtype: Any, keepdims: bool) -> Array:
        """Combine along axes, which stay with one element."""
        for along in axis:
            rest = np.moveaxis(values, along, 0)
            # An empty axis leaves nothing that could be combined: its statement keeps the start.
            total = rest[0] if len(rest) else np.zeros(rest.shape[1:], dtype)
            for row in rest[1:]:
                total = self.combine(total, row)
            values = np.expand_dims(total, along)
        return values
