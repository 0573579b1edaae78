"""Stores that combine with what is there: by any number of tasks, and with nothing else."""

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema

TENSOR = "!hec.tensor<i32[4]>"
MODULE = f"""
tile.program @f(%x: {TENSOR}) -> {TENSOR} {{
  %y = tile.allocate : {TENSOR}
  %1 = scalar.constant 1 : index
  %5 = scalar.constant 5 : index
  tile.launch @fill(%x, %y) tasks %1 : ({TENSOR}, {TENSOR})
  tile.launch @k(%x, %y) tasks %5 : ({TENSOR}, {TENSOR})
  tile.return %y : {TENSOR}
}}
tile.kernel @fill(%task: index, %x: {TENSOR}, %y: {TENSOR}) {{
  %v = tile.load %x[%task] axis 0 : {TENSOR} -> vector<4xi32>
  tile.store %v, %y[%task] axis 0 : {TENSOR}, vector<4xi32>
  tile.end
}}
tile.kernel @k(%task: index, %x: {TENSOR}, %y: {TENSOR}) {{
  %0 = scalar.constant 0 : index
  %2 = scalar.constant 2 : index
  %v = tile.load %x[%0] axis 0 : {TENSOR} -> vector<4xi32>
  BODY
  tile.end
}}
"""
ADD = f"tile.store add %v, %y[%0] axis 0 : {TENSOR}, vector<4xi32>"
X = np.array([1, 2, 3, 4], np.int32)


def run(body: str) -> np.ndarray:
    """What five tasks make of y, which begins as x."""
    text = MODULE.replace("BODY", body)
    module = Parser(make_context(), text).parse_module()
    module.verify()
    assert str(Parser(make_context(), str(module)).parse_module()) == str(module)
    return run_tile(module, Binding(Schema(), {}), {"x": X})[0]


def test_every_task_adds():
    assert run(ADD).tolist() == (6 * X).tolist()


def test_lanes_may_name_one_element():
    body = f"""%same = tile.splat %2 : index to vector<4xindex>
  tile.store max %v, %y[%same] : {TENSOR}, vector<4xi32>"""
    assert run(body).tolist() == [1, 2, 4, 4]


def test_lanes_that_do_not_count_are_left_out():
    body = f"tile.store min %v, %y[%2] axis 0 valid %2 : {TENSOR}, vector<4xi32>"
    assert run(body).tolist() == [1, 2, 1, 2]


@pytest.mark.parametrize(
    "other",
    [
        f"%w = tile.load %y[%2] : {TENSOR} -> i32",
        f"%w = tile.load %x[%2] : {TENSOR} -> i32\n  tile.store %w, %y[%2] : {TENSOR}, i32",
    ],
)
def test_what_others_read_or_write_is_a_race(other: str):
    for both in (f"{ADD}\n  {other}", f"{other}\n  {ADD}"):
        with pytest.raises(HectoriteError, match="race"):
            run(both)
