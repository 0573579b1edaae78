"""`reuse-values`: what is known already is not computed or loaded again."""

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

from hectorite.dialects.tile_memory import LoadOp
from hectorite.lowering.gpu.reuse_values import ReuseValues

TENSOR = "!hec.tensor<f32[8]>"
LANES = "vector<4xf32>"
KERNEL = f"""
tile.kernel @k(%task: index, %n: index, %x: {TENSOR}, %y: {TENSOR}) {{
  %0 = scalar.constant 0 : index
  %1 = scalar.constant 1 : index
  %v = tile.load %x[%0] axis 0 valid %n : {TENSOR} -> {LANES}
  BODY
  tile.end
}}
"""
AGAIN = f"tile.load %x[%0] axis 0 valid %n : {TENSOR} -> {LANES}"
STORE = f"tile.store %v, %y[%0] axis 0 valid %n : {TENSOR}, {LANES}"
BACK = f"tile.load %y[%0] axis 0 valid %n : {TENSOR} -> {LANES}"


@pytest.mark.parametrize(
    ("body", "left"),
    [
        (f"%w = {AGAIN}", 1),
        (f"scf.for %i = %0 to %n step %1 {{\n %w = {AGAIN}\n }}", 1),
        (f"{STORE}\n %w = {BACK}", 1),
        # Not for these: other lanes, a store between, a store by a loop, a store that combines.
        (f"%w = {AGAIN.replace('valid %n ', '')}", 2),
        (f"{STORE}\n tile.store %v, %y[%1] axis 0 : {TENSOR}, {LANES}\n %w = {BACK}", 2),
        (f"{STORE}\n scf.for %i = %0 to %n step %1 {{\n {STORE}\n }}\n %w = {BACK}", 2),
        (f"{STORE.replace('store', 'store add', 1)}\n %w = {BACK}", 2),
    ],
)
def test_loads_that_are_left(ir, body: str, left: int):
    module: ModuleOp = ir(KERNEL.replace("BODY", body))
    ReuseValues().apply(Context(), module)
    module.verify()
    assert sum(isinstance(op, LoadOp) for op in module.walk()) == left


def test_values_of_a_loop_stay_there(ir):
    inside = "scf.for %i = %0 to %n step %1 {\n %a = scalar.add %i, %1 : index\n }\n "
    module = ir(KERNEL.replace("BODY", inside + inside.replace("%a", "%b").replace("%i", "%j")))
    before = str(module)
    ReuseValues().apply(Context(), module)
    assert str(module) == before
