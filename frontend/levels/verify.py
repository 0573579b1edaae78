"""Every level of a program against the reference, on the same data.

Enters: a program, and data or a seed to make sets from. Leaves: for each level and each data set
the worst result, its distance from the reference and the bound on that distance, which follows from
the lengths of the reductions, the types and the data (`backends/reference/error_bound.py`).

Large data is cut down for the levels that are interpreted (`cases.py`). Machine code always runs on
all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.frontend.compiled.executable import given_sets
from hectorite.frontend.compiled.facts import Sizes, check_sizes, pick_function
from hectorite.frontend.compiled.gpu_targets import EXECUTED
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.request import only
from hectorite.frontend.data.file import load_data
from hectorite.frontend.data.inputs import split_sizes
from hectorite.frontend.levels.cases import Case, Cases
from hectorite.frontend.levels.runnable import Level, Run, levels_of
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import HectoriteError, fail

if TYPE_CHECKING:
    from hectorite.backends.reference.error_bound import Bounded

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]


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
    cases = Cases(text, facts, name, seed, report.notes)
    if loaded is None:
        groups = cases.generated(set_sizes, plain)
    else:
        groups = cases.given(loaded, set_sizes, plain)
    done = 0
    for known, group in groups:
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
