"""A kernel prepared for batches: its registers as arrays, and operands as views of them.

Enters: a function of `ir/ptx/syntax.py` without calls, the shape of a block and how many blocks run
together. Leaves: `Code`, from which the builders of instructions (`integer.py`, `bits.py`,
`float.py`, `access.py` ...) take arrays; each builder gives a step, a function of `Lanes`.

    a, b = code.operand(x, "s32"), code.operand(y, "s32")       int32 arrays, one entry per lane
    target = code.target(d, "s32")
    code.elementwise(np.add, target, a, b)                      a step: d[lanes] = a + b

An immediate or a value that all lanes share is an array too, with stride 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.lanes import ALL, WARP, Index, Lanes
from hectorite.backends.ptx.memory import DeviceMemory
from hectorite.ir.diagnostics import HectoriteError, Source, Span, fail
from hectorite.ir.ptx.syntax import (
    Address,
    Braces,
    Function,
    Immediate,
    Instruction,
    Negated,
    Operand,
    Register,
    Sink,
    Special,
    Symbol,
)

if TYPE_CHECKING:
    from hectorite.backends.ptx.async_copies import AsyncCopies
    from hectorite.backends.ptx.barriers import BarrierObjects
    from hectorite.backends.ptx.schedule import Schedule
    from hectorite.backends.ptx.watch import Watch

Array = npt.NDArray[Any]
Step = Callable[[Lanes], None]

REGISTER_BYTES = {"pred": 1, "b8": 1, "b16": 2, "b32": 4, "b64": 8, "b128": 16}
MOST_PARAMETER_BYTES = 32764


def register_width(type: str) -> int:
    """Bytes of a register declared with a type."""
    if type == "pred":
        return 1
    dtype, count = DTYPES[type]
    return np.dtype(dtype).itemsize * count


@dataclass(frozen=True)
class Target:
    """Where a result goes. `array` is the register as an array of the result's type, None if the
    register is wider; `store` writes some lanes in either case, extending the value."""

    array: Array | None
    store: Callable[[Index, Array], None]
    dtype: np.dtype[Any]


@dataclass
class Layout:
    """Where variables live: byte offsets in shared memory, local memory and parameters, global
    addresses."""

    shared: dict[str, int] = field(default_factory=dict[str, int])
    local: dict[str, int] = field(default_factory=dict[str, int])
    parameters: dict[str, int] = field(default_factory=dict[str, int])
    addresses: dict[str, int] = field(default_factory=dict[str, int])
    dynamic_offset: int = 0
    local_bytes: int = 0
    parameter_bytes: int = 0


class Code:
    """The arrays of one kernel in batches of `blocks` blocks of `threads` threads."""

    def __init__(
        self,
        function: Function,
        shape: tuple[int, int, int],
        blocks: int,
        memory: DeviceMemory,
        layout: Layout,
        shared_bytes: int,
        source: Source | None,
    ):
        self.function = function
        self.source = source
        self.memory = memory
        self.layout = layout
        self.blocks = blocks
        self.shape = shape
        self.threads = shape[0] * shape[1] * shape[2]
        self.warps_per_block = -(-self.threads // WARP)
        self.width = self.warps_per_block * WARP
        self.lanes = blocks * self.width
        self.shared_limit = shared_bytes
        self.shared_bytes = -(-max(shared_bytes, 16) // 16) * 16
        self.shared = np.zeros(blocks * self.shared_bytes, np.uint8)
        self.local_bytes = -(-layout.local_bytes // 16) * 16
        self.local = np.zeros(self.lanes * self.local_bytes, np.uint8)
        self.parameters = np.zeros(MOST_PARAMETER_BYTES + 4, np.uint8)
        self.numbers = np.arange(self.lanes)
        self.block_of = np.repeat(np.arange(blocks), self.width)
        self.registers = {name: self._register(type) for name, type in function.registers.items()}
        self.cells = {name: np.zeros(1, np.uint32) for name in _LAUNCH_VALUES}
        self.specials: dict[str, Array] = {}
        self._make_specials()
        self.carry = np.zeros(self.lanes, bool)
        self.at: Instruction | None = None
        self.is_spinning = False
        self.watch: Watch
        self.schedule: Schedule
        self.barriers: BarrierObjects | None = None
        self.copies: AsyncCopies | None = None

    def _register(self, type: str) -> Array:
        if type == "pred":
            return np.zeros(self.lanes, bool)
        width = register_width(type)
        return np.zeros((self.lanes, 2), "u8") if width == 16 else np.zeros(self.lanes, f"u{width}")

    # Messages.

    def error(self, message: str, at: Instruction | None = None, hint: str | None = None):
        """The error about an instruction (the one that is being prepared, unless given)."""
        return instruction_error(message, at or self.at, self.source, hint)

    def unsupported(self, what: str | None = None) -> HectoriteError:
        """The error for an instruction, or a part of it, that the executor does not know."""
        assert self.at is not None
        about = f": {what}" if what else ""
        return self.error(f"`{self.at.mnemonic}` is not supported by the executor{about}")

    # Operands.

    def operand(self, operand: Operand, type: str) -> Array:
        """The values of a source operand, read as a PTX type: one row for each lane."""
        match operand:
            case Register(name):
                return self.register(name, type)
            case Immediate():
                return self.constant(immediate_value(operand, type), type)
            case Special(name):
                return self.special(name, type)
            case Symbol(name, offset):
                return self.constant(self.symbol_value(name) + offset, type)
            case Negated(Register(name)):
                return ~self.registers[name]
            case Braces(items):
                return self.packed(items, type)
            case _:
                raise self.unsupported("an operand of this form")

    def register(self, name: str, type: str) -> Array:
        """A register as an array of a type's elements; of a wider register, its low bytes."""
        raw = self.registers[name]
        if type == "pred" or raw.dtype == bool:
            if type != "pred" or raw.dtype != bool:
                raise self.error(f"`{name}` is a {self.function.registers[name]} register")
            return raw
        if raw.ndim == 2:
            return raw
        dtype, count = DTYPES[type]
        size = np.dtype(dtype).itemsize
        width = size * count
        if width > raw.itemsize:
            declared = self.function.registers[name]
            raise self.error(f"`{name}`, a register of {declared}, is too narrow for .{type}")
        parts = raw.view(dtype)
        if count == 1 and width == raw.itemsize:
            return parts
        rows = parts.reshape(self.lanes, raw.itemsize // size)
        return rows[:, 0] if count == 1 else rows[:, :count]

    def constant(self, value: Any, type: str) -> Array:
        """A value that all lanes share."""
        dtype, count = DTYPES[type]
        shape = (self.lanes,) if count == 1 else (self.lanes, count)
        return np.broadcast_to(np.asarray(value, dtype), shape)

    def packed(self, items: tuple[Operand, ...], type: str) -> Array:
        """`{a, b}` as one value; read anew at every use, so only `mov` takes it."""
        raise self.unsupported("braces at this place")

    def predicate(self, operand: Operand) -> tuple[Array, bool]:
        """A predicate and whether it is negated."""
        if isinstance(operand, Negated):
            return self.registers[operand.operand.name], True
        return self.operand(operand, "pred"), False

    def target(self, operand: Operand, type: str) -> Target:
        """Where a result of a type goes."""
        dtype, count = np.dtype(DTYPES[type][0]), DTYPES[type][1]
        if isinstance(operand, Sink):
            spare = np.zeros((self.lanes, count) if count > 1 else self.lanes, dtype)
            return Target(spare, spare.__setitem__, dtype)
        if not isinstance(operand, Register):
            raise self.error("the result must be a register")
        raw = self.registers[operand.name]
        width = dtype.itemsize * count
        if raw.dtype == bool or raw.ndim == 2 or raw.itemsize == width:
            view = self.register(operand.name, type)
            return Target(view, view.__setitem__, dtype)
        if width > raw.itemsize:
            declared = self.function.registers[operand.name]
            raise self.error(f"`{operand.name}`, a register of {declared}, is too narrow")
        if count > 1:
            view = self.register(operand.name, type)

            def store(index: Index, values: Array) -> None:
                raw[index] = 0
                view[index] = values

            return Target(None, store, dtype)
        if dtype.kind == "f":
            bits = f"u{dtype.itemsize}"
            return Target(
                None, lambda index, values: raw.__setitem__(index, values.view(bits)), dtype
            )
        wide = raw.view(f"{dtype.kind}{raw.itemsize}")
        return Target(None, wide.__setitem__, dtype)

    def elementwise(self, function: Callable[..., Array], target: Target, *sources: Array) -> Step:
        """A step that applies a function of arrays to the lanes; ufuncs write in place."""
        store, out = target.store, target.array
        in_place = isinstance(function, np.ufunc) and out is not None
        if len(sources) == 1:
            (a,) = sources

            def unary(lanes: Lanes) -> None:
                chosen = lanes.pure
                if in_place and chosen is ALL:
                    function(a, out=out)
                else:
                    store(chosen, function(a[chosen]))

            return unary
        if len(sources) == 2:
            a, b = sources

            def binary(lanes: Lanes) -> None:
                chosen = lanes.pure
                if in_place and chosen is ALL:
                    function(a, b, out=out)
                else:
                    store(chosen, function(a[chosen], b[chosen]))

            return binary

        def many(lanes: Lanes) -> None:
            chosen = lanes.pure
            store(chosen, function(*(source[chosen] for source in sources)))

        return many

    def guarded(self, step: Step, register: str, negated: bool) -> Step:
        """A step for the lanes whose predicate holds."""
        predicate = self.registers[register]

        def run(lanes: Lanes) -> None:
            chosen = lanes.narrow(predicate, negated)
            if chosen is not None:
                step(chosen)

        return run

    def address(self, operand: Operand) -> tuple[Array, int]:
        """The base of an address as int64 for each lane, and its constant offset."""
        if not isinstance(operand, Address):
            raise self.error("expected an address in brackets")
        base, offset = operand.base, operand.offset
        if isinstance(base, Symbol):
            return self.constant(self.symbol_value(base.name), "s64"), offset
        if isinstance(base, Immediate):
            return self.constant(int(base.value), "s64"), offset
        raw = self.registers[base.name]
        if raw.dtype == bool or raw.itemsize not in (4, 8):
            raise self.error(f"`{base.name}` cannot hold an address")
        return raw.view("i8") if raw.itemsize == 8 else raw, offset

    # Names.

    def symbol_value(self, name: str) -> int:
        """The address of a variable in its own space."""
        layout = self.layout
        for space in (layout.shared, layout.local, layout.parameters, layout.addresses):
            if name in space:
                return space[name]
        raise self.error(f"`{name}` has no address here")

    def special(self, name: str, type: str) -> Array:
        """The values of a special register."""
        if name not in self.specials:
            raise self.unsupported(f"the special register %{name}")
        values = self.specials[name]
        dtype = DTYPES[type][0]
        if values.dtype.itemsize == np.dtype(dtype).itemsize:
            return values.view(dtype)
        if name not in _FIXED:
            raise self.unsupported(f"%{name} as .{type}")
        return values.astype(dtype)

    def _make_specials(self) -> None:
        number = np.tile(np.arange(self.width, dtype=np.uint32), self.blocks)
        x, y, _ = self.shape
        lane = number % WARP
        one = np.uint32(1)
        below = (one << lane) - one
        fixed = {
            "laneid": lane,
            "warpid": number // WARP,
            "tid.x": number % x,
            "tid.y": number // x % y,
            "tid.z": number // (x * y),
            "lanemask_eq": one << lane,
            "lanemask_lt": below,
            "lanemask_le": below | (one << lane),
            "lanemask_gt": ~(below | (one << lane)),
            "lanemask_ge": ~below,
        }
        self.specials.update({name: value.astype(np.uint32) for name, value in fixed.items()})
        uniform = {"nwarpid": self.warps_per_block, "smid": 0, "nsmid": 1, "ctaid": 0}
        for axis, size in zip("xyz", self.shape, strict=True):
            uniform[f"ntid.{axis}"] = size
            uniform |= {f"cluster_ctaid.{axis}": 0, f"cluster_nctaid.{axis}": 1}
        uniform |= {"cluster_ctarank": 0, "cluster_nctarank": 1, "gridid": 0}
        uniform["total_smem_size"] = self.shared_bytes
        for name, value in uniform.items():
            self.specials[name] = self.constant(value, "u32")
        for name, cell in self.cells.items():
            self.specials[name] = np.broadcast_to(cell, (self.lanes,))
        for axis in "xyz":
            self.specials[f"ctaid.{axis}"] = np.zeros(self.lanes, np.uint32)
            self.specials[f"clusterid.{axis}"] = self.specials[f"ctaid.{axis}"]
            self.specials[f"nclusterid.{axis}"] = self.specials[f"nctaid.{axis}"]
        self.clock = np.zeros(1, np.uint64)
        self.specials["clock64"] = np.broadcast_to(self.clock, (self.lanes,))
        self.specials["globaltimer"] = self.specials["clock64"]
        self.specials["clock"] = np.broadcast_to(self.clock.view(np.uint32)[:1], (self.lanes,))

    def start(self, first_block: int, grid: tuple[int, int, int]) -> int:
        """Prepare the batch that begins at a block; how many of its blocks exist."""
        gx, gy, gz = grid
        number = (first_block + self.block_of).astype(np.uint32)
        self.specials["ctaid.x"][:] = number % gx
        self.specials["ctaid.y"][:] = number // gx % gy
        self.specials["ctaid.z"][:] = number // (gx * gy)
        self.shared[:] = 0
        if self.barriers is not None:
            self.barriers.under_way.clear()
        if self.copies is not None:
            self.copies.clear()
        return min(self.blocks, gx * gy * gz - first_block)


_LAUNCH_VALUES = ("nctaid.x", "nctaid.y", "nctaid.z", "dynamic_smem_size")
_FIXED = frozenset({"laneid", "warpid", "tid.x", "tid.y", "tid.z", "ntid.x", "ntid.y", "ntid.z"})


def immediate_value(operand: Immediate, type: str) -> Any:
    """A number of the text as a value of a type: bits stay bits, integers wrap."""
    if type == "pred":
        return bool(operand.value)
    dtype, count = np.dtype(DTYPES[type][0]), DTYPES[type][1]
    if count > 1:
        bits = int(operand.bits if operand.bits is not None else operand.value)
        width = dtype.itemsize * count
        return np.frombuffer((bits % (1 << 8 * width)).to_bytes(width, "little"), dtype)
    if operand.bits is not None and operand.width == 8 * dtype.itemsize:
        return np.array(operand.bits, f"u{dtype.itemsize}").view(dtype)
    if dtype.kind == "f" and (dtype.itemsize > 2 or isinstance(operand.value, float)):
        return dtype.type(operand.value)
    unsigned = int(operand.value) % (1 << (8 * dtype.itemsize))
    return np.array(unsigned, f"u{dtype.itemsize}").view(dtype)


def instruction_error(
    message: str, at: Instruction | None, source: Source | None, hint: str | None = None
) -> HectoriteError:
    """An error about an instruction, with its line."""
    if at is None:
        return fail(message, source=source, hint=hint)
    if source is not None and 1 <= at.line <= len(source.lines):
        text = source.lines[at.line - 1]
        start = len(text) - len(text.lstrip()) + 1
        span = Span(at.line, start, at.line, max(len(text.rstrip()), start) + 1)
        return fail(message, source=source, span=span, hint=hint)
    return fail(f"line {at.line}, `{at.mnemonic}`: {message}", hint=hint)
