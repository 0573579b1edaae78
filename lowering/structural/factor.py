"""`factor-through-map` and `expand-onto-source`: which set a statement is computed on.

Enters: a graph of statements. Leaves: matches, one for each domain that a statement may move to, in
both directions. If the body of a statement that makes `z[e, ...]` depends on `e` only through maps,
it is computed on the image of one of them, on the distinct tuples of several, or, if it does not
depend on `e` at all, without it; what read `z` at `e` reads that at the image of `e`.

    z[e, o] += h[e.src, i] * W[e.type, i, o]           domain=(type, src)
    y[e.dst, o] += z[e, o]

becomes

    z_type_src[u, o] += h[u.src, i] * W[u.type, i, o]
    y[e.dst, o] += z_type_src[e.type_src, o]

The way back computes a statement on a set from which it is read through a map. Both are node
hoisting, weight hoisting and compact materialisation of relational layers, and their reverse. Sums
keep their terms and order, so no element type and no kind of reduction is left out. For an element
that no map reaches a statement is computed as well; one whose accesses could leave a tensor there
is not moved, unless the map reaches all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.ir.formula import Access, Formula, Read, rebuild, with_indices
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.space import Dim
from hectorite.lowering.graph.derived_sets import Fields
from hectorite.lowering.search.step import Match
from hectorite.lowering.structural.domains import Domain, by_slice, domains, is_set
from hectorite.lowering.structural.onto import onto, paths_of, without
from hectorite.lowering.structural.remember import Remembered, readers
from hectorite.lowering.structural.statement import (
    Statement,
    affine_in,
    fresh,
    opened,
    put,
    reading_paths,
    relocate,
)

FAMILY = "domain"


@dataclass
class FactorThroughMap:
    """Compute on the image of maps instead of on their source."""

    extents: Extents
    known: Remembered = field(default_factory=Remembered, repr=False)
    name = "factor-through-map"
    family = FAMILY
    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """One match for each kept variable and domain of its own."""
        yield from self.known.matches(flow, readers(flow, number), lambda: self._new(flow, number))

    def _new(self, flow: Dataflow, number: int) -> Iterator[Match]:
        statement = opened(flow, number)
        if statement is None or not movable(flow, statement) or isinstance(statement.body, Read):
            return
        for variable in statement.alone:
            paths = paths_of(statement, variable)
            if not paths:
                access = without(statement, variable)
                yield self._match(flow, number, statement, *access, f"once for {variable}", None)
            for domain in self.options(flow, statement, variable, paths):
                if stays_inside(flow, statement, variable, domain):
                    moved, access = onto(statement, variable, domain)
                    text = f"domain={domain.text} for {variable}"
                    yield self._match(flow, number, statement, moved, access, text, domain)

    def options(
        self, flow: Dataflow, statement: Statement, variable: str, paths: Sequence[Fields]
    ) -> list[Domain]:
        """Domains with fewer elements than the variable ranges over, the smallest first."""
        over = statement.dims[variable]
        ordered = by_slice(flow, statement, variable, list(paths), self.extents)
        return domains(flow, self.extents, over, ordered)

    def _match(
        self,
        flow: Dataflow,
        number: int,
        old: Statement,
        moved: Statement,
        access: Access,
        text: str,
        domain: Domain | None,
    ) -> Match:
        def apply(flow: Dataflow) -> Sequence[int]:
            if domain is not None:
                domain.declare(flow)
            made = put(flow, moved)
            relocate(flow, number, old.left, made, access)
            return (made,)

        return Match(self.name, self.family, (number, *sorted(flow.users[number])), text, apply)


@dataclass
class ExpandOntoSource:
    """Compute on a set that reads through a map, instead of on the set that the map leads into."""

    extents: Extents
    known: Remembered = field(default_factory=Remembered, repr=False)
    name = "expand-onto-source"
    family = FAMILY
    local = True

    def matches(self, flow: Dataflow, number: int) -> Iterator[Match]:
        """One match for each way in which a kept variable is reached from another set."""
        if flow.schema.sets:
            around = readers(flow, number)
            yield from self.known.matches(flow, around, lambda: self._new(flow, number))

    def _new(self, flow: Dataflow, number: int) -> Iterator[Match]:
        statement = opened(flow, number)
        if statement is None or not movable(flow, statement) or isinstance(statement.body, Read):
            return
        for axis, index in enumerate(statement.left):
            if not is_set(flow.schema, statement.shape.dims[axis]):
                continue
            found = dict[tuple[str, Fields], dict[int, None]]()
            for user, over, fields in reading_paths(flow, number, axis):
                if fields:
                    found.setdefault((over, fields), {})[user] = None
            for (over, fields), users in sorted(found.items()):
                yield self._match(number, statement, str(index.variable), axis, over, fields, users)

    def _match(
        self,
        number: int,
        old: Statement,
        variable: str,
        axis: int,
        over: str,
        fields: Fields,
        users: dict[int, None],
    ) -> Match:
        def apply(flow: Dataflow) -> Sequence[int]:
            made = put(flow, expanded(old, variable, axis, over, fields))
            for user in users:
                if user in flow.nodes:
                    reader = opened(flow, user)
                    assert reader is not None
                    flow.replace(
                        user, put(flow, _reading_source(reader, number, made, axis, fields))
                    )
            return (made,)

        text = f"domain={over} through {'.'.join(fields)} for {variable}"
        return Match(self.name, self.family, (number, *users), text, apply)


def expanded(
    statement: Statement, variable: str, axis: int, over: str, fields: Fields
) -> Statement:
    """A statement for each element of a set that a path leads from, instead of for those it leads
    to."""
    new = fresh("e", dict(statement.dims))

    def change(path: Path) -> IndexExpr:
        if path.variable != variable:
            return IndexExpr.of(path.variable, *path.fields)
        return IndexExpr.of(new, *fields, *path.fields)

    dims: dict[str, Dim] = {
        (new if name == variable else name): (over if name == variable else dim)
        for name, dim in statement.dims.items()
    }
    left = tuple(
        IndexExpr.of(new) if k == axis else index for k, index in enumerate(statement.left)
    )
    shape_dims = tuple(over if k == axis else d for k, d in enumerate(statement.shape.dims))
    return replace(
        statement,
        left=left,
        dims=dims,
        shape=replace(statement.shape, dims=shape_dims),
        body=with_indices(statement.body, lambda index: index.substitute(change)),
        name=None if statement.name is None else f"{statement.name}_{over}",
    )


def _reading_source(reader: Statement, old: int, new: int, axis: int, fields: Fields) -> Statement:
    """A statement that reads the expanded tensor where it read the other one along the path."""

    def leaf(part: Formula) -> Formula | None:
        if not isinstance(part, Read) or part.slot != old or part.access is None:
            return None
        path = part.access[axis].path
        if path is None or path.fields != fields:
            return None
        access = [
            IndexExpr.of(path.variable) if k == axis else index
            for k, index in enumerate(part.access)
        ]
        return Read(new, tuple(access))

    return replace(reader, body=rebuild(reader.body, leaf))


def movable(flow: Dataflow, statement: Statement) -> bool:
    """Whether each element of the result is made by itself and nothing else is known of it."""
    return statement.plain_left and statement.init is None and statement.is_plain_tensor


def stays_inside(flow: Dataflow, statement: Statement, variable: str, domain: Domain) -> bool:
    """Whether accesses stay in range for every element of the domain."""
    if domain.reaches_all:
        return True
    return not affine_in(variable, statement.body, lambda s: flow.nodes[s].shape.pad is not None)
