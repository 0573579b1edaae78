"""What a function needs to run, from a data file and a seed.

Enters: a function's facts, data, given sizes and a seed. Leaves: what `bind` takes, a value for
every size, and an array for every parameter. Data comes first, then given sizes; sizes that nothing
determines are 64, and tensors that data lacks are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.compiled.facts import Facts
from hectorite.frontend.compiled.signature import Dim, Parameter, Signature
from hectorite.frontend.data.drawing import draw
from hectorite.frontend.data.file import Data
from hectorite.ir.diagnostics import fail
from hectorite.ir.schema import Schema

Array = np.ndarray[Any, Any]
DEFAULT_SIZE = 64

MOST_BYTES = 1 << 44
"""No tensor that is drawn may take more: its shape is a mistake."""


@dataclass
class Inputs:
    """Arguments of one call. `assumed` are the sizes that nothing determined, `drawn` the
    parameters that came from the seed, `converted` those that data had in another float type."""

    sizes: dict[str, int]
    arguments: dict[str, Array]
    assumed: list[str] = field(default_factory=list[str])
    drawn: list[str] = field(default_factory=list[str])
    converted: list[str] = field(default_factory=list[str])


def split_sizes(schema: Schema, given: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """Given sizes of sets without fields, and all others."""
    plain = {name for name, decl in schema.sets.items() if not decl.fields}
    sets = {name: value for name, value in given.items() if name in plain}
    return sets, {name: value for name, value in given.items() if name not in plain}


def sets_for(schema: Schema, data: Data | None, given: Mapping[str, int]) -> dict[str, Any]:
    """What `bind` takes, from data and the given sizes of sets."""
    if data is not None:
        return data.sets(schema) | dict(given)
    wanted = [decl for decl in schema.sets.values() if decl.given]
    lacking = [decl.name for decl in wanted if decl.fields or decl.name not in given]
    if lacking:
        names = ", ".join(f"`{name}`" for name in lacking)
        raise fail(
            f"the program has sets ({names}), so it needs data",
            hint="--data FILE.npz, or --data ast:xdsl for a graph of Python syntax trees",
        )
    return dict(given)


def inputs_for(
    signature: Signature,
    facts: Facts,
    binding: Binding,
    data: Data | None,
    sizes: Mapping[str, int],
    seed: int,
    default: int = DEFAULT_SIZE,
) -> Inputs:
    """Values for every size and parameter of a function."""
    schema = facts.schema
    found = {} if data is None else data.tensors(signature.names, schema)
    known = {} if data is None else data.sizes(signature.sizes)
    known |= sizes
    inputs = Inputs(known, {})
    for parameter in signature.parameters:
        if parameter.name in found:
            inputs.arguments[parameter.name] = _converted(found[parameter.name], parameter, inputs)
            _learn(known, parameter, found[parameter.name], schema)
    for name in signature.sizes:
        if name not in known:
            known[name] = default
            inputs.assumed.append(name)
    for parameter in signature.parameters:
        if parameter.name not in inputs.arguments:
            inputs.arguments[parameter.name] = drawn(parameter, schema, binding, known, seed)
            inputs.drawn.append(parameter.name)
    return inputs


def drawn(
    parameter: Parameter, schema: Schema, binding: Binding, sizes: Mapping[str, int], seed: int
) -> Array:
    """An array for a parameter, from the seed."""
    shape = [extent(dim, schema, binding, sizes) for dim in parameter.dims]
    needed = math.prod(shape) * parameter.element.storage.itemsize
    if needed > MOST_BYTES:
        raise fail(
            f"`{parameter.name}` would take {needed:.1e} bytes",
            expected=f"{parameter}, no larger than memory",
            hint="give smaller sizes with --size",
        )
    over_set = [dim in schema.sets for dim in parameter.dims]
    return draw(
        parameter.name, shape, parameter.element, seed, over_set=over_set, format=parameter.format
    )


def extent(dim: Dim, schema: Schema, binding: Binding, sizes: Mapping[str, int]) -> int:
    """The length of a dimension."""
    if isinstance(dim, int):
        return dim
    if dim in schema.sets:
        return binding.size(dim)
    fixed = schema.sizes.get(dim)
    return sizes[dim] if fixed is None else fixed


def _learn(known: dict[str, int], parameter: Parameter, array: Array, schema: Schema) -> None:
    """The sizes that the shape of an argument determines; calling checks that they agree."""
    for dim, length in zip(parameter.dims, array.shape, strict=False):
        if isinstance(dim, str) and dim not in schema.sets:
            known.setdefault(dim, length)


def _converted(array: Array, parameter: Parameter, inputs: Inputs) -> Array:
    """A float tensor of another width is converted, and that is told."""
    storage = parameter.element.storage
    if array.dtype.kind == "f" and parameter.element.is_float and array.dtype != storage:
        inputs.converted.append(parameter.name)
        return array.astype(storage)
    return array
