"""Loads and stores: every element type, and every way in which lanes can lie in memory."""

import ml_dtypes
import numpy as np
import pytest

from hectorite.ir.element import ELEMENTS

EXECUTABLE = [name for name, element in ELEMENTS.items() if element.executable]


def values(element_name: str, count: int):
    element = ELEMENTS[element_name]
    numbers = np.arange(count)
    if element.is_float:
        return (numbers * 0.5 - 3).astype(element.storage)
    if element.kind == "sign":
        return np.where(numbers % 3 == 0, 1, -1).astype(np.int8)
    least, greatest = element.bounds
    several = min(greatest - least + 1, 1000)
    return (numbers % several + least).astype(element.storage)


@pytest.mark.parametrize("name", EXECUTABLE)
@pytest.mark.parametrize("lanes", [1, 5, 8, 50])
def test_every_element_type(run_kernel, name: str, lanes: int):
    spelled = str(ELEMENTS[name].xdsl)
    tensor = f"!hec.tensor<{spelled}[{lanes}]>"
    body = f"""
      %v = tile.load %x[%zero] axis 0 : {tensor} -> vector<{lanes}x{spelled}>
      tile.store %v, %y[%zero] axis 0 : {tensor}, vector<{lanes}x{spelled}>
      %s = tile.load %x[%zero] : {tensor} -> {spelled}
      tile.store %s, %z[%zero] : {tensor}, {spelled}
    """
    x = values(name, lanes)
    types = {"y": f"{spelled}[{lanes}]", "z": f"{spelled}[{lanes}]"}
    y, z = run_kernel(body, {"x": f"{spelled}[{lanes}]"}, types, {"x": x})
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype("f8"), x.astype("f8"))
    assert z[0] == x[0]


@pytest.mark.parametrize(
    "axis, step, lanes", [(0, 1, 4), (0, 2, 3), (1, 1, 7), (1, 2, 4), (1, -1, 6)]
)
def test_axis_and_step(run_kernel, axis: int, step: int, lanes: int):
    tensor = "!hec.tensor<f32[n, 13]>"
    body = f"""
      %six = scalar.constant 6 : index
      %v = tile.load %x[%one, %six] axis {axis} step {step} : {tensor} -> vector<{lanes}xf32>
      tile.store %v, %y[%one, %six] axis {axis} step {step} : {tensor}, vector<{lanes}xf32>
    """
    x = np.random.default_rng(0).standard_normal((9, 13)).astype("f4")
    (y,) = run_kernel(body, {"x": "f32[n, 13]"}, {"y": "f32[n, 13]"}, {"x": x}, n=9)
    moved = np.arange(lanes) * step
    place = (1 + moved, 6) if axis == 0 else (1, 6 + moved)
    np.testing.assert_array_equal(y[place], x[place])


@pytest.mark.parametrize("count", [-3, 0, 1, 15, 16, 17, 49, 50, 60])
@pytest.mark.parametrize("type", ["f32", "i8", "bf16", "f64"])
def test_valid(run_kernel, count: int, type: str):
    tensor = f"!hec.tensor<{type}[n]>"
    body = f"""
      %count = scalar.cast %c : i64 to index
      %fill = scalar.constant 7 : vector<50x{type}>
      tile.store %fill, %y[%zero] axis 0 : {tensor}, vector<50x{type}>
      %v = tile.load %x[%zero] axis 0 valid %count : {tensor} -> vector<50x{type}>
      tile.store %v, %y[%zero] axis 0 valid %count : {tensor}, vector<50x{type}>
    """
    x = values(type, 50)
    (y,) = run_kernel(
        body, {"x": f"{type}[n]", "c": "i64"}, {"y": f"{type}[n]"}, {"x": x, "c": count}, n=50
    )
    kept = np.arange(50) < count
    np.testing.assert_array_equal(y.astype("f8"), np.where(kept, x.astype("f8"), 7))


@pytest.mark.parametrize("row", [-2, 0, 3, 4, 1 << 40])
@pytest.mark.parametrize("column", [-20, -3, 0, 5, 8, 20, -(1 << 40)])
@pytest.mark.parametrize("step", [1, 2, 0])
def test_pad(run_kernel, row: int, column: int, step: int):
    tensor = "!hec.tensor<f32[n, 10]>"
    body = f"""
      %r = scalar.cast %row : i64 to index
      %c = scalar.cast %column : i64 to index
      %v = tile.load %x[%r, %c] axis 1 step {step} pad 2.5 : {tensor} -> vector<12xf32>
      tile.store %v, %y[%zero] axis 0 : !hec.tensor<f32[12]>, vector<12xf32>
      %s = tile.load %x[%r, %c] pad 2.5 : {tensor} -> f32
      tile.store %s, %one_[%zero] : !hec.tensor<f32[1]>, f32
    """
    x = np.random.default_rng(0).standard_normal((4, 10)).astype("f4")
    y, one = run_kernel(
        body,
        {"x": "f32[n, 10]", "row": "i64", "column": "i64"},
        {"y": "f32[12]", "one_": "f32[1]"},
        {"x": x, "row": row, "column": column},
        n=4,
    )
    columns = column + step * np.arange(12)
    inside = (0 <= row < 4) & (columns >= 0) & (columns < 10)
    read = x[row if 0 <= row < 4 else 0, np.clip(columns, 0, 9)]
    np.testing.assert_array_equal(y, np.where(inside, read, np.float32(2.5)))
    assert one[0] == y[0]


def test_padded_stores_stay_inside(run_kernel):
    body = """
      %back = scalar.constant -2 : index
      %zeros = scalar.constant 0.0 : vector<8xf32>
      tile.store %zeros, %y[%zero] axis 0 : !hec.tensor<f32[n]>, vector<8xf32>
      %v = scalar.constant 1.0 : vector<7xf32>
      tile.store %v, %y[%back] axis 0 pad 0.0 : !hec.tensor<f32[n]>, vector<7xf32>
      %s = scalar.constant 9.0 : f32
      tile.store %s, %y[%back] pad 0.0 : !hec.tensor<f32[n]>, f32
    """
    (y,) = run_kernel(body, {}, {"y": "f32[n]"}, {}, n=8)
    np.testing.assert_array_equal(y, [1, 1, 1, 1, 1, 0, 0, 0])


@pytest.mark.parametrize("type", ["f32", "f16", "i8", "bool"])
def test_gather_and_scatter(run_kernel, type: str):
    spelled = str(ELEMENTS[type].xdsl)
    tensor = f"!hec.tensor<{spelled}[n, 3]>"
    body = f"""
      %i32 = tile.load %i[%zero] axis 0 : !hec.tensor<i32[11]> -> vector<11xi32>
      %at = scalar.cast %i32 : vector<11xi32> to vector<11xindex>
      %v = tile.load %x[%at, %one] : {tensor} -> vector<11x{spelled}>
      tile.store %v, %y[%at, %zero] : {tensor}, vector<11x{spelled}>
      %w = tile.load %x[%at, %zero] axis 1 step 0 : {tensor} -> vector<11x3x{spelled}>
      tile.store %w, %z[%at, %zero] axis 1 : {tensor}, vector<11x3x{spelled}>
    """
    x = values(type, 60).reshape(20, 3)
    at = np.array([3, 1, 19, 0, 7, 8, 9, 2, 4, 15, 5], "i4")
    shape = f"{spelled}[n, 3]"
    y, z = run_kernel(
        body, {"x": shape, "i": "i32[11]"}, {"y": shape, "z": shape}, {"x": x, "i": at}, n=20
    )
    np.testing.assert_array_equal(y[at, 0], x[at, 1])
    np.testing.assert_array_equal(z[at].astype("f8"), np.repeat(x[at, :1], 3, 1).astype("f8"))


def test_gather_with_pad_and_valid(run_kernel):
    body = """
      %i32 = tile.load %i[%zero] axis 0 : !hec.tensor<i32[6]> -> vector<6xi32>
      %at = scalar.cast %i32 : vector<6xi32> to vector<6xindex>
      %fill = scalar.constant 0 : vector<6xi64>
      tile.store %fill, %y[%zero] axis 0 : !hec.tensor<i64[6]>, vector<6xi64>
      %five = scalar.constant 5 : index
      %v = tile.load %x[%at] pad -1 valid %five : !hec.tensor<i64[n]> -> vector<6xi64>
      tile.store %v, %y[%zero] axis 0 valid %five : !hec.tensor<i64[6]>, vector<6xi64>
    """
    at = np.array([2, -1, 4, 3, 1 << 30, 1 << 30], "i4")
    x = np.arange(4) + (1 << 40)
    (y,) = run_kernel(body, {"x": "i64[n]", "i": "i32[6]"}, {"y": "i64[6]"}, {"x": x, "i": at}, n=4)
    np.testing.assert_array_equal(y, [x[2], -1, -1, x[3], -1, 0])


def test_rows_of_several_dimensions(run_kernel):
    """Symbolic strides, and a tile of rank 2 whose rows leave the tensor."""
    tensor = "!hec.tensor<f32[n, m, 20]>"
    body = f"""
      %lanes = tile.lanes : vector<4xindex>
      %v = tile.load %x[%one, %lanes, %one] axis 2 pad 0.0 : {tensor} -> vector<4x19xf32>
      %w = tile.load %x[%lanes, %one, %zero] axis 1 step 1 pad 0.0 : {tensor} -> vector<4x3xf32>
      %i = tile.lanes : vector<4xindex>
      tile.store %v, %y[%i, %zero] axis 1 : !hec.tensor<f32[4, 19]>, vector<4x19xf32>
      tile.store %w, %z[%i, %zero] axis 1 : !hec.tensor<f32[4, 3]>, vector<4x3xf32>
    """
    x = np.random.default_rng(0).standard_normal((2, 3, 20)).astype("f4")
    y, z = run_kernel(
        body, {"x": "f32[n, m, 20]"}, {"y": "f32[4, 19]", "z": "f32[4, 3]"}, {"x": x}, n=2, m=3
    )
    np.testing.assert_array_equal(y, np.vstack([x[1, :, 1:], np.zeros((1, 19))]))
    expected = np.zeros((4, 3), "f4")
    expected[:2, :2] = x[:, 1:, 0]
    np.testing.assert_array_equal(z, expected)


def test_local_memory_and_prefetch(run_kernel):
    body = """
      %t = tile.local : !hec.tensor<f32[3, 16]>
      tile.prefetch %x[%zero] count 1000 : !hec.tensor<f32[n]>
      %v = tile.load %x[%zero] axis 0 : !hec.tensor<f32[n]> -> vector<16xf32>
      tile.store %v, %t[%one, %zero] axis 1 : !hec.tensor<f32[3, 16]>, vector<16xf32>
      %lanes = tile.lanes : vector<16xindex>
      %last = scalar.constant 15 : vector<16xindex>
      %back = scalar.sub %last, %lanes : vector<16xindex>
      %w = tile.load %t[%one, %back] : !hec.tensor<f32[3, 16]> -> vector<16xf32>
      tile.store %w, %y[%zero] axis 0 : !hec.tensor<f32[n]>, vector<16xf32>
    """
    x = np.arange(16, dtype="f4")
    (y,) = run_kernel(body, {"x": "f32[n]"}, {"y": "f32[n]"}, {"x": x}, n=16)
    np.testing.assert_array_equal(y, x[::-1])


def test_offsets_beyond_31_bits(run_kernel):
    """Row 2^24 of 300 columns: its offset in elements, which a column makes up for, passes 2^32."""
    body = """
      %start = scalar.constant -5033164800 : index
      %far = scalar.constant 16777216 : index
      %at32 = scalar.cast %far : index to i32
      %at = scalar.cast %at32 : i32 to index
      %v = tile.load %x[%at, %start] axis 1 : !hec.tensor<f32[n, 300]> -> vector<8xf32>
      tile.store %v, %y[%zero] axis 0 : !hec.tensor<f32[8]>, vector<8xf32>
    """
    x = np.random.default_rng(0).standard_normal((2, 300)).astype("f4")
    (y,) = run_kernel(body, {"x": "f32[n, 300]"}, {"y": "f32[8]"}, {"x": x}, n=2)
    np.testing.assert_array_equal(y, x[0, :8])


def test_bfloat_is_stored_rounded(run_kernel):
    body = """
      %v = tile.load %x[%zero] axis 0 : !hec.tensor<f32[n]> -> vector<8xf32>
      %h = scalar.cast %v : vector<8xf32> to vector<8xbf16>
      tile.store %h, %y[%zero] axis 0 : !hec.tensor<bf16[n]>, vector<8xbf16>
    """
    x = np.array([1.0, 1.01, 1e-40, np.inf, np.nan, 3e38, -0.0, 1 + 2**-8], "f4")
    (y,) = run_kernel(body, {"x": "f32[n]"}, {"y": "bf16[n]"}, {"x": x}, n=8)
    np.testing.assert_array_equal(y.astype("f4"), x.astype(ml_dtypes.bfloat16).astype("f4"))
