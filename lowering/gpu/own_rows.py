"""`own-rows`: sums of products whose rows are scattered become one product for each block of rows.

Enters: the graph level without softmax, and what is known of the data. Leaves: the same, where a
sum over a set of what only it reads of a product is one statement with the order `work(row)`: a
task owns a block of the rows that are summed into (`emit/owned_rows.py`). No tensor of the set's
rows is written and read, and every row is summed in one order.

    t[p, o] += x[p.in, i] * W[p.k, i, o]
    y[p.out, o] += t[p, o]

becomes

    y[p.out, o] += x[p.in, i] * W[p.k, i, o]      {schedule = {chosen, of = "y", work = "row"}}

A block multiplies all its rows by each of the weights that one of them has, so how many of the
places of its entries are taken decides. Rows with the same weights stand together, which leaves
about half of them (0.55 of those of a submanifold convolution of a surface); without that, as many
as rows have of all weights. Elements that share row and weights with others take entries for
themselves, as those of typed edges often do.
"""

from dataclasses import dataclass, replace
from math import expm1, prod

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.device import Device
from hectorite.ir.devices import device_named
from hectorite.ir.element import element_of
from hectorite.ir.schedule import ATTRIBUTE, Schedule
from hectorite.ir.schema import Schema
from hectorite.ir.target import DEFAULT_TARGET, target
from hectorite.lowering.graph.cardinalities import Cardinalities, parse_cardinalities
from hectorite.lowering.graph.scatter_products import joined, put_in_place
from hectorite.lowering.graph.statement_body import statements
from hectorite.lowering.kernels.kernel_plan import Product
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.scattered import owned_product

SINGLE = 0.9
"""Elements that are alone with their row and their weights, at least: others take entries that are
empty but for them."""
WORTHWHILE = 1.1
"""How many times faster it has to be."""
ORDERED, TAKEN = 62, 0.4
"""Weights at most by which rows are ordered, and the share of places that are taken then."""
SUSTAINED = 1 / 3
"""The part of the peak that blocks of gathered rows come to."""

_GPU = Machine.gpu(target(DEFAULT_TARGET))


@dataclass(frozen=True)
class OwnRows(ModulePass):
    """Sums of products whose rows are scattered become one product for each block of rows."""

    name = "own-rows"

    device: str = "a100"
    """What costs are those of."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements and of distinct tuples: `pair=90000`, `pair(out,k)=90000`."""
    formats: tuple[str, ...] = ()
    """Formats of sets, as `SET=FORMAT`."""
    reassociate: bool = True
    """Allow floats to be added in another order."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        known, schema = parse_cardinalities(self.cardinalities), schema_of(op)
        for func in [each for each in op.ops if isinstance(each, FuncOp)]:
            for statement in statements(func):
                schedule = Schedule.on(statement)
                is_free = schedule is None or schedule.work is None
                exact = self.reassociate or not statement.type.element_type.is_float
                if is_free and exact:
                    self._own(statement, schema, known)

    def _own(self, statement: StatementOp, schema: Schema, known: Cardinalities) -> None:
        keys = [path for index in statement.access.data for path in index.paths if path.fields]
        sets = {str(dict(statement.variables.data)[path.variable]) for path in keys}
        stored = {text.partition("=")[0] for text in self.formats}
        if not sets or any(name in stored or schema.sets[name].format for name in sets):
            return  # done by the parts of the format
        made = joined(statement, schema)
        whole = statement if made is None else made[0]
        product = owned_product(whole, _GPU)
        if product is None or not _pays(whole, product, schema, known, device_named(self.device)):
            if made is not None:
                whole.erase()
            return
        if made is not None:
            put_in_place(statement, *made)
        schedule = Schedule.on(whole) or Schedule(whole.result.name_hint or "_")
        schedule = replace(schedule, work="row", chosen=True)
        whole.attributes[ATTRIBUTE] = schedule.attribute


def _pays(
    whole: StatementOp, product: Product, schema: Schema, known: Cardinalities, device: Device
) -> bool:
    """Whether one kernel takes less than a product of the elements' rows and a sum of these."""
    target = next(i.path for i in whole.access.data if i.path is not None and i.path.fields)
    dims, groups = dict(whole.variables.data), [path.fields for path in product.groups]
    over = str(dims[target.variable])
    alone = known.counts.get((over, frozenset([target.fields, *groups])))
    if over not in known.sizes or alone is None or alone < SINGLE * known.sizes[over]:
        return False
    extents, assigned = known.extents(schema), [d for d in dims.values() if isinstance(d, int)]
    elements, rows = extents.of(over), extents.of(schema.follow(over, target.fields))
    kinds = extents.distinct(over, groups) if groups else 1.0
    places = rows / product.shape.rows * kinds
    slots = product.shape.rows * places * -expm1(-elements / places)
    slots = min(slots, elements / TAKEN) if kinds <= ORDERED else slots
    left = product.direct
    assert left is not None
    in_left = {name for index in left.access.data for name in index.variables}
    gathered = prod(int(d) for n, d in dims.items() if n in in_left and isinstance(d, int))
    gathered *= left.type.element_type.storage.itemsize
    result = prod(int(d) for d in whole.type.dims if isinstance(d, int))
    result *= element_of(whole.value.type).storage.itemsize
    flops = 2.0 * prod(assigned) / device.peak[_unit(whole, product)] / SUSTAINED
    moved, stored = elements * gathered / device.bandwidth, rows * result / device.bandwidth
    passed_on = elements * result / device.bandwidth
    own = max(slots * flops, moved + stored)
    two = max(elements * flops, moved + passed_on) + passed_on + stored + device.launch
    return own * WORTHWHILE < two


def _unit(whole: StatementOp, product: Product) -> str:
    """What multiplies the operands."""
    assert product.direct is not None
    names = {read.type.element_type.name for read in (product.direct, product.weights)}
    if names <= {"f16"} or names <= {"bf16"} or element_of(whole.value.type).name == "i32":
        return "tensor_f16"
    if names <= {"tf32"}:
        return "tensor_tf32"
    return "fma_f64" if "f64" in names else "fma_f32"
