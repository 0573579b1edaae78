"""Decide where the tensors of a function live: in buffers, or inside the kernel that uses them.

A tensor that only its own kernel reads is private to it: a value of a row in local memory, a value
of an element of a visit in local memory if no later phase reads it, else in a buffer indexed by
the place of the element in the visit, which later phases read in order. All others have a buffer
shaped like the tensor. A statement that continues a tensor which nothing else reads works in the
buffer of that tensor.

A product whose result is wide is a pass over rows for itself. Where its weights stay near, a task
takes so many rows at a time through all its phases that their values stay in local memory, too:

    a[n, h] += x[n, i] * W[i, h]      24 rows of a, strip by strip       a, r: local[24, 256]
    r[n, h]  = relu(a[n, h])          the same 24 rows
    q[n, o] += r[n, h] * V[h, o]      the same 24 rows; then the next
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import lcm, prod

from xdsl.ir import Attribute, SSAValue

from hectorite.dialects.graph import IndexOp, ReadOp, StatementOp
from hectorite.ir.element import element_of
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.scalar import ScalarOp
from hectorite.ir.space import Dim, TensorType
from hectorite.ir.statement_work import TRANSCENDENTAL
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase, Root
from hectorite.lowering.machine import Machine


def is_regular(statement: StatementOp, root: Root) -> bool:
    """Whether each element of the result is reached by one assignment of the variables on the
    left: all left indices are distinct plain variables over the whole dimension, or the key of the
    visit."""
    dims, seen = dict(statement.variables.data), set[str]()
    for index, dim in zip(statement.access.data, statement.type.dims, strict=True):
        path = index.path
        if path is None or path.variable in seen:
            return False
        if path.fields and (root.visit is None or path.fields != root.visit.key):
            return False
        if path.fields and path.variable != root.element:
            return False
        if dim != (root.rows[0] if path.fields else dims[path.variable]):
            return False
        seen.add(path.variable)
    return set(root.row_variables) <= seen


NO_BUFFER = ("local", "block", "lanes", "registers")
"""What lives inside a kernel without memory of its own."""

SUMS = ("f32", "f64", "i32", "i64", "u32", "u64")
"""Element types that a GPU adds to memory as one step; it has no greatest float of memory."""


def adds_to_memory(statement: StatementOp) -> bool:
    """Whether a GPU can combine the statement's values with those in memory, as one step each."""
    kind, type = statement.kind.data, statement.type
    is_sum = kind == "add" or (kind in ("max", "min") and not type.element_type.is_float)
    return is_sum and statement.value.type == type.element and type.element_type.name in SUMS


def rows_cover(statement: StatementOp, root: Root) -> bool:
    """Whether every element of the result belongs to exactly one row, or element of a visit."""
    if not root.rows or is_regular(statement, root):
        return True
    dims = dict(statement.variables.data)
    places: list[tuple[Path | None, Dim]] = [
        (index.path, dim)
        for index, dim in zip(statement.access.data, statement.type.dims, strict=True)
    ]
    if root.visit is not None:
        element = root.element or ""
        by_key, by_element = Path(element, root.visit.key), Path(element)
        return (by_key, root.rows[0]) in places or (by_element, root.visit.set) in places
    return all((Path(name), dims[name]) in places for name in root.row_variables)


def written_slice(
    statement: StatementOp, root: Root
) -> tuple[dict[str, Dim], tuple[IndexExpr, ...], Root]:
    """Variables, access and root that name every point of the row's part of the result.

    A row that stands in several dimensions, as in `y[i, i, j]`, has the part where the first is it.
    """
    variables: dict[str, Dim] = {}
    access: list[IndexExpr] = []
    row_variables: list[str] = []
    keys: list[Path | None] = []
    for position, (index, dim) in enumerate(
        zip(statement.access.data, statement.type.dims, strict=True)
    ):
        name = f"d{position}"
        path = index.path
        bound = path is not None and path.variable in root.bound
        if bound and root.visit is not None and path is not None and path.fields == ():
            # The element itself: its own part of the tensor.
            return _element_slice(statement, root)
        is_key = (
            bound
            and path is not None
            and (not path.fields or (root.visit is not None and path.fields == root.visit.key))
        )
        if is_key and path not in keys:
            keys.append(path)
            row_variables.append(name)
        variables[name] = dim
        access.append(IndexExpr.of(name))
    slice_root = Root(root.rows, tuple(row_variables[: len(root.rows)]))
    return variables, tuple(access), slice_root


def _element_slice(
    statement: StatementOp, root: Root
) -> tuple[dict[str, Dim], tuple[IndexExpr, ...], Root]:
    variables: dict[str, Dim] = {}
    access: list[IndexExpr] = []
    element = None
    for position, (index, dim) in enumerate(
        zip(statement.access.data, statement.type.dims, strict=True)
    ):
        name = f"d{position}"
        if index.variable == root.element and element is None:
            element = name
        variables[name] = dim
        access.append(IndexExpr.of(name))
    return variables, tuple(access), Root(root.rows, (), root.visit, element)


def row_position(statement: StatementOp, root: Root) -> int | None:
    """The dimension of the result that is the row or the element."""
    keys: Sequence[tuple[str, ...]] = ((),) if root.visit is None else ((), root.visit.key)
    for position, index in enumerate(statement.access.data):
        path = index.path
        if path is not None and path.variable in root.bound and path.fields in keys:
            return position
    return None


def is_narrow(statement: StatementOp, root: Root, machine: Machine) -> bool:
    """Whether no variable but those of the row or element is worth a vector: none that moves along
    the last dimension of a tensor fills enough lanes."""
    accesses = [statement.access.data, *(read.access.data for read in statement.reads)]
    for name, dim in statement.variables.data:
        if name in root.bound:
            continue
        if not isinstance(dim, int):
            return False
        along = any(access and name in access[-1].variables for access in accesses)
        if along and dim >= machine.few_lanes:
            return False
    return True


@dataclass
class Placement:
    """Storage decisions of one kernel. `values` gives the host value of each value of the graph;
    buffers are there already for all tensors that have one."""

    kernel: Kernel
    values: Mapping[SSAValue, SSAValue]
    private: Mapping[SSAValue, str]
    """`local`, `block`, `lanes`, `element` or `registers` for what lives inside the kernel."""
    panels: Mapping[StatementOp, SSAValue]
    """Host values of the packed weights of products."""
    parts: Mapping[StatementOp, SSAValue] = field(default_factory=dict[StatementOp, SSAValue])
    """Host values of the parts of rows that are merged."""

    @property
    def block_height(self) -> int:
        """Rows of a block that suits every product of the kernel."""
        return min(_heights(self.kernel, wide=False), default=1)

    @cached_property
    def tile_rows(self) -> int:
        """Rows that go through all phases together before the next ones, where a product is wide;
        0 if every pass goes over all rows of the task."""
        crosses = _crosses_wide(self.kernel)
        return _tile_rows(self.kernel, _row_locals(self.kernel, self.private)) if crosses else 0

    @property
    def row_by_row(self) -> bool:
        """Whether a CPU's task is done with all elements of a row before it takes the next."""
        kernel = self.kernel
        passes = any(p.product or p.segment or p.is_two_steps for p in kernel.phases)
        return not (kernel.machine.is_gpu or kernel.groups or passes)

    def storage(self, tensor: SSAValue, builder: KernelBuilder) -> Storage:
        """Where a tensor lives in the kernel."""
        if tensor not in builder.storages:
            builder.storages[tensor] = self._storage(tensor, builder)
        return builder.storages[tensor]

    def _storage(self, tensor: SSAValue, builder: KernelBuilder) -> Storage:
        kind = self.private.get(tensor)
        if kind is None:
            return Storage("global", builder.parameter(self.values[tensor]))
        statement = tensor.owner
        assert isinstance(statement, StatementOp)
        position = row_position(statement, self.kernel.roots[statement])
        if kind == "element":
            return Storage("element", builder.parameter(self.values[tensor]), position)
        if kind == "lanes":
            visit = self.kernel.roots[statement].visit
            machine = self.kernel.machine
            width = machine.row_lanes if visit is None else machine.visit_lanes
            dims = [width if i == position else d for i, d in enumerate(statement.type.dims)]
            memory = builder.local(TensorType.of(statement.type.element, dims))
            return Storage("lanes", memory, position)
        if kind == "block":
            count = block_elements(self.kernel, self.kernel.phases[self.kernel.phase_of(statement)])
            dims = [count if i == position else d for i, d in enumerate(statement.type.dims)]
            memory = builder.local(TensorType.of(statement.type.element, dims))
            return Storage("block", memory, position)
        dims = [d for i, d in enumerate(statement.type.dims) if i != position]
        height = self._height(statement)
        type = TensorType.of(statement.type.element, (height, *dims))
        return Storage("local", builder.local(type), position, height)

    def _height(self, statement: StatementOp) -> int:
        """Rows of a local tensor."""
        phase = self.kernel.scattered
        if phase is not None and phase.product is not None and phase.feeder is statement:
            return phase.product.shape.rows
        return self.tile_rows or self.block_height

    def start(self, statement: StatementOp, builder: KernelBuilder) -> Storage | None:
        """Where a statement's accumulators start from."""
        return None if statement.init is None else self.storage(statement.init, builder)

    def in_place(self, statement: StatementOp, root: Root) -> bool:
        """Whether a sum over a visit works in the tensor itself, not in local memory."""
        if not is_regular(statement, root):
            return True
        position = row_position(statement, root)
        dims = [d for i, d in enumerate(statement.type.dims) if i != position]
        return not fits_locally(statement.value.type, dims, self.kernel.machine)


def fits_locally(element: Attribute, dims: Sequence[Dim], machine: Machine) -> bool:
    """Whether a part of fixed extents is small enough for local memory."""
    if not all(isinstance(dim, int) for dim in dims):
        return False
    size = element_of(element).storage.itemsize
    return prod(int(dim) for dim in dims) * size <= machine.local_bytes


def in_lanes(kernel: Kernel, phase: Phase) -> bool:
    """Whether the elements of a visit are done several at a time: no statement makes vectors of its
    own, and each makes a value of the element or of the row."""
    if phase.visit is None:
        return False
    if kernel.machine.is_gpu:
        return all(_fits_a_lane(kernel, statement) for statement in phase.statements)
    return all(
        len(statement.variables.data) == 1
        and len(statement.access.data) == 1
        and is_regular(statement, kernel.roots[statement])
        and (statement.init is None or not element_level(statement, kernel.roots[statement]))
        for statement in phase.statements
    )


def block_elements(kernel: Kernel, phase: Phase) -> int:
    """How many elements of a visit a CPU does together, since some statements make few values of
    each; 0 if it does one after the other. Those are done first for all elements of a block, so
    they need nothing that the others make. Rows have to be cut into blocks and a rest, which pays
    in kernels that compute an exponential, say, of such values."""
    if phase.visit is None or phase.product or phase.segment or in_lanes(kernel, phase):
        return 0
    if not any(is_costly(each) and few_values(kernel, each) for each in kernel.statements):
        return 0
    few = [statement for statement in phase.statements if few_values(kernel, statement)]
    others = {s.result for s in phase.statements if s not in few}
    counts = {few_values(kernel, statement) for statement in few}
    reads = {read.tensor for statement in few for read in statement.reads}
    return counts.pop() if len(counts) == 1 and not reads & others else 0


def is_costly(statement: StatementOp) -> bool:
    """Whether each point takes many instructions."""
    ops = [op for op in statement.body.block.ops if isinstance(op, ScalarOp)]
    return any(op.FUNCTION.name in TRANSCENDENTAL for op in ops)


def few_values(kernel: Kernel, statement: StatementOp) -> int:
    """How many elements fill a vector register of a CPU, if a statement of a visit makes so few
    values of each that one leaves most of it empty; else 0. Its values lie side by side, and so
    does what it reads."""
    root, machine = kernel.roots[statement], kernel.machine
    dims = dict(statement.variables.data)
    name, *others = [name for name in dims if name not in root.bound] or [""]
    extent = dims.get(name)
    if machine.is_gpu or others or not isinstance(extent, int) or not 2 <= extent < LANES:
        return 0
    is_sum = not element_level(statement, root)
    plain = is_sum or (statement.kind.data == "assign" and statement.init is None)
    if not plain or extent.bit_count() != 1 or not is_regular(statement, root):
        return 0
    if len(statement.access.data) != 2 or statement.access.data[1].variable != name:
        return 0
    ops = list(statement.body.block.ops)
    types = [read.result.type for read in statement.reads] + [statement.value.type]
    size = max(element_of(type).storage.itemsize for type in types)
    together = machine.register_bytes // (size * extent)
    if any(isinstance(op, IndexOp) for op in ops) or together < 2:
        return 0
    return together if all(_lies_in_lanes(read, name) for read in statement.reads) else 0


LANES = 16
"""Lanes of a register, for elements of four bytes."""


def _lies_in_lanes(read: ReadOp, name: str) -> bool:
    """Whether a read is of elements side by side along a variable, or does not depend on it."""
    if read.pick is not None or read.type.pad_value is not None:
        return False
    if any(index.division is not None for index in read.access.data):
        return False
    places = [n for n, index in enumerate(read.access.data) if name in index.variables]
    return not places or (
        places == [len(read.access.data) - 1] and read.access.data[-1].variable == name
    )


def rows_in_lanes(kernel: Kernel) -> bool:
    """Whether the rows of a GPU's kernel are done several at a time, in the same way."""
    if not kernel.machine.is_gpu or not kernel.rows:
        return False
    if any(phase.visit is not None or phase.product is not None for phase in kernel.phases):
        return False
    return all(
        _fits_a_lane(kernel, statement) or _scatters_in_lanes(kernel, statement)
        for statement in kernel.statements
    )


def _scatters_in_lanes(kernel: Kernel, statement: StatementOp) -> bool:
    """Whether rows write single elements anywhere in a tensor that is filled already."""
    root = kernel.roots[statement]
    started = statement.init is not None and not rows_cover(statement, root)
    single = statement.kind.data == "assign" and is_narrow(statement, root, kernel.machine)
    return started and (single or adds_in_lanes(statement, root, kernel.machine))


def adds_in_lanes(statement: StatementOp, root: Root, machine: Machine) -> bool:
    """Whether rows of a GPU add to elements that other rows add to as well."""
    apart = root.visit is None and bool(root.row_variables) and not rows_cover(statement, root)
    return machine.is_gpu and apart and adds_to_memory(statement)


def _fits_a_lane(kernel: Kernel, statement: StatementOp) -> bool:
    root = kernel.roots[statement]
    return is_regular(statement, root) and is_narrow(statement, root, kernel.machine)


def element_level(statement: StatementOp, root: Root) -> bool:
    """Whether a statement of a visit makes values of elements, not of the row."""
    return any(index.variable == root.element for index in statement.access.data)


def private_tensors(kernel: Kernel, returned: set[SSAValue]) -> dict[SSAValue, str]:
    """Tensors that live inside a kernel, and how."""
    inside = set(kernel.statements)
    private: dict[SSAValue, str] = {}
    for statement in kernel.statements:
        tensor = statement.result
        if tensor in returned or not _only_read_inside(tensor, inside):
            continue
        kind = _private_kind(kernel, statement)
        if kind is not None:
            private[tensor] = kind
    if _crosses_wide(kernel):
        crossing = _row_locals(kernel, private)
        if not _tile_rows(kernel, crossing):
            for statement in crossing:
                del private[statement.result]
    return private


def _row_locals(kernel: Kernel, private: Mapping[SSAValue, str]) -> list[StatementOp]:
    """Statements whose values of a row are in local memory, and are handed from pass to pass."""
    feeder = None if kernel.scattered is None else kernel.scattered.feeder
    return [
        statement
        for statement in kernel.statements
        if private.get(statement.result) == "local"
        and statement is not feeder
        and not element_level(statement, kernel.roots[statement])
    ]


def _tile_rows(kernel: Kernel, crossing: Sequence[StatementOp]) -> int:
    """Rows of a tile, all of whose values fit into local memory and which fill the blocks of every
    product; 0 if they are too few, or weights would have to come from far away for each tile."""
    machine, weights, row = kernel.machine, 0, 0
    if kernel.scattered is not None or not crossing:
        return 0
    for phase in kernel.phases:
        if phase.product is not None:
            # Of weights that depend on a map of the row, a task needs those of one element.
            weights += _fixed_bytes(phase.product.weights.type, phase.product.weights.type.dims)
    for statement in crossing:
        row += _fixed_bytes(statement.type, _row_dims(statement, kernel.roots[statement]))
    rows = machine.tile_bytes // row
    heights = _heights(kernel)
    step = next((n for n in (lcm(*heights), max(heights)) if n <= rows), rows + 1)
    return rows // step * step if weights <= machine.near_bytes else 0


def _fixed_bytes(type: TensorType, dims: Sequence[Dim]) -> int:
    """Bytes of a part of a tensor that has these dimensions, as far as they are numbers."""
    fixed = prod(dim for dim in dims if isinstance(dim, int))
    return fixed * type.element_type.storage.itemsize


def _heights(kernel: Kernel, wide: bool = True) -> list[int]:
    """Rows of the blocks of products that do whole rows, wide ones too if asked for."""
    products = [phase.product for phase in kernel.phases if not phase.scatters]
    return [each.shape.rows for each in products if each and (wide or not each.shape.wide)]


def _only_read_inside(tensor: SSAValue, inside: set[StatementOp]) -> bool:
    for use in tensor.uses:
        user = use.operation
        owner = user.parent_op() if isinstance(user, ReadOp) else user
        if not isinstance(owner, StatementOp) or owner not in inside:
            return False
    return True


def whole_block(kernel: Kernel) -> bool:
    """Whether a GPU's kernel makes blocks of a product, each of which one task has all of."""
    if not kernel.machine.is_gpu or not kernel.phases:
        return False
    first = kernel.phases[0]
    if first.product is None or first.scatters:
        return False
    return is_regular(first.statements[0], kernel.roots[first.statements[0]])


def _private_kind(kernel: Kernel, statement: StatementOp) -> str | None:
    root = kernel.roots[statement]
    if whole_block(kernel):
        return "registers"
    if not is_regular(statement, root) or len(root.rows) != 1:
        return None
    if root.visit is not None and element_level(statement, root):
        return _element_kind(kernel, statement, root)
    if rows_in_lanes(kernel):
        return _lanes_kind(kernel, statement, kernel.machine.row_lanes)
    if kernel.scattered is not None and kernel.scattered.feeder is statement:
        return "local"
    rest = _row_dims(statement, root)
    return "local" if fits_locally(statement.type.element, rest, kernel.machine) else None


def _row_dims(statement: StatementOp, root: Root) -> list[Dim]:
    """The dimensions of what a statement makes of one row."""
    return [
        dim
        for index, dim in zip(statement.access.data, statement.type.dims, strict=True)
        if index.path is None or index.path.variable not in root.bound
    ]


def _element_kind(kernel: Kernel, statement: StatementOp, root: Root) -> str | None:
    rest = [
        dim
        for index, dim in zip(statement.access.data, statement.type.dims, strict=True)
        if index.variable != root.element
    ]
    place = kernel.phase_of(statement)
    readers = {
        kernel.phase_of(owner)
        for use in statement.result.uses
        if isinstance(owner := _statement_of(use.operation), StatementOp)
    }
    phase = kernel.phases[place]
    if readers <= {place} and kernel.machine.is_gpu and in_lanes(kernel, phase):
        return _lanes_kind(kernel, statement, kernel.machine.visit_lanes) or "element"
    if (
        readers <= {place}
        and fits_locally(statement.type.element, rest, kernel.machine)
        and not in_lanes(kernel, phase)
    ):
        in_block = block_elements(kernel, phase) and few_values(kernel, statement)
        return "block" if in_block else "local"
    return "element"


def _lanes_kind(kernel: Kernel, statement: StatementOp, width: int) -> str | None:
    position = row_position(statement, kernel.roots[statement])
    dims = [dim for i, dim in enumerate(statement.type.dims) if i != position]
    fits = fits_locally(statement.type.element, [width, *dims], kernel.machine)
    return "lanes" if fits and position is not None else None


def overwritten(
    kernel: Kernel, statement: StatementOp, private: Mapping[SSAValue, str]
) -> SSAValue | None:
    """A tensor of the visit whose buffer a statement can write its own values to: it is the last
    to read it, each value at its own place, and their types are alike."""
    if private.get(statement.result) != "element" or statement.kind.data != "assign":
        return None
    order = kernel.statements
    for read in statement.reads:
        tensor, source = read.tensor, read.tensor.owner
        if private.get(tensor) != "element" or not isinstance(source, StatementOp):
            continue
        same_visit = kernel.roots[source].visit == kernel.roots[statement].visit
        readers = {_statement_of(use.operation) for use in tensor.uses}
        last = max(order.index(reader) for reader in readers if isinstance(reader, StatementOp))
        own = [r for r in statement.reads if r.tensor is tensor]
        in_place = all(r.access == statement.access for r in own)
        alike = same_visit and statement.type == read.type
        if alike and in_place and order[last] is statement:
            return tensor
    return None


def _statement_of(user: object) -> object:
    return user.parent_op() if isinstance(user, ReadOp) else user


def _crosses_wide(kernel: Kernel) -> bool:
    """Whether some phase is a pass over rows for itself."""
    products = [phase for phase in kernel.phases if phase.product is not None]
    return any(p.scatters or p.product is not None and p.product.shape.wide for p in products)
