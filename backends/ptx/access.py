"""Where an instruction's addresses lie, and loads and stores through them.

Enters: an address operand and its state space. Leaves: for some lanes, `Places`: a buffer and
offsets into it that are inside an allocation and aligned. What is not goes to `code.watch`, which
raises or, where checks are asked for, records a finding; then those lanes are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hectorite.backends.ptx.convert import space_of
from hectorite.backends.ptx.formats import DTYPES
from hectorite.backends.ptx.integer import Builder, value_type
from hectorite.backends.ptx.lanes import ALL, Index, Lanes
from hectorite.backends.ptx.memory import (
    GLOBAL_BASE,
    LOCAL_WINDOW,
    PARAM_WINDOW,
    SHARED_WINDOW,
    WINDOW_BYTES,
)
from hectorite.backends.ptx.thread_code import Code, Step, Target
from hectorite.ir.ptx.syntax import Address, Braces, Immediate, Instruction, Operand, Symbol

Array = npt.NDArray[Any]


class Buffer(Protocol):
    """Bytes that can be seen as unsigned numbers of 1, 2, 4 or 8 bytes."""

    def typed(self, width: int) -> Array:
        """All of them as numbers of `width` bytes."""
        ...


class Bytes:
    """A buffer over an array of bytes."""

    def __init__(self, data: Array):
        self._typed = {width: data.view(f"u{width}") for width in (1, 2, 4, 8)}

    def typed(self, width: int) -> Array:
        return self._typed[width]


@dataclass(frozen=True)
class Places:
    """Offsets in a buffer, one for each lane of `index`."""

    index: Index
    buffer: Buffer
    offsets: npt.NDArray[np.int64]
    space: str

    def load(self, dtype: Any, count: int) -> Array:
        """The elements at the places: one, or a row of `count`."""
        size = np.dtype(dtype).itemsize
        data = self.buffer.typed(size)
        if count == 1:
            shift = size.bit_length() - 1
            return data.take(self.offsets >> shift, mode="clip").view(dtype)
        rows = data[: len(data) // count * count].reshape(-1, count)
        shift = (size * count).bit_length() - 1
        return rows.take(self.offsets >> shift, axis=0, mode="clip").view(dtype)

    def store(self, values: Array, count: int) -> None:
        """Write one element, or a row of `count`, to each place; of several, the last counts."""
        size = values.dtype.itemsize
        data = self.buffer.typed(size)
        bits = values.view(data.dtype)
        if count == 1:
            data[self.offsets >> (size.bit_length() - 1)] = bits
        else:
            rows = data[: len(data) // count * count].reshape(-1, count)
            rows[self.offsets >> ((size * count).bit_length() - 1)] = bits


class Access:
    """The memory that one instruction touches: `width` bytes at an address, from each lane."""

    def __init__(
        self, code: Code, at: Instruction, operand: Operand, space: str, width: int, kind: str
    ):
        self.code = code
        self.at = at
        self.width = width
        self.kind = kind
        self.space = space
        self.base, self.offset = code.address(operand)
        self.shared = Bytes(code.shared)
        self.rows = code.block_of * code.shared_bytes
        self.local = Bytes(code.local) if code.local_bytes else None
        self.find = {
            "param": self._parameters,
            "global": self._global,
            "const": self._global,
            "shared": self._shared,
            "local": self._local,
            "generic": self._generic,
        }[space]

    def places(self, lanes: Lanes) -> list[Places]:
        """Where the lanes touch memory; one entry unless generic addresses name several spaces."""
        base = self.base if lanes.exact is ALL else self.base[lanes.exact]
        if base.dtype != np.int64:
            base = base.astype(np.int64)
        return self.at_addresses(lanes.exact, base + self.offset)

    def at_addresses(self, index: Index, address: Array) -> list[Places]:
        """The same for addresses that the caller has computed."""
        found = self.find(index, address)
        if self.code.watch.is_watching:
            for places in found:
                self.code.watch.access(self.at, places, self.width, self.kind)
        return found

    def _global(self, index: Index, address: Array) -> list[Places]:
        offsets = address - GLOBAL_BASE
        memory = self.code.memory
        first, last = int(offsets.min()), int(offsets.max())
        good = None
        if not memory.holds(first, last, self.width):
            good = self._allocated(offsets)
        index, offsets = self._kept(index, offsets, good, "global", address)
        return [Places(index, memory, offsets, "global")] if len(offsets) else []

    def _allocated(self, offsets: Array) -> Array | None:
        """Which offsets lie in allocations, None if all do."""
        memory = self.code.memory
        inside = (offsets >= 0) & (offsets < memory.capacity - self.width)
        kept = np.where(inside, offsets, 0)
        state = memory.state
        inside &= (state[kept] != 0) & (state[kept + self.width - 1] != 0)
        return None if inside.all() else inside

    def _shared(self, index: Index, address: Array) -> list[Places]:
        limit = self.code.shared_limit - self.width
        good = None
        if int(address.min()) < 0 or int(address.max()) > limit:
            good = (address >= 0) & (address <= limit)
        flat = address + self.rows[index]
        index, flat = self._kept(index, flat, good, "shared", address)
        return [Places(index, self.shared, flat, "shared")] if len(flat) else []

    def _local(self, index: Index, address: Array) -> list[Places]:
        limit = self.code.layout.local_bytes - self.width
        good = (address >= 0) & (address <= limit)
        lanes = self.code.numbers[index] * self.code.local_bytes
        index, flat = self._kept(
            index, address + lanes, None if good.all() else good, "local", address
        )
        if not len(flat):
            return []
        assert self.local is not None
        return [Places(index, self.local, flat, "local")]

    def _generic(self, index: Index, address: Array) -> list[Places]:
        if int(address.max()) < SHARED_WINDOW:
            return self._global(index, address)
        numbers = self.code.numbers[index]
        found: list[Places] = []
        windows = (
            (SHARED_WINDOW, self._shared),
            (LOCAL_WINDOW, self._local),
            (PARAM_WINDOW, self._parameters),
        )
        rest = np.ones(len(address), bool)
        for start, find in windows:
            inside = (address >= start) & (address < start + WINDOW_BYTES)
            rest &= ~inside
            if inside.any():
                found += find(numbers[inside], address[inside] - start)
        if rest.any():
            found += self._global(numbers[rest], address[rest])
        return found

    def _parameters(self, index: Index, address: Array) -> list[Places]:
        last = self.code.layout.parameter_bytes - self.width
        good = (address >= 0) & (address <= last)
        index, offsets = self._kept(index, address, None if good.all() else good, "param", address)
        return [Places(index, Bytes(self.code.parameters), offsets, "param")] * bool(len(offsets))

    def _kept(
        self, index: Index, offsets: Array, good: Array | None, space: str, address: Array
    ) -> tuple[Index, Array]:
        """The lanes whose places exist and are aligned; the others are told of."""
        if good is not None:
            self.code.watch.out_of_bounds(self.at, space, address[~good], self.width, self.kind)
            index, offsets = self._subset(index, good), offsets[good]
            address = address[good]
        if self.width > 1 and len(offsets):
            low = self.width - 1
            if int(np.bitwise_or.reduce(address)) & low:
                aligned = (address & low) == 0
                self.code.watch.misaligned(self.at, space, address[~aligned], self.width)
                index, offsets = self._subset(index, aligned), offsets[aligned]
        return index, offsets

    def _subset(self, index: Index, chosen: Array) -> Index:
        return self.code.numbers[index][chosen]


def accessed_space(code: Code, at: Instruction, operand: Operand) -> str:
    """The space that an access is to; parameters of called functions are in the frame."""
    space = space_of(at)
    if space is None:
        return "generic"
    if space != "param":
        return space
    base = operand.base if isinstance(operand, Address) else None
    name = "" if base is None or isinstance(base, Immediate) else base.name
    return "local" if name in code.layout.local else "param"


def vector_of(at: Instruction) -> int:
    """4 for `.v4`."""
    return next((int(part[1:]) for part in at.suffix if part in ("v2", "v4", "v8")), 1)


def items_of(operand: Operand) -> tuple[Operand, ...]:
    return operand.items if isinstance(operand, Braces) else (operand,)


def ld(code: Code, at: Instruction) -> Step:
    """One element or a vector, from any space."""
    type, count = value_type(code, at), vector_of(at)
    dtype, parts = DTYPES[type]
    targets = [code.target(item, type) for item in items_of(at.operands[0])]
    if len(targets) != count:
        raise code.error(f"expected {count} results, got {len(targets)}")
    space = accessed_space(code, at, at.operands[1])
    if space == "param" and _is_constant(at.operands[1]):
        return _parameter(code, at, type, targets)
    size = np.dtype(dtype).itemsize
    access = Access(code, at, at.operands[1], space, size * count * parts, "read")
    if parts > 1 and count > 1:
        raise code.unsupported("vectors of pairs")
    row = count * parts

    def run(lanes: Lanes) -> None:
        found = access.places(lanes)
        if len(found) != 1 or len(found[0].offsets) != lanes.count:
            for target in targets:
                target.store(lanes.exact, target.dtype.type(0))
        for places in found:
            values = places.load(dtype, row)
            if row == 1 or parts > 1:
                targets[0].store(places.index, values)
                continue
            for number, target in enumerate(targets):
                target.store(places.index, values[:, number])

    return run


def _is_constant(operand: Operand) -> bool:
    return isinstance(operand, Address) and isinstance(operand.base, Symbol | Immediate)


def _parameter(code: Code, at: Instruction, type: str, targets: list[Target]) -> Step:
    """From the parameters of the kernel: the same value for all lanes."""
    base, offset = code.address(at.operands[1])
    start = int(base[0]) + offset
    dtype, parts = DTYPES[type]
    size = np.dtype(dtype).itemsize
    if start < 0 or start + size * parts * len(targets) > code.layout.parameter_bytes:
        raise code.error("this reads past the parameters of the kernel")
    steps: list[Callable[[Lanes], None]] = []
    for number, target in enumerate(targets):
        at_byte = start + number * size * parts
        cell = code.parameters[at_byte : at_byte + size * parts].view(dtype)
        shape = (code.lanes,) if parts == 1 else (code.lanes, parts)
        value = np.broadcast_to(cell, shape)
        steps.append(_copy(target, value))

    def run(lanes: Lanes) -> None:
        for step in steps:
            step(lanes)

    return steps[0] if len(steps) == 1 else run


def _copy(target: Target, value: Array) -> Step:
    def run(lanes: Lanes) -> None:
        target.store(lanes.pure, value[lanes.pure])

    return run


def st(code: Code, at: Instruction) -> Step:
    """One element or a vector, to any space."""
    type, count = value_type(code, at), vector_of(at)
    if "async" in at.suffix:
        raise code.unsupported()
    dtype, parts = DTYPES[type]
    sources = [code.operand(item, type) for item in items_of(at.operands[1])]
    if len(sources) != count:
        raise code.error(f"expected {count} values, got {len(sources)}")
    space = accessed_space(code, at, at.operands[0])
    if space in ("param", "const"):
        raise code.error(f"the {space} space of a kernel cannot be written")
    size = np.dtype(dtype).itemsize
    access = Access(code, at, at.operands[0], space, size * count * parts, "write")
    if parts > 1 and count > 1:
        raise code.unsupported("vectors of pairs")

    def run(lanes: Lanes) -> None:
        for places in access.places(lanes):
            if count == 1:
                values = sources[0][places.index]
                places.store(np.ascontiguousarray(values), parts)
                continue
            rows = np.empty((len(places.offsets), count), dtype)
            for number, source in enumerate(sources):
                rows[:, number] = source[places.index]
            places.store(rows, count)

    return run


def nothing(code: Code, at: Instruction) -> Step:
    """Hints: prefetches, priorities, fences of a single order of execution."""
    return lambda lanes: None


def createpolicy(code: Code, at: Instruction) -> Step:
    target = code.target(at.operands[0], "b64")
    return _copy(target, code.constant(0, "b64"))


BUILDERS: dict[str, Builder] = {
    "ld": ld,
    "ldu": ld,
    "st": st,
    "prefetch": nothing,
    "prefetchu": nothing,
    "discard": nothing,
    "applypriority": nothing,
    "createpolicy": createpolicy,
    "fence": nothing,
    "membar": nothing,
    "griddepcontrol": nothing,
    "setmaxnreg": nothing,
    "pmevent": nothing,
}
