"""What is to be built, and the modules that it is built from.

Enters: the text of a program, the name of a function, the value of every size, and what the
rewrites go by. Leaves: a `Request`, which every target takes, and the tile module it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hectorite.backends.cache import Cache
from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.program_text import ProgramText
from hectorite.lowering.options import Options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.ir.device import Device


@dataclass(frozen=True)
class Request:
    """What to build. `options` say how it is rewritten; `cache` is None where nothing is kept on
    disk; `gpu` names the target that the tile level is scheduled for, None for a CPU."""

    text: ProgramText
    facts: Facts
    function: str
    sizes: Sizes
    options: Options = Options()
    cache: Cache | None = None
    gpu: str | None = None

    @property
    def priced(self) -> Options:
        """The options, with the device whose costs decide if anything is searched for."""
        if not self.options.search:
            return self.options
        return replace(self.options, device=device_of(self.gpu))


def device_of(gpu: str | None) -> Device:
    """The device whose costs decide about rewrites: that of a GPU's name, or this computer."""
    from hectorite.ir.devices import DEVICES

    if gpu is not None:
        return DEVICES["h200" if gpu >= "sm_90" else "a100"]
    from hectorite.backends.cpu.host_device import host_device

    return host_device()


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
    module = optimise(module, request.sizes, request.priced, observe)
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
