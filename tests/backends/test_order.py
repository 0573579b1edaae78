"""Sorting, runs and cuts, against plain definitions."""

from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectorite.backends import order


@st.composite
def columns(draw: Any) -> tuple[list[Any], list[int]]:
    count = draw(st.integers(0, 12))
    extents = draw(st.lists(st.sampled_from([1, 2, 5, 1 << 20, 1 << 31]), min_size=1, max_size=4))
    return [
        np.array(
            draw(st.lists(st.integers(0, min(n, 6) - 1), min_size=count, max_size=count)), np.int32
        )
        for n in extents
    ], extents


@given(columns())
def test_sort_is_lexicographic_and_stable(given_keys: tuple[list[Any], list[int]]):
    keys, extents = given_keys
    sorting = order.sort(keys, extents)
    wanted = np.lexsort(keys[::-1])
    found = sorting.permutation
    if found is None:
        found = np.arange(len(keys[0]))
    else:
        assert found.dtype == np.int32 and (found != np.arange(len(found))).any()
    assert (found == wanted).all()
    tuples = [tuple(column[i] for column in keys) for i in wanted]
    assert sorting.count == len(set(tuples))
    assert list(sorting.first) == [i == 0 or t != tuples[i - 1] for i, t in enumerate(tuples)]


@given(columns(), st.integers(1, 5))
def test_runs(given_keys: tuple[list[Any], list[int]], limit: int):
    keys, extents = given_keys
    extents = [min(n, 6) for n in extents]
    sorting = order.sort(keys, extents)
    runs = order.runs(sorting, keys, extents[0], limit)
    ordered = [
        tuple(int(sorting.arrange(column)[i]) for column in keys) for i in range(len(keys[0]))
    ]
    wanted: list[tuple[tuple[int, ...], int]] = []
    for key, group in groupby(ordered):
        length = len(list(group))
        wanted += [(key, min(limit, length - at)) for at in range(0, length, limit)]
    found_keys = list(zip(*(k.tolist() for k in runs.keys), strict=True))
    assert list(zip(found_keys, np.diff(runs.start).tolist(), strict=True)) == wanted
    counts = np.bincount(runs.keys[0], minlength=extents[0])
    assert runs.block.tolist() == [0, *np.cumsum(counts).tolist()]
    assert len(runs) == len(wanted)
    assert {a.dtype for a in (runs.start, runs.block, *runs.keys)} == {np.dtype(np.int32)}


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 8))
def test_cuts_balance_rows_and_elements(degrees: list[int], parts: int):
    pointers = np.concatenate([[0], np.cumsum(degrees)]).astype(np.int32)
    cuts = order.cuts(pointers, parts)
    assert cuts[0] == 0 and cuts[-1] == len(degrees) and (np.diff(cuts) >= 0).all()
    work = np.diff(pointers[cuts]) + np.diff(cuts)
    assert work.max() <= (sum(degrees) + len(degrees)) / parts + max(degrees, default=0) + 2


def test_even_cuts():
    assert order.cuts(10, 4).tolist() == [0, 2, 5, 7, 10]
    assert order.cuts(0, 2).tolist() == [0, 0, 0]


def test_nothing_to_sort():
    empty = np.zeros(0, np.int32)
    sorting = order.sort([empty, empty], [4, 4])
    assert sorting.permutation is None and sorting.count == 0
    assert order.segments(empty, 3).tolist() == [0, 0, 0, 0]
    assert len(order.runs(sorting, [empty, empty], 4, 8)) == 0


def test_a_key_too_wide_to_sort_by():
    with pytest.raises(ValueError, match="too wide"):
        order.sort([np.arange(4)[::-1]], [1 << 63])


@given(columns(), st.integers(1, 5))
def test_blocks(given_keys: tuple[list[Any], list[int]], height: int):
    keys, extents = given_keys
    extents = [min(n, 6) for n in extents]
    found = order.blocks(keys, extents, height)
    count = len(keys[0])
    assert found.bounds[0] == 0 and found.bounds[-1] == extents[0]
    assert len(found.block) == len(found.bounds) and found.block[0] == 0
    assert found.block[-1] == len(found.start) - 1 and found.start[-1] == count
    permutation = np.arange(count) if found.permutation is None else found.permutation
    assert sorted(permutation.tolist()) == list(range(count))
    seen = []
    for block, (first, last) in enumerate(zip(found.block, found.block[1:], strict=False)):
        for low, high in zip(
            found.start[first:last], found.start[first + 1 : last + 1], strict=True
        ):
            rows = keys[0][permutation[low:high]]
            assert (np.diff(rows) >= 0).all() and len(rows)
            assert (rows >= found.bounds[block]).all() and (rows < found.bounds[block + 1]).all()
            kinds = {tuple(int(key[i]) for key in keys[1:]) for i in permutation[low:high]}
            assert len(kinds) == 1
            seen.append((block, *kinds))
    # A kind is one run of a block, and runs are in order.
    assert seen == sorted(set(seen))


def test_blocks_are_few_where_runs_would_be_short():
    rng = np.random.default_rng(0)
    rows, kinds = rng.integers(0, 4000, 20000), rng.integers(0, 300, 20000)
    short = order.blocks([rows, kinds], [4000, 300], 1 << 20)
    long = order.blocks([rows, kinds % 2], [4000, 2], 1 << 20)
    assert (len(short.bounds), len(long.bounds)) == (9, 65)
    many = order.blocks([rows, kinds], [4000, 300], 100)
    assert len(many.bounds) == 41
