"""Every level of a program against the reference, on the same data.

Enters: a program, and data or a seed to make sets from. Leaves: for each level and each data set
the worst result, its distance from the reference and the bound on that distance, which follows from
the lengths of the reductions, the types and the data (`backends/reference/error_bound.py`).

Large data is cut down for the levels that are interpreted: a part of the elements of those sets
that nothing maps into. Machine code always runs on all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats.operands import bind_operands
from hectorite.frontend.compiled.executable import Executable, given_sets
from hectorite.frontend.compiled.facts import Facts, Sizes, check_sizes, pick_function
from hectorite.frontend.compiled.gpu_targets import EXECUTED
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.program import Function
from hectorite.frontend.compiled.request import only
from hectorite.frontend.data.file import Data, load_data
from hectorite.frontend.data.generate import SHAPES, generate_sets
from hectorite.frontend.data.inputs import inputs_for, sets_for, split_sizes
from hectorite.frontend.levels.runnable import Level, Run, levels_of
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import HectoriteError, fail
from hectorite.ir.schema import Schema

if TYPE_CHECKING:
    from hectorite.backends.reference.error_bound import Bounded

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]

POINTS = 300_000
"""Points of a program's largest statement that the interpreted levels are given at most."""

ELEMENTS = 3000
"""Elements that are kept of a set that is cut down."""

FULL_POINTS = 40_000_000
"""Points of the largest statement on data as it was given."""

SIZE_PROFILES = ((6, 3, 5, 4, 2, 7), (19, 34, 9, 17, 3, 5))
"""Values for sizes that nothing gives, in the order of the sizes; large ones are halved if need
be."""


@dataclass(frozen=True)
class Row:
    """The worst result of one level on one data set. `fault` says why there is none; `is_pass`
    tells that the level is the graph after a pass."""

    data: str
    level: str
    error: float
    bound: float
    is_pass: bool
    fault: str | None = None

    @property
    def ok(self) -> bool:
        return self.fault is None and self.error <= self.bound


@dataclass
class Verification:
    """All rows; true if every one is within its bound. `notes` say what was assumed."""

    function: str
    rows: list[Row] = field(default_factory=list[Row])
    notes: list[str] = field(default_factory=list[str])

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        failed = [row for row in self.rows if not row.ok]
        verdict = f"{len(failed)} of {len(self.rows)} failed" if failed else "all agree"
        return f"{self.function}: {len(self.rows)} comparisons, {verdict}"


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


def verify_program(
    text: ProgramText,
    data: str | None,
    function: str | None,
    sizes: Sizes,
    seed: int,
    progress: Progress | None = None,
    gpu: str = EXECUTED,
    formats: tuple[str, ...] = (),
) -> Verification:
    """Compare all levels of one function; `gpu` names the GPU for the level ptx, `formats` storage
    formats as `Options` has them. Raises
    `HectoriteError` for a fault in the program or in the data, as running it would."""
    facts = facts_of(text, None)
    name = pick_function(facts, function, text.name)
    set_sizes, plain = split_sizes(facts.schema, sizes)
    plain = check_sizes(facts, plain)
    report = Verification(name)
    loaded = None if data is None else load_data(data)
    if text.given is not None:
        loaded = text.given.data(loaded, facts.signatures[name], plain, seed)
    if loaded is None:
        cases = _generated(text, facts, name, set_sizes, plain, seed, report)
    else:
        cases = _given(text, facts, name, loaded, set_sizes, plain, seed, report)
    done = 0
    for known, group in cases:
        levels = levels_of(text, facts, name, known, gpu, formats)
        built = [_made(level) for level in levels]
        for case in group:
            expected = _expected(text, name, case, built)
            for level, run in zip(levels, built, strict=True):
                if case.cut and not level.exhaustive or case.whole and level.exhaustive:
                    continue
                report.rows.append(_compared(case, level, run, expected))
                done += 1
                if progress is not None:
                    progress(done, done + 1)
    if not report.rows:
        raise fail(f"nothing of {text.name} could be compared", hint="; ".join(report.notes))
    return report


def _made(level: Level) -> Run | HectoriteError:
    try:
        return level.make()
    except HectoriteError as error:
        return error


def _compared(
    case: Case, level: Level, run: Run | HectoriteError, expected: tuple[Bounded, ...]
) -> Row:
    """The result of a level that exceeds its bound most."""
    from hectorite.backends.reference.error_bound import difference

    try:
        if isinstance(run, HectoriteError):
            raise run
        results = run(case.binding, case.arguments, case.sizes)
    except HectoriteError as error:
        message = error.diagnostics[0].message
        return Row(case.name, level.name, math.inf, 0.0, level.is_pass, message)
    pairs = zip(expected, results, strict=True)
    worst = max((difference(e, r) for e, r in pairs), key=lambda d: (not d.ok, d.error))
    return Row(case.name, level.name, worst.error, worst.bound, level.is_pass)


def _expected(
    text: ProgramText, function: str, case: Case, built: list[Run | HectoriteError]
) -> tuple[Bounded, ...]:
    """What the reference gives, with bounds. Where a program has no graph level, its first level
    stands for it, and the others must give the same up to the rounding of sums in another order."""
    from hectorite.backends.reference.error_bound import Bounded, run_with_bounds

    if text.form in ("source", "graph"):
        extents, maps = given_sets(case.binding)
        module = only(text.module, function)
        return run_with_bounds(module, function, extents | case.sizes, maps, case.arguments)
    first = built[0]
    if isinstance(first, HectoriteError):
        raise first
    results = first(case.binding, case.arguments, case.sizes)
    return tuple(Bounded(_wide(result), _rounding(result)) for result in results)


def _wide(result: Array) -> Array:
    return result.astype(np.float64) if result.dtype.kind in "fV" else result


def _rounding(result: Array) -> Array:
    """A thousand roundings of the largest value: a graph level would tell the true bound."""
    if result.dtype.kind not in "fV":
        return np.zeros(result.shape)
    values = np.abs(_wide(result))
    largest = float(np.max(values, initial=0.0, where=np.isfinite(values)))
    step = 2.0 ** -(8 * result.dtype.itemsize - (8 if result.dtype.itemsize == 4 else 5))
    return np.full(result.shape, 1000 * step * largest)


def _generated(
    text: ProgramText,
    facts: Facts,
    name: str,
    set_sizes: Sizes,
    sizes: Sizes,
    seed: int,
    report: Verification,
) -> Iterator[tuple[Sizes, list[Case]]]:
    """Cases on generated sets, by the values of the sizes."""
    signature = facts.signatures[name]
    shapes = SHAPES if facts.schema.sets else ("no sets",)
    told: set[tuple[tuple[str, int], ...]] = set()
    for profile in SIZE_PROFILES:
        wanted = {n: profile[i % len(profile)] for i, n in enumerate(signature.sizes)} | sizes
        largest = Binding(facts.schema, generate_sets(facts.schema, "uneven", seed))
        known = _bounded(text, name, largest, wanted, set(sizes), POINTS)
        if tuple(known.items()) in told:
            continue
        told.add(tuple(known.items()))
        cases: list[Case] = []
        for shape in shapes:
            sets = generate_sets(facts.schema, shape, seed) if facts.schema.sets else {}
            binding = Binding(facts.schema, sets | set_sizes)
            label = ", ".join([shape, *(f"{n} = {v}" for n, v in known.items())])
            cases += _case(label, facts, name, binding, None, known, seed, report)
        yield known, cases


def _given(
    text: ProgramText,
    facts: Facts,
    name: str,
    data: Data,
    set_sizes: Sizes,
    sizes: Sizes,
    seed: int,
    report: Verification,
) -> Iterator[tuple[Sizes, list[Case]]]:
    """The data as it is, and cut down if it is large."""
    schema, signature = facts.schema, facts.signatures[name]
    sets = sets_for(schema, data, set_sizes)
    binding = Binding(schema, sets)
    inputs = inputs_for(signature, facts, binding, data, sizes, seed)
    fixed = set(inputs.sizes) - set(inputs.assumed)
    known = _bounded(text, name, binding, inputs.sizes, fixed, FULL_POINTS)
    report.notes += [f"{n} = {known[n]} (nothing determines it)" for n in inputs.assumed]
    # A model has no part that could stand for it.
    part = _part_of(schema, sets, seed) if text.given is None else {}
    is_large = bool(part)
    whole = is_large or (text.given is not None and _points(text, name, binding, known) > POINTS)
    cases = _case(data.source, facts, name, binding, data, known, seed, report, whole=whole)
    if is_large:
        kept = sets | {k: _taken(sets[k], e) for k, e in part.items()}
        smaller = _Part(data, part, facts)
        counts = ", ".join(f"{len(e)} of {n}" for n, e in part.items())
        label = f"{data.source}, {counts}"
        bound = Binding(schema, kept)
        cases += _case(label, facts, name, bound, smaller, known, seed, report, cut=True)
    yield known, cases


def _case(
    label: str,
    facts: Facts,
    name: str,
    binding: Binding,
    data: Data | None,
    sizes: Sizes,
    seed: int,
    report: Verification,
    cut: bool = False,
    whole: bool = False,
) -> list[Case]:
    """One case, or none where an access would leave its tensor, which is noted."""
    signature = facts.signatures[name]
    inputs = inputs_for(signature, facts, binding, data, sizes, seed)
    function = Function(signature, facts, _never, inputs.sizes)
    try:
        values, known = function.take(binding, inputs.arguments)
        function.check_ranges(binding, known)
        binding = bind_operands(binding, values, name)
    except HectoriteError as error:
        if data is not None:
            raise
        report.notes.append(f"{label}: left out, as {error.diagnostics[0].message}")
        return []
    return [Case(label, binding, values, known, cut, whole)]


def _never(_function: str, _sizes: Sizes, _fixed: tuple[str, ...]) -> Executable:
    raise AssertionError("levels are built by verify_levels")


def _bounded(
    text: ProgramText, name: str, binding: Binding, sizes: Sizes, fixed: set[str], limit: int
) -> Sizes:
    """Sizes, those that are free halved until no statement has more points than `limit`."""
    known = dict(sizes)
    while _points(text, name, binding, known) > limit:
        free = [n for n in known if n not in fixed and known[n] > 2]
        if not free:
            break
        largest = max(free, key=lambda n: known[n])
        known[largest] //= 2
    return known


def _points(text: ProgramText, name: str, binding: Binding, sizes: Mapping[str, int]) -> int:
    """Points of the largest statement."""
    if text.form not in ("source", "graph"):
        return 0
    from hectorite.dialects.graph import StatementOp

    def extent(dim: int | str) -> int:
        if isinstance(dim, int):
            return dim
        return sizes[dim] if dim in sizes else binding.size(dim)

    statements = (op for op in only(text.module, name).walk() if isinstance(op, StatementOp))
    points = (math.prod(extent(dim) for _, dim in op.variables.data) for op in statements)
    return max(points, default=0)


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
