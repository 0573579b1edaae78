"""Turn a function of statements into kernels and the host program that launches them.

    y[e.dst, o] += x[e.src, o]

becomes

    tile.program @f(%x: !hec.tensor<f32[node, 8]>) -> !hec.tensor<f32[node, 8]> {
    %y = tile.allocate : !hec.tensor<f32[node, 8]>
    %segments = tile.layout segments of edge by [e.dst] : !hec.tensor<i32[_]>
    %along = tile.layout along of edge by [e.dst] path [e.src] : !hec.tensor<i32[_]>
    tile.launch @f_0(%cuts, %y, %segments, %x, %along) tasks
    tile.kernel @f_0(%task: index,
    scf.for
    tile.end

among other lines.

Enters: graph IR without softmax, every size that is not a set's fixed. Leaves: the declarations of
sets, one `tile.program` and its `tile.kernel`s.
"""

from dataclasses import dataclass, field
from math import prod

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import DeriveOp, DimOp, SetOp, schema_of
from hectorite.dialects.tile import KernelOp, LoadOp, SizeOp
from hectorite.dialects.tile_program import (
    AllocateOp,
    LaunchOp,
    LayoutOp,
    LengthOp,
    ProgramOp,
    ReturnOp,
)
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.lowering.emit_kernel import KernelEmitter
from hectorite.lowering.emit_product import is_wide, lanes_of
from hectorite.lowering.explicit_starts import make_starts_explicit
from hectorite.lowering.kernel_builder import LAYOUT_TYPE, KernelBuilder, Layout
from hectorite.lowering.kernel_plan import Kernel
from hectorite.lowering.pack_weights import Panels, emit_pack
from hectorite.lowering.place_tensors import Placement, overwritten, private_tensors
from hectorite.lowering.plan_kernels import plan_kernels
from hectorite.lowering.row_order import RowOrder
from hectorite.lowering.tile_code import Code

VISIT_TASKS = 128
"""Tasks of a kernel with visits: parts with like numbers of elements."""

GROUP_ROWS = 192
"""The most rows of one task of a kernel whose rows are grouped."""

TASK_POINTS = 1 << 18
"""Points of the statements' iteration spaces that one task of any other kernel should have."""

USUAL_SIZE = 1024
"""What the size of a set is taken for."""

CHUNK_ROWS = (96, 1024)
"""The least and the most rows of such a task."""


def graph_to_tile(module: ModuleOp, name: str) -> ModuleOp:
    """The tile module of one function."""
    function = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == name)
    declarations: list[Operation] = [
        op.clone() for op in module.ops if isinstance(op, SetOp | DeriveOp | DimOp)
    ]
    schema, function = schema_of(module), function.clone()
    make_starts_explicit(function, schema)
    writer = _ProgramWriter(function, schema)
    return ModuleOp([*declarations, *writer.write()])


@dataclass
class _ProgramWriter:
    """Writes the host program of one function, kernel by kernel."""

    function: FuncOp
    schema: Schema
    layouts: dict[Layout, SSAValue] = field(default_factory=dict[Layout, SSAValue])
    sizes: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    kernels: list[KernelOp] = field(default_factory=list[KernelOp])

    def __post_init__(self) -> None:
        function = self.function
        self.program = ProgramOp(
            function.sym_name.data, function.names, function.inputs, function.outputs
        )
        block = self.program.body.block
        self.code = Code(block)
        self.values: dict[SSAValue, SSAValue] = dict(
            zip(function.body.block.args, block.args, strict=True)
        )
        self.returned = set(function.return_op.operands)

    def write(self) -> list[Operation]:
        """The program and its kernels."""
        plans = plan_kernels(self.function, self.schema)
        for number, plan in enumerate(plans):
            self._kernel(plan, f"{self.function.sym_name.data}_{number}")
        results = [self.values[value] for value in self.function.return_op.operands]
        self.code.add(ReturnOp(*results))
        return [self.program, *self.kernels]

    def _kernel(self, plan: Kernel, name: str) -> None:
        private = private_tensors(plan, self.returned)
        for statement in plan.statements:
            if private.get(statement.result) != "local":
                self._buffer(statement, overwritten(plan, statement, private))
        builder = KernelBuilder(name)
        panels = self._pack(plan, name)
        emitter = KernelEmitter(plan, builder, Placement(plan, self.values, private, panels))
        strips = _strips_of(plan)
        rows, tasks = self._rows(plan, builder, strips)
        strip = None if strips == 1 else self._strip(builder, strips)
        emitter.emit(rows, strip)
        self._launch(builder, tasks)

    def _launch(self, builder: KernelBuilder, tasks: SSAValue) -> None:
        self.kernels.append(builder.finish())
        arguments = [
            self._layout(passed) if isinstance(passed, Layout) else passed
            for passed in builder.passed
        ]
        self.code.add(LaunchOp(builder.name, arguments, tasks))

    def _pack(self, plan: Kernel, name: str) -> dict[StatementOp, SSAValue]:
        """Launch the kernels that pack the weights of products; the panels of each."""
        found: dict[StatementOp, SSAValue] = {}
        for number, phase in enumerate(plan.phases):
            if phase.product is None or not phase.product.packed:
                continue
            panels = Panels.of(phase.product, phase.statements[0])
            buffer = self.code.add(AllocateOp(panels.type))
            buffer.name_hint = "panels"
            builder = KernelBuilder(f"{name}_pack_{number}")
            emit_pack(builder, panels, self.values[phase.product.weights.tensor], buffer)
            tasks = self.code.constant(panels.strips)
            for _, dim in panels.others:
                tasks = self.code.scalar("mul", tasks, self._size(dim))
            self._launch(builder, tasks)
            found[phase.statements[0]] = buffer
        return found

    def _buffer(self, statement: StatementOp, spent: SSAValue | None) -> None:
        """A buffer for a statement's result: the one it continues, if nothing else needs that, or
        that of a tensor whose last values it reads."""
        if spent is not None:
            self.values[statement.result] = self.values[spent]
            return
        init = statement.init
        if init is not None and isinstance(init.owner, StatementOp) and init in self.values:
            users = {use.operation for use in init.uses}
            own = {read for read in statement.reads if read.tensor is init}
            if init not in self.returned and users <= {statement, *own} and not own:
                self.values[statement.result] = self.values[init]
                return
        buffer = self.code.add(AllocateOp(statement.type))
        buffer.name_hint = statement.result.name_hint
        self.values[statement.result] = buffer

    def _layout(self, request: Layout) -> SSAValue:
        if request not in self.layouts:
            op = LayoutOp(
                request.what, request.of, LAYOUT_TYPE, request.keys, request.path, request.limit
            )
            value = self.code.add(op)
            value.name_hint = request.what
            self.layouts[request] = value
        return self.layouts[request]

    def _size(self, dim: Dim) -> SSAValue:
        if isinstance(dim, int):
            return self.code.constant(dim)
        if dim not in self.sizes:
            self.sizes[dim] = self.code.add(SizeOp(dim))
        return self.sizes[dim]

    # Rows and tasks -----------------------------------------------------------------------------

    def _strip(self, builder: KernelBuilder, strips: int) -> SSAValue:
        """The strip that a task does, if strips are tasks of their own."""
        return builder.code.scalar("mod", builder.task, builder.code.constant(strips))

    def _rows(
        self, plan: Kernel, builder: KernelBuilder, strips: int
    ) -> tuple[RowOrder | None, SSAValue]:
        """The rows of a task, written into the kernel, and the number of tasks."""
        if not plan.rows:
            return None, self.code.constant(1)
        if plan.groups:
            keys = tuple(IndexExpr.of("e", *path.fields) for path in plan.groups)
            owner = str(plan.rows[0])
            bounds, tasks = self._bounds(builder, Layout("runs", owner, keys, None, GROUP_ROWS))
            return RowOrder(*bounds, owner, keys), tasks
        visit = next((phase.visit for phase in plan.phases if phase.visit is not None), None)
        if visit is not None:
            keys = (IndexExpr.of("e", *visit.key),)
            cuts = Layout("cuts", visit.set, keys, None, VISIT_TASKS)
            bounds, tasks = self._bounds(builder, cuts)
            return RowOrder(*bounds, self._owner(plan)), tasks
        return self._chunks(plan, builder, strips)

    def _bounds(
        self, builder: KernelBuilder, request: Layout
    ) -> tuple[tuple[SSAValue, SSAValue], SSAValue]:
        """Row bounds from a layout that has one entry more than there are tasks."""
        code = builder.code
        array = builder.layout(request)
        lower = code.cast(code.add(LoadOp(array, [builder.task])), builder.task.type)
        after = code.plus(builder.task, 1)
        upper = code.cast(code.add(LoadOp(array, [after])), builder.task.type)
        length = self.code.add(LengthOp(self._layout(request)))
        return (lower, upper), self.code.plus(length, -1)

    def _chunks(
        self, plan: Kernel, builder: KernelBuilder, strips: int
    ) -> tuple[RowOrder, SSAValue]:
        """Equal parts of the rows."""
        code = builder.code
        count = builder.size(plan.rows[0])
        host = self._size(plan.rows[0])
        for dim in plan.rows[1:]:
            count = code.scalar("mul", count, builder.size(dim))
            host = self.code.scalar("mul", host, self._size(dim))
        chunk = _chunk(plan)
        number = builder.task
        if strips > 1:
            number = code.scalar("floordiv", number, code.constant(strips))
        lower = code.scalar("mul", number, code.constant(chunk))
        upper = code.scalar("min", code.plus(lower, chunk), count)
        rounded = self.code.plus(host, chunk - 1)
        tasks = self.code.scalar("floordiv", rounded, self.code.constant(chunk))
        if strips > 1:
            tasks = self.code.scalar("mul", tasks, self.code.constant(strips))
        return RowOrder(lower, upper, self._owner(plan)), tasks

    def _owner(self, plan: Kernel) -> str | None:
        """The set that rows are elements of."""
        dim = plan.rows[0]
        return dim if len(plan.rows) == 1 and isinstance(dim, str) else None


def _chunk(plan: Kernel) -> int:
    """Rows of one task: enough to be worth the start of a task."""
    points = 0
    for statement in plan.statements:
        bound = plan.roots[statement].bound
        sizes = [dim for name, dim in statement.variables.data if name not in bound]
        points += prod(dim if isinstance(dim, int) else USUAL_SIZE for dim in sizes)
    return max(CHUNK_ROWS[0], min(CHUNK_ROWS[1], TASK_POINTS // max(1, points)))


def _strips_of(plan: Kernel) -> int:
    """Strips of lanes that are tasks of their own: all of a wide product's, if it is all that the
    kernel does and they are of one width; else 1."""
    phase = plan.phases[0]
    product, statement = phase.product, phase.statements[0]
    if len(plan.phases) > 1 or product is None or plan.groups or product.loops:
        return 1
    if not is_wide(product, statement):
        return 1
    extent, width = dict(statement.variables.data)[product.lanes], lanes_of(product, statement)
    assert isinstance(extent, int)
    return -(-extent // width) if product.packed or extent % width == 0 else 1
