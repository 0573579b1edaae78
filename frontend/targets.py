"""From a function and its sizes to something that runs, for each target.

Enters: the text of a program, the name of a function, the value of every size. Leaves: an
`Executable`. `cpu` compiles to machine code, through the cache on disk; `reference` evaluates the
graph level in NumPy, the definition of what programs mean; `tile` interprets the tile level and
checks every access.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.binding import Binding
from hectorite.backends.cache import Cache
from hectorite.frontend.program import Executable, Facts, Sizes
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.diagnostics import did_you_mean, fail

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.backends.cpu import CpuExecutable

Array = np.ndarray[Any, Any]
TARGETS = ("cpu", "reference", "tile")


@dataclass(frozen=True)
class Request:
    """What to build. `cache` is None where nothing is kept on disk."""

    text: ProgramText
    facts: Facts
    function: str
    sizes: Sizes
    reassociate: bool = True
    cache: Cache | None = None


def check_target(target: str) -> None:
    """Raises `HectoriteError` if there is no such target."""
    if target not in TARGETS:
        raise fail(
            f"there is no target `{target}`",
            expected=f"one of {', '.join(TARGETS)}",
            hint=did_you_mean(str(target), TARGETS),
        )


def build(target: str, request: Request) -> Executable:
    """Build a function for a target that `check_target` accepts."""
    return _BUILDERS[target](request)


def tile_module(
    request: Request, observe: Callable[[str, ModuleOp], None] | None = None
) -> ModuleOp:
    """The tile module of a function: lowered, or the program itself if that is its level."""
    from hectorite.lowering.pipelines import Options, optimise, to_tile

    if request.text.form == "tile":
        return request.text.module
    module = only(request.text.module, request.function)
    module = optimise(module, request.sizes, Options(request.reassociate), observe)
    return to_tile(module, request.function)


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
        from hectorite.backends.reference import find_function, run_reference, value_element

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
        from hectorite.backends.tile_interpreter import run_tile

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
        return delivered(self.code.run(binding, arguments, sizes), out)


def bound_sets(binding: Binding) -> tuple[dict[str, int], dict[tuple[str, str], Array]]:
    """Sizes and maps of the sets that were given, as the reference takes them."""
    given = [decl for decl in binding.schema.sets.values() if decl.derivation is None]
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
    if request.text.form == "tile":
        raise fail(
            f"{request.text.name} is of the tile level, which the reference does not evaluate",
            hint="use the target `tile` or `cpu`",
        )
    return ReferenceExecutable(request.text.module, request.function)


def _build_tile(request: Request) -> Executable:
    return TileExecutable(tile_module(request))


def _build_cpu(request: Request) -> Executable:
    from hectorite.backends.cpu import build_from_text, build_once
    from hectorite.backends.llvm_module import compile_tile

    text = request.text
    if text.form in ("llvm", "asm"):
        return CpuFunction(build_from_text(text.text, text.name))
    identity = (
        *text.sources,
        request.function,
        repr(sorted(request.sizes.items())),
        f"reassociate {request.reassociate}",
    )
    return CpuFunction(
        build_once(lambda: compile_tile(tile_module(request)), request.cache, *identity)
    )


_BUILDERS: dict[str, Callable[[Request], Executable]] = {
    "cpu": _build_cpu,
    "reference": _build_reference,
    "tile": _build_tile,
}
