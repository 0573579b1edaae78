"""Loads and stores of the `tile` dialect as LLVM instructions.

Enters: a tensor in memory, the positions that an access names, and which of its lanes count.
Leaves: one vector load or store where lanes lie side by side, else a gather or scatter; masked
where lanes may be left out. A lane that does not count never touches memory.

    memory = Memory(ELEMENTS["f32"], base, (n, 64), (64, 1))
    row = load(builder, memory, Lane.of([i, zero], axis=1), lanes=64)     # <64 x float>
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from hectorite.backends.cpu.conversion import from_storage, register_type, storage_type, to_storage
from hectorite.backends.cpu.lanes import I1, I8, I32, I64, constant, declare, suffix
from hectorite.backends.cpu.tiles import (
    clamped,
    is_vector,
    lane,
    lanes_below,
    numbered,
    splat,
)
from hectorite.ir.element import ElementType
from hectorite.ir.rounding import nearest

POINTER = ir.PointerType()
LINE_BYTES = 64
"""Bytes that one prefetch brings in: a cache line."""

Extent = int | ir.Value


@dataclass(frozen=True)
class Memory:
    """A tensor where a kernel finds it: the address of its first element, and extents and strides
    in elements. An extent of None is not known."""

    element: ElementType
    base: ir.Value
    dims: tuple[Extent | None, ...]
    strides: tuple[Extent, ...]

    @property
    def storage(self) -> ir.Type:
        return storage_type(self.element)

    @property
    def item_bytes(self) -> int:
        return self.element.storage.itemsize


@dataclass(frozen=True)
class Positions:
    """Which elements the lanes of a rank-1 tile (or the one of a scalar) stand for.

    `indices` has an i64, or a vector with one for each lane, for each dimension. Lane l is `l *
    step` further along dimension `axis`. With `pad`, lanes outside the tensor do not count; with
    `valid` (an i64), only those below it do.
    """

    indices: tuple[ir.Value, ...]
    axis: int | None = None
    step: int = 1
    pad: float | int | None = None
    valid: ir.Value | None = None

    @property
    def is_conditional(self) -> bool:
        return self.pad is not None or self.valid is not None


def load(builder: ir.IRBuilder, memory: Memory, at: Positions, lanes: int | None) -> ir.Value:
    """The elements at the positions, as kernels compute with them: `lanes` of them as a vector, or
    a number if that is None. Lanes that do not count are the pad value, or 0 without one."""
    if lanes is None or _is_uniform(memory, at):
        value = _load_one(builder, memory, at)
        return value if lanes is None else splat(builder, value, lanes)
    mask = _mask(builder, memory, at, lanes)
    pointer = address(builder, memory, at.indices, not at.is_conditional)
    type = ir.VectorType(memory.storage, lanes)
    kept = at.pad is not None and register_type(memory.element) == memory.storage
    pad = _pad(memory, at)
    instead = constant(type, pad if kept else 0)
    if not is_vector(pointer) and _is_contiguous(memory, at):
        if mask is None:
            stored = builder.load(pointer, align=memory.item_bytes, typ=type)
        else:
            stored = _masked(builder, "load", memory, type, [pointer, mask, instead])
    else:
        pointers = _lane_addresses(builder, memory, at, pointer, lanes)
        every = constant(ir.VectorType(I1, lanes), 1)
        stored = _masked(builder, "gather", memory, type, [pointers, mask or every, instead])
    value = from_storage(builder, stored, memory.element)
    if mask is None or kept or not at.pad:
        return value
    return builder.select(mask, value, constant(value.type, pad))


def store(builder: ir.IRBuilder, memory: Memory, at: Positions, value: ir.Value) -> None:
    """Write the lanes of `value` that count to the positions."""
    lanes = value.type.count if is_vector(value) else None
    if lanes is None or _is_uniform(memory, at):
        _store_one(builder, memory, at, lane(builder, value, 0))
        return
    mask = _mask(builder, memory, at, lanes)
    pointer = address(builder, memory, at.indices, not at.is_conditional)
    stored = to_storage(builder, value, memory.element)
    if not is_vector(pointer) and _is_contiguous(memory, at):
        if mask is None:
            builder.store(stored, pointer, align=memory.item_bytes)
        else:
            _masked(builder, "store", memory, None, [stored, pointer, mask])
        return
    pointers = _lane_addresses(builder, memory, at, pointer, lanes)
    every = constant(ir.VectorType(I1, lanes), 1)
    _masked(builder, "scatter", memory, None, [stored, pointers, mask or every])


def prefetch(
    builder: ir.IRBuilder, memory: Memory, indices: Sequence[ir.Value], count: int
) -> None:
    """Ask for the lines of `count` elements from a position on; it may lie outside the tensor."""
    start = address(builder, memory, indices, False)
    kind = [POINTER, I32, I32, I32]
    function = declare(builder.module, "llvm.prefetch.p0", ir.VoidType(), kind)
    read, keep, data = (ir.Constant(I32, number) for number in (0, 3, 1))
    for offset in range(0, count * memory.item_bytes, LINE_BYTES):
        line = builder.gep(start, [ir.Constant(I64, offset)], source_etype=I8)
        builder.call(function, [line, read, keep, data])


def address(
    builder: ir.IRBuilder, memory: Memory, indices: Sequence[ir.Value], inbounds: bool
) -> ir.Value:
    """The address of an element; a vector of addresses if an index is one. With `inbounds`, the
    element is known to exist."""
    pointer = memory.base
    # The scalar part comes first: it is one address for all lanes.
    for vectors in (False, True):
        total: ir.Value | None = None
        for index, stride in zip(indices, memory.strides, strict=True):
            if is_vector(index) == vectors:
                part = scaled(builder, index, stride)
                total = part if total is None else builder.add(total, part, flags=("nsw",))
        if total is not None and not _is_zero(total):
            pointer = step(builder, pointer, total, memory.storage, inbounds)
    return pointer


def step(
    builder: ir.IRBuilder, pointer: ir.Value, offset: ir.Value, item: ir.Type, inbounds: bool
) -> ir.Value:
    """The address `offset` items further on; either may be a vector."""
    moved = builder.gep(pointer, [offset], inbounds=inbounds, source_etype=item)
    if is_vector(offset):
        moved.type = ir.VectorType(POINTER, offset.type.count)
    return moved


def scaled(builder: ir.IRBuilder, index: ir.Value, stride: Extent) -> ir.Value:
    """index * stride."""
    if isinstance(stride, int):
        if stride == 1:
            return index
        if isinstance(index, ir.Constant) and isinstance(index.constant, int):
            return ir.Constant(index.type, index.constant * stride)
        return builder.mul(index, constant(index.type, stride), flags=("nsw",))
    if is_vector(index):
        stride = splat(builder, stride, index.type.count)
    return builder.mul(index, stride, flags=("nsw",))


def _is_zero(value: ir.Value) -> bool:
    return isinstance(value, ir.Constant) and value.constant == 0


def _lane_stride(memory: Memory, at: Positions) -> Extent:
    """How many elements lie between a lane and the next, as the axis has it; 0 without an axis."""
    if at.axis is None or at.step == 0:
        return 0
    stride = memory.strides[at.axis]
    return stride * at.step if isinstance(stride, int) else stride


def _is_contiguous(memory: Memory, at: Positions) -> bool:
    stride = _lane_stride(memory, at)
    return isinstance(stride, int) and stride == 1


def _is_uniform(memory: Memory, at: Positions) -> bool:
    """Whether all lanes stand for the same element."""
    stride = _lane_stride(memory, at)
    return isinstance(stride, int) and stride == 0 and not any(map(is_vector, at.indices))


def _lane_addresses(
    builder: ir.IRBuilder, memory: Memory, at: Positions, pointer: ir.Value, lanes: int
) -> ir.Value:
    stride = _lane_stride(memory, at)
    if isinstance(stride, int):
        if stride == 0:
            return pointer
        numbers = [number * stride for number in range(lanes)]
        offsets: ir.Value = ir.Constant(ir.VectorType(I64, lanes), numbers)
    else:
        steps = [number * at.step for number in range(lanes)]
        offsets = scaled(builder, ir.Constant(ir.VectorType(I64, lanes), steps), stride)
    return step(builder, pointer, offsets, memory.storage, not at.is_conditional)


def _masked(
    builder: ir.IRBuilder,
    operation: str,
    memory: Memory,
    result: ir.VectorType | None,
    operands: Sequence[ir.Value],
) -> ir.Value:
    """Call one of LLVM's masked memory intrinsics."""
    place = 0 if result is not None else 1
    type = result or operands[0].type
    many = f"v{type.count}" if operation in ("gather", "scatter") else ""
    name = f"llvm.masked.{operation}.{suffix(type)}.{many}p0"
    kinds = [operand.type for operand in operands]
    function = declare(builder.module, name, result or ir.VoidType(), kinds)
    call = builder.call(function, operands, arg_attrs={place: ()})
    call.arg_attributes[place].align = memory.item_bytes
    return call


def _load_one(builder: ir.IRBuilder, memory: Memory, at: Positions) -> ir.Value:
    condition = _condition(builder, memory, at)

    def read() -> ir.Value:
        pointer = address(builder, memory, at.indices, True)
        stored = builder.load(pointer, align=memory.item_bytes, typ=memory.storage)
        return from_storage(builder, stored, memory.element)

    if condition is None:
        return read()
    before = builder.block
    with builder.if_then(condition):
        value = read()
        inside = builder.block
    result = builder.phi(value.type)
    result.add_incoming(value, inside)
    result.add_incoming(constant(value.type, _pad(memory, at)), before)
    return result


def _store_one(builder: ir.IRBuilder, memory: Memory, at: Positions, value: ir.Value) -> None:
    condition = _condition(builder, memory, at)
    if condition is not None:
        with builder.if_then(condition):
            _store_one(builder, memory, Positions(at.indices), value)
        return
    pointer = address(builder, memory, at.indices, True)
    builder.store(to_storage(builder, value, memory.element), pointer, align=memory.item_bytes)


def _pad(memory: Memory, at: Positions) -> float | int:
    """What lanes outside the tensor are: the pad as a value of the element type, or 0."""
    return nearest(at.pad or 0, memory.element)


def _condition(builder: ir.IRBuilder, memory: Memory, at: Positions) -> ir.Value | None:
    """Whether the one element of a scalar access counts; None if it does."""
    conditions: list[ir.Value] = []
    if at.valid is not None:
        conditions.append(builder.icmp_signed(">", at.valid, ir.Constant(I64, 0)))
    if at.pad is not None:
        for index, extent in zip(at.indices, memory.dims, strict=True):
            conditions.append(_inside(builder, index, extent))
    return _all(builder, conditions)


def _mask(builder: ir.IRBuilder, memory: Memory, at: Positions, lanes: int) -> ir.Value | None:
    """Which lanes count; None if all do."""
    if not at.is_conditional:
        return None
    each: list[ir.Value] = []
    common: list[ir.Value] = []
    stop = ir.Constant(I64, lanes) if at.valid is None else at.valid
    if at.pad is not None:
        for number, (index, extent) in enumerate(zip(at.indices, memory.dims, strict=True)):
            moving = number == at.axis and at.step != 0
            if moving and at.step == 1 and not is_vector(index):
                start = clamped(builder, builder.neg(index), lanes)
                each.append(
                    builder.icmp_signed(">=", numbered(I32, lanes), splat(builder, start, lanes))
                )
                left = builder.sub(_extent(extent), index)
                each.append(lanes_below(builder, left, lanes))
                continue
            if moving:
                index = index if is_vector(index) else splat(builder, index, lanes)
                steps = [at.step * number for number in range(lanes)]
                index = builder.add(index, ir.Constant(index.type, steps))
            condition = _inside(builder, index, extent)
            (each if is_vector(condition) else common).append(condition)
    together = _all(builder, common)
    if together is not None:
        stop = builder.select(together, stop, ir.Constant(I64, 0))
    if together is not None or at.valid is not None:
        each.append(lanes_below(builder, stop, lanes))
    return _all(builder, each)


def _inside(builder: ir.IRBuilder, index: ir.Value, extent: Extent | None) -> ir.Value:
    """Whether 0 <= index < extent."""
    limit = _extent(extent)
    if is_vector(index):
        limit = splat(builder, limit, index.type.count)
    return builder.icmp_unsigned("<", index, limit)


def _extent(extent: Extent | None) -> ir.Value:
    assert extent is not None, "a tensor whose extent is not known cannot be padded"
    return ir.Constant(I64, extent) if isinstance(extent, int) else extent


def _all(builder: ir.IRBuilder, conditions: Sequence[ir.Value]) -> ir.Value | None:
    total: ir.Value | None = None
    for condition in conditions:
        total = condition if total is None else builder.and_(total, condition)
    return total
