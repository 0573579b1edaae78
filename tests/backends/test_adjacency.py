"""Adjacency by machine code, against NumPy."""

import numpy as np
import pytest

from hectorite.backends import order
from hectorite.backends.derived import adjacency


@pytest.mark.parametrize("count", [0, 1, 7, 500])
@pytest.mark.parametrize("extent", [0, 1, 5, 900])
@pytest.mark.parametrize("is_sorted", [False, True])
def test_segments_and_cuts(count: int, extent: int, is_sorted: bool):
    count = count if extent else 0
    values = np.random.default_rng(count + extent).integers(0, extent or 1, count).astype(np.int32)
    values = np.sort(values) if is_sorted else values
    ends, ordered = adjacency.segments(values, extent)
    assert ends.tolist() == order.segments(values, extent).tolist()
    assert ordered == (not (values[1:] < values[:-1]).any())
    for parts in (1, 3, 16):
        assert adjacency.cuts(ends, parts).tolist() == order.cuts(ends, parts).tolist()
