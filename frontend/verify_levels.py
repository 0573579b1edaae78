"""Every level of a program as something that runs, from its own printed text.

Enters: the text of a program, a function and the values of its sizes. Leaves: for each level a name
and a function from bound data to results. Each level is printed, parsed and printed again, which
must give the same text, and what runs is what was parsed: so the printed form is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.binding import Binding
from hectorite.frontend.levels import level_text
from hectorite.frontend.program import Facts, Sizes
from hectorite.frontend.program_text import ProgramText, parse_ir
from hectorite.frontend.targets import Request, bound_sets, build, only
from hectorite.ir.diagnostics import fail

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

Array = np.ndarray[Any, Any]
Results = tuple[Array, ...]
Run = Callable[[Binding, Mapping[str, Array], Sizes], Results]


@dataclass(frozen=True)
class Level:
    """One level; `make` builds what runs and may raise `HectoriteError`. `exhaustive` tells that it
    takes long on large data, `is_pass` that it is the graph after a pass."""

    name: str
    make: Callable[[], Run]
    exhaustive: bool = False
    is_pass: bool = False


def levels_of(text: ProgramText, facts: Facts, function: str, sizes: Sizes) -> list[Level]:
    """The levels from that of the text on, in order; with a level for each pass that changed the
    graph."""
    levels: list[Level] = []
    if text.form in ("source", "graph"):
        levels.append(Level("graph", lambda: _graph(only(text.module, function), function), True))
        levels += _passes(text.module, function, sizes)
        levels.append(_printed(text, facts, function, sizes, "graph-opt", "reference", True))
    if text.form in ("source", "graph", "tile"):
        levels.append(_printed(text, facts, function, sizes, "tile", "tile", True))
        levels.append(_machine(text, facts, function, sizes))
    if text.form != "asm":
        levels.append(_printed(text, facts, function, sizes, "llvm", "cpu"))
    levels.append(_printed(text, facts, function, sizes, "asm", "cpu"))
    return levels


def _printed(
    text: ProgramText,
    facts: Facts,
    function: str,
    sizes: Sizes,
    level: str,
    target: str,
    exhaustive: bool = False,
) -> Level:
    """The text of a level, fed back."""

    def make() -> Run:
        shown = level_text(text, facts, level, sizes, function)
        form = {"graph-opt": "graph"}.get(level, level)
        if form in ("graph", "tile"):
            _check_reprint(parse_ir(shown, level), shown, level)
        again = ProgramText(f"<{level}>", shown, form)
        code = build(target, Request(again, facts, function, {}))
        return lambda binding, arguments, known: code(binding, arguments, known, None)

    return Level(level, make, exhaustive)


def _machine(text: ProgramText, facts: Facts, function: str, sizes: Sizes) -> Level:
    """Machine code as calling a compiled program runs it."""

    def make() -> Run:
        code = build("cpu", Request(text, facts, function, sizes))
        return lambda binding, arguments, known: code(binding, arguments, known, None)

    return Level("cpu", make)


def _passes(module: ModuleOp, function: str, sizes: Sizes) -> list[Level]:
    """The graph after each pass that changed it."""
    from hectorite.lowering.pipelines import optimise

    seen: list[tuple[str, str]] = [("", str(only(module, function)))]

    def observe(name: str, current: ModuleOp) -> None:
        shown = str(current)
        if shown != seen[-1][1]:
            seen.append((name, shown))

    def made(shown: str) -> Callable[[], Run]:
        return lambda: _graph(parse_ir(shown, "<graph>"), function)

    optimise(only(module, function), sizes, observe=observe)
    return [Level(f"after {name}", made(shown), True, True) for name, shown in seen[1:]]


def _graph(module: ModuleOp, function: str) -> Run:
    """The reference on a graph module, from its printed text."""
    from hectorite.backends.reference import run_reference

    shown = str(module)
    parsed = parse_ir(shown, "<graph>")
    _check_reprint(parsed, shown, "graph")

    def run(binding: Binding, arguments: Mapping[str, Array], known: Sizes) -> Results:
        extents, maps = bound_sets(binding)
        return run_reference(parsed, function, extents | known, maps, arguments)

    return run


def _check_reprint(module: ModuleOp, shown: str, level: str) -> None:
    """Printing what was parsed gives the same text."""
    if str(module).rstrip() != shown.rstrip():
        raise fail(f"the {level} level prints differently once it is parsed again")
