"""Recognise two reductions over one set, the second of what the first makes: there and back.

    E[p.h, o] += X[p.v, o] * wv[p]         for each hyperedge, over its pins
    Y[p.v, o] += E[p.h, o] * wh[p]         for each vertex, over its pins

Enters: the roots of all statements of a function. Leaves: the pairs that one kernel does. For each
row of the first (a hyperedge) it reduces its elements, then visits them again and adds what it has
to the rows of the second; what the first makes is a row in registers and no tensor.

On a CPU a task has a strip of the lanes for itself, of all rows, so that no two tasks add to one
element. Each task reads all maps, and there are as many tasks as strips, so lanes have to be enough
for two strips of whole cache lines. On co-authorship and two cores that takes 1.2 to 1.8 times the
time of two kernels (128 and 64 features), and the memory of one row in place of a tensor of
hyperedges; between rows of one set, whose tensors a program has anyway, two kernels stay.

On a GPU a task has groups of elements and adds to memory, in no fixed order, so a schedule has to
allow it: `work(split)` of the second. Long rows of the first are several tasks, which is right
where parts of the sum can be handed on one by one.
"""

from collections.abc import Collection, Mapping

from xdsl.ir import SSAValue

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import Path
from hectorite.ir.schedule import Schedule
from hectorite.lowering.gpu.schedule_orders import wants_split
from hectorite.lowering.graph.statement_body import factors
from hectorite.lowering.kernels.kernel_plan import Root
from hectorite.lowering.kernels.lane_choice import left_lanes
from hectorite.lowering.kernels.place_tensors import (
    element_level,
    fits_locally,
    is_regular,
    row_position,
)
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.product import plain_read

STRIPS = 2
"""Strips that there are at least: tasks of a kernel that fills no core with fewer."""


def two_steps(
    function: FuncOp,
    roots: Mapping[StatementOp, Root],
    taken: Collection[StatementOp],
    machine: Machine,
) -> dict[StatementOp, StatementOp]:
    """The first step of each second one. `taken` are statements that are done otherwise."""
    returned = set(function.return_op.operands)
    found: dict[StatementOp, StatementOp] = {}
    for second in roots:
        first = _first_step(second, roots, returned, machine)
        if first is not None and not {first, second} & set(taken):
            found[second] = first
    # A statement is in one pair only.
    return {second: first for second, first in found.items() if first not in found}


def strip_width(statement: StatementOp, machine: Machine) -> int:
    """Lanes of a strip: as many as leave enough strips, but no part of a cache line; 0 if there
    would be one strip only. The last may have fewer."""
    if machine.group_elements:
        return 0
    extent = statement.type.dims[-1]
    size = element_of(statement.type.element).storage.itemsize
    least, width = machine.register_bytes // size, machine.vector_bytes // size
    while width > least and (not isinstance(extent, int) or extent < STRIPS * width):
        width //= 2
    return width if isinstance(extent, int) and extent > width else 0


def _first_step(
    second: StatementOp,
    roots: Mapping[StatementOp, Root],
    returned: Collection[SSAValue],
    machine: Machine,
) -> StatementOp | None:
    there = roots[second]
    if machine.is_gpu and not wants_split(second, there, machine):
        return None
    if not _sums_rows(second, there, machine) or second.type.pad_value is not None:
        return None
    for read in second.reads:
        first = read.tensor.owner
        if not isinstance(first, StatementOp) or first.init is not None:
            continue
        here = roots[first]
        if not _sums_rows(first, here, machine) or first.result in returned:
            continue
        assert here.visit is not None and there.visit is not None
        same_set = here.visit.set == there.visit.set and here.rows != there.rows
        position = row_position(first, here)
        rest = [dim for i, dim in enumerate(first.type.dims) if i != position]
        fits = fits_locally(first.type.element, rest, machine)
        parts = _adds_parts(first, second) if machine.is_gpu else strip_width(second, machine) > 0
        if same_set and fits and parts and _reads_row(first, second, roots):
            return first
    return None


def _adds_parts(first: StatementOp, second: StatementOp) -> bool:
    """Whether parts of what the first step sums can be handed on one by one: the second adds up
    products with it, and no order of its own keeps the first apart."""
    orders = Schedule.on(first)
    if orders is not None and orders.work not in (None, "split"):
        return False
    exact = first.type.element == first.value.type == second.value.type
    sums = first.kind.data == second.kind.data == "add" and exact
    reads = [read for read in second.reads if read.tensor is first.result]
    direct = [f for f in factors(second.value) if plain_read(f) in reads]
    return sums and len(reads) == len(direct) == 1 and reads[0].result.has_one_use()


def _sums_rows(statement: StatementOp, root: Root, machine: Machine) -> bool:
    """Whether a statement reduces the elements of a visit to whole rows, its last dimension in
    lanes."""
    if root.visit is None or element_level(statement, root) or not is_regular(statement, root):
        return False
    dims = dict(statement.variables.data)
    lanes = left_lanes(statement, root.bound, dims, machine)
    last = statement.access.data[-1].variable
    alike = statement.value.type == statement.type.element
    fixed = all(isinstance(dim, int) for name, dim in dims.items() if name not in root.bound)
    return alike and fixed and lanes is not None and lanes == last


def _reads_row(first: StatementOp, second: StatementOp, roots: Mapping[StatementOp, Root]) -> bool:
    """Whether the second step alone reads the first, each element at its own row and lane."""
    visit, element = roots[first].visit, roots[second].element
    position = row_position(first, roots[first])
    lanes = second.access.data[-1]
    if visit is None or position == len(first.type.dims) - 1:
        return False
    for use in first.result.uses:
        read = use.operation
        if not isinstance(read, ReadOp) or read.parent_op() is not second:
            return False
        for place, index in enumerate(read.access.data):
            wanted = Path(element or "", visit.key) if place == position else None
            if wanted is not None and index.path != wanted or index.path is None:
                return False
        if read.access.data[-1] != lanes or first.type.dims[-1] != second.type.dims[-1]:
            return False
    return True
