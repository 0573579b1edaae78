"""The orders of `schedule { ... }`: which tensor of the function before it they are about, and
whether they can mean anything there.

Enters: syntax trees and the functions they declare, checked. Leaves: the functions with their
schedules; errors go to the report. Whether a machine can follow an order is seen when its kernels
are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hectorite.frontend.check.scope import Place
from hectorite.frontend.check.typed import CheckedFunction, CheckedStatement
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Report, did_you_mean
from hectorite.ir.schedule import MOST_STAGES, MOST_TILE, WORK, Schedule

WORDS = ("tile", "pipeline", "work")


def check_schedules(
    programs: Sequence[syntax.Program], functions: dict[str, CheckedFunction], report: Report
) -> None:
    """Put schedules into the functions that they are about."""
    for program in programs:
        place, before = Place(program.source, report), None
        for node in program.declarations:
            if isinstance(node, syntax.Function):
                before = node.name.text
            elif isinstance(node, syntax.Schedule):
                _check(node, before, functions, place)


def _check(
    node: syntax.Schedule,
    before: str | None,
    functions: dict[str, CheckedFunction],
    place: Place,
) -> None:
    if before is None:
        place.error("there is no function before this schedule", node.span, "a `def` before it")
        return
    function = functions.get(before)
    if function is None:  # it has errors of its own
        return
    found = dict(function.schedules)
    for order in node.orders:
        name = order.tensor.text
        variables = _variables(function, name)
        if variables is None:
            known = [s.tensor for s in function.statements if isinstance(s, CheckedStatement)]
            place.error(
                f"no statement of `{before}` makes `{name}`",
                order.tensor.span,
                "a tensor on the left of a statement",
                did_you_mean(name, known),
            )
        elif name in found:
            place.error(f"`{name}` has a schedule already", order.tensor.span, "one for each")
        else:
            found[name] = _Orders(name, variables, place).read(order)
    functions[before] = replace(function, schedules=found)


def _variables(function: CheckedFunction, tensor: str) -> set[str] | None:
    """The index variables of the statements that make a tensor; None if there are none."""
    statements = [
        s for s in function.statements if isinstance(s, CheckedStatement) and s.tensor == tensor
    ]
    if not statements:
        return None
    return {name for statement in statements for name, _ in statement.variables}


class _Orders:
    """Reads the orders for one tensor."""

    def __init__(self, tensor: str, variables: set[str], place: Place):
        self.tensor = tensor
        self.variables = variables
        self.place = place

    def read(self, order: syntax.Order) -> Schedule:
        tile, pipeline, work = dict[str, int](), None, None
        seen = set[str]()
        for word in order.words:
            name = word.name.text
            if name in seen:
                self.place.error(f"`{name}` stands twice", word.name.span, "one of each")
            elif name == "tile":
                tile = self._tile(word)
            elif name == "pipeline":
                pipeline = self._pipeline(word)
            elif name == "work":
                work = self._work(word)
            else:
                self.place.error(
                    f"a schedule has no order `{name}`",
                    word.name.span,
                    "`tile(n = 64)`, `pipeline(3)` or `work(row)`",
                    did_you_mean(name, WORDS),
                )
            seen.add(name)
        return Schedule(self.tensor, tile, pipeline, work)

    def _tile(self, word: syntax.Word) -> dict[str, int]:
        found = dict[str, int]()
        if not word.arguments:
            self.place.error("this tile has no extents", word.span, "`tile(n = 64)`")
        for argument in word.arguments:
            extent = _integer(argument.value)
            name = None if argument.name is None else argument.name.text
            if name is None:
                self.place.error("this extent names no variable", argument.span, "`n = 64`")
            elif name not in self.variables:
                self.place.error(
                    f"no statement of `{self.tensor}` has a variable `{name}`",
                    argument.span,
                    "one of " + ", ".join(f"`{v}`" for v in sorted(self.variables)),
                )
            elif name in found:
                self.place.error(f"`{name}` stands twice", argument.span)
            elif extent is None or not 1 <= extent <= MOST_TILE or extent & (extent - 1):
                self.place.error(
                    f"the extent of `{name}` is none that a tile has",
                    argument.span,
                    f"a power of two from 1 to {MOST_TILE}",
                )
            else:
                found[name] = extent
        return found

    def _pipeline(self, word: syntax.Word) -> int | None:
        stages = _integer(word.arguments[0].value) if len(word.arguments) == 1 else None
        if stages is None or word.arguments[0].name or not 1 <= stages <= MOST_STAGES:
            self.place.error(
                "this is no number of stages",
                word.span,
                f"`pipeline(n)`, with n from 1 to {MOST_STAGES}",
            )
            return None
        return stages

    def _work(self, word: syntax.Word) -> str | None:
        value = word.arguments[0].value if len(word.arguments) == 1 else None
        name = value.name.text if isinstance(value, syntax.Word) and not value.arguments else None
        if name not in WORK or word.arguments[0].name is not None:
            self.place.error(
                "this is no way to share out work",
                word.span,
                ", ".join(f"`work({name})`" for name in WORK),
            )
            return None
        return name


def _integer(value: syntax.Word | syntax.Format | syntax.Literal) -> int | None:
    if isinstance(value, syntax.Literal) and isinstance(value.value, int):
        return None if isinstance(value.value, bool) else value.value
    return None
