"""How many elements and distinct tuples bound data has, roughly, for the choice of rewrites.

Enters: a `Binding`, and which tuples of paths to count. Leaves: texts that
`lowering/graph/cardinalities.py` reads. Numbers are rounded to powers of the square root of two, so
that data of about the same size shares compiled code.

    edge=741455, edge(src,type)=185364, edge^dst=8192
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.ir.index import IndexExpr

Fields = tuple[str, ...]
Counted = Sequence[tuple[str, Sequence[Fields]]]

LARGEST_TABLE = 1 << 20
"""Distinct tuples are marked in a table of up to so many bytes, or of a few bytes for each element,
else they are sorted."""


LONG, PARTS = 512, 256
"""The busiest image of a path counts if it has so many elements, and more than this part of all."""


def cardinalities(binding: Binding, counted: Counted) -> tuple[str, ...]:
    """Sizes of the sets that are counted and of those that their paths lead to, the distinct
    tuples, and the elements of images that have many."""
    owners = dict.fromkeys(owner for owner, _ in counted)
    sizes = dict[str, int]()
    for owner in owners:
        sizes[owner] = binding.size(owner)
    for owner, paths in counted:
        for path in paths:
            target = binding.target(owner, path)
            if not target.isdecimal():  # the extent of a map of a format
                sizes[target] = binding.size(target)
    found = [f"{name}={rounded(size)}" for name, size in sizes.items()]
    for owner, paths in counted:
        number = share_of(distinct(binding, owner, paths), sizes[owner])
        found.append(f"{owner}({','.join('.'.join(path) for path in paths)})={number}")
        if len(paths) == 1 and sizes[owner] >= LONG:
            busiest = int(np.diff(binding.segments(owner, [IndexExpr.of("e", *paths[0])])).max())
            if busiest >= LONG and PARTS * busiest > sizes[owner]:
                found.append(f"{owner}^{'.'.join(paths[0])}={rounded(busiest)}")
    return tuple(sorted(found))


def rounded(number: int) -> int:
    """The nearest power of the square root of two; 0 stays."""
    return 0 if number < 1 else round(2 ** (round(2 * log2(number)) / 2))


def share_of(number: int, total: int) -> int:
    """A number of distinct tuples, rounded so that its share of all elements is a power of the
    fourth root of two: which of the two is smaller decides more than how many there are."""
    if number < 1:
        return 0
    return max(1, round(rounded(total) * 2 ** (round(4 * log2(number / total)) / 4)))


def distinct(binding: Binding, owner: str, paths: Sequence[Fields]) -> int:
    """Distinct tuples of some paths over the elements of a set."""
    space, code = 1, np.zeros(binding.size(owner), np.int64)
    for path in paths:
        extent = max(1, binding.size(binding.target(owner, path)))
        space *= extent
        if space >= 1 << 62:
            return binding.size(owner)
        code = code * extent + binding.path(owner, path)
    if space > max(LARGEST_TABLE, 4 * len(code)):
        code.sort()
        return int(np.count_nonzero(code[1:] != code[:-1])) + min(1, len(code))
    seen = np.zeros(space, np.bool_)
    seen[code] = True
    return int(np.count_nonzero(seen))
