"""Arrays that are handed out again: never one that somebody still has."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from hectorite.backends.host.memory import Pool, address_of
from hectorite.backends.host.recycled import LARGEST, Recycled, counts_references

pytestmark = pytest.mark.skipif(not counts_references(), reason="references are not counted")


@pytest.fixture
def arrays():
    return Recycled((5, 7), np.dtype(np.float32), Pool())


def address(arrays) -> int:
    return arrays.take()[1]


def test_an_array_that_nobody_has_is_used_again(arrays):
    first = address(arrays)
    assert {address(arrays) for _ in range(5)} == {first}


def test_address_of():
    for array in (np.empty(3), np.empty((4, 4), np.int8)[1:, 2:], np.empty(0)):
        assert address_of(array) == array.ctypes.data


@pytest.mark.parametrize(
    "hold",
    [
        lambda array: array,
        lambda array: array[1:, 2].T,
        lambda array: array.base,
        lambda array: array.reshape(7, 5).view(np.recarray),
        memoryview,
        lambda array: np.from_dlpack(array),
        lambda array: array.__dlpack__(),
        lambda array: iter(array),
        lambda array: array.flat,
        lambda array: np.frombuffer(array, np.int8),
    ],
)
def test_an_array_that_is_held_is_not_used_again(arrays, hold):
    held = hold(arrays.take()[0])
    first = arrays._last[0].address
    others = [arrays.take() for _ in range(4)]
    assert len({first, *(address for _, address in others)}) == 5
    del held, others
    assert address(arrays) in {kept.address for kept in arrays._last}


def test_changes_of_a_result_stay_with_it(arrays):
    result, first = arrays.take()
    result.flags.writeable = False
    result.shape = (35,)
    del result
    again, second = arrays.take()
    assert (first, (5, 7), True) == (second, again.shape, again.flags.writeable)


def test_large_arrays_are_left_to_the_pool():
    pool = Pool()
    arrays = Recycled((LARGEST + 4,), np.dtype(np.int8), pool)
    arrays.take()
    assert pool.retained > LARGEST


def test_threads_never_share(arrays):
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            array, _ = arrays.take()
            array.fill(number)
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
