"""The host side of the `tile` dialect: a straight line that allocates, asks for bound layouts and
launches kernels.

    program  ::= "tile.program" @name "(" (%arg ":" type)* ")" "->" types region
    allocate ::= "tile.allocate" ":" tensor                       contents unspecified
    layout   ::= "tile.layout" what "of" set ("by" access)? ("path" access)? ("limit" n)? ":" tensor
    length   ::= "tile.length" %layout ":" tensor                 number of elements
    launch   ::= "tile.launch" @kernel "(" %arg* ")" "tasks" %n ":" "(" type* ")"
    return   ::= "tile.return" %value* ":" type*

    tile.program @scale(%x: !hec.tensor<f32[node, 64]>) -> !hec.tensor<f32[node, 64]> {
      %y = tile.allocate : !hec.tensor<f32[node, 64]>
      %n = tile.size "node"
      tile.launch @rows(%x, %y) tasks %n : (!hec.tensor<f32[node, 64]>, !hec.tensor<f32[node, 64]>)
      tile.return %y : !hec.tensor<f32[node, 64]>
    }

A layout is an int32 array that depends on the bound sets alone, so it is built once, when data is
bound. What there is, for a set S and keys that are index expressions of one variable over S:

    map       values of `path` at each element                               [S]
    order     the elements sorted by the keys, stably                        [S]
    along     values of `path` at each element, in that order                [S]
    sorted    1 if that order is the elements' own, else 0                   [1]
    segments  where the elements with each value of the only key begin       [target + 1]
    runs      where each run of equal keys begins, no longer than `limit`    [runs + 1]
    run_key   value of `path` at the first element of each run               [runs]
    run_groups  where the runs with each value of the first key begin        [groups + 1]
    cuts      `limit` parts of the segments' rows with like numbers of elements   [limit + 1]
    shares    the same, long rows apart: for each task rows from and to, which part of how
              many parts of what they make it does                                [4 * tasks]
    spans     rows from and to, 0, -1; or of a long segment its number, the places from and to
              which a task does its elements, and the number of that part         [4 * tasks]
    span_rows the segments in such parts, with the parts from and to           [3 * segments]
    parts     for each task the segment, the places from and to which it does its elements, and
              the number of that part, -1 for all; at most `limit` parts            [4 * tasks]
    part_rows the segments that are done in parts, with the parts from and to  [3 * segments]
    pairs     for each task the places from and to which it sums, then hands on,
              elements of segments, at most about `limit` that it hands on to     [4 * tasks]

and by blocks of about `limit` values of the first key, which have like numbers of elements:

    block_rows   where the values of each block begin                            [blocks + 1]
    block_order  the elements sorted by block, then by the other keys            [S]
    block_along  values of `path` at each element, in that order                 [S]
    block_runs   where each run alike in block and other keys begins             [runs + 1]
    block_groups where the runs of each block begin                              [blocks + 1]

and in tables with a place for each of `limit` values of the first key, an entry for each of the
other keys that these have; -1 is nobody (`backends/slots.py`):

    slot_rows    the values of each block                                   [blocks * limit]
    slot_groups  where the entries of each block begin                           [blocks + 1]
    slot_along   values of `path` at the elements of each entry            [entries * limit]
    slot_key     value of `path` at an element of each entry                       [entries]
"""

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import IndexType, IntegerAttr, StringAttr, SymbolRefAttr
from xdsl.ir import Operation, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsTerminator,
    MemoryAllocEffect,
    MemoryReadEffect,
    MemoryWriteEffect,
    Pure,
)
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.function import NamedFunctionOp
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import AccessAttr, TensorType, parse_access

LAYOUTS = (
    *("map", "order", "along", "sorted", "segments", "runs", "run_key", "run_groups"),
    *("cuts", "shares", "spans", "span_rows", "parts", "part_rows", "pairs"),
    *("block_rows", "block_order", "block_along", "block_runs", "block_groups"),
    *("slot_rows", "slot_groups", "slot_along", "slot_key"),
)
PATHS = ("map", "along", "run_key", "block_along", "slot_along", "slot_key")
"""Layouts that are values of a path."""


@irdl_op_definition
class ProgramOp(NamedFunctionOp):
    """A function as kernels: straight-line code on the host."""

    name = "tile.program"

    RETURN: ClassVar[str] = "tile.return"


@irdl_op_definition
class AllocateOp(IRDLOperation):
    """A tensor in memory that every kernel can reach; its contents start unspecified."""

    name = "tile.allocate"

    result = result_def(TensorType)
    traits = traits_def(MemoryAllocEffect())
    assembly_format = "attr-dict `:` type($result)"

    def __init__(self, type: TensorType):
        super().__init__(result_types=[type])


@irdl_op_definition
class LayoutOp(IRDLOperation):
    """An int32 array that depends on the bound sets alone; see the head of this file."""

    name = "tile.layout"

    what = prop_def(StringAttr)
    of = prop_def(StringAttr)
    keys = prop_def(AccessAttr)
    path = opt_prop_def(AccessAttr)
    limit = opt_prop_def(IntegerAttr)
    result = result_def(TensorType)
    traits = traits_def(Pure())

    def __init__(
        self,
        what: str,
        of: str,
        type: TensorType,
        keys: Sequence[IndexExpr] = (),
        path: IndexExpr | None = None,
        limit: int | None = None,
    ):
        super().__init__(
            properties={
                "what": StringAttr(what),
                "of": StringAttr(of),
                "keys": AccessAttr(tuple(keys)),
                "path": None if path is None else AccessAttr((path,)),
                "limit": None if limit is None else IntegerAttr(limit, 64),
            },
            result_types=[type],
        )

    def verify_(self) -> None:
        if self.what.data not in LAYOUTS:
            raise VerifyException(f"expected one of {', '.join(LAYOUTS)}, got {self.what.data}")
        if (self.path is None) == (self.what.data in PATHS):
            raise VerifyException(f"exactly {', '.join(PATHS)} take a path")

    @classmethod
    def parse(cls, parser: Parser) -> "LayoutOp":
        what = parser.parse_keyword_in(LAYOUTS)
        parser.parse_keyword("of")
        of = parser.parse_identifier("a set")
        keys = parse_access(parser) if parser.parse_optional_keyword("by") is not None else ()
        path = parse_access(parser)[0] if parser.parse_optional_keyword("path") else None
        limit = parser.parse_integer() if parser.parse_optional_keyword("limit") else None
        parser.parse_punctuation(":")
        type = parser.parse_type()
        if not isinstance(type, TensorType):
            parser.raise_error(f"expected a tensor, got {type}")
        return cls(what, of, type, keys, path, limit)

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {self.what.data} of {self.of.data}")
        if self.keys.data:
            printer.print_string(f" by {self.keys}")
        if self.path is not None:
            printer.print_string(f" path {self.path}")
        if self.limit is not None:
            printer.print_string(f" limit {self.limit.value.data}")
        printer.print_string(" : ")
        printer.print_attribute(self.result.type)


@irdl_op_definition
class LengthOp(IRDLOperation):
    """The number of elements of a layout."""

    name = "tile.length"

    layout = operand_def(TensorType)
    result = result_def(IndexType)
    traits = traits_def(MemoryReadEffect())
    assembly_format = "$layout attr-dict `:` type($layout)"

    def __init__(self, layout: SSAValue):
        super().__init__(operands=[layout], result_types=[IndexType()])


@irdl_op_definition
class LaunchOp(IRDLOperation):
    """Run a kernel once for each task from 0 up to `tasks`, and wait for all of them."""

    name = "tile.launch"

    kernel = prop_def(SymbolRefAttr)
    arguments = var_operand_def()
    tasks = operand_def(IndexType)
    traits = traits_def(MemoryReadEffect(), MemoryWriteEffect())

    assembly_format = (
        "$kernel `(` $arguments `)` `tasks` $tasks attr-dict `:` `(` type($arguments) `)`"
    )

    def __init__(self, kernel: str, arguments: Sequence[SSAValue], tasks: SSAValue):
        super().__init__(operands=[arguments, tasks], properties={"kernel": SymbolRefAttr(kernel)})


@irdl_op_definition
class ReturnOp(IRDLOperation):
    """The results of a program."""

    name = "tile.return"

    values = var_operand_def()
    traits = traits_def(IsTerminator(), HasParent(ProgramOp))
    assembly_format = "$values attr-dict `:` type($values)"

    def __init__(self, *values: SSAValue):
        super().__init__(operands=[values])


PROGRAM_OPERATIONS: tuple[type[Operation], ...] = (
    ProgramOp,
    AllocateOp,
    LayoutOp,
    LengthOp,
    LaunchOp,
    ReturnOp,
)
