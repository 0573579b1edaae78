"""Runs a program on data at every level, and compares.

Enters: a `Program` and its data. Leaves: nothing, or `Disagreement` saying which level differs and
where. Data that an access of the program leaves its tensor on is skipped, as running would refuse
it.
"""

import warnings
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
from datasets import Dataset, place
from programs import Program
from xdsl.context import Context
from xdsl.printer import Printer

import hectorite
from hectorite.backends.cpu.program import build as build_code
from hectorite.backends.reference.error_bound import difference, run_with_bounds
from hectorite.backends.reference.interpreter import run_reference
from hectorite.backends.tile.interpreter import run_tile
from hectorite.frontend.compiled.executable import given_sets
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.request import Request, only, tile_module
from hectorite.frontend.compiled.targets import (
    build,
    default_target,
)
from hectorite.frontend.levels.runnable import Level, levels_of
from hectorite.frontend.program_text import ProgramText, parse_ir
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.target import target as target_named
from hectorite.lowering.formats.parts import is_stored
from hectorite.lowering.gpu.promote_locals import PromoteLocals
from hectorite.lowering.machine import Machine
from hectorite.lowering.pipelines import Options, apply_formats, optimise, to_tile

Array = np.ndarray[Any, Any]


class Disagreement(AssertionError):
    """A level gives another result than the reference."""


@dataclass(frozen=True)
class Bound:
    """Data bound to a program: what every level takes."""

    binding: Any
    arguments: dict[str, Array]
    sizes: dict[str, int]


@dataclass(frozen=True)
class Compiled:
    """A program that has been read, and its facts."""

    program: Program
    text: ProgramText
    facts: Any

    @property
    def module(self):
        """The graph module of the one function that is run."""
        return only(self.text.module, self.program.function)

    def bind(self, dataset: Dataset) -> Bound | None:
        """Bound data, None if an access leaves its tensor."""
        program = self.program
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = hectorite.compile(
                program.text, "reference", program.sizes, program.function, cache=False
            )
        binding = compiled.bind(**dataset.sets)
        function = compiled[program.function]
        tensors = place(program, dataset, binding)
        arguments, sizes = function.take(binding, tensors)
        try:
            function.check_ranges(binding, sizes)
        except HectoriteError as error:
            assert "out of range" in str(error), error
            return None
        return Bound(binding, arguments, sizes)


def read(program: Program) -> Compiled:
    """Read a program, which must have no fault."""
    text = ProgramText("<text>", program.text, "source")
    return Compiled(program, text, facts_of(text, None))


def levels(compiled: Compiled) -> list[Level]:
    """All levels of a program; see `verify_levels`."""
    program = compiled.program
    return levels_of(compiled.text, compiled.facts, program.function, program.sizes)


def check_every_level(program: Program, small: Dataset, large: Dataset) -> int:
    """Every level, from its own text, against the reference: all on the small data, machine code
    also on the large. Returns the number of comparisons."""
    compiled = read(program)
    made = [(level, level.make()) for level in levels(compiled)]
    runs = [(level.name, level.exhaustive, run) for level, run in made]
    return _compare(compiled, small, runs) + _compare(compiled, large, runs, large=True)


def check_results(program: Program, small: Dataset, large: Dataset) -> int:
    """The rewritten graph, the tile level and machine code against the reference, without texts:
    a fraction of the time of `check_every_level`."""
    compiled = read(program)
    name = program.function
    graph = optimise(compiled.module, program.sizes)
    graph.verify()
    tile = to_tile(graph, name)
    tile.verify()
    code = build_code(tile)

    def reference(binding, arguments, sizes):
        extents, maps = given_sets(binding)
        return run_reference(graph, name, extents | sizes, maps, arguments)

    runs = [
        ("graph-opt", True, reference),
        ("tile", True, lambda *data: run_tile(tile, *data)),
        ("cpu", False, code.run),
    ]
    if default_target() != "cpu":
        runs.append((default_target(), False, _chosen(compiled)))
    return _compare(compiled, small, runs) + _compare(compiled, large, runs, large=True)


def _chosen(compiled: Compiled) -> Any:
    """The program on the target that `--target` names."""
    program = compiled.program
    request = Request(compiled.text, compiled.facts, program.function, program.sizes)
    code = build(default_target(), request)
    return lambda binding, arguments, sizes: code(binding, arguments, sizes, None)


def check_formats(
    program: Program, dataset: Dataset, formats: tuple[str, ...], compiled_too: bool
) -> int | None:
    """The level `sparse`, which as a program stays as it is, and what follows from it where that is
    asked for, against the reference; None if a format serves no statement."""
    compiled, options = read(program), Options(formats=formats)
    name = program.function
    graph = optimise(compiled.module, program.sizes)
    try:
        sparse, cores = apply_formats(graph, options), apply_formats(graph, options, True)
    except HectoriteError as error:
        assert "cannot serve" in str(error), error
        return None
    runs: list[Any] = []
    for number, module in enumerate((sparse, cores)):
        module.verify()
        shown = parse_ir(str(module), "<sparse>")
        assert str(shown) == str(module)
        assert not is_stored(module) or str(apply_formats(optimise(shown, {}))) == str(module)
        runs.append((f"sparse {number}", True, _reference_of(shown, name)))
    if compiled_too:
        tile = to_tile(sparse, name)
        tile.verify()
        gpu = to_tile(cores, name, Machine.gpu(target_named("sm_80")))
        gpu.verify()
        runs.append(("tile", True, lambda *data: run_tile(tile, *data)))
        runs.append(("tile sm_80", True, lambda *data: run_tile(gpu, *data)))
        runs.append(("cpu", False, build_code(tile).run))
    return _compare(compiled, dataset, runs)


def _reference_of(module: Any, name: str) -> Any:
    def run(binding, arguments, sizes):
        extents, maps = given_sets(binding)
        return run_reference(module, name, extents | sizes, maps, arguments)

    return run


def check_gpu_tile(program: Program, dataset: Dataset, target: str = "sm_90") -> int:
    """The tile level scheduled for a GPU against the reference."""
    compiled = read(program)
    graph = optimise(compiled.module, program.sizes)
    tile = to_tile(graph, program.function, Machine.gpu(target_named(target)))
    tile.verify()
    promoted = tile.clone()
    PromoteLocals().apply(Context(), promoted)
    promoted.verify()
    runs = [
        ("tile " + target, True, lambda *data: run_tile(tile, *data)),
        ("promoted " + target, True, lambda *data: run_tile(promoted, *data)),
    ]
    return _compare(compiled, dataset, runs)


def _compare(compiled: Compiled, dataset: Dataset, runs: list[Any], large: bool = False) -> int:
    """Compare runs on data; those that take long only if it is not large."""
    bound = compiled.bind(dataset)
    if bound is None:
        return 0
    extents, maps = given_sets(bound.binding)
    name, known = compiled.program.function, extents | bound.sizes
    expected = run_with_bounds(compiled.module, name, known, maps, bound.arguments)
    before = {name: array.tobytes() for name, array in bound.arguments.items()}
    done = 0
    for level, takes_long, run in runs:
        if large and takes_long:
            continue
        results = run(bound.binding, bound.arguments, bound.sizes)
        for number, (one, other) in enumerate(zip(expected, results, strict=True)):
            found = difference(one, other)
            if not found.ok:
                raise Disagreement(f"{level}: result {number} {found} {dataset.sizes}")
            done += 1
        after = {name: array.tobytes() for name, array in bound.arguments.items()}
        assert before == after, f"{level} writes to an argument"
    return done


def check_exactly(program: Program, dataset: Dataset) -> int:
    """Levels against the reference in the program's own types, infinities and NaN included, with
    sums kept in their terms. What is added is exact, so that no order matters."""
    compiled = read(program)
    bound = compiled.bind(dataset)
    if bound is None:
        return 0
    extents, maps = given_sets(bound.binding)
    known, name = extents | bound.sizes, program.function
    with np.errstate(all="ignore"):
        expected = run_reference(
            compiled.module, name, known, maps, bound.arguments, own_types=True
        )
        optimised = optimise(compiled.module, program.sizes, Options(reassociate=False))
        after = run_reference(optimised, name, known, maps, bound.arguments, own_types=True)
    results = {"graph-opt": after}
    options = Options(reassociate=False)
    request = Request(compiled.text, compiled.facts, name, program.sizes, options)
    for target in ("tile", default_target()):
        code = build(target, request)
        results[target] = code(bound.binding, bound.arguments, bound.sizes, None)
    for level, values in results.items():
        for number, (one, other) in enumerate(zip(expected, values, strict=True)):
            if not same(one, other):
                raise Disagreement(f"{level}: result {number}, {dataset.sizes}")
    return len(results)


def same(one: Array, other: Array) -> bool:
    """Whether two arrays agree, NaN with NaN; softmax and the like may be rounded."""
    if one.shape != other.shape:
        return False
    if one.dtype.kind not in "fV":
        return bool(np.array_equal(one, other))
    one, other = one.astype(np.float64), other.astype(np.float64)
    return bool(np.allclose(one, other, rtol=2e-5, atol=1e-6, equal_nan=True))


def check_texts(program: Program) -> None:
    """Printing and parsing is the identity, in the custom form and in the generic one."""
    compiled = read(program)
    modules = [compiled.text.module]
    optimise(
        compiled.module, program.sizes, observe=lambda _, module: modules.append(module.clone())
    )
    request = Request(compiled.text, compiled.facts, program.function, program.sizes)
    modules.append(tile_module(request))
    seen = set[str]()
    for module in modules:
        shown = str(module)
        if shown in seen:
            continue
        seen.add(shown)
        assert str(parse_ir(shown, "<custom>")) == shown
        generic = generic_text(module)
        again = parse_ir(generic, "<generic>")
        assert generic_text(again) == generic
        assert str(again) == shown


def generic_text(module: Any) -> str:
    """The generic form of a module."""
    out = StringIO()
    Printer(out, print_generic_format=True).print_op(module)
    return out.getvalue()
