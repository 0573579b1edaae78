"""One kernel being written: its parameters as they are asked for, and where its tensors live."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xdsl.dialects.builtin import IntegerType
from xdsl.ir import Attribute, Block, BlockArgument, Operation, Region, SSAValue

from hectorite.dialects.graph import StatementOp
from hectorite.dialects.tile import WARP, EndOp, KernelOp, LocalOp, SizeOp, index
from hectorite.dialects.tile_layout import AtOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim, TensorType
from hectorite.lowering.kernels.tile_code import Code
from hectorite.lowering.machine import Machine

LAYOUT_TYPE = TensorType.of(IntegerType(32), ("_",))


@dataclass(frozen=True)
class Layout:
    """A request for bound data; the fields are those of `tile.layout`."""

    what: str
    of: str
    keys: tuple[IndexExpr, ...] = ()
    path: IndexExpr | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Storage:
    """Where a tensor of the graph lives inside a kernel.

    `kind` is `global` (its own buffer, indexed as in the graph), `element` (a buffer whose
    dimension `position` is the place of the element in the order of the visit), `lanes` (private
    memory, whose dimension `position` is the lane that the element or row is in), `block` (private
    memory, whose dimension `position` is the number of the element in its block) or `local`
    (private memory, whose first dimension is one of `slots` for the rows at hand and which lacks
    dimension `position`; position None: it has no such dimension).
    """

    kind: str
    tensor: SSAValue
    position: int | None = None
    slots: int = 1


@dataclass
class KernelBuilder:
    """The kernel's body, its parameters in order, and what the host passes for each."""

    name: str
    machine: Machine
    block: Block = field(default_factory=lambda: Block(arg_types=[index]))
    passed: list[SSAValue | Layout] = field(default_factory=list[SSAValue | Layout])
    sizes: dict[str, SSAValue] = field(default_factory=dict[str, SSAValue])
    storages: dict[SSAValue, Storage] = field(default_factory=dict[SSAValue, Storage])
    threads: int = WARP
    work: str = "row"
    """How rows are shared out among tasks: one of `WORK`."""
    lines: Mapping[StatementOp, str] = field(default_factory=dict[StatementOp, str])

    def __post_init__(self) -> None:
        self.code = Code(self.block)
        self.block.args[0].name_hint = "task"
        self._parameters: dict[SSAValue | Layout, BlockArgument] = {}

    @property
    def task(self) -> SSAValue:
        return self.block.args[0]

    def parameter(self, host: SSAValue) -> SSAValue:
        """The kernel's parameter for a value of the host program."""
        return self._parameter(host, host.type, host.name_hint)

    def layout(self, request: Layout) -> SSAValue:
        """The kernel's parameter for bound data."""
        hint = request.what if request.path is None else str(request.path).replace(".", "_")
        return self._parameter(request, LAYOUT_TYPE, hint)

    def _parameter(self, key: SSAValue | Layout, type: Attribute, hint: str | None) -> SSAValue:
        if key not in self._parameters:
            argument = self.block.insert_arg(type, len(self.block.args))
            argument.name_hint = hint
            self._parameters[key] = argument
            self.passed.append(key)
        return self._parameters[key]

    def remark(self, code: Code, statement: StatementOp) -> None:
        """Say in the code which statement follows, where `lines` has its text."""
        if statement in self.lines:
            code.block.add_op(AtOp(self.lines[statement]))

    def size(self, dim: Dim) -> SSAValue:
        """The extent of a dimension."""
        if isinstance(dim, int):
            return self.code.constant(dim)
        if dim not in self.sizes:
            op = SizeOp(dim)
            self._at_head(op)
            self.sizes[dim] = op.result
        return self.sizes[dim]

    def local(self, type: TensorType) -> SSAValue:
        """Private memory, declared once at the head of the kernel."""
        op = LocalOp(type)
        self._at_head(op)
        return op.result

    def _at_head(self, op: Operation) -> None:
        first = self.block.first_op
        if first is None:
            self.block.add_op(op)
        else:
            self.block.insert_op_before(op, first)

    def finish(self) -> KernelOp:
        """The kernel as an operation."""
        self.code.add(EndOp())
        return KernelOp(self.name, Region(self.block), self.threads, self.work)


def element_path(fields: tuple[str, ...]) -> IndexExpr:
    """A path of the one variable that layouts speak of."""
    return IndexExpr.of("e", *fields)
