"""Which statements become which kernels: fusion, products, visits, and where tensors live."""

from pathlib import Path

import pytest
from xdsl.dialects.builtin import ModuleOp

from hectorite import parse
from hectorite.dialects.graph import FuncOp
from hectorite.dialects.graph_sets import schema_of
from hectorite.dialects.tile import KernelOp, LocalOp, ProductOp
from hectorite.dialects.tile_program import AllocateOp
from hectorite.lowering.kernels.kernel_plan import Kernel
from hectorite.lowering.kernels.plan_kernels import plan_kernels
from hectorite.lowering.machine import Machine
from hectorite.lowering.pipelines import optimise, to_tile

EXAMPLES = Path(__file__).parents[2] / "examples"
GRAPH = "set etype\nset node\nset edge { src: node, dst: node, type: etype }\n"


def planned(source: str, **sizes: int) -> list[Kernel]:
    """Kernels of the last function of a program."""
    module = optimise(parse(source), sizes)
    function = [op for op in module.ops if isinstance(op, FuncOp)][-1]
    return plan_kernels(function, schema_of(module), Machine.cpu())


def tiled(source: str, **sizes: int) -> ModuleOp:
    """The tile module of the last function of a program."""
    module = optimise(parse(source), sizes)
    function = [op for op in module.ops if isinstance(op, FuncOp)][-1]
    return to_tile(module, function.sym_name.data)


def shape(kernels: list[Kernel]) -> list[str]:
    """Kernels as text: rows, then each phase with the names of its results."""
    lines: list[str] = []
    for kernel in kernels:
        phases: list[str] = []
        for phase in kernel.phases:
            names = " ".join(s.result.name_hint or "?" for s in phase.statements)
            if phase.product is not None:
                names = f"product {names}"
            elif phase.visit is not None:
                names = f"{phase.visit.set} by {'.'.join(phase.visit.key)}: {names}"
            phases.append(names)
        lines.append(f"{', '.join(map(str, kernel.rows))} | {' | '.join(phases)}")
    return lines


def test_rgat_is_one_kernel_after_its_products():
    source = (EXAMPLES / "rgat.hec").read_text()
    assert shape(planned(source, I=64, O=64)) == [
        "edge_type_src | product zs_type_src | s_part1_type_src",
        "etype | s_part2_type_dst_W_ar_type",
        "node | edge by dst: s_part2_type_dst_edge argument a_max"
        " | edge by dst: a_exp a_sum | edge by dst: a y",
    ]


def test_products_that_share_rows_share_a_kernel():
    source = (EXAMPLES / "hgt.hec").read_text()
    first = planned(source, I=8, O=8)[0]
    assert first.rows == ("node",)
    assert sum(phase.product is not None for phase in first.phases) == 3


@pytest.mark.parametrize(
    ("statement", "rows", "is_product"),
    [
        ("y[e, o] += h[e.src, i] * W[e.type, i, o]", "edge", True),
        ("y[n, o] += relu(h[n, i]) * V[i, o]", "node", True),
        ("y[n, o] += h[n, i] * V[o, i]", "node", True),
        ("y[n] += h[n, i] * h[n, i]", "node", False),
        ("y[n, o] max= h[n, i] * V[i, o]", "node", False),
        ("y[n, o] += h[n, i] * V[i, o] * h[n, o]", "node", False),
        ("y[e.dst, o] += h[e.src, o]", "node", False),
    ],
)
def test_what_is_a_product(statement, rows, is_product):
    result = "node, 8" if "[n, o]" in statement or "dst" in statement else "edge, 8"
    result = "node" if "[n] " in statement else result
    source = (
        f"{GRAPH}def f(h: f32[node, 8], W: f32[etype, 8, 8], V: f32[8, 8]) -> f32[{result}] {{\n"
        f"  {statement}\n  return y\n}}\n"
    )
    module = parse(source)
    function = next(op for op in module.ops if isinstance(op, FuncOp))
    (kernel,) = plan_kernels(function, schema_of(module), Machine.cpu())
    assert kernel.rows == (rows,)
    assert (kernel.phases[0].product is not None) == is_product


def test_elements_take_the_visit_of_what_reads_them():
    source = GRAPH + (
        "def f(a: f32[edge], x: f32[node, 4]) -> f32[node, 4] {\n"
        "  b[e] = exp(a[e])\n  y[e.dst, o] += b[e] * x[e.src, o]\n  return y\n}\n"
    )
    assert shape(planned(source)) == ["node | edge by dst: b y"]


def test_a_value_that_another_row_made_waits_for_the_next_kernel():
    source = GRAPH + (
        "def f(x: f32[node]) -> f32[node] {\n"
        "  y[e.dst] += x[e.src]\n  z[e.dst] += y[e.src]\n  return z\n}\n"
    )
    assert shape(planned(source)) == ["node | edge by dst: y", "node | edge by dst: z"]


def test_elements_are_visited_by_what_they_gather_most():
    source = (EXAMPLES / "sddmm.hec").read_text()
    assert [line.split(" | ")[1].split(":")[0] for line in shape(planned(source, K=64))] == [
        "nz by row"
    ]


def test_what_one_kernel_alone_reads_stays_inside():
    module = tiled((EXAMPLES / "rgat.hec").read_text(), I=64, O=64)
    buffers = {op.result.name_hint for op in module.walk() if isinstance(op, AllocateOp)}
    # The exponentials overwrite the scores; the scores of the row, maximum, sum and attention are
    # never stored.
    assert buffers == {
        "zs_type_src",
        "s_part1_type_src",
        "s_part2_type_dst_W_ar_type",
        "argument",
        "y",
    }
    assert any(isinstance(op, LocalOp) for op in module.walk())


def test_wide_and_transposed_weights_are_packed():
    def kernels(weights: str, read: str, n: int) -> list[str]:
        source = (
            f"def f(a: f32[M, K], b: f32[{weights}]) -> f32[M, N] {{\n"
            f"  c[m, n] += a[m, k] * b[{read}]\n  return c\n}}\n"
        )
        module = tiled(source, M=64, K=32, N=n)
        assert any(isinstance(op, ProductOp) for op in module.walk())
        return [op.sym_name.data for op in module.ops if isinstance(op, KernelOp)]

    assert kernels("K, N", "k, n", 64) == ["f_0"]
    assert kernels("K, N", "k, n", 256) == ["f_0_pack_0", "f_0"]
    assert kernels("N, K", "n, k", 64) == ["f_0_pack_0", "f_0"]
