"""`unroll-gathers`: several iterations of a gathering loop at a time, and the same results."""

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.scf import ForOp

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.ir.schema import Schema
from hectorite.lowering.gpu.pipeline_copies import PipelineCopies
from hectorite.lowering.gpu.stage_products import constant_value
from hectorite.lowering.gpu.unroll_gathers import UnrollGathers

ROWS, LANES = "!hec.tensor<f32[8, 8]>", "vector<8xf32>"
INDICES, BOUNDS = "!hec.tensor<i32[40]>", "!hec.tensor<i32[20]>"
OUT = "!hec.tensor<f32[10, 8]>"
PROGRAM = f"""
tile.program @f(%x: {ROWS}, %at: {INDICES}, %bounds: {BOUNDS}) -> {OUT} {{
  %y = tile.allocate : {OUT}
  %n = scalar.constant 10 : index
  tile.launch @k(%x, %at, %bounds, %y) tasks %n : ({ROWS}, {INDICES}, {BOUNDS}, {OUT})
  tile.return %y : {OUT}
}}
tile.kernel @k(%task: index, %x: {ROWS}, %at: {INDICES}, %bounds: {BOUNDS}, %y: {OUT}) {{
  %0 = scalar.constant 0 : index
  %1 = scalar.constant 1 : index
  %2 = scalar.constant 2 : index
  %zeros = scalar.constant 0.0 : {LANES}
  %first = scalar.mul %task, %2 : index
  %second = scalar.add %first, %1 : index
  %a = tile.load %bounds[%first] : {BOUNDS} -> i32
  %b = tile.load %bounds[%second] : {BOUNDS} -> i32
  %lower = scalar.cast %a : i32 to index
  %upper = scalar.cast %b : i32 to index
  %sum = scf.for %i = %lower to %upper step %1 iter_args(%s = %zeros) -> ({LANES}) {{
    BODY
  }}
  tile.store %sum, %y[%task, %0] axis 1 : {OUT}, {LANES}
  tile.end
}}
"""
GATHER = f"""
    %r = tile.load %at[%i] : {INDICES} -> i32
    %row = scalar.cast %r : i32 to index
    %v = tile.load %x[%row, %0] axis 1 : {ROWS} -> {LANES}
    %n = scalar.mul %s, %v : {LANES}
    %t = scalar.add %n, %v : {LANES}
    scf.yield %t : {LANES}
"""


def module_of(ir, body):
    module = ir(PROGRAM.replace("BODY", body))
    module.verify()
    return module


def passed(module, *passes):
    copy = module.clone()
    for each in passes:
        each.apply(Context(), copy)
    copy.verify()
    return copy


def steps(module):
    return [constant_value(op.step) for op in module.walk() if isinstance(op, ForOp)]


def results(module):
    """Sums of 0 to 9 rows, and one of a range that ends before it begins."""
    random = np.random.default_rng(3)
    bounds = [(i, i + count) for i, count in enumerate(range(9))] + [(7, 3)]
    arguments = {
        "x": random.standard_normal((8, 8), np.float32),
        "at": random.integers(0, 8, 40, np.int32),
        "bounds": np.array(bounds, np.int32).reshape(20),
    }
    (y,) = run_tile(module, Binding(Schema(), {}), arguments, {})
    return y


@pytest.mark.parametrize("most", [2, 4, 8])
def test_results_are_bitwise_the_same(ir, most):
    module = module_of(ir, GATHER)
    unrolled = passed(module, UnrollGathers(most))
    assert steps(module) == [1]
    assert steps(unrolled) == [most, 1]
    expected = results(module)
    np.testing.assert_array_equal(results(unrolled), expected)
    ahead = passed(unrolled, PipelineCopies("sm_90"))
    np.testing.assert_array_equal(results(ahead), expected)


@pytest.mark.parametrize(
    "body",
    [
        # Rows that follow one another are not gathered.
        GATHER.replace("%x[%row, %0]", "%x[%0, %0]"),
        # What a body writes might be what the next iteration reads.
        GATHER.replace(
            "scf.yield", f"tile.store %t, %y[%task, %0] axis 1 : {OUT}, {LANES}\nscf.yield"
        ),
    ],
)
def test_other_loops_stay(ir, body):
    module = module_of(ir, body)
    assert str(passed(module, UnrollGathers())) == str(module)


def test_rows_that_fill_the_registers_stay(ir):
    wide = module_of(ir, GATHER).clone()
    text = str(wide).replace("8]>", "4096]>").replace("vector<8x", "vector<4096x")
    module = ir(text)
    assert steps(passed(module, UnrollGathers())) == [1]
