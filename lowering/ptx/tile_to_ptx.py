"""Kernels of the tile level as kernels of the `ptx` dialect.

Enters: tile IR with layouts and barriers, and a target. Leaves: a module with one `ptx.kernel` for
each `tile.kernel`, of the same name; what a launch needs to know of each is its `LaunchShape`.

    %v = tile.load %x[%i, %0] axis 1 : ... -> vector<64xf32> {layout = [64] threads 32:[2] registers 2:[1]}
        %a = ptx.mad "wide.s32" %lane, 4, %x          where the thread's first element of row 0 is
        %b = ptx.mad "wide.s32" %i, 256, %a           ... of row i
        %v0, %v1 = ptx.ld "global.nc.v2.f32" [%b]

Each operation becomes what the function beside its name in `_LOWERINGS` emits; the other files
of this folder hold those that need more than a few lines.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.dialects import scf
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Block, Operation, Region, SSAValue

from hectorite.dialects.ptx import KernelOp as PtxKernelOp
from hectorite.dialects.tile import (
    EndOp,
    KernelOp,
    LanesOp,
    LocalOp,
    PrefetchOp,
    ProductOp,
    ReduceOp,
    SizeOp,
    SplatOp,
)
from hectorite.dialects.tile_async import CommitOp, CopyOp, FinishOp, SharedOp, WaitOp
from hectorite.dialects.tile_bulk import AwaitOp, BarrierObjectsOp, ExpectOp, ReleaseOp
from hectorite.dialects.tile_layout import AtOp, BarrierOp, ConvertOp
from hectorite.dialects.tile_memory import ElementAccess, LoadOp, StoreOp
from hectorite.ir.diagnostics import fail
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.ptx.origin import Origin, origin_comment
from hectorite.ir.scalar import CastOp, ConstantOp, ScalarOp, scalar_type
from hectorite.ir.target import Target
from hectorite.lowering.gpu.shared_layout import shared_alignment, shared_layout
from hectorite.lowering.gpu.tile_layouts import yielded
from hectorite.lowering.ptx import access as ptx_access
from hectorite.lowering.ptx import bulk as ptx_bulk
from hectorite.lowering.ptx import copies as ptx_copy
from hectorite.lowering.ptx import exchange as ptx_exchange
from hectorite.lowering.ptx import loop as ptx_loop
from hectorite.lowering.ptx import product as ptx_product
from hectorite.lowering.ptx import product_wgmma as ptx_product_wgmma
from hectorite.lowering.ptx.arithmetic import apply
from hectorite.lowering.ptx.convert import constant, convert
from hectorite.lowering.ptx.fuse import fused_operands, is_fused_away, multiply_add
from hectorite.lowering.ptx.kernel import STATIC_SHARED, PtxKernel, block_threads

Lowering = Callable[[PtxKernel, Any], Sequence[SSAValue] | None]


@dataclass(frozen=True)
class LaunchShape:
    """How a kernel is launched: threads of a block, tasks of a block, dynamic shared bytes."""

    block: int
    per_block: int
    shared: int


def tile_to_ptx(module: ModuleOp, target: Target) -> tuple[ModuleOp, Mapping[str, LaunchShape]]:
    """The kernels of a module in the `ptx` dialect, and how each is launched.

    Raises `HectoriteError` for what the target has no code for.
    """
    kernels: list[Operation] = []
    shapes: dict[str, LaunchShape] = {}
    for op in module.ops:
        if isinstance(op, KernelOp):
            kernel, shape = lower_kernel(op, target)
            kernels.append(kernel)
            shapes[op.sym_name.data] = shape
    return ModuleOp(kernels, {"ptx.target": StringAttr(target.name)}), shapes


def lower_kernel(op: KernelOp, target: Target) -> tuple[PtxKernelOp, LaunchShape]:
    """One kernel. Shared memory beyond what a kernel may declare is given by the launch."""
    state = _lowered(op, target, dynamic=False)
    if state.shared_bytes > STATIC_SHARED:
        state = _lowered(op, target, dynamic=True)
    dynamic = state.shared_bytes if state.dynamic else 0
    limit = target.shared_per_block
    if dynamic > limit:
        raise fail(
            f"@{op.sym_name.data} needs {dynamic} bytes of shared memory in each block",
            expected=f"at most {limit}, which {target.name} has",
            hint="smaller tiles or fewer stages need less",
        )
    shape = LaunchShape(block_threads(state.threads), state.per_block, dynamic)
    kernel = state.code.finish()
    if (resident := ptx_product.resident(state)) is not None:
        kernel.properties["resident"] = IntegerAttr(resident, 64)
    return kernel, shape


def _lowered(op: KernelOp, target: Target, dynamic: bool) -> PtxKernel:
    state = PtxKernel(op, target, dynamic)
    _prepare(state)

    def body() -> Sequence[SSAValue]:
        lower_block(state, op.body.block)
        return ()

    if state.per_block == 1:
        body()
    else:  # tasks that are too many leave the block whole, so that no barrier waits for them
        state.code.when(state.code.op("setp.lt.s32", state.task, state.tasks), body)
    return state


def _prepare(state: PtxKernel) -> None:
    """What is needed everywhere: places of threads in layouts, local and scratch memory."""
    scratch = 0
    for op in state.kernel.walk():
        if isinstance(op, SharedOp):
            bytes = shared_layout(op, state.threads).bytes
            base = state.shared(bytes, shared_alignment(op, state.threads))
            state.memories[op.result] = state.memory(op.result, "shared", base)
        elif isinstance(op, CopyOp):
            ptx_copy.prepare(state, op)
        elif isinstance(op, BarrierObjectsOp):
            ptx_bulk.prepare(state, op)
        elif isinstance(op, ProductOp):
            ptx_product.prepare(state, op)
        elif isinstance(op, LocalOp):
            type = op.result.type
            bytes = type.element_type.storage.itemsize
            for extent in type.dims:
                bytes *= cast(int, extent)
            state.memories[op.result] = state.memory(op.result, "shared", state.shared(bytes))
        elif isinstance(op, ReduceOp | ConvertOp):
            scratch = max(scratch, ptx_exchange.scratch_bytes(state, op))
        elif isinstance(op, ElementAccess):
            state.prepare(state.layout(op.value if isinstance(op, StoreOp) else op.results[0]))
    state.reserve_scratch(scratch)


def lower_block(state: PtxKernel, block: Block) -> list[SSAValue]:
    """Lower the operations of a block; the registers of what its terminator passes on."""
    for op in block.ops:
        if not isinstance(op, EndOp | scf.YieldOp):
            lower_operation(state, op)
    return state.flat(yielded(block))


def lower_operation(state: PtxKernel, op: Operation) -> None:
    """Lower one operation: give its results their registers."""
    if isinstance(op, ScalarOp):
        values = _scalar(state, op)
    elif type(op) in _LOWERINGS:
        values = _LOWERINGS[type(op)](state, op)
    else:
        raise fail(f"there is no PTX for {op.name}", expected="scf, scalar or tile operations")
    if values is not None:
        state.define(op.results, values)


def _element(value: SSAValue) -> ElementType:
    return element_of(scalar_type(value.type))


def _constant(state: PtxKernel, op: ConstantOp) -> Sequence[SSAValue]:
    value = constant(state.code, op.number, _element(op.result))
    return [value] * state.count(op.result)


def _cast(state: PtxKernel, op: CastOp) -> Sequence[SSAValue]:
    source, target = _element(op.input), _element(op.result)
    return [convert(state.code, value, source, target) for value in state.registers[op.input]]


def _scalar(state: PtxKernel, op: ScalarOp) -> Sequence[SSAValue] | None:
    element, name = _element(op.operands[-1]), op.FUNCTION.name
    if is_fused_away(op):
        return None
    if (fused := fused_operands(op)) is not None:
        a, b, c = (state.registers[operand] for operand in fused)
        triples = zip(a, b, c, strict=True)
        return [multiply_add(state.code, x, y, z, element) for x, y, z in triples]
    columns = zip(*(state.registers[operand] for operand in op.operands), strict=True)
    return [apply(state.code, name, element, values) for values in columns]


def _size(state: PtxKernel, op: SizeOp) -> Sequence[SSAValue]:
    return [state.sizes[op.of.data]]


def _splat(state: PtxKernel, op: SplatOp) -> Sequence[SSAValue]:
    return [state.value(op.input)] * state.count(op.result)


def _lanes(state: PtxKernel, op: LanesOp) -> Sequence[SSAValue]:
    layout = state.layout(op.result)
    (place,) = state.place(layout)
    values: list[SSAValue] = []
    for register in range(layout.register_count):
        (offset,) = layout.offset(register)
        if place is None:
            values.append(state.code.constant(offset))
        else:
            values.append(state.code.op("add.s32", place, offset) if offset else place)
    return values


def _nothing(state: PtxKernel, op: Operation) -> None:
    return None


def _barrier(state: PtxKernel, op: BarrierOp) -> None:
    state.barrier()


def _at(state: PtxKernel, op: AtOp) -> None:
    state.code.comment(origin_comment(Origin(op.statement.data)).removeprefix("// "))


def _for(state: PtxKernel, op: scf.ForOp) -> Sequence[SSAValue]:
    return ptx_loop.loop(state, op, lower_block)


def _if(state: PtxKernel, op: scf.IfOp) -> Sequence[SSAValue]:
    def arm(region: Region) -> Callable[[], list[SSAValue]] | None:
        return (lambda: lower_block(state, region.block)) if region.blocks else None

    then = arm(op.true_region)
    assert then is not None, "a branch has a first arm"
    return state.code.when(state.value(op.cond), then, arm(op.false_region))


_LOWERINGS: dict[type[Operation], Lowering] = {
    ConstantOp: _constant,
    CastOp: _cast,
    SizeOp: _size,
    SplatOp: _splat,
    LanesOp: _lanes,
    LocalOp: _nothing,
    SharedOp: _nothing,
    PrefetchOp: _nothing,
    BarrierOp: _barrier,
    AtOp: _at,
    LoadOp: ptx_access.load,
    StoreOp: ptx_access.store,
    ReduceOp: ptx_exchange.reduce,
    ConvertOp: ptx_exchange.convert,
    ProductOp: ptx_product.product,
    CopyOp: ptx_copy.copy,
    CommitOp: ptx_copy.commit,
    WaitOp: ptx_copy.wait,
    FinishOp: ptx_product_wgmma.finish,
    BarrierObjectsOp: ptx_bulk.objects,
    ExpectOp: ptx_bulk.expect,
    AwaitOp: ptx_bulk.wait,
    ReleaseOp: ptx_bulk.release,
    scf.ForOp: _for,
    scf.IfOp: _if,
}
"""How each operation of a kernel becomes PTX."""
