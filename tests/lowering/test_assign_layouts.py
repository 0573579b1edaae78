"""Every tile of a kernel gets one layout, and every operand lies as its operation wants it."""

from pathlib import Path

import pytest
from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, VectorType
from xdsl.parser import Parser

from hectorite.dialects.context import make_context
from hectorite.dialects.tile import ProductOp
from hectorite.dialects.tile_layout import ConvertOp
from hectorite.dialects.tile_memory import LoadOp
from hectorite.frontend.compiled.load_facts import facts_of
from hectorite.frontend.compiled.request import only
from hectorite.frontend.program_text import read_program
from hectorite.ir.layout import Layout
from hectorite.ir.scalar import ScalarOp
from hectorite.ir.target import target
from hectorite.lowering.gpu.assign_layouts import AssignLayouts
from hectorite.lowering.gpu.product_layouts import product_layouts
from hectorite.lowering.gpu.promote_locals import PromoteLocals
from hectorite.lowering.gpu.tile_layouts import is_tile, lies
from hectorite.lowering.machine import Machine
from hectorite.lowering.pipelines import optimise, to_tile

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.hec"))


def parsed(text: str) -> ModuleOp:
    module = Parser(make_context(), text).parse_module()
    module.verify()
    return module


def assigned(text: str) -> ModuleOp:
    module = parsed(text)
    AssignLayouts().apply(Context(), module)
    module.verify()
    return module


def example(path: Path) -> ModuleOp:
    text = read_program(str(path))
    facts = facts_of(text, None)
    name = list(facts.signatures)[-1]
    sizes = dict.fromkeys(facts.signatures[name].sizes, 48)
    graph = optimise(only(text.module, name), sizes)
    return to_tile(graph, name, Machine.gpu(target("sm_90")))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_elementwise_operands_lie_alike(path):
    module = example(path)
    PromoteLocals().apply(Context(), module)
    AssignLayouts().apply(Context(), module)
    module.verify()
    assert str(parsed(str(module))) == str(module)
    for op in module.walk():
        for result in op.results:
            if isinstance(result.type, VectorType):
                assert lies(result).shape == result.type.get_shape()
        if isinstance(op, ScalarOp) and is_tile(op.results[0]):
            assert len({lies(operand) for operand in op.operands}) == 1
        if isinstance(op, LoadOp) and is_tile(op.result):
            layout = lies(op.result)
            wanted = layout.slice(0) if layout.rank == 2 else layout
            assert {lies(i) for i in op.indices if is_tile(i)} <= {wanted}


KERNEL = """
tile.kernel @k(%task: index, %r: !hec.tensor<i32[_]>, %x: !hec.tensor<f32[node, 64]>,
               %w: !hec.tensor<f32[64, 64]>, %y: !hec.tensor<f32[node, 64]>) {
  %zero = scalar.constant 0 : index
  %depth = scalar.constant 64 : index
  %i = tile.load %r[%task] axis 0 : !hec.tensor<i32[_]> -> vector<6xi32>
  %rows = scalar.cast %i : vector<6xi32> to vector<6xindex>
  %p = tile.product %x[%rows, %zero] k 1, %w[%zero, %zero] k 0 to %depth
    : !hec.tensor<f32[node, 64]>, !hec.tensor<f32[64, 64]> -> vector<6x64xf32>
  tile.store %p, %y[%rows, %zero] axis 1 : !hec.tensor<f32[node, 64]>, vector<6x64xf32>
  tile.end
}
"""


def test_what_is_cheap_is_made_in_the_layout_it_is_wanted_in():
    module = assigned(KERNEL)
    (product,) = (op for op in module.walk() if isinstance(op, ProductOp))
    wanted = product_layouts(product, 32)
    assert lies(product.result) == wanted.result
    assert lies(product.a_indices[0]) == wanted.rows
    assert not [op for op in module.walk() if isinstance(op, ConvertOp)]


def test_what_a_kernel_writes_is_converted():
    text = KERNEL.replace("tile.end", "tile.store %i, %r[%task] axis 0 : "
                          "!hec.tensor<i32[_]>, vector<6xi32>\n  tile.end")  # fmt: skip
    text = text.replace(
        "tile.store %p, %y[%rows, %zero] axis 1 : !hec.tensor<f32[node, 64]>, vector<6x64xf32>",
        "tile.store %p, %y[%task, %zero] axis 1 : !hec.tensor<f32[node, 64]>, vector<6x64xf32>",
    )
    module = assigned(text)
    converted = [op for op in module.walk() if isinstance(op, ConvertOp)]
    assert all(lies(op.input) != lies(op.result) for op in converted)


def test_neighbouring_threads_access_neighbouring_elements():
    module = assigned("""
      tile.kernel @k(%task: index, %x: !hec.tensor<f32[node, 128]>, %y: !hec.tensor<f16[node, 256]>) {
        %zero = scalar.constant 0 : index
        %v = tile.load %x[%task, %zero] axis 1 : !hec.tensor<f32[node, 128]> -> vector<128xf32>
        %w = tile.load %y[%task, %zero] axis 1 : !hec.tensor<f16[node, 256]> -> vector<256xf16>
        tile.store %v, %x[%zero, %zero] axis 1 : !hec.tensor<f32[node, 128]>, vector<128xf32>
        tile.store %w, %y[%zero, %zero] axis 1 : !hec.tensor<f16[node, 256]>, vector<256xf16>
        tile.end
      }""")  # noqa: E501
    first, second = (op for op in module.walk() if isinstance(op, LoadOp))
    assert str(lies(first.result)) == "[128] threads 32:[4] registers 4:[1]"
    assert str(lies(second.result)) == "[256] threads 32:[8] registers 8:[1]"


def test_uniform_layouts_have_one_register():
    assert Layout.uniform(128).register_count == 1
