"""Error bounds: what is computed in the program's own types must lie within them, and they must
not be so wide that a wrong result would."""

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.reference.error_bound import Bounded, difference, run_with_bounds
from hectorite.backends.reference.interpreter import run_reference
from hectorite.dialects.context import make_context
from hectorite.ir.scalar import FUNCTIONS


def parse(text):
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


def elementwise(body, arguments=2, element="f32", result="f32", value="f32"):
    names = "ab"[:arguments]
    parameters = ", ".join(f"%{name}: !hec.tensor<{element}[N]>" for name in names)
    reads = "\n".join(f"%r{name} = graph.read %{name}[i] : {element}" for name in names)
    return parse(f"""
graph.func @f({parameters}) -> !hec.tensor<{result}[N]> {{
  %y = graph.statement assign [i] for (i: N) : !hec.tensor<{result}[N]> {{
    {reads}
    {body}
    graph.yield %v : {value}
  }}
  graph.return %y : !hec.tensor<{result}[N]>
}}""")


def both(module, arguments):
    """Bounds, and the result in the program's own types."""
    (bounded,) = run_with_bounds(module, "f", {}, {}, arguments)
    (own,) = run_reference(module, "f", {}, {}, arguments, own_types=True)
    (value,) = run_reference(module, "f", {}, {}, arguments)
    np.testing.assert_array_equal(bounded.value, value)
    return bounded, own


SUM = """
graph.func @f(%x: !hec.tensor<f32[N]>) -> !hec.tensor<f32[]> {
  %y = graph.statement add [] for (i: N) : !hec.tensor<f32[]> {
    %0 = graph.read %x[i] : f32
    graph.yield %0 : f32
  }
  graph.return %y : !hec.tensor<f32[]>
}"""


FLOAT_FUNCTIONS = [
    function
    for function in FUNCTIONS.values()
    if function.result == "same" and "float" in function.domain and function.name != "select"
]


@pytest.mark.parametrize("function", FLOAT_FUNCTIONS, ids=lambda f: f.name)
def test_every_function_stays_within_its_bound(function):
    """The operands carry errors themselves: each is a product."""
    operands = ", ".join(("%p", "%q")[: function.arity])
    module = elementwise(f"""%p = scalar.mul %ra, %rb : f32
    %q = scalar.mul %rb, %rb : f32
    %v = scalar.{function.name} {operands} : f32""")
    rng = np.random.default_rng(1)
    arguments = {
        name: (rng.normal(size=5000) * scale).astype("f4") for name, scale in (("a", 2), ("b", 3))
    }
    bounded, own = both(module, arguments)
    found = difference(bounded, own)
    assert found.ok, found
    known = np.isfinite(bounded.bound)
    assert known.sum() > 1000
    scale = np.abs(bounded.value[known]) + np.abs(arguments["a"] * arguments["b"])[known] + 1
    if function.name not in ("exp", "pow", "rsqrt", "log", "mod", "floordiv", "div"):
        assert (bounded.bound[known] / scale).max() < 1e-3


def test_reductions_grow_with_their_length_and_cancellation():
    module = parse(SUM)
    bounds = []
    for length in (10, 1000):
        x = np.tile(np.array([1, -1], "f4"), length // 2)
        bounded, own = both(module, {"x": x})
        assert bounded.value == 0 and own == 0
        bounds.append(float(bounded.bound))
    assert 0 < bounds[0] < 1e-4 and 300 < bounds[1] / bounds[0] < 1e4


def test_a_missing_term_of_a_long_sum_is_found():
    module = parse(SUM)
    x = np.random.default_rng(3).normal(size=20_000).astype("f4")
    bounded, own = both(module, {"x": x})
    assert difference(bounded, own).ok
    assert difference(bounded, np.cumsum(x)[-1]).ok, "one after the other"
    assert not difference(bounded, own - x[np.argmax(x)]).ok


def test_a_wrong_result_is_found():
    module = elementwise("%v = scalar.mul %ra, %rb : f32")
    rng = np.random.default_rng(1)
    arguments = {name: rng.normal(size=100).astype("f4") for name in "ab"}
    bounded, own = both(module, arguments)
    assert difference(bounded, own).ok
    own[17] *= 1.0001
    found = difference(bounded, own)
    assert not found.ok and found.place == (17,) and found.bound < found.error
    own[17] = np.nan
    assert not difference(bounded, own).ok
    assert not difference(bounded, own[:50]).ok


def test_comparisons_at_their_threshold_are_in_doubt():
    module = elementwise(
        """%p = scalar.mul %ra, %rb : f32
    %one = scalar.constant 1.0 : f32
    %v = scalar.lt %p, %one : f32""",
        result="i1",
        value="i1",
    )
    a = np.array([1 / 3, 0.5, 1.0, np.nan], "f4")
    b = np.array([3, 1.0, 1.0 + 1e-3, 1.0], "f4")
    (bounded,) = run_with_bounds(module, "f", {}, {}, {"a": a, "b": b})
    assert bounded.bound[:3].tolist() == [np.inf, 0, 0]


def test_exact_operands_leave_no_doubt():
    module = elementwise("%v = scalar.le %ra, %rb : f32", result="i1", value="i1")
    a = np.array([1, 2, np.inf, -np.inf, np.nan], "f4")
    (bounded,) = run_with_bounds(module, "f", {}, {}, {"a": a, "b": a[[0, 0, 2, 3, 4]]})
    assert bounded.bound.tolist() == [0] * 5
    assert bounded.value.tolist() == [True, False, True, True, False]


def test_a_choice_in_doubt_is_bounded_by_both_sides():
    module = elementwise("""%p = scalar.mul %ra, %rb : f32
    %one = scalar.constant 1.0 : f32
    %c = scalar.lt %p, %one : f32
    %q = scalar.sub %p, %one : f32
    %v = scalar.select %c, %q, %one : f32""")
    arguments = {"a": np.array([1 / 3], "f4"), "b": np.array([3], "f4")}
    (bounded,) = run_with_bounds(module, "f", {}, {}, arguments)
    assert 0.9 < bounded.bound[0] < 1.1


def test_casts():
    module = elementwise(
        """%p = scalar.mul %ra, %rb : f32
    %v = scalar.cast %p : f32 to i32""",
        result="i32",
        value="i32",
    )
    arguments = {"a": np.array([1 / 3, 0.5, 0], "f4"), "b": np.array([3, 5, 1], "f4")}
    (bounded,) = run_with_bounds(module, "f", {}, {}, arguments)
    assert bounded.bound.tolist() == [np.inf, 0, 0] and bounded.value.dtype == np.int32


def test_integers_must_be_equal():
    module = elementwise("%v = scalar.mul %ra, %rb : i32", 2, "i32", "i32", "i32")
    a = np.array([1 << 20, 3], "i4")
    (bounded,) = run_with_bounds(module, "f", {}, {}, {"a": a, "b": a})
    assert bounded.bound.tolist() == [0, 0]
    assert difference(bounded, np.array([0, 9], "i4")).ok
    assert not difference(bounded, np.array([0, 8], "i4")).ok


def test_sixteen_bits():
    module = elementwise(
        """%p = scalar.cast %ra : f16 to f32
    %q = scalar.cast %rb : f16 to f32
    %v = scalar.mul %p, %q : f32""",
        2,
        "f16",
        "f16",
    )
    rng = np.random.default_rng(2)
    arguments = {name: rng.normal(size=1000).astype("f2") for name in "ab"}
    bounded, own = both(module, arguments)
    assert difference(bounded, own).ok
    assert np.median(bounded.bound / np.abs(bounded.value)) < 2e-3


def test_overflow_is_in_doubt_and_non_finite_operands_are_not():
    module = elementwise("%v = scalar.mul %ra, %rb : f32")
    arguments = {"a": np.array([1e30, 1], "f4"), "b": np.array([1e30, 1], "f4")}
    (bounded,) = run_with_bounds(module, "f", {}, {}, arguments)
    assert bounded.bound[0] == np.inf and bounded.bound[1] < 1e-6
    module = elementwise("%v = scalar.max %ra, %rb : f32")
    arguments = {"a": np.array([np.nan, np.inf], "f4"), "b": np.array([1, 1], "f4")}
    (bounded,) = run_with_bounds(module, "f", {}, {}, arguments)
    assert bounded.bound.tolist() == [0, 0]
    assert difference(bounded, np.array([np.nan, np.inf], "f4")).ok
    assert not difference(bounded, np.array([np.nan, 3e38], "f4")).ok


def test_nothing_to_compare():
    assert difference(Bounded(np.zeros((0, 2)), np.zeros((0, 2))), np.zeros((0, 2))).ok
    found = difference(Bounded(np.zeros(2), np.full(2, np.inf)), np.ones(2))
    assert found.ok and found.place is None
