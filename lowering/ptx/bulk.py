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
from typing import cast

from xdsl.ir import Block, Operation, SSAValue

from hectorite.dialects.tile_async import CopyOp
from hectorite.dialects.tile_bulk import (
    AwaitOp,
    BarrierObjects,
    BarrierObjectsOp,
    ExpectOp,
    ReleaseOp,
)
from hectorite.lowering.gpu.tile_layouts import known_index
from hectorite.lowering.ptx.kernel import WARP, PtxKernel
from hectorite.lowering.ptx.writer import At, PtxCode

OBJECT_BYTES = 8
ALL_LANES = -1
BULK_COPY = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"


class Objects:
    """Barrier objects of a kernel: their address, and what is known of code that one thread does:
    whether a warp is the first of its task (None: it is alone), and the last such code, the block
    it ends in, its thread's predicate, and the block after it."""

    def __init__(self, kernel: PtxKernel, count: int):
        self.kernel = kernel
        self.base = kernel.shared(OBJECT_BYTES * count)
        self.first = _first_warp(kernel)
        self.inner: Block | None = None
        self.after: Block | None = None
        self.one: SSAValue | None = None

    def once(self, write: Callable[[SSAValue], None]) -> None:
        """Code for one thread, with a predicate that holds for it. It joins the last such code if
        nothing has come since."""
        code = self.kernel.code
        if self.first is None:
            write(code.op("elect.sync", ALL_LANES)[1])
        elif self.after is code.block and code.block.first_op is None:
            self._join(write)
        else:
            code.when(self.first, lambda: self._begin(write))
            self.after = code.block

    def _begin(self, write: Callable[[SSAValue], None]) -> tuple[()]:
        code = self.kernel.code
        self.one = code.op("elect.sync", ALL_LANES)[1]
        write(cast(SSAValue, self.one))
        self.inner = code.block
        return ()

    def _join(self, write: Callable[[SSAValue], None]) -> None:
        code, after = self.kernel.code, cast(Block, self.after)
        code.block = cast(Block, self.inner)
        branch = cast(Operation, code.block.last_op)
        branch.detach()
        write(cast(SSAValue, self.one))
        code.block.add_op(branch)
        self.inner, code.block = code.block, after


def prepare(kernel: PtxKernel, op: BarrierObjectsOp) -> None:
    """Reserve their memory, where the kernel starts."""
    kernel.prepared[op] = Objects(kernel, _count(op))


def objects(kernel: PtxKernel, op: BarrierObjectsOp) -> list[SSAValue]:
    """Begin objects; their address. Copies and all threads see them as they begin."""
    code, found = kernel.code, _objects(kernel, op.result)

    def begin(one: SSAValue) -> None:
        for number in range(_count(op)):
            place = At(found.base, OBJECT_BYTES * number)
            code.op("mbarrier.init.shared.b64", place, code.immediate(1), guard=one)
        code.op("fence.mbarrier_init.release.cluster")

    found.once(begin)
    code.op("fence.proxy.async.shared::cta")
    kernel.barrier()
    return [found.base]


def expect(kernel: PtxKernel, op: ExpectOp) -> None:
    """One thread arrives, and says how many bytes come in this phase."""
    code = kernel.code

    def arrive(one: SSAValue) -> None:
        bytes, unused = code.immediate(op.count), code.constant(0, "b64")
        place = object_at(kernel, op.objects, op.number)
        arrival = "mbarrier.arrive.expect_tx.shared.b64"
        code.op(arrival, place, bytes, guard=one, otherwise=[unused])

    _objects(kernel, op.objects).once(arrive)


def wait(kernel: PtxKernel, op: AwaitOp) -> None:
    """All threads look at an object until its phase has ended."""
    code, place = kernel.code, object_at(kernel, op.objects, op.number)
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
    found = _objects(kernel, op.objects)

    def end(one: SSAValue) -> None:
        for number in range(cast(BarrierObjects, op.objects.type).data):
            place = At(found.base, OBJECT_BYTES * number)
            kernel.code.op("mbarrier.inval.shared.b64", place, guard=one)

    found.once(end)


def once_for(kernel: PtxKernel, op: CopyOp, write: Callable[[SSAValue], None]) -> None:
    """The code of a copy that one thread does."""
    _objects(kernel, op.told[0]).once(write)


def copy_piece(
    kernel: PtxKernel, op: CopyOp, target: At, source: At, bytes: int, guard: SSAValue | None
) -> None:
    """One stretch of bytes, by the threads for which `guard` holds; None: by all."""
    told = object_at(kernel, op.told[0], op.told[1])
    kernel.code.op(BULK_COPY, target, source, kernel.code.immediate(bytes), told, guard=guard)


def _count(op: BarrierObjectsOp) -> int:
    return op.result.type.data


def _objects(kernel: PtxKernel, objects: SSAValue) -> Objects:
    return kernel.prepared[cast(Operation, objects.owner)]


def object_at(kernel: PtxKernel, objects: SSAValue, number: SSAValue) -> At:
    """The address of one object."""
    base, known = _objects(kernel, objects).base, known_index(number)
    if known is not None:
        return At(base, OBJECT_BYTES * known)
    return At(kernel.code.op("mad.lo.s32", kernel.value(number), OBJECT_BYTES, base))


def _first_warp(kernel: PtxKernel) -> SSAValue | None:
    """Whether a warp is the first of its task; None if a task has but one."""
    if kernel.threads <= WARP:
        return None
    warp = kernel.code.op("shr.u32", kernel.thread, WARP.bit_length() - 1)
    return kernel.code.op("setp.eq.s32", alike_in_warp(kernel.code, warp), 0)


def alike_in_warp(code: PtxCode, value: SSAValue) -> SSAValue:
    """A number (b32) that is the same in all lanes of a warp, told so to the assembler: it then
    computes with it once for all."""
    return code.op("shfl.sync.idx.b32", value, 0, WARP - 1, ALL_LANES)
