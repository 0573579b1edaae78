"""The loads and stores of the `tile` dialect: which elements the lanes of a tile stand for.

    load       ::= "tile.load" element-at ":" tensor "->" value
    store      ::= "tile.store" (kind "own"?)? %value "," element-at ":" tensor "," value
    element-at ::= %t "[" %i* "]" ("axis" n)? ("step" n)? ("pad" number)? ("valid" %n)?

    tile.kernel @every_other(%task: index, %x: !hec.tensor<f32[64]>, %y: !hec.tensor<f32[32]>) {
      %zero = scalar.constant 0 : index
      %v = tile.load %x[%zero] axis 0 step 2 pad 0.0 : !hec.tensor<f32[64]> -> vector<32xf32>
      tile.store %v, %y[%zero] axis 0 valid %task : !hec.tensor<f32[32]>, vector<32xf32>
      tile.end
    }

Which element each lane stands for is said at `ElementAccess` below.
"""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import (
    FloatAttr,
    IndexType,
    IntegerAttr,
    StringAttr,
    UnitAttr,
    VectorType,
)
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_operand_def,
    opt_prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.element import ElementType
from hectorite.ir.number import check_number, number_text, parse_number
from hectorite.ir.scalar import scalar_type
from hectorite.ir.space import TensorType, parse_defined, parse_tensor

index = IndexType()


def shape_of(type: Attribute) -> tuple[int, ...]:
    """Extents of a tile; () for a scalar."""
    return tuple(type.get_shape()) if isinstance(type, VectorType) else ()


def _number(attribute: Attribute | None) -> float | int | None:
    if isinstance(attribute, FloatAttr | IntegerAttr):
        return attribute.value.data
    return None


def print_indices(printer: Printer, tensor: SSAValue, indices: Sequence[SSAValue]) -> None:
    printer.print_ssa_value(tensor)
    with printer.in_square_brackets():
        printer.print_list(indices, printer.print_ssa_value)


def parse_indices(parser: Parser) -> tuple[SSAValue, list[SSAValue]]:
    tensor = parse_tensor(parser)
    indices = parser.parse_comma_separated_list(
        parser.Delimiter.SQUARE, lambda: parse_defined(parser, "an index")
    )
    return tensor, indices


class ElementAccess(IRDLOperation):
    """What loads and stores share: which elements of a tensor the lanes of a tile stand for.

    There is one index for each dimension, `index` or a vector of them. Lane l of a rank-1 tile
    uses lane l of every vector index and adds `l * step` to the index of dimension `axis`. In a
    rank-2 tile, lane (m, l) uses lane m of the vector indices and adds `l * step` along `axis`.
    With `pad`, an element outside the tensor reads as that number and is not written. With
    `valid`, only lanes l below it are read (the others are unspecified) or written.
    """

    tensor = operand_def(TensorType)
    indices = var_operand_def()
    valid = opt_operand_def(IndexType)
    axis = opt_prop_def(IntegerAttr)
    step = opt_prop_def(IntegerAttr)
    pad = opt_prop_def(FloatAttr | IntegerAttr)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    @property
    def tensor_type(self) -> TensorType:
        return cast(TensorType, self.tensor.type)

    @property
    def lane_axis(self) -> int | None:
        return None if self.axis is None else self.axis.value.data

    @property
    def lane_step(self) -> int:
        return 1 if self.step is None else self.step.value.data

    @property
    def pad_value(self) -> float | int | None:
        return _number(self.pad)

    def verify_access(self, value: Attribute) -> None:
        """Check indices, axis and element type against the tensor and the tile."""
        dims = self.tensor_type.dims
        if len(self.indices) != len(dims):
            raise VerifyException(f"expected {len(dims)} indices, got {len(self.indices)}")
        if scalar_type(value) != self.tensor_type.element:
            raise VerifyException(
                f"expected elements of {self.tensor_type.element}, got {scalar_type(value)}"
            )
        shape = shape_of(value)
        for operand in self.indices:
            if scalar_type(operand.type) != index:
                raise VerifyException(f"expected an index, got {operand.type}")
            if shape_of(operand.type) not in ((), shape[:1]):
                raise VerifyException(f"expected a scalar or {shape[:1]} index, got {operand.type}")
        if len(shape) > 2 or (len(shape) == 2 and self.axis is None):
            raise VerifyException("a tile has rank 2 at most, and then needs an axis")
        if self.axis is not None and not 0 <= self.axis.value.data < len(dims):
            raise VerifyException(f"axis {self.axis.value.data} is not a dimension of the tensor")

    def print_access(self, printer: Printer) -> None:
        print_indices(printer, self.tensor, self.indices)
        if self.axis is not None:
            printer.print_string(f" axis {self.axis.value.data}")
        if self.step is not None:
            printer.print_string(f" step {self.step.value.data}")
        if self.pad is not None:
            printer.print_string(f" pad {number_text(cast(float, self.pad_value))}")
        if self.valid is not None:
            printer.print_string(" valid ")
            printer.print_ssa_value(self.valid)
        printer.print_string(" : ")
        printer.print_attribute(self.tensor.type)


def _parse_access_tail(
    parser: Parser, element: ElementType
) -> tuple[dict[str, Attribute | None], SSAValue | None]:
    properties: dict[str, Attribute | None] = {}
    valid = None
    while True:
        word = parser.parse_optional_keyword_in(("axis", "step", "pad", "valid"))
        if word is None:
            return properties, valid
        if word == "valid":
            valid = parse_defined(parser, "a lane count")
        elif word == "pad":
            number = parse_number(parser)
            check_number(parser, number, element)
            properties[word] = _pad_attribute(number, element.is_float)
        else:
            properties[word] = IntegerAttr(parser.parse_integer(), 64)


def _pad_attribute(number: float | int | None, is_float: bool) -> Attribute | None:
    if number is None:
        return None
    return FloatAttr(float(number), 64) if is_float else IntegerAttr(int(number), 64)


def _access_properties(
    tensor: SSAValue, axis: int | None, step: int, pad: float | int | None
) -> dict[str, Attribute | None]:
    is_float = cast(TensorType, tensor.type).element_type.is_float
    return {
        "axis": None if axis is None else IntegerAttr(axis, 64),
        "step": None if step == 1 else IntegerAttr(step, 64),
        "pad": _pad_attribute(pad, is_float),
    }


@irdl_op_definition
class LoadOp(ElementAccess):
    """A tile of a tensor's elements."""

    name = "tile.load"

    result = result_def()
    traits = traits_def(MemoryReadEffect())

    def __init__(
        self,
        tensor: SSAValue,
        indices: Sequence[SSAValue],
        type: Attribute | None = None,
        axis: int | None = None,
        step: int = 1,
        pad: float | int | None = None,
        valid: SSAValue | None = None,
    ):
        super().__init__(
            operands=[tensor, indices, valid],
            properties=_access_properties(tensor, axis, step, pad),
            result_types=[type or cast(TensorType, tensor.type).element],
        )

    def verify_(self) -> None:
        self.verify_access(self.result.type)

    @classmethod
    def parse(cls, parser: Parser) -> "LoadOp":
        tensor, indices = parse_indices(parser)
        properties, valid = _parse_access_tail(parser, cast(TensorType, tensor.type).element_type)
        parser.parse_punctuation(":")
        parser.parse_type()
        parser.parse_punctuation("->")
        op = cls(tensor, indices, parser.parse_type(), valid=valid)
        op.properties |= {k: v for k, v in properties.items() if v is not None}
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        self.print_access(printer)
        printer.print_string(" -> ")
        printer.print_attribute(self.result.type)
        printer.print_op_attributes(self.attributes)


COMBINATIONS = ("add", "max", "min")


@irdl_op_definition
class StoreOp(ElementAccess):
    """Write a tile to a tensor's elements. Lanes that name one element must hold one value.

    With a kind (add, max or min), each lane is combined with what is there instead, as one step
    that no other lane or task comes between; several may then name one element. In which order
    they do so is not fixed, so sums of floats may differ from run to run. If the elements are the
    task's `own`, no other task names them, and lanes do so in order, row by row.
    """

    name = "tile.store"

    combine = opt_prop_def(StringAttr)
    own = opt_prop_def(UnitAttr)
    value = operand_def()
    traits = traits_def(MemoryWriteEffect())

    def __init__(
        self,
        value: SSAValue | Operation,
        tensor: SSAValue,
        indices: Sequence[SSAValue],
        axis: int | None = None,
        step: int = 1,
        pad: float | int | None = None,
        valid: SSAValue | None = None,
        combine: str | None = None,
        own: bool = False,
    ):
        properties = _access_properties(tensor, axis, step, pad)
        properties["combine"] = None if combine is None else StringAttr(combine)
        properties["own"] = UnitAttr() if own else None
        super().__init__(operands=[value, tensor, indices, valid], properties=properties)

    def verify_(self) -> None:
        self.verify_access(self.value.type)
        if self.combine is not None and self.combine.data not in COMBINATIONS:
            raise VerifyException(f"expected one of {', '.join(COMBINATIONS)}")
        if self.own is not None and self.combine is None:
            raise VerifyException("only what is combined says that it is the task's own")

    @classmethod
    def parse(cls, parser: Parser) -> "StoreOp":
        combine = parser.parse_optional_keyword_in(COMBINATIONS)
        own = combine is not None and parser.parse_optional_keyword("own") is not None
        value = parse_defined(parser, "a value")
        parser.parse_punctuation(",")
        tensor, indices = parse_indices(parser)
        properties, valid = _parse_access_tail(parser, cast(TensorType, tensor.type).element_type)
        parser.parse_punctuation(":")
        parser.parse_type()
        parser.parse_punctuation(",")
        parser.parse_type()
        op = cls(value, tensor, indices, valid=valid, combine=combine, own=own)
        op.properties |= {k: v for k, v in properties.items() if v is not None}
        op.attributes |= parser.parse_optional_attr_dict()
        return op

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        if self.combine is not None:
            printer.print_string(self.combine.data + (" own " if self.own is not None else " "))
        printer.print_ssa_value(self.value)
        printer.print_string(", ")
        self.print_access(printer)
        printer.print_string(", ")
        printer.print_attribute(self.value.type)
        printer.print_op_attributes(self.attributes)
