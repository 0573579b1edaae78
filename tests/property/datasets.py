"""Data for a program: sizes of sets, maps and tensors.

Enters: a `Program`. Leaves: a `Dataset` strategy with every kind of emptiness and skew. Sizes stand
at the edges of tiles and chunks; the points of a program bound them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from programs import Program

from hectorite.ir.element import ELEMENTS

Array = np.ndarray[Any, Any]
TINY = (0, 1, 2, 3)
EDGES_OF_TILES = (5, 6, 7, 15, 16, 17, 31, 96, 97, 192, 193, 400, 1030, 2100)
MANY = (40, 193, 384, 1100, 2500)
SHAPES = ("uniform", "hub", "skewed", "sorted", "few", "alike", "isolated")


@dataclass(frozen=True)
class Dataset:
    """Data as `bind` and a call take it; `shape` names how maps are spread."""

    shape: str
    sizes: dict[str, int]
    sets: dict[str, Any]
    tensors: dict[str, Array]


@st.composite
def datasets(
    draw: st.DrawFn, program: Program, points: int = 200_000, finite: bool = True
) -> Dataset:
    """Data on which the statements of a program have at most so many points."""
    shape = draw(st.sampled_from(SHAPES))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    schema = program.schema
    given = [name for name in schema.fields if name not in schema.derived]
    sizes: dict[str, int] = {}
    for name in given:
        pool = TINY + EDGES_OF_TILES if not schema.fields[name] else TINY + EDGES_OF_TILES + MANY
        sizes[name] = draw(st.sampled_from(pool))
    if schema.joined:
        sizes["edge"] = min(sizes["edge"], 60)
    _complete(program, sizes)
    while program.points(sizes) > points and max(sizes[name] for name in given) > 1:
        largest = max(given, key=lambda name: sizes[name])
        sizes[largest] = sizes[largest] * 2 // 3
        _complete(program, sizes)
    sets: dict[str, Any] = {}
    for name in given:
        fields = schema.fields[name]
        spread = {f: _map(rng, shape, sizes[t], sizes[name]) for f, t in fields.items()}
        sets[name] = spread if fields else sizes[name]
    style = draw(st.sampled_from(("normal", "halves", "extreme" if finite else "halves")))
    known = sizes | schema.dims
    tensors = {}
    for tensor in program.parameters:
        lengths = tuple(d if isinstance(d, int) else known[d] for d in tensor.dims)
        if any(d in schema.derived for d in tensor.dims):
            continue
        tensors[tensor.name] = values(rng, style, tensor.element, lengths, finite)
    return Dataset(shape, sizes, sets, tensors)


def _complete(program: Program, sizes: dict[str, int]) -> None:
    """Empty targets empty what maps into them; derived sets have at most so many elements."""
    for name, fields in program.schema.fields.items():
        if name in program.schema.derived:
            joined = program.schema.joined and name in ("walk", "ends", "step")
            sizes[name] = sizes["edge"] ** 2 if joined else sizes["edge"]
        elif any(not sizes[target] for target in fields.values()):
            sizes[name] = 0


def _map(rng: np.random.Generator, shape: str, target: int, count: int) -> Array:
    if not target:
        return np.zeros(count, np.int32)
    drawn = rng.integers(0, target, count)
    if shape == "hub":
        drawn = np.where(rng.random(count) < 0.9, target // 2, drawn)
    elif shape == "skewed":
        drawn = (target * rng.random(count) ** 4).astype(np.int64)
    elif shape == "sorted":
        drawn = np.sort(drawn)
    elif shape == "few":
        drawn = drawn % min(target, 3)
    elif shape == "alike":
        drawn = np.full(count, target - 1)
    elif shape == "isolated":
        drawn = drawn // 4 * 4
    return drawn.astype(np.int32)


def values(
    rng: np.random.Generator, style: str, element: str, shape: tuple[int, ...], finite: bool
) -> Array:
    """An array of an element type."""
    type = ELEMENTS[element]
    if type.is_float:
        if style == "halves" or not finite:
            drawn = rng.integers(-4, 5, shape) / 2
        else:
            drawn = rng.normal(size=shape)
        drawn = np.asarray(drawn, np.float64)
        if not finite:
            odd = rng.choice([np.inf, -np.inf, np.nan], shape)
            drawn = np.where(rng.random(shape) < 0.03, odd, drawn)
        return drawn.astype(type.storage)
    if type.kind == "sign":
        return (rng.integers(0, 2, shape) * 2 - 1).astype(type.storage)
    low, high = type.bounds
    if style != "extreme":
        low, high = max(low, -9), min(high, 9)
    return rng.integers(low, high, shape, endpoint=True).astype(type.storage)


def place(program: Program, dataset: Dataset, binding: Any) -> dict[str, Array]:
    """All tensors, those over derived sets as well, whose sizes the binding tells."""
    rng = np.random.default_rng(len(program.text))
    known = program.schema.dims
    tensors = dict(dataset.tensors)
    for tensor in program.parameters:
        if tensor.name not in tensors:
            lengths = tuple(
                d if isinstance(d, int) else known[d] if d in known else binding.size(d)
                for d in tensor.dims
            )
            tensors[tensor.name] = values(rng, "halves", tensor.element, lengths, True)
    return tensors
