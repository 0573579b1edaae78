"""Barriers stand where one thread needs what another wrote, and nowhere else."""

import pytest
from xdsl.context import Context
from xdsl.parser import Parser

from hectorite.dialects.context import make_context
from hectorite.ir.target import target
from hectorite.lowering.gpu.assign_layouts import AssignLayouts
from hectorite.lowering.gpu.insert_barriers import InsertBarriers
from hectorite.lowering.ptx.tile_to_ptx import tile_to_ptx

TENSOR = "!hec.tensor<f32[64]>"
LOAD = f"axis 0 : {TENSOR} -> vector<64xf32>"
STORE = f"axis 0 : {TENSOR}, vector<64xf32>"


def operations(body: str) -> list[str]:
    """Names of the memory operations and barriers of a kernel, loops marked."""
    text = f"""
      tile.kernel @k(%task: index, %x: {TENSOR}, %y: {TENSOR}, %n: index) {{
        %zero = scalar.constant 0 : index
        %one = scalar.constant 1 : index
        %t = tile.local : {TENSOR}
        %s = tile.local : {TENSOR}
        {body}
        tile.end
      }}"""
    module = Parser(make_context(), text).parse_module()
    for each in (AssignLayouts(), InsertBarriers()):
        each.apply(Context(), module)
    module.verify()
    kept = ("tile.load", "tile.store", "tile.barrier", "scf.for", "scf.yield")
    return [op.name.split(".")[1] for op in module.walk() if op.name in kept]


CASES = {
    "own elements need none": (
        f"""%v = tile.load %x[%zero] {LOAD}
        tile.store %v, %t[%zero] {STORE}
        %w = tile.load %t[%zero] {LOAD}
        tile.store %w, %y[%zero] {STORE}""",
        "load store load store",
    ),
    "elements of others need one": (
        f"""%v = tile.load %x[%zero] {LOAD}
        tile.store %v, %t[%zero] {STORE}
        %w = tile.load %t[%one] {LOAD}
        tile.store %w, %y[%zero] {STORE}""",
        "load store barrier load store",
    ),
    "so does a scalar": (
        f"""%v = tile.load %x[%zero] : {TENSOR} -> f32
        tile.store %v, %t[%zero] : {TENSOR}, f32
        %w = tile.load %t[%zero] : {TENSOR} -> f32
        tile.store %w, %y[%zero] : {TENSOR}, f32""",
        "load store barrier load store",
    ),
    "one thread waits for no one": (
        f"""%v = tile.load %x[%zero] : {TENSOR} -> f32
        tile.store %v, %t[%zero] : {TENSOR}, f32
        tile.store %v, %t[%zero] : {TENSOR}, f32""",
        "load store store",
    ),
    "what is read may not be written yet": (
        f"""%v = tile.load %t[%one] {LOAD}
        tile.store %v, %t[%zero] {STORE}""",
        "load barrier store",
    ),
    "a loop waits before it begins": (
        f"""%v = tile.load %x[%zero] {LOAD}
        tile.store %v, %t[%zero] {STORE}
        scf.for %i = %zero to %n step %one {{
          %w = tile.load %t[%i] : {TENSOR} -> f32
          tile.store %w, %y[%i] : {TENSOR}, f32
        }}""",
        "load store barrier for load store yield",
    ),
    "and for its last iteration": (
        f"""scf.for %i = %zero to %n step %one {{
          %w = tile.load %t[%i] : {TENSOR} -> f32
          %v = tile.load %x[%zero] {LOAD}
          tile.store %v, %t[%zero] {STORE}
        }}""",
        "for barrier load load barrier store yield",
    ),
    "places that move with a loop are others' in the next iteration": (
        f"""scf.for %i = %zero to %n step %one {{
          %v = tile.load %t[%i] {LOAD}
          tile.store %v, %t[%i] {STORE}
        }}""",
        "for barrier load store yield",
    ),
    "memory of its own is apart": (
        f"""%v = tile.load %x[%zero] {LOAD}
        tile.store %v, %t[%zero] {STORE}
        %w = tile.load %s[%one] {LOAD}
        tile.store %w, %y[%zero] {STORE}""",
        "load store load store",
    ),
    "sums in memory come in any order": (
        f"""%v = tile.load %x[%zero] {LOAD}
        tile.store add %v, %y[%zero] {STORE}
        tile.store add %v, %y[%one] {STORE}
        tile.store max %v, %y[%one] {STORE}
        tile.store %v, %y[%zero] {STORE}""",
        "load store store barrier store barrier store",
    ),
    "both arms count": (
        f"""%v = tile.load %x[%zero] {LOAD}
        %c = scalar.lt %zero, %n : index
        scf.if %c {{
          tile.store %v, %t[%zero] {STORE}
        }} else {{
          tile.store %v, %s[%zero] {STORE}
        }}
        %w = tile.load %s[%one] {LOAD}
        tile.store %w, %y[%zero] {STORE}""",
        "load store yield store yield barrier load store",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_barriers(name):
    body, expected = CASES[name]
    assert operations(body) == expected.split()


def test_one_tensor_under_two_names():
    text = f"""
      tile.program @f(%a: {TENSOR}) -> {TENSOR} {{
        %one = scalar.constant 1 : index
        tile.launch @k(%a, %a) tasks %one : ({TENSOR}, {TENSOR})
        tile.return %a : {TENSOR}
      }}
      tile.kernel @k(%task: index, %x: {TENSOR}, %y: {TENSOR}) {{
        %v = tile.load %x[%task] : {TENSOR} -> f32
        tile.store %v, %y[%task] : {TENSOR}, f32
        tile.end
      }}"""
    module = Parser(make_context(), text).parse_module()
    for each in (AssignLayouts(), InsertBarriers()):
        each.apply(Context(), module)
    assert "tile.barrier" in str(module)
    ptx, _ = tile_to_ptx(module, target("sm_80"))
    assert "global.nc" not in str(ptx)
    ptx, _ = tile_to_ptx(
        Parser(make_context(), text.replace("(%a, %a)", "(%a, %b)").replace(
            "%one =", f"%b = tile.allocate : {TENSOR}\n%one =")).parse_module(), target("sm_80")
    )  # fmt: skip
    assert "global.nc" in str(ptx)
