"""Derived sets by machine code: a `JoinPlan` run on its data by both cores.

Enters: a plan. Leaves: the fields of the set, in lexicographic order, and where the elements of
each group begin. Code depends on the shape of the plan only, so it is compiled once and cached.

Groups are cut into tasks with like bounds of tuples. Each task writes its tuples as numbers into a
stretch as long as its bound, of which only what is used takes memory; then these are copied out, as
fields, behind each other. Tasks do not depend on each other and each finds its groups' tuples in
order, so results are the same for any number of threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from hectorite.backends.cache import cache_key, default_cache
from hectorite.backends.cpu import jit
from hectorite.backends.cpu.threads import symbols
from hectorite.backends.derived.ir import ENTRIES, WRITTEN, Shape, SumShape, derive_ir, words_of
from hectorite.backends.derived.plan import JoinPlan
from hectorite.backends.memory import POOL

Array = np.ndarray[Any, Any]

TASKS = 64
"""Tasks of one round, at most."""

ROUND = 1 << 26
"""Tuples that the tasks of one round may have, unless one group alone has more."""

MOST_BITS = 1 << 24
"""Numbers that get a bit each, at most."""

BITS_SCANNED = 4096
"""Bits of a group's bitmap that one look passes over, if none is set."""

LOOKS = 8
"""Looks at a bitmap for each group that are nothing beside the rest."""


@dataclass(frozen=True)
class Joined:
    """int32[size] for each field, and int64[groups + 1]: where the elements of each group begin."""

    fields: tuple[Array, ...]
    ends: Array


def run_join(plan: JoinPlan) -> Joined:
    """Build the set."""
    groups = len(plan.groups) - 1
    shape = _shape(plan)
    cuts, rounds = _cuts(plan.bound)
    words: dict[tuple[str, int, int], Array | int] = {}
    _stage_words(plan, words)
    counts = np.zeros(groups, np.int64)
    words["groups", 0, 0], words["counts", 0, 0] = plan.groups, counts
    words["bounds", 0, 0], words["span", 0, 0] = plan.bound, plan.span
    scratch, stride = _scratch(plan, shape, max(np.diff(rounds)))
    words["scratch", 0, 0], words["stride", 0, 0] = scratch, stride
    code = _compiled(shape)
    if "hash" in shape.stages:
        code["derive.index"](_addresses(shape, words), 1)
    parts: list[tuple[Array, ...]] = []
    for first, last in zip(rounds[:-1], rounds[1:], strict=True):
        own = cuts[first : last + 1]
        words["cuts", 0, 0] = own
        parts.append(_round(plan, shape, code, words, own))
    ends = np.zeros(groups + 1, np.int64)
    np.cumsum(counts, out=ends[1:])
    if len(parts) == 1:
        return Joined(parts[0], ends)
    return Joined(tuple(np.concatenate(field) for field in zip(*parts, strict=True)), ends)


def _round(
    plan: JoinPlan,
    shape: Shape,
    code: Mapping[str, Callable[[Any, int], None]],
    words: dict[tuple[str, int, int], Array | int],
    cuts: Array,
) -> tuple[Array, ...]:
    """Fields of the elements that the tasks between some cuts make."""
    ahead = np.zeros(len(plan.bound) + 1, np.int64)
    np.cumsum(plan.bound, out=ahead[1:])
    # A task may write over its end by what a word of a bitmap has too much.
    starts = ahead[cuts] - ahead[cuts[0]] + WRITTEN * np.arange(len(cuts))
    numbers = POOL.empty(int(starts[-1]), f"i{shape.bits // 8}")
    words["starts", 0, 0], words["numbers", 0, 0] = starts, numbers
    code["derive.join"](_addresses(shape, words), len(cuts) - 1)
    counts = words["counts", 0, 0]
    assert isinstance(counts, np.ndarray)
    ends = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts[cuts[0] : cuts[-1]], out=ends[cuts[0] + 1 : cuts[-1] + 1])
    fields = tuple(
        POOL.empty(int(ends[cuts[-1]]), np.int32) for _ in range(shape.lead + shape.trailing)
    )
    words["ends", 0, 0] = ends
    for k in range(shape.lead):
        words["lead", k, 0], words["lead_field", k, 0] = plan.lead[k], fields[k]
    for k in range(shape.trailing):
        words["extent", k, 0], words["field", k, 0] = plan.trailing[k], fields[shape.lead + k]
    code["derive.spread"](_addresses(shape, words), len(cuts) - 1)
    return fields


def _shape(plan: JoinPlan) -> Shape:
    sums = tuple(
        SumShape(
            total.role,
            total.of,
            tuple((number, 8 * total.columns[number].itemsize) for number in sorted(total.columns)),
        )
        for total in plan.sums
    )
    groups = max(1, len(plan.bound))
    looks = plan.span // BITS_SCANNED
    if plan.unique:
        collector = "append"
    elif plan.span <= MOST_BITS and looks <= LOOKS + int(plan.bound.sum()) // groups:
        collector = "bitmap"
    else:
        collector = "hash"
    bits = 32 if plan.span < 1 << 31 else 64
    kinds = tuple(stage.kind for stage in plan.stages)
    return Shape(kinds, sums, collector, bits, len(plan.lead), len(plan.trailing))


def _cuts(bound: Array) -> tuple[Array, list[int]]:
    """Where the groups of each task begin, and the first task of each round."""
    done = np.zeros(len(bound) + 1, np.int64)
    np.cumsum(bound + 1, out=done[1:])
    total = int(done[-1])
    rounds = -(-total // ROUND) or 1
    parts = rounds * TASKS
    shares = np.arange(parts + 1) * (total / parts)
    cuts = np.searchsorted(done, shares, side="left")
    cuts[0], cuts[-1] = 0, len(bound)
    cuts = np.unique(cuts) if len(bound) else np.zeros(1, np.int64)
    tasks = len(cuts) - 1
    begins, first = [0], 0
    for task in range(tasks):
        if done[cuts[task + 1]] - done[cuts[first]] > ROUND and task > first:
            begins.append(task)
            first = task
    return cuts.astype(np.int64), [*begins, tasks]


def _scratch(plan: JoinPlan, shape: Shape, tasks: int) -> tuple[Array, int]:
    """Memory for the collectors of the tasks, all zero, and the bytes of each."""
    words = 0
    if shape.collector == "bitmap":
        low = (plan.span >> 6) + 1
        words = low + (low >> 6) + 1
    elif shape.collector == "hash":
        words = 1 << (2 * int(plan.bound.max(initial=0)) | 15).bit_length()
    stride = -(-8 * words // 128) * 128
    return np.zeros(max(1, tasks * stride), np.uint8), stride


def _stage_words(plan: JoinPlan, words: dict[tuple[str, int, int], Array | int]) -> None:
    """What the stages and sums of a plan are on its data."""
    for number, stage in enumerate(plan.stages):
        words["count", number, 0] = stage.count
        if stage.begin is not None:
            words["begin", number, 0] = stage.begin
        if stage.codes is not None:
            distinct = len(stage.codes)
            # A code that is not there leads to the place after the last, which has no elements.
            words["begin", number, 0] = np.append(stage.begin, stage.begin[-1:])  # pyright: ignore
            words["count", number, 0], words["codes", number, 0] = distinct, stage.codes
            slots = 1 << (2 * distinct | 15).bit_length()
            words["table", number, 0] = np.empty(2 * slots, np.int64)
            words["mask", number, 0] = slots - 1
    for number, total in enumerate(plan.sums):
        words["constant", number, 0] = total.constant
        for binder, values in total.columns.items():
            words["column", number, binder] = np.ascontiguousarray(values)


def _addresses(shape: Shape, words: Mapping[tuple[str, int, int], Array | int]) -> Any:
    """The words of a call; addresses that it does not need are 0."""
    values = [words.get(word, 0) for word in _order(shape)]
    numbers = [int(v.ctypes.data if isinstance(v, np.ndarray) else v) for v in values]
    return (ctypes.c_int64 * len(numbers))(*numbers)


@cache
def _order(shape: Shape) -> tuple[tuple[str, int, int], ...]:
    return tuple(words_of(shape))


@cache
def _compiled(shape: Shape) -> Mapping[str, Callable[[Any, int], None]]:
    text = derive_ir(shape)
    store, key = default_cache(), cache_key("derive", str(jit.host()), text)
    entry = store.lookup(key)
    if entry is None:
        object_code = jit.compile_object(text, "derive.ll")
        store.store(key, {"what": "derived set"}, {"object": object_code})
    else:
        object_code = entry.blobs["object"]
    code = jit.load(object_code, ENTRIES, symbols())
    return {name: code.function(name, None, ctypes.c_void_p, ctypes.c_int64) for name in ENTRIES}
