"""A checked program to the graph dialect, and the whole way there from text.

Enters: a `CheckedProgram`. Leaves: a module of sets, sizes and functions, in which every operation
has the location of the statement it comes from.
"""

from __future__ import annotations

import os

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation

from hectorite.dialects.graph_sets import DeriveOp, DimOp, SetOp
from hectorite.frontend.check.program import check_program
from hectorite.frontend.check.typed import CheckedProgram
from hectorite.frontend.parsing.load import read_source, with_imports
from hectorite.frontend.to_graph.function import build_function, location
from hectorite.ir.diagnostics import Diagnostic
from hectorite.ir.schema import SetDecl


def build_module(program: CheckedProgram) -> ModuleOp:
    """The graph-level module of a checked program: sets, sizes, then functions."""
    ops: list[Operation] = []
    for name, decl in program.schema.sets.items():
        ops.append(_placed(_set_op(decl), name, program))
    for name, value in program.schema.sizes.items():
        ops.append(_placed(DimOp(name, value), name, program))
    for function in program.functions.values():
        ops.append(build_function(function, program.functions))
    return ModuleOp(ops)


def load_source(
    path_or_text: str | os.PathLike[str], warnings: list[Diagnostic] | None = None
) -> ModuleOp:
    """The verified module of a program: a path, or source text (anything with a newline).

    Warnings are appended to `warnings`. Raises `HectoriteError` with every error found.
    """
    *imports, program = with_imports(read_source(path_or_text))
    checked = check_program(program, imports)
    if warnings is not None:
        warnings += checked.warnings
    module = build_module(checked)
    module.verify()
    return module


def _set_op(decl: SetDecl) -> Operation:
    derivation = decl.derivation
    if derivation is None:
        return SetOp(decl.name, dict(decl.fields), decl.format)
    return DeriveOp(
        decl.name,
        dict(decl.fields),
        derivation.keys,
        derivation.binders,
        derivation.conditions,
        derivation.position,
        decl.format,
    )


def _placed(op: Operation, name: str, program: CheckedProgram) -> Operation:
    source, span = program.places[name]
    op.location = location(source, span)
    return op
