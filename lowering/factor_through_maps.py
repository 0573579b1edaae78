"""`factor-through-maps`: compute on the image of maps instead of on their source.

Enters: the `graph` dialect. Leaves: the same, where no statement repeats work for elements that are
alike in everything it depends on. If a statement makes `t[e, ...]` and its body depends on `e` only
through one map `e.src`, it is computed on the set that the map leads into; if through several, on
the derived set of their distinct tuples, `u.src, u.type`; if not at all, without `e`. A gather then
gives `t` its elements, and `compose-gathers` moves that into the readers. This one rule is node
hoisting, weight hoisting and compact materialisation.

    z[e, o] += h[e.src, i] * W[e.type, i, o]
    y[e.dst, o] += z[e, o]

becomes, with `set edge_type_src {type: etype, src: node} = distinct(e.type, e.src) for e: edge`,

    z_type_src[u, o] += h[u.src, i] * W[u.type, i, o]
    z[e, o] = z_type_src[e.type_src, o]
    y[e.dst, o] += z[e, o]

Only statements that do work for each element are moved: a reduction or a function that costs more
than reading it back. Where sizes are known (`cardinalities`) the side with fewer elements is taken.
Where they are not, one map is followed, several are if they leave out a map of the set: elements
that agree in all their maps are few.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.scalar import ScalarOp
from hectorite.ir.schedule import ATTRIBUTE, Schedule
from hectorite.ir.space import Dim
from hectorite.lowering.cardinalities import parse_cardinalities
from hectorite.lowering.derived_sets import (
    Factor,
    Fields,
    derive,
    derived_name,
    determines_all,
    independent,
    single_map,
)
from hectorite.lowering.statement_body import (
    Body,
    hint,
    operations_of,
    paths_of,
    plain_left,
    replace_statement,
    statements,
    temporary,
)

COSTLY = ("exp", "log", "sin", "cos", "tanh", "sigmoid", "gelu", "silu", "erf", "pow")
"""Functions that cost more than reading their value from memory."""

USUAL_SIZE = 64
"""What a size that is not known is taken for."""

WORTHWHILE = 0.9
"""A derived set with more than this share of the elements is not worth building."""


@dataclass(frozen=True)
class FactorThroughMaps(ModulePass):
    """Compute on the image of maps instead of on their source."""

    name = "factor-through-maps"

    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""
    disable: bool = False

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if not self.disable:
            known = known_sizes(self.cardinalities)
            for func in list(op.ops):
                if isinstance(func, FuncOp):
                    _factor(op, func, known)


def known_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Numbers of elements by the names of sets; numbers of distinct tuples under every name that
    their set could be given. `HectoriteError` for what is no cardinality."""
    known = parse_cardinalities(texts)
    sizes = dict(known.sizes)
    for (owner, paths), number in known.counts.items():
        for order in permutations(sorted(paths)):
            sizes[derived_name(owner, order)] = number
    return sizes


def _factor(module: ModuleOp, func: FuncOp, known: Mapping[str, int]) -> None:
    waiting = statements(func)
    while waiting:
        op = waiting.pop(0)
        if not _does_work(op):
            continue
        for variable, over in op.variables.data:
            moved = _moved(module, op, variable, over, known)
            if moved is not None:
                waiting.insert(0, moved)
                break


def _does_work(op: StatementOp) -> bool:
    """Whether each element of the result costs more than reading it."""
    if op.init is not None or not plain_left(op):
        return False
    inside = operations_of(op.value)
    return bool(op.reduced) or any(
        isinstance(inner, ScalarOp) and inner.FUNCTION.name in COSTLY for inner in inside
    )


def _moved(
    module: ModuleOp, op: StatementOp, variable: str, over: Dim, known: Mapping[str, int]
) -> StatementOp | None:
    """Compute `op` on what its body depends on instead of on `variable`; None if that is no gain.
    Returns the statement that does the work now."""
    if variable in op.reduced:
        return None
    paths = [path.fields for path in paths_of(variable, op.value)]
    if not paths:
        return _hoist(op, variable)
    # Sorted by the path that selects the largest slices, elements come in runs that share one.
    paths.sort(key=lambda fields: -_slice(op, Path(variable, fields)))
    factor = factor_of(module, over, paths, known)
    if factor is None or not _stays_inside(op, variable):
        return None
    return _onto(module, op, variable, factor)


def _slice(op: StatementOp, path: Path) -> int:
    """The most elements that a path selects from a tensor, sizes that are not known yet taken for
    equal."""
    sizes = [1]
    for read in op.reads:
        at = [i for i, index in enumerate(read.access.data) if path in index.paths]
        rest = [dim for i, dim in enumerate(read.type.dims) if i not in at]
        if at:
            sizes.append(prod(dim if isinstance(dim, int) else USUAL_SIZE for dim in rest))
    return max(sizes)


def _stays_inside(op: StatementOp, variable: str) -> bool:
    """Whether accesses stay in range wherever `variable` leads. A set may have elements that no
    map reaches, and for these `x[2*e.src]` may lie outside of x."""
    return not any(
        variable in index.variables and index.path is None and read.type.pad_value is None
        for read in op.reads
        for index in read.access.data
    )


def factor_of(
    module: ModuleOp, over: Dim, paths: Sequence[Fields], known: Mapping[str, int]
) -> Factor | None:
    """The map to compute along for something that depends on an element of a set through these
    paths; None if there is none, or if it would not make less work. May declare a set."""
    if not isinstance(over, str) or () in paths or not gains(module, over, paths, known):
        return None
    schema = schema_of(module)
    return single_map(schema, over, paths) or derive(module, over, paths)


def gains(module: ModuleOp, over: str, paths: Sequence[Fields], known: Mapping[str, int]) -> bool:
    """Whether there are, or with unknown sizes should be, fewer images than elements."""
    schema = schema_of(module)
    single = single_map(schema, over, paths)
    core = independent(schema, over, paths)
    # Under which name a set would be declared depends on the statement that asks for it first.
    names = [derived_name(over, order) for order in permutations(core)]
    image = next((name for name in names if name in known), "")
    if single is not None:
        image = single.set_name
    if image in known and over in known:
        limit = known[over] * (1 if single is not None else WORTHWHILE)
        return known[image] <= limit
    return single is not None or not determines_all(schema, over, core)


def _hoist(op: StatementOp, variable: str) -> StatementOp:
    """Compute without a variable that the body does not depend on."""
    kept = [(name, dim) for name, dim in op.variables.data if name != variable]
    body = Body()
    left = [index for index in op.access.data if index.variable != variable]
    dims = [
        dim
        for index, dim in zip(op.access.data, op.type.dims, strict=True)
        if index.variable != variable
    ]
    type = temporary(op.type.element, dims)
    name = hint(op.result, "once")
    moved = body.statement(op.kind.data, left, kept, type, body.copy(op.value), name=name)
    _gather(op, moved, left)
    return moved


def _onto(module: ModuleOp, op: StatementOp, variable: str, factor: Factor) -> StatementOp:
    """Compute on the set that a map leads into."""
    new = _fresh("u", {name for name, _ in op.variables.data})

    def follow(path: Path) -> IndexExpr:
        if path.variable != variable:
            return IndexExpr.of(path.variable, *path.fields)
        return IndexExpr.of(new, *factor.rest[path.fields])

    body = Body(lambda index: index.substitute(follow))
    value = body.copy(op.value)
    variables = [
        (new, factor.set_name) if name == variable else (name, dim)
        for name, dim in op.variables.data
    ]
    left = [IndexExpr.of(new) if index.variable == variable else index for index in op.access.data]
    dims = [
        factor.set_name if index.variable == variable else dim
        for index, dim in zip(op.access.data, op.type.dims, strict=True)
    ]
    type = temporary(op.type.element, dims)
    name = hint(op.result, "_".join(factor.position))
    moved = body.statement(op.kind.data, left, variables, type, value, name=name)
    _gather(
        op,
        moved,
        [
            IndexExpr.of(variable, *factor.position) if index.variable == variable else index
            for index in op.access.data
        ],
    )
    schedule = Schedule.on(moved)
    if schedule is not None:
        moved.attributes[ATTRIBUTE] = schedule.renamed(variable, new).attribute
    return moved


def _gather(op: StatementOp, moved: StatementOp, access: Sequence[IndexExpr]) -> None:
    """Put the statement that does the work, and a gather from it, in the place of `op`."""
    body = Body()
    kept = [pair for pair in op.variables.data if pair[0] not in op.reduced]
    value = body.read(moved.result, access)
    gather = body.statement("assign", op.access.data, kept, op.type, value)
    replace_statement(op, moved, gather)


def _fresh(wanted: str, taken: set[str]) -> str:
    """A variable name that is not taken: `u`, `u2`, `u3` ..."""

    def names() -> Iterator[str]:
        yield wanted
        number = 2
        while True:
            yield f"{wanted}{number}"
            number += 1

    return next(name for name in names() if name not in taken)
