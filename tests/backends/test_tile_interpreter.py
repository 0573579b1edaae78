"""The tile interpreter: what it computes, and the faults it finds."""

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import HectoriteError

SUM = """
graph.set @node
graph.set @edge {src: node, dst: node}
tile.program @sum(%x: !hec.tensor<f32[node, 8]>) -> !hec.tensor<f32[node, 8]> {
  %y = tile.allocate : !hec.tensor<f32[node, 8]>
  %ptr = tile.layout segments of edge by [e.dst] : !hec.tensor<i32[_]>
  %src = tile.layout along of edge by [e.dst] path [e.src] : !hec.tensor<i32[edge]>
  %n = tile.size "node"
  %one = scalar.constant 1 : index
  tile.launch @row(%x, %y, %ptr, %src) tasks %n : (!hec.tensor<f32[node, 8]>, \
!hec.tensor<f32[node, 8]>, !hec.tensor<i32[_]>, !hec.tensor<i32[edge]>)
  tile.return %y : !hec.tensor<f32[node, 8]>
}
tile.kernel @row(%task: index, %x: !hec.tensor<f32[node, 8]>, %y: !hec.tensor<f32[node, 8]>, \
%ptr: !hec.tensor<i32[_]>, %src: !hec.tensor<i32[edge]>) {
  %zero = scalar.constant 0 : index
  %one = scalar.constant 1 : index
  %next = scalar.add %task, %one : index
  %begin32 = tile.load %ptr[%task] : !hec.tensor<i32[_]> -> i32
  %begin = scalar.cast %begin32 : i32 to index
  %end32 = tile.load %ptr[%next] : !hec.tensor<i32[_]> -> i32
  %end = scalar.cast %end32 : i32 to index
  %start = scalar.constant 0.0 : vector<8xf32>
  %sum = scf.for %p = %begin to %end step %one iter_args(%acc = %start) -> (vector<8xf32>) {
    %s32 = tile.load %src[%p] : !hec.tensor<i32[edge]> -> i32
    %s = scalar.cast %s32 : i32 to index
    %v = tile.load %x[%s, %zero] axis 1 : !hec.tensor<f32[node, 8]> -> vector<8xf32>
    %next_sum = scalar.add %acc, %v : vector<8xf32>
    scf.yield %next_sum : vector<8xf32>
  }
  tile.store %sum, %y[%task, %zero] axis 1 : !hec.tensor<f32[node, 8]>, vector<8xf32>
  tile.end
}
"""

PRODUCT = """
tile.program @product(%x: !hec.tensor<f32[N, 5]>, %w: !hec.tensor<f32[5, 4]>) -> \
!hec.tensor<f32[N, 4]> {
  %y = tile.allocate : !hec.tensor<f32[N, 4]>
  %one = scalar.constant 1 : index
  tile.launch @rows(%x, %w, %y) tasks %one : (!hec.tensor<f32[N, 5]>, !hec.tensor<f32[5, 4]>, \
!hec.tensor<f32[N, 4]>)
  tile.return %y : !hec.tensor<f32[N, 4]>
}
tile.kernel @rows(%task: index, %x: !hec.tensor<f32[N, 5]>, %w: !hec.tensor<f32[5, 4]>, \
%y: !hec.tensor<f32[N, 4]>) {
  %zero = scalar.constant 0 : index
  %k = scalar.constant 5 : index
  %lanes = tile.lanes : vector<6xindex>
  %n = tile.size "N"
  %one = scalar.constant 1 : index
  %last = scalar.sub %n, %one : index
  %lasts = tile.splat %last : index to vector<6xindex>
  %rows = scalar.min %lanes, %lasts : vector<6xindex>
  %p = tile.product %x[%rows, %zero] k 1, %w[%zero, %zero] k 0 to %k : !hec.tensor<f32[N, 5]>, \
!hec.tensor<f32[5, 4]> -> vector<6x4xf32>
  tile.store %p, %y[%rows, %zero] axis 1 : !hec.tensor<f32[N, 4]>, vector<6x4xf32>
  tile.end
}
"""


def run(text, sets, sizes=None, **arguments):
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return run_tile(module, Binding(schema_of(module), sets), arguments, sizes)


def test_sums_over_segments():
    generator = np.random.default_rng(0)
    source, target = generator.integers(0, 9, (2, 40)).astype(np.int32)
    x = generator.standard_normal((9, 8)).astype(np.float32)
    (y,) = run(SUM, {"node": 9, "edge": {"src": source, "dst": target}}, x=x)
    expected = np.zeros((9, 8))
    np.add.at(expected, target, x[source])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def test_empty_sets():
    nothing = np.zeros(0, np.int32)
    x = np.zeros((0, 8), np.float32)
    (y,) = run(SUM, {"node": 0, "edge": {"src": nothing, "dst": nothing}}, x=x)
    assert y.shape == (0, 8)


def test_product_with_repeated_rows():
    generator = np.random.default_rng(0)
    x = generator.standard_normal((4, 5)).astype(np.float32)
    w = generator.standard_normal((5, 4)).astype(np.float32)
    (y,) = run(PRODUCT, {}, {"N": 4}, x=x, w=w)
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("%y[%task, %zero]", "%y[%next, %zero]", r"task 2: `y\[3, 0\]` is outside"),
        ("%y[%task, %zero]", "%y[%one, %zero]", "race: task 1 writes"),
        ("%x[%s, %zero]", "%y[%s, %zero]", "read before anything has written it"),
        ("%y[%task, %zero]", "%x[%task, %zero]", "it is a parameter"),
        ("tasks %n", "tasks %one", r"`y\[1, 0\]` is returned, but nothing has written it"),
    ],
)
def test_faults_are_found(old, new, said):
    text = SUM.replace(old, new)
    maps = np.array([0, 1, 2], np.int32)
    x = np.ones((3, 8), np.float32)
    with pytest.raises(HectoriteError, match=said):
        run(text, {"node": 3, "edge": {"src": maps, "dst": maps}}, x=x)
