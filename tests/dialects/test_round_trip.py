"""Everything prints and parses back to itself, in the pretty and in the generic form."""

import math
from collections.abc import Callable
from io import StringIO

import pytest
from xdsl.dialects.builtin import FloatAttr, ModuleOp
from xdsl.parser import Parser
from xdsl.printer import Printer

from hectorite.dialects.context import make_context
from hectorite.dialects.graph import Graph
from hectorite.dialects.sparse import Sparse
from hectorite.dialects.tile import Tile
from hectorite.dialects.tile_program import LAYOUTS, LayoutOp
from hectorite.ir.element import ELEMENTS, INDEX
from hectorite.ir.number import number_text, parse_number
from hectorite.ir.scalar import FUNCTIONS, Scalar

Parse = Callable[[str], ModuleOp]
Generic = Callable[[ModuleOp], str]


def scalar_examples() -> list[str]:
    """Every scalar function on every type it is defined on, alone and in a vector."""
    lines = ["%c = scalar.constant 1 : i1", "%cv = scalar.constant 1 : vector<4xi1>"]
    for element in (*ELEMENTS.values(), INDEX):
        lines.append(f"%{element.name} = scalar.constant 1 : {element.xdsl}")
        lines.append(f"%{element.name}v = scalar.constant 1 : vector<4x{element.xdsl}>")
        lines.append(f"scalar.cast %{element.name} : {element.xdsl} to f32")
        for function in FUNCTIONS.values():
            if element.kind not in function.domain:
                continue
            for suffix, type in (("", f"{element.xdsl}"), ("v", f"vector<4x{element.xdsl}>")):
                operands = [f"%{element.name}{suffix}"] * function.arity
                if function.name == "select":
                    operands[0] = f"%c{suffix}"
                lines.append(f"scalar.{function.name} {', '.join(operands)} : {type}")
    return lines


@pytest.fixture(scope="module")
def modules(everything: dict[str, str]) -> dict[str, str]:
    return everything | {"scalar": "\n".join(scalar_examples())}


@pytest.mark.parametrize("name", ["graph", "sparse", "tile", "scalar"])
def test_round_trip(name: str, modules: dict[str, str], ir: Parse, generic: Generic):
    module = ir(modules[name])
    pretty, full = str(module), generic(module)
    assert str(ir(pretty)) == pretty
    assert generic(ir(pretty)) == full
    assert str(ir(full)) == pretty
    assert generic(ir(full)) == full


@pytest.mark.parametrize("dialect", [Graph, Sparse, Tile, Scalar], ids=lambda dialect: dialect.name)
def test_every_operation_is_there(dialect, modules: dict[str, str], ir: Parse):
    used = {op.name for op in ir(modules[dialect.name]).walk()}
    assert {operation.name for operation in dialect.operations} <= used


def test_every_layout_is_there(everything: dict[str, str], ir: Parse):
    ops = (op for op in ir(everything["tile"]).walk() if isinstance(op, LayoutOp))
    assert {op.what.data for op in ops} == set(LAYOUTS)


@pytest.mark.parametrize(
    "text",
    [
        "!hec.tensor<f32[]>",
        "!hec.tensor<si1[node, 64, H]>",
        "!hec.tensor<ui3[4], pad 7>",
        "!hec.tensor<i8[4], pad -3>",
        "!hec.tensor<f32[N], pad inf>",
        "!hec.tensor<f32[N], pad -inf>",
        "!hec.tensor<f32[N], pad nan>",
        "!hec.tensor<bf16[N], pad 1.0e-30>",
        '!hec.tensor<f32[M, K], pad 0.5, as "nm(2, 4)">',
        '!hec.tensor<tf32[M, K], as "bits">',
        "#hec.access<[]>",
        "#hec.access<[e, e.src.type, r + 2*y - 1, @N*e - @K]>",
        "#hec.access<[(r + y) floordiv 2, e.src mod @N, -y, 7]>",
        "#hec.vars<(e: edge, o: 64)>",
        "#hec.conditions<[x.col eq y.row, x.row lt 2*y.col + 1]>",
        "#hec.shape<[node, 64]>",
        "#sparse.encoding<levels [dense, compressed], payload index>",
        "#sparse.encoding<levels [dense, condensed], window [16, 8], payload bitmap>",
    ],
)
def test_attributes(text: str):
    attribute = Parser(make_context(), text).parse_attribute()
    printed = StringIO()
    Printer(printed).print_attribute(attribute)
    assert printed.getvalue() == text


@pytest.mark.parametrize(
    "number", [0, -3, 1.5, -0.0, 1e30, 1e-30, 1e16, 5e-324, math.inf, -math.inf, math.nan]
)
def test_numbers(number: float, ir: Parse, generic: Generic):
    back = parse_number(Parser(make_context(), number_text(number)))
    assert repr(back) == repr(number)
    module = ir(f"%0 = scalar.constant {number_text(number)} : f64")
    for form in (str(module), generic(module)):
        value = next(iter(ir(form).ops)).value
        assert isinstance(value, FloatAttr)
        assert repr(value.value.data) == repr(float(number))


def test_names_of_parameters_are_kept(ir: Parse):
    """Data is bound by name, so a value of the same name in a body does not displace it."""
    text = """
graph.func @f(%y: !hec.tensor<f32[N]>) -> !hec.tensor<f32[N]> {
  %x = graph.statement assign [i] for (i: N) : !hec.tensor<f32[N]> {
    %y_1 = graph.read %y[i] : f32
    graph.yield %y_1 : f32
  }
  graph.return %x : !hec.tensor<f32[N]>
}
"""
    module = ir(text)
    for op in module.walk():
        for result in op.results:
            result.name_hint = "y"
    assert "graph.func @f(%y: " in str(module)
    assert str(ir(str(module))) == str(module)
