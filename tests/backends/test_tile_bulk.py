"""Bulk copies in the tile interpreter and the verifier: what they bring, and what is refused."""

import numpy as np
import pytest
from xdsl.parser import Parser
from xdsl.utils.exceptions import VerifyException

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import HectoriteError

KERNEL = """
tile.program @p(%x: !hec.tensor<f32[N, 8]>, %rows: !hec.tensor<i32[3]>) -> !hec.tensor<f32[3, 8]> {{
  %y = tile.allocate : !hec.tensor<f32[3, 8]>
  %one = scalar.constant 1 : index
  tile.launch @k(%x, %rows, %y) tasks %one : (!hec.tensor<f32[N, 8]>, !hec.tensor<i32[3]>, \
!hec.tensor<f32[3, 8]>)
  tile.return %y : !hec.tensor<f32[3, 8]>
}}
tile.kernel @k(%task: index, %x: !hec.tensor<f32[N, 8]>, %rows: !hec.tensor<i32[3]>, \
%y: !hec.tensor<f32[3, 8]>) {{
  %zero = scalar.constant 0 : index
  %one = scalar.constant 1 : index
  %two = scalar.constant 2 : index
  %lanes = tile.lanes : vector<3xindex>
  %some = tile.load %rows[%zero] axis 0 : !hec.tensor<i32[3]> -> vector<3xi32>
  %picked = scalar.cast %some : vector<3xi32> to vector<3xindex>
  %s = tile.shared : !hec.tensor<f32[2, 3, 8]>
  %m = tile.mbarrier : !tile.mbarrier<2>
  {body}
  %v = tile.load %s[%one, %lanes, %zero] axis 2 : !hec.tensor<f32[2, 3, 8]> -> vector<3x8xf32>
  tile.store %v, %y[%lanes, %zero] axis 1 : !hec.tensor<f32[3, 8]>, vector<3x8xf32>
  tile.end
}}
"""
TO = "to %s[%one, %zero, %zero] tells %m[%one] shape [3, 8] : !hec.tensor<f32[N, 8]>, \
!hec.tensor<f32[2, 3, 8]>"
ROWS = f"tile.copy async bulk %x[%one, %zero] rows 0 axis 1 {TO}"
GATHER = f"tile.copy async bulk %x[%picked, %zero] axis 1 {TO}"
EXPECT = "tile.expect %m[%one] bytes 96"
AWAIT = "tile.await %m[%one] phase %zero"
READ = "%w = tile.load %s[%one, %zero, %zero] axis 2 : !hec.tensor<f32[2, 3, 8]> -> vector<8xf32>"
X = np.arange(40, dtype=np.float32).reshape(5, 8)


def run(*body: str):
    module = Parser(make_context(), KERNEL.format(body="\n  ".join(body))).parse_module()
    module.verify()
    arguments = {"x": X, "rows": np.array([4, 0, 2], np.int32)}
    (result,) = run_tile(module, Binding(schema_of(module), {}), arguments, {"N": 5})
    return result


def test_rows_in_a_row():
    np.testing.assert_array_equal(run(EXPECT, ROWS, AWAIT), X[1:4])


def test_gathered_rows_and_what_was_not_expected_first():
    np.testing.assert_array_equal(run(GATHER, EXPECT, AWAIT), X[[4, 0, 2]])


def test_phases_follow_each_other():
    """A phase that ended long ago is not waited for again."""
    got = run(EXPECT, ROWS, AWAIT, AWAIT, "tile.barrier", EXPECT, GATHER,
              "tile.await %m[%one] phase %one", "tile.release %m")  # fmt: skip
    np.testing.assert_array_equal(got, X[[4, 0, 2]])


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ([EXPECT, ROWS], "read before its copy has been waited for"),
        ([EXPECT, ROWS, "tile.barrier"], "read before its copy has been waited for"),
        ([EXPECT, ROWS, "tile.await %m[%one] phase %one"], "has been waited for"),
        ([EXPECT, ROWS, AWAIT, "tile.barrier", EXPECT, ROWS, AWAIT], "has been waited for"),
        ([ROWS, AWAIT], "nothing ends its phase 0"),
        ([EXPECT, ROWS, "tile.await %m[%zero] phase %zero"], "nothing ends its phase 0"),
        ([EXPECT, EXPECT], "expects bytes twice in one phase"),
        ([EXPECT, AWAIT], "expects 96 bytes, but 0 come"),
        (["tile.expect %m[%one] bytes 64", ROWS, AWAIT], "expects 64 bytes, but 96 come"),
        ([EXPECT, ROWS, ROWS], "while a copy into it is under way"),
        ([EXPECT, ROWS, AWAIT, READ, ROWS], "overwritten without a barrier"),
        ([EXPECT, ROWS, "tile.release %m"], "is released while a copy"),
        (["tile.release %m", EXPECT], "is used after its release"),
        (["tile.await %m[%two] phase %zero"], "there is no barrier object 2"),
    ],
)
def test_faults(body: list[str], trouble: str):
    with pytest.raises(HectoriteError, match=trouble):
        run(*body)


@pytest.mark.parametrize(
    ("copy", "trouble"),
    [
        (ROWS.replace(" to %s", " valid %one, %one to %s"), "all of it valid"),
        (ROWS.replace("rows 0 axis 1", "rows 1 axis 0"), "along the last dimension"),
        (ROWS.replace("shape [3, 8]", "shape [3, 6]"), "a multiple of 16 bytes, got 24"),
        (ROWS.replace("%m[%one]", "%x[%one]"), "expected a bulk copy to tell a barrier object"),
        ("tile.expect %m[%one] bytes 1048576", "expected 1 to 1048575 bytes"),
    ],
)
def test_what_the_verifier_refuses(copy: str, trouble: str):
    with pytest.raises(VerifyException, match=trouble):
        run(copy)
