"""A program as text at any level.

Enters: a program of the language, or IR of some level. Leaves: its text at the same or a later
level, which is a program again.

    source -> graph -> graph-opt -> sparse -> tile -> llvm -> asm
                                              tile -> ptx-ir -> ptx -> cubin, sass
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.compiled.range_checks import Check
from hectorite.frontend.compiled.request import Request, only, tile_module
from hectorite.frontend.compiled.signature import Signature
from hectorite.frontend.levels.gpu import (
    GPU_LEVELS,
    dialect_of_text,
    dialect_of_tile,
    ptx_of_tile,
    sass_of,
    target_of_text,
)
from hectorite.frontend.program_text import CODE, LEVELS, ProgramText
from hectorite.ir.diagnostics import Diagnostic, HectoriteError, did_you_mean, fail
from hectorite.ir.target import DEFAULT_TARGET
from hectorite.ir.target import target as target_named
from hectorite.lowering.options import Options

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

LEVELS_OF = {
    "source": LEVELS,
    "graph": LEVELS,
    "tile": LEVELS[3:],
    "llvm": ("llvm", "asm"),
    "asm": ("asm",),
    "ptx": GPU_LEVELS,
}
"""The levels that a text of each form can be printed at."""


@dataclass
class Listing:
    """Keeps what the module looked like after each pass, as text."""

    generic: bool
    parts: list[str] = field(default_factory=list[str])

    def __call__(self, pass_name: str, module: ModuleOp) -> None:
        self.parts.append(f"// after {pass_name}\n{module_text(module, self.generic)}\n")


def level_text(
    text: ProgramText,
    facts: Facts,
    level: str,
    sizes: Sizes,
    function: str | None,
    options: Options,
    generic: bool = False,
    between_passes: bool = False,
    target: str | None = None,
) -> str:
    """The text of a program at a level; what `api.emit` says holds."""
    check_level(text, level)
    if text.form == "ptx":
        return text_of_ptx(text, level, target, generic)
    gpu = _gpu(level, target)
    shown = partial(module_text, generic=generic)
    if level in ("cubin", "sass"):
        ptx = level_text(text, facts, "ptx", sizes, function, options, target=gpu)
        return text_of_ptx(ProgramText(text.name, ptx, "ptx"), level, gpu)
    if text.form == level and text.form in CODE:
        return text.text
    if text.form == "llvm":
        return _assembly_of(text)
    listing = Listing(generic) if between_passes else None
    if level in ("graph", "graph-opt", "sparse"):
        module = text.module if function is None else only(text.module, function)
        module = _graph(module, level, sizes, options, listing, gpu is not None)
        return _joined(listing, module_text(module, generic))
    name = function or list(facts.signatures)[-1]
    known = complete_sizes(facts, facts.signatures[name], sizes, level)
    request = Request(text, facts, name, known, options, gpu=gpu)
    module = tile_module(request, listing)
    if level == "tile":
        return _joined(listing, module_text(module, generic))
    checks = [check.with_sizes(known) for check in facts.checks.get(name, ())]
    if gpu is not None:
        write = partial(dialect_of_tile, write=shown) if level == "ptx-ir" else ptx_of_tile
        return _joined(listing, write(module, target_named(gpu), checks, listing))
    return _joined(listing, _code_of(module, checks, name, level))


def check_level(text: ProgramText, level: str) -> None:
    """Raises `HectoriteError` if there is no such level, or the program is past it."""
    if level not in LEVELS:
        raise fail(
            f"there is no level `{level}`",
            expected=f"one of {', '.join(LEVELS)}",
            hint=did_you_mean(str(level), LEVELS),
        )
    if level not in LEVELS_OF[text.form]:
        raise fail(
            f"{text.name} is of the level {text.form}, from which {level} cannot be made",
            expected=f"one of {', '.join(LEVELS_OF[text.form])}",
        )


def text_of_ptx(
    text: ProgramText, level: str, target: str | None = None, generic: bool = False
) -> str:
    """PTX text at one of its levels, as it is or as the listing of its machine code."""
    check_level(text, level)
    if level == "ptx":
        return text.text
    if level == "ptx-ir":
        return dialect_of_text(text, partial(module_text, generic=generic))
    if level == "cubin":
        raise fail("a cubin is no text", hint="hectorite emit --level cubin --out FILE writes one")
    return sass_of(text.text, target or target_of_text(text), text.name)


def _gpu(level: str, target: str | None) -> str | None:
    """The name of the GPU that a level is for, None for a CPU or where it makes no difference."""
    if target is not None:
        target_named(target)
        if level not in ("sparse", "tile", *GPU_LEVELS):
            raise fail(
                f"the level {level} is not for a GPU, so it has no target",
                expected=f"one of {', '.join(('sparse', 'tile', *GPU_LEVELS))}, or no target",
            )
        return target
    return DEFAULT_TARGET if level in GPU_LEVELS else None


def complete_sizes(facts: Facts, signature: Signature, sizes: Sizes, level: str) -> Sizes:
    """The value of every size of a function. Raises `HectoriteError` naming those that lack one."""
    missing = [name for name in signature.sizes if name not in sizes]
    if missing:
        raise HectoriteError(
            [
                Diagnostic(
                    f"the size `{name}` of `{signature.name}` is not given",
                    expected=f"a value for every size, as the level {level} is for fixed sizes",
                    hint=f'sizes={{"{name}": 64}}, or --size {name}=64',
                )
                for name in missing
            ]
        )
    return {name: sizes[name] for name in signature.sizes}


def module_text(module: ModuleOp, generic: bool = False) -> str:
    """A module as it is printed, with a final newline."""
    if not generic:
        return str(module) + "\n"
    from io import StringIO

    from xdsl.printer import Printer

    out = StringIO()
    Printer(out, print_generic_format=True).print_op(module)
    return out.getvalue() + "\n"


def _graph(
    module: ModuleOp,
    level: str,
    sizes: Sizes,
    options: Options,
    observe: Callable[[str, ModuleOp], None] | None,
    tensor_cores: bool,
) -> ModuleOp:
    """A module of the graph level at one of its levels."""
    if level == "graph":
        return module
    from hectorite.lowering.pipelines import apply_formats, optimise

    module = optimise(module, sizes, options, observe)
    if level == "graph-opt":
        return module
    return apply_formats(module, options, tensor_cores, observe)


def _code_of(module: ModuleOp, checks: Sequence[Check], name: str, level: str) -> str:
    from hectorite.backends.cpu.module import compile_tile
    from hectorite.frontend.compiled.emitted_code import emitted

    plan, code = compile_tile(module)
    if level == "asm":
        from hectorite.backends.cpu.jit import compile_assembly

        code = compile_assembly(code, f"{name}.ll")
    return emitted(level, plan, checks, code)


def _assembly_of(text: ProgramText) -> str:
    from hectorite.backends.cpu.jit import compile_assembly
    from hectorite.backends.host.plan import plan_from_text
    from hectorite.frontend.compiled.emitted_code import emitted, facts_of_code

    plan = plan_from_text(text.text, text.name)
    checks = facts_of_code(text).checks[plan.name]
    return emitted("asm", plan, checks, compile_assembly(text.text, text.name))


def _joined(listing: Listing | None, last: str) -> str:
    return last if listing is None else "\n".join([*listing.parts, last])
