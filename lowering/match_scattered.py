"""Recognise products whose rows are scattered: typed sums over edges, sparse convolution.

Enters: a statement at the graph level. Leaves: its root and its `Product`, or None.

    O[p.out, o] += I[p.in, i] * F[p.k, i, o]     rows p, summed into rows p.out; grouped by p.k
    y[v.dst, o] += a[v, i] * W[v.type, i, o]     rows v; a may be summed on the way (`feeder_of`)

Such a product needs no tensor of its rows: a task owns a block of the rows that it sums into, so
what it multiplies is added there at once, and in a fixed order.
"""

from collections.abc import Collection, Mapping

from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.schema import Schema
from hectorite.lowering.kernel_plan import Product, Root, Visit
from hectorite.lowering.machine import Machine
from hectorite.lowering.match_product import product_at
from hectorite.lowering.place_tensors import (
    element_level,
    fits_locally,
    is_regular,
    row_position,
)


def scattered_product(
    statement: StatementOp, schema: Schema, machine: Machine
) -> tuple[Root, Product] | None:
    """A statement as a scattered product, with the visit of the rows that it sums into."""
    dims = dict(statement.variables.data)
    paths = [index.path for index in statement.access.data]
    if machine.is_gpu or not paths or None in paths or statement.type.pad_value is not None:
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
    visit = Visit(owner, target.fields)
    rows = (schema.follow(owner, target.fields),)
    return Root(rows, (), visit, target.variable), product


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
