"""Tensors drawn from a seed."""

import numpy as np
import pytest

from hectorite.frontend.data.drawing import draw
from hectorite.ir.element import ELEMENTS


@pytest.mark.parametrize("name", list(ELEMENTS))
def test_every_type_is_drawn_alike_again(name: str):
    element = ELEMENTS[name]
    one = draw("W", (5, 40), element, 0)
    assert one.dtype == element.storage and one.shape == (5, 40) and one.flags.c_contiguous
    assert (one == draw("W", (5, 40), element, 0)).all()
    assert (one != draw("W", (5, 40), element, 1)).any()
    assert (one != draw("V", (5, 40), element, 0)).any()
    if not element.is_float:
        low, high = element.bounds
        assert low <= one.min() and one.max() <= high and len(np.unique(one)) > 1
        assert element.kind != "sign" or set(np.unique(one)) == {-1, 1}
    assert draw("W", (), element, 0).shape == () and draw("W", (0, 3), element, 0).size == 0


def test_scale():
    f32 = ELEMENTS["f32"]
    features = draw("h", (500, 64), f32, 0, over_set=(True, False))
    weights = draw("W", (64, 32), f32, 0)
    assert 0.95 < features.std() < 1.05
    assert 0.9 < (features @ weights).std() < 1.1


@pytest.mark.parametrize("length", [1, 8, 10])
def test_sparse_format(length: int):
    values = draw("W", (30, length), ELEMENTS["f16"], 3, format="nm(2, 4)")
    for start in range(0, length, 4):
        group = values[:, start : start + 4]
        kept = (group != 0).sum(axis=1)
        assert kept.max() <= 2 and (group.shape[1] < 4 or kept.min() == 2)
