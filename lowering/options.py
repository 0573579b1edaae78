"""What a user may choose about the rewrites of the graph level. Needs no IR, so that a program from
the cache starts at once."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hectorite.ir.device import Device


@dataclass(frozen=True)
class Options:
    """`reassociate` allows floats to be added in another order; `cardinalities` are known numbers
    of elements (`lowering/cardinalities.py` says how they are written), which decide where work is
    done. With `search` the structural rewrites are those that the cost model finds cheapest;
    `forbid` names rules and families that it may not use, `force` choices for single statements,
    as `STATEMENT:DETAIL`, and both imply it; `device` is the one that costs are those of, a usual
    CPU by default."""

    reassociate: bool = True
    cardinalities: tuple[str, ...] = ()
    search: bool = False
    forbid: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    device: Device | None = None

    @property
    def searches(self) -> bool:
        """Whether rewrites are chosen by cost."""
        return self.search or bool(self.forbid) or bool(self.force)

    @property
    def identity(self) -> tuple[str, ...]:
        """What compiled code depends on, for the cache."""
        plain = (f"reassociate {self.reassociate}", repr(self.cardinalities))
        if not self.searches:
            return plain
        device = blake2b(repr(self.device).encode(), digest_size=8).hexdigest()
        return (*plain, repr((self.forbid, self.force)), device)
