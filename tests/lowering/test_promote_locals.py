"""`promote-locals`: private memory becomes values, where its places are known."""

import re

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.scf import ForOp, IfOp

from hectorite.backends.bound.binding import Binding
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.tile import LocalOp
from hectorite.ir.schema import Schema
from hectorite.lowering.gpu import promote_locals
from hectorite.lowering.gpu.promote_locals import PromoteLocals

ROWS = "!hec.tensor<f32[3, 8]>"
MEMORY = "!hec.tensor<f32[2, 8]>"
LANES = "vector<8xf32>"
KERNEL = f"""
tile.program @f(%x: {ROWS}) -> {ROWS} {{
  %y = tile.allocate : {ROWS}
  %n = scalar.constant 3 : index
  tile.launch @k(%x, %y) tasks %n : ({ROWS}, {ROWS})
  tile.return %y : {ROWS}
}}
tile.kernel @k(%task: index, %x: {ROWS}, %y: {ROWS}) {{
  %0 = scalar.constant 0 : index
  %1 = scalar.constant 1 : index
  %4 = scalar.constant 4 : index
  %3 = scalar.constant 3 : index
  %zeros = scalar.constant 0.0 : {LANES}
  %m = tile.local : {MEMORY}
  BODY
  tile.end
}}
"""
ROW = f"axis 1 : {ROWS}"
PART = f"axis 1 : {MEMORY}"


def kernel(ir, body: str) -> ModuleOp:
    """The module of a kernel that fills row `task` of y from x."""
    module = ir(KERNEL.replace("BODY", body))
    module.verify()
    return module


def promoted(module: ModuleOp) -> ModuleOp:
    """A copy after the pass."""
    copy = module.clone()
    PromoteLocals().apply(Context(), copy)
    copy.verify()
    return copy


def memories(module: ModuleOp) -> int:
    return sum(isinstance(op, LocalOp) for op in module.walk())


def run(module: ModuleOp) -> np.ndarray:
    """What the tile interpreter makes of it."""
    x = np.arange(24, dtype=np.float32).reshape(3, 8)
    return run_tile(module, Binding(Schema(), {}), {"x": x})[0]


SUM = f"""
  tile.store %zeros, %m[%0, %0] {PART}, {LANES}
  scf.for %i = %0 to %task step %1 {{
    %old = tile.load %m[%0, %0] {PART} -> {LANES}
    %v = tile.load %x[%i, %0] {ROW} -> {LANES}
    %new = scalar.add %old, %v : {LANES}
    tile.store %new, %m[%0, %0] {PART}, {LANES}
  }}
  %last = tile.load %m[%0, %0] {PART} -> {LANES}
  tile.store %last, %y[%task, %0] {ROW}, {LANES}
"""

TWO_PARTS = f"""
  %v = tile.load %x[%task, %0] {ROW} -> {LANES}
  tile.store %v, %m[%0, %0] {PART}, {LANES}
  tile.store %zeros, %m[%1, %0] {PART}, {LANES}
  %first = scalar.eq %task, %0 : index
  scf.if %first {{
    %a = tile.load %m[%0, %0] {PART} -> {LANES}
    tile.store %a, %m[%1, %0] {PART}, {LANES}
  }}
  scf.for %i = %0 to %3 step %1 {{
    %odd = scalar.eq %i, %1 : index
    scf.if %odd {{
      %b = tile.load %m[%1, %0] {PART} -> {LANES}
      %c = scalar.add %b, %b : {LANES}
      tile.store %c, %m[%0, %0] {PART}, {LANES}
    }} else {{
      tile.store %zeros, %m[%1, %0] {PART}, {LANES}
    }}
  }}
  %last = tile.load %m[%0, %0] {PART} -> {LANES}
  tile.store %last, %y[%task, %0] {ROW}, {LANES}
"""

ANEW = f"""
  scf.for %i = %0 to %3 step %1 {{
    %v = tile.load %x[%i, %0] {ROW} -> {LANES}
    tile.store %v, %m[%0, %0] {PART}, {LANES}
    scf.for %j = %0 to %1 step %1 {{
      %w = tile.load %m[%0, %0] {PART} -> {LANES}
      tile.store %w, %y[%task, %0] {ROW}, {LANES}
    }}
  }}
"""


@pytest.mark.parametrize("body", [SUM, TWO_PARTS, ANEW])
def test_values_are_those_of_the_memory(ir, body: str):
    module = kernel(ir, body)
    after = promoted(module)
    assert memories(after) == 0
    assert run(module).tobytes() == run(after).tobytes()


def test_what_no_iteration_needs_of_another_is_not_carried(ir):
    loops = [op for op in promoted(kernel(ir, ANEW)).walk() if isinstance(op, ForOp)]
    assert [len(loop.iter_args) for loop in loops] == [0, 0]


def test_branches_yield_what_is_read_after_them(ir):
    branches = [op for op in promoted(kernel(ir, TWO_PARTS)).walk() if isinstance(op, IfOp)]
    assert [len(branch.results) for branch in branches] == [1, 2]


STAYS = {
    "a place that is computed": f"""
  tile.store %zeros, %m[%task, %0] {PART}, {LANES}""",
    "parts that overlap": f"""
  tile.store %zeros, %m[%0, %0] {PART}, {LANES}
  %one = tile.load %m[%0, %1] : {MEMORY} -> f32""",
    "lanes that may not count": f"""
  tile.store %zeros, %m[%0, %0] axis 1 valid %task : {MEMORY}, {LANES}""",
    "a product that reads it": f"""
  tile.store %zeros, %m[%0, %0] {PART}, {LANES}
  tile.store %zeros, %m[%1, %0] {PART}, {LANES}
  %rows = tile.lanes : vector<2xindex>
  %p = tile.product %m[%rows, %0] k 1, %x[%0, %0] k 0 to %3
       : {MEMORY}, {ROWS} -> vector<2x8xf32>""",
}


@pytest.mark.parametrize("why", STAYS)
def test_memory_stays_for(ir, why: str):
    module = kernel(ir, STAYS[why])
    assert str(promoted(module)) == str(module)


def test_example(ir):
    before, after = re.split(r"\nbecomes.*\n", promote_locals.__doc__ or "")
    module = kernel(ir, SUM)
    shown = re.sub(r"%\w+", "%", str(promoted(module)))
    (loop,) = [op for op in promoted(module).walk() if isinstance(op, ForOp)]
    assert len(loop.iter_args) == 1
    for line in after.splitlines():
        if line.startswith("    ") and "scf.yield" in line:
            assert re.sub(r"%\w+", "%", line.strip()).replace("64", "8") in shown
    assert "tile.local" in before
