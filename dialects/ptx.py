"""The `ptx` dialect: PTX as SSA, one operation for each instruction.

    kernel      ::= "ptx.kernel" @name "(" (%arg ":" register)* ")" launch? region
    launch      ::= "threads" n ("resident" m)?
    instruction ::= ...                                      see ptx_instruction.py
    constant    ::= "ptx.constant" number ":" kind           written where it is used
    special     ::= "ptx.special" string ":" kind            %tid.x, %laneid, ...
    variable    ::= "ptx.variable" string string "bytes" n "align" n ("data" string)? ":" kind
    undefined   ::= "ptx.undefined" ":" kind                 a register that nothing has written
    comment     ::= "ptx.comment" string                     a line of its own
    bra         ::= "ptx.bra" ^to ("(" %v* ")")?
    branch      ::= "ptx.branch" %p "," ^then ("(" %v* ")")? "," ^else ("(" %v* ")")?
    ret         ::= "ptx.ret"

    ptx.kernel @double(%x: !ptx.reg<b64>, %n: !ptx.reg<b32>) threads 128 {
      %i = ptx.special "tid.x" : b32
      %p = ptx.setp "ge.s32" %i, %n : (pred)
      ptx.branch %p, ^end, ^body
    ^body:
      %four = ptx.constant 4 : b32
      %a = ptx.mad "wide.s32" %i, %four, %x : (b64)
      %v = ptx.ld "global.f32" [%a] : (f32)
      %w = ptx.add "f32" %v, %v : (f32)
      ptx.st "global.f32" [%a], %w
      ptx.bra ^end
    ^end:
      ptx.ret
    }

A register is a value of type `!ptx.reg<kind>`; a kernel is a graph of blocks whose arguments stand
for registers that several places write. What an instruction takes, gives and needs is in the table
of `ir/ptx/isa.py`; `ptx_legality.py` says how a module names the target it must be legal on.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdsl.dialects.builtin import FloatAttr, IntegerAttr, StringAttr
from xdsl.ir import Block, Dialect, Operation, Region, SSAValue
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    region_def,
    result_def,
    successor_def,
    traits_def,
    var_operand_def,
)
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.traits import (
    ConstantLike,
    IsolatedFromAbove,
    IsTerminator,
    MemoryWriteEffect,
    Pure,
    SymbolOpInterface,
)
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.ptx_instruction import OPERATIONS, RegisterType, kind_of
from hectorite.ir.number import number_text, parse_number
from hectorite.ir.space import parse_defined

SPACES = ("shared", "local", "global", "const")


@irdl_op_definition
class KernelOp(IRDLOperation):
    """A kernel. The arguments of the first block are its parameters; `threads` is the greatest
    number of threads in a block, if that is known, and `resident` the number of blocks that an SM
    must be able to hold at once, which bounds their registers."""

    name = "ptx.kernel"

    sym_name = prop_def(StringAttr)
    threads = opt_prop_def(IntegerAttr)
    resident = opt_prop_def(IntegerAttr)
    body = region_def()
    traits = traits_def(SymbolOpInterface(), IsolatedFromAbove())

    def __init__(
        self, name: str, body: Region, threads: int | None = None, resident: int | None = None
    ):
        super().__init__(
            properties={
                "sym_name": StringAttr(name),
                "threads": None if threads is None else IntegerAttr(threads, 64),
                "resident": None if resident is None else IntegerAttr(resident, 64),
            },
            regions=[body],
        )

    def verify_(self) -> None:
        if not self.body.blocks:
            raise VerifyException("expected a kernel to have a body")
        for argument in self.body.blocks[0].args:
            if not isinstance(argument.type, RegisterType):
                raise VerifyException(f"expected a register, got {argument.type}")

    @classmethod
    def parse(cls, parser: Parser) -> KernelOp:
        name = parser.parse_symbol_name().data
        arguments = parser.parse_comma_separated_list(parser.Delimiter.PAREN, parser.parse_argument)
        threads = parser.parse_integer() if parser.parse_optional_keyword("threads") else None
        resident = parser.parse_integer() if parser.parse_optional_keyword("resident") else None
        return cls(name, parser.parse_region(arguments), threads, resident)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.sym_name.data)
        with printer.in_parens():
            printer.print_list(self.body.blocks[0].args, printer.print_block_argument)
        if self.threads is not None:
            printer.print_string(f" threads {self.threads.value.data}")
        if self.resident is not None:
            printer.print_string(f" resident {self.resident.value.data}")
        printer.print_string(" ")
        printer.print_region(self.body, print_entry_block_args=False)


def _parse_kind(parser: Parser) -> RegisterType:
    parser.parse_punctuation(":")
    return RegisterType(parser.parse_identifier("a kind of register"))


def _print_kind(printer: Printer, value: SSAValue) -> None:
    printer.print_string(f" : {kind_of(value)}")


@irdl_op_definition
class ConstantOp(IRDLOperation):
    """A number, written in the text where it is used."""

    name = "ptx.constant"

    value = prop_def(FloatAttr | IntegerAttr)
    result = result_def(RegisterType)
    traits = traits_def(Pure(), ConstantLike())

    def __init__(self, number: float | int, kind: str | RegisterType):
        type = RegisterType(kind) if isinstance(kind, str) else kind
        is_float = type.kind.data in ("f32", "f64")
        value = FloatAttr(float(number), 64) if is_float else IntegerAttr(int(number), 64)
        super().__init__(properties={"value": value}, result_types=[type])

    @property
    def number(self) -> float | int:
        """The value as a Python number."""
        return self.value.value.data

    @classmethod
    def parse(cls, parser: Parser) -> ConstantOp:
        number = parse_number(parser)
        return cls(number, _parse_kind(parser))

    def print(self, printer: Printer) -> None:
        printer.print_string(f" {number_text(self.number)}")
        _print_kind(printer, self.result)


@irdl_op_definition
class SpecialOp(IRDLOperation):
    """A special register, such as `tid.x`. `clock` and its kind change, the others do not."""

    name = "ptx.special"

    register = prop_def(StringAttr)
    result = result_def(RegisterType)
    traits = traits_def(Pure())

    def __init__(self, register: str, kind: str | RegisterType = "b32"):
        type = RegisterType(kind) if isinstance(kind, str) else kind
        super().__init__(properties={"register": StringAttr(register)}, result_types=[type])

    @classmethod
    def parse(cls, parser: Parser) -> SpecialOp:
        register = parser.parse_str_literal()
        return cls(register, _parse_kind(parser))

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.register.data}"')
        _print_kind(printer, self.result)


@irdl_op_definition
class UndefinedOp(IRDLOperation):
    """A register that nothing has written: what it holds is not known."""

    name = "ptx.undefined"

    result = result_def(RegisterType)
    traits = traits_def(Pure())

    def __init__(self, kind: str | RegisterType):
        type = RegisterType(kind) if isinstance(kind, str) else kind
        super().__init__(result_types=[type])

    @classmethod
    def parse(cls, parser: Parser) -> UndefinedOp:
        return cls(_parse_kind(parser))

    def print(self, printer: Printer) -> None:
        _print_kind(printer, self.result)


@irdl_op_definition
class VariableOp(IRDLOperation):
    """Memory of a block (shared), a thread (local) or the module, and its address in that space.

    With no bytes, its size is what the launch gives: the dynamic shared memory of a block. `data`
    is what the module's memory holds at first, in hexadecimal.
    """

    name = "ptx.variable"

    space = prop_def(StringAttr)
    symbol = prop_def(StringAttr)
    bytes = prop_def(IntegerAttr)
    align = prop_def(IntegerAttr)
    data = opt_prop_def(StringAttr)
    result = result_def(RegisterType)
    traits = traits_def(MemoryWriteEffect())

    def __init__(
        self, space: str, symbol: str, bytes: int, align: int = 16, data: str | None = None
    ):
        super().__init__(
            properties={
                "space": StringAttr(space),
                "symbol": StringAttr(symbol),
                "bytes": IntegerAttr(bytes, 64),
                "align": IntegerAttr(align, 64),
                "data": None if data is None else StringAttr(data),
            },
            result_types=[RegisterType("b32" if space == "shared" else "b64")],
        )

    def verify_(self) -> None:
        if self.space.data not in SPACES:
            raise VerifyException(f"expected one of {', '.join(SPACES)}, got {self.space.data}")
        if self.data is not None and self.space.data not in ("global", "const"):
            raise VerifyException(f"{self.space.data} memory starts unspecified")

    @classmethod
    def parse(cls, parser: Parser) -> VariableOp:
        space, symbol = parser.parse_str_literal(), parser.parse_str_literal()
        parser.parse_keyword("bytes")
        size = parser.parse_integer()
        parser.parse_keyword("align")
        align = parser.parse_integer()
        data = parser.parse_str_literal() if parser.parse_optional_keyword("data") else None
        _parse_kind(parser)
        return cls(space, symbol, size, align, data)

    def print(self, printer: Printer) -> None:
        printer.print_string(f' "{self.space.data}" "{self.symbol.data}"')
        printer.print_string(f" bytes {self.bytes.value.data} align {self.align.value.data}")
        if self.data is not None:
            printer.print_string(f' data "{self.data.data}"')
        _print_kind(printer, self.result)


@irdl_op_definition
class CommentOp(IRDLOperation):
    """A comment, on a line of its own in the text."""

    name = "ptx.comment"

    text = prop_def(StringAttr)
    traits = traits_def(MemoryWriteEffect())
    assembly_format = "$text attr-dict"

    def __init__(self, text: str):
        super().__init__(properties={"text": StringAttr(text)})


@irdl_op_definition
class RetOp(IRDLOperation):
    """The end of a thread."""

    name = "ptx.ret"
    traits = traits_def(IsTerminator())
    assembly_format = "attr-dict"


@irdl_op_definition
class BraOp(IRDLOperation):
    """A jump, with the values of the arguments of the block it goes to."""

    name = "ptx.bra"

    arguments = var_operand_def(RegisterType)
    target = successor_def()
    traits = traits_def(IsTerminator())

    def __init__(self, target: Block, arguments: Sequence[SSAValue] = ()):
        super().__init__(operands=[arguments], successors=[target])

    def verify_(self) -> None:
        _check_arguments(self.target, self.arguments)

    @classmethod
    def parse(cls, parser: Parser) -> BraOp:
        return cls(*_parse_target(parser))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        _print_target(printer, self.target, self.arguments)


@irdl_op_definition
class BranchOp(IRDLOperation):
    """A jump to one of two blocks; `uniform` if all threads of a warp agree."""

    name = "ptx.branch"

    condition = operand_def(RegisterType)
    then_arguments = var_operand_def(RegisterType)
    else_arguments = var_operand_def(RegisterType)
    then_block = successor_def()
    else_block = successor_def()
    irdl_options = (AttrSizedOperandSegments(as_property=True),)
    traits = traits_def(IsTerminator())

    def __init__(
        self,
        condition: SSAValue,
        then_block: Block,
        then_arguments: Sequence[SSAValue],
        else_block: Block,
        else_arguments: Sequence[SSAValue],
    ):
        super().__init__(
            operands=[condition, then_arguments, else_arguments],
            successors=[then_block, else_block],
        )

    def verify_(self) -> None:
        if kind_of(self.condition) != "pred":
            raise VerifyException("expected a predicate as condition")
        _check_arguments(self.then_block, self.then_arguments)
        _check_arguments(self.else_block, self.else_arguments)

    @classmethod
    def parse(cls, parser: Parser) -> BranchOp:
        condition = parse_defined(parser, "a predicate")
        parser.parse_punctuation(",")
        then_block, then_arguments = _parse_target(parser)
        parser.parse_punctuation(",")
        return cls(condition, then_block, then_arguments, *_parse_target(parser))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_ssa_value(self.condition)
        printer.print_string(", ")
        _print_target(printer, self.then_block, self.then_arguments)
        printer.print_string(", ")
        _print_target(printer, self.else_block, self.else_arguments)


def _check_arguments(block: Block, arguments: Sequence[SSAValue]) -> None:
    expected = [str(argument.type) for argument in block.args]
    given = [str(argument.type) for argument in arguments]
    if expected != given:
        raise VerifyException(f"the block takes ({', '.join(expected)}), got ({', '.join(given)})")


def _parse_target(parser: Parser) -> tuple[Block, list[SSAValue]]:
    block = parser.parse_successor()
    values = parser.parse_optional_comma_separated_list(
        parser.Delimiter.PAREN, lambda: parse_defined(parser, "a register")
    )
    return block, values or []


def _print_target(printer: Printer, block: Block, arguments: Sequence[SSAValue]) -> None:
    printer.print_block_name(block)
    if arguments:
        with printer.in_parens():
            printer.print_list(arguments, printer.print_ssa_value)


def successors(block: Block) -> list[tuple[Block, tuple[SSAValue, ...]]]:
    """The blocks that follow a block, with what each is given."""
    last: Operation | None = block.last_op
    if isinstance(last, BraOp):
        return [(last.target, tuple(last.arguments))]
    if isinstance(last, BranchOp):
        return [
            (last.then_block, tuple(last.then_arguments)),
            (last.else_block, tuple(last.else_arguments)),
        ]
    return []


Ptx = Dialect(
    "ptx",
    [
        KernelOp,
        ConstantOp,
        SpecialOp,
        UndefinedOp,
        VariableOp,
        CommentOp,
        BraOp,
        BranchOp,
        RetOp,
        *OPERATIONS.values(),
    ],
    [RegisterType],
)
