"""Data that a function is verified on: generated sets, or what was given, cut down if it is large.

Enters: a program, a function, and data or a seed. Leaves: for each choice of the sizes its cases,
bound sets and arguments. What interpreted levels would take too long on is cut down: a part of the
elements of those sets that nothing maps into.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats.operands import bind_operands
from hectorite.frontend.compiled.executable import Executable
from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.compiled.program import Function
from hectorite.frontend.compiled.request import only
from hectorite.frontend.compiled.signature import Signature
from hectorite.frontend.data.file import Data
from hectorite.frontend.data.generate import SHAPES, generate_sets
from hectorite.frontend.data.inputs import inputs_for, sets_for
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema

Array = np.ndarray[Any, Any]

POINTS = 300_000
"""Points of a program's largest statement that the interpreted levels are given at most."""

ELEMENTS = 3000
"""Elements that are kept of a set that is cut down."""

FULL_POINTS = 40_000_000
"""Points of the largest statement on given data that only machine code runs on whole."""

SIZE_PROFILES = ((6, 3, 5, 4, 2, 7), (19, 34, 9, 17, 3, 5))
"""Values for sizes that nothing determines, in the order of the sizes; large ones are halved if
need be."""


@dataclass(frozen=True)
class Case:
    """Bound data and arguments. `cut` tells that it is a part of larger data, `whole` that the
    interpreted levels would take too long on it."""

    name: str
    binding: Binding
    arguments: dict[str, Array]
    sizes: Sizes
    cut: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Cases:
    """The cases of one function; `notes` are told what was assumed and left out."""

    text: ProgramText
    facts: Facts
    function: str
    seed: int
    notes: list[str]

    @property
    def schema(self) -> Schema:
        return self.facts.schema

    @property
    def signature(self) -> Signature:
        return self.facts.signatures[self.function]

    def generated(self, set_sizes: Sizes, sizes: Sizes) -> Iterator[tuple[Sizes, list[Case]]]:
        """Cases on generated sets, by the values of the sizes."""
        shapes = SHAPES if self.schema.sets else ("no sets",)
        told: set[tuple[tuple[str, int], ...]] = set()
        for profile in SIZE_PROFILES:
            named = {n: profile[i % len(profile)] for i, n in enumerate(self.signature.sizes)}
            largest = Binding(self.schema, generate_sets(self.schema, "uneven", self.seed))
            known = self._bounded(largest, named | sizes, sizes, POINTS)
            if tuple(known.items()) in told:
                continue
            told.add(tuple(known.items()))
            cases: list[Case] = []
            for shape in shapes:
                sets = generate_sets(self.schema, shape, self.seed) if self.schema.sets else {}
                binding = Binding(self.schema, sets | set_sizes)
                label = ", ".join([shape, *(f"{n} = {v}" for n, v in known.items())])
                cases += self._case(label, binding, None, known)
            yield known, cases

    def given(
        self, data: Data, set_sizes: Sizes, sizes: Sizes
    ) -> Iterator[tuple[Sizes, list[Case]]]:
        """The data as it is, and cut down if it is large."""
        sets = sets_for(self.schema, data, set_sizes)
        binding = Binding(self.schema, sets)
        inputs = inputs_for(self.signature, self.facts, binding, data, sizes, self.seed)
        fixed = set(inputs.sizes) - set(inputs.assumed)
        # A model has no part that could stand for it.
        part = _part_of(self.schema, sets, self.seed) if self.text.given is None else {}
        is_large = bool(part)
        limit = POINTS if not is_large and self.text.given is None else FULL_POINTS
        known = self._bounded(binding, inputs.sizes, fixed, limit)
        self.notes.extend(f"{n} = {known[n]} (nothing determines it)" for n in inputs.assumed)
        whole = is_large or (self.text.given is not None and self._points(binding, known) > POINTS)
        cases = self._case(data.source, binding, data, known, whole=whole)
        if is_large:
            kept = sets | {k: _taken(sets[k], e) for k, e in part.items()}
            smaller = _Part(data, part, self.facts)
            counts = ", ".join(f"{len(e)} of {n}" for n, e in part.items())
            label = f"{data.source}, {counts}"
            cases += self._case(label, Binding(self.schema, kept), smaller, known, cut=True)
        yield known, cases

    def _case(
        self,
        label: str,
        binding: Binding,
        data: Data | None,
        sizes: Sizes,
        cut: bool = False,
        whole: bool = False,
    ) -> list[Case]:
        """One case, or none where an access would leave its tensor, which is noted."""
        inputs = inputs_for(self.signature, self.facts, binding, data, sizes, self.seed)
        function = Function(self.signature, self.facts, _never, inputs.sizes)
        try:
            values, known = function.take(binding, inputs.arguments)
            function.check_ranges(binding, known)
            binding = bind_operands(binding, values, self.function)
        except HectoriteError as error:
            if data is not None:
                raise
            self.notes.append(f"{label}: left out, as {error.diagnostics[0].message}")
            return []
        return [Case(label, binding, values, known, cut, whole)]

    def _bounded(self, binding: Binding, sizes: Sizes, fixed: Collection[str], limit: int) -> Sizes:
        """Sizes, those that are free halved until no statement has more points than `limit`."""
        known = dict(sizes)
        while self._points(binding, known) > limit:
            free = [n for n in known if n not in fixed and known[n] > 2]
            if not free:
                break
            largest = max(free, key=lambda n: known[n])
            known[largest] //= 2
        return known

    def _points(self, binding: Binding, sizes: Mapping[str, int]) -> int:
        """Points of the largest statement."""
        if self.text.form not in ("source", "graph"):
            return 0
        from hectorite.dialects.graph import StatementOp

        def extent(dim: int | str) -> int:
            if isinstance(dim, int):
                return dim
            return sizes[dim] if dim in sizes else binding.size(dim)

        module = only(self.text.module, self.function)
        statements = (op for op in module.walk() if isinstance(op, StatementOp))
        points = (math.prod(extent(dim) for _, dim in op.variables.data) for op in statements)
        return max(points, default=0)


def _never(_function: str, _sizes: Sizes, _fixed: tuple[str, ...]) -> Executable:
    raise AssertionError("levels are built by `levels_of`")


def _part_of(schema: Schema, sets: Mapping[str, Any], seed: int) -> dict[str, Array]:
    """For each large set that nothing maps into, the elements that are kept."""
    reached = {target for decl in schema.sets.values() for _, target in decl.fields}
    generator = np.random.default_rng(seed % 2**64)
    part: dict[str, Array] = {}
    for name, given in sets.items():
        if isinstance(given, Mapping) and name not in reached and schema.sets[name].fields:
            maps = cast(Mapping[str, Any], given)
            count = len(maps[schema.sets[name].fields[0][0]])
            if count > ELEMENTS:
                part[name] = np.sort(generator.choice(count, ELEMENTS, replace=False))
    return part


def _taken(maps: Mapping[str, Any], kept: Array) -> dict[str, Any]:
    return {f: np.asarray(v)[kept] for f, v in maps.items() if np.ndim(v)}


class _Part(Data):
    """Data whose tensors are cut down along the sets that are."""

    def __init__(self, data: Data, part: Mapping[str, Array], facts: Facts):
        super().__init__(data.source, {key: data[key] for key in data.keys})
        self._part = part
        self._dims = {p.name: p.dims for s in facts.signatures.values() for p in s.parameters}

    def __getitem__(self, key: str) -> Array:
        array = super().__getitem__(key)
        for axis, dim in enumerate(self._dims.get(key, ())):
            if isinstance(dim, str) and dim in self._part and axis < array.ndim:
                array = np.take(array, self._part[dim], axis)
        return array
