"""The levels of a GPU: PTX text, and the listing of its machine code.

Enters: a program for known sizes, or PTX text of any compiler, and the name of a target. Leaves:
the text of a level. PTX of another compiler has no plan, so it can be assembled and looked at, but
not called as a program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hectorite.frontend.compiled.range_checks import Check
from hectorite.frontend.program_text import ProgramText
from hectorite.ir.target import DEFAULT_TARGET, TARGETS, Target

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from hectorite.backends.machine_code.resources import MachineCode

GPU_LEVELS = ("ptx-ir", "ptx", "cubin", "sass")

_TARGET = re.compile(r"^\s*\.target\s+(\w+)", re.MULTILINE)


def ptx_of_tile(
    module: ModuleOp,
    target: Target,
    checks: Sequence[Check],
    observe: Callable[[str, ModuleOp], None] | None = None,
) -> str:
    """PTX of a tile module that was scheduled for a GPU, under its plan and checks."""
    from hectorite.backends.ptx.module import compile_ptx
    from hectorite.frontend.compiled.emitted_code import emitted

    plan, code = compile_ptx(module, target, observe)
    return emitted("ptx", plan, checks, code)


def dialect_of_tile(
    module: ModuleOp,
    target: Target,
    checks: Sequence[Check],
    observe: Callable[[str, ModuleOp], None] | None = None,
    *,
    write: Callable[[ModuleOp], str],
) -> str:
    """The kernels of a tile module in the `ptx` dialect, under the plan and checks."""
    from hectorite.backends.ptx.module import lower_to_ptx
    from hectorite.frontend.compiled.emitted_code import emitted

    plan, lowered = lower_to_ptx(module, target, observe)
    return emitted("ptx", plan, checks, write(lowered))


def dialect_of_text(text: ProgramText, write: Callable[[ModuleOp], str]) -> str:
    """PTX text in the `ptx` dialect, under the comments that it begins with.

    Raises `HectoriteError` for what the dialect has no operation for.
    """
    from hectorite.frontend.program_text import head_of, parse_ir
    from hectorite.ir.ptx.parse import parse_ptx
    from hectorite.lowering.ptx.import_ptx import import_ptx

    if text.ir is not None:
        return head_of(text.ir) + write(parse_ir(text.ir, text.name))
    return head_of(text.text) + write(import_ptx(parse_ptx(text.text, text.name)))


def target_of_text(text: ProgramText) -> str:
    """The target that a PTX text names, the default one if we know it not."""
    named = _TARGET.search(text.text) if text.form == "ptx" else None
    return named[1] if named and named[1] in TARGETS else DEFAULT_TARGET


def machine_code(ptx: str, target: str, name: str, listed: bool | None = None) -> MachineCode:
    """Machine code of PTX text; what `machine_code.resources.machine_code` says holds."""
    from hectorite.backends.machine_code import resources

    return resources.machine_code(ptx, target, name, listed)


def sass_of(ptx: str, target: str, name: str) -> str:
    """The listings of the kernels in a PTX text, then of the routines that they call."""
    return machine_code(ptx, target, name, listed=True).sass
