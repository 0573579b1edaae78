"""The options of `run` and `emit` that say how rewrites are chosen.

Enters: parsed arguments, and numbers of elements of bound data. Leaves: `Options`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from hectorite.backends.bound.binding import Binding
from hectorite.backends.bound.cardinalities import cardinalities
from hectorite.frontend.compiled.facts import Facts
from hectorite.frontend.console import working
from hectorite.frontend.data.file import load_data
from hectorite.frontend.data.inputs import sets_for
from hectorite.lowering.options import Options


def chosen_options(chosen: argparse.Namespace, known: tuple[str, ...] = ()) -> Options:
    """What the arguments say."""
    pinned = tuple(chosen.forbid), tuple(chosen.force)
    return Options(True, known, not chosen.no_search, *pinned, formats=tuple(chosen.formats))


def known_of_data(
    facts: Facts, data: str | None, sizes: Mapping[str, int], function: str | None
) -> tuple[str, ...]:
    """Numbers of elements of a data file; none without one."""
    if data is None:
        return ()
    with working(f"reading {data}") as progress:
        loaded = load_data(data, progress)
    binding = Binding(facts.schema, sets_for(facts.schema, loaded, dict(sizes)))
    names = list(facts.counted) if function is None else [function]
    found = dict[str, None]()
    for name in names:
        found |= dict.fromkeys(cardinalities(binding, facts.counted.get(name, ())))
    return tuple(found)
