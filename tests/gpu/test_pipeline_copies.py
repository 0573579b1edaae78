"""Pipelined loops compute what loops that are not pipelined do, for every number of stages."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tile_products import Case
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.scf import ForOp
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile_async import CopyOp, SharedOp, WaitOp
from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.stage_products import StageProducts

KINDS = ["rows", "gathered", "transposed", "flipped", "grouped"]


def pipelined(case: Case, stages: int) -> ModuleOp:
    module = case.module()
    StageProducts().apply(Context(), module)
    PipelineCopies(stages=stages).apply(Context(), module)
    module.verify()
    return module


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [0, 1, 16, 17, 33, 47, 64, 100])
def test_products_agree(stages: int, kind: str, k: int):
    case = Case(19, 11, k, kind=kind)
    arguments = case.arguments(k)
    result = case.interpret(pipelined(case, stages), arguments)
    np.testing.assert_array_equal(result, case.expected(arguments))


def test_one_barrier_and_a_dimension_of_stages():
    module = pipelined(Case(16, 8, 64), 3)
    (first, second) = [op.result.type for op in module.walk() if isinstance(op, SharedOp)]
    assert {first.dims, second.dims} == {(3, 16, 16), (3, 16, 8)}
    assert str(module).count("tile.barrier") == 1
    assert [op.count for op in module.walk() if isinstance(op, WaitOp)] == [1]
    assert all(op.is_async is not None for op in module.walk() if isinstance(op, CopyOp))


SEGMENTS = """
graph.set @node
graph.set @edge {src: node, dst: node}
tile.program @sum(%x: !hec.tensor<f32[node, 8]>, %w: !hec.tensor<f32[edge]>) -> \
!hec.tensor<f32[node, 8]> {
  %y = tile.allocate : !hec.tensor<f32[node, 8]>
  %ptr = tile.layout segments of edge by [e.dst] : !hec.tensor<i32[_]>
  %order = tile.layout order of edge by [e.dst] : !hec.tensor<i32[edge]>
  %src = tile.layout map of edge path [e.src] : !hec.tensor<i32[edge]>
  %n = tile.size "node"
  tile.launch @row(%x, %w, %y, %ptr, %order, %src) tasks %n : (!hec.tensor<f32[node, 8]>, \
!hec.tensor<f32[edge]>, !hec.tensor<f32[node, 8]>, !hec.tensor<i32[_]>, !hec.tensor<i32[edge]>, \
!hec.tensor<i32[edge]>)
  tile.return %y : !hec.tensor<f32[node, 8]>
}
tile.kernel @row(%task: index, %x: !hec.tensor<f32[node, 8]>, %w: !hec.tensor<f32[edge]>, \
%y: !hec.tensor<f32[node, 8]>, %ptr: !hec.tensor<i32[_]>, %order: !hec.tensor<i32[edge]>, \
%src: !hec.tensor<i32[edge]>) {
  %zero = scalar.constant 0 : index
  %one = scalar.constant 1 : index
  BUFFER
  %next = scalar.add %task, %one : index
  %begin32 = tile.load %ptr[%task] : !hec.tensor<i32[_]> -> i32
  %begin = scalar.cast %begin32 : i32 to index
  %end32 = tile.load %ptr[%next] : !hec.tensor<i32[_]> -> i32
  %end = scalar.cast %end32 : i32 to index
  %start = scalar.constant 0.0 : vector<8xf32>
  %sum = scf.for %p = %begin to %end step %one iter_args(%acc = %start) -> (vector<8xf32>) {
    %e32 = tile.load %order[%p] : !hec.tensor<i32[edge]> -> i32
    %e = scalar.cast %e32 : i32 to index
    %s32 = tile.load %src[%e] : !hec.tensor<i32[edge]> -> i32
    %s = scalar.cast %s32 : i32 to index
    LOAD
    %u = tile.load %w[%e] : !hec.tensor<f32[edge]> -> f32
    %us = tile.splat %u : f32 to vector<8xf32>
    %t = scalar.mul %us, %v : vector<8xf32>
    %next_sum = scalar.add %acc, %t : vector<8xf32>
    END
    scf.yield %next_sum : vector<8xf32>
  }
  tile.store %sum, %y[%task, %zero] axis 1 : !hec.tensor<f32[node, 8]>, vector<8xf32>
  tile.end
}
"""
FROM_MEMORY = {
    "BUFFER": "",
    "LOAD": "%v = tile.load %x[%s, %zero] axis 1 : !hec.tensor<f32[node, 8]> -> vector<8xf32>",
    "END": "",
}
THROUGH_SHARED = {
    "BUFFER": "%b = tile.shared : !hec.tensor<f32[1, 8]>",
    "LOAD": """tile.copy %x[%s, %zero] rows 0 axis 1 to %b[%zero, %zero] shape [1, 8] : \
!hec.tensor<f32[node, 8]>, !hec.tensor<f32[1, 8]>
    tile.barrier
    %v = tile.load %b[%zero, %zero] axis 1 : !hec.tensor<f32[1, 8]> -> vector<8xf32>""",
    "END": "tile.barrier",
}


def segments(how: dict[str, str]) -> ModuleOp:
    text = SEGMENTS
    for word, code in how.items():
        text = text.replace(word, code)
    return Parser(make_context(), text).parse_module()


def run_segments(module: ModuleOp, degrees: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """What the module computes, and what it should."""
    draw = np.random.default_rng(0)
    nodes, edges = len(degrees), sum(degrees)
    dst = draw.permutation(np.repeat(np.arange(nodes, dtype=np.int32), degrees))
    src = draw.integers(0, max(nodes, 1), edges).astype(np.int32)
    x = draw.integers(-3, 4, (nodes, 8)).astype(np.float32)
    w = draw.integers(-3, 4, edges).astype(np.float32)
    binding = Binding(schema_of(module), {"node": nodes, "edge": {"src": src, "dst": dst}})
    (result,) = run_tile(module, binding, {"x": x, "w": w})
    expected = np.zeros_like(x)
    np.add.at(expected, dst, x[src] * w[:, None])
    return result, expected


@settings(deadline=None, max_examples=12)
@given(
    degrees=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    stages=st.integers(1, 5),
    shared=st.booleans(),
)
def test_segments_agree(degrees: list[int], stages: int, shared: bool):
    module = segments(THROUGH_SHARED if shared else FROM_MEMORY)
    PipelineCopies(stages=stages).apply(Context(), module)
    module.verify()
    result, expected = run_segments(module, degrees)
    np.testing.assert_array_equal(result, expected)


def test_indices_run_ahead_of_rows():
    """order[p + 2], then src[...] of the one before, then the row: two loads are carried."""
    module = segments(FROM_MEMORY)
    PipelineCopies().apply(Context(), module)
    text = str(module)
    loop = text[text.index("iter_args") :]
    assert "i32, i32, i32)" in loop[: loop.index("{")]


def test_too_many_stages():
    case = Case(256, 256, 64, rows=128, columns=128, threads=256, attributes="stages = 40 : i64")
    module = case.module()
    StageProducts().apply(Context(), module)
    with pytest.raises(HectoriteError, match="40 stages does not fit: it takes 640 KiB"):
        PipelineCopies("sm_90").apply(Context(), module)


@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_90", "sm_100"])
def test_the_model_hides_latency(target: str):
    """Several stages where a loop has many iterations, none where it has one."""
    for k, stages in ((4096, {2, 3, 4, 5}), (16, {1})):
        case = Case(256, 256, k, 128, 128, "f16", "f16", threads=256, fixed=True)
        module = case.module()
        StageProducts().apply(Context(), module)
        PipelineCopies(target).apply(Context(), module)
        shared = [op.result.type.dims for op in module.walk() if isinstance(op, SharedOp)]
        assert {dims[0] if len(dims) == 3 else 1 for dims in shared} <= stages


def test_the_example_in_the_head():
    """Wait, barrier, the copy of a later iteration, then the index of one later still."""
    module = segments(THROUGH_SHARED)
    PipelineCopies(stages=2).apply(Context(), module)
    (loop,) = [op for op in module.walk() if isinstance(op, ForOp)]
    wanted = ("tile.wait", "tile.barrier", "scf.if", "tile.commit", "tile.load")
    names = [op.name for op in loop.body.block.ops if op.name in wanted]
    assert names[:5] == list(wanted)
    assert names.count("tile.barrier") == 1
