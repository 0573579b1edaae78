"""Write what follows a product of a GPU element by element, on the block that a task holds.

    y[n, o] += x[n, i] * W[i, o]
    z[n, o]  = relu(y[n, o] + b[o]) + r[n, o]

    %sum = ...                                                the block of y, in registers
    %b = tile.load %b[%starts] axis 0 -> vector<128x128xf32>  alike in all rows
    %r = tile.load %r[%rows, %start] axis 1
    ...
    tile.store %z, %z[%rows, %start] axis 1

Enters: the statements of a kernel, the first of which is its product; the scope of the block, and
its sums. Leaves: that code. The product itself is stored only if somebody else reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.dialects.builtin import VectorType
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import ReadOp, SizeOp, StatementOp
from hectorite.dialects.tile import LoadOp, StoreOp
from hectorite.dialects.tile_memory import shape_of
from hectorite.ir.index import IndexExpr
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp, scalar_type
from hectorite.ir.schedule import ATTRIBUTE
from hectorite.lowering.emit.values import Scope
from hectorite.lowering.kernels.kernel_plan import Kernel, Phase
from hectorite.lowering.kernels.place_tensors import Placement, whole_block
from hectorite.lowering.kernels.tile_code import Code


def follows(kernel: Kernel, statement: StatementOp) -> bool:
    """Whether a statement makes elements of what the product of a kernel makes, each from its own,
    and from what is read along the rows' lanes or is one value."""
    if not whole_block(kernel) or ATTRIBUTE in statement.attributes:
        return False
    product = kernel.phases[0].statements[0]
    names = _names(kernel, statement)
    if names is None or statement.init is not None or statement.type.pad_value is not None:
        return False
    left = [index.variable for index in statement.access.data]
    same = {v: dict(product.variables.data)[p] for v, p in names.items()}
    if statement.kind.data != "assign" or dict(statement.variables.data) != same:
        return False
    if set(left) != set(names) or len(left) != len(names):
        return False
    dims = [same[str(name)] for name in left]
    return dims == list(statement.type.dims) and all(
        _can_be_read(kernel, op, names) for op in statement.body.block.ops
    )


def _names(kernel: Kernel, statement: StatementOp) -> dict[str, str] | None:
    """The product's variables by those of a statement that reads what the kernel makes."""
    found: dict[str, str] | None = None
    for read in statement.reads:
        source = read.tensor.owner
        if not isinstance(source, StatementOp) or source not in kernel.roots:
            continue
        own = _own_names(kernel, source)
        names = dict[str, str]()
        for mine, theirs in zip(read.access.data, source.access.data, strict=True):
            if mine.variable is None or theirs.variable is None or mine.variable in names:
                return None
            names[mine.variable] = own[theirs.variable]
        if found is not None and found != names:
            return None
        found = names
    return found


def _own_names(kernel: Kernel, statement: StatementOp) -> dict[str, str]:
    if statement is kernel.phases[0].statements[0]:
        return {name: name for name, _ in statement.variables.data}
    return _names(kernel, statement) or {}


def _can_be_read(kernel: Kernel, op: Operation, names: Mapping[str, str]) -> bool:
    """Whether an operation of a body can be done for a block."""
    if not isinstance(op, ReadOp):
        return isinstance(op, ScalarOp | CastOp | ConstantOp | SizeOp) or not op.results
    if op.pick is not None or op.type.pad_value is not None:
        return False
    product = kernel.phases[0].product
    assert product is not None
    (row,) = kernel.roots[kernel.phases[0].statements[0]].row_variables
    used = list[str]()
    for index in op.access.data:
        if index.variable is None or names.get(index.variable) is None:
            return False
        used.append(names[index.variable])
    by_lanes = used.count(product.lanes) == 1
    return len(set(used)) == len(used) and (by_lanes or row not in used)


@dataclass
class Epilogue:
    """Writes the statements of a kernel after its product, for one block."""

    kernel: Kernel
    placement: Placement
    scope: Scope
    made: dict[SSAValue, SSAValue] = field(default_factory=dict[SSAValue, SSAValue])

    @property
    def code(self) -> Code:
        return self.scope.code

    def emit(self, total: SSAValue) -> None:
        """All statements, from the sums of the product; what others read is stored."""
        first = self.kernel.phases[0].statements[0]
        self._keep(first, total)
        for phase in self.kernel.phases[1:]:
            self._phase(phase)

    def _phase(self, phase: Phase) -> None:
        for statement in phase.statements:
            self.scope.kernel.remark(self.code, statement)
            names = _own_names(self.kernel, statement)
            self._keep(statement, self._value(statement.value, names, {}))

    def _keep(self, statement: StatementOp, value: SSAValue) -> None:
        value = self.code.cast(value, statement.type.element)
        shape = self._shape
        if not shape_of(value.type):
            value = self.code.same_shape((value, self._any))[0]
        assert shape_of(value.type) == shape
        self.made[statement.result] = value
        if statement.result in self.placement.private:
            return
        target = self.placement.storage(statement.result, self.scope.kernel)
        names = _own_names(self.kernel, statement)
        indices, axis = self._places(statement.access.data, names)
        valid = None if self.scope.lanes is None else self.scope.lanes.valid
        self.code.block.add_op(StoreOp(value, target.tensor, indices, axis, valid=valid))

    @property
    def _any(self) -> SSAValue:
        return next(iter(self.made.values()))

    @property
    def _shape(self) -> tuple[int, ...]:
        assert self.scope.lanes is not None
        product = self.kernel.phases[0].product
        assert product is not None
        return (product.shape.rows, self.scope.lanes.count)

    def _places(
        self, access: Sequence[IndexExpr], names: Mapping[str, str]
    ) -> tuple[list[SSAValue], int | None]:
        """Indices of a block, and the axis of its lanes."""
        product = self.kernel.phases[0].product
        assert product is not None
        used = [names[str(index.variable)] for index in access]
        indices = [self.scope.index_value(IndexExpr.of(name)) for name in used]
        axis = used.index(product.lanes) if product.lanes in used else None
        if axis is not None and not any(isinstance(i.type, VectorType) for i in indices):
            indices[axis] = self.code.spread(indices[axis], self._shape[0])
        return indices, axis

    def _value(
        self, value: SSAValue, names: Mapping[str, str], known: dict[SSAValue, SSAValue]
    ) -> SSAValue:
        if value not in known:
            known[value] = self._computed(value, names, known)
        return known[value]

    def _computed(
        self, value: SSAValue, names: Mapping[str, str], known: dict[SSAValue, SSAValue]
    ) -> SSAValue:
        op, code, kernel = value.owner, self.code, self.scope.kernel
        if not isinstance(op, Operation):
            return kernel.parameter(self.scope.frame.values[value])
        if isinstance(op, ReadOp):
            return self._read(op, names)
        if isinstance(op, ConstantOp):
            return code.constant(op.number, op.result.type)
        if isinstance(op, SizeOp):
            return code.cast(kernel.size(op.of.data), op.result.type)
        operands = [self._value(operand, names, known) for operand in op.operands]
        if isinstance(op, CastOp):
            return code.cast(operands[0], scalar_type(op.result.type))
        assert isinstance(op, ScalarOp)
        return code.scalar(op.FUNCTION.name, *operands)

    def _read(self, op: ReadOp, names: Mapping[str, str]) -> SSAValue:
        if op.tensor in self.made:
            return self.made[op.tensor]
        tensor = self.scope.storage_of(op.tensor).tensor
        indices, axis = self._places(op.access.data, names)
        if axis is None:
            return self.code.add(LoadOp(tensor, indices))
        valid = None if self.scope.lanes is None else self.scope.lanes.valid
        type = VectorType(op.type.element, self._shape)
        return self.code.add(LoadOp(tensor, indices, type, axis, valid=valid))
