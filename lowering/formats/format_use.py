"""What all families of formats share: the set, its position sets, and what a rewrite reports.

Enters: the declaration of a set in a format with those of its parts. Leaves: a `FormatUse`, which
each family takes to rewrite one function, and an `Outcome` of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.set_format import SetFormat
from hectorite.ir.space import Dim


@dataclass(frozen=True)
class FormatUse:
    """A set in a format. `schema` declares the position sets too, which are `parts` in order."""

    over: str
    format: SetFormat
    parts: tuple[SetDecl, ...]
    schema: Schema
    tensor_cores: bool = False
    """Whether the target multiplies short numbers in blocks."""
    reassociate: bool = True
    """Whether floats may be added in another order."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Maps that the set was declared with, in order."""
        return tuple(name for name, _ in self.schema.sets[self.over].fields)

    def part(self, name: str) -> SetDecl:
        """The position set that is a part of the format."""
        return next(d for d in self.parts if d.encoded is not None and d.encoded.part == name)


@dataclass
class Outcome:
    """What became of the statements of one function: how many are computed in the format, and
    for those that are not, as they are written, why."""

    served: int = 0
    refused: list[tuple[StatementOp, str]] = field(default_factory=list[tuple[StatementOp, str]])


def gives(decl: SetDecl) -> tuple[str, ...]:
    """The names of the maps that a part adds to other sets."""
    return () if decl.encoded is None else tuple(name for _, name, _ in decl.encoded.gives)


def extent(target: str) -> Dim:
    """The target of a map as a dimension: a set, or a number."""
    return int(target) if target.isdecimal() else target


def over_set(op: StatementOp, over: str) -> str | None:
    """The first variable of a statement that ranges over a set."""
    return next((name for name, dim in op.variables.data if dim == over), None)


def place_of(op: StatementOp, variable: str) -> int | None:
    """The dimension of the result that is a variable, if it stands there and nowhere else on the
    left."""
    places = [i for i, index in enumerate(op.access.data) if variable in index.variables]
    alone = len(places) == 1 and op.access.data[places[0]].variable == variable
    return places[0] if alone else None


def unused(wanted: str, names: Iterable[str]) -> str:
    """`wanted`, with a number behind it if that is taken."""
    taken, name, number = set(names), wanted, 2
    while name in taken:
        name, number = f"{wanted}{number}", number + 1
    return name


def readers(op: StatementOp) -> Iterator[tuple[StatementOp, ReadOp]]:
    """Statements that read a result, with the read."""
    for use in op.result.uses:
        read = use.operation
        user = read.parent_op()
        if isinstance(read, ReadOp) and isinstance(user, StatementOp):
            yield user, read
