"""Compiled programs: plans, bindings, calls, texts that run again, and the cache."""

import json
import threading

import numpy as np
import pytest
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cache import Cache
from hectorite.backends.cpu import program as cpu
from hectorite.backends.cpu.kernel import kernel_sizes
from hectorite.backends.cpu.module import distinct_parameters, to_asm_text, to_llvm_text
from hectorite.backends.host.plan import Plan, plan_from_text, plan_of, program_of
from hectorite.backends.tile.interpreter import run_tile
from hectorite.dialects.context import make_context
from hectorite.dialects.tile import KernelOp
from hectorite.ir.diagnostics import HectoriteError

X, Y, A = "!hec.tensor<f32[node, D]>", "!hec.tensor<f32[node, D]>", "!hec.tensor<f32[edge]>"
L, E = "!hec.tensor<i32[_]>", "!hec.tensor<i32[edge]>"

PROPAGATE = f"""
graph.set @node
graph.set @edge {{src: node, dst: node}}
tile.program @propagate(%x: {X}, %scale: f32, %A: {A}) -> ({Y}, {X}, {E}) {{
  %t = tile.allocate : {Y}
  %u = tile.allocate : {Y}
  %y = tile.allocate : {Y}
  %ptr = tile.layout segments of edge by [e.dst] : {L}
  %cuts = tile.layout cuts of edge by [e.dst] limit 7 : {L}
  %src = tile.layout along of edge by [e.dst] path [e.src] : {E}
  %perm = tile.layout order of edge by [e.dst] : {E}
  %n = tile.length %cuts : {L}
  %one = scalar.constant 1 : index
  %tasks = scalar.sub %n, %one : index
  tile.launch @gather(%x, %A, %scale, %t, %ptr, %cuts, %src, %perm) tasks %tasks
    : ({X}, {A}, f32, {Y}, {L}, {L}, {E}, {E})
  tile.launch @gather(%t, %A, %scale, %u, %ptr, %cuts, %src, %perm) tasks %tasks
    : ({X}, {A}, f32, {Y}, {L}, {L}, {E}, {E})
  tile.launch @gather(%u, %A, %scale, %y, %ptr, %cuts, %src, %perm) tasks %tasks
    : ({X}, {A}, f32, {Y}, {L}, {L}, {E}, {E})
  tile.return %y, %x, %src : {Y}, {X}, {E}
}}
tile.kernel @gather(%task: index, %x: {X}, %A: {A}, %scale: f32, %y: {Y}, %ptr: {L}, %cuts: {L}, \
%src: {E}, %perm: {E}) {{
  %one = scalar.constant 1 : index
  %zero = scalar.constant 0 : index
  %eight = scalar.constant 8 : index
  %d = tile.size "D"
  %next_task = scalar.add %task, %one : index
  %from32 = tile.load %cuts[%task] : {L} -> i32
  %from = scalar.cast %from32 : i32 to index
  %to32 = tile.load %cuts[%next_task] : {L} -> i32
  %to = scalar.cast %to32 : i32 to index
  scf.for %row = %from to %to step %one {{
    %next_row = scalar.add %row, %one : index
    %begin32 = tile.load %ptr[%row] : {L} -> i32
    %begin = scalar.cast %begin32 : i32 to index
    %end32 = tile.load %ptr[%next_row] : {L} -> i32
    %end = scalar.cast %end32 : i32 to index
    scf.for %column = %zero to %d step %eight {{
      %left = scalar.sub %d, %column : index
      %start = scalar.constant 0.0 : vector<8xf32>
      %sum = scf.for %p = %begin to %end step %one iter_args(%acc = %start) -> (vector<8xf32>) {{
        %s32 = tile.load %src[%p] : {E} -> i32
        %s = scalar.cast %s32 : i32 to index
        %q32 = tile.load %perm[%p] : {E} -> i32
        %q = scalar.cast %q32 : i32 to index
        %a = tile.load %A[%q] : {A} -> f32
        %b = scalar.mul %a, %scale : f32
        %w = tile.splat %b : f32 to vector<8xf32>
        %v = tile.load %x[%s, %column] axis 1 valid %left : {X} -> vector<8xf32>
        %m = scalar.mul %w, %v : vector<8xf32>
        %r = scalar.add %acc, %m : vector<8xf32>
        scf.yield %r : vector<8xf32>
      }}
      tile.store %sum, %y[%row, %column] axis 1 valid %left : {Y}, vector<8xf32>
    }}
  }}
  tile.end
}}
"""


def module_of(text: str):
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


@pytest.fixture(scope="module")
def program():
    return cpu.build(module_of(PROPAGATE))


def bound(schema, nodes: int, edges: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    src, dst = rng.integers(0, max(nodes, 1), (2, edges)).astype("i4")
    binding = Binding(schema, {"node": nodes, "edge": {"src": src, "dst": dst}})
    return binding, {
        "x": rng.standard_normal((nodes, 11)).astype("f4"),
        "A": rng.standard_normal(edges).astype("f4"),
        "scale": 0.5,
    }


def expected(binding, arguments):
    source, target = binding.map("edge", "src"), binding.map("edge", "dst")
    y = arguments["x"].astype("f8")
    for _ in range(3):
        total = np.zeros_like(y)
        np.add.at(total, target, 0.5 * arguments["A"][:, None] * y[source])
        y = total
    return y


@pytest.mark.parametrize("nodes, edges", [(50, 400), (1, 3), (9, 0), (0, 0)])
def test_program_of_several_launches(program, nodes: int, edges: int):
    binding, arguments = bound(program.schema, nodes, edges)
    y, x, src = program.run(binding, arguments, {"D": 11})
    np.testing.assert_allclose(y, expected(binding, arguments), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(x, arguments["x"])
    assert x is not arguments["x"] and src.flags.writeable
    (z, _, _) = run_tile(module_of(PROPAGATE), binding, arguments, {"D": 11})
    np.testing.assert_allclose(y, z, rtol=1e-5, atol=1e-6)


def test_sizes_may_change_from_call_to_call(program):
    binding, arguments = bound(program.schema, 20, 100)
    (wide, _, _) = program.run(binding, arguments, {"D": 11})
    arguments["x"] = np.ascontiguousarray(arguments["x"][:, :4])
    (narrow, _, _) = program.run(binding, arguments, {"D": 4})
    np.testing.assert_array_equal(narrow, wide[:, :4])


def test_two_calls_do_not_share_results(program):
    binding, arguments = bound(program.schema, 20, 100)
    (first, _, _) = program.run(binding, arguments, {"D": 11})
    kept = first.copy()
    arguments["scale"] = 2.0
    (second, _, _) = program.run(binding, arguments, {"D": 11})
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_allclose(second, 64 * first, rtol=1e-5)


def test_calls_from_several_threads(program):
    cases = [bound(program.schema, 300, 3000, seed) for seed in range(4)]
    wanted = [program.run(*case, {"D": 11})[0].copy() for case in cases]
    wrong: list[int] = []

    def work(number: int):
        for _ in range(30):
            (y, _, _) = program.run(*cases[number], {"D": 11})
            if not np.array_equal(y, wanted[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_binding_is_prepared_once(program):
    binding, _ = bound(program.schema, 20, 100)
    assert program.prepare(binding, {"D": 4}) is program.prepare(binding, {"D": 4})
    assert program.prepare(binding, {"D": 4}) is not program.prepare(binding, {"D": 5})


def test_temporaries_share_memory(program):
    """Each is needed by two launches in a row, so three take the space of two at least."""
    binding, _ = bound(program.schema, 64, 100)
    assert program.prepare(binding, {"D": 16})._block == 2 * 64 * 16 * 4


def test_plan_is_json():
    plan = plan_of(module_of(PROPAGATE))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert [step["do"] for step in plan.steps].count("launch") == 3
    assert plan.steps[-1]["sizes"] == ["D", "edge", "node"]


@pytest.mark.parametrize("emit", [to_llvm_text, to_asm_text])
def test_text_runs_again(program, emit):
    text = emit(module_of(PROPAGATE))
    assert text == emit(module_of(PROPAGATE))
    assert plan_from_text(text) == program.plan
    again = cpu.build_from_text(text)
    binding, arguments = bound(again.schema, 30, 200)
    (y, _, _) = again.run(binding, arguments, {"D": 11})
    np.testing.assert_array_equal(y, program.run(binding, arguments, {"D": 11})[0])


@pytest.mark.parametrize("text", ["", "define void @f() {", "; hectorite plan 1\n; {", "# x"])
def test_text_without_a_plan(text: str):
    with pytest.raises(HectoriteError, match="does not begin with the plan"):
        cpu.build_from_text(text, "a.ll")


def test_text_whose_sets_are_damaged():
    text = to_llvm_text(module_of(PROPAGATE))
    with pytest.raises(HectoriteError, match="does not begin with the plan"):
        cpu.build_from_text(text.replace("graph.set @", "graph.set ", 1), "a.ll")


def test_cache(tmp_path):
    cache = Cache(tmp_path)
    first = cpu.build(module_of(PROPAGATE), cache)
    second = cpu.build(module_of(PROPAGATE), cache)
    assert second.plan == first.plan and second.object_code == first.object_code
    third = cpu.build_once(lambda: pytest.fail("cached"), cache, str(module_of(PROPAGATE)))
    binding, arguments = bound(third.schema, 30, 200)
    (y, _, _) = third.run(binding, arguments, {"D": 11})
    np.testing.assert_array_equal(y, first.run(binding, arguments, {"D": 11})[0])


def test_kernel_sizes():
    module = module_of(PROPAGATE)
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp)]
    assert kernel_sizes(kernel) == ["D", "edge", "node"]
    assert distinct_parameters(program_of(module), kernel) == [True] * 8


def test_parameters_that_may_overlap():
    pair = "!hec.tensor<f32[4]>, !hec.tensor<f32[4]>"
    module = module_of(f"""
      tile.program @p(%x: !hec.tensor<f32[4]>) -> !hec.tensor<f32[4]> {{
        %y = tile.allocate : !hec.tensor<f32[4]>
        %one = scalar.constant 1 : index
        tile.launch @k(%x, %y) tasks %one : ({pair})
        tile.launch @k(%y, %y) tasks %one : ({pair})
        tile.return %y : !hec.tensor<f32[4]>
      }}
      tile.kernel @k(%task: index, %a: !hec.tensor<f32[4]>, %b: !hec.tensor<f32[4]>) {{
        %zero = scalar.constant 0 : index
        %v = tile.load %a[%zero] axis 0 : !hec.tensor<f32[4]> -> vector<4xf32>
        %w = scalar.add %v, %v : vector<4xf32>
        tile.store %w, %b[%zero] axis 0 : !hec.tensor<f32[4]>, vector<4xf32>
        tile.end
      }}
    """)
    (kernel,) = [op for op in module.ops if isinstance(op, KernelOp)]
    assert distinct_parameters(program_of(module), kernel) == [False, False]
    program = cpu.build(module)
    (y,) = program.run(Binding(program.schema, {}), {"x": np.arange(4, dtype="f4")})
    assert y.tolist() == [0, 4, 8, 12]


@pytest.mark.parametrize(
    "text, message",
    [
        ("graph.set @node", "0 programs"),
        (
            "tile.program @p(%x: f32) -> () { %n = scalar.constant 1 : index\n"
            "tile.launch @k(%x) tasks %n : (f32)\ntile.return : }",
            "@k is launched but not there",
        ),
        (
            "tile.program @p(%x: f32) -> () { %n = scalar.constant 1 : index\n"
            "tile.launch @k(%x) tasks %n : (f32)\ntile.return : }\n"
            "tile.kernel @k(%task: index, %x: f64) { tile.end }",
            "launched with",
        ),
    ],
)
def test_faulty_modules(text: str, message: str):
    with pytest.raises(HectoriteError, match=message):
        cpu.build(Parser(make_context(), text).parse_module())
