"""Tensors of which N of each M elements are kept: there and back, bytes, and what breaks them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hectorite
from hectorite import HectoriteError
from hectorite.backends.formats.nm import pack, unpack
from hectorite.frontend.data.drawing import draw
from hectorite.ir.element import ELEMENTS
from hectorite.ir.tensor_format import MOST_GROUP, Nm

FORMATS = (st.integers(1, 32) | st.integers(1, MOST_GROUP)).flatmap(
    lambda group: st.tuples(st.integers(1, group), st.just(group))
)


@settings(max_examples=40, deadline=None)
@given(
    format=FORMATS,
    shape=st.lists(st.integers(0, 5), max_size=2),
    extent=st.integers(0, 300),
    element=st.sampled_from(["f32", "f16", "bf16", "i8", "f64"]),
    seed=st.integers(0, 9),
)
def test_there_and_back(format, shape, extent, element, seed):
    text = str(Nm(*format))
    array = draw("W", (*shape, extent), ELEMENTS[element], seed, format=text)
    operand = hectorite.nm(array, *format)
    assert (operand.shape, operand.dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(operand.dense(), array)
    np.testing.assert_array_equal(np.asarray(operand), array)


@settings(max_examples=40, deadline=None)
@given(format=FORMATS, count=st.integers(0, 40), seed=st.integers(0, 9))
def test_codes_take_their_bits_only(format, count, seed):
    layout = Nm(*format)
    codes = np.random.default_rng(seed).integers(0, layout.group, (3, count)).astype(np.uint8)
    packed = pack(codes, layout)
    assert packed.shape == (3, -(-count * layout.bits // 8) + layout.straddles)
    assert 2**layout.bits >= layout.group > 2 ** (layout.bits - 1) or layout.group == 1
    np.testing.assert_array_equal(unpack(packed, layout.bits, count), codes)


@pytest.mark.parametrize(
    ("format", "bytes"),
    [((1, 4), 4096 + 256), ((2, 4), 8192 + 512), ((2, 8), 4096 + 384 + 64), ((1, 16), 1024 + 128)],
)
def test_bytes(format, bytes):
    """64 rows of 64: values of four bytes, and codes of 2, 2, 3 and 4 bits."""
    array = draw("W", (64, 64), ELEMENTS["f32"], 3, format=str(Nm(*format)))
    assert hectorite.nm(array, *format).nbytes == bytes == Nm(*format).bytes(64, 64, 4)


def test_the_place_that_breaks_a_format_is_named():
    array = np.zeros((2, 3, 10), np.float32)
    array[1, 2, 4:7] = 1
    with pytest.raises(HectoriteError, match=r"the array\[1, 2, 4:8\] has 3 elements other than 0"):
        hectorite.nm(array, 2, 4)
    array[1, 2, 4] = 0
    array[1, 1, 8:] = [np.nan, -1]
    with pytest.raises(HectoriteError, match=r"\[1, 1, 8:10\] has 2 .*\n.*at most 1 of each 4"):
        hectorite.nm(array, 1, 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[{}, None]], object), "is an object array"),
        (np.array([["a", "b"]]), "is a str32 array"),
        (np.zeros((2, 2), np.uint16), "is a uint16 array\n.*one of float64"),
        (None, "is a NoneType, not an array"),
    ],
)
def test_arrays_of_no_element_type(value, message):
    for convert in (hectorite.nm, hectorite.bsr):
        with pytest.raises(HectoriteError, match=f"what is to be converted {message}"):
            convert(value, 1, 2)


def test_bytes_in_another_order_are_put_in_ours():
    assert hectorite.nm(np.zeros((2, 2), ">f4"), 1, 2).dtype == np.float32


@pytest.mark.parametrize("format", [(0, 4), (5, 4), (1, 257), (1.0, 4)])
def test_formats_that_are_none(format):
    with pytest.raises(HectoriteError, match="is no format"):
        hectorite.nm(np.zeros((4, 4), np.float32), *format)


TEXT = """def f(W: f32[M, K] as nm(2, 4), x: f32[K]) -> f32[M] {
  y[m] += W[m, k] * x[k]
  return y
}
"""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((4, 8), np.float32), r"W\[0, 0:4\] has 4 elements"),
        (hectorite.nm(np.eye(8, dtype=np.float32), 1, 4), r"as nm\(1, 4\)"),
        (hectorite.nm(np.eye(8, dtype=np.float16), 2, 4), "float16"),
        (hectorite.nm(np.ones(8, np.float32), 8, 8), "expected: an array, or one as nm"),
        (np.eye(8), "float64 array"),
    ],
)
def test_arguments_that_do_not_fit(given, message):
    with pytest.raises(HectoriteError, match=message):
        hectorite.compile(TEXT).f(W=given, x=np.ones(8, np.float32))


def test_an_operand_of_another_shape():
    W = hectorite.nm(np.eye(8, dtype=np.float32), 2, 4)
    with pytest.raises(HectoriteError, match="has 4 in dimension 0"):
        hectorite.compile(TEXT).f(W=W, x=np.ones(4, np.float32))


def test_one_operand_serves_many_calls_and_targets():
    W = np.diag(np.arange(1, 9, dtype=np.float32))
    operand, x = hectorite.nm(W, 2, 4), np.ones(8, np.float32)
    for target in ("cpu", "tile", "reference", "ptx"):
        call = hectorite.compile(TEXT, target=target).f
        for _ in range(2):
            np.testing.assert_array_equal(call(W=operand, x=x), np.arange(1, 9))


def test_fixed_operands():
    W = np.diag(np.arange(1, 9, dtype=np.float32))
    program = hectorite.compile(TEXT, fixed={"W": hectorite.nm(W, 2, 4)})
    np.testing.assert_array_equal(program.f(x=np.ones(8, np.float32)), np.arange(1, 9))


def test_calls_like_earlier_ones_see_their_own_operand():
    call, x = hectorite.compile(TEXT).f, np.ones(8, np.float32)
    for scale in (1, 2):
        W = np.diag(np.arange(1, 9, dtype=np.float32)) * np.float32(scale)
        np.testing.assert_array_equal(call(W=hectorite.nm(W, 2, 4), x=x), np.arange(1, 9) * scale)
    np.testing.assert_array_equal(call(W=hectorite.nm(W[:4], 2, 4), x=x), np.arange(1, 5) * 2)
    with pytest.raises(HectoriteError, match=r"as nm\(1, 4\)"):
        call(W=hectorite.nm(W, 1, 4), x=x)
