"""The declarations of the `graph` dialect: sets, the maps between them, and sizes.

    set    ::= "graph.set" @name ("{" (field ":" set)* "}")? ("as" string)?
    derive ::= "graph.derive" @name "{" (field ":" set)* "}" ("as" string)? "=" "distinct" access
               "for" vars ("where" conditions)? ("as" field)?
    dim    ::= "graph.dim" @name ("=" integer)?

    graph.set @node
    graph.set @etype
    graph.set @edge {src: node, dst: node, type: etype}
    graph.derive @pair {src: node, type: etype} = distinct [e.src, e.type] for (e: edge) as pair
    graph.dim @D = 64

Sets and sizes share a namespace that functions are not in, so these operations are no symbols of
the module, and each verifies that none before it has its name.
"""

from collections.abc import Sequence
from typing import cast

from xdsl.dialects.builtin import DictionaryAttr, IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute
from xdsl.irdl import IRDLOperation, irdl_op_definition, opt_prop_def, prop_def
from xdsl.parser import Parser
from xdsl.printer import Printer
from xdsl.utils.exceptions import VerifyException

from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Condition, Derivation, Schema, SetDecl
from hectorite.ir.space import AccessAttr, ConditionsAttr, VariablesAttr, parse_access


def _parse_fields(parser: Parser) -> dict[str, Attribute]:
    def pair() -> tuple[str, Attribute]:
        name = parser.parse_identifier("a field")
        parser.parse_punctuation(":")
        return name, StringAttr(parser.parse_identifier("a set"))

    pairs = parser.parse_optional_comma_separated_list(parser.Delimiter.BRACES, pair)
    return dict(pairs or ())


def _print_fields(printer: Printer, fields: DictionaryAttr) -> None:
    if fields.data:
        pairs = (f"{name}: {cast(StringAttr, to).data}" for name, to in fields.data.items())
        printer.print_string(f" {{{', '.join(pairs)}}}")


def _parse_format(parser: Parser) -> str | None:
    return parser.parse_str_literal() if parser.parse_optional_keyword("as") is not None else None


def _print_format(printer: Printer, format: StringAttr | None) -> None:
    if format is not None:
        printer.print_string(" as ")
        printer.print_string_literal(format.data)


def _fields(fields: DictionaryAttr) -> tuple[tuple[str, str], ...]:
    return tuple((name, cast(StringAttr, to).data) for name, to in fields.data.items())


class DeclarationOp(IRDLOperation):
    """What all declarations of sets and sizes share: a name, declared once in a module."""

    declared = prop_def(StringAttr, prop_name="name")

    def verify_declared_once(self) -> None:
        """Raises `VerifyException` if an operation before this one has its name."""
        earlier = self.prev_op
        while earlier is not None:
            if isinstance(earlier, DeclarationOp) and earlier.declared == self.declared:
                raise VerifyException(f"`{self.declared.data}` is declared twice")
            earlier = earlier.prev_op


class SetDeclarationOp(DeclarationOp):
    """A declaration of a set, of whatever dialect."""

    @property
    def decl(self) -> SetDecl:
        """What it declares."""
        raise NotImplementedError(f"{self.name} does not say what set it declares")


@irdl_op_definition
class SetOp(SetDeclarationOp):
    """A set: an index domain whose size is bound with the data. Fields are maps into other sets."""

    name = "graph.set"

    fields_ = prop_def(DictionaryAttr, prop_name="fields")
    format = opt_prop_def(StringAttr)

    def __init__(self, name: str, fields: dict[str, str] | None = None, format: str | None = None):
        attributes = {field: StringAttr(to) for field, to in (fields or {}).items()}
        super().__init__(
            properties={
                "name": StringAttr(name),
                "fields": DictionaryAttr(attributes),
                "format": None if format is None else StringAttr(format),
            }
        )

    def verify_(self) -> None:
        self.verify_declared_once()

    @property
    def decl(self) -> SetDecl:
        format = None if self.format is None else self.format.data
        return SetDecl(self.declared.data, _fields(self.fields_), None, format)

    @classmethod
    def parse(cls, parser: Parser) -> "SetOp":
        name = parser.parse_symbol_name().data
        fields = {f: cast(StringAttr, to).data for f, to in _parse_fields(parser).items()}
        return cls(name, fields, _parse_format(parser))

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.declared.data)
        _print_fields(printer, self.fields_)
        _print_format(printer, self.format)


@irdl_op_definition
class DeriveOp(SetDeclarationOp):
    """A set with one element for each distinct tuple of keys, in lexicographic order, over all
    assignments of the binders that satisfy the condition; built when data is bound.

    `position` names a map that the (single) binder's set gains: the derived element of each of its
    elements. The field values are the keys, in order.
    """

    name = "graph.derive"

    fields_ = prop_def(DictionaryAttr, prop_name="fields")
    keys = prop_def(AccessAttr)
    binders = prop_def(VariablesAttr)
    condition = opt_prop_def(ConditionsAttr)
    position = opt_prop_def(StringAttr)
    format = opt_prop_def(StringAttr)

    def __init__(
        self,
        name: str,
        fields: dict[str, str],
        keys: Sequence[IndexExpr],
        binders: Sequence[tuple[str, str]],
        conditions: Sequence[Condition] = (),
        position: str | None = None,
        format: str | None = None,
    ):
        super().__init__(
            properties={
                "name": StringAttr(name),
                "fields": DictionaryAttr({f: StringAttr(to) for f, to in fields.items()}),
                "keys": AccessAttr(tuple(keys)),
                "binders": VariablesAttr(tuple(binders)),
                "condition": ConditionsAttr(tuple(conditions)) if conditions else None,
                "position": None if position is None else StringAttr(position),
                "format": None if format is None else StringAttr(format),
            }
        )

    @property
    def decl(self) -> SetDecl:
        binders = tuple((name, str(dim)) for name, dim in self.binders.data)
        position = None if self.position is None else self.position.data
        conditions = () if self.condition is None else self.condition.data
        derivation = Derivation(self.keys.data, binders, conditions, position)
        format = None if self.format is None else self.format.data
        return SetDecl(self.declared.data, _fields(self.fields_), derivation, format)

    def verify_(self) -> None:
        self.verify_declared_once()
        if len(self.fields_.data) != len(self.keys.data):
            raise VerifyException(
                f"expected {len(self.fields_.data)} keys, one for each field, "
                f"got {len(self.keys.data)}"
            )
        if self.position is not None and (len(self.binders.data) != 1 or self.condition):
            raise VerifyException("a position map needs exactly one binder and no condition")

    @classmethod
    def parse(cls, parser: Parser) -> "DeriveOp":
        name = parser.parse_symbol_name().data
        fields = {f: cast(StringAttr, to).data for f, to in _parse_fields(parser).items()}
        format = _parse_format(parser)
        parser.parse_punctuation("=")
        parser.parse_keyword("distinct")
        keys = parse_access(parser)
        parser.parse_keyword("for")
        binders = VariablesAttr.parse_inline(parser)
        conditions: tuple[Condition, ...] = ()
        position = None
        if parser.parse_optional_keyword("where") is not None:
            conditions = ConditionsAttr.parse_inline(parser).data
        if parser.parse_optional_keyword("as") is not None:
            position = parser.parse_identifier("a field")
        pairs = [(variable, str(dim)) for variable, dim in binders.data]
        return cls(name, fields, keys, pairs, conditions, position, format)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.declared.data)
        _print_fields(printer, self.fields_)
        _print_format(printer, self.format)
        printer.print_string(f" = distinct {self.keys} for {self.binders}")
        if self.condition is not None:
            printer.print_string(f" where {self.condition}")
        if self.position is not None:
            printer.print_string(f" as {self.position.data}")


@irdl_op_definition
class DimOp(DeclarationOp):
    """A plain size, fixed if it has a value."""

    name = "graph.dim"

    value = opt_prop_def(IntegerAttr)

    def __init__(self, name: str, value: int | None = None):
        fixed = None if value is None else IntegerAttr(value, 64)
        super().__init__(properties={"name": StringAttr(name), "value": fixed})

    def verify_(self) -> None:
        self.verify_declared_once()

    @classmethod
    def parse(cls, parser: Parser) -> "DimOp":
        name = parser.parse_symbol_name().data
        has_value = parser.parse_optional_punctuation("=") is not None
        return cls(name, parser.parse_integer() if has_value else None)

    def print(self, printer: Printer) -> None:
        printer.print_string(" ")
        printer.print_symbol_name(self.declared.data)
        if self.value is not None:
            printer.print_string(f" = {self.value.value.data}")


def schema_of(module: ModuleOp) -> Schema:
    """The sets and sizes that a module declares, in order."""
    sets: dict[str, SetDecl] = {}
    sizes: dict[str, int | None] = {}
    for op in module.ops:
        if isinstance(op, SetDeclarationOp):
            sets[op.declared.data] = op.decl
        elif isinstance(op, DimOp):
            sizes[op.declared.data] = None if op.value is None else op.value.value.data
    return Schema(sets, sizes)
