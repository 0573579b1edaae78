"""Lifting statements into a graph and lowering them again changes nothing."""

import glob
from pathlib import Path

import numpy as np
import pytest

from hectorite.backends.reference.interpreter import run_reference
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.frontend.program_text import read_program
from hectorite.lowering.graph.lift_dataflow import lift
from hectorite.lowering.graph.lower_dataflow import lower
from hectorite.lowering.graph.specialize_sizes import specialize
from hectorite.lowering.pipelines import optimise

EXAMPLES = sorted(glob.glob(str(Path(__file__).parents[2] / "examples" / "*.hec")))


def again(module, **options):
    module = module.clone()
    for op in list(module.ops):
        if isinstance(op, FuncOp):
            lower(lift(op, schema_of(module), **options), module, op.sym_name.data)
    module.verify()
    return module


def concats(module):
    (func,) = (op for op in module.ops if isinstance(op, FuncOp))
    flow = lift(func, schema_of(module))
    return [form.operands for _, _, form in flow.statements() if form.kind == "concat"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: Path(path).stem)
def test_examples_come_back_as_they_were(path):
    module = read_program(path).module
    assert str(again(module, reassociate=False)) == str(module)
    rewritten = optimise(module, {})
    once = again(rewritten)
    assert str(again(once)) == str(once)


def pieces(*lines):
    body = "".join(f"  {line}\n" for line in lines)
    head = "def f(a: f32[N, 2], b: f32[N, 3], c: f32[N, 4]) -> f32[N, M] {\n"
    module = read_program(head + body + "  return y\n}\n").module
    specialize(module, {"M": 9})
    return module


def test_pieces_become_a_concatenation():
    module = pieces("y[n, i] = a[n, i]", "y[n, i + 5] = c[n, i] * 2.0", "y[n, i + 2] = b[n, i]")
    assert concats(module) == [3]
    rng = np.random.default_rng(0)
    arguments = {name: rng.normal(size=(5, k)) for name, k in zip("abc", (2, 3, 4), strict=True)}
    (expected,) = run_reference(module, "f", {}, {}, arguments)
    (found,) = run_reference(again(module), "f", {}, {}, arguments)
    np.testing.assert_array_equal(expected, found)


@pytest.mark.parametrize(
    "lines",
    [
        ["y[n, i] = a[n, i]", "y[n, i + 2] = b[n, i]"],
        ["y[n, 2*i] = c[n, i]", "y[n, 2*i + 1] = c[n, i]"],
    ],
    ids=["short", "strided"],
)
def test_pieces_that_do_not_follow_each_other_stay(lines):
    module = pieces(*lines)
    assert concats(module) == []
    assert str(again(module)) == str(module)


def test_floats_are_not_regrouped_unless_allowed(program, lines_of):
    module = program(
        "x: f32[node], w: f32[node]", "y[n] = x[n] * (w[n] * x[n]) | n: node | f32[node]", "y"
    )
    assert lines_of(again(module, reassociate=False)) == ["y[n] = x[n] * (w[n] * x[n])"]
    assert lines_of(again(module)) == ["y[n] = x[n] * w[n] * x[n]"]


def test_schedules_stay(program):
    path = Path(__file__).parents[2] / "examples" / "gcn.hec"
    source = path.read_text() + "schedule { y: work(split) }\n"
    module = read_program(source).module
    assert "schedule" in str(module)
    assert str(again(module, reassociate=False)) == str(module)
