"""Values that threads of a task pass to each other: reductions, and tiles that change their layout.

Enters: registers and the layout they are in. Leaves: registers. Threads of one warp pass values by
shuffles; through shared memory they go where a tile changes its layout, and between warps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdsl.ir import SSAValue

from hectorite.dialects.ptx_instruction import kind_of
from hectorite.dialects.tile import ReduceOp
from hectorite.dialects.tile_layout import ConvertOp
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.layout import Layout
from hectorite.ir.scalar import scalar_type
from hectorite.lowering.ptx.access import both, select
from hectorite.lowering.ptx.arithmetic import apply
from hectorite.lowering.ptx.convert import constant
from hectorite.lowering.ptx.kernel import WARP, PtxKernel
from hectorite.lowering.ptx.writer import At

BYTES = {"pred": 4, "b16": 2, "b32": 4, "f32": 4, "b64": 8, "f64": 8}
"""What a register takes in scratch memory."""

EVERYONE = -1
"""The mask of all threads of a warp."""


def reduce(kernel: PtxKernel, op: ReduceOp) -> list[SSAValue]:
    """All elements of a tile combined, in every thread: those of a thread in pairs, then those of
    threads far apart before those close by, then the warps in order."""
    element = element_of(op.result.type)
    name = op.kind.data

    def combine(a: SSAValue, b: SSAValue) -> SSAValue:
        return apply(kernel.code, name, element, [a, b])

    values = list(_counted(kernel, op, element))
    while len(values) > 1:
        half = (len(values) + 1) // 2
        pairs = zip(values, values[half:], strict=False)
        values = [combine(a, b) for a, b in pairs] + values[len(values) - half : half]
    total = values[0]
    layout = kernel.layout(op.input)
    moving = [bit for bit, moves in enumerate(_thread_bits(layout)) if moves]
    for bit in reversed([bit for bit in moving if 1 << bit < WARP]):
        total = combine(total, shuffled(kernel, total, 1 << bit))
    beyond = [bit for bit in moving if 1 << bit >= WARP]
    if not beyond:
        return [total]
    parts = _of_warps(kernel, total)
    repeated = ~sum(1 << bit for bit in beyond)
    first, *others = [warp for warp in range(len(parts)) if not warp * WARP & repeated]
    total = parts[first]
    for warp in others:
        total = combine(total, parts[warp])
    return [total]


def _counted(kernel: PtxKernel, op: ReduceOp, element: ElementType) -> Iterator[SSAValue]:
    """The registers of the tile; a neutral number for those that do not count."""
    code, layout = kernel.code, kernel.layout(op.input)
    (place,) = kernel.place(layout)
    for number, register in enumerate(kernel.registers[op.input]):
        (offset,) = layout.offset(number)
        at = code.constant(offset) if place is None else place
        if place is not None and offset:
            at = code.op("add.s32", place, offset)
        counts: SSAValue | None = None
        if not layout.always_inside(number):
            counts = code.op("setp.lt.s32", at, layout.shape[0])
        if op.valid is not None:
            counts = both(kernel, counts, code.op("setp.lt.s32", at, kernel.value(op.valid)))
        if counts is not None:
            neutral = constant(code, element.identity(op.kind.data), element)
            register = select(kernel, counts, register, neutral)
        yield register


def shuffled(kernel: PtxKernel, value: SSAValue, mask: int) -> SSAValue:
    """The register of the thread whose number in the warp differs by the bits of a mask."""
    code, kind = kernel.code, kind_of(value)
    if kind in ("b64", "f64"):
        low, high = code.op("mov.b64", value, results=("b32", "b32"))
        parts = [shuffled(kernel, part, mask) for part in (low, high)]
        return code.op("mov.b64", parts, results=(kind,))
    if kind in ("b16", "pred"):
        other = shuffled(kernel, to_word(kernel, value), mask)
        return from_word(kernel, other, kind)
    return code.op("shfl.sync.bfly.b32", value, mask, 31, EVERYONE, results=(kind,))


def to_word(kernel: PtxKernel, value: SSAValue) -> SSAValue:
    """A predicate or 16 bits as 32 bits; anything else itself."""
    code, kind = kernel.code, kind_of(value)
    if kind == "pred":
        return code.op("selp.b32", 1, 0, value)
    return code.op("cvt.u32.u16", value) if kind == "b16" else value


def from_word(kernel: PtxKernel, word: SSAValue, kind: str) -> SSAValue:
    """The inverse of `to_word`."""
    if kind == "pred":
        return kernel.code.op("setp.ne.s32", word, 0)
    return kernel.code.op("cvt.u16.u32", word) if kind == "b16" else word


def _thread_bits(layout: Layout) -> list[bool]:
    """For each bit of the thread's number, whether it moves through the tile."""
    return [digit.moves for digit in layout.threads for _ in range(digit.count.bit_length() - 1)]


def _of_warps(kernel: PtxKernel, value: SSAValue) -> list[SSAValue]:
    """The value of the first thread of every warp of the task, in every thread."""
    code, kind = kernel.code, kind_of(value)
    size, stored = max(4, BYTES[kind]), _stored(kind)
    warp = code.op("shr.u32", kernel.thread, WARP.bit_length() - 1)
    place = code.op("mad.lo.s32", warp, size, kernel.scratch)
    leads = code.op("setp.eq.s32", code.op("and.b32", kernel.thread, WARP - 1), 0)
    kernel.barrier()
    code.op(f"st.shared.{stored}", At(place), to_word(kernel, value), guard=leads)
    kernel.barrier()
    words = [
        code.op(f"ld.shared.{stored}", At(kernel.scratch, warp * size))
        for warp in range(kernel.threads // WARP)
    ]
    return [from_word(kernel, word, kind) for word in words]


def _stored(kind: str) -> str:
    """The type in which a register passes through shared memory."""
    return "b32" if kind in ("pred", "b16") else kind


def scratch_bytes(kernel: PtxKernel, op: ReduceOp | ConvertOp) -> int:
    """The scratch memory that a reduction or a conversion needs."""
    size = 8 if element_of_tile(op.input).storage.itemsize == 8 else 4
    if isinstance(op, ReduceOp):
        bits = _thread_bits(kernel.layout(op.input))
        return size * kernel.threads // WARP if any(bits[WARP.bit_length() - 1 :]) else 0
    count = 1
    for extent in kernel.layout(op.input).shape:
        count *= extent
    return size * count


def element_of_tile(value: SSAValue) -> ElementType:
    """The element type of a tile."""
    return element_of(scalar_type(value.type))


def convert(kernel: PtxKernel, op: ConvertOp) -> list[SSAValue]:
    """A tile in another layout, through shared memory."""
    before, after = kernel.layout(op.input), kernel.layout(op.result)
    registers = kernel.registers[op.input]
    kind = kind_of(registers[0])
    size, stored = max(4, BYTES[kind]), _stored(kind)
    kernel.barrier()
    chosen = kernel.copy(before)
    for number, at, inside in _scratch_places(kernel, before, size):
        guard = both(kernel, inside, chosen)
        word = to_word(kernel, registers[number])
        kernel.code.op(f"st.shared.{stored}", at, word, guard=guard)
    kernel.barrier()
    values: list[SSAValue] = []
    for _, at, inside in _scratch_places(kernel, after, size):
        zero = kernel.code.constant(0, stored)
        otherwise: Sequence[SSAValue] = () if inside is None else [zero]
        word = kernel.code.op(f"ld.shared.{stored}", at, guard=inside, otherwise=otherwise)
        values.append(from_word(kernel, word, kind))
    return values


def _scratch_places(
    kernel: PtxKernel, layout: Layout, size: int
) -> Iterator[tuple[int, At, SSAValue | None]]:
    """For each register: where its element lies in scratch memory, row major, and whether it is
    one (None: always)."""
    code = kernel.code
    strides = [size]
    for extent in reversed(layout.shape[1:]):
        strides.insert(0, strides[0] * extent)
    base = kernel.scratch
    place = kernel.place(layout)
    for first, stride in zip(place, strides, strict=True):
        if first is not None:
            base = code.op("mad.lo.s32", first, stride, base)
    for register in range(layout.register_count):
        offset = layout.offset(register)
        inside: SSAValue | None = None
        for dim, first in enumerate(place):
            if not layout.always_inside(register, dim):
                at = code.constant(offset[dim]) if first is None else first
                if first is not None and offset[dim]:
                    at = code.op("add.s32", first, offset[dim])
                inside = both(kernel, inside, code.op("setp.lt.s32", at, layout.shape[dim]))
        bytes = sum(a * b for a, b in zip(offset, strides, strict=True))
        yield register, At(base, bytes), inside
