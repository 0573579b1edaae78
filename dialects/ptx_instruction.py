"""Instructions of the `ptx` dialect: one operation class for each name of the table.

    instruction ::= "ptx." name string? (operand ("," operand)* | "()") guard? (":" "(" kind* ")")?
    operand     ::= %v | "{" %v* "}" | "[" %v ("+" n)? ("," "{" %v* "}")? "]"
    guard       ::= ("if" | "unless") %p ("else" "{" %old* "}")?

    %a, %b = ptx.ld "global.v2.f32" [%address + 8] : (f32, f32)
    ptx.st "global.v2.f32" [%address + 8], {%b, %a} if %p

The operands are a flat list; `form` says how the text groups them: `a` one value, `{4}` four in
braces, `[8]` an address with an offset, `[0;2]` one with two coordinates. A guarded instruction
that has results takes their values where it is skipped as `else`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import new_class
from typing import ClassVar, cast

from xdsl.dialects.builtin import StringAttr
from xdsl.ir import ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import (
    AttrSizedOperandSegments,
    IRDLOperation,
    irdl_attr_definition,
    irdl_op_definition,
    opt_operand_def,
    opt_prop_def,
    param_def,
    prop_def,
    traits_def,
    var_operand_def,
    var_result_def,
)
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer
from xdsl.traits import MemoryReadEffect, MemoryWriteEffect, OpTrait, Pure
from xdsl.utils.exceptions import VerifyException

from hectorite.dialects.ptx_legality import check_target
from hectorite.ir.ptx.isa import NAMES, REGISTERS, TABLE, Row, result_registers, row_of
from hectorite.ir.space import parse_defined


@irdl_attr_definition
class RegisterType(ParametrizedAttribute, TypeAttribute):
    """A register: pred, b16, b32, b64, b128, f32 or f64."""

    name = "ptx.reg"

    kind: StringAttr = param_def()

    def __init__(self, kind: str | StringAttr):
        super().__init__(StringAttr(kind) if isinstance(kind, str) else kind)

    def verify(self) -> None:
        if self.kind.data not in REGISTERS:
            raise VerifyException(f"expected one of {', '.join(REGISTERS)}, got {self.kind.data}")

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> list[StringAttr]:
        with parser.in_angle_brackets():
            return [StringAttr(parser.parse_identifier("a kind of register"))]

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(self.kind.data)


def kind_of(value: SSAValue) -> str:
    """The kind of register that a value is."""
    assert isinstance(value.type, RegisterType)
    return value.type.kind.data


@dataclass(frozen=True)
class Slot:
    """One operand of the text: `count` values, in braces or as an address with coordinates."""

    count: int = 1
    braces: bool = False
    offset: int | None = None  # of an address

    @property
    def text(self) -> str:
        """As `form` holds it."""
        if self.offset is not None:
            return f"[{self.offset}]" if self.count == 1 else f"[{self.offset};{self.count - 1}]"
        return f"{{{self.count}}}" if self.braces else "a"

    @classmethod
    def of(cls, text: str) -> Slot:
        """The slot of a word of `form`."""
        if text.startswith("["):
            offset, _, coordinates = text[1:-1].partition(";")
            return cls(1 + int(coordinates or 0), offset=int(offset))
        return cls(int(text[1:-1]), braces=True) if text.startswith("{") else cls()


class InstructionOp(IRDLOperation):
    """One instruction; `suffix` is what follows its name in PTX, without the first dot."""

    INSTRUCTION: ClassVar[str]

    suffix = prop_def(StringAttr)
    form = prop_def(StringAttr)
    negated = opt_prop_def(StringAttr)  # "unless" for a guard that must be false
    arguments = var_operand_def(RegisterType)
    guard = opt_operand_def(RegisterType)
    otherwise = var_operand_def(RegisterType)
    registers = var_result_def(RegisterType)
    irdl_options = (AttrSizedOperandSegments(as_property=True),)

    def __init__(
        self,
        suffix: str,
        slots: Sequence[Slot],
        arguments: Sequence[SSAValue],
        results: Sequence[str] | None = None,
        guard: SSAValue | None = None,
        unless: bool = False,
        otherwise: Sequence[SSAValue] = (),
    ):
        if results is None:
            results = result_registers(self.INSTRUCTION, tuple(suffix.split(".")))
        super().__init__(
            operands=[arguments, guard, otherwise],
            properties={
                "suffix": StringAttr(suffix),
                "form": StringAttr(" ".join(slot.text for slot in slots)),
                "negated": StringAttr("unless") if unless else None,
            },
            result_types=[[RegisterType(kind) for kind in results]],
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """The suffix, part by part."""
        return tuple(self.suffix.data.split(".")) if self.suffix.data else ()

    @property
    def mnemonic(self) -> str:
        """`ld.global.v2.f32`."""
        return ".".join((self.INSTRUCTION, *self.parts))

    @property
    def row(self) -> Row | None:
        """What the table says of it."""
        return row_of(self.INSTRUCTION, self.parts)

    @property
    def slots(self) -> tuple[Slot, ...]:
        """How its operands are grouped."""
        return tuple(Slot.of(word) for word in self.form.data.split())

    @property
    def grouped(self) -> Iterator[tuple[Slot, tuple[SSAValue, ...]]]:
        """Each slot with its values."""
        at = 0
        for slot in self.slots:
            yield slot, tuple(self.arguments[at : at + slot.count])
            at += slot.count

    @property
    def tied(self) -> tuple[tuple[SSAValue, SSAValue], ...]:
        """Results that must live in the register of an operand, with that operand."""
        row = self.row
        if row is not None and row.tied:
            count = len(self.registers)
            return tuple(zip(self.registers, self.arguments[-count:], strict=True))
        return tuple(zip(self.registers, self.otherwise, strict=False))

    def verify_(self) -> None:
        if sum(slot.count for slot in self.slots) != len(self.arguments):
            raise VerifyException(f"the form {self.form.data!r} does not fit its operands")
        row = self.row
        if row is None:
            raise VerifyException(f"there is no instruction {self.mnemonic}")
        least = [word for word in row.slots.split() if word[0] not in "dDp" and word[-1] != "?"]
        if len(self.slots) < len(least):
            raise VerifyException(f"{self.mnemonic} takes {len(least)} operands or more")
        given = tuple(kind_of(result) for result in self.registers)
        expected = result_registers(self.INSTRUCTION, self.parts)
        if expected and not given:
            raise VerifyException(f"{self.mnemonic} gives {', '.join(expected)}")
        if self.guard is not None and kind_of(self.guard) != "pred":
            raise VerifyException("expected a predicate as guard")
        if self.guard is not None and len(self.otherwise) != len(self.registers):
            raise VerifyException("expected a value for each result where the guard skips it")
        for result, old in self.tied:
            if result.type != old.type:
                raise VerifyException(f"expected an old value of type {result.type}")
        check_target(self, self.mnemonic, len(self.slots))

    @classmethod
    def parse(cls, parser: Parser) -> InstructionOp:
        suffix = parser.parse_optional_str_literal() or ""
        slots, arguments = _parse_operands(parser)
        guard, unless, otherwise = _parse_guard(parser)
        results: Sequence[str] = ()
        if parser.parse_optional_punctuation(":"):
            results = parser.parse_comma_separated_list(
                parser.Delimiter.PAREN, lambda: parser.parse_identifier("a kind of register")
            )
        return cls(suffix, slots, arguments, results, guard, unless, otherwise)

    def print(self, printer: Printer) -> None:
        if self.suffix.data:
            printer.print_string(f' "{self.suffix.data}"')
        if not self.slots:
            printer.print_string(" ()")
        for number, (slot, values) in enumerate(self.grouped):
            printer.print_string(", " if number else " ")
            _print_slot(printer, slot, values)
        if self.guard is not None:
            printer.print_string(f" {'if' if self.negated is None else 'unless'} ")
            printer.print_ssa_value(self.guard)
            if self.otherwise:
                printer.print_string(" else ")
                with printer.in_braces():
                    printer.print_list(self.otherwise, printer.print_ssa_value)
        if self.registers:
            printer.print_string(f" : ({', '.join(kind_of(value) for value in self.registers)})")


def _print_slot(printer: Printer, slot: Slot, values: Sequence[SSAValue]) -> None:
    if slot.braces:
        with printer.in_braces():
            printer.print_list(values, printer.print_ssa_value)
    elif slot.offset is None:
        printer.print_ssa_value(values[0])
    else:
        with printer.in_square_brackets():
            printer.print_ssa_value(values[0])
            if slot.offset:
                printer.print_string(f" + {slot.offset}")
            if slot.count > 1:
                printer.print_string(", ")
                with printer.in_braces():
                    printer.print_list(values[1:], printer.print_ssa_value)


def _value(parser: Parser) -> SSAValue:
    return parse_defined(parser, "a register")


def _parse_operands(parser: Parser) -> tuple[list[Slot], list[SSAValue]]:
    slots: list[Slot] = []
    arguments: list[SSAValue] = []
    if parser.parse_optional_punctuation("("):
        parser.parse_punctuation(")")
        return slots, arguments
    while (slot := _parse_slot(parser)) is not None:
        slots.append(slot[0])
        arguments += slot[1]
        if parser.parse_optional_punctuation(",") is None:
            break
    return slots, arguments


def _parse_slot(parser: Parser) -> tuple[Slot, list[SSAValue]] | None:
    values = parser.parse_optional_comma_separated_list(
        parser.Delimiter.BRACES, lambda: _value(parser)
    )
    if values is not None:
        return Slot(len(values), braces=True), values
    if parser.parse_optional_punctuation("["):
        base, offset, coordinates = _value(parser), 0, []
        if parser.parse_optional_punctuation("+"):
            offset = parser.parse_integer()
        if parser.parse_optional_punctuation(","):
            coordinates = parser.parse_comma_separated_list(
                parser.Delimiter.BRACES, lambda: _value(parser)
            )
        parser.parse_punctuation("]")
        return Slot(1 + len(coordinates), offset=offset), [base, *coordinates]
    operand = parser.parse_optional_unresolved_operand()
    if operand is None:
        return None
    values = parser.ssa_values.get(operand.operand_name, ())
    if operand.index >= len(values):
        parser.raise_error("expected a register that is defined above", operand.span)
    return Slot(), [values[operand.index]]


def _parse_guard(parser: Parser) -> tuple[SSAValue | None, bool, list[SSAValue]]:
    unless = False
    if parser.parse_optional_keyword("if") is None:
        if parser.parse_optional_keyword("unless") is None:
            return None, False, []
        unless = True
    guard, otherwise = _value(parser), []
    if parser.parse_optional_keyword("else") is not None:
        otherwise = parser.parse_comma_separated_list(
            parser.Delimiter.BRACES, lambda: _value(parser)
        )
    return guard, unless, otherwise


def _traits(name: str) -> tuple[OpTrait, ...]:
    """The strongest effect of any instruction of a name."""
    effects = {row.effect for row in TABLE if row.name == name}
    if effects & {"write", "sync"}:
        return (MemoryReadEffect(), MemoryWriteEffect())
    return (MemoryReadEffect(),) if "read" in effects else (Pure(),)


def _operation(name: str) -> type[InstructionOp]:
    body = {
        "name": f"ptx.{name}",
        "INSTRUCTION": name,
        "traits": traits_def(*_traits(name)),
        "__doc__": f"The instruction `{name}`.",
        "__module__": __name__,
        "__annotations__": {"INSTRUCTION": ClassVar[str]},
    }
    made = new_class(
        f"{name.capitalize()}Op", (InstructionOp,), exec_body=lambda space: space.update(body)
    )
    return irdl_op_definition(cast(type[InstructionOp], made))


OPERATIONS: dict[str, type[InstructionOp]] = {name: _operation(name) for name in NAMES}
"""The operation class of each instruction name."""
