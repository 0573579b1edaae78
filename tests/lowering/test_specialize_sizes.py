"""`specialize-sizes`."""

import pytest

from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.graph.specialize_sizes import SpecializeSizes, specialize

TEXT = """
graph.set @node
graph.dim @D = 4
graph.func @f(%x: !hec.tensor<f32[node, O]>, %w: !hec.tensor<f32[D]>) ->
    !hec.tensor<f32[node, O]> {
  %y = graph.statement assign [n, o] for (n: node, o: O) : !hec.tensor<f32[node, O]> {
    %0 = graph.read %x[n, @O - 1 - o] : f32
    graph.yield %0 : f32
  }
  graph.return %y : !hec.tensor<f32[node, O]>
}
"""
SIZE = """
graph.func @f(%x: !hec.tensor<i32[N]>) -> !hec.tensor<i32[N]> {
  %y = graph.statement assign [i] for (i: N) : !hec.tensor<i32[N]> {
    %0 = graph.read %x[i] : i32
    %1 = graph.size "N" : i32
    %2 = scalar.add %0, %1 : i32
    graph.yield %2 : i32
  }
  graph.return %y : !hec.tensor<i32[N]>
}
"""


def test_example(ir, documented, lines_of):
    module = ir(TEXT)
    before, after = documented(SpecializeSizes)
    assert lines_of(module) == before
    SpecializeSizes(("O=64",)).apply(None, module)
    module.verify()
    assert lines_of(module) == after
    assert str(module).count("f32[node, 64]") == 4 and "f32[4]" in str(module)


def test_size_becomes_a_constant(ir, rewritten):
    assert rewritten(ir(SIZE), SpecializeSizes(("N=3",))) == ["y[i] = x[i] + 3"]


def test_sets_keep_their_names(program, rewritten):
    module = program("x: f32[node]", "y[n] = x[n] | n: node | f32[node]", "y")
    assert rewritten(module, SpecializeSizes(("N=3",))) == ["y[n] = x[n]"]


def test_conditions_of_derived_sets(ir):
    declarations = """
graph.set @node
graph.dim @K = 3
graph.derive @some {at: node} = distinct [n] for (n: node) where [n lt @K + 1]
"""
    module = ir(declarations)
    specialize(module, {})
    assert "where [n lt 4]" in str(module)


@pytest.mark.parametrize("text", ["O", "=3", "O=x", "O=-1"])
def test_malformed(ir, text):
    with pytest.raises(HectoriteError, match="is not a size"):
        SpecializeSizes((text,)).apply(None, ir(TEXT))


def test_refused(ir):
    with pytest.raises(HectoriteError, match="is a set"):
        specialize(ir(TEXT), {"node": 3})
    with pytest.raises(HectoriteError, match="4, as declared"):
        specialize(ir(TEXT), {"D": 5})
    with pytest.raises(HectoriteError, match="cannot be -1"):
        specialize(ir(TEXT), {"O": -1})
