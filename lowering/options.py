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
    of elements (`lowering/graph/cardinalities.py` says how they are written), which decide where
    work is done. The structural rewrites are those that the cost model finds cheapest, none
    without `search`; `forbid` names rules and families that it may not use, `force` choices for
    single statements, as `STATEMENT:DETAIL`, which are made in any case; `device` is the one
    that costs are those of, a usual CPU by default. `formats` are storage formats in the place
    of those that sets are declared with, as `SET=FORMAT`."""

    reassociate: bool = True
    cardinalities: tuple[str, ...] = ()
    search: bool = True
    forbid: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    device: Device | None = None
    formats: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[str, ...]:
        """What compiled code depends on, for the cache."""
        plain = (f"reassociate {self.reassociate}", repr(self.cardinalities), repr(self.formats))
        if not self.search:
            return (*plain, repr(self.force))
        device = blake2b(repr(self.device).encode(), digest_size=8).hexdigest()
        return (*plain, repr((self.forbid, self.force)), device)
