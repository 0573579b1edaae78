"""Moving a statement onto the image of a map.

Enters: a statement, one of its kept variables, and a domain. Leaves: the statement computed there,
and where its old elements are found.

    z[e, o] += h[e.src, i] * W[e.type, i, o]         onto (type, src) at e

becomes

    z_type_src[u, o] += h[u.src, i] * W[u.type, i, o]     and z[e, o] is z_type_src[e.type_src, o]
"""

from dataclasses import replace

from hectorite.ir.formula import Access, indices, with_indices
from hectorite.ir.index import IndexExpr, Path
from hectorite.lowering.graph.derived_sets import Fields
from hectorite.lowering.structural.domains import Domain
from hectorite.lowering.structural.statement import Statement, fresh

LONGEST = 40
"""Characters of a name that a rewrite gives."""


def substituted(statement: Statement, variable: str, domain: Domain) -> tuple[Statement, str]:
    """The statement with a variable over the domain in the place of one over its source, and that
    variable. The shape stays that of the left before."""
    new = fresh("u", dict(statement.dims))

    def follow(path: Path) -> IndexExpr:
        if path.variable != variable:
            return IndexExpr.of(path.variable, *path.fields)
        return IndexExpr.of(new, *domain.factor.rest[path.fields])

    body = with_indices(statement.body, lambda index: index.substitute(follow))
    dims = {
        (new if name == variable else name): (domain.factor.set_name if name == variable else dim)
        for name, dim in statement.dims.items()
    }
    left = tuple(
        IndexExpr.of(new) if index.variable == variable else index.substitute(follow)
        for index in statement.left
    )
    return replace(statement, body=body, dims=dims, left=left), new


def onto(statement: Statement, variable: str, domain: Domain) -> tuple[Statement, Access]:
    """A statement whose left has the variable alone, computed on a domain; and the access at which
    the old elements are read from it."""
    moved, new = substituted(statement, variable, domain)
    dims = tuple(
        domain.factor.set_name if index.variable == new else dim
        for index, dim in zip(moved.left, moved.shape.dims, strict=True)
    )
    access = tuple(
        IndexExpr.of(variable, *domain.factor.position) if index.variable == variable else index
        for index in statement.left
    )
    name = named(statement.name, "_".join(domain.factor.position))
    return replace(moved, shape=replace(moved.shape, dims=dims), name=name), access


def without(statement: Statement, variable: str) -> tuple[Statement, Access]:
    """A statement that does not depend on a variable, without it."""
    at = [k for k, index in enumerate(statement.left) if index.variable == variable]
    left = tuple(index for k, index in enumerate(statement.left) if k not in at)
    kept = tuple(dim for k, dim in enumerate(statement.shape.dims) if k not in at)
    dims = {name: dim for name, dim in statement.dims.items() if name != variable}
    shape = replace(statement.shape, dims=kept)
    name = named(statement.name, "once")
    return replace(statement, left=left, dims=dims, shape=shape, name=name), left


def named(name: str | None, suffix: str) -> str | None:
    """A name for something made from another, as long as that stays readable."""
    if name is None or len(name) + len(suffix) > LONGEST:
        return name
    return f"{name}_{suffix}"


def paths_of(statement: Statement, variable: str) -> list[Fields]:
    """The paths along which the body depends on a variable."""
    found = (path for index in indices(statement.body) for path in index.paths)
    return list(dict.fromkeys(path.fields for path in found if path.variable == variable))
