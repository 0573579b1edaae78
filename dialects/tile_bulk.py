"""The part of the `tile` dialect that knows when bulk copies have arrived: barrier objects.

    mbarrier ::= "tile.mbarrier" ":" "!tile.mbarrier" "<" n ">"     n objects, all in phase 0
    expect   ::= "tile.expect" %m "[" %i "]" "bytes" n               the phase ends after so many bytes
    await    ::= "tile.await" %m "[" %i "]" "phase" %p               until phase %p (0 or 1) has ended
    release  ::= "tile.release" %m                                   the objects are used no more

    tile.kernel @row(%task: index, %x: !hec.tensor<f32[64, 128]>, %y: !hec.tensor<f32[128]>) {
      %zero = scalar.constant 0 : index
      %s = tile.shared : !hec.tensor<f32[8, 128]>
      %m = tile.mbarrier : !tile.mbarrier<1>
      tile.expect %m[%zero] bytes 4096
      tile.copy async bulk %x[%zero, %zero] rows 0 axis 1 to %s[%zero, %zero] tells %m[%zero] shape [8, 128] : !hec.tensor<f32[64, 128]>, !hec.tensor<f32[8, 128]>
      tile.await %m[%zero] phase %zero
      %v = tile.load %s[%zero, %zero] axis 1 : !hec.tensor<f32[8, 128]> -> vector<128xf32>
      tile.store %v, %y[%zero] axis 0 : !hec.tensor<f32[128]>, vector<128xf32>
      tile.end
    }

Phases of an object follow each other: 0, 1, 0, 1. A phase ends when its bytes are known (`expect`)
and have come. Whoever has awaited it sees what was copied; since all threads of the task await, no
barrier is needed for that. What others may still read must not be overwritten before a barrier, as
by any copy. The interpreter reports a block that is read before it was awaited, bytes that are not
those expected, and waiting for a phase that never ends.
"""  # noqa: E501

from __future__ import annotations

from xdsl.dialects.builtin import IndexType, IntegerAttr, i64
from xdsl.ir import Data, Operation, SSAValue, TypeAttribute
from xdsl.irdl import (
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.space import parse_defined

PHASES = 2
"""Phases are told apart by their parity."""

MOST_BYTES = (1 << 20) - 1
"""The most bytes of one phase."""


@irdl_attr_definition
class BarrierObjects(Data[int], TypeAttribute):
    """So many barrier objects."""

    name = "tile.mbarrier"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> int:
        with parser.in_angle_brackets():
            return parser.parse_integer(allow_boolean=False, allow_negative=False)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self.data))


@irdl_op_definition
class BarrierObjectsOp(IRDLOperation):
    """Fresh barrier objects, seen by all threads of the task."""

    name = "tile.mbarrier"

    result = result_def(BarrierObjects)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, count: int):
        super().__init__(result_types=[BarrierObjects(count)])

    def verify_(self) -> None:
        if self.result.type.data < 1:
            raise VerifyException("expected at least one barrier object")


def parse_object(parser: Parser) -> tuple[SSAValue, SSAValue]:
    """`%m[%i]`: barrier objects and the number of one of them."""
    objects = parse_defined(parser, "barrier objects")
    with parser.in_square_brackets():
        return objects, parse_defined(parser, "the number of a barrier object")


def print_object(printer: Printer, objects: SSAValue, number: SSAValue) -> None:
    printer.print_ssa_value(objects)
    printer.print_string("[")
    printer.print_ssa_value(number)
    printer.print_string("]")


@irdl_op_definition
class ExpectOp(IRDLOperation):
    """The running phase of an object ends when so many bytes have come. Once for each phase."""

    name = "tile.expect"

    objects = operand_def(BarrierObjects)
    number = operand_def(IndexType)
    bytes = prop_def(IntegerAttr.constr(i64))
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(self, objects: SSAValue, number: SSAValue, bytes: int):
        super().__init__(operands=[objects, number], properties={"bytes": IntegerAttr(bytes, 64)})

    @property
    def count(self) -> int:
        return self.bytes.value.data

    def verify_(self) -> None:
        if not 0 < self.count <= MOST_BYTES:
            raise VerifyException(f"expected 1 to {MOST_BYTES} bytes, got {self.count}")

    @classmethod
    def parse(cls, parser: Parser) -> ExpectOp:
        objects, number = parse_object(parser)
        parser.parse_keyword("bytes")
        return cls(objects, number, parser.parse_integer())

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_object(printer, self.objects, self.number)
        printer.print_string(f" bytes {self.count}")


@irdl_op_definition
class AwaitOp(IRDLOperation):
    """Wait until the phase of that parity has ended."""

    name = "tile.await"

    objects = operand_def(BarrierObjects)
    number = operand_def(IndexType)
    phase = operand_def(IndexType)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(self, objects: SSAValue, number: SSAValue, phase: SSAValue):
        super().__init__(operands=[objects, number, phase])

    @classmethod
    def parse(cls, parser: Parser) -> AwaitOp:
        objects, number = parse_object(parser)
        parser.parse_keyword("phase")
        return cls(objects, number, parse_defined(parser, "a phase"))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        print_object(printer, self.objects, self.number)
        printer.print_string(" phase ")
        printer.print_ssa_value(self.phase)


@irdl_op_definition
class ReleaseOp(IRDLOperation):
    """The objects are used no more, so that their memory may hold others."""

    name = "tile.release"

    objects = operand_def(BarrierObjects)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    def __init__(self, objects: SSAValue):
        super().__init__(operands=[objects])

    @classmethod
    def parse(cls, parser: Parser) -> ReleaseOp:
        return cls(parse_defined(parser, "barrier objects"))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.objects)


BULK_OPERATIONS: tuple[type[Operation], ...] = (BarrierObjectsOp, ExpectOp, AwaitOp, ReleaseOp)
