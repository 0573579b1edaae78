"""The recycling allocator."""

import gc
import threading

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectorite.backends.host.memory import ALIGNMENT, Pool, size_class


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("shape", [(), 0, 7, (3, 5), (2, 0, 4), (100, 1000)])
@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.bool_, ml_dtypes.bfloat16])
def test_arrays_as_from_numpy(shape: int | tuple[int, ...], dtype: type):
    array = Pool().empty(shape, dtype)
    like = np.empty(shape, dtype)
    assert array.shape == like.shape and array.dtype == like.dtype
    assert array.flags.c_contiguous and array.flags.writeable
    assert address(array) % ALIGNMENT == 0
    array[...] = 1
    assert (array == 1).all()


def test_a_block_comes_back_when_the_last_view_is_gone():
    pool = Pool()
    array = pool.empty(1000, np.float32)
    place = address(array)
    view = array.reshape(10, 100)[3:, ::2]
    del array
    gc.collect()
    assert pool.retained == 0 and address(pool.empty(1000, np.float32)) != place
    del view
    assert address(pool.empty(1001, np.float32)) == place


def test_what_is_kept_is_bounded():
    pool = Pool(limit=3 << 20)
    arrays = [pool.empty(1 << 20, np.uint8) for _ in range(8)]
    assert pool.retained == 0
    del arrays
    assert 0 < pool.retained <= 3 << 20
    pool.trim()
    assert pool.retained == 0


def test_zeros_after_use():
    pool = Pool()
    pool.empty(100, np.int32).fill(7)
    assert not pool.zeros(100, np.int32).any()


def test_a_negative_length():
    with pytest.raises(ValueError, match="shape"):
        Pool().empty((2, -1), np.int8)


def test_workspace():
    pool = Pool()
    with pool.workspace() as work:
        one = work.empty(1000, np.float32)
        place = address(one)
        work.release(one)
        del one
        assert address(work.empty(1000, np.float32)) == place
        work.empty(1000, np.float32)
        assert pool.retained == 0
    assert pool.retained == 2 * size_class(4000)


@given(st.integers(0, 1 << 40))
def test_size_classes_waste_at_most_a_quarter(nbytes: int):
    capacity = size_class(nbytes)
    assert capacity >= nbytes and capacity % ALIGNMENT == 0
    assert capacity <= max(nbytes * 1.25, nbytes + ALIGNMENT)
    assert size_class(capacity) == capacity


def test_threads_never_share_a_block():
    pool = Pool(limit=1 << 20)
    clashes: list[int] = []

    def use(mark: int) -> None:
        for turn in range(300):
            array = pool.empty(1000 + turn % 5, np.int64)
            array.fill(mark)
            if (array != mark).any():
                clashes.append(mark)

    threads = [threading.Thread(target=use, args=(mark,)) for mark in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
