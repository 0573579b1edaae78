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

from dataclasses import dataclass, field, replace
from pathlib import PurePath

from xdsl.dialects.builtin import FileLineColLoc, ModuleOp
from xdsl.ir import Operation, SSAValue

from hectorite.dialects.graph import FuncOp, StatementOp
from hectorite.dialects.graph_sets import DeclarationOp, schema_of
from hectorite.dialects.tile import KernelOp
from hectorite.dialects.tile_program import AllocateOp, LaunchOp, ProgramOp, ReturnOp
from hectorite.ir.ptx.origin import Origin
from hectorite.ir.schema import Schema
from hectorite.ir.space import TensorType
from hectorite.lowering.emit.join import JoinEmitter, resolved_statement, table_type, walk_cuts
from hectorite.lowering.emit.kept_block import BlockEmitter, fits_block
from hectorite.lowering.emit.kept_dots import DotEmitter, dot_tasks
from hectorite.lowering.emit.kept_gather import GatherEmitter
from hectorite.lowering.emit.kept_product import (
    KeptEmitter,
    KeptTensors,
    emit_panels,
    kept_tasks,
    panel_count,
)
from hectorite.lowering.emit.kernel import KernelEmitter
from hectorite.lowering.emit.merge import emit_merge, in_parts, parts_layout, parts_type
from hectorite.lowering.emit.total import emit_parts, emit_total, is_total
from hectorite.lowering.gpu.schedule_orders import (
    check_orders,
    check_rows,
    work_of,
)
from hectorite.lowering.graph.notation import Notation
from hectorite.lowering.kernels.explicit_starts import make_starts_explicit
from hectorite.lowering.kernels.host_program import HostProgram
from hectorite.lowering.kernels.join_walk import JoinWalk, join_walk
from hectorite.lowering.kernels.kept_plan import KeptPlan, kept_product
from hectorite.lowering.kernels.kernel_builder import KernelBuilder, Layout, Storage
from hectorite.lowering.kernels.kernel_plan import Kernel
from hectorite.lowering.kernels.materialise_operands import materialise_operands
from hectorite.lowering.kernels.materialise_sides import materialise_sides
from hectorite.lowering.kernels.pack_weights import Panels, emit_pack
from hectorite.lowering.kernels.place_tensors import (
    NO_BUFFER,
    Placement,
    overwritten,
    private_tensors,
)
from hectorite.lowering.kernels.plan_kernels import plan_kernels
from hectorite.lowering.kernels.round_parameters import round_parameters
from hectorite.lowering.kernels.share_rows import share_rows
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.machine import Machine
from hectorite.lowering.match.kept import KeptProduct


def graph_to_tile(module: ModuleOp, name: str, machine: Machine | None = None) -> ModuleOp:
    """The tile module of one function, scheduled for a machine (a CPU by default)."""
    machine = machine or Machine.cpu()
    function = next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == name)
    declarations: list[Operation] = [
        op.clone() for op in module.ops if isinstance(op, DeclarationOp)
    ]
    schema, function = schema_of(module), function.clone()
    round_parameters(function)
    materialise_operands(function, machine)
    materialise_sides(function, schema, machine)
    make_starts_explicit(function, schema, machine)
    writer = _ProgramWriter(function, schema, machine)
    return ModuleOp([*declarations, *writer.write()])


@dataclass
class _ProgramWriter:
    """Writes the host program of one function, kernel by kernel."""

    function: FuncOp
    schema: Schema
    machine: Machine
    kernels: list[KernelOp] = field(default_factory=list[KernelOp])

    def __post_init__(self) -> None:
        function = self.function
        self.program = ProgramOp(
            function.sym_name.data, function.names, function.inputs, function.outputs
        )
        block = self.program.body.block
        self.code = Code(block)
        self.host = HostProgram(self.code)
        self.values: dict[SSAValue, SSAValue] = dict(
            zip(function.body.block.args, block.args, strict=True)
        )
        self.returned = set(function.return_op.operands)
        notation = Notation(function)
        statements = [op for op in function.body.block.ops if isinstance(op, StatementOp)]
        # The assembler's messages name them; on a CPU nothing would read them.
        known = statements if self.machine.is_gpu else []
        self.lines = {op: _origin(op, notation.line(op) or "") for op in known}

    def write(self) -> list[Operation]:
        """The program and its kernels."""
        plans = plan_kernels(self.function, self.schema, self.machine)
        check_orders(plans)
        for number, plan in enumerate(plans):
            self._kernel(plan, f"{self.function.sym_name.data}_{number}")
        results = [self.values[value] for value in self.function.return_op.operands]
        self.code.add(ReturnOp(*results))
        return [self.program, *self.kernels]

    def _kernel(self, plan: Kernel, name: str) -> None:
        private = private_tensors(plan, self.returned)
        for statement in plan.statements:
            if private.get(statement.result) not in NO_BUFFER:
                self._buffer(statement, overwritten(plan, statement, private))
        builder = KernelBuilder(name, self.machine, lines=self.lines)
        if (kept := kept_product(plan.statements[0], self.machine)) is not None:
            check_rows(plan)
            self._kept(kept, plan.statements[0], builder)
            return
        walk = join_walk(plan.statements[0], self.schema, self.machine)
        if walk is not None:
            check_rows(plan)
            self._walk(walk, plan.statements[0], builder)
            return
        panels = self._pack(plan, name)
        if is_total(plan):
            check_rows(plan)
            self._total(plan, builder, Placement(plan, self.values, private, panels))
            return
        placement = Placement(plan, self.values, private, panels, self._parts(plan))
        emitter = KernelEmitter(plan, builder, placement)
        tasks = share_rows(plan, builder, self.host)
        most = plan.machine.resident_tasks
        builder.work = work_of(plan) if plan.machine.is_gpu else "row"
        if builder.work == "persistent":
            emitter.emit_all(tasks.share, builder.parameter(tasks.count), most)
            few = self.code.scalar("min", tasks.count, self.code.constant(most))
            self._launch(builder, few)
            return
        emitter.emit(tasks.share(builder.code, builder.task), builder.code)
        self._launch(builder, tasks.count)
        if placement.parts:
            merging = KernelBuilder(f"{name}_merge", self.machine, lines=self.lines)
            emit_merge(plan, merging, replace(placement))
            rows = self.host.length(parts_layout(plan, rows=True))
            self._launch(merging, self.code.scalar("floordiv", rows, self.code.constant(3)))

    def _parts(self, plan: Kernel) -> dict[StatementOp, SSAValue]:
        """Memory for the parts of long rows, if a second kernel puts them together."""
        if not in_parts(plan):
            return {}
        statement = plan.statements[0]
        parts = self.code.add(
            AllocateOp(parts_type(statement, plan.roots[statement], plan.machine))
        )
        parts.name_hint = "parts"
        return {statement: parts}

    def _total(self, plan: Kernel, builder: KernelBuilder, placement: Placement) -> None:
        """Launch the kernel that makes parts of a sum over everything, and the one that adds them
        up."""
        statement, count = plan.statements[0], plan.machine.parts
        parts = self.code.add(AllocateOp(TensorType.of(statement.value.type, (count,))))
        parts.name_hint = "parts"
        emit_parts(plan, builder, placement, parts)
        self._launch(builder, self.code.constant(count))
        whole = KernelBuilder(f"{builder.name}_total", self.machine, lines=self.lines)
        emit_total(plan, whole, replace(placement), parts)
        self._launch(whole, self.code.constant(1))

    def _kept(self, product: KeptProduct, statement: StatementOp, builder: KernelBuilder) -> None:
        """Launch the kernel of a product with what is kept of a tensor, and before it the one that
        packs the dense tensor if that has lanes."""
        read = [product.values.tensor, product.codes, statement.result]
        start = None
        if self.machine.is_gpu:
            read.insert(2, product.dense.tensor)
            values, codes, dense, target = (builder.parameter(self.values[t]) for t in read)
            if statement.init is not None:
                start = builder.parameter(self.values[statement.init])
            if fits_block(product, statement):
                emitter = BlockEmitter(
                    product, statement, builder, self.machine, values, codes, dense, target, start
                )
            else:
                emitter = GatherEmitter(
                    product, statement, builder, values, codes, dense, target, start
                )
            emitter.emit()
            self._launch(builder, emitter.tasks(self.host.size, self.code))
            return
        if product.lanes is None:
            read.insert(2, product.dense.tensor)
            values, codes, dense, target = (builder.parameter(self.values[t]) for t in read)
            if statement.init is not None:
                start = builder.parameter(self.values[statement.init])
            DotEmitter(product, statement, builder, values, codes, dense, target, start).emit()
            self._launch(builder, dot_tasks(product, statement, self.host.size, self.code))
            return
        kept = KeptPlan.of(product, statement)
        panels, flags = (self.code.add(AllocateOp(t)) for t in (kept.panels, kept.flags))
        panels.name_hint, flags.name_hint = "panels", "flags"
        pack = KernelBuilder(f"{builder.name}_pack", self.machine)
        emit_panels(pack, kept, self.values[product.dense.tensor], panels, flags)
        self._launch(pack, panel_count(kept, self.host.size, self.code))
        values, codes, target = (builder.parameter(self.values[tensor]) for tensor in read)
        if statement.init is not None:
            start = builder.parameter(self.values[statement.init])
        packed = builder.parameter(panels), builder.parameter(flags)
        KeptEmitter(kept, builder, KeptTensors(values, codes, *packed, target, start)).emit()
        self._launch(builder, kept_tasks(kept, self.host.size, self.code))

    def _walk(self, walk: JoinWalk, statement: StatementOp, builder: KernelBuilder) -> None:
        """Launch the kernel of a statement that walks through the sets of a join."""
        target = Storage("global", builder.parameter(self.values[statement.result]))
        start, table = None, None
        if statement.init is not None:
            start = Storage("global", builder.parameter(self.values[statement.init]))
        if walk.finder is not None:
            place = self.schema.follow(walk.finder.set, walk.finder.key)
            table = self.code.add(AllocateOp(table_type(walk.finder, place)))
            table.name_hint = "table"
            table = builder.parameter(table)
        over = resolved_statement(walk, statement)
        JoinEmitter(walk, over, self.schema, builder, self.values, table, target, start).emit()
        over.erase()
        cuts = self.host.length(walk_cuts(walk))
        self._launch(builder, self.code.plus(cuts, -1))

    def _launch(self, builder: KernelBuilder, tasks: SSAValue) -> None:
        self.kernels.append(builder.finish())
        arguments = [
            self.host.layout(passed) if isinstance(passed, Layout) else passed
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
            builder = KernelBuilder(f"{name}_pack_{number}", self.machine)
            emit_pack(builder, panels, self.values[phase.product.weights.tensor], buffer)
            tasks = self.code.constant(panels.strips)
            for _, dim in panels.others:
                tasks = self.code.scalar("mul", tasks, self.host.size(dim))
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


def _origin(op: StatementOp, text: str) -> str:
    """A statement as it is written, with the file and line that it comes from if they are known.
    The folder of the file is left out, so that code does not depend on where its source lies."""
    place = op.location
    if not isinstance(place, FileLineColLoc):
        return text
    return str(Origin(text, PurePath(place.filename.data).name, place.line.data))
