"""`choose-work`: sums whose longest row would be waited for are done in parts.

Enters: the graph level without softmax, and what is known of the data: numbers of elements, and of
those of the busiest row (`edge^dst=8642`). Leaves: the same, where such a sum has the order
`work(merge)`: tasks of their own do parts of long rows, and a second kernel puts these together in
the order of the elements. So results stay the same in every run, as they are without it. Sums that
have an order keep it, and those over a set in a format are done by its parts.

    y[e.dst, o] += x[e.src, o]

becomes

    {schedule = {chosen, of = "y", work = "merge"}}

A task takes `STEP` for what its threads do together: an element with its row of lanes, 32 elements
where rows are single numbers, 16 where they are sums of outer products. A GPU does `RESIDENT` tasks
of an SM at a time, and moves no more than its bandwidth. So what all rows take together is known,
and what the longest one takes alone. Parts cost a launch, a second one as the sum is in no kernel
with others any more, and their way through memory.

On a CPU a row is long if it has a large share of all elements, and only sums that are a kernel of
their own are done so.
"""

from dataclasses import dataclass, replace
from math import prod, sqrt

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass

from hectorite.dialects.graph import FuncOp, ReadOp, StatementOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.device import Device
from hectorite.ir.devices import device_named
from hectorite.ir.element import element_of
from hectorite.ir.index import Path
from hectorite.ir.schedule import ATTRIBUTE, Schedule
from hectorite.ir.schema import Schema
from hectorite.ir.target import DEFAULT_TARGET, target
from hectorite.lowering.emit.merge import most_parts
from hectorite.lowering.gpu.own_rows import OwnRows
from hectorite.lowering.graph.cardinalities import Cardinalities, parse_cardinalities
from hectorite.lowering.graph.derived_sets import Fields
from hectorite.lowering.graph.statement_body import statements
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.segment import match_segment
from hectorite.lowering.options import Options

STEP = 2.0e-7
"""Seconds of a step: a gather from memory, of which a task has about four under way."""
RESIDENT = 16
"""Tasks of an SM that take their steps at the same time."""
WORTHWHILE = 2.0
"""How many times faster parts have to be."""
LONG_ROW, LONG_SHARE = 1 << 14, 8
"""Elements of a row that a CPU's tasks wait for, and the share of all that these are, one in so
many: at least those from which `backends/balance.py` divides a row."""


_GPU = Machine.gpu(target(DEFAULT_TARGET))


@dataclass(frozen=True)
class ChooseWork(ModulePass):
    """Sums whose longest row would be waited for are done in parts."""

    name = "choose-work"

    device: str = "a100"
    """What costs are those of."""
    cardinalities: tuple[str, ...] = ()
    """Known numbers of elements, and of those of the busiest row: `edge=90000`, `edge^dst=9000`."""
    formats: tuple[str, ...] = ()
    """Formats of sets, as `SET=FORMAT`."""
    reassociate: bool = True
    """Allow floats to be added in parts."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        known, schema = parse_cardinalities(self.cardinalities), schema_of(op)
        stored = {text.partition("=")[0] for text in self.formats}
        for func in op.ops:
            for statement in statements(func) if isinstance(func, FuncOp) else ():
                schedule = Schedule.on(statement)
                if schedule is not None and schedule.work is not None:
                    continue
                if not (self.reassociate or _is_exact(statement)):
                    continue
                found = _Rows.of(statement, schema, known)
                if found is None or found.over in stored:
                    continue
                if found.pays(device_named(self.device)):
                    name = statement.result.name_hint or "_"
                    schedule = replace(schedule or Schedule(name), work="merge", chosen=True)
                    statement.attributes[ATTRIBUTE] = schedule.attribute


def orders_of_work(options: Options) -> tuple[ModulePass, ...]:
    """The passes that give sums the orders that pay; none where programs are computed as they are
    written."""
    device, known, in_any_order = options.device, options.cardinalities, options.reassociate
    if device is None or not options.search:
        return ()
    chosen = (device.name, known, options.formats, in_any_order)
    return (*((OwnRows(*chosen),) if device.is_gpu else ()), ChooseWork(*chosen))


def _is_exact(statement: StatementOp) -> bool:
    """Whether values may be combined in any order without a change."""
    is_float = element_of(statement.value.type).is_float
    return statement.kind.data in ("max", "min") or not is_float


@dataclass(frozen=True)
class _Rows:
    """A sum over the elements of a set, row by row: how many elements all rows and the longest one
    have, the steps of a task for an element, the tasks of a row, and the bytes that an element
    gathers and a row takes."""

    over: str
    elements: float
    longest: float
    steps: float
    tasks: float
    gathered: float
    row: int

    @staticmethod
    def of(statement: StatementOp, schema: Schema, known: Cardinalities) -> "_Rows | None":
        """The rows of a statement; None if it is no such sum, or nothing is known of its rows."""
        paths = [index.path for index in statement.access.data]
        keys = [path for path in paths if path is not None and path.fields]
        if statement.kind.data == "assign" or None in paths or len(keys) != 1:
            return None
        over = str(dict(statement.variables.data)[keys[0].variable])
        if over not in schema.sets or schema.sets[over].format is not None:
            return None
        longest = _longest(over, keys[0].fields, schema, known)
        if longest is None:
            return None
        return _priced(statement, keys[0], schema, known.extents(schema).of(over), longest)

    def pays(self, device: Device) -> bool:
        """Whether the longest row takes much longer than parts of it, and putting them together."""
        if not device.is_gpu:
            return self.longest >= max(LONG_ROW, self.elements / LONG_SHARE)
        at_once = RESIDENT * device.threads
        moved = self.elements * self.gathered / device.bandwidth
        shared = max(moved, self.elements * self.steps * self.tasks * STEP / at_once)
        alone = self.longest * self.steps * STEP
        parts = min(float(most_parts(self.row)), 2 * self.elements / _GPU.split_elements)
        of_row = min(self.longest / _GPU.split_elements, sqrt(self.longest), parts)
        merged = shared + _GPU.split_elements * self.steps * STEP + of_row * STEP / 4
        merged += 2 * device.launch + 2 * parts * self.row / device.bandwidth
        return max(alone, shared) > WORTHWHILE * merged


def _longest(over: str, path: Fields, schema: Schema, known: Cardinalities) -> float | None:
    """Elements of the longest row, if it is known to be long; of a set of distinct tuples as large
    a share as that of the set that they are tuples of."""
    if (over, path) in known.degrees:
        return float(known.degrees[over, path])
    decl = schema.sets[over]
    if decl.derivation is None or len(decl.derivation.binders) != 1:
        return None
    owner, extents = decl.derivation.binders[0][1], known.extents(schema)
    for (name, _), key in zip(decl.fields, decl.derivation.keys, strict=False):
        if key.path is None or name != path[0]:
            continue
        source = _longest(owner, (*key.path.fields, *path[1:]), schema, known)
        return None if source is None else source * extents.of(over) / extents.of(owner)
    return None


def _priced(
    statement: StatementOp, key: Path, schema: Schema, elements: float, longest: float
) -> _Rows:
    dims, size = dict(statement.variables.data), element_of(statement.value.type).storage.itemsize
    left = {name for index in statement.access.data for name in index.variables}
    row = prod(int(d) for n, d in dims.items() if n in left and isinstance(d, int))
    summed = prod(int(d) for n, d in dims.items() if n not in left and isinstance(d, int))
    over, segment = str(dims[key.variable]), match_segment(statement, schema, _GPU)
    if segment is not None:
        product = segment[1]
        shape, tasks = product.shape, max(1.0, row / (product.shape.rows * product.shape.lanes))
        sides = (product.direct_left, shape.rows), (product.direct_right, shape.lanes)
        gathered = summed * tasks * sum(n * _size(r, size) for r, n in sides)
        return _Rows(over, elements, longest, summed / shape.depth, tasks, gathered, row * size)
    lanes = _GPU.vector_bytes // size
    if row < _GPU.few_lanes:
        steps = row * summed / _GPU.visit_lanes
    else:
        steps = summed * max(1.0, row / lanes)
    return _Rows(over, elements, longest, steps, 1.0, float(row * summed * size), row * size)


def _size(read: ReadOp | None, otherwise: int) -> int:
    return otherwise if read is None else read.type.element_type.storage.itemsize
