"""`expand-softmax`."""

import pytest

from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.graph.expand_softmax import ExpandSoftmax


def test_example(program, as_documented):
    module = program("s: f32[edge]", "a = softmax s[e] by [e.dst] |e: edge| f32[edge]", "a")
    as_documented(module, ExpandSoftmax())


def test_sixteen_bits_are_rounded_once(program, rewritten):
    module = program(
        "s: f16[edge, 3]", "a = softmax s[e, k] by [k, e.dst] |e: edge, k: 3| f16[edge, 3]", "a"
    )
    lines = rewritten(module, ExpandSoftmax(), 1e-12)
    assert lines[1] == "a_exp[e, k] = exp(f32(s[e, k]) - a_max[k, e.dst])"
    assert lines[3] == "a[e, k] = f16(a_exp[e, k] / a_sum[k, e.dst])"


def test_two_paths_become_one_set(program, rewritten):
    module = program("s: f32[edge]", "a = softmax s[e] by [e.src, e.type] |e: edge| f32[edge]", "a")
    assert rewritten(module, ExpandSoftmax())[0] == "a_max[e.src_type] max= s[e]"


def test_a_variable_determines_its_paths(program, rewritten):
    module = program(
        "s: f32[edge, 3]", "a = softmax s[e, k] by [e.src, e] |e: edge, k: 3| f32[edge, 3]", "a"
    )
    assert rewritten(module, ExpandSoftmax())[0] == "a_max[e] max= s[e, k]"


def test_divided_and_affine_keys(program, rewritten):
    module = program(
        "s: f32[6, 4]",
        "a = softmax s[i, j] by [i - j, i floordiv 2] |i: 6, j: 4| f32[6, 4]",
        "a",
    )
    assert rewritten(module, ExpandSoftmax())[0] == "a_max[i - j + 3, i // 2] max= s[i, j]"


def test_unknown_number_of_groups(program):
    module = program("s: f32[N, M]", "a = softmax s[i, j] by [i + j] |i: N, j: M| f32[N, M]", "a")
    with pytest.raises(HectoriteError, match="no known number of groups"):
        ExpandSoftmax().apply(None, module)


def test_without_softmax_nothing_changes(program, rewritten):
    module = program("x: f32[node]", "y[n] = x[n] |n: node| f32[node]", "y")
    assert rewritten(module, ExpandSoftmax()) == ["y[n] = x[n]"]
