"""Rewriting a function whose arguments are partly fixed into two programs in one.

Enters: the text of a program, names of fixed parameters, values of sizes. Leaves: a `Split`: the
rewritten function, and the function that computes once what it takes instead (`split-fixed`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hectorite.dialects.graph import FuncOp
from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.compiled.fixed import Split, fix
from hectorite.frontend.compiled.program import Program
from hectorite.frontend.compiled.request import only
from hectorite.frontend.program_text import CODE, ProgramText
from hectorite.ir.diagnostics import fail
from hectorite.lowering.graph.split_fixed import fixed_name, split_fixed
from hectorite.lowering.pipelines import Options, optimise


def fix_program(
    program: Program,
    facts: Facts,
    fixed: Mapping[str, Any],
    text: ProgramText,
    target: str,
    options: Options,
    cache: bool,
    formats: Mapping[str, str] | None = None,
) -> Program:
    """Fix parameters of the functions of a program; see `compile`. Raises `HectoriteError` for an
    unknown name, and for a program in a form past the graph level."""
    if text.form in (*CODE, "tile"):
        raise fail(
            f"{text.name} holds {text.form}, in which parameters cannot be fixed any more",
            expected="a program, or IR of the graph level",
        )

    def make(name: str, sizes: Sizes) -> Split:
        from hectorite.frontend.api import compile

        reassociate = options.reassociate
        module = optimise(only(text.module, name), sizes, options)
        (func,) = (op for op in module.ops if isinstance(op, FuncOp))
        names = split_fixed(module, func, list(fixed), reassociate)
        code = compile(
            f"{module!s}\n",
            target,
            cache=cache,
            reassociate=reassociate,
            search=options.search,
            formats=formats,
        )
        once = code[fixed_name(name)] if names else None
        return Split(code, code[name], once, names)

    return fix(program, facts, fixed, make)
