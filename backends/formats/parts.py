"""What building a format gives: arrays for its position sets.

Enters: a set bound to data. Leaves: for each part of a format its size, its maps, and the maps that
other sets gain by it, in the order in which `ir/set_format.py` declares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hectorite.ir.diagnostics import fail
from hectorite.ir.schema import Schema
from hectorite.ir.set_format import SetFormat

Array = np.ndarray[Any, Any]

MOST = (1 << 31) - 1
"""Most positions: maps are int32."""


class Source(Protocol):
    """What building needs of a binding."""

    schema: Schema

    def size(self, name: str) -> int:
        """Elements of a set."""
        ...

    def map(self, name: str, field: str) -> Array:
        """int32[|name|]: where a field leads."""
        ...


@dataclass(frozen=True)
class Part:
    """One position set: int32[size] for each of its maps, and the maps it gives, all in the order
    of its declaration."""

    size: int
    fields: tuple[Array, ...] = ()
    gives: tuple[Array, ...] = ()


class Bound:
    """A set bound to data, and the format it is to be stored in."""

    def __init__(self, source: Source, over: str, format: SetFormat):
        self.source, self.over, self.format = source, over, format
        self.size = source.size(over)
        self.targets = dict(source.schema.sets[over].fields)

    def map(self, field: str) -> Array:
        """int32[size]: where a field of the set leads."""
        return self.source.map(self.over, field)

    def extent(self, field: str) -> int:
        """The size of what a field leads to."""
        return extent_of(self.source, self.targets[field])

    def positions(
        self, elem: Array, replaced: Mapping[str, Array] | None = None
    ) -> tuple[Array, ...]:
        """The maps of positions that stand for the elements `elem`, `elem` itself last; `replaced`
        are those that padding has of its own."""
        replaced = replaced or {}
        own = (replaced.get(name, self.map(name)[elem]) for name in self.targets)
        return tuple(map(int32, (*own, elem)))


def extent_of(source: Source, target: str) -> int:
    """The extent of the target of a map: a set, or a number."""
    return int(target) if target.isdecimal() else source.size(target)


def int32(values: Array) -> Array:
    """Contiguous int32, without a copy where that is what it is."""
    made: Array = np.ascontiguousarray(values, np.int32)
    return made


def inverse(permutation: Array) -> Array:
    """int32[n]: where each element of a permutation stands."""
    places = np.empty(len(permutation), np.int32)
    places[permutation] = np.arange(len(permutation), dtype=np.int32)
    return places


def check_positions(bound: Bound, count: int) -> int:
    """`count`, if that many positions can be numbered; else `HectoriteError`."""
    if count > MOST:
        raise fail(
            f"`{bound.over} as {bound.format}` has {count} positions",
            expected=f"at most {MOST}",
            hint="a format without padding, such as csr",
        )
    return count


def starts(counts: Array) -> Array:
    """int64[n + 1]: where stretches of these lengths begin, and where the last one ends."""
    begin = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=begin[1:])
    return begin


def within(counts: Array | Sequence[int]) -> Array:
    """int64[sum]: 0, 1, .. along each of the stretches of these lengths."""
    lengths: Array = np.asarray(counts)
    begin = starts(lengths)
    along: Array = np.arange(int(begin[-1])) - np.repeat(begin[:-1], lengths)
    return along
