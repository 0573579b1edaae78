"""Which thread holds which element of a tile: layouts as numbers in mixed radix.

Enters: the shape of a tile and how the digits of a thread's number and of a register's number
move through it. Leaves: the place of each register of each thread. Text:

    [64] threads 32:[2] registers 2:[1]                       thread t holds 2t and 2t + 1
    [16, 8] threads 4:[0,2] 8:[1,0] registers 2:[0,1] 2:[8,0]  the sums of an m16n8 matrix product

A digit `n:[a,b]` takes values d from 0 up to n and moves a place by `d*a, d*b`. Digits stand lowest
first: in the second line thread t moves by column `2 * (t % 4)` and row `t // 4`. A digit that
moves nothing repeats: several threads then hold the same elements. A place outside the shape
holds nothing, so a layout may be larger than its tile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

Place = tuple[int, ...]


@dataclass(frozen=True)
class Digit:
    """One digit of a number: how many values it has, and how far each step moves by dimension."""

    count: int
    step: Place

    @property
    def moves(self) -> bool:
        return any(self.step)

    def __str__(self) -> str:
        return f"{self.count}:[{','.join(map(str, self.step))}]"


@dataclass(frozen=True)
class Layout:
    """Where the elements of a tile of `shape` are; make one by `Layout.of`, which gives equal
    layouts equal digits. A scalar has shape () and is held by every thread."""

    shape: Place
    threads: tuple[Digit, ...]
    registers: tuple[Digit, ...]

    @staticmethod
    def of(shape: Sequence[int], threads: Iterable[Digit], registers: Iterable[Digit]) -> Layout:
        """The layout with digits in their simplest form."""
        return Layout(tuple(shape), _merged(threads), _merged(registers))

    @staticmethod
    def uniform(threads: int) -> Layout:
        """A scalar, which every thread holds."""
        return Layout.of((), [Digit(threads, ())], [])

    def __str__(self) -> str:
        words = [f"[{', '.join(map(str, self.shape))}]"]
        for name, digits in (("threads", self.threads), ("registers", self.registers)):
            words += [name, *map(str, digits)] if digits else []
        return " ".join(words)

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def thread_count(self) -> int:
        return prod(digit.count for digit in self.threads)

    @cached_property
    def register_count(self) -> int:
        """How many registers each thread has."""
        return prod(digit.count for digit in self.registers)

    def base(self, thread: int) -> Place:
        """The place of register 0 of a thread; register r is `offset(r)` further on."""
        return _move(self.threads, thread, self.rank)

    def offset(self, register: int) -> Place:
        """How far a register is from register 0 of the same thread."""
        return _move(self.registers, register, self.rank)

    def place(self, thread: int, register: int) -> Place | None:
        """The element that a register holds, None if that is outside the tile."""
        pairs = zip(self.base(thread), self.offset(register), strict=True)
        place = tuple(a + b for a, b in pairs)
        inside = all(at < extent for at, extent in zip(place, self.shape, strict=True))
        return place if inside else None

    @cached_property
    def reach(self) -> Place:
        """The greatest `base` of any thread, by dimension."""
        return tuple(
            sum((digit.count - 1) * digit.step[axis] for digit in self.threads)
            for axis in range(self.rank)
        )

    def always_inside(self, register: int, axis: int | None = None) -> bool:
        """Whether a register of every thread is inside the tile (along one dimension if given)."""
        axes = range(self.rank) if axis is None else (axis,)
        offset = self.offset(register)
        return all(self.reach[a] + offset[a] < self.shape[a] for a in axes)

    @property
    def is_full(self) -> bool:
        """Whether every register of every thread holds an element."""
        return all(map(self.always_inside, range(self.register_count)))

    @property
    def repeats(self) -> bool:
        """Whether several threads hold the same elements."""
        return any(digit.count > 1 and not digit.moves for digit in self.threads)

    def run(self, axis: int) -> int:
        """How many registers in a row hold neighbours along a dimension, for every thread."""
        if not self.registers:
            return 1
        first = self.registers[0]
        along = tuple(int(a == axis) for a in range(self.rank))
        return first.count if first.step == along else 1

    def slice(self, axis: int = 0) -> Layout:
        """The layout of one dimension alone: where the vector of `shape[axis]` indices is of which
        each thread holds just those that its elements here need."""
        threads = [Digit(digit.count, (digit.step[axis],)) for digit in self.threads]
        kept = [digit for digit in self.registers if digit.step[axis]]
        registers = [Digit(digit.count, (digit.step[axis],)) for digit in kept]
        return Layout.of(self.shape[axis : axis + 1], threads, registers)

    def slice_register(self, register: int, axis: int = 0) -> int:
        """Which register of `slice(axis)` has the index of this layout's register."""
        number, weight = 0, 1
        for digit in self.registers:
            register, value = divmod(register, digit.count)
            if digit.step[axis]:
                number += value * weight
                weight *= digit.count
        return number


def _move(digits: Sequence[Digit], number: int, rank: int) -> Place:
    place = [0] * rank
    for digit in digits:
        number, value = divmod(number, digit.count)
        for axis, step in enumerate(digit.step):
            place[axis] += value * step
    return tuple(place)


def _merged(digits: Iterable[Digit]) -> tuple[Digit, ...]:
    """Digits that go on where the one before ends become one; those of one value go."""
    kept: list[Digit] = []
    for digit in digits:
        if digit.count == 1:
            continue
        if kept and digit.step == tuple(kept[-1].count * step for step in kept[-1].step):
            kept[-1] = Digit(kept[-1].count * digit.count, kept[-1].step)
        else:
            kept.append(digit)
    return tuple(kept)
