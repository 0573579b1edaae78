"""Layouts: every element is held, and slices hold what their layout needs."""

import itertools

import pytest

from hectorite.ir.layout import Digit, Layout
from hectorite.lowering.gpu.layouts import blocked

SHAPES = [(1,), (2,), (6,), (16,), (31,), (32,), (33,), (64,), (100,), (128,), (300,)]
TILES = [(1, 1), (6, 64), (16, 8), (5, 3), (1, 128), (128, 64), (33, 7)]


def held(layout: Layout) -> dict[tuple[int, ...], set[tuple[int, int]]]:
    """The threads and registers that hold each element."""
    found: dict[tuple[int, ...], set[tuple[int, int]]] = {}
    pairs = itertools.product(range(layout.thread_count), range(layout.register_count))
    for thread, register in pairs:
        place = layout.place(thread, register)
        if place is not None:
            found.setdefault(place, set()).add((thread, register))
    return found


@pytest.mark.parametrize("threads", [32, 128])
@pytest.mark.parametrize("shape", [*SHAPES, *TILES], ids=str)
def test_blocked_layouts_hold_every_element(shape, threads):
    layout = blocked(shape, threads)
    assert layout.thread_count == threads
    found = held(layout)
    assert set(found) == set(itertools.product(*map(range, shape)))
    owners = {len({thread for thread, _ in holders}) for holders in found.values()}
    assert len(owners) == 1
    assert layout.repeats == (owners != {1})


@pytest.mark.parametrize("shape", TILES, ids=str)
def test_slices_have_the_index_of_each_element(shape):
    layout = blocked(shape, 64)
    for axis in range(2):
        part = layout.slice(axis)
        assert part.shape == (shape[axis],)
        pairs = itertools.product(range(64), range(layout.register_count))
        for thread, register in pairs:
            place = layout.place(thread, register)
            if place is not None:
                here = part.place(thread, layout.slice_register(register, axis))
                assert here == (place[axis],)


def test_equal_layouts_are_written_alike():
    one = Layout.of((64,), [Digit(4, (1,)), Digit(8, (4,))], [Digit(1, (7,)), Digit(2, (32,))])
    other = Layout.of((64,), [Digit(32, (1,))], [Digit(2, (32,))])
    assert one == other
    assert str(one) == "[64] threads 32:[1] registers 2:[32]"


def test_neighbours_are_found():
    layout = blocked((128,), 32)
    assert layout.run(0) == 4
    assert blocked((6, 64), 32).run(1) == 4
    assert blocked((6, 64), 32).run(0) == 1
    assert Layout.uniform(32).is_full
