"""What functions of every level share: names that data is bound to, types, and one straight body.

    function ::= op @name "(" (%arg ":" type)* ")" "->" types region

The printed names of the arguments are the names of the parameters.
"""

from collections.abc import Sequence
from typing import ClassVar, Self

from xdsl.dialects.builtin import FunctionType, StringAttr
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.irdl import IRDLOperation, prop_def, region_def, traits_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import IsolatedFromAbove, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException


class NamedFunctionOp(IRDLOperation):
    """A function whose parameters have names. A subclass gives its operation's name, and the name
    of the operation that ends its body (`RETURN`), whose operands are the results."""

    RETURN: ClassVar[str]

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
        """Parameter types, in order."""
        return self.function_type.inputs.data

    @property
    def outputs(self) -> tuple[Attribute, ...]:
        """Result types, in order."""
        return self.function_type.outputs.data

    @property
    def end(self) -> Operation | None:
        """The last operation of the body."""
        return self.body.block.last_op

    def verify_(self) -> None:
        if tuple(self.body.block.arg_types) != self.inputs:
            raise VerifyException("expected block arguments of the function's input types")
        if len(self.names) != len(self.inputs):
            raise VerifyException(f"expected {len(self.inputs)} names, got {len(self.names)}")
        if self.end is None or self.end.name != self.RETURN:
            raise VerifyException(f"expected {self.RETURN} at the end")
        if tuple(value.type for value in self.end.operands) != self.outputs:
            raise VerifyException(f"expected {self.RETURN} to give the function's result types")

    @classmethod
    def parse(cls, parser: Parser) -> Self:
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
        for argument, name in zip(self.body.block.args, self.names, strict=True):
            argument.name_hint = name
            _print_as(printer, argument, name)
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


def _print_as(printer: Printer, argument: SSAValue, name: str) -> None:
    """Let a parameter be printed by its own name, since data is bound by that: a hint would lose a
    number at its end, which the printer keeps for itself. Others do not get the name any more."""
    printer._ssa_values[argument] = name  # pyright: ignore[reportPrivateUsage]
    stem, _, number = name.rpartition("_")
    taken = [(name, 1)]
    if stem and number.isdecimal():
        taken.append((stem, int(number) + 1))
    for hint, following in taken:
        printer.ssa_names[hint] = max(printer.ssa_names.get(hint, 0), following)
