"""Evaluate the body of a statement at one point, or at the lanes of a vector of points.

    graph.read %x[e.src, o]      ~>   %r = tile.load %src[%place]                (o in lanes)
    scalar.mul ...                    %v = tile.load %x[%r, %o] axis 1 -> vector<64xf32>
                                      scalar.mul ...

A `Scope` knows where every index variable stands: at a row, at an element of a visit, in a loop,
or across lanes. Maps are followed through bound layouts, each path once.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from xdsl.dialects.builtin import VectorType
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import IndexOp, ReadOp, SizeOp, StatementOp, YieldOp
from hectorite.dialects.tile import LanesOp, LoadOp, StoreOp, index
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp, like, scalar_type
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, Storage, element_path
from hectorite.lowering.kernels.kernel_plan import Root, Visit
from hectorite.lowering.kernels.row_order import Place, RowOrder
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.machine import Machine


@dataclass(frozen=True)
class Lanes:
    """The variable that runs across the lanes of a vector; `valid` bounds them if not all are
    inside its extent."""

    variable: str
    count: int
    valid: SSAValue | None = None


@dataclass(frozen=True)
class Frame:
    """One row (its index in each row domain) or a block of rows, and within a visit one element.

    `order` and `at` say where the row stands among the rows of the task, `slot` is its place in
    local storage, `place` that of the element in the order of the visit.
    """

    code: Code
    kernel: KernelBuilder
    values: Mapping[SSAValue, SSAValue]
    """Host value of each value of the graph: buffers and scalar arguments."""
    rows: tuple[SSAValue, ...] = ()
    order: RowOrder | None = None
    at: Place | None = None
    slot: SSAValue | None = None
    visit: Visit | None = None
    place: SSAValue | None = None
    shift: SSAValue | None = None
    """How far before its place an element's own values are, if rows use the same memory in turn."""
    within: SSAValue | None = None
    """The number of the element in its block, if several are done together; else 0."""
    is_sorted: bool | None = None
    """Whether the order of the visit is known to be the elements' own; None: not asked yet."""
    window: tuple[SSAValue, SSAValue] | None = None
    """The places of a visit that the task does, if it does not do all elements of its rows."""
    piece: SSAValue | None = None
    """With a window, the number of the piece of a row that the task makes, negative for all of it;
    None if what it makes is combined with what is there."""
    part: tuple[SSAValue, SSAValue] | None = None
    """Which part, of how many, the task does of what its rows make, if not always all."""


def _written_out(
    dims: Mapping[str, Dim], left: Collection[str], machine: Machine
) -> frozenset[str]:
    """The short loops that are written out, from the innermost on as long as that stays short;
    those over `left` are around the others."""
    order = [*(n for n in dims if n in left), *(n for n in dims if n not in left)]
    chosen, copies = set[str](), 1
    for name in reversed(order):
        extent = dims[name]
        if isinstance(extent, int) and extent <= machine.unroll:
            copies *= max(1, extent)
            if copies > machine.most_copies:
                break
            chosen.add(name)
    return frozenset(chosen)


@dataclass(frozen=True)
class Scope:
    """A frame together with the variables of one statement."""

    frame: Frame
    root: Root
    dims: Mapping[str, Dim]
    loops: Mapping[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    lanes: Lanes | None = None
    cache: dict[Path, SSAValue] = field(default_factory=dict[Path, SSAValue])
    written_out: frozenset[str] = frozenset()
    """Variables whose loops are written out, point by point."""

    @property
    def code(self) -> Code:
        return self.frame.code

    @property
    def kernel(self) -> KernelBuilder:
        return self.frame.kernel

    @staticmethod
    def of(frame: Frame, statement: StatementOp, root: Root) -> "Scope":
        left = {name for index in statement.access.data for name in index.variables}
        return Scope.over(frame, root, dict(statement.variables.data), left)

    @staticmethod
    def over(frame: Frame, root: Root, dims: Mapping[str, Dim], left: Collection[str]) -> "Scope":
        """The scope of points over `dims`, those of the variables `left` outermost."""
        written_out = _written_out(dims, left, frame.kernel.machine)
        return Scope(frame, root, dims, written_out=written_out)

    def inside(self, code: Code) -> "Scope":
        """The same scope, writing into a block nested in this one."""
        return replace(self, frame=replace(self.frame, code=code), cache=dict(self.cache))

    def with_loop(self, variable: str, value: SSAValue) -> "Scope":
        cache = {path: known for path, known in self.cache.items() if path.variable != variable}
        return replace(self, loops={**self.loops, variable: value}, cache=cache)

    def with_lanes(self, lanes: Lanes, start: SSAValue) -> "Scope":
        return replace(self.with_loop(lanes.variable, start), lanes=lanes)

    def follow(self, path: Path) -> SSAValue:
        """Value of a path, at lane 0 if its variable is in lanes."""
        if path not in self.cache:
            self.cache[path] = self._follow(path)
        return self.cache[path]

    def _follow(self, path: Path) -> SSAValue:
        if path.variable == self.root.element:
            return self._from_element(path)
        if path.variable in self.root.row_variables:
            frame = self.frame
            is_set = frame.order is not None and frame.order.owner is not None
            if path.fields and is_set and frame.order and frame.at:
                return frame.order.follow(self.code, self.kernel, frame.at, path.fields)
            start = self.frame.rows[self.root.row_variables.index(path.variable)]
        else:
            start = self.loops[path.variable]
        if not path.fields:
            return start
        owner = str(self.dims[path.variable])
        return self._load_index(Layout("map", owner, (), element_path(path.fields)), start)

    def _from_element(self, path: Path) -> SSAValue:
        visit, place = self.frame.visit, self.frame.place
        if visit is not None and path.fields == visit.key:
            return self.frame.rows[0]
        assert visit is not None and place is not None
        keys = (element_path(visit.key),)
        if not path.fields and self.frame.is_sorted:
            return place
        if not path.fields:
            return self._load_index(Layout("order", visit.set, keys), place, self._elements)
        along = Layout("along", visit.set, keys, element_path(path.fields))
        return self._load_index(along, place, self._elements)

    @property
    def _elements(self) -> Lanes | None:
        """The lanes, if they are elements of the visit."""
        in_lanes = self.lanes is not None and self.lanes.variable == self.root.element
        return self.lanes if in_lanes else None

    def _load_index(self, layout: Layout, at: SSAValue, lanes: Lanes | None = None) -> SSAValue:
        """An index from a layout; with `lanes`, as many consecutive ones as there are lanes."""
        array = self.kernel.layout(layout)
        element = scalar_type(cast(TensorType, array.type).element)
        if lanes is not None:
            type = VectorType(element, [lanes.count])
            op = LoadOp(array, [at], type, axis=0, valid=lanes.valid)
        else:
            op = LoadOp(array, [at], like(at.type, element))
        return self.code.cast(self.code.add(op), index)

    def index_value(self, expression: IndexExpr, across: bool = False) -> SSAValue:
        """Value of an index expression at lane 0, or with `across` at every lane, as a vector."""

        varying = None
        if across and self.lanes is not None:
            varying = self.lanes.variable

        def path_value(path: Path) -> SSAValue:
            in_order = bool(self.frame.is_sorted) and not path.fields
            along = self._elements is not None and not in_order
            if self.lanes is None or path.variable != varying or along:
                return self.follow(path)
            if path.fields:
                owner = str(self.dims[path.variable])
                ends = Layout("map", owner, (), element_path(path.fields))
                return self._load_index(ends, self.loops[path.variable], self.lanes)
            each = self.code.add(LanesOp(self.lanes.count))
            return self.code.scalar("add", self.follow(path), each)

        total: SSAValue | None = None
        for term in expression.terms:
            value = None if term.path is None else path_value(term.path)
            for name in term.sizes:
                size = self.kernel.size(name)
                value = size if value is None else self.code.scalar("mul", value, size)
            assert value is not None
            if term.coefficient != 1:
                value = self.code.scalar("mul", value, self.code.constant(term.coefficient))
            total = value if total is None else self.code.scalar("add", total, value)
        if total is None:
            total = self.code.constant(expression.constant)
        else:
            total = self.code.plus(total, expression.constant)
        if expression.division is None:
            return total
        operator, divisor = expression.division
        return self.code.scalar(operator, total, self.kernel.size(divisor))

    def address(
        self, storage: Storage, access: Sequence[IndexExpr]
    ) -> tuple[list[SSAValue], int | None, int]:
        """Indices into a storage, with the axis and step of the lanes."""
        exact = self._lane_axis(access) if storage.kind != "lanes" else None
        indices: list[SSAValue] = []
        if storage.kind == "local":
            indices.append(self._slot(storage))
        axis: int | None = None
        for position, expression in enumerate(access):
            if storage.kind == "local" and position == storage.position:
                continue
            if storage.kind == "element" and position == storage.position:
                axis = axis if self._elements is None else len(indices)
                indices.append(self._own_place())
                continue
            if storage.kind == "block" and position == storage.position:
                indices.append(self.frame.within or self.code.constant(0))
                continue
            if storage.kind == "lanes" and position == storage.position:
                axis = len(indices)
                indices.append(self.code.constant(0))
                continue
            if exact is not None and position == exact[0]:
                axis = len(indices)
            indices.append(self.index_value(expression, across=exact is None))
        return indices, axis, 1 if exact is None else exact[1]

    def _own_place(self) -> SSAValue:
        """Where the values of the element are, in buffers of the visit."""
        place, shift = self.frame.place, self.frame.shift
        assert place is not None
        return place if shift is None else self.code.scalar("sub", place, shift)

    def _slot(self, storage: Storage) -> SSAValue:
        if storage.slots == 1 or self.frame.slot is None:
            return self.code.constant(0)
        return self.frame.slot

    def _lane_axis(self, access: Sequence[IndexExpr]) -> tuple[int, int] | None:
        """(dimension, step) if the lanes move along one dimension in equal steps, which they do not
        through a map."""
        if self.lanes is None or (self._elements is not None and not self.frame.is_sorted):
            return None
        variable = self.lanes.variable
        key = None if self._elements is None or self.frame.visit is None else self.frame.visit.key
        row = Path(variable, key) if key is not None else None
        places = [
            i
            for i, e in enumerate(access)
            if {p for p in e.paths if p != row and p.variable == variable}
        ]
        if len(places) != 1 or access[places[0]].division is not None:
            return None
        own = [t for t in access[places[0]].terms if t.path and t.path.variable == variable]
        terms = [t for t in own if t.path == Path(variable)]
        if len(own) != 1 or len(terms) != 1 or terms[0].sizes:
            return None
        if any(self._varies(path) for e in access for path in e.paths):
            return None
        return places[0], terms[0].coefficient

    def _varies(self, path: Path) -> bool:
        """Whether a path starts from a value of its own for each lane, as what is picked may."""
        start = self.loops.get(path.variable)
        return start is not None and isinstance(start.type, VectorType)

    def _vector(self, indices: Sequence[SSAValue], axis: int | None) -> Lanes | None:
        """The lanes, if elements at these indices differ from lane to lane."""
        moves = axis is not None or any(isinstance(i.type, VectorType) for i in indices)
        return self.lanes if moves else None

    def load(
        self, storage: Storage, access: Sequence[IndexExpr], pad: float | int | None = None
    ) -> SSAValue:
        """Elements of a tensor at an access."""
        indices, axis, step = self.address(storage, access)
        element = cast(TensorType, storage.tensor.type).element
        lanes = self._vector(indices, axis)
        type = element if lanes is None else VectorType(element, [lanes.count])
        valid = None if lanes is None or storage.kind == "lanes" else lanes.valid
        return self.code.add(LoadOp(storage.tensor, indices, type, axis, step, pad, valid))

    def store(
        self,
        value: SSAValue,
        storage: Storage,
        access: Sequence[IndexExpr],
        pad: float | int | None = None,
        combine: str | None = None,
    ) -> None:
        """Write a value, converted to the tensor's element type, at an access, or combine it with
        what is there."""
        indices, axis, step = self.address(storage, access)
        type = cast(TensorType, storage.tensor.type)
        value = self.code.cast(value, type.element)
        lanes = self._vector(indices, axis)
        if lanes is not None:
            value = self.code.spread(value, lanes.count)
        valid = None if lanes is None or storage.kind == "lanes" else lanes.valid
        self.code.block.add_op(
            StoreOp(value, storage.tensor, indices, axis, step, pad, valid, combine)
        )

    def storage_of(self, tensor: SSAValue) -> Storage:
        """Where a tensor of the graph lives in this kernel."""
        if tensor not in self.kernel.storages:
            host = self.kernel.parameter(self.frame.values[tensor])
            self.kernel.storages[tensor] = Storage("global", host)
        return self.kernel.storages[tensor]

    def evaluate(self, result: SSAValue) -> SSAValue:
        """Value of an SSA value of the statement's body; vectors stand for lanes."""
        known: dict[SSAValue, SSAValue] = {}
        return self._value(result, known)

    def _value(self, value: SSAValue, known: dict[SSAValue, SSAValue]) -> SSAValue:
        if value not in known:
            owner = value.owner
            if isinstance(owner, Operation):
                known[value] = self._operation(owner, known)
            else:
                known[value] = self.kernel.parameter(self.frame.values[value])
        return known[value]

    def _operation(self, op: Operation, known: dict[SSAValue, SSAValue]) -> SSAValue:
        if isinstance(op, ReadOp):
            access, there = op.access.data, self
            if op.picked is not None and op.pick is not None:
                pick = self.code.cast(self._value(op.pick, known), index)
                there = self.with_loop(op.picked.data, pick)
            return there.load(self.storage_of(op.tensor), access, op.type.pad_value)
        if isinstance(op, ConstantOp):
            return self.code.constant(op.number, op.result.type)
        if isinstance(op, IndexOp):
            return self.code.cast(self.index_value(op.index.data[0], across=True), op.result.type)
        if isinstance(op, SizeOp):
            return self.code.cast(self.kernel.size(op.of.data), op.result.type)
        arguments = [self._value(operand, known) for operand in op.operands]
        if isinstance(op, CastOp):
            return self.code.cast(arguments[0], scalar_type(op.result.type))
        assert isinstance(op, ScalarOp) and not isinstance(op, YieldOp)
        return self.code.scalar(op.FUNCTION.name, *arguments)
