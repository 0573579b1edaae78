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
"""

from collections.abc import Sequence

from xdsl.dialects.builtin import FunctionType, IndexType, IntegerAttr, StringAttr, SymbolRefAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    HasParent,
    IsolatedFromAbove,
    IsTerminator,
    MemoryAllocEffect,
    MemoryReadEffect,
    MemoryWriteEffect,
    Pure,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.index import IndexExpr
from hectorite.ir.space import AccessAttr, TensorType, parse_access

LAYOUTS = ("map", "order", "along", "sorted", "segments", "runs", "run_key", "run_groups", "cuts")


@irdl_op_definition
class ProgramOp(IRDLOperation):
    """A function as kernels: straight-line code on the host. `arg_names` are the names that data
    is bound to."""

    name = "tile.program"

    sym_name = prop_def(StringAttr)
    arg_names = prop_def(StringAttr)
    function_type = prop_def(FunctionType)
    body = region_def("single_block")
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())

    def __init__(
        self,
        name: str,
        arg_names: Sequence[str],
        arg_types: Sequence[Attribute],
        result_types: Sequence[Attribute],
        body: Region | None = None,
    ):
        if body is None:
            body = Region(Block(arg_types=arg_types))
            for argument, hint in zip(body.block.args, arg_names, strict=True):
                argument.name_hint = hint
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "arg_names": StringAttr(" ".join(arg_names)),
                "function_type": FunctionType.from_lists(arg_types, result_types),
            },
            regions=[body],
        )

    @property
    def names(self) -> list[str]:
        """Parameter names, in order."""
        return self.arg_names.data.split()

    @property
    def inputs(self) -> tuple[Attribute, ...]:
        return self.function_type.inputs.data

    @property
    def outputs(self) -> tuple[Attribute, ...]:
        return self.function_type.outputs.data

    def verify_(self) -> None:
        if tuple(self.body.block.arg_types) != self.inputs:
            raise VerifyException("expected block arguments of the program's input types")
        last = self.body.block.last_op
        if not isinstance(last, ReturnOp):
            raise VerifyException("expected tile.return at the end")
        if tuple(value.type for value in last.operands) != self.outputs:
            raise VerifyException("expected tile.return to give the program's result types")

    @classmethod
    def parse(cls, parser: Parser) -> "ProgramOp":
        name = parser.parse_symbol_name().data
        args = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_argument)
        parser.parse_punctuation("->")
        results = parser.parse_optional_comma_separated_list(
            parser.Delimiter.PAREN, parser.parse_type
        )
        if results is None:
            results = [parser.parse_type()]
        body = parser.parse_region(args)
        names = [arg.name.text[1:] for arg in args]
        return cls(name, names, [arg.type for arg in args], results, body)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        # Data is bound by name, so the printed names must be the parameters' own.
        for argument, name in zip(self.body.block.args, self.names, strict=True):
            argument.name_hint = name
        with printer.in_parens():
            printer.print_list(self.body.block.args, printer.print_block_argument)
        printer.print_string(" -> ")
        if len(self.outputs) == 1:
            printer.print_attribute(self.outputs[0])
        else:
            with printer.in_parens():
                printer.print_list(self.outputs, printer.print_attribute)
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)


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
        if (self.path is None) == (self.what.data in ("map", "along", "run_key")):
            raise VerifyException("exactly map, along and run_key take a path")

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
