"""Barrier objects, and waiting for the bulk copies that tell them, as PTX.

Enters: the operations of `dialects/tile_bulk.py`. Leaves: `mbarrier` instructions on 8 bytes of
shared memory for each object. One thread of the task's first warp begins and ends objects and says
what to expect; it is the one arrival of each phase. All threads wait, looking again until the phase
ended.

That thread is the one that `elect.sync` names, behind a branch that whole warps take: so the
assembler knows that there is one, where it would write a loop over the lanes of a warp.

    again: mbarrier.try_wait.parity.shared.b64 %done, [%object], %phase;  @!%done bra again;
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from xdsl.ir import Block, SSAValue

from hectorite.dialects.tile_async import CopyOp
from hectorite.dialects.tile_bulk import (
    AwaitOp,
    BarrierObjects,
    BarrierObjectsOp,
    ExpectOp,
    ReleaseOp,
)
from hectorite.lowering.ptx_code import At
from hectorite.lowering.ptx_kernel import WARP, PtxKernel
from hectorite.lowering.tile_layouts import known_index

OBJECT_BYTES = 8
ALL_LANES = -1
BULK_COPY = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"


@dataclass(frozen=True)
class Piece:
    """One stretch of bytes: to where in shared memory, from where."""

    target: At
    source: At
    bytes: int


def prepare(kernel: PtxKernel, op: BarrierObjectsOp) -> None:
    """Reserve their memory, where the kernel starts."""
    kernel.prepared[op] = kernel.shared(OBJECT_BYTES * _count(op)), _first_warp(kernel)


def objects(kernel: PtxKernel, op: BarrierObjectsOp) -> list[SSAValue]:
    """Begin objects; their address. Copies and all threads see them as they begin."""
    code, base = kernel.code, kernel.prepared[op][0]

    def begin(one: SSAValue) -> None:
        for number in range(_count(op)):
            place = At(base, OBJECT_BYTES * number)
            code.op("mbarrier.init.shared.b64", place, code.immediate(1), guard=one)
        code.op("fence.mbarrier_init.release.cluster")

    _once(kernel, op.result, begin)
    code.op("fence.proxy.async.shared::cta")
    kernel.barrier()
    return [base]


def expect(kernel: PtxKernel, op: ExpectOp) -> None:
    """The first thread arrives, and says how many bytes come in this phase."""
    code, place = kernel.code, _object(kernel, op.objects, op.number)

    def arrive(one: SSAValue) -> None:
        bytes, unused = code.immediate(op.count), code.constant(0, "b64")
        arrival = "mbarrier.arrive.expect_tx.shared.b64"
        code.op(arrival, place, bytes, guard=one, otherwise=[unused])

    _once(kernel, op.objects, arrive)


def wait(kernel: PtxKernel, op: AwaitOp) -> None:
    """All threads look at an object until its phase has ended."""
    code, place = kernel.code, _object(kernel, op.objects, op.number)
    phase = kernel.value(op.phase)
    look, after = Block(), Block()
    code.region.add_block(look)
    code.jump(look)
    done = code.op("mbarrier.try_wait.parity.shared.b64", place, phase)
    code.branch(done, after, (), look, ())
    code.region.add_block(after)
    code.block = after


def release(kernel: PtxKernel, op: ReleaseOp) -> None:
    """End objects, so that others may begin in their memory."""
    base = kernel.value(op.objects)

    def end(one: SSAValue) -> None:
        for number in range(cast(BarrierObjects, op.objects.type).data):
            place = At(base, OBJECT_BYTES * number)
            kernel.code.op("mbarrier.inval.shared.b64", place, guard=one)

    _once(kernel, op.objects, end)


def copy_block(kernel: PtxKernel, op: CopyOp, piece: Piece) -> None:
    """A whole block, by one thread of the task."""
    told = _object(kernel, *op.told)
    _once(kernel, op.told[0], lambda one: _ask(kernel, piece, told, one))


def copy_row(kernel: PtxKernel, op: CopyOp, piece: Piece, guard: SSAValue | None) -> None:
    """A row for each thread for which `guard` holds; None: for all."""
    _ask(kernel, piece, _object(kernel, *op.told), guard)


def _ask(kernel: PtxKernel, piece: Piece, told: At, guard: SSAValue | None) -> None:
    bytes = kernel.code.immediate(piece.bytes)
    kernel.code.op(BULK_COPY, piece.target, piece.source, bytes, told, guard=guard)


def _count(op: BarrierObjectsOp) -> int:
    return cast(BarrierObjects, op.result.type).data


def _object(kernel: PtxKernel, objects: SSAValue, number: SSAValue) -> At:
    base, known = kernel.value(objects), known_index(number)
    if known is not None:
        return At(base, OBJECT_BYTES * known)
    return At(kernel.code.op("mad.lo.s32", kernel.value(number), OBJECT_BYTES, base))


def _first_warp(kernel: PtxKernel) -> SSAValue | None:
    """Whether a warp is the first of its task, a number that the assembler knows to be alike in all
    its lanes; None if a task has but one."""
    if kernel.threads <= WARP:
        return None
    warp = kernel.code.op("shr.u32", kernel.thread, WARP.bit_length() - 1)
    warp = kernel.code.op("shfl.sync.idx.b32", warp, 0, WARP - 1, ALL_LANES)
    return kernel.code.op("setp.eq.s32", warp, 0)


def _once(kernel: PtxKernel, objects: SSAValue, write: Callable[[SSAValue], None]) -> None:
    """Code for the first warp of the task, with a predicate that holds in one of its lanes."""
    code = kernel.code
    first = kernel.prepared[objects.owner][1]

    def body() -> tuple[()]:
        write(code.op("elect.sync", ALL_LANES)[1])
        return ()

    if first is None:
        body()
    else:
        code.when(first, body)
