"""What a target makes of a function: the one protocol of everything that runs.

Enters: bound sets, arguments and sizes that were checked. Leaves: results, as new arrays or in
those of the caller. A target has a class of it; what only some can do is None by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hectorite.backends.bound.binding import Binding

if TYPE_CHECKING:
    from hectorite.backends.cpu.call import Call
    from hectorite.frontend.compiled.gpu_targets import CudaFunction

Array = np.ndarray[Any, Any]
Values = Mapping[str, Any]
"""Arguments by name: arrays of the host, for `cuda` places on the device as well."""


class Executable(Protocol):
    """One function for known sizes on one target."""

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        """Results in storage types. `arguments` are C-contiguous and checked, and so is `out`, a
        sequence with an array for each result; None for new arrays."""
        ...

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        """Build what calls on this binding will need of it; nothing by default."""

    def ready(self, binding: Binding, sizes: Mapping[str, int]) -> Call | None:
        """What calls on this binding go through, if arguments that were not looked at again can. It
        lives as long as the binding."""
        return None

    @property
    def on_gpu(self) -> CudaFunction | None:
        """What is on a device: it takes a stream, is recorded as a graph, and has a clock."""
        return None


def delivered(results: tuple[Any, ...], out: Sequence[Any] | None) -> tuple[Any, ...]:
    """Results, copied to `out` if that is given."""
    if out is None:
        return results
    for place, result in zip(out, results, strict=True):
        np.copyto(place, result)
    return tuple(out)


def given_sets(binding: Binding) -> tuple[dict[str, int], dict[tuple[str, str], Array]]:
    """Sizes and maps of the sets that were given, as the reference takes them."""
    given = [decl for decl in binding.schema.sets.values() if decl.given]
    sizes = {decl.name: binding.size(decl.name) for decl in given}
    maps = {(d.name, field): binding.map(d.name, field) for d in given for field, _ in d.fields}
    return sizes, maps
