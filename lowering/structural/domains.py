"""Where something that depends on an element only through maps can be computed.

Enters: a set and the paths along which a statement depends on its element. Leaves: the options,
each a set and a map into it, with how many elements it has. For `h[e.src, i] * W[e.type, i, o]`:

    (type, src)     the distinct tuples                      edge_type_src, through e.type_src
    e.pair          a derived set that determines both       pair, through e.pair

and for `q[e.src.type] * r[e.src]`

    src             where the paths part                     node, through e.src

Longer paths may be cut short: `e.src.type` and `e.kind` give (src.type, kind) and (src, kind).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from hectorite.ir.dataflow import Dataflow
from hectorite.ir.extents import Extents
from hectorite.ir.formula import reads
from hectorite.ir.index import Path
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.space import Dim
from hectorite.lowering.graph.derived_sets import (
    Factor,
    Fields,
    distinct,
    independent,
    position_maps,
    single_map,
)
from hectorite.lowering.structural.statement import Statement

WORTHWHILE = 0.9
"""A set of distinct tuples with more than this share of the elements is not worth building."""

MOST_CUTS = 12
"""Ways to cut paths short that are looked at."""


@dataclass(frozen=True)
class Domain:
    """A set to compute on and the map into it; `decl` if the set is still to be declared."""

    text: str
    factor: Factor
    decl: SetDecl | None
    elements: float
    reaches_all: bool = False
    """Whether the map comes to every element, as it does to distinct tuples."""

    def declare(self, flow: Dataflow) -> None:
        """Make the set known to a graph."""
        if self.decl is not None and self.decl.name not in flow.schema.sets:
            flow.declare(self.decl)


def is_set(schema: Schema, dim: Dim) -> bool:
    """Whether a dimension is a set."""
    return isinstance(dim, str) and dim in schema.sets


def domains(flow: Dataflow, extents: Extents, over: Dim, paths: Sequence[Fields]) -> list[Domain]:
    """All options for something that depends on an element of a set along these paths, the one
    with the fewest elements first; none that has as many as the set."""
    schema = flow.schema
    extents.declare(schema)
    if not isinstance(over, str) or over not in schema.sets or () in paths or not paths:
        return []
    core = independent(schema, over, paths)
    asked, paths = paths, [_through(schema, over, core, path) for path in paths]
    found = dict[tuple[str, Fields], Domain]()
    cuts = product(*(range(len(path), 0, -1) for path in core))
    for lengths, _ in zip(cuts, range(MOST_CUTS), strict=False):
        short = [path[:n] for path, n in zip(core, lengths, strict=True)]
        _add(found, _option(flow, extents, over, short, paths))
    single = single_map(schema, over, paths)
    if single is not None:
        _add(found, _single(schema, extents, single))
    for position, keys in position_maps(schema, over).items():
        if independent(schema, over, [*keys, *paths]) == independent(schema, over, keys):
            _add(found, _option(flow, extents, over, [(position,)], paths))
    limit = extents.of(over)
    named = dict(zip(asked, paths, strict=True))
    return sorted(
        (_renamed(domain, named) for domain in found.values() if _is_smaller(domain, limit)),
        key=lambda domain: (domain.elements, domain.text),
    )


def _is_smaller(domain: Domain, limit: float) -> bool:
    """Whether a domain has fewer elements than its source, by enough."""
    return domain.elements < limit * (WORTHWHILE if domain.reaches_all else 1)


def _through(schema: Schema, over: str, core: Sequence[Fields], path: Fields) -> Fields:
    """The path as one that begins with one of the core, `e.pair.src` for `e.src`."""
    return _found_through(schema, over, core, path, frozenset()) or path


def _found_through(
    schema: Schema, over: str, core: Sequence[Fields], path: Fields, tried: frozenset[Fields]
) -> Fields | None:
    if any(path[: len(first)] == first for first in core):
        return path
    for position, keys in position_maps(schema, over).items():
        place = next((k for k, key in enumerate(keys) if path[: len(key)] == key), None)
        if place is None or (position,) in tried:
            continue
        start = _found_through(schema, over, core, (position,), tried | {(position,)})
        if start is not None:
            target = schema.follow(over, (position,))
            return (*start, schema.sets[target].fields[place][0], *path[len(keys[place]) :])
    return None


def _renamed(domain: Domain, named: Mapping[Fields, Fields]) -> Domain:
    """The domain with what follows its map for the paths as they were asked for."""
    rest = {old: domain.factor.rest[new] for old, new in named.items()}
    return replace(domain, factor=replace(domain.factor, rest=rest))


def _add(found: dict[tuple[str, Fields], Domain], domain: Domain | None) -> None:
    if domain is not None:
        found.setdefault((domain.factor.set_name, domain.factor.position), domain)


def _option(
    flow: Dataflow,
    extents: Extents,
    over: str,
    short: Sequence[Fields],
    paths: Sequence[Fields],
) -> Domain | None:
    """The map through which these shortened paths go: one of them, or into their tuples."""
    schema = flow.schema
    core = independent(schema, over, short)
    if len(core) == 1:
        factor = single_map(schema, over, [*core, *paths])
        if factor is None or factor.position != core[0]:
            return None
        return _single(schema, extents, factor)
    decl, factor = distinct(schema, over, core, _shape_names(flow))
    if _is_itself(schema, over, core):
        return None
    rest = {
        path: _rest(schema, over, decl, factor, _through(schema, over, core, path))
        for path in paths
    }
    text = f"({', '.join('.'.join(path) for path in core)})"
    factor = Factor(factor.set_name, factor.position, rest)
    elements = extents.distinct(over, core)
    if decl is not None:
        if not _may_derive(schema, over, core):
            return None
        if schema.sets[over].derivation is not None:
            # Nothing of this kind was counted, and an estimate must not be what makes it pay.
            elements = prod(extents.of(schema.follow(over, path)) for path in core)
    return Domain(text, factor, decl, elements, True)


def _may_derive(schema: Schema, over: str, core: Sequence[Fields]) -> bool:
    """Whether a new set of tuples may be made: from a given set, or from one that was made from a
    given set, and not from places in made ones. Others would tell the same elements apart."""
    derivation = schema.sets[over].derivation
    if derivation is not None:
        origins = (schema.sets[name].derivation for _, name in derivation.binders)
        if any(origin is not None for origin in origins):
            return False
    here = position_maps(schema, over)
    return not any(path[0] in here for path in core)


def _is_itself(schema: Schema, over: str, core: Sequence[Fields]) -> bool:
    """Whether the tuples are those that a set already has one element for each of."""
    decl = schema.sets[over]
    return decl.derivation is not None and {(name,) for name, _ in decl.fields} <= set(core)


def _single(schema: Schema, extents: Extents, factor: Factor) -> Domain:
    """The domain at the end of one path."""
    derivation = schema.sets[factor.set_name].derivation
    complete = derivation is not None and (derivation.position,) == factor.position
    size = extents.of(factor.set_name)
    return Domain(".".join(factor.position), factor, None, size, complete)


def _rest(schema: Schema, over: str, decl: SetDecl | None, factor: Factor, path: Fields) -> Fields:
    if path in factor.rest:
        return factor.rest[path]
    sets = schema.sets if decl is None else {**schema.sets, decl.name: decl}
    single = single_map(Schema(sets, schema.sizes), over, [factor.position, path])
    assert single is not None and single.position == factor.position
    return single.rest[path]


def _shape_names(flow: Dataflow) -> set[str]:
    """Names of sizes in the shapes of inputs, which a new set must not capture."""
    shapes = (flow.nodes[number].shape for number in flow.inputs.values())
    return {dim for shape in shapes for dim in shape.dims if isinstance(dim, str)}


def by_slice(
    flow: Dataflow, statement: Statement, variable: str, paths: list[Fields], extents: Extents
) -> list[Fields]:
    """The paths, the one that selects the largest slices first: elements of the set of their
    tuples then come in runs that share one."""

    def size(fields: Fields) -> float:
        path, largest = Path(variable, fields), 1.0
        for read in reads(statement.body):
            at = [path in index.paths for index in read.access or ()]
            if any(at):
                dims = flow.nodes[read.slot].shape.dims
                rest = [d for d, here in zip(dims, at, strict=True) if not here]
                total = 1.0
                for dim in rest:
                    total *= extents.of(dim)
                largest = max(largest, total)
        return largest

    return sorted(paths, key=lambda fields: -size(fields))
