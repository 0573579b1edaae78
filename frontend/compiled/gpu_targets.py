"""The targets for GPUs: `ptx`, the executor on this machine, and `cuda`, a device of it.

Enters: what is to be built, and the option after the colon of a target: `ptx:sm_90` compiles for
that GPU (sm_80 by default), `cuda:1` for that device (0 by default). Leaves: an executable. PTX is
kept in the cache on disk under its program, the machine code that is made of it under the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import cache_key
from hectorite.frontend.compiled.executable import Executable, Values, delivered
from hectorite.frontend.compiled.request import Request, tile_module
from hectorite.ir.diagnostics import fail
from hectorite.ir.target import target as target_named

if TYPE_CHECKING:
    from hectorite.backends.cuda.graph import CudaGraph
    from hectorite.backends.cuda.program import CudaExecutable
    from hectorite.backends.ptx.device import PtxExecutable

EXECUTED = "sm_80"
"""The GPU whose code the executor runs where nothing names one: the oldest, so it knows all of its
instructions."""


def executed(name: str | None) -> str:
    """The GPU of this name, the usual one for None. Raises `HectoriteError` if there is none."""
    return EXECUTED if name is None else target_named(name).name


@dataclass(frozen=True)
class PtxFunction(Executable):
    """One function, its PTX executed on this machine."""

    code: PtxExecutable

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        self.code.prepare(binding, sizes)

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        return delivered(self.code.run(binding, arguments, sizes), out)


@dataclass(frozen=True)
class CudaFunction(Executable):
    """One function on a GPU. Arguments may be `cuda.memory.Span`s. `stream` is where it works, the
    stream of the caller's library if it is None."""

    code: CudaExecutable
    stream: Any = None

    def on(self, stream: Any) -> CudaFunction:
        """The same on another stream."""
        return replace(self, stream=stream)

    @property
    def on_gpu(self) -> CudaFunction:
        return self

    def prepare(self, binding: Binding, sizes: Mapping[str, int]) -> None:
        self.code.prepare(binding, sizes)

    def __call__(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], out: Any
    ) -> tuple[Any, ...]:
        return self.code.run(binding, arguments, sizes, self.stream, out)

    def capture(self, binding: Binding, arguments: Values, sizes: Mapping[str, int]) -> CudaGraph:
        """A call recorded as a graph."""
        from hectorite.backends.cuda.graph import CudaGraph

        return CudaGraph(self.code, binding, arguments, sizes, self.stream)

    def seconds(
        self, binding: Binding, arguments: Values, sizes: Mapping[str, int], rounds: int
    ) -> list[float]:
        """What calls take by the clock of the device."""
        from hectorite.backends.cuda.events import seconds

        stream = self.code.queue(arguments, self.stream)[0].stream
        call: Callable[[], Any] = lambda: self(binding, arguments, sizes, None)  # noqa: E731
        return seconds(self.code.device, stream, call, rounds)


def check_option(kind: str, option: str) -> None:
    """Raises `HectoriteError` if the part after the colon of `ptx:` or `cuda:` is wrong."""
    if kind == "ptx":
        target_named(option)
    elif not option.isdecimal():
        raise fail(f"there is no device `cuda:{option}`", expected="a number, such as cuda:0")


def build_ptx(request: Request, option: str) -> PtxFunction:
    """A function for the executor."""
    from hectorite.backends.ptx.device import build

    text = ptx_text(request, option or EXECUTED)
    return PtxFunction(build(text, _name(request)))


def build_cuda(request: Request, option: str) -> CudaFunction:
    """A function for a device. Raises `HectoriteError` where there is none."""
    from hectorite.backends.cuda.driver import device
    from hectorite.backends.cuda.program import build

    on = device(int(option or 0))
    text = ptx_text(request, on.target.name)
    return CudaFunction(build(text, on, request.cache, _name(request)))


def ptx_text(request: Request, target: str) -> str:
    """PTX of a function with its plan ahead, from the cache if it is there, or the program itself
    if that is what it holds."""
    if request.text.form == "ptx":
        return request.text.text
    if request.text.form in ("llvm", "asm"):
        raise fail(
            f"{request.text.name} holds {request.text.form}, which is for a CPU",
            hint="use the target `cpu`",
        )
    cache, key = request.cache, ""
    if cache is not None:
        sizes = repr(sorted(request.sizes.items()))
        facts = (request.function, sizes, *request.priced.identity)
        key = cache_key("ptx text", target, *request.text.sources, *facts)
        entry = cache.lookup(key)
        if entry is not None:
            return entry.blobs["ptx"].decode()
    made = _compiled(request, target)
    if cache is not None:
        cache.store(key, {"target": target}, {"ptx": made.encode()})
    return made


def _compiled(request: Request, target: str) -> str:
    from hectorite.backends.ptx.module import to_ptx_text

    return to_ptx_text(tile_module(replace(request, gpu=target)), target_named(target))


def _name(request: Request) -> str:
    return request.text.name if request.text.form == "ptx" else f"<PTX of {request.text.name}>"
