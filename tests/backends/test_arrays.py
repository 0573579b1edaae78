"""Arrays that a caller passes in."""

from array import array
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from hectorite.backends.arrays import as_array
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.element import ELEMENTS

DIMS = [("node", 3), ("I", None)]


@pytest.mark.parametrize("name", list(ELEMENTS))
def test_no_copy_of_what_fits(name: str):
    element = ELEMENTS[name]
    values = np.ones((3, 2), element.storage)
    assert as_array(values, element, DIMS, "h") is values


@pytest.mark.parametrize(
    ("value", "name", "dims"),
    [
        (memoryview(array("f", [1, 2, 3])), "f32", [("node", 3)]),
        (np.ones((3, 4), np.float32)[:, ::2], "f32", DIMS),
        (np.ones((2, 3), np.float32).T, "f32", DIMS),
        (np.ones((3, 2), ">f4"), "f32", DIMS),
        (np.asmatrix(np.ones((3, 2), "f4")), "f32", DIMS),
        ([[1, 2], [3, 4], [5, 6]], "f32", DIMS),
        ([[1, 2], [3, 4], [5, 6.5]], "bf16", DIMS),
        ([[True, False]] * 3, "bool", DIMS),
        ([[-1, 1]] * 3, "i1", DIMS),
        (2, "f32", []),
        (2.5, "f64", []),
        (np.float64(2.5), "f16", []),
        (3, "u2", []),
        ([], "i32", [("node", 0)]),
        (np.ones((3, 2), ml_dtypes.bfloat16).view("V2"), "bf16", DIMS),
    ],
)
def test_what_is_accepted(value: Any, name: str, dims: Any):
    element = ELEMENTS[name]
    taken = as_array(value, element, dims, "h")
    assert taken.dtype == element.storage and taken.flags.c_contiguous
    assert type(taken) is np.ndarray
    if element.storage.kind != "V":
        assert (taken == np.asarray(value)).all()


@pytest.mark.parametrize(
    ("value", "name", "dims", "message"),
    [
        (np.ones((3, 2)), "f32", DIMS, "`h` is a float64 array"),
        (np.ones((3, 2)), "f32", DIMS, r"hint: convert it: h.astype\(np.float32\)"),
        (np.ones((3, 2)), "bf16", DIMS, r"h.astype\(ml_dtypes.bfloat16\)"),
        (np.ones((3, 2)), "f32", DIMS, r"f32\[node, I\]: a float32 array of shape \(3, any\)"),
        (np.ones(3, "f4"), "f32", DIMS, r"`h` has 1 dimension \(3,\)"),
        (np.ones((4, 2), "f4"), "f32", DIMS, r"`h` has 4 in dimension 0 \(node\), which is 3"),
        (np.full((3, 2), 4, np.uint8), "u2", DIMS, r"h\[0, 0\] is 4, which is not a u2 value"),
        (np.eye(3, 2, dtype=np.int8), "i1", DIMS, r"h\[0, 1\] is 0.*\n.*-1 or \+1"),
        (300, "i8", [], "h is 300, which is not an i8 value"),
        (2.5, "i32", [], "`h` has float64 values"),
        (np.ma.masked_less(np.ones((3, 2), "f4"), 2), "f32", DIMS, "`h` is a masked array"),
        (1j, "f32", [], "`h` is a complex, not|is a complex128 array"),
        (None, "f32", [], "`h` is a NoneType, not an array"),
        ("x", "f32", [], "`h` is a str, not an array"),
        ([[1], [2, 3]], "f32", DIMS, "`h` cannot be read as an array"),
    ],
)
def test_what_is_refused(value: Any, name: str, dims: Any, message: str):
    with pytest.raises(HectoriteError, match=message):
        as_array(value, ELEMENTS[name], dims, "h")


class Device:
    type = "cuda"

    def __str__(self) -> str:
        return "cuda:0"


class OnDevice:
    device = Device()


def test_an_array_on_a_device():
    with pytest.raises(HectoriteError, match="is on device cuda:0"):
        as_array(OnDevice(), ELEMENTS["f32"], DIMS, "h")


def test_torch_tensors_are_shared():
    torch = pytest.importorskip("torch")
    types = {"f32": torch.float32, "tf32": torch.float32}
    types |= {"bf16": torch.bfloat16, "bool": torch.bool}
    for name, kind in types.items():
        tensor = torch.ones((3, 2), dtype=kind)
        taken = as_array(tensor, ELEMENTS[name], DIMS, "h")
        assert taken.ctypes.data == tensor.data_ptr() and (taken == 1).all()
    tensor = torch.ones((3, 2), requires_grad=True)
    assert as_array(tensor, ELEMENTS["f32"], DIMS, "h").ctypes.data == tensor.data_ptr()
    with pytest.raises(HectoriteError, match=r"h.to\(torch.float32\)"):
        as_array(torch.ones((3, 2)).double(), ELEMENTS["f32"], DIMS, "h")
