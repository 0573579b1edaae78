"""`hectorite emit PROGRAM --level LEVEL`: a program as text at any level.

Enters: parsed arguments. Leaves: the text, on the output stream or in a file. A size that the level
needs and nothing gives is 64, and a note on the error stream says so.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from hectorite.frontend.api import check_sizes, facts_of, pick_function
from hectorite.frontend.console import note
from hectorite.frontend.levels import check_level, level_text
from hectorite.frontend.program_text import read_program
from hectorite.ir.diagnostics import fail

DEFAULT_SIZE = 64


def run(chosen: Namespace) -> int:
    """Print one program."""
    text = read_program(chosen.program)
    check_level(text, chosen.level)
    facts = facts_of(text, None)
    sizes = check_sizes(facts, dict(chosen.size))
    function = chosen.fn and pick_function(facts, chosen.fn, text.name)
    if chosen.level != "graph":
        function = pick_function(facts, chosen.fn, text.name)
    if chosen.level not in ("graph", "graph-opt"):
        assert function is not None
        for name in facts.signatures[function].sizes:
            if name not in sizes:
                sizes[name] = DEFAULT_SIZE
                note(f"{name} = {DEFAULT_SIZE} (nothing gives it; --size {name}=N does)")
    shown = level_text(
        text, facts, chosen.level, sizes, function, chosen.generic, chosen.between_passes
    )
    if chosen.out is None:
        sys.stdout.write(shown)
        return 0
    try:
        Path(chosen.out).write_text(shown, "utf-8")
    except OSError as error:
        raise fail(f"cannot write {chosen.out}: {error.strerror or error}") from error
    return 0
