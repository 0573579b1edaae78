"""Products of blocks in shared memory by groups of four warps, on targets that have `wgmma`.

Enters: a `tile.product` with a `WgmmaPlan`. Leaves: for each step of k one instruction for each 64
rows of a group. Operands are named by descriptors, numbers of 64 bits:

    bits 0-13   address / 16 of the first element of this step, in its stage
    bits 16-29  bytes / 16 from a panel of columns to the next, where columns go along rows
    bits 32-45  bytes / 16 from eight rows of the block to the next eight
    bits 62-63  how chunks are spread: 1, 2, 3 for rows of 128, 64, 32 bytes

A step of k moves 32 bytes along rows that k goes along, else as many rows as it has elements. The
instructions are waited for, so that the block may be overwritten after the next barrier. With
`in_flight` only those of the product before are: the loop has a further stage for this one.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.dialects.builtin import IntegerAttr
from xdsl.ir import SSAValue

from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_async import FinishOp, SharedOp
from hectorite.lowering.gpu.product_plan import GROUP, GROUP_ROWS, STEP_BYTES, WgmmaPlan
from hectorite.lowering.gpu.shared_layout import SharedLayout, shared_layout
from hectorite.lowering.gpu.stage_products import IN_FLIGHT
from hectorite.lowering.ptx.bulk import alike_in_warp
from hectorite.lowering.ptx.convert import constant
from hectorite.lowering.ptx.kernel import PtxKernel
from hectorite.lowering.ptx.product_mma import stage_of

SPREAD = {128: 1, 64: 2, 32: 3}
UNIT_BYTES = 16
"""Addresses and distances are in these."""


@dataclass
class Prepared:
    """Descriptors of both operands in the first stage, for step 0 of the thread's group."""

    plan: WgmmaPlan
    a: SSAValue
    b: SSAValue
    layouts: tuple[SharedLayout, SharedLayout]


def prepare(kernel: PtxKernel, op: ProductOp, plan: WgmmaPlan) -> None:
    """Compute the descriptors, where the kernel starts."""
    a, b = (_layout(kernel, tensor) for tensor in (op.a, op.b))
    down, across = _group(kernel, plan)
    first = _descriptor(kernel, op.a, a, down, GROUP_ROWS * plan.tiles * a.pitch)
    second = _descriptor(kernel, op.b, b, across, plan.width * b.pitch)
    kernel.prepared[op] = Prepared(plan, first, second, (a, b))


def product(kernel: PtxKernel, op: ProductOp) -> list[SSAValue]:
    """The registers of the result."""
    prepared: Prepared = kernel.prepared[op]
    plan, code = prepared.plan, kernel.code
    if op.init is not None:
        sums = list(kernel.registers[op.init])
    else:
        sums = [constant(code, 0, plan.operands.result)] * plan.layout.register_count
    a_layout, b_layout = prepared.layouts
    a = _in_stage(kernel, prepared.a, a_layout, stage_of(kernel, op.a_indices))
    b = _in_stage(kernel, prepared.b, b_layout, stage_of(kernel, op.b_indices))
    adds = code.op("setp.eq.s32", 0, 0)
    each = plan.layout.register_count // plan.tiles
    code.op("wgmma.fence.sync.aligned")
    for step in range(plan.operands.depth // plan.step):
        right = _further(kernel, b, _b_step(plan, b_layout) * step)
        for tile in range(plan.tiles):
            rows = GROUP_ROWS * tile * a_layout.pitch
            left = _further(kernel, a, rows + STEP_BYTES * step)
            part = slice(each * tile, each * (tile + 1))
            sums[part] = code.op(
                plan.mnemonic, left, right, adds, *map(code.immediate, _switches(plan)), sums[part]
            )
    code.op("wgmma.commit_group.sync.aligned")
    stays = op.attributes.get(IN_FLIGHT)
    pending = stays.value.data if isinstance(stays, IntegerAttr) else 0
    code.op("wgmma.wait_group.sync.aligned", code.immediate(pending))
    return sums


def finish(kernel: PtxKernel, op: FinishOp) -> list[SSAValue]:
    """Wait for all products; the registers of their sum."""
    if kernel.target.has("wgmma"):
        kernel.code.op("wgmma.wait_group.sync.aligned", kernel.code.immediate(0))
    return kernel.registers[op.input]


def _switches(plan: WgmmaPlan) -> list[int]:
    """Signs, which floats have; and whether columns go along rows, which two bytes may."""
    if plan.operands.result.name != "f32":
        return []
    signs = [1, 1]
    if plan.operands.a.storage.itemsize != 2:
        return signs
    return [*signs, 0, int(not plan.operands.b_transposed)]


def _layout(kernel: PtxKernel, tensor: SSAValue) -> SharedLayout:
    owner = tensor.owner
    assert isinstance(owner, SharedOp)
    return shared_layout(owner, kernel.threads)


def _group(kernel: PtxKernel, plan: WgmmaPlan) -> tuple[SSAValue | None, SSAValue | None]:
    """The number of the thread's group, down and across; across comes first."""
    code, (down, across) = kernel.code, plan.groups
    group = alike_in_warp(code, code.op("shr.u32", kernel.thread, GROUP.bit_length() - 1))
    if down == 1:
        return None, group if across > 1 else None
    if across == 1:
        return group, None
    return (
        code.op("shr.u32", group, across.bit_length() - 1),
        code.op("and.b32", group, across - 1),
    )


def _descriptor(
    kernel: PtxKernel,
    tensor: SSAValue,
    layout: SharedLayout,
    number: SSAValue | None,
    distance: int,
) -> SSAValue:
    """The descriptor of a block from `number` times `distance` bytes on."""
    code = kernel.code
    address = kernel.memories[tensor].base
    if number is not None:
        address = code.op("mad.lo.s32", number, distance, address)
    place = code.op("and.b32", code.op("shr.u32", address, 4), 0x3FFF)
    fixed = (
        layout.panel_bytes // UNIT_BYTES << 16
        | 8 * layout.pitch // UNIT_BYTES << 32
        | SPREAD[layout.pitch] << 62
    )
    signed = fixed - (1 << 64) if fixed >> 63 else fixed
    wide = code.op("cvt.u64.u32", place)
    return code.op("or.b64", wide, code.constant(signed, "b64"))


def _in_stage(
    kernel: PtxKernel, descriptor: SSAValue, layout: SharedLayout, stage: SSAValue | None
) -> SSAValue:
    if stage is None:
        return descriptor
    distance = kernel.code.op("mul.wide.u32", stage, layout.stage_bytes // UNIT_BYTES)
    return kernel.code.op("add.s64", descriptor, distance)


def _b_step(plan: WgmmaPlan, layout: SharedLayout) -> int:
    return STEP_BYTES if plan.operands.b_transposed else plan.step * layout.pitch


def _further(kernel: PtxKernel, descriptor: SSAValue, bytes: int) -> SSAValue:
    if not bytes:
        return descriptor
    distance = kernel.code.constant(bytes // UNIT_BYTES, "b64")
    return kernel.code.op("add.s64", descriptor, distance)
