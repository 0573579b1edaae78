"""A new statement on the smallest domain that it has.

Enters: a statement whose result nothing else knows yet. Leaves: the statement on the set with the
fewest elements for each kept variable, and the access at which its elements are found there.
"""

from dataclasses import dataclass

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Access
from hectorite.lowering.structural.domains import Domain, by_slice, domains
from hectorite.lowering.structural.factor import stays_inside
from hectorite.lowering.structural.onto import onto, paths_of, without
from hectorite.lowering.structural.statement import Statement, followed, put


@dataclass(frozen=True)
class Placed:
    """A statement, the domains it moved to, and the access to it in the variables it had before."""

    statement: Statement
    domains: tuple[Domain, ...]
    access: Access
    text: str


def smallest(flow: Dataflow, extents: Extents, statement: Statement) -> Placed:
    """The statement moved onto the smallest domain of each variable that stands alone on its
    left."""
    access, used, texts = statement.left, list[Domain](), list[str]()
    for variable in statement.alone if statement.plain_left else ():
        paths = paths_of(statement, variable)
        if not paths:
            statement, here = without(statement, variable)
            access = tuple(index for index in access if index.variable != variable)
            continue
        ordered = by_slice(flow, statement, variable, paths, extents)
        options = domains(flow, extents, statement.dims[variable], ordered)
        options = [d for d in options if stays_inside(flow, statement, variable, d)]
        if options:
            before = statement.left
            statement, here = onto(statement, variable, options[0])
            at = {str(mine.variable): index for mine, index in zip(before, access, strict=True)}
            access = tuple(map(followed(at), here))
            used.append(options[0])
            texts.append(options[0].text)
    return Placed(statement, tuple(used), access, " ".join(texts))


def declare(flow: Dataflow, placed: Placed) -> int:
    """The node of a placed statement."""
    for domain in placed.domains:
        domain.declare(flow)
    return put(flow, placed.statement)
