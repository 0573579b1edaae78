"""From a function and its sizes to something that runs, for each target.

Enters: the text of a program, the name of a function, the value of every size. Leaves: an
`Executable`. `cpu` compiles to machine code, through the cache on disk; `reference` evaluates the
graph level in NumPy, the definition of what programs mean; `tile` interprets the tile level and
checks every access; `ptx` and `cuda` run the PTX of a program, here or on a GPU (`gpu_targets.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.frontend.compiled.executable import Executable, Values, delivered, given_sets
from hectorite.frontend.compiled.gpu_targets import EXECUTED, build_cuda, build_ptx, check_option
from hectorite.frontend.compiled.program import HOST, Intake
from hectorite.frontend.compiled.request import Request, only, tile_module
from hectorite.ir.diagnostics import did_you_mean, fail

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.backends.cpu.call import Call
    from hectorite.backends.cpu.program import CpuExecutable

Array = np.ndarray[Any, Any]
TARGETS = ("cpu", "reference", "tile", "ptx", "cuda")
"""What a target may be; for the last two a choice may follow after a colon."""

VARIABLE = "HECTORITE_TARGET"
"""The environment variable that names the default target."""


def gpu_of(target: str) -> str | None:
    """The name of the GPU that a target makes code for, None if it makes none."""
    kind, _, option = target.partition(":")
    if kind == "ptx":
        return option or EXECUTED
    if kind == "cuda":
        from hectorite.backends.cuda.driver import device

        return device(int(option or 0)).target.name
    return None


@dataclass
class Variants:
    """The executables of a program on one target. Numbers of elements that lead to the same graph
    share one."""

    target: str
    made: list[tuple[Request, Executable]] = field(default_factory=list[tuple[Request, Executable]])

    def build(self, request: Request) -> Executable:
        """The executable of a request, built unless there is an equal one."""
        alike = [
            (other, executable)
            for other, executable in self.made
            if (other.function, other.sizes) == (request.function, request.sizes)
        ]
        executable = None
        if alike and request.text.form in ("source", "graph"):
            wanted = _rewritten(request)
            executable = next((e for other, e in alike if _rewritten(other) == wanted), None)
        if executable is None:
            executable = build(self.target, request)
        self.made.append((request, executable))
        return executable

    def measured(self, request: Request) -> Executable:
        """The executable of a request, which its first call holds against what is written."""
        from hectorite.frontend.compiled.measured_choice import MeasuredChoice

        found = self.build(request)
        if request.text.form not in ("source", "graph") or not request.options.search:
            return found
        written = self.build(replace(request, options=replace(request.options, search=False)))
        return found if written is found else MeasuredChoice((written, found))


def _rewritten(request: Request) -> str:
    from hectorite.lowering.pipelines import optimise

    module = only(request.text.module, request.function)
    return str(optimise(module, request.sizes, request.priced))


def default_target(form: str = "source") -> str:
    """What is meant where nobody names a target: `$HECTORITE_TARGET`, else `cpu`; for a program in
    a form that only one machine runs, that machine."""
    chosen = os.environ.get(VARIABLE) or "cpu"
    if form in ("llvm", "asm"):
        return "cpu"
    if form == "ptx" and chosen.partition(":")[0] not in _GPU_BUILDERS:
        return "ptx"
    return chosen


def check_target(target: str) -> None:
    """Raises `HectoriteError` if there is no such target, or none on this machine."""
    kind, colon, option = str(target).partition(":")
    if kind not in TARGETS or (colon and kind not in _GPU_BUILDERS):
        raise fail(
            f"there is no target `{target}`",
            expected=f"one of {', '.join(TARGETS)}",
            hint=did_you_mean(kind, TARGETS),
        )
    if colon:
        check_option(kind, option)
    if kind == "cuda":
        from hectorite.backends.cuda.driver import device

        device(int(option or 0))


def check_measured(target: str, search: bool) -> None:
    """Raises `HectoriteError` where there is nothing to choose by measuring."""
    if not search:
        raise fail("there is nothing to measure: without the search there is only what is written")
    if target.partition(":")[0] not in ("cpu", "cuda"):
        expected = "the target cpu or cuda"
        raise fail(f"times of the target `{target}` say nothing about machines", expected=expected)


def build(target: str, request: Request) -> Executable:
    """Build a function for a target that `check_target` accepts."""
    kind, _, option = target.partition(":")
    if kind in _GPU_BUILDERS:
        return _GPU_BUILDERS[kind](request, option)
    return _BUILDERS[kind](request)


def intake_of(target: str) -> Intake:
    """How a target takes the arrays of a caller."""
    if target.partition(":")[0] != "cuda":
        return HOST
    from hectorite.backends.cuda.arrays import DeviceArrays

    return DeviceArrays()


@dataclass(frozen=True)
class ReferenceExecutable(Executable):
    """Evaluates a function of the graph level; floats are rounded once, at the end."""

    module: ModuleOp
    function: str

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        from hectorite.backends.reference.interpreter import (
            find_function,
            run_reference,
            value_element,
        )

        known, maps = given_sets(binding)
        results = run_reference(self.module, self.function, known | dict(sizes), maps, arguments)
        types = find_function(self.module, self.function).outputs
        with np.errstate(over="ignore"):
            stored = tuple(
                np.asarray(result).astype(value_element(type).storage)
                for result, type in zip(results, types, strict=True)
            )
        return delivered(stored, out)


@dataclass(frozen=True)
class TileExecutable(Executable):
    """Interprets a tile module."""

    module: ModuleOp

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        from hectorite.backends.tile.interpreter import run_tile

        return delivered(run_tile(self.module, binding, arguments, sizes), out)


@dataclass(frozen=True)
class CpuFunction(Executable):
    """Machine code of one function."""

    code: CpuExecutable

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        self.code.prepare(binding, sizes)

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        if out is not None and not all(place.flags.aligned for place in out):
            return delivered(self.code.run(binding, arguments, sizes), out)
        return self.code.prepare(binding, sizes)(arguments, out)

    def ready(self, binding: Binding, sizes: Mapping[str, int]) -> Call:
        """What calls on this binding go through. It lives as long as the binding."""
        return self.code.prepare(binding, sizes)


def _build_reference(request: Request) -> Executable:
    if request.text.form not in ("source", "graph"):
        raise fail(
            f"{request.text.name} is of the {request.text.form} level, which the reference does "
            "not evaluate",
            hint="use the target `cpu`, or for PTX `ptx`",
        )
    return ReferenceExecutable(request.text.module, request.function)


def _build_tile(request: Request) -> Executable:
    return TileExecutable(tile_module(request))


def _build_cpu(request: Request) -> Executable:
    from hectorite.backends.cpu.module import compile_tile
    from hectorite.backends.cpu.program import build_from_text, build_once

    text = request.text
    if text.form == "ptx":
        raise fail(
            f"{text.name} holds PTX, which is for a GPU", hint="use the target `ptx` or `cuda`"
        )
    if text.form in ("llvm", "asm"):
        return CpuFunction(build_from_text(text.text, text.name))
    identity = (
        *text.sources,
        request.function,
        repr(sorted(request.sizes.items())),
        *request.priced.identity,
    )
    return CpuFunction(
        build_once(lambda: compile_tile(tile_module(request)), request.cache, *identity)
    )


_GPU_BUILDERS: dict[str, Callable[[Request, str], Executable]] = {
    "ptx": build_ptx,
    "cuda": build_cuda,
}
_BUILDERS: dict[str, Callable[[Request], Executable]] = {
    "cpu": _build_cpu,
    "reference": _build_reference,
    "tile": _build_tile,
}
