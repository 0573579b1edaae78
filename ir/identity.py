"""What is worked out once from declarations that never change, found again by which these are.

Enters: a function of such objects. Leaves: the same function, which remembers its results by the
identity of its arguments: comparing whole declarations takes longer than most of what follows from
them. It keeps the last few arguments alive, so that none of them can be taken for another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 128
"""Results that one function remembers."""


def by_identity(function: Callable[..., T]) -> Callable[..., T]:
    """`function`, called once for the same objects. It must depend on nothing else."""
    known: dict[tuple[int, ...], tuple[T, tuple[Any, ...]]] = {}

    @wraps(function)
    def remembered(*arguments: Any) -> T:
        key = tuple(map(id, arguments))
        found = known.get(key)
        if found is None:
            found = function(*arguments), arguments
            if len(known) >= MOST:
                known.clear()
            known[key] = found
        return found[0]

    return remembered
