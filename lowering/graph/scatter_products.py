"""`scatter-products`: products are multiplied where they are summed into other rows.

Enters: the `graph` dialect of a CPU's program, its structure chosen. Leaves: the same, where a
product of rows that only one sum over a set reads, row by row, is part of that sum, so that no
tensor of its rows exists. One form (`each`) multiplies each element of the set. The other (`sums`)
sums the left operands of elements that share target and weights first, `y_rows[p.type_dst, i] +=
x[p.src, i]`, and multiplies `y[v.dst, o] += y_rows[v, i] * W[v.type, i, o]`. Which of them, or
neither, is decided by what they cost for the numbers of elements and distinct tuples that are known
(`cardinalities`).

    t[p, o] += x[p.src, i] * W[p.type, i, o]
    y[p.dst, o] += t[p, o]

becomes

    y[p.dst, o] += x[p.src, i] * W[p.type, i, o]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import fail
from hectorite.ir.extents import Extents
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.sums_of_products import SumOfProducts
from hectorite.lowering.graph.cardinalities import parse_cardinalities
from hectorite.lowering.graph.derived_sets import derive, resolve
from hectorite.lowering.graph.statement_body import (
    Body,
    factors,
    hint,
    plain_left,
    replace_statement,
    statements,
    temporary,
    variables_of,
)
from hectorite.lowering.kernels.kernel_plan import Product
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import plain_read, product_at
from hectorite.lowering.match.scattered import scattered_product, wants_atomics
from hectorite.lowering.options import Options

FORMS = ("cheapest", "each", "sums", "stay", "split")


@dataclass(frozen=True)
class ScatterProducts(ModulePass):
    """Products that are summed into other rows are multiplied where they are summed."""

    name = "scatter-products"

    reassociate: bool = True
    """Allow floats to be added in another order, without which only integers are summed first."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""
    form: str = "cheapest"
    """One of `FORMS`; `split` is `each` where a schedule says `work(split)`, else `stay`."""

    @staticmethod
    def of(options: Options) -> tuple["ScatterProducts", ...]:
        """The pass that does what a user chose: none where statements stay as they are. On a GPU
        sums visit what other kernels left, so that they are the same every time, unless a schedule
        lets tasks add to the same rows."""
        if not options.search:
            return ()
        gpu = options.device is not None and options.device.is_gpu
        form = "split" if gpu else "cheapest"
        return (ScatterProducts(options.reassociate, options.cardinalities, form),)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.form not in FORMS:
            raise fail(f"there is no form `{self.form}`", expected=f"one of {', '.join(FORMS)}")
        known = parse_cardinalities(self.cardinalities)
        for func in list(op.ops):
            if isinstance(func, FuncOp):
                for statement in statements(func):
                    extents = known.extents(schema_of(op))
                    _rewrite(op, func, statement, extents, self.form, self.reassociate)


@dataclass(frozen=True)
class _Sum:
    """A sum of products over the elements of a set: `whole` is it as one statement, which is new if
    `source` made the products. `target` is the path of its rows, `made` how many rows `source`
    has."""

    whole: StatementOp
    product: Product
    target: Path
    source: StatementOp | None
    made: float

    @property
    def over(self) -> str:
        """The set that is summed over."""
        return str(dict(self.whole.variables.data)[self.target.variable])

    @property
    def shared(self) -> list[tuple[str, ...]]:
        """The paths by which elements are alike, the weights first."""
        groups = [path.fields for path in self.product.groups]
        return list(dict.fromkeys([*groups, self.target.fields]))

    @property
    def left(self) -> list[SSAValue]:
        """The factors that are not the weights."""
        parts = factors(self.whole.value)
        return [part for part in parts if plain_read(part) is not self.product.weights]


def _rewrite(
    module: ModuleOp,
    func: FuncOp,
    statement: StatementOp,
    extents: Extents,
    form: str,
    reassociate: bool,
) -> None:
    """Give one sum the form asked for, if it is such a sum."""
    found = _as_sum(func, statement, schema_of(module), extents)
    if found is None:
        return
    exact = reassociate or not found.whole.type.element_type.is_float
    if form == "cheapest":
        costs = _costs(found, extents)
        plain = found.source is None or len(list(factors(statement.value))) == 1
        allowed = ("stay", "each", "sums") if exact else ("stay", "each") if plain else ("stay",)
        form = min((f for f in allowed if f in costs), key=lambda f: costs[f])
    if form == "split":
        form = "each" if wants_atomics(statement) else "stay"
    if form == "sums" and not _are_shared(found, schema_of(module)):
        form = "stay"
    if form == "sums":
        _sum_first(module, statement, found)
    elif form == "each" and found.source is not None:
        replace_statement(statement, found.whole)
    elif found.source is not None:
        found.whole.erase()
    if form != "stay" and found.source is not None and not found.source.result.uses.get_length():
        found.source.detach()
        found.source.erase()


def _as_sum(func: FuncOp, statement: StatementOp, schema: Schema, extents: Extents) -> _Sum | None:
    targets = [i.path for i in statement.access.data if i.path is not None and i.path.fields]
    if statement.kind.data != "add" or len(targets) != 1:
        return None
    target = targets[0]
    over = dict(statement.variables.data)[target.variable]
    if not isinstance(over, str) or not _serves_sums(schema.sets[over].format):
        return None
    machine = Machine.cpu()
    direct = scattered_product(statement, schema, machine)
    if direct is not None:
        return _Sum(statement, direct[1], target, None, 0.0)
    read = _product_read(func, statement, target)
    if read is None:
        return None
    source = read.tensor.owner
    assert isinstance(source, StatementOp)
    row = _row(read, target)
    if row is None or not _is_product(source, row, machine):
        return None
    whole = _joined(statement, source, read, schema)
    matched = scattered_product(whole, schema, machine)
    if matched is None:
        whole.erase()
        return None
    made = extents.of(dict(source.variables.data)[row])
    return _Sum(whole, matched[1], target, source, made)


def _serves_sums(format: str | None) -> bool:
    """Whether a set in a format serves any sum over it, blocks and distinct rows not."""
    return format is None or format.partition("(")[0] not in ("sgt", "bsr", "dedup", "permute")


def _product_read(func: FuncOp, statement: StatementOp, target: Path) -> ReadOp | None:
    """The factor that is what another statement made and that nothing else reads."""
    for part in factors(statement.value):
        read = plain_read(part)
        if read is None or not isinstance(read.tensor.owner, StatementOp):
            continue
        tensor, source = read.tensor, read.tensor.owner
        alone = all(use.operation is read for use in tensor.uses)
        exact = source.value.type == source.type.element == statement.value.type
        if alone and exact and source.init is None and plain_left(source):
            return read
    return None


def _row(read: ReadOp, target: Path) -> str | None:
    """The variable of the source that the element of the sum is one value of; all others have to
    be variables of the sum."""
    source = read.tensor.owner
    assert isinstance(source, StatementOp)
    found: str | None = None
    for index, own in zip(read.access.data, source.access.data, strict=True):
        path = index.path
        if path is None or path.fields and path.variable != target.variable:
            return None
        if path.variable == target.variable:
            if found is not None:
                return None
            found = own.variable
    names = [index.path.variable for index in read.access.data if index.path is not None]
    return found if len(set(names)) == len(names) else None


def _is_product(source: StatementOp, row: str, machine: Machine) -> bool:
    left = [index.variable for index in source.access.data]
    return product_at(source, row, left, machine) is not None


def _joined(
    statement: StatementOp, source: StatementOp, read: ReadOp, schema: Schema
) -> StatementOp:
    """The sum with what its source computes in the place of the read."""
    own, taken = dict(statement.variables.data), set(dict(statement.variables.data))
    places: dict[str, IndexExpr] = {}
    for index, made in zip(read.access.data, source.access.data, strict=True):
        places[str(made.variable)] = index
    reduced: list[tuple[str, Dim]] = []
    for name, dim in source.variables.data:
        if name not in places:
            fresh = name
            while fresh in taken:
                fresh += "_"
            taken.add(fresh)
            reduced.append((fresh, dim))
            places[name] = IndexExpr.of(fresh)

    def follow(path: Path) -> IndexExpr:
        index = places[path.variable]
        if index.path is None or not (path.fields or index.path.fields):
            return index
        whole = Path(index.path.variable, (*index.path.fields, *path.fields))
        return resolve(schema, str(own[whole.variable]), whole)

    body = Body()
    inner = Body(lambda index: index.substitute(follow))
    inner.block = body.block
    values = [
        inner.copy(source.value) if plain_read(part) is read else body.copy(part)
        for part in factors(statement.value)
    ]
    total = values[0]
    for value in values[1:]:
        total = body.apply("mul", total, value)
    variables = [*statement.variables.data, *reduced]
    name = statement.result.name_hint
    return body.statement(
        "add", statement.access.data, variables, statement.type, total, statement.init, name
    )


def _are_shared(found: _Sum, schema: Schema) -> bool:
    """Whether elements may share target and weights: those of a set of distinct tuples do not share
    all of them."""
    decl, targets = schema.sets[found.over], found.target.fields
    groups = [path.fields for path in found.product.groups]
    distinct = decl.derivation is not None and all((f,) in found.shared for f, _ in decl.fields)
    return bool(groups) and targets not in groups and not distinct


def _costs(found: _Sum, extents: Extents) -> Mapping[str, float]:
    """Seconds of each form that there is, without what they have in common."""
    dims = dict(found.whole.variables.data)
    size = found.whole.type.element_type.storage.itemsize
    terms = float(prod(int(dims[name]) for name in _along(found)))
    pairs = _are_shared(found, extents.schema)
    groups = extents.distinct(found.over, found.shared[:-1]) if found.product.groups else 1.0
    facts = SumOfProducts(
        elements=extents.of(found.over),
        work=float(prod(int(dim) for dim in dims.values() if isinstance(dim, int))),
        result=size * float(prod(d for d in found.whole.type.dims if isinstance(d, int))),
        fetched=size * _summed(found),
        weights=size * terms * int(dims[found.product.lanes]),
        groups=groups,
        computed=len(found.left) > 1,
        made=found.made if found.source is not None else None,
        pairs=extents.distinct(found.over, found.shared) if pairs else None,
    )
    return facts.seconds()


def _along(found: _Sum) -> list[str]:
    """The reduced variables that the weights move along."""
    reduced = (found.product.inner, *found.product.outer)
    return [name for name in variables_of(*found.left) if name in reduced]


def _summed(found: _Sum) -> float:
    """Elements of the left operand of one row."""
    dims = dict(found.whole.variables.data)
    return float(prod(int(d) for n, d in dims.items() if n in _kept(found) and isinstance(d, int)))


def _kept(found: _Sum) -> list[str]:
    """Variables of the left operand once its elements are summed, that of k last."""
    product = found.product
    depends, in_weights = variables_of(*found.left), found.product.weights
    weights = {name for index in in_weights.access.data for name in index.variables}
    names = [name for name in product.loops if name in depends]
    names += [name for name in product.outer if name in depends and name in weights]
    return [*names, product.inner]


def _sum_first(module: ModuleOp, statement: StatementOp, found: _Sum) -> None:
    """Sum the elements that share weights and target, then multiply."""
    variable, whole = found.target.variable, found.whole
    factor = derive(module, found.over, found.shared)
    dims = dict(whole.variables.data)
    kept = _kept(found)
    body = Body()
    values = [body.copy(part) for part in found.left]
    value = values[0]
    for other in values[1:]:
        value = body.apply("mul", value, other)
    depends = variables_of(*found.left)
    alone = [n for n, _ in whole.variables.data if n in depends and n not in (variable, *kept)]
    variables = [(name, dims[name]) for name in (variable, *kept, *alone)]
    access = [IndexExpr.of(variable, *factor.position), *map(IndexExpr.of, kept)]
    type = temporary(whole.value.type, [factor.set_name, *(dims[name] for name in kept)])
    name = hint(statement.result, "rows")
    rows = body.statement("add", access, variables, type, value, name=name)

    row = _unused("v", set(dims))

    def follow(path: Path) -> IndexExpr:
        if path.variable != variable:
            return IndexExpr.of(path.variable, *path.fields)
        return IndexExpr.of(row, *factor.rest[path.fields])

    outer = Body(lambda index: index.substitute(follow))
    left = outer.read(rows.result, [IndexExpr.of(row), *map(IndexExpr.of, kept)])
    total = outer.apply("mul", left, outer.copy(_weights(found)))
    variables = [
        (row, factor.set_name) if name == variable else (name, dim)
        for name, dim in whole.variables.data
        if name not in alone
    ]
    access = [index.substitute(follow) for index in whole.access.data]
    summed = outer.statement(
        "add", access, variables, whole.type, total, whole.init, statement.result.name_hint
    )
    replace_statement(statement, rows, summed)
    if found.source is not None:
        whole.erase()


def _weights(found: _Sum) -> SSAValue:
    parts = factors(found.whole.value)
    return next(part for part in parts if plain_read(part) is found.product.weights)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
