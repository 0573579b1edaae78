"""Derived sets by machine code: a `JoinPlan` run on its data by all cores.

Enters: a plan. Leaves: the fields of the set, in lexicographic order, and where the elements of
each group begin. Fields that groups tell are written when someone looks. Code depends on the shape
of the plan only, so it is compiled once and cached.

Groups are cut into tasks with like bounds of tuples. Each task writes its tuples as numbers into a
stretch as long as its bound, of which only what is used takes memory; then these are copied out, as
fields, behind each other. Tasks do not depend on each other and each finds its groups' tuples in
order, so results are the same for any number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from math import prod
from typing import Any

import numpy as np

from hectorite.backends.cache import cache_key, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.cpu.threads import symbols, thread_count
from hectorite.backends.derived import short_groups
from hectorite.backends.derived.ir import derive_ir, entries_of
from hectorite.backends.derived.plan import JoinPlan
from hectorite.backends.derived.writer import ROOM, TASKS, Shape, SumShape, words_of
from hectorite.backends.host.memory import POOL, address_of
from hectorite.ir.diagnostics import fail

Array = np.ndarray[Any, Any]

SHORT = short_groups.MOST
"""Tuples of the longest group that is put in order in registers, where there are such."""

ROUND = 1 << 26
"""Tuples that the tasks of one round may have, unless one group alone has more."""

MOST_BYTES = 1 << 16
"""Numbers that get a byte each, at most: they are near."""

MOST_BITS = 1 << 24
"""Numbers that get a bit each, at most."""

BITS_SCANNED = 4096
"""Bits of a group's bitmap that one look passes over, if none is set."""

FEW_LOOKS = 1 << 15
"""Elements whose bounds one task looks at."""

LOOKS = 8
"""Looks at a bitmap for each group that are nothing beside the rest."""


@dataclass(frozen=True)
class Joined:
    """The elements: int32[size] for each field that groups do not tell, and where the elements of
    each group begin, int32[groups + 1]. `leading` writes the fields that groups tell."""

    trailing: tuple[Array, ...]
    ends: Array
    leading: Callable[[], tuple[Array, ...]]

    @property
    def size(self) -> int:
        return int(self.ends[-1])

    @cached_property
    def lead(self) -> tuple[Array, ...]:
        """int32[size] for each field that groups tell."""
        return self.leading()

    @property
    def fields(self) -> tuple[Array, ...]:
        """int32[size] for each field."""
        return (*self.lead, *self.trailing)


def run_join(plan: JoinPlan, name: str = "") -> Joined:
    """Build the set. Raises `HectoriteError`, which calls it `name`, if int32 cannot number its
    elements."""
    shape = _shape(plan)
    code = _code(shape)
    words = _Words(code.places)
    _fill_stages(plan, words)
    ends = np.zeros(len(plan.groups), np.int32)
    words.put("groups", plan.groups)
    words.put("length", len(plan.groups) - 1)
    words.put("ends", ends)
    words.put("span", plan.span)
    bounds = _bounds(plan, shape, words, code.run("")["derive.bound"])
    collector = _collector(plan, int(bounds.ahead[-1]))
    together = max(last - first for first, last in bounds.rounds)
    _fill_scratch(plan, collector, words, bounds.most, together)
    run = code.run(collector)
    if "hash" in shape.stages:
        run["derive.index"](words.values, 1)
    parts: list[tuple[Array, ...]] = []
    size = 0
    for first, last in bounds.rounds:
        made, count = _round(plan, run, words, bounds, first, last, size)
        parts.append(made)
        size += count
        check_size(name, size)
    trailing = parts[0]
    if len(parts) > 1:
        trailing = tuple(np.concatenate(field) for field in zip(*parts, strict=True))
    leading = partial(_leading, plan.lead, run["derive.lead"], code.places, bounds.cuts, ends)
    return Joined(trailing, ends, leading)


def _leading(
    lead: Sequence[Array],
    write: Callable[[Any, int], None],
    places: Mapping[tuple[str, int, int], int],
    cuts: Array,
    ends: Array,
) -> tuple[Array, ...]:
    """The fields that groups tell, for the elements that these have."""
    words = _Words(places)
    words.put("cuts", cuts)
    words.put("ends", ends)
    fields = tuple(POOL.empty(int(ends[-1]), np.int32) for _ in lead)
    for k, (values, field) in enumerate(zip(lead, fields, strict=True)):
        words.put("lead", values, k)
        words.put("lead_field", field, k)
    write(words.values, len(cuts) - 1)
    return fields


def check_size(name: str, size: int) -> None:
    """Raises `HectoriteError` if a set has more elements than int32 can number."""
    if size >= 1 << 31:
        raise fail(f"the derived set `{name}` has {size} elements", expected="fewer than 2^31")


class _Words:
    """The words of a call. Those that it does not need are 0; arrays stay alive."""

    def __init__(self, places: Mapping[tuple[str, int, int], int]):
        self.places = places
        self.values = (ctypes.c_int64 * len(self.places))()
        self.arrays: list[Array] = []

    def put(self, name: str, value: Array | int, number: int = 0, binder: int = 0) -> None:
        if isinstance(value, np.ndarray):
            self.arrays.append(value)
            value = address_of(value)
        self.values[self.places[name, number, binder]] = value


@dataclass(frozen=True)
class _Bounds:
    """int64[groups + 1]: the most tuples that all groups before each can have, and what one can;
    int64[tasks + 1]: where the groups of each task begin; and the tasks of each round."""

    ahead: Array
    most: int
    cuts: Array
    rounds: list[tuple[int, int]]


def _round(
    plan: JoinPlan,
    run: Mapping[str, Callable[[Any, int], None]],
    words: _Words,
    bounds: _Bounds,
    first: int,
    last: int,
    before: int,
) -> tuple[tuple[Array, ...], int]:
    """Fields of the elements that some tasks make, behind those `before`, and how many they are."""
    tasks, cuts, ahead = last - first, bounds.cuts[first : last + 1], bounds.ahead
    most = int(ahead[cuts[-1]] - ahead[cuts[0]])
    numbers = POOL.empty(most + ROOM * tasks, np.int32 if _bits(plan) == 32 else np.int64)
    totals = np.empty(tasks + 1, np.int64)
    words.put("cuts", cuts)
    words.put("numbers", numbers)
    words.put("totals", totals)
    words.put("before", before)
    run["derive.join"](words.values, tasks)
    size = int(totals[-1])
    fields = tuple([POOL.empty(size, np.int32) for _ in plan.trailing])
    for k, extent in enumerate(plan.trailing):
        words.put("extent", extent, k)
        words.put("field", fields[k], k)
    run["derive.spread"](words.values, tasks)
    return fields, size


def _shape(plan: JoinPlan) -> Shape:
    sums = tuple(
        SumShape(
            total.role,
            total.of,
            tuple((number, 8 * total.columns[number].itemsize) for number in sorted(total.columns)),
        )
        for total in plan.sums
    )
    kinds = tuple(stage.kind for stage in plan.stages)
    bits = _bits(plan)
    short = SHORT if bits == 32 and not plan.unique and short_groups.is_served() else 0
    return Shape(kinds, sums, "", bits, len(plan.lead), len(plan.trailing), short)


def _bits(plan: JoinPlan) -> int:
    return 32 if plan.span < 1 << 31 else 64


def _bounds(
    plan: JoinPlan, shape: Shape, words: _Words, bound: Callable[[Any, int], None]
) -> _Bounds:
    groups = len(plan.groups) - 1
    stages = [s for n, s in enumerate(plan.stages) if n and shape.counted(n) is None]
    ahead = np.empty(groups + 1, np.int64)
    chosen = np.empty(TASKS + 3, np.int64)
    words.put("ahead", ahead)
    words.put("chosen", chosen)
    words.put("factor", min(1 << 31, prod(stage.most for stage in stages)))
    words.put("most", (1 << 62) if plan.unique else plan.span)
    tasks = min(TASKS, -(-(groups + plan.stages[0].count) // FEW_LOOKS), groups)
    words.put("cuts", np.arange(tasks + 1) * groups // max(1, tasks))
    bound(words.values, tasks)
    tasks, most = chosen[:2].tolist()
    cuts, rounds = chosen[2 : tasks + 3], [(0, tasks)]
    if ahead[-1] + groups > ROUND:
        cuts, rounds = _cuts(ahead)
    return _Bounds(ahead, most, cuts, rounds)


def _collector(plan: JoinPlan, total: int) -> str:
    """How tuples are collected, of which groups together have at most a number."""
    if plan.unique:
        return "append"
    span = plan.span
    looks = span // BITS_SCANNED
    groups = max(1, len(plan.groups) - 1)
    if span > MOST_BITS or looks > LOOKS + total // groups:
        return "hash"
    return "bytes" if span <= MOST_BYTES else "bits"


def _cuts(ahead: Array) -> tuple[Array, list[tuple[int, int]]]:
    """Where the groups of each task begin, and the tasks of each round, if there are several."""
    groups = len(ahead) - 1
    done = ahead + np.arange(groups + 1)
    total = int(done[-1])
    parts = -(-total // ROUND) * TASKS
    cuts = done.searchsorted(np.arange(parts + 1) * (total / parts))
    cuts[0], cuts[-1] = 0, groups
    cuts = cuts[np.append(True, cuts[1:] != cuts[:-1])]
    rounds, first = list[tuple[int, int]](), 0
    for task in range(1, len(cuts) - 1):
        if done[cuts[task + 1]] - done[cuts[first]] > ROUND or task - first == TASKS:
            rounds.append((first, task))
            first = task
    return cuts, [*rounds, (first, len(cuts) - 1)]


def _fill_scratch(plan: JoinPlan, collector: str, words: _Words, most: int, tasks: int) -> None:
    """Memory for the collectors of groups of at most so many tuples, all zero: for as many tasks as
    there are at the same time."""
    size, span = 0, plan.span
    if collector == "bytes":
        size = ((span >> 6) + 1) * 64
        size += ((size >> 12) + 1) * 64
    elif collector == "bits":
        size = (span >> 6) + 1
        size = 8 * (size + (size >> 6) + 1)
    elif collector == "hash":
        size = 8 << (2 * most | 15).bit_length()
    stride = -(-size // 128) * 128
    together = max(1, min(tasks, thread_count()))
    words.put("scratch", POOL.zeros(together * stride, np.uint8))
    words.put("free", np.array([(1 << together) - 1], np.uint64))
    words.put("stride", stride)


def _fill_stages(plan: JoinPlan, words: _Words) -> None:
    """What the stages and sums of a plan are on its data."""
    for number, stage in enumerate(plan.stages):
        words.put("count", stage.count, number)
        if stage.codes is not None:
            distinct = len(stage.codes)
            assert stage.begin is not None
            # A code that is not there leads to the place after the last, which has no elements.
            words.put("begin", np.append(stage.begin, stage.begin[-1:]), number)
            words.put("count", distinct, number)
            words.put("codes", stage.codes, number)
            slots = 1 << (2 * distinct | 15).bit_length()
            words.put("table", np.empty(2 * slots, np.int64), number)
            words.put("mask", slots - 1, number)
        elif stage.begin is not None:
            words.put("begin", stage.begin, number)
    for number, total in enumerate(plan.sums):
        words.put("constant", total.constant, number)
        for binder, values in total.columns.items():
            words.put("column", np.ascontiguousarray(values), number, binder)


class _Code:
    """The machine code for a shape: `places` of the words by name, and functions by collector."""

    def __init__(self, shape: Shape):
        self.shape = shape
        self.places = {word: place for place, word in enumerate(words_of(shape))}
        self.functions: dict[str, Mapping[str, Callable[[Any, int], None]]] = {}

    def run(self, collector: str) -> Mapping[str, Callable[[Any, int], None]]:
        """The functions that collect so; compiled the first time."""
        if collector not in self.functions:
            self.functions[collector] = _compiled(replace(self.shape, collector=collector))
        return self.functions[collector]


_code = cache(_Code)


def _compiled(shape: Shape) -> Mapping[str, Callable[[Any, int], None]]:
    text, entries = derive_ir(shape), entries_of(shape)
    store, key = default_cache(), cache_key("derive", str(jit.host()), text)
    entry = store.lookup(key)
    if entry is None:
        object_code = jit.compile_object(text, "derive.ll")
        store.store(key, {"what": "derived set"}, {"object": object_code})
    else:
        object_code = entry.blobs["object"]
    known = symbols() | (short_groups.symbols() if shape.short and shape.collector else {})
    code = jit.load(object_code, entries, known)
    return {name: code.function(name, None, ctypes.c_void_p, ctypes.c_int64) for name in entries}
