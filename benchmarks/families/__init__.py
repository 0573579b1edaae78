"""Kinds of cases of the suite `sparse` that have a file of their own here.

Enters: nothing. Leaves: a `Kind` for each: its cases, data, expected result, miniature and targets.

To add one, write `benchmarks/families/NAME.py` with

    def cases(data_dir: Path | None, quick: bool) -> list[Case]: ...   # suite "sparse", kind "mine"
    def build(case: Case, data_dir: Path | None) -> Data: ...          # the same on every call
    def expected(data: Data) -> np.ndarray: ...                        # floats come as float64

    @peer(OURS, OURS, "mine")              # ours: compiled and bound here, `call` is timed
    def compiled(data: Data, case: Case) -> Call: ...

    @peer("torch gather-product-scatter", "torch", "mine")             # and others
    def torch_version(data: Data, case: Case) -> Call: ...

    KINDS = (Kind("mine", cases, build, expected, small=Case("sparse", "mine.small", "mine")),)

and name it in `MODULES`. `Data` holds NumPy arrays and plain integers; a case carries a graph, a
width, a shape and a tolerance. A case whose file is absent raises `FileNotFoundError` in `build`,
and is skipped. `small` is a case of a few elements that needs no file: every peer computes it
first, to start its libraries. Runtimes are processes; those in use are listed by `peers/table.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.cases import Case, Data, Goal

MODULES: tuple[str, ...] = ("convolution", "hypergraph", "joins", "kept")


@dataclass(frozen=True)
class Kind:
    """A kind of case, and what `cases.Goal` says is wanted of it."""

    name: str
    cases: Callable[[Path | None, bool], list[Case]]
    build: Callable[[Case, Path | None], Data]
    expected: Callable[[Data], np.ndarray]
    small: Case
    ratio: float | None = 1.0
    mean: float | None = None
    ratio_expert: float | None = None

    @property
    def goal(self) -> Goal:
        return Goal(self.ratio, self.mean, self.ratio_expert)


@cache
def kinds() -> dict[str, Kind]:
    """Every kind by its name, in the order of the modules."""
    modules = [importlib.import_module(f"benchmarks.families.{name}") for name in MODULES]
    return {kind.name: kind for module in modules for kind in module.KINDS}
