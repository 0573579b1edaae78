"""Values of the results of a graph of statements on drawn data.

Enters: a graph, sizes and a seed. Leaves: its results in a prime field, or in f32 with the bound on
what rounding can do. The data depends on the seed and the names of the inputs alone.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hectorite.backends.reference.error_bound import Bounded, difference, run_with_bounds
from hectorite.backends.reference.interpreter import Evaluator, bind, find_function, run_reference
from hectorite.backends.reference.prime_field import FieldArithmetic
from hectorite.ir.dataflow import Dataflow
from hectorite.ir.element import ELEMENTS
from hectorite.ir.scalar import Array
from hectorite.ir.statement_form import Shape
from hectorite.lowering.graph.dataflow_module import module_of

Maps = dict[tuple[str, str], Array]


def maps_of(flow: Dataflow, sizes: Mapping[str, int], seed: int) -> Maps:
    """Every map of every set that is not derived; neither injective nor onto, in general."""
    maps = Maps()
    for decl in flow.schema.sets.values():
        for name, target in decl.fields if decl.given else ():
            drawn = np.random.default_rng([seed, len(maps)])
            maps[decl.name, name] = drawn.integers(0, max(1, sizes[target]), sizes[decl.name])
    return maps


def arguments_of(
    flow: Dataflow, sizes: Mapping[str, int], seed: int, prime: int | None
) -> dict[str, Any]:
    """A value for every input: of the field, or of its own type."""
    found = dict[str, Any]()
    for name, number in flow.inputs.items():
        shape = flow.nodes[number].shape
        drawn = np.random.default_rng(random.Random(f"{seed} {name}").randrange(1 << 32))
        found[name] = _drawn(shape, [sizes.get(str(d), d) for d in shape.dims], drawn, prime)
    return found


def _drawn(
    shape: Shape, extents: Sequence[Any], drawn: np.random.Generator, prime: int | None
) -> Array:
    element = ELEMENTS[shape.element]
    if element.is_float:
        if prime is not None:
            return drawn.integers(0, prime, extents)
        return drawn.normal(size=extents).astype(element.storage)
    least, greatest = element.bounds
    values = drawn.integers(max(least, -1000), min(greatest, 1000), extents, endpoint=True)
    return np.asarray(values).astype(element.storage)


def field_values(
    flow: Dataflow, sizes: Mapping[str, int], seed: int, prime: int
) -> tuple[Array, ...]:
    """The results modulo a prime; the same for programs that mean the same."""
    module, maps = module_of(flow), maps_of(flow, sizes, seed)
    func = find_function(module, "f")
    arguments = arguments_of(flow, sizes, seed, prime)
    arithmetic = FieldArithmetic(prime, seed)
    evaluator = Evaluator(bind(module, func, sizes, maps, arguments), arithmetic)
    results = evaluator.function(func, arguments)
    return tuple(lanes[0] for lanes in results)


def float_values(
    flow: Dataflow, sizes: Mapping[str, int], seed: int
) -> tuple[tuple[Bounded, ...], tuple[Array, ...]]:
    """The results in float64 with bounds on rounding, and in the program's own types."""
    module, maps = module_of(flow), maps_of(flow, sizes, seed)
    arguments = arguments_of(flow, sizes, seed, None)
    with np.errstate(all="ignore"):
        bounded = run_with_bounds(module, "f", sizes, maps, arguments)
        own = run_reference(module, "f", sizes, maps, arguments, own_types=True)
    return bounded, own


def same_within_rounding(
    expected: Sequence[Bounded], found: Sequence[Bounded], own: Sequence[Array]
) -> bool:
    """Whether results computed in their own types are those of another program up to rounding."""
    return all(
        difference(Bounded(a.value, a.bound + b.bound), c).ok
        for a, b, c in zip(expected, found, own, strict=True)
    )
