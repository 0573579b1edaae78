"""`hectorite emit PROGRAM --level LEVEL`: a program at any level.

Enters: parsed arguments. Leaves: the text (of cubin and onnx, bytes), on the output stream or in a
file; for a GPU also a table of what its kernels take. A size that the level needs and nothing
determines is 64, and a note on the error stream says so.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hectorite.frontend.commands.call import assumed_size
from hectorite.frontend.commands.rewrites import chosen_options, known_of_data
from hectorite.frontend.compiled.facts import check_sizes, pick_function
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.console import note
from hectorite.frontend.data.inputs import split_sizes
from hectorite.frontend.levels.gpu import GPU_LEVELS, machine_code, target_of_text
from hectorite.frontend.levels.text import check_level, level_text, text_of_ptx
from hectorite.frontend.program_text import ProgramText, read_program
from hectorite.ir.diagnostics import fail

if TYPE_CHECKING:
    from hectorite.backends.machine_code.resources import Kernel

DEFAULT_SIZE = 64


def run(chosen: Namespace) -> int:
    """Print one program."""
    text = read_program(chosen.program, dict(chosen.size))
    if chosen.level == "onnx":
        return _onnx(text, chosen)
    check_level(text, chosen.level)
    if chosen.level == "graph":
        _refuse_choices(chosen)
    if chosen.level in GPU_LEVELS and not _is_plain_dialect(chosen):
        return _gpu(text, chosen)
    if chosen.json or chosen.resources:
        raise fail(
            f"the level {chosen.level} has no table of resources",
            expected=f"one of {', '.join(GPU_LEVELS)}",
        )
    _write(chosen.out, _text(text, chosen.level, chosen))
    return 0


def _refuse_choices(chosen: Namespace) -> None:
    """The program as it is written has no rewrites and formats that could be chosen."""
    options = ("formats", "--as"), ("forbid", "--forbid"), ("force", "--force")
    options += ("no_search", "--no-search"), ("data", "--data")
    given = [option for name, option in options if getattr(chosen, name)]
    if given:
        raise fail(
            f"{given[0]} changes nothing at the level graph, which is the program as it is written",
            expected="--level graph-opt, or one after it",
        )


def _onnx(text: ProgramText, chosen: Namespace) -> int:
    """The program as an ONNX model."""
    from hectorite.frontend.onnx.export import export

    facts = facts_of(text, None)
    sizes = check_sizes(facts, dict(chosen.size))
    model = export(text, pick_function(facts, chosen.fn, text.name), sizes)
    _write(chosen.out, model.SerializeToString(deterministic=True), "an ONNX model")
    return 0


def _is_plain_dialect(chosen: Namespace) -> bool:
    """Whether the `ptx` dialect is asked for and no table, which is one of machine code."""
    return chosen.level == "ptx-ir" and not (chosen.json or chosen.resources)


def _text(text: ProgramText, level: str, chosen: Namespace) -> str:
    """The program at a level, with every size that the level needs."""
    if text.form == "ptx":
        return text_of_ptx(text, level, chosen.target, chosen.generic)
    facts = facts_of(text, None)
    sets, given = split_sizes(facts.schema, dict(chosen.size)) if chosen.data else ({}, None)
    sizes = check_sizes(facts, dict(chosen.size) if given is None else given)
    function = chosen.fn and pick_function(facts, chosen.fn, text.name)
    if level != "graph":
        function = pick_function(facts, chosen.fn, text.name)
    if level not in ("graph", "graph-opt", "sparse"):
        assert function is not None
        for name in facts.signatures[function].sizes:
            if name not in sizes:
                sizes[name] = DEFAULT_SIZE
                note(assumed_size(name, DEFAULT_SIZE))
    return level_text(
        text,
        facts,
        level,
        sizes,
        function,
        chosen_options(chosen, known_of_data(facts, chosen.data, sets, function)),
        chosen.generic,
        chosen.between_passes,
        chosen.target,
    )


def _gpu(text: ProgramText, chosen: Namespace) -> int:
    """PTX, machine code or its listing, and the table of resources if that is asked for."""
    is_ptx = text.form == "ptx"
    ptx = text.text if is_ptx else _text(text, "ptx", chosen)
    tabled = chosen.json or chosen.resources
    if chosen.level == "ptx" and not tabled:
        _write(chosen.out, ptx)
        return 0
    target = chosen.target or target_of_text(text)
    name = text.name if is_ptx else f"<PTX of {text.name}>"
    code = machine_code(ptx, target, name, True if chosen.level == "sass" else tabled and None)
    if chosen.level == "cubin":
        content: str | bytes = code.cubin
    else:
        content = ptx if chosen.level == "ptx" else code.sass
    if not chosen.json or chosen.out is not None:
        _write(chosen.out, content)
    _tell(code.kernels, chosen)
    return 0


def _tell(kernels: Sequence[Kernel], chosen: Namespace) -> None:
    """The table of resources: as JSON on the output stream, for people on the error stream."""
    if chosen.json:
        json.dump([kernel.to_json() for kernel in kernels], sys.stdout, indent=1)
        sys.stdout.write("\n")
    if chosen.resources:
        from hectorite.backends.machine_code.resources import table

        sys.stderr.write(table(kernels))


def _write(file: str | None, content: str | bytes, what: str = "a cubin") -> None:
    """Write to a file, or to the output stream; bytes to a terminal are refused."""
    if file is None:
        if isinstance(content, str):
            sys.stdout.write(content)
            return
        if sys.stdout.isatty():
            raise fail(f"{what} is not for a terminal", hint="write it with --out FILE")
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        return
    try:
        Path(file).write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    except OSError as error:
        raise fail(f"cannot write {file}: {error.strerror or error}") from error
