"""Short groups in registers, against sorting in NumPy."""

import ctypes

import numpy as np
import pytest

from hectorite.backends.derived import short_groups
from hectorite.backends.host.memory import POOL, address_of


@pytest.mark.skipif(not short_groups.is_served(), reason="no such registers")
@pytest.mark.parametrize("top", [1, 3, 60, 10_000, (1 << 31) - 1])
def test_each_number_once_and_in_order(top: int):
    address = short_groups.symbols()[short_groups.ENTRY]
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    distinct = ctypes.CFUNCTYPE(integer, pointer, integer, pointer)(address)
    generator = np.random.default_rng(top)
    buffer, out = (POOL.empty(short_groups.MOST + short_groups.LANES, np.int32) for _ in range(2))
    for count in range(short_groups.MOST + 1):
        numbers = generator.integers(0, top, count).astype(np.int32)
        buffer[:] = -5
        buffer[:count] = numbers
        found = distinct(address_of(buffer), count, address_of(out))
        assert out[:found].tolist() == np.unique(numbers).tolist()
