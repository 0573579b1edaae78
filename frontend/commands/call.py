"""What the arguments of a command call: a function, its sizes, and the data file.

Enters: parsed arguments with `--fn`, `--size`, `--data` and `--seed`, a program and its facts.
Leaves: a `Call`, which binds the sets and draws the tensors that data lacks.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.compiled.facts import Facts, check_sizes, pick_function
from hectorite.frontend.compiled.signature import Signature
from hectorite.frontend.console import note, working
from hectorite.frontend.data.file import Data, load_data
from hectorite.frontend.data.inputs import Inputs, inputs_for, sets_for, split_sizes
from hectorite.frontend.program_text import ProgramText


@dataclass(frozen=True)
class Call:
    """One function of a program, with the sizes and the data that were given. `data` is None
    without `--data`, unless the program brings arrays of its own."""

    facts: Facts
    function: str
    set_sizes: Mapping[str, int]
    sizes: Mapping[str, int]
    data: Data | None
    seed: int

    @property
    def signature(self) -> Signature:
        """Parameters and results."""
        return self.facts.signatures[self.function]

    def sets(self) -> dict[str, Any]:
        """What `bind` takes. Raises `HectoriteError` where sets need data and there is none."""
        return sets_for(self.facts.schema, self.data, self.set_sizes)

    def bind(self) -> Binding:
        """The bound sets."""
        return Binding(self.facts.schema, self.sets())

    def inputs(self, binding: Binding) -> Inputs:
        """A value for every size and an array for every parameter."""
        given = (self.data, self.sizes, self.seed)
        return inputs_for(self.signature, self.facts, binding, *given)


def asked(chosen: Namespace, text: ProgramText, facts: Facts) -> Call:
    """The call that arguments ask for. Raises `HectoriteError` for a function or size that the
    program does not have, and for a file that cannot be read."""
    function = pick_function(facts, chosen.fn, text.name)
    set_sizes, sizes = split_sizes(facts.schema, dict(chosen.size))
    sizes, data = check_sizes(facts, sizes), None
    if chosen.data is not None:
        with working(f"reading {chosen.data}") as progress:
            data = load_data(chosen.data, progress)
    if text.given is not None:
        data = text.given.data(data, facts.signatures[function], sizes, chosen.seed)
    return Call(facts, function, set_sizes, sizes, data, chosen.seed)


def tell_assumed(inputs: Inputs) -> None:
    """Name the sizes that nothing determined."""
    for size in inputs.assumed:
        note(assumed_size(size, inputs.sizes[size]))


def assumed_size(size: str, value: int) -> str:
    """The note on a size that nothing determined."""
    return f"{size} = {value} (nothing determines it; --size {size}=N does)"
