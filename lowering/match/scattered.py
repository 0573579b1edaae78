"""Recognise products whose rows are scattered: typed sums over edges, sparse convolution.

Enters: a statement at the graph level. Leaves: its root and its `Product`, or None.

    O[p.out, o] += I[p.in, i] * F[p.k, i, o]     rows p, summed into rows p.out; grouped by p.k
    y[v.dst, o] += a[v, i] * W[v.type, i, o]     rows v; a may be summed on the way (`feeder_of`)

Such a product needs no tensor of its rows. On a CPU a task owns a block of the rows that it sums
into, so what it multiplies is added there at once, and in a fixed order. On a GPU sums are the same
every time only if a second kernel visits what the first left; where a schedule asks for
`work(split)` instead, a task is a block of rows alike in their weights, and adds with atomics; with
`work(row)` it owns a block of the rows that it sums into, and multiplies the elements of these by
entries that have one for each row (`emit/owned_rows.py`), which pays where most rows have most of
the weights, as in a sparse convolution.
"""

from collections.abc import Collection, Mapping

from xdsl.ir import SSAValue

from hectorite.dialects.graph import ReadOp, StatementOp
from hectorite.ir.index import Path
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
    found = _summed(statement, machine)
    if found is None:
        return None
    target, owner, product = found
    if machine.is_gpu and wants_atomics(statement) and adds_to_memory(statement):
        return Root((owner,), (target.variable,)), product
    if machine.is_gpu and not (wants_rows(statement) and _owns_rows(product, target.variable)):
        return None
    visit = Visit(owner, target.fields)
    rows = (schema.follow(owner, target.fields),)
    return Root(rows, (), visit, target.variable), product


def owned_product(statement: StatementOp, machine: Machine) -> Product | None:
    """The product of a statement that a GPU could do with `work(row)`."""
    found = _summed(statement, machine)
    return found[2] if found is not None and _owns_rows(found[2], found[0].variable) else None


def _summed(statement: StatementOp, machine: Machine) -> tuple[Path, str, Product] | None:
    """The path of the rows that products of elements are summed into, the set of the elements, and
    the product."""
    paths = [index.path for index in statement.access.data]
    if not paths or None in paths or statement.type.pad_value is not None:
        return None
    targets = [path for path in paths if path is not None and path.fields]
    if len(targets) != 1 or statement.type.element != statement.value.type:
        return None
    left: list[str | None] = [path.variable for path in paths if path is not None]
    owner = dict(statement.variables.data)[targets[0].variable]
    product = product_at(statement, targets[0].variable, left, machine)
    return None if product is None or not isinstance(owner, str) else (targets[0], owner, product)


def wants_atomics(statement: StatementOp) -> bool:
    """Whether a schedule lets several tasks add to one element, in any order."""
    schedule = Schedule.on(statement)
    return schedule is not None and schedule.work == "split"


def wants_rows(statement: StatementOp) -> bool:
    """Whether a schedule gives each task rows of its own."""
    schedule = Schedule.on(statement)
    return schedule is not None and schedule.work == "row"


def _owns_rows(product: Product, element: str) -> bool:
    """Whether a GPU's task can look up what both operands have for an element: both are read where
    they stand, and their indices follow from the element by a path alone or not at all."""
    if product.direct is None:
        return False
    indices = (*product.direct.access.data, *product.weights.access.data)
    of_element = [each for each in indices if element in each.variables]
    in_left = [each for each in product.direct.access.data if element in each.variables]
    return len(in_left) == 1 and all(each.path is not None for each in of_element)


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
    visit = None if machine.is_gpu else roots[statement].visit
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
