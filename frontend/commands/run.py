"""`hectorite run PROGRAM --data DATA`: run one function and tell what came out.

Enters: parsed arguments. Leaves: for each result its name, type, shape and 2-norm, with `--out` the
results in a file, with `--time` the seconds that compiling, binding and running took.
"""

from __future__ import annotations

import json
import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import default_cache
from hectorite.frontend.commands.call import asked, tell_assumed
from hectorite.frontend.commands.rewrites import chosen_options
from hectorite.frontend.compiled.format_choice import chooser, split_known
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.measured_choice import MeasuredChoice
from hectorite.frontend.compiled.program import Function
from hectorite.frontend.compiled.request import Request
from hectorite.frontend.compiled.targets import (
    Variants,
    build,
    check_measured,
    check_target,
    default_target,
)
from hectorite.frontend.console import note, table, working
from hectorite.frontend.data.file import write_npz
from hectorite.frontend.data.inputs import Inputs
from hectorite.frontend.program_text import read_program

Array = np.ndarray[Any, Any]
T = TypeVar("T")

TIMED_SECONDS = 1.0
"""Calls are repeated for this long, and at least three times, when they are timed."""


def run(chosen: Namespace) -> int:
    """Run one function."""
    text = read_program(chosen.program, dict(chosen.size))
    target = default_target(text.form) if chosen.target is None else chosen.target
    check_target(target)
    if chosen.measure:
        check_measured(target, not chosen.no_search)
    store = None if chosen.no_cache else default_cache()
    facts, to_check = _timed(lambda: facts_of(text, store))
    for warning in facts.warnings:
        note(warning)
    given = asked(chosen, text, facts)
    name, signature, sets = given.function, given.signature, given.sets()
    binding, to_bind = _timed(lambda: Binding(facts.schema, sets))
    inputs = given.inputs(binding)

    def make(function: str, values: dict[str, int], of_data: tuple[str, ...]) -> Any:
        counts, formats = split_known(of_data)
        options = chosen_options(chosen, counts)
        options = replace(options, formats=(*options.formats, *formats))
        request = Request(text, facts, function, values, options, store)
        return Variants(target).measured(request) if chosen.measure else build(target, request)

    function = Function(signature, facts, make, inputs.sizes)
    function.choose = chooser(text, chosen_options(chosen), target)
    values, known = function.take(binding, inputs.arguments)
    function.check_ranges(binding, known)
    with working(f"compiling {name}"):
        code, to_compile = _timed(lambda: function.executable(known, function.known(binding)))
    arguments = {each.name: values[each.name] for each in signature.parameters}
    call = lambda: function(binding, **arguments)  # noqa: E731
    with working(f"running {name}"):
        results, first = _timed(call)
        seconds = {"compile": to_check + to_compile, "bind": to_bind, "first run": first}
        if chosen.time:
            seconds["run"] = _median(call, first)
    if chosen.measure:
        taken = isinstance(code, MeasuredChoice) and code.searched
        note(f"measured: {'what the search found' if taken else 'what is written'} was taken")
    arrays = dict(zip((r.name for r in signature.results), _several(results), strict=True))
    types = {result.name: str(result) for result in signature.results}
    if chosen.json:
        print(json.dumps(_facts(chosen, target, name, inputs, arrays, types, seconds), indent=1))
    else:
        _print(chosen, inputs, arrays, types, seconds)
    if chosen.out is not None:
        write_npz(chosen.out, arrays)
    return 0


def _print(
    chosen: Namespace,
    inputs: Inputs,
    arrays: dict[str, Array],
    types: dict[str, str],
    seconds: dict[str, float],
) -> None:
    tell_assumed(inputs)
    if inputs.converted:
        note(f"converted to the declared type: {', '.join(inputs.converted)}")
    if inputs.drawn:
        note(f"drawn from the seed {chosen.seed}: {', '.join(inputs.drawn)}")
    rows = [
        [name, types[name], " x ".join(map(str, array.shape)) or "scalar", f"{norm(array):.7g}"]
        for name, array in arrays.items()
    ]
    table(["result", "type", "shape", "norm"], rows, [""] * len(rows))
    if chosen.time:
        rows = [[what, f"{value:.6f}"] for what, value in seconds.items()]
        table(["step", "seconds"], rows, [""] * len(rows))


def _facts(
    chosen: Namespace,
    target: str,
    function: str,
    inputs: Inputs,
    arrays: dict[str, Array],
    types: dict[str, str],
    seconds: dict[str, float],
) -> dict[str, Any]:
    return {
        "function": function,
        "target": target,
        "sizes": inputs.sizes,
        "assumed": inputs.assumed,
        "drawn": inputs.drawn,
        "seed": chosen.seed,
        "results": [
            {"name": n, "type": types[n], "shape": list(a.shape), "norm": _number(norm(a))}
            for n, a in arrays.items()
        ],
        "seconds": seconds if chosen.time else None,
    }


def norm(array: Array) -> float:
    """The 2-norm, in float64."""
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    return float(np.linalg.norm(np.asarray(array).astype(wide).ravel()))


def _number(value: float) -> float | str:
    """JSON has no infinities."""
    return value if np.isfinite(value) else str(value)


def _several(results: Any) -> tuple[Array, ...]:
    return cast(tuple[Array, ...], results) if isinstance(results, tuple) else (results,)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _median(call: Callable[[], Any], estimate: float) -> float:
    count = max(3, min(1000, int(TIMED_SECONDS / max(estimate, 1e-6))))
    return statistics.median(_timed(call)[1] for _ in range(count))
