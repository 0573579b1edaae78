"""Recognise products whose rows are scattered: typed sums over edges, sparse convolution.

Enters: a statement at the graph level. Leaves: its root and its `Product`, or None.

    O[p.out, o] += I[p.in, i] * F[p.k, i, o]     rows p, summed into rows p.out; grouped by p.k
    y[v.dst, o] += a[v, i] * W[v.type, i, o]     rows v; a may be summed on the way (`feeder_of`)

Such a product needs no tensor of its rows. On a CPU a task owns a block of the rows that it sums
into, so what it multiplies is added there at once, and in a fixed order. On a GPU sums are the same
every time only if a second kernel visits what the first left; where a schedule asks for
`work(split)` instead, a task is a block of rows alike in their weights, and adds with atomics.
"""

from collections.abc import Collection, Mapping

from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.schedule import Schedule
from hectorite.ir.schema import Schema
from hectorite.lowering.kernels.kernel_plan import Product, Root, Visit
from hectorite.lowering.kernels.place_tensors import (
    adds_to_memory,
    element_level,
    fits_locally,
    is_regular,
    row_position,
)
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import product_at


def scattered_product(
    statement: StatementOp, schema: Schema, machine: Machine
) -> tuple[Root, Product] | None:
    """A statement as a scattered product, with the visit of the rows that it sums into; with the
    rows of the product where tasks add to any."""
    dims = dict(statement.variables.data)
    paths = [index.path for index in statement.access.data]
    if not paths or None in paths or statement.type.pad_value is not None:
        return None
    if machine.is_gpu and not (wants_atomics(statement) and adds_to_memory(statement)):
        return None
    targets = [path for path in paths if path is not None and path.fields]
    if len(targets) != 1 or statement.type.element != statement.value.type:
        return None
    target = targets[0]
    left: list[str | None] = [path.variable for path in paths if path is not None]
    owner = dims[target.variable]
    product = product_at(statement, target.variable, left, machine)
    if product is None or not isinstance(owner, str):
        return None
    if machine.is_gpu:
        return Root((owner,), (target.variable,)), product
    visit = Visit(owner, target.fields)
    rows = (schema.follow(owner, target.fields),)
    return Root(rows, (), visit, target.variable), product


def wants_atomics(statement: StatementOp) -> bool:
    """Whether a schedule lets several tasks add to one element, in any order."""
    schedule = Schedule.on(statement)
    return schedule is not None and schedule.work == "split"


def feeder_of(
    statement: StatementOp,
    product: Product,
    roots: Mapping[StatementOp, Root],
    machine: Machine,
    returned: Collection[SSAValue],
) -> StatementOp | None:
    """The statement that sums the left operand of a scattered product and that nothing else
    reads: it can be done for a few rows at a time, just before these are multiplied."""
    read = product.direct
    visit = roots[statement].visit
    if read is None or visit is None or not isinstance(read.tensor.owner, StatementOp):
        return None
    source, root = read.tensor.owner, roots[read.tensor.owner]
    if source.result in returned or not _is_only_use(source.result, read):
        return None
    if root.visit is None or root.rows != (visit.set,) or source.init is not None:
        return None
    position = row_position(source, root)
    if position is None or element_level(source, root) or not is_regular(source, root):
        return None
    if read.access.data[position].variable != roots[statement].element:
        return None
    rest = [dim for i, dim in enumerate(source.type.dims) if i != position]
    fits = fits_locally(source.type.element, [product.shape.rows, *rest], machine)
    return source if fits else None


def _is_only_use(tensor: SSAValue, read: ReadOp) -> bool:
    return all(use.operation is read for use in tensor.uses)
