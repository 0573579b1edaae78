"""The state while one tile kernel becomes PTX: its threads, registers, memories and barriers.

Enters: an annotated `tile.kernel` and a target. Leaves, once an operation has been lowered: the
registers of its results. A scalar is one register, which all threads of a task hold alike; a tile
is the registers of its layout.

    parameters   in order: tensors as 64-bit addresses, numbers as registers of their kind, then a
                 b32 for each of `kernel_sizes`, then the number of tasks as a b32
    blocks       are `block_threads` wide; task = ctaid.x * tasks per block + tid.x / threads
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from xdsl.ir import Attribute, Operation, SSAValue

from hectorite.dialects.tile import KernelOp
from hectorite.ir.element import ElementType, element_of
from hectorite.ir.layout import Layout
from hectorite.ir.scalar import scalar_type
from hectorite.ir.space import TensorType
from hectorite.ir.target import Target
from hectorite.lowering.gpu.layouts import first_copy, first_place
from hectorite.lowering.gpu.tile_layouts import is_tile, lies, threads_of, written_memory
from hectorite.lowering.kernels.kernel_sizes import kernel_sizes
from hectorite.lowering.ptx.convert import register_type
from hectorite.lowering.ptx.writer import At, PtxCode

BLOCK_THREADS = 128
"""Tasks of fewer threads share a block of so many."""
STATIC_SHARED = 48 << 10
"""Bytes of shared memory that a kernel may declare; more is asked for by the launch."""
WARP = 32


@dataclass(frozen=True)
class Stride:
    """Bytes from an element to the next along a dimension: `value` (a b64) if that is set, and
    `factor`, a number that divides it, else just `factor`."""

    factor: int
    value: SSAValue | None = None


@dataclass(frozen=True)
class Memory:
    """A tensor where a kernel finds it. `base` is a b64 (global) or b32 (shared) address aligned to
    16 bytes; an extent is a number, a b32, or None for the one dimension of a list of any length;
    `constant` tells that no thread writes it while the kernel runs."""

    element: ElementType
    space: str
    base: SSAValue
    extents: tuple[int | SSAValue | None, ...]
    strides: tuple[Stride, ...]
    constant: bool

    @property
    def read_space(self) -> str:
        """The space as loads name it; what nobody writes comes through the read-only cache."""
        return "global.nc" if self.constant else self.space

    @property
    def item_bytes(self) -> int:
        return self.element.storage.itemsize


def block_threads(threads: int) -> int:
    """Threads of a block whose tasks take `threads` each."""
    return max(threads, BLOCK_THREADS)


class PtxKernel:
    """One kernel being written. `thread` is the number of the thread in its task, a b32, `task`
    the number of the task; `dynamic` puts all shared memory where the launch gives it. `prepared`
    is what copies and products have computed where the kernel starts."""

    def __init__(self, kernel: KernelOp, target: Target, dynamic: bool = False):
        self.kernel = kernel
        self.target = target
        self.dynamic = dynamic
        self.threads = threads_of(kernel)
        self.per_block = block_threads(self.threads) // self.threads
        self.written = written_memory(kernel)
        self.shared_bytes = 0
        self.registers: dict[SSAValue, list[SSAValue]] = {}
        self.memories: dict[SSAValue, Memory] = {}
        self.sizes: dict[str, SSAValue] = {}
        self.pointers: dict[Operation, At] = {}
        self.prepared: dict[Operation, Any] = {}
        self._scratch: tuple[int, SSAValue] | None = None
        self._places: dict[Layout, tuple[SSAValue | None, ...]] = {}
        self.code = self._start()

    # Parameters --------------------------------------------------------------------------------

    def _start(self) -> PtxCode:
        sizes = kernel_sizes(self.kernel)
        names = [p.name_hint or f"p{n}" for n, p in enumerate(self.kernel.parameters)]
        kinds = [_parameter_kind(p.type) for p in self.kernel.parameters]
        code = PtxCode.kernel(
            self.kernel.sym_name.data,
            [*names, *(f"size_{size}" for size in sizes), "tasks"],
            [*kinds, *("b32" for _ in sizes), "b32"],
            threads=block_threads(self.threads),
        )
        self.code = code
        given = code.parameters[len(kinds) :]
        self.sizes = dict(zip(sizes, given, strict=False))
        self.tasks = given[-1]
        self._number_threads()
        for parameter, value in zip(self.kernel.parameters, code.parameters, strict=False):
            if isinstance(parameter.type, TensorType):
                self.memories[parameter] = self.memory(parameter, "global", value)
            else:
                element = element_of(parameter.type)
                self.registers[parameter] = [_from_parameter(code, value, element)]
        return code

    def _number_threads(self) -> None:
        code = self.code
        place, block = code.special("tid.x"), code.special("ctaid.x")
        if self.per_block == 1:
            self.thread, self.task, self.slot = place, block, None
        else:
            shift = self.threads.bit_length() - 1
            self.slot = code.op("shr.u32", place, shift)
            self.thread = code.op("and.b32", place, self.threads - 1)
            self.task = code.op("mad.lo.s32", block, self.per_block, self.slot)
        self.registers[self.kernel.body.block.args[0]] = [self.task]

    def memory(self, tensor: SSAValue, space: str, base: SSAValue) -> Memory:
        """A row-major tensor at an address. Emits what its strides take."""
        type = cast(TensorType, tensor.type)
        element = type.element_type
        extents = tuple(self.sizes.get(d) if isinstance(d, str) else d for d in type.dims)
        strides = [Stride(element.storage.itemsize)] * len(extents)
        for axis in range(len(extents) - 1, 0, -1):
            strides[axis - 1] = self._times(strides[axis], extents[axis])
        constant = space == "global" and tensor not in self.written
        return Memory(element, space, base, extents, tuple(strides), constant)

    def _times(self, stride: Stride, extent: int | SSAValue | None) -> Stride:
        assert extent is not None, "only the one dimension of a list may be of any length"
        if isinstance(extent, int):
            if stride.value is not None:
                value = self.code.op("mul.lo.s64", stride.value, extent)
                return Stride(stride.factor * extent, value)
            bytes = stride.factor * extent
            return Stride(bytes, None if bytes < 1 << 31 else self.code.constant(bytes, "b64"))
        if stride.value is None:
            return Stride(stride.factor, self.code.op("mul.wide.s32", extent, stride.factor))
        wide = self.code.op("cvt.s64.s32", extent)
        return Stride(stride.factor, self.code.op("mul.lo.s64", stride.value, wide))

    # Values ------------------------------------------------------------------------------------

    def value(self, operand: SSAValue) -> SSAValue:
        """The register of a scalar."""
        (register,) = self.registers[operand]
        return register

    def flat(self, operands: Sequence[SSAValue]) -> list[SSAValue]:
        """The registers of several values, one after the other."""
        return [register for operand in operands for register in self.registers[operand]]

    def define(self, results: Sequence[SSAValue], values: Sequence[SSAValue]) -> None:
        """The inverse of `flat`: name the values that these registers make up."""
        remaining = iter(values)
        for result in results:
            self.registers[result] = [next(remaining) for _ in range(self.count(result))]

    def layout(self, value: SSAValue) -> Layout:
        """How a value lies; a scalar is held by every thread."""
        return lies(value) if is_tile(value) else Layout.uniform(self.threads)

    def count(self, value: SSAValue) -> int:
        """How many registers a value takes."""
        return self.layout(value).register_count

    # Places of elements; computed where the kernel starts, so that they are known everywhere ------

    def prepare(self, layout: Layout) -> None:
        """Compute what `place` of a layout gives, here."""
        if layout not in self._places:
            self._places[layout] = first_place(self.code, layout, self.thread)

    def place(self, layout: Layout) -> tuple[SSAValue | None, ...]:
        """Where the thread's register 0 is, by dimension; None stands for 0."""
        if layout not in self._places:
            return first_place(self.code, layout, self.thread)
        return self._places[layout]

    def copy(self, layout: Layout) -> SSAValue | None:
        """A predicate of one of the threads that hold the same elements; None if every thread
        holds its own. It is computed where it is needed: predicates are few."""
        return first_copy(self.code, layout, self.thread)

    # Shared memory -----------------------------------------------------------------------------

    def shared(self, bytes: int, align: int = 16) -> SSAValue:
        """The address (b32) of shared memory of this task alone. Call it where the kernel starts,
        or where all its uses follow."""
        bytes = -(-bytes // align) * align
        start = -(-self.shared_bytes // align) * align
        self.shared_bytes = start + bytes * self.per_block
        if self.dynamic:
            address = self.code.shared("shared", 0, max(align, 128))
            if start:
                address = self.code.op("add.s32", address, start)
        else:
            address = self.code.shared(f"shared{start}", bytes * self.per_block, align)
        if self.slot is None:
            return address
        return self.code.op("mad.lo.s32", self.slot, bytes, address)

    def reserve_scratch(self, bytes: int) -> None:
        """Have at least so many bytes for passing values between threads."""
        if bytes and (self._scratch is None or self._scratch[0] < bytes):
            self._scratch = bytes, self.shared(bytes)

    @property
    def scratch(self) -> SSAValue:
        """Memory for passing values between threads: wait before writing to it."""
        assert self._scratch is not None, "scratch memory is reserved where the kernel starts"
        return self._scratch[1]

    def barrier(self) -> None:
        """All threads of the task wait here; what they wrote before is seen by all after."""
        if self.threads <= WARP:
            self.code.op("bar.warp.sync", -1)
        elif self.slot is None:
            self.code.op("bar.sync", 0)
        else:
            self.code.op("bar.sync", self.code.op("add.s32", self.slot, 1), self.threads)


def _parameter_kind(type: Attribute) -> str:
    if isinstance(type, TensorType):
        return "b64"
    element = element_of(scalar_type(type))
    kind = register_type(element)
    return "b32" if kind == "pred" or element.storage.itemsize < 4 else kind


def _from_parameter(code: PtxCode, value: SSAValue, element: ElementType) -> SSAValue:
    """A number as a launch passes it: what is narrower than 32 bits stands in their lowest."""
    if element.kind == "bool":
        return code.op("setp.ne.s32", value, 0)
    if element.is_float and element.storage.itemsize == 2:
        half = code.op("cvt.u16.u32", value)
        return code.op(f"cvt.f32.{element.name}", half)
    return value
