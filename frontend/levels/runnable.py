"""Every level of a program as something that runs, from its own printed text.

Enters: the text of a program, a function and the values of its sizes. Leaves: for each level a name
and a function from bound data to results. Each level is printed, parsed and printed again, which
must give the same text, and what runs is what was parsed: so the printed form is checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats.operands import is_stored
from hectorite.frontend.compiled.executable import given_sets
from hectorite.frontend.compiled.facts import Facts, Sizes
from hectorite.frontend.compiled.gpu_targets import EXECUTED
from hectorite.frontend.compiled.request import Request, only
from hectorite.frontend.compiled.targets import build
from hectorite.frontend.levels.text import level_text
from hectorite.frontend.program_text import ProgramText, parse_ir
from hectorite.ir.diagnostics import fail
from hectorite.lowering.options import Options

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


def levels_of(
    text: ProgramText,
    facts: Facts,
    function: str,
    sizes: Sizes,
    gpu: str = EXECUTED,
    formats: tuple[str, ...] = (),
) -> list[Level]:
    """The levels from that of the text on, in order; with a level for each pass that changed the
    graph. `gpu` names the GPU whose code the executor runs, `formats` are those of `Options`."""
    ladder = _Ladder(text, facts, function, sizes, gpu, formats)
    levels: list[Level] = []
    if text.form in ("source", "graph"):
        graph = str(only(text.module, function))
        levels.append(Level("graph", lambda: _reference(graph, "graph", function), True))
        for name, shown in ladder.passes:
            levels.append(Level(f"after {name}", _made(shown, function), True, True))
        levels.append(Level("graph-opt", lambda: ladder.run_text("graph-opt", "reference"), True))
        if ladder.has_formats:
            levels.append(Level("sparse", lambda: ladder.run_text("sparse", "reference"), True))
    if text.form in ("source", "graph", "tile"):
        levels.append(Level("tile", lambda: ladder.run_text("tile", "tile"), True))
    if text.form in ("source", "graph", "tile", "llvm"):
        levels.append(Level("llvm", lambda: ladder.run_text("llvm", "cpu")))
    if text.form != "ptx":
        levels.append(Level("asm", lambda: ladder.run_text("asm", "cpu")))
    if text.form in ("source", "graph", "ptx"):
        levels.append(Level("ptx", lambda: ladder.run_text("ptx", "ptx")))
        levels.append(Level("ptx checked", ladder.run_checked, True))
    return levels


def _made(shown: str, function: str) -> Callable[[], Run]:
    return lambda: _reference(shown, "graph", function)


@dataclass(frozen=True)
class _Ladder:
    """The texts of one function for known sizes, each made from the text of the level above."""

    text: ProgramText
    facts: Facts
    function: str
    sizes: Sizes
    gpu: str
    formats: tuple[str, ...] = ()

    @property
    def has_formats(self) -> bool:
        """Whether a set or a parameter has a storage format."""
        from hectorite.lowering.formats.apply_formats import chosen_formats

        parameters = self.facts.signatures[self.function].parameters
        stored = any(is_stored(parameter.format) for parameter in parameters)
        return stored or bool(chosen_formats(self.text.module, self.formats))

    @cached_property
    def passes(self) -> list[tuple[str, str]]:
        """The graph after each pass that changed it, by the name of the pass."""
        from hectorite.lowering.pipelines import optimise

        module = only(self.text.module, self.function)
        seen = [("", str(module))]

        def observe(name: str, current: ModuleOp) -> None:
            shown = str(current)
            if shown != seen[-1][1]:
                seen.append((name, shown))

        optimise(module, self.sizes, observe=observe)
        return seen[1:]

    @cached_property
    def tile(self) -> ProgramText:
        return self._printed(self.text, "tile", self.sizes)

    @cached_property
    def llvm(self) -> ProgramText:
        return self._printed(self.tile, "llvm", {})

    @cached_property
    def ptx(self) -> ProgramText:
        if self.text.form == "ptx":
            return self.text
        options, gpu = Options(formats=self.formats), self.gpu
        own = self.text, self.facts, "ptx", self.sizes, self.function
        shown = level_text(*own, options, target=gpu)
        return ProgramText("<ptx>", shown, "ptx")

    def run_text(self, level: str, target: str) -> Run:
        """What the text of a level does on a target."""
        if level in ("graph-opt", "sparse") or self.text.form == level:
            again = self._printed(self.text, level, self.sizes)
        elif level == "asm":
            above = self.text if self.text.form == "llvm" else self.llvm
            again = self._printed(above, level, {})
        elif level == "ptx":
            again = self.ptx
        else:
            again = self.tile if level == "tile" else self.llvm
        if level in ("graph-opt", "sparse", "tile"):
            _parsed_again(again.text, level)
        code = build(target, Request(again, self.facts, self.function, {}))
        return lambda binding, arguments, known: code(binding, arguments, known, None)

    def run_checked(self) -> Run:
        """What the PTX does step by step, with every check of the executor; what these find is an
        error."""
        from hectorite.backends.ptx.checked import run_checked

        return run_checked(self.ptx.text, self.ptx.name)

    def _printed(self, text: ProgramText, level: str, sizes: Sizes) -> ProgramText:
        facts = self.facts if text is self.text else _without_sizes(self.facts, self.sizes)
        options = Options(formats=self.formats)
        shown = level_text(text, facts, level, sizes, self.function, options)
        is_graph = level in ("graph-opt", "sparse")
        return ProgramText(f"<{level}>", shown, "graph" if is_graph else level)


def _without_sizes(facts: Facts, sizes: Sizes) -> Facts:
    """Facts of a function once its sizes are put in."""
    signatures = {
        name: replace(signature, sizes=tuple(n for n in signature.sizes if n not in sizes))
        for name, signature in facts.signatures.items()
    }
    checks = {name: tuple(c.with_sizes(sizes) for c in cs) for name, cs in facts.checks.items()}
    return replace(facts, signatures=signatures, checks=checks)


def _reference(shown: str, level: str, function: str) -> Run:
    """The reference on the text of a graph module."""
    from hectorite.backends.reference.interpreter import run_reference

    parsed = _parsed_again(shown, level)

    def run(binding: Binding, arguments: Mapping[str, Array], known: Sizes) -> Results:
        extents, maps = given_sets(binding)
        return run_reference(parsed, function, extents | known, maps, arguments)

    return run


def _parsed_again(shown: str, level: str) -> ModuleOp:
    """The module of a text, which must print as that text."""
    module = parse_ir(shown, f"<{level}>")
    if str(module).rstrip() != shown.rstrip():
        raise fail(f"the {level} level prints differently once it is parsed again")
    return module
