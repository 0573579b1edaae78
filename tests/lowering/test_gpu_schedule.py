"""Tile IR scheduled for a GPU: what a task is, what lies in lanes, and that nothing is serial."""

import re
from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp

import hectorite
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile import KernelOp, LocalOp, PrefetchOp, ProductOp
from hectorite.dialects.tile_memory import StoreOp, shape_of
from hectorite.dialects.tile_program import LaunchOp, LayoutOp
from hectorite.ir.scalar import ConstantOp
from hectorite.ir.target import target
from hectorite.lowering.gpu.promote_locals import PromoteLocals
from hectorite.lowering.kernels import materialise_operands
from hectorite.lowering.machine import Machine
from hectorite.lowering.pipelines import optimise, to_tile

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.hec"))
GPU = Machine.gpu(target("sm_90"))
GRAPH = "set node\nset edge { src: node, dst: node }\n"


def scheduled(source: str, sizes: dict[str, int], machine: Machine = GPU) -> ModuleOp:
    """The tile module of the last function of a program."""
    module = hectorite.parse(source)
    function = [op for op in module.ops if isinstance(op, FuncOp)][-1]
    known = {n: v for n, v in sizes.items() if re.search(rf"\b{n}\b", source)}
    fixed = {name for name, value in schema_of(module).sizes.items() if value is not None}
    known = {name: value for name, value in known.items() if name not in fixed}
    tile = to_tile(optimise(module, known), function.sym_name.data, machine)
    tile.verify()
    return tile


def all_sizes(source: str, value: int) -> dict[str, int]:
    """Every size that a program names."""
    return dict.fromkeys(set(re.findall(r"\b[A-Z][a-z]?\b", source)), value)


def kernels(tile: ModuleOp) -> list[KernelOp]:
    return [op for op in tile.ops if isinstance(op, KernelOp)]


def found(tile: ModuleOp, kind: type) -> list:
    return [op for op in tile.walk() if isinstance(op, kind)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", [64, 40, 7])
def test_examples_are_fit_for_a_gpu(path: Path, size: int):
    source = path.read_text()
    sizes = all_sizes(source, size)
    sizes = {name: value for name, value in sizes.items() if f"dim {name} " not in source}
    tile = scheduled(source, sizes)
    assert not found(tile, PrefetchOp)
    assert "panels" not in str(tile) and "cuts" not in str(tile)
    for launch in found(tile, LaunchOp):
        tasks = launch.tasks.owner
        assert not isinstance(tasks, ConstantOp) or tasks.number > 1 or size < 16
    for product in found(tile, ProductOp):
        rows, lanes = shape_of(product.result.type)
        assert rows % 16 == 0 and lanes % 8 == 0
        (kernel,) = [k for k in kernels(tile) if product in list(k.walk())]
        assert kernel.thread_count == 32 or rows * lanes >= 8 * kernel.thread_count
    PromoteLocals().apply(Context(), tile)
    tile.verify()
    # Short rows are made number by number in lanes, and may be read as vectors after that.
    assert size < GPU.few_lanes or not found(tile, LocalOp)


def test_short_rows_lie_in_lanes():
    source = "def f(x: f32[N, 3]) -> f32[N] {\n y[n] += x[n, k]\n return y\n}"
    (store,) = found(scheduled(source, {"N": 500}), StoreOp)
    assert shape_of(store.value.type) == (128,)


def test_long_rows_are_tasks():
    source = "def f(x: f32[N, 64]) -> f32[N, 64] {\n y[n, k] = exp(x[n, k])\n return y\n}"
    tile = scheduled(source, {"N": 500})
    (store,) = found(tile, StoreOp)
    assert shape_of(store.value.type) == (64,)
    assert "tasks %0" in str(tile) and "scf.for" not in str(tile)


def test_one_long_row_is_many_tasks():
    source = "def f(x: f32[N]) -> f32[N] {\n y[n] = exp(x[n])\n return y\n}"
    (store,) = found(scheduled(source, {"N": 100_000}), StoreOp)
    assert shape_of(store.value.type) == (128,)


def test_elements_of_a_visit_lie_in_lanes_if_they_are_numbers():
    source = GRAPH + (
        "def f(s: f32[edge, 2], x: f32[node, 64]) -> f32[node, 64] {\n"
        " a[e, k] = softmax(s[e, k] by e.dst, k)\n"
        " y[e.dst, o] += (a[e, 0] + a[e, 1]) * x[e.src, o]\n return y\n}"
    )
    tile = scheduled(source, {})
    (kernel,) = kernels(tile)
    shapes = {shape_of(op.value.type) for op in found(tile, StoreOp)}
    assert {(32,), (64,)} <= shapes
    assert kernel.thread_count == 32
    assert not [op for op in found(tile, LayoutOp) if op.what.data == "cuts"]


def test_a_sum_over_everything_is_made_in_parts():
    source = "def f(x: f32[N]) -> f32 {\n s += x[n] * x[n]\n return s\n}"
    parts, total = found(scheduled(source, {"N": 5000}), LaunchOp)
    assert parts.tasks.owner.number == GPU.parts and total.tasks.owner.number == 1
    assert len(found(scheduled(source, {"N": 5000}, Machine.cpu()), LaunchOp)) == 1


def test_sums_onto_computed_places_are_added_to_memory():
    source = "def f(x: f32[N, 4]) -> f32[P] {\n d[3*n + j] += x[n, j]\n return d\n}"
    stores = found(scheduled(source, {"N": 200, "P": 700}), StoreOp)
    assert [op.combine and op.combine.data for op in stores] == [None, "add"]


@pytest.mark.parametrize("element", ["f16", "bf16", "tf32", "i8"])
def test_products_read_small_elements_from_memory(element: str):
    result = "i32" if element == "i8" else "f32"
    source = (
        f"def f(x: {element}[N, I], W: {element}[I, O]) -> {result}[N, O] {{\n"
        " y[n, o] += x[n, i] * W[i, o]\n return y\n}"
    )
    (op,) = found(scheduled(source, {"N": 300, "I": 40, "O": 24}), ProductOp)
    assert op.a.type.element_type.name == op.b.type.element_type.name == element
    assert str(op.result.type).endswith(f"x{result}>")


def test_a_wider_target_changes_no_shape_of_a_small_block():
    source = (
        "def f(x: f32[N, I], W: f32[I, O]) -> f32[N, O] {\n"
        " y[n, o] += x[n, i] * W[i, o]\n return y\n}"
    )
    small = {"N": 16, "I": 8, "O": 8}
    texts = {
        str(scheduled(source, small, Machine.gpu(target(name)))) for name in ("sm_80", "sm_90")
    }
    assert len(texts) == 1


def test_left_operands_are_statements_of_their_own(program, lines_of):
    before, after = (
        [line.strip() for line in part.splitlines() if line.startswith("    ")]
        for part in re.split(r"\nbecomes.*\n", materialise_operands.__doc__ or "")
    )
    line = "y[n, o] += exp(t[n, i]) * W[i, o] | n: node, o: 8, i: 4 | f32[node, 8]"
    module = program("t: f32[node, 4], W: f32[4, 8]", line, "y")
    (function,) = [op for op in module.ops if isinstance(op, FuncOp)]
    materialise_operands.materialise_operands(function, Machine.cpu())
    assert [line.replace("exp", "gelu") for line in lines_of(module)] == before
    materialise_operands.materialise_operands(function, GPU)
    module.verify()
    assert [line.replace("exp", "gelu") for line in lines_of(module)] == after
