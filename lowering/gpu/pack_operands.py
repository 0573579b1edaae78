"""`pack-operands`: operands that many blocks of products read lie as bulk copies want them first.

Enters: tile IR scheduled for a GPU. Leaves: for an operand [..., rows, columns] of a product by
groups of warps that so many tasks read that copying it once is little beside them, a kernel that
packs it, launched before, a tensor more for the product's kernel, and an attribute `packed_a` or
`packed_b` at the product, the number of that parameter.

    packed[..., p, r, i]  =  operand[..., r, line * p + j]     p: panels, of rows of 128 bytes
                             j = i with its place c among those of 16 bytes as c xor r % 8

Chunks lie where descriptors of blocks in shared memory expect them, so a panel's rows of one block
are one stretch of bytes. What is past the end of rows or columns is zero; there are as many of both
as whole blocks have.

    tile.launch @k(%x, %w, %picks, %y) tasks %tasks
    %p = tile.product %x[%rows, %zero] k 1, %w[%zero, %left] k 0 to %k

becomes

    %4 = tile.allocate : !hec.tensor<f16[2, 64, 64]>
    tile.launch @k_pack4(%x, %4) tasks %5
    %6 = tile.allocate : !hec.tensor<f16[1, 128, 64]>
    tile.launch @k_pack5(%w, %6) tasks %7
    tile.launch @k(%x, %w, %picks, %y, %4, %6) tasks %tasks
    %p = tile.product %x[%rows, %zero] k 1, %w[%zero, %left] k 0 to %k {packed_a = 4, packed_b = 5}
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import cast

from xdsl.context import Context
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, VectorType
from xdsl.ir import Block, Region, SSAValue
from xdsl.passes import ModulePass

from hectorite.dialects.tile import EndOp, KernelOp, LanesOp, ProductOp
from hectorite.dialects.tile_async import BULK_UNIT, SPREAD_BYTES, SPREAD_ROWS
from hectorite.dialects.tile_memory import LoadOp, StoreOp, index, shape_of
from hectorite.dialects.tile_program import AllocateOp, LaunchOp
from hectorite.ir.element import element_of
from hectorite.ir.scalar import ConstantOp, ScalarOp, scalar_type
from hectorite.ir.space import TensorType
from hectorite.ir.target import DEFAULT_TARGET, Target, target
from hectorite.lowering.gpu.bulk_copies import saved_by_panels
from hectorite.lowering.gpu.divisors import divisor
from hectorite.lowering.gpu.panel_copies import Operand, left_operand, right_operand
from hectorite.lowering.gpu.product_plan import Operands, wgmma_plan
from hectorite.lowering.gpu.stage_products import (
    PACKED_A,
    PACKED_B,
    TENSOR_TYPES,
    block_depth,
    constant_value,
    is_large,
)
from hectorite.lowering.gpu.tile_layouts import written_memory
from hectorite.lowering.kernels.tile_code import Code

PACKING_SHARE = 1 / 8
"""The most of a product's own time that packing may take, by the rates of the target."""

OPERANDS = 2


@dataclass(frozen=True)
class Panels:
    """What is packed: an operand, in the kernel; extents of dimensions that are no matrix, of
    panels, of their rows."""

    of: Operand
    others: tuple[int, ...]
    count: int
    rows: int

    @property
    def type(self) -> TensorType:
        element = cast(TensorType, self.of.tensor.type).element
        return TensorType.of(element, (*self.others, self.count, self.rows, self.of.line))

    @property
    def tasks(self) -> int:
        """One for so many rows of a panel as its pattern has."""
        return prod(self.others) * self.count * self.rows // SPREAD_ROWS

    @property
    def bytes(self) -> int:
        return self.tasks * SPREAD_ROWS * SPREAD_BYTES

    def block_bytes(self, depth: int) -> int:
        """Bytes that a step of a task copies."""
        return prod(self.of.extents(depth)) // self.of.line * SPREAD_BYTES


@dataclass(frozen=True)
class PackOperands(ModulePass):
    """Operands that many blocks of products read lie as bulk copies want them first."""

    name = "pack-operands"

    target: str = DEFAULT_TARGET
    always: bool = False
    """Whether to pack whatever can be, however few tasks read it."""

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        machine = target(self.target)
        if not (machine.has("wgmma") and machine.has("bulk_copy")):
            return
        for kernel in list(op.ops):
            if isinstance(kernel, KernelOp):
                self._kernel(op, kernel, machine)

    def _kernel(self, module: ModuleOp, kernel: KernelOp, machine: Target) -> None:
        launches = [
            op
            for op in module.walk()
            if isinstance(op, LaunchOp) and op.kernel.root_reference == kernel.sym_name
        ]
        if len(launches) != 1:
            return
        launch = launches[0]
        for product in [op for op in kernel.walk() if isinstance(op, ProductOp)]:
            packed = _packed(kernel, product, launch, machine, self.always)
            for name, panels in packed.items():
                product.attributes[name] = IntegerAttr(len(kernel.parameters), 64)
                launch = _pack(module, kernel, launch, panels)


def _packed(
    kernel: KernelOp, op: ProductOp, launch: LaunchOp, machine: Target, always: bool
) -> dict[str, Panels]:
    """What of a product to pack, by the attribute that tells so."""
    if any(name in op.attributes for name in (PACKED_A, PACKED_B)) or not is_large(op):
        return {}
    sides = {PACKED_A: left_operand(op), PACKED_B: right_operand(op)}
    can = {
        name: panels
        for name, side in sides.items()
        if side is not None and (panels := panels_of(kernel, op, side, machine)) is not None
    }
    return can if can and (always or _pays(kernel, op, can, launch, machine)) else {}


def panels_of(kernel: KernelOp, op: ProductOp, side: Operand, machine: Target) -> Panels | None:
    """How an operand of a product would be packed; None if groups of warps do not do the product,
    or nothing is known of where the operand's blocks begin."""
    type = cast(TensorType, side.tensor.type)
    if side.tensor not in kernel.parameters or side.tensor in written_memory(kernel):
        return None
    if not all(isinstance(dim, int) for dim in type.dims) or not _done_by_groups(
        kernel, op, machine
    ):
        return None
    dims = cast(tuple[int, ...], type.dims)
    k_index = (op.a_indices if side.tensor is op.a else op.b_indices)[-2 if side.k_first else -1]
    if constant_value(op.extent) != dims[-2 if side.k_first else -1]:
        return None
    if constant_value(k_index) != 0:
        return None
    block = side.extents(block_depth(op, machine))
    if block[1] % side.line or divisor(side.start) % (side.line if side.k_first else SPREAD_ROWS):
        return None
    rows, columns = (-(-dim // each) * each for dim, each in zip(dims[-2:], block, strict=True))
    return Panels(side, dims[:-2], columns // side.line, rows)


def _done_by_groups(kernel: KernelOp, op: ProductOp, machine: Target) -> bool:
    a, b = (cast(TensorType, tensor.type).element_type for tensor in (op.a, op.b))
    if op.a_axis.value.data != len(op.a_indices) - 1:
        return False
    rows, columns = shape_of(op.result.type)
    result = element_of(scalar_type(op.result.type))
    k_last = op.b_axis.value.data == len(op.b_indices) - 1
    operands = Operands(rows, columns, block_depth(op, machine), a, b, result, False, k_last)
    return wgmma_plan(operands, kernel.thread_count) is not None


def _pays(
    kernel: KernelOp, op: ProductOp, chosen: dict[str, Panels], launch: LaunchOp, machine: Target
) -> bool:
    """Whether the tasks' loops get shorter, and packing takes little of the product's own time. A
    loop that still has a `cp.async` has its groups and fences too, and is no shorter."""
    tasks, extent = known_number(launch.tasks), constant_value(op.extent)
    if tasks is None or extent is None or len(chosen) < OPERANDS:
        return False
    depth = block_depth(op, machine)
    rows, columns = shape_of(op.result.type)
    blocks = [panels.block_bytes(depth) for panels in chosen.values()]
    counts = [panels.of.extents(depth)[1] // panels.of.line for panels in chosen.values()]
    if saved_by_panels(blocks, counts, kernel.thread_count, machine) <= 0:
        return False
    name = cast(TensorType, op.a.type).element_type.name
    rate = machine.wgmma[TENSOR_TYPES.get(name, name)] * machine.sms * machine.clock
    product = 2 * rows * columns * extent * tasks / rate
    packing = 2 * sum(panels.bytes for panels in chosen.values()) / machine.bandwidth
    return packing <= PACKING_SHARE * product


def known_number(value: SSAValue) -> int | None:
    """The number that an index of the host is, if it is computed from numbers."""
    op = value.owner
    if isinstance(op, ConstantOp):
        return int(op.number)
    if not isinstance(op, ScalarOp) or op.FUNCTION.name not in _FOLDED:
        return None
    numbers = [known_number(operand) for operand in op.operands]
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or op.FUNCTION.name == "floordiv" and not known[1]:
        return None
    return _FOLDED[op.FUNCTION.name](*known)


_FOLDED: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "min": min,
    "max": max,
    "floordiv": int.__floordiv__,
}


def _pack(module: ModuleOp, kernel: KernelOp, launch: LaunchOp, panels: Panels) -> LaunchOp:
    """Write the kernel and its launch; the launch of the product's kernel, with the panels."""
    source = launch.arguments[kernel.parameters.index(panels.of.tensor)]
    host = cast(Block, launch.parent)
    user = kernel.sym_name.data
    name = f"{user}_pack{len(kernel.parameters)}"
    packed, tasks = AllocateOp(panels.type), ConstantOp(panels.tasks, index)
    pack = LaunchOp(name, [source, packed.result], tasks.result)
    again = LaunchOp(user, [*launch.arguments, packed.result], launch.tasks)
    again.attributes |= launch.attributes
    host.insert_ops_before([packed, tasks, pack, again], launch)
    launch.detach()
    launch.erase()
    added = kernel.body.block.insert_arg(panels.type, len(kernel.body.block.args))
    added.name_hint = f"{panels.of.tensor.name_hint or 'operand'}_packed"
    module.body.block.insert_op_before(_pack_kernel(panels, name), kernel)
    return again


def _pack_kernel(panels: Panels, name: str) -> KernelOp:
    """A task packs as many rows of one panel as the pattern of places has."""
    block = Block(arg_types=[index, panels.of.tensor.type, panels.type])
    task, operand, packed = block.args
    task.name_hint, operand.name_hint, packed.name_hint = "task", "operand", "packed"
    code = Code(block)
    rest, groups = task, panels.rows // SPREAD_ROWS
    places: list[SSAValue] = []
    for extent in (groups, panels.count, *reversed(panels.others)):
        places.insert(0, code.scalar("mod", rest, code.constant(extent)))
        rest = code.scalar("floordiv", rest, code.constant(extent))
    *others, panel, group = places
    first = code.scalar("mul", group, code.constant(SPREAD_ROWS))
    start = code.scalar("mul", panel, code.constant(panels.of.line))
    lanes = code.scalar("add", code.add(LanesOp(panels.of.line)), start)
    flips = _flips(code, lanes, panels)
    type = VectorType(cast(TensorType, panels.of.tensor.type).element, [panels.of.line])
    zero, pad = code.constant(0), 0.0 if element_of(type.get_element_type()).is_float else 0
    for row in range(SPREAD_ROWS):
        at = code.plus(first, row)
        columns = lanes
        for flip in (flip for bit, flip in enumerate(flips) if row >> bit & 1):
            columns = code.scalar("add", columns, flip)
        value = code.add(LoadOp(operand, [*others, at, columns], type, pad=pad))
        place = [*others, panel, at, zero]
        block.add_op(StoreOp(value, packed, place, len(place) - 1))
    block.add_op(EndOp())
    return KernelOp(name, Region(block))


def _flips(code: Code, lanes: SSAValue, panels: Panels) -> list[SSAValue]:
    """What changes each bit of the place of a lane's chunk: its weight is added, or subtracted."""
    unit = BULK_UNIT * panels.of.line // SPREAD_BYTES
    found: list[SSAValue] = []
    for bit in range(SPREAD_ROWS.bit_length() - 1):
        weight = code.constant(unit << bit)
        is_set = code.scalar("mod", code.scalar("floordiv", lanes, weight), code.constant(2))
        twice = code.scalar("mul", is_set, code.constant(2 * unit << bit))
        found.append(code.scalar("sub", weight, twice))
    return found
