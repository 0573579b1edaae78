"""Shared memory in the tile interpreter: what copies bring, and what it refuses."""

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import HectoriteError

KERNEL = """
tile.program @p(%x: !hec.tensor<f32[N, 4]>, %rows: !hec.tensor<i32[3]>) -> !hec.tensor<f32[3, 4]> {{
  %y = tile.allocate : !hec.tensor<f32[3, 4]>
  %one = scalar.constant 1 : index
  tile.launch @k(%x, %rows, %y) tasks %one : (!hec.tensor<f32[N, 4]>, !hec.tensor<i32[3]>, \
!hec.tensor<f32[3, 4]>)
  tile.return %y : !hec.tensor<f32[3, 4]>
}}
tile.kernel @k(%task: index, %x: !hec.tensor<f32[N, 4]>, %rows: !hec.tensor<i32[3]>, \
%y: !hec.tensor<f32[3, 4]>) {{
  %zero = scalar.constant 0 : index
  %one = scalar.constant 1 : index
  %two = scalar.constant 2 : index
  %lanes = tile.lanes : vector<3xindex>
  %some = tile.load %rows[%zero] axis 0 : !hec.tensor<i32[3]> -> vector<3xi32>
  %picked = scalar.cast %some : vector<3xi32> to vector<3xindex>
  %s = tile.shared : !hec.tensor<f32[2, 3, 4]>
  {body}
  %v = tile.load %s[%one, %lanes, %zero] axis 2 : !hec.tensor<f32[2, 3, 4]> -> vector<3x4xf32>
  tile.store %v, %y[%lanes, %zero] axis 1 : !hec.tensor<f32[3, 4]>, vector<3x4xf32>
  tile.end
}}
"""
TO = "to %s[%one, %zero, %zero] shape [3, 4] : !hec.tensor<f32[N, 4]>, !hec.tensor<f32[2, 3, 4]>"
READ = "%w = tile.load %s[%one, %zero, %zero] axis 2 : !hec.tensor<f32[2, 3, 4]> -> vector<4xf32>"
X = np.arange(20, dtype=np.float32).reshape(5, 4)


def run(*body: str):
    module = Parser(make_context(), KERNEL.format(body="\n  ".join(body))).parse_module()
    module.verify()
    arguments = {"x": X, "rows": np.array([4, 0, 2], np.int32)}
    (result,) = run_tile(module, Binding(schema_of(module), {}), arguments, {"N": 5})
    return result


def test_rows_in_a_row():
    np.testing.assert_array_equal(
        run(f"tile.copy %x[%one, %zero] rows 0 axis 1 {TO}", "tile.barrier"), X[1:4]
    )


def test_gathered_rows():
    got = run(f"tile.copy async %x[%picked, %zero] axis 1 {TO}", "tile.commit", "tile.wait 0",
              "tile.barrier")  # fmt: skip
    np.testing.assert_array_equal(got, X[[4, 0, 2]])


def test_what_is_not_valid_is_zero():
    got = run(f"tile.copy %x[%picked, %two] axis 1 valid %two, %two {TO}", "tile.barrier")
    expected = np.zeros((3, 4), np.float32)
    expected[:2, :2] = X[[4, 0], 2:]
    np.testing.assert_array_equal(got, expected)


GATHER = f"tile.copy async %x[%picked, %zero] axis 1 {TO}"


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ([], "read before anything has written it"),
        ([GATHER, "tile.barrier"], "read before its copy has been waited for"),
        ([GATHER, "tile.wait 0", "tile.barrier"], "read before its copy has been waited for"),
        ([GATHER, "tile.commit", "tile.wait 1", "tile.barrier"], "has been waited for"),
        ([GATHER, "tile.commit", "tile.wait 0"], "read without a barrier"),
        ([GATHER, "tile.commit", GATHER], "while a copy into it is under way"),
        (
            [GATHER, "tile.commit", "tile.wait 0", "tile.barrier", READ, GATHER],
            "overwritten without a barrier",
        ),
        ([f"tile.copy %x[%picked, %one] axis 1 {TO}"], "is outside `x`"),
    ],
)
def test_faults(body: list[str], trouble: str):
    with pytest.raises(HectoriteError, match=trouble):
        run(*body)
