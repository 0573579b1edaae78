"""Arithmetic, reductions, control flow and products in compiled kernels, against NumPy."""

import numpy as np
import pytest

from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.element import ELEMENTS


def test_arithmetic_by_rows(run_kernel):
    body = """
      %lanes = tile.lanes : vector<3xindex>
      %x2 = tile.load %x[%lanes, %zero] axis 1 : !hec.tensor<f32[3, 20]> -> vector<3x20xf32>
      %b = tile.splat %bias : f32 to vector<3x20xf32>
      %s = scalar.add %x2, %b : vector<3x20xf32>
      %r = scalar.relu %s : vector<3x20xf32>
      %two = scalar.constant 2.0 : vector<3x20xf32>
      %p = scalar.mul %r, %two : vector<3x20xf32>
      %c = scalar.lt %p, %two : vector<3x20xf32>
      %q = scalar.select %c, %two, %p : vector<3x20xf32>
      tile.store %q, %y[%lanes, %zero] axis 1 : !hec.tensor<f32[3, 20]>, vector<3x20xf32>
    """
    x = np.random.default_rng(0).standard_normal((3, 20)).astype("f4")
    x[1, 3], x[2, 19] = np.nan, np.inf
    (y,) = run_kernel(
        body, {"x": "f32[3, 20]", "bias": "f32"}, {"y": "f32[3, 20]"}, {"x": x, "bias": 0.5}
    )
    p = 2 * np.maximum(x + np.float32(0.5), 0)
    np.testing.assert_array_equal(y, np.where(p < 2, 2, p))


@pytest.mark.parametrize("type, number", [("f16", 1.5), ("bf16", -2.0), ("f64", 1e300), ("f32", 3)])
def test_numbers_are_passed_by_value(run_kernel, type: str, number: float):
    body = f"tile.store %s, %y[%zero] : !hec.tensor<{type}[1]>, {type}"
    (y,) = run_kernel(body, {"s": type}, {"y": f"{type}[1]"}, {"s": number})
    assert float(y[0]) == number


@pytest.mark.parametrize("type, number", [("i64", -(1 << 60)), ("i8", -7), ("ui8", 200), ("i1", 1)])
def test_integers_are_passed_by_value(run_kernel, type: str, number: int):
    body = f"tile.store %s, %y[%zero] : !hec.tensor<{type}[1]>, {type}"
    (y,) = run_kernel(body, {"s": type}, {"y": f"{type}[1]"}, {"s": number})
    assert int(y[0]) == number


REDUCE = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@pytest.mark.parametrize("kind", REDUCE)
@pytest.mark.parametrize("lanes", [1, 7, 16, 50])
@pytest.mark.parametrize("type", ["f32", "f64", "i32", "i64"])
def test_reductions(run_kernel, kind: str, lanes: int, type: str):
    tensor = f"!hec.tensor<{type}[{lanes}]>"
    body = f"""
      %n = scalar.cast %count : i64 to index
      %v = tile.load %x[%zero] axis 0 : {tensor} -> vector<{lanes}x{type}>
      %a = tile.reduce "{kind}" %v : vector<{lanes}x{type}> -> {type}
      %b = tile.reduce "{kind}" %v valid %n : vector<{lanes}x{type}> -> {type}
      tile.store %a, %y[%zero] : !hec.tensor<{type}[2]>, {type}
      tile.store %b, %y[%one] : !hec.tensor<{type}[2]>, {type}
    """
    count = max(1, lanes // 2)
    x = np.random.default_rng(lanes).permutation(np.arange(lanes) - 2)
    x = x.astype(ELEMENTS[type].storage)
    (y,) = run_kernel(
        body,
        {"x": f"{type}[{lanes}]", "count": "i64"},
        {"y": f"{type}[2]"},
        {"x": x, "count": count},
    )
    with np.errstate(over="ignore"):
        expected = [REDUCE[kind].reduce(part) for part in (x, x[:count])]
    np.testing.assert_allclose(y, np.array(expected).astype(x.dtype), rtol=1e-6)


@pytest.mark.parametrize("kind", REDUCE)
@pytest.mark.parametrize("place", [0, 5, 16, 20])
def test_reductions_propagate_nan(run_kernel, kind: str, place: int):
    body = f"""
      %v = tile.load %x[%zero] axis 0 : !hec.tensor<f32[21]> -> vector<21xf32>
      %a = tile.reduce "{kind}" %v : vector<21xf32> -> f32
      tile.store %a, %y[%zero] : !hec.tensor<f32[1]>, f32
    """
    x = np.ones(21, "f4")
    x[place] = np.nan
    (y,) = run_kernel(body, {"x": "f32[21]"}, {"y": "f32[1]"}, {"x": x})
    assert np.isnan(y[0])


def test_reduction_of_no_lanes(run_kernel):
    body = """
      %v = tile.load %x[%zero] axis 0 valid %zero : !hec.tensor<f32[n]> -> vector<8xf32>
      %a = tile.reduce "add" %v valid %zero : vector<8xf32> -> f32
      %b = tile.reduce "max" %v valid %zero : vector<8xf32> -> f32
      tile.store %a, %y[%zero] : !hec.tensor<f32[2]>, f32
      tile.store %b, %y[%one] : !hec.tensor<f32[2]>, f32
    """
    (y,) = run_kernel(body, {"x": "f32[n]"}, {"y": "f32[2]"}, {"x": np.zeros(0, "f4")}, n=0)
    assert y.tolist() == [0, -np.inf]


@pytest.mark.parametrize("begin, end, step", [(0, 5, 1), (2, 9, 3), (4, 4, 1), (5, 0, 1)])
def test_loops_carry_tiles(run_kernel, begin: int, end: int, step: int):
    body = """
      %b = scalar.cast %begin : i64 to index
      %e = scalar.cast %end : i64 to index
      %s = scalar.cast %step : i64 to index
      %lanes = tile.lanes : vector<2xindex>
      %start = scalar.constant 1.0 : vector<2x7xf32>
      %count = scalar.constant 0 : index
      %sum, %n = scf.for %i = %b to %e step %s iter_args(%acc = %start, %c = %count)
          -> (vector<2x7xf32>, index) {
        %i64 = scalar.cast %i : index to f32
        %v = tile.splat %i64 : f32 to vector<2x7xf32>
        %next = scalar.add %acc, %v : vector<2x7xf32>
        %more = scalar.add %c, %one : index
        scf.yield %next, %more : vector<2x7xf32>, index
      }
      tile.store %sum, %y[%lanes, %zero] axis 1 : !hec.tensor<f32[2, 7]>, vector<2x7xf32>
      %n64 = scalar.cast %n : index to i64
      tile.store %n64, %z[%zero] : !hec.tensor<i64[1]>, i64
    """
    y, z = run_kernel(
        body,
        {"begin": "i64", "end": "i64", "step": "i64"},
        {"y": "f32[2, 7]", "z": "i64[1]"},
        {"begin": begin, "end": end, "step": step},
    )
    visited = range(begin, end, step)
    assert (y == 1 + sum(visited)).all() and z[0] == len(visited)


def test_conditionals(run_kernel):
    body = """
      %three = scalar.constant 3 : index
      %small = scalar.lt %task, %three : index
      %v = scf.if %small -> (vector<5xi32>) {
        %a = scalar.constant 10 : vector<5xi32>
        scf.yield %a : vector<5xi32>
      } else {
        %t = scalar.cast %task : index to i32
        %b = tile.splat %t : i32 to vector<5xi32>
        scf.yield %b : vector<5xi32>
      }
      scf.if %small {
        tile.store %v, %y[%task, %zero] axis 1 : !hec.tensor<i32[n, 5]>, vector<5xi32>
      } else {
        %w = scalar.neg %v : vector<5xi32>
        tile.store %w, %y[%task, %zero] axis 1 : !hec.tensor<i32[n, 5]>, vector<5xi32>
      }
      scf.if %small {
        %x = scalar.constant 1 : i32
        tile.store %x, %y[%task, %zero] : !hec.tensor<i32[n, 5]>, i32
      }
    """
    (y,) = run_kernel(body, {}, {"y": "i32[n, 5]"}, {}, tasks=6, n=6)
    assert y[:, 0].tolist() == [1, 1, 1, -3, -4, -5]
    assert y[:, 4].tolist() == [10, 10, 10, -3, -4, -5]


def test_sizes(run_kernel):
    body = """
      %n = tile.size "n"
      %m = tile.size "m"
      %p = scalar.mul %n, %m : index
      %q = scalar.cast %p : index to i32
      tile.store %q, %y[%zero] : !hec.tensor<i32[1]>, i32
    """
    (y,) = run_kernel(body, {}, {"y": "i32[1]"}, {}, n=7, m=6)
    assert y[0] == 42


@pytest.mark.parametrize("element", ["f32", "f64", "f16", "bf16", "i8", "i32", "u4", "bool"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 5, 7), (6, 64, 9), (2, 50, 0), (9, 3, 4)])
@pytest.mark.parametrize("has_initial", [False, True])
def test_products(run_kernel, element: str, m: int, n: int, k: int, has_initial: bool):
    is_float = ELEMENTS[element].is_float
    total = "f64" if element == "f64" else "f32" if is_float else "i32"
    spelled = str(ELEMENTS[element].xdsl)
    tile = f"vector<{m}x{n}x{total}>"
    initial = f"%i = scalar.constant 3 : {tile}" if has_initial else ""
    plus = "%i +" if has_initial else ""
    body = f"""
      %lanes = tile.lanes : vector<{m}xindex>
      %k = scalar.constant {k} : index
      {initial}
      %p = tile.product {plus} %a[%lanes, %one] k 1, %b[%zero, %one] k 0 to %k
        : !hec.tensor<{spelled}[m, {k + 1}]>, !hec.tensor<{spelled}[{max(k, 1)}, {n + 1}]>
        -> {tile}
      tile.store %p, %y[%lanes, %zero] axis 1 : !hec.tensor<{total}[m, {n}]>, {tile}
    """
    rng = np.random.default_rng(0)
    low, high = (-8, 8) if is_float or element.startswith("i") else (0, 2)
    a = rng.integers(low, high, (m, k + 1)).astype(ELEMENTS[element].storage)
    b = rng.integers(low, high, (max(k, 1), n + 1)).astype(ELEMENTS[element].storage)
    (y,) = run_kernel(
        body,
        {"a": f"{spelled}[m, {k + 1}]", "b": f"{spelled}[{max(k, 1)}, {n + 1}]"},
        {"y": f"{total}[m, {n}]"},
        {"a": a, "b": b},
        m=m,
    )
    expected = a[:, 1:].astype("f8") @ b[:k, 1:].astype("f8")
    np.testing.assert_array_equal(y, expected + (3 if has_initial else 0))


@pytest.mark.parametrize("element", ["f32", "f64", "bf16", "i8"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 35), (8, 2, 16), (3, 4, 7), (8, 8, 2), (5, 8, 33)])
def test_products_of_few_lanes_that_lie_together(run_kernel, element: str, m: int, n: int, k: int):
    total = {"f64": "f64", "i8": "i32"}.get(element, "f32")
    tile = f"vector<{m}x{n}x{total}>"
    body = f"""
      %lanes = tile.lanes : vector<{m}xindex>
      %k = scalar.constant {k} : index
      %i = scalar.constant 3 : {tile}
      %p = tile.product %i + %a[%lanes, %one] k 1, %b[%zero, %zero] k 0 to %k
        : !hec.tensor<{element}[m, {k + 1}]>, !hec.tensor<{element}[{k}, {n}]> -> {tile}
      tile.store %p, %y[%lanes, %zero] axis 1 : !hec.tensor<{total}[m, {n}]>, {tile}
    """
    rng = np.random.default_rng(0)
    a = rng.integers(-8, 8, (m, k + 1)).astype(ELEMENTS[element].storage)
    b = rng.integers(-8, 8, (k, n)).astype(ELEMENTS[element].storage)
    (y,) = run_kernel(
        body,
        {"a": f"{element}[m, {k + 1}]", "b": f"{element}[{k}, {n}]"},
        {"y": f"{total}[m, {n}]"},
        {"a": a, "b": b},
        m=m,
    )
    np.testing.assert_array_equal(y, a[:, 1:].astype("f8") @ b.astype("f8") + 3)


def test_product_of_gathered_rows_along_other_axes(run_kernel):
    body = """
      %r32 = tile.load %rows[%zero] axis 0 : !hec.tensor<i32[4]> -> vector<4xi32>
      %r = scalar.cast %r32 : vector<4xi32> to vector<4xindex>
      %k = scalar.constant 6 : index
      %two = scalar.constant 2 : index
      %p = tile.product %a[%two, %zero, %r] k 1, %b[%one, %zero, %two] k 1 to %k
        : !hec.tensor<f32[3, 6, n]>, !hec.tensor<f32[2, 6, 18]> -> vector<4x16xf32>
      %lanes = tile.lanes : vector<4xindex>
      tile.store %p, %y[%lanes, %zero] axis 1 : !hec.tensor<f32[4, 16]>, vector<4x16xf32>
    """
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 6, 9)).astype("f4"), rng.standard_normal((2, 6, 18)).astype("f4")
    rows = np.array([8, 0, 3, 3], "i4")
    (y,) = run_kernel(
        body,
        {"a": "f32[3, 6, n]", "b": "f32[2, 6, 18]", "rows": "i32[4]"},
        {"y": "f32[4, 16]"},
        {"a": a, "b": b, "rows": rows},
        n=9,
    )
    np.testing.assert_allclose(y, a[2][:, rows].T @ b[1][:, 2:], rtol=1e-5, atol=1e-6)


def test_one_array_under_two_names(run_kernel):
    """The kernel writes `y` while it reads `a` and `b`, which are the same memory."""
    body = """
      %v = tile.load %a[%task, %zero] axis 1 : !hec.tensor<f32[n, 16]> -> vector<16xf32>
      tile.store %v, %y[%task, %zero] axis 1 : !hec.tensor<f32[n, 16]>, vector<16xf32>
      %w = tile.load %b[%task, %zero] axis 1 : !hec.tensor<f32[n, 16]> -> vector<16xf32>
      %s = scalar.add %v, %w : vector<16xf32>
      tile.store %s, %y[%task, %zero] axis 1 : !hec.tensor<f32[n, 16]>, vector<16xf32>
    """
    x = np.random.default_rng(0).standard_normal((10, 16)).astype("f4")
    shape = "f32[n, 16]"
    (y,) = run_kernel(
        body, {"a": shape, "b": shape}, {"y": shape}, {"a": x, "b": x}, tasks=10, n=10
    )
    np.testing.assert_array_equal(y, x + x)


def test_type_without_code(run_kernel):
    with pytest.raises(HectoriteError, match="f8e5m2 has no CPU code"):
        run_kernel("", {"x": "f8E5M2[4]"}, {"y": "f32[1]"}, {})
