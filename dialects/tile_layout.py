"""The part of the `tile` dialect that a GPU needs: which thread holds what, and who waits for whom.

    layout  ::= "#tile.layout" "<" shape ("threads" digit+)? ("registers" digit+)? ">"
    digit   ::= count ":" "[" step ("," step)* "]"               see ir/layout.py
    convert ::= "tile.convert" %v "{" "layout" "=" layout "}" ":" vector
    barrier ::= "tile.barrier"                                   all threads of the task wait here
    at      ::= "tile.at" string                                 what follows does this statement

    tile.kernel @copy(%task: index, %x: !hec.tensor<f32[64]>) {
      %zero = scalar.constant 0 : index
      tile.at "x[i] = x[i]"
      %v = tile.load %x[%zero] axis 0 : !hec.tensor<f32[64]> -> vector<64xf32> {layout = #tile.layout<[64] threads 32:[2] registers 2:[1]>}
      %w = tile.convert %v {layout = #tile.layout<[64] threads 32:[1] registers 2:[32]>} : vector<64xf32>
      tile.barrier
      tile.store %w, %x[%zero] axis 0 : !hec.tensor<f32[64]>, vector<64xf32>
      tile.end
    }

The attribute `layout` stands at each operation that makes a tile of nothing (a load, a splat, a
constant, lanes, a product) and at `tile.convert`; every other tile lies as its first operand does.
None of these operations changes what a kernel computes.
"""  # noqa: E501

from __future__ import annotations

from typing import ClassVar

from xdsl.dialects.builtin import StringAttr, VectorType
from xdsl.ir import Attribute, Data, Operation, SSAValue
from xdsl.irdl import (
    BaseAttr,
    IRDLOperation,
    VarConstraint,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, Pure
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.layout import Digit, Layout

LAYOUT = "layout"
"""The name of the attribute that says how the result of an operation lies."""


@irdl_attr_definition
class LayoutAttr(Data[Layout]):
    """How a tile is spread over the threads of a task."""

    name = "tile.layout"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> Layout:
        def numbers() -> tuple[int, ...]:
            square = parser.Delimiter.SQUARE
            return tuple(parser.parse_comma_separated_list(square, parser.parse_integer))

        def digits(word: str) -> list[Digit]:
            found: list[Digit] = []
            if parser.parse_optional_keyword(word) is not None:
                while (count := parser.parse_optional_integer()) is not None:
                    parser.parse_punctuation(":")
                    found.append(Digit(count, numbers()))
            return found

        with parser.in_angle_brackets():
            start = parser.pos
            shape = numbers()
            layout = Layout.of(shape, digits("threads"), digits("registers"))
            if any(len(d.step) != len(shape) for d in (*layout.threads, *layout.registers)):
                parser.raise_error("expected a step for each dimension", start, parser.pos)
        return layout

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.data))


@irdl_op_definition
class ConvertOp(IRDLOperation):
    """The same tile, spread over the threads in another way."""

    name = "tile.convert"

    TILE: ClassVar = VarConstraint("TILE", BaseAttr(VectorType))

    input = operand_def(TILE)
    result = result_def(TILE)
    traits = traits_def(Pure())
    assembly_format = "$input attr-dict `:` type($result)"

    def __init__(self, value: SSAValue, layout: Layout):
        super().__init__(
            operands=[value],
            attributes={LAYOUT: LayoutAttr(layout)},
            result_types=[value.type],
        )

    def verify_(self) -> None:
        if not isinstance(self.attributes.get(LAYOUT), LayoutAttr):
            raise VerifyException("expected a layout")


@irdl_op_definition
class BarrierOp(IRDLOperation):
    """What any thread of the task wrote to memory before is there for all of them after."""

    name = "tile.barrier"

    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())
    assembly_format = "attr-dict"

    def __init__(self):
        super().__init__()


@irdl_op_definition
class AtOp(IRDLOperation):
    """A remark: the operations that follow, up to the next one, do this statement."""

    name = "tile.at"

    statement = prop_def(StringAttr)
    # Like a write, so that nobody moves or drops it.
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "$statement attr-dict"

    def __init__(self, statement: str):
        super().__init__(properties={"statement": StringAttr(statement)})


def layout_attribute(op: Operation) -> Attribute | None:
    """The layout that an operation was given for its result, as an attribute."""
    return op.attributes.get(LAYOUT)


LAYOUT_OPERATIONS: tuple[type[Operation], ...] = (ConvertOp, BarrierOp, AtOp)
