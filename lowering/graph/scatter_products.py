"""`scatter-products`: products are multiplied where they are summed into other rows.

Enters: the `graph` dialect, its structure chosen. Leaves: the same, where a product of rows that
only one sum over a set reads, row by row, is part of that sum, so that no tensor of its rows
exists. A search that may reassociate decides the same itself, by costs; this pass is for a GPU,
where a schedule decides, and for floats in their own order: of sums without further factors, whose
values stay the same, the cheaper form is taken, for the numbers of elements that are known
(`cardinalities`).

    t[p, o] += x[p.src, i] * W[p.type, i, o]
    y[p.dst, o] += t[p, o]

becomes

    y[p.dst, o] += x[p.src, i] * W[p.type, i, o]
"""

from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.cost import CostModel
from hectorite.ir.device import Device
from hectorite.ir.devices import CPU
from hectorite.ir.diagnostics import fail
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.spread import serves_sums
from hectorite.lowering.graph.cardinalities import Cardinalities, parse_cardinalities
from hectorite.lowering.graph.derived_sets import resolve
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.statement_body import (
    Body,
    factors,
    plain_left,
    replace_statement,
    statements,
)
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import plain_read, product_at
from hectorite.lowering.match.scattered import scattered_product, wants_atomics
from hectorite.lowering.options import Options

FORMS = ("cheapest", "each", "split")


@dataclass(frozen=True)
class ScatterProducts(ModulePass):
    """Products that are summed into other rows are multiplied where they are summed."""

    name = "scatter-products"

    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `edge=1000`, `edge(src,type)=300`."""
    form: str = "cheapest"
    """One of `FORMS`: only where that is cheaper, everywhere, or where a schedule says
    `work(split)`."""

    @staticmethod
    def of(options: Options) -> tuple["ScatterProducts", ...]:
        """The pass that does what a user chose: none where statements stay as they are, and none
        where the search has decided. On a GPU sums visit what other kernels left, so that they are
        the same every time, unless a schedule lets tasks add to the same rows."""
        if not options.search:
            return ()
        if options.device is not None and options.device.is_gpu:
            return (ScatterProducts(form="split"),)
        if options.reassociate:
            return ()
        known = options.cardinalities
        if options.device is None:
            return (ScatterProducts(known),)
        return (_OnDevice(known, device=options.device),)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.form not in FORMS:
            raise fail(f"there is no form `{self.form}`", expected=f"one of {', '.join(FORMS)}")
        known = parse_cardinalities(self.cardinalities)
        for func in [each for each in op.ops if isinstance(each, FuncOp)]:
            for statement in statements(func):
                if self.form == "split" and not wants_atomics(statement):
                    continue
                if self.form == "cheapest" and not _pays(op, func, statement, known, self.costs):
                    continue
                _join(statement, schema_of(op))

    @property
    def costs(self) -> Device:
        """The device whose costs decide."""
        return CPU


@dataclass(frozen=True)
class _OnDevice(ScatterProducts):
    device: Device = CPU

    @property
    def costs(self) -> Device:
        return self.device


def _pays(
    module: ModuleOp, func: FuncOp, statement: StatementOp, known: Cardinalities, device: Device
) -> bool:
    """Whether the function is cheaper if a sum takes its products in."""
    if len(list(factors(statement.value))) > 1 and statement.type.element_type.is_float:
        return False
    place = list(func.body.block.ops).index(statement)
    other = func.clone()
    (copy,) = (op for i, op in enumerate(other.body.block.ops) if i == place)
    assert isinstance(copy, StatementOp)
    schema = schema_of(module)
    if not _join(copy, schema):
        return False
    flows = [lift(each, schema, reassociate=False) for each in (func, other)]
    model = CostModel(device, known.extents(flows[0].schema))
    before, after = map(model.total, flows)
    return after < before


def _join(statement: StatementOp, schema: Schema) -> bool:
    """Multiply where it is summed, if a sum of products can be done like that."""
    found = joined(statement, schema)
    if found is not None:
        put_in_place(statement, *found)
    return found is not None


def put_in_place(statement: StatementOp, whole: StatementOp, source: StatementOp) -> None:
    """Let the whole sum stand for its statement and the source of what that summed."""
    replace_statement(statement, whole)
    source.detach()
    source.erase()


def joined(statement: StatementOp, schema: Schema) -> tuple[StatementOp, StatementOp] | None:
    """A sum of what only it reads of a product as one new statement, with the product's own."""
    targets = [i.path for i in statement.access.data if i.path is not None and i.path.fields]
    if statement.kind.data != "add" or len(targets) != 1:
        return None
    target = targets[0]
    over = dict(statement.variables.data)[target.variable]
    if not isinstance(over, str) or not serves_sums(schema.sets[over].format):
        return None
    read = _product_read(statement)
    if read is None:
        return None
    source = read.tensor.owner
    assert isinstance(source, StatementOp)
    row, machine = _row(read, target), Machine.cpu()
    if row is None or not _is_product(source, row, machine):
        return None
    whole = _joined(statement, source, read, schema)
    if scattered_product(whole, schema, machine) is None:
        whole.erase()
        return None
    return whole, source


def _product_read(statement: StatementOp) -> ReadOp | None:
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
