"""Threads as lanes of arrays: which of them an instruction runs for.

A batch of blocks has one lane for each thread, warps filled up to 32. A register is an array over
all lanes. `Lanes` says which lanes an instruction is for, twice: `pure`, where it may write
registers (all lanes, if those left out have ended and nobody reads them), and `exact`, where
memory may be touched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

WARP = 32
ALL = slice(None)
"""The selection of every lane; compared by identity, as the fast paths do."""

Index = slice | npt.NDArray[np.int64]
Array = npt.NDArray[Any]


class Lanes:
    """Some lanes of a batch of `total`: selections `pure` and `exact`, and how many `exact` has."""

    __slots__ = ("count", "exact", "pure", "total")

    def __init__(self, pure: Index, exact: Index, total: int, count: int):
        self.pure = pure
        self.exact = exact
        self.total = total
        self.count = count

    @classmethod
    def of(cls, index: npt.NDArray[np.int64], total: int) -> Lanes:
        """The lanes of an index array."""
        return cls(index, index, total, len(index))

    def indices(self) -> npt.NDArray[np.int64]:
        """The exact lanes as numbers."""
        if isinstance(self.exact, slice):
            return np.arange(*self.exact.indices(self.total))
        return self.exact

    def narrow(self, predicate: Array, negated: bool) -> Lanes | None:
        """The lanes where a predicate holds (or does not), None if there are none."""
        chosen = predicate[self.exact]
        if negated:
            chosen = ~chosen
        if chosen.all():
            return self
        if not chosen.any():
            return None
        if self.exact is ALL:
            return Lanes.of(np.flatnonzero(chosen), self.total)
        return Lanes.of(self.indices()[chosen], self.total)

    def warps(self) -> Index:
        """The warps that have lanes here."""
        if self.exact is ALL or self.pure is ALL:
            return ALL
        numbers = self.indices() // WARP
        return numbers[np.concatenate(([True], numbers[1:] != numbers[:-1]))]
