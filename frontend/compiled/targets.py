"""From a function and its sizes to something that runs, for each target.

Enters: the text of a program, the name of a function, the value of every size. Leaves: an
`Executable`. `cpu` compiles to machine code, through the cache on disk; `reference` evaluates the
graph level in NumPy, the definition of what programs mean; `tile` interprets the tile level and
checks every access; `ptx` and `cuda` run the PTX of a program, here or on a GPU (`gpu_targets.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import Cache
from hectorite.frontend.compiled.gpu_targets import EXECUTED, build_cuda, build_ptx, check_option
from hectorite.frontend.compiled.program import HOST, Executable, Facts, Intake, Sizes
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import did_you_mean, fail
from hectorite.lowering.options import Options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.backends.cpu.call import Call
    from hectorite.backends.cpu.program import CpuExecutable
    from hectorite.ir.device import Device

Array = np.ndarray[Any, Any]
TARGETS = ("cpu", "reference", "tile", "ptx", "cuda")
"""What a target may be; for the last two a choice may follow after a colon."""

VARIABLE = "HECTORITE_TARGET"
"""The environment variable that names the default target."""


@dataclass(frozen=True)
class Request:
    """What to build. `cache` is None where nothing is kept on disk; `gpu` names the target that the
    tile level is scheduled for, None for a CPU."""

    text: ProgramText
    facts: Facts
    function: str
    sizes: Sizes
    reassociate: bool = True
    cache: Cache | None = None
    gpu: str | None = None
    known: tuple[str, ...] = ()
    """What is known of the data (`Options.cardinalities`)."""
    search: bool = True
    forbid: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()

    @staticmethod
    def of(
        text: ProgramText,
        facts: Facts,
        function: str,
        sizes: Sizes,
        options: Options,
        gpu: str | None = None,
    ) -> Request:
        """A request with all options, of which nothing is kept on disk."""
        chosen = (options.cardinalities, options.search, options.forbid, options.force)
        chosen = (*chosen, options.formats)
        return Request(text, facts, function, sizes, options.reassociate, None, gpu, *chosen)

    @property
    def options(self) -> Options:
        """What the rewrites go by."""
        chosen = (self.search, self.forbid, self.force)
        options = Options(self.reassociate, self.known, *chosen, formats=self.formats)
        return replace(options, device=device_of(self.gpu)) if options.search else options


def device_of(gpu: str | None) -> Device:
    """The device whose costs decide about rewrites: that of a GPU's name, or this computer."""
    from hectorite.ir.devices import DEVICES

    if gpu is not None:
        return DEVICES["h200" if gpu >= "sm_90" else "a100"]
    from hectorite.backends.cpu.host_device import host_device

    return host_device()


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
        if request.text.form not in ("source", "graph") or not request.search:
            return found
        written = self.build(replace(request, search=False))
        return found if written is found else MeasuredChoice((written, found))


def _rewritten(request: Request) -> str:
    from hectorite.lowering.pipelines import optimise

    module = only(request.text.module, request.function)
    return str(optimise(module, request.sizes, request.options))


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


def tile_module(
    request: Request, observe: Callable[[str, ModuleOp], None] | None = None
) -> ModuleOp:
    """The tile module of a function: lowered, or the program itself if that is its level."""
    from hectorite.ir.target import target as target_named
    from hectorite.lowering.machine import Machine
    from hectorite.lowering.pipelines import apply_formats, optimise, to_tile

    if request.text.form == "tile":
        return request.text.module
    module = only(request.text.module, request.function)
    module = optimise(module, request.sizes, request.options, observe)
    module = apply_formats(module, request.options, request.gpu is not None, observe)
    if request.gpu is None:
        return to_tile(module, request.function)
    return to_tile(module, request.function, Machine.gpu(target_named(request.gpu)))


def only(module: ModuleOp, function: str) -> ModuleOp:
    """A copy of a graph module with one of its functions."""
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.dialects.graph import FuncOp

    kept = (op for op in module.ops if not isinstance(op, FuncOp) or op.sym_name.data == function)
    return ModuleOp([op.clone() for op in kept])


class Unprepared:
    """An executable that needs nothing of a binding before it is called."""

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        """Nothing to do."""


@dataclass(frozen=True)
class ReferenceExecutable(Unprepared):
    """Evaluates a function of the graph level; floats are rounded once, at the end."""

    module: ModuleOp
    function: str

    def __call__(
        self,
        binding: Binding,
        arguments: Mapping[str, Array],
        sizes: Mapping[str, int],
        out: Sequence[Array] | None,
    ) -> tuple[Array, ...]:
        from hectorite.backends.reference.interpreter import (
            find_function,
            run_reference,
            value_element,
        )

        known, maps = bound_sets(binding)
        results = run_reference(self.module, self.function, known | dict(sizes), maps, arguments)
        types = find_function(self.module, self.function).outputs
        with np.errstate(over="ignore"):
            stored = tuple(
                np.asarray(result).astype(value_element(type).storage)
                for result, type in zip(results, types, strict=True)
            )
        return delivered(stored, out)


@dataclass(frozen=True)
class TileExecutable(Unprepared):
    """Interprets a tile module."""

    module: ModuleOp

    def __call__(
        self,
        binding: Binding,
        arguments: Mapping[str, Array],
        sizes: Mapping[str, int],
        out: Sequence[Array] | None,
    ) -> tuple[Array, ...]:
        from hectorite.backends.tile.interpreter import run_tile

        return delivered(run_tile(self.module, binding, arguments, sizes), out)


@dataclass(frozen=True)
class CpuFunction(Unprepared):
    """Machine code of one function."""

    code: CpuExecutable

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        self.code.prepare(binding, sizes)

    def __call__(
        self,
        binding: Binding,
        arguments: Mapping[str, Array],
        sizes: Mapping[str, int],
        out: Sequence[Array] | None,
    ) -> tuple[Array, ...]:
        if out is not None and not all(place.flags.aligned for place in out):
            return delivered(self.code.run(binding, arguments, sizes), out)
        return self.code.prepare(binding, sizes)(arguments, out)

    def ready(self, binding: Binding, sizes: Mapping[str, int]) -> Call:
        """What calls on this binding go through. It lives as long as the binding."""
        return self.code.prepare(binding, sizes)


def bound_sets(binding: Binding) -> tuple[dict[str, int], dict[tuple[str, str], Array]]:
    """Sizes and maps of the sets that were given, as the reference takes them."""
    given = [decl for decl in binding.schema.sets.values() if decl.given]
    sizes = {decl.name: binding.size(decl.name) for decl in given}
    maps = {(d.name, field): binding.map(d.name, field) for d in given for field, _ in d.fields}
    return sizes, maps


def delivered(results: tuple[Array, ...], out: Sequence[Array] | None) -> tuple[Array, ...]:
    """Results, copied to `out` if that is given."""
    if out is None:
        return results
    for place, result in zip(out, results, strict=True):
        np.copyto(place, result)
    return tuple(out)


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
        *request.options.identity,
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
