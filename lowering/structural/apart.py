"""`compute-apart`: functions of what a map leads to, before the map is followed.

Enters: a graph of statements. Leaves: matches, one for each costly function inside of a body that
depends on less than the statement does: on fewer variables, or on an element only through maps. It
is computed by a statement of its own on its smallest domain, and read there.

    y[e.dst] += exp(x[e.src]) * w[e]

becomes

    y_exp_src[u] = exp(x[u])
    y[e.dst] += y_exp_src[e.src] * w[e]

No value changes, so that no element type is left out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Apply, Formula, Read, children, rebuild
from hectorite.ir.index import IndexExpr
from hectorite.ir.statement_form import Shape
from hectorite.lowering.search.step import Match
from hectorite.lowering.structural.onto import named
from hectorite.lowering.structural.place import Placed, declare, smallest
from hectorite.lowering.structural.remember import Remembered, readers
from hectorite.lowering.structural.statement import (
    Statement,
    computed,
    opened,
    put,
    variables_in,
)

COSTLY = ("exp", "log", "sin", "cos", "tanh", "sigmoid", "gelu", "silu", "erf", "pow", "sqrt")
"""Functions that cost more than reading their value from memory."""


@dataclass
class ComputeApart:
    """Compute functions before a map is followed."""

    extents: Extents
    known: Remembered = field(default_factory=Remembered, repr=False)
    name = "compute-apart"
    family = "domain"
    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """One match for each function that depends on less than the statement."""
        yield from self.known.matches(flow, readers(flow, number), lambda: self._new(flow, number))

    def _new(self, flow: Dataflow, number: int) -> Iterator[Match]:
        statement = opened(flow, number)
        if statement is None:
            return
        for part in dict.fromkeys(_functions(statement.body)):
            placed = self._placed(flow, statement, part)
            if placed is not None:
                yield self._match(number, statement, part, placed)

    def _placed(self, flow: Dataflow, statement: Statement, part: Apply) -> Placed | None:
        used = [name for name in statement.dims if name in variables_in(part)]
        if part == statement.body and set(used) == set(statement.dims) == set(statement.alone):
            return None  # the whole statement moves instead
        dims = {name: statement.dims[name] for name in used}
        shape = Shape(tuple(dims.values()), computed(flow, part))
        name = named(statement.name, part.function)
        left = tuple(map(IndexExpr.of, used))
        alone = Statement("assign", left, dims, shape, part, None, name)
        placed = smallest(flow, self.extents, alone)
        return placed if placed.text or len(used) < len(statement.dims) else None

    def _match(self, number: int, old: Statement, part: Apply, placed: Placed) -> Match:
        def apply(flow: Dataflow) -> Sequence[int]:
            made = declare(flow, placed)
            read = Read(made, placed.access)
            body = rebuild(old.body, lambda p: read if p == part else None)
            flow.replace(number, put(flow, replace(old, body=body)))
            return (made,)

        where = f" domain={placed.text}" if placed.text else ""
        return Match(self.name, self.family, (number,), f"apart={part.function}{where}", apply)


def _functions(formula: Formula) -> Iterator[Apply]:
    """The outermost costly functions that read something."""
    if isinstance(formula, Apply) and formula.function in COSTLY and variables_in(formula):
        yield formula
        return
    for child in children(formula):
        yield from _functions(child)
