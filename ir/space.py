"""The `hec` dialect: attributes that say where things live. Operations of every level use them.

    dim     ::= name | integer                            a set, a size, or a fixed extent
    tensor  ::= "!hec.tensor" "<" element "[" dim* "]" ("," "pad" number)? ("," "as" string)? ">"
    access  ::= "#hec.access" "<" "[" index-expression* "]" ">"
    where   ::= "#hec.conditions" "<" "[" (index ("eq"|"ne"|"lt"|"le"|"gt"|"ge") index)* "]" ">"
    vars    ::= "#hec.vars"   "<" "(" (name ":" dim)* ")" ">"

    !hec.tensor<f32[node, 64]>    #hec.access<[e.src, 2*y + r - 1]>    #hec.vars<(e: edge, o: 64)>

Inside operations with custom syntax the wrapping `#hec...<>` is left out.
"""

from collections.abc import Sequence
from functools import lru_cache

from xdsl.context import Context
from xdsl.dialects.builtin import FloatAttr, IntegerAttr, NoneAttr, StringAttr
from xdsl.ir import Attribute, Data, Dialect, ParametrizedAttribute, SSAValue, TypeAttribute
from xdsl.irdl import irdl_attr_definition
from xdsl.parser import AttrParser, Parser
from xdsl.printer import Printer

from hectorite.ir.element import ElementType, element_of
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.number import check_number, number_text, parse_number
from hectorite.ir.schema import Condition

Dim = int | str

_NOTHING = NoneAttr()
_OPERATORS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def parse_defined(parser: Parser, what: str) -> SSAValue:
    """An operand that stands before the types of its operation: a value defined above."""
    name = parser.parse_unresolved_operand(f"expected {what}")
    values = parser.ssa_values.get(name.operand_name, ())
    if name.index >= len(values):
        parser.raise_error(f"expected {what} that is defined above", name.span)
    return values[name.index]


def parse_tensor(parser: Parser) -> SSAValue:
    """An operand that is a tensor and defined above."""
    start = parser.pos
    value = parse_defined(parser, "a tensor")
    if not isinstance(value.type, TensorType):
        parser.raise_error(f"expected a tensor, got {value.type}", start, parser.pos)
    return value


def parse_dim(parser: AttrParser) -> Dim:
    """One extent: an integer or the name of a set or size."""
    number = parser.parse_optional_integer(allow_boolean=False)
    return number if number is not None else parser.parse_identifier("a size")


def _parse_product(parser: AttrParser, sign: int) -> Term:
    coefficient, path, sizes = sign, None, list[str]()
    while True:
        number = parser.parse_optional_integer(allow_boolean=False, allow_negative=False)
        size = None if number is not None else parser.parse_optional_symbol_name()
        if number is not None:
            coefficient *= number
        elif size is not None:
            sizes.append(size.data)
        else:
            name = parser.parse_identifier("an index variable, a path, @size or an integer")
            if path is not None:
                parser.raise_error(f"index expressions are affine: {path} times {name} is not")
            variable, *fields = name.split(".")
            path = Path(variable, tuple(fields))
        if parser.parse_optional_punctuation("*") is None:
            return Term(coefficient, path, tuple(sizes))


def _parse_sum(parser: AttrParser) -> IndexExpr:
    sign = -1 if parser.parse_optional_punctuation("-") is not None else 1
    terms = [_parse_product(parser, sign)]
    while True:
        if parser.parse_optional_punctuation("+") is not None:
            terms.append(_parse_product(parser, 1))
        elif parser.parse_optional_punctuation("-") is not None:
            terms.append(_parse_product(parser, -1))
        else:
            return IndexExpr.make(terms)


def parse_index(parser: AttrParser) -> IndexExpr:
    """One index expression."""
    if parser.parse_optional_punctuation("(") is not None:
        expression = _parse_sum(parser)
        parser.parse_punctuation(")")
    else:
        expression = _parse_sum(parser)
    operator = parser.parse_optional_keyword_in(("floordiv", "mod"))
    if operator is None:
        return expression
    size = parser.parse_optional_symbol_name()
    divisor = parser.parse_integer() if size is None else size.data
    return IndexExpr.make(expression.terms, expression.constant, (operator, divisor))


def parse_access(parser: AttrParser) -> tuple[IndexExpr, ...]:
    """A bracketed list of index expressions."""
    return tuple(
        parser.parse_comma_separated_list(parser.Delimiter.SQUARE, lambda: parse_index(parser))
    )


@lru_cache(maxsize=1024)
def index_from_text(text: str) -> IndexExpr:
    """An index expression from its text, as `str()` of it prints."""
    return parse_index(Parser(Context(), text))


def access_text(access: Sequence[IndexExpr]) -> str:
    return f"[{', '.join(map(str, access))}]"


@irdl_attr_definition
class VariablesAttr(Data[tuple[tuple[str, Dim], ...]]):
    """The index variables of a statement with the set or size that each ranges over, in order."""

    name = "hec.vars"

    @classmethod
    def parse_inline(cls, parser: AttrParser) -> "VariablesAttr":
        def pair() -> tuple[str, Dim]:
            variable = parser.parse_identifier("an index variable")
            parser.parse_punctuation(":")
            return variable, parse_dim(parser)

        return cls(tuple(parser.parse_comma_separated_list(parser.Delimiter.PAREN, pair)))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[tuple[str, Dim], ...]:
        with parser.in_angle_brackets():
            return cls.parse_inline(parser).data

    def __str__(self) -> str:
        return f"({', '.join(f'{name}: {dim}' for name, dim in self.data)})"

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self))

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.data}


@irdl_attr_definition
class AccessAttr(Data[tuple[IndexExpr, ...]]):
    """A list of index expressions, one for each dimension of a tensor."""

    name = "hec.access"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[IndexExpr, ...]:
        with parser.in_angle_brackets():
            return parse_access(parser)

    def __str__(self) -> str:
        return access_text(self.data)

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self))


@irdl_attr_definition
class ConditionsAttr(Data[tuple[Condition, ...]]):
    """Comparisons between index expressions, all of which must hold."""

    name = "hec.conditions"

    @classmethod
    def parse_inline(cls, parser: AttrParser) -> "ConditionsAttr":
        def condition() -> Condition:
            left = parse_index(parser)
            word = parser.parse_keyword_in(tuple(_OPERATORS))
            return Condition(left, _OPERATORS[word], parse_index(parser))

        return cls(tuple(parser.parse_comma_separated_list(parser.Delimiter.SQUARE, condition)))

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Condition, ...]:
        with parser.in_angle_brackets():
            return cls.parse_inline(parser).data

    def __str__(self) -> str:
        words = {operator: word for word, operator in _OPERATORS.items()}
        return f"[{', '.join(f'{c.left} {words[c.operator]} {c.right}' for c in self.data)}]"

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self))


@irdl_attr_definition
class ShapeAttr(Data[tuple[Dim, ...]]):
    """The extents of a tensor type."""

    name = "hec.shape"

    @classmethod
    def parse_parameter(cls, parser: AttrParser) -> tuple[Dim, ...]:
        with parser.in_angle_brackets():
            return tuple(
                parser.parse_comma_separated_list(
                    parser.Delimiter.SQUARE, lambda: parse_dim(parser)
                )
            )

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.data))}]"

    def print_parameter(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_string(str(self))


@irdl_attr_definition
class TensorType(ParametrizedAttribute, TypeAttribute):
    """A dense tensor over sets and sizes, row major, its dimensions outermost first.

    `pad` (a number or none) is the value that an access out of range reads. `format` is the
    storage format asked for; it never changes what a program means.
    """

    name = "hec.tensor"

    element: Attribute
    shape: ShapeAttr
    pad: Attribute
    format: Attribute

    @staticmethod
    def of(
        element: Attribute | ElementType,
        dims: Sequence[Dim],
        pad: float | int | None = None,
        format: str | None = None,
    ) -> "TensorType":
        type = element.xdsl if isinstance(element, ElementType) else element
        value: Attribute = _NOTHING
        if pad is not None:
            is_float = element_of(type).is_float
            value = FloatAttr(float(pad), 64) if is_float else IntegerAttr(int(pad), 64)
        text = _NOTHING if format is None else StringAttr(format)
        return TensorType(type, ShapeAttr(tuple(dims)), value, text)

    @property
    def dims(self) -> tuple[Dim, ...]:
        return self.shape.data

    @property
    def element_type(self) -> ElementType:
        return element_of(self.element)

    @property
    def pad_value(self) -> float | int | None:
        pad = self.pad
        return pad.value.data if isinstance(pad, FloatAttr | IntegerAttr) else None

    def with_dims(self, dims: Sequence[Dim]) -> "TensorType":
        return TensorType(self.element, ShapeAttr(tuple(dims)), self.pad, self.format)

    @classmethod
    def parse_parameters(cls, parser: AttrParser) -> tuple[Attribute, ...]:
        with parser.in_angle_brackets():
            element = parser.parse_type()
            dims = parser.parse_comma_separated_list(
                parser.Delimiter.SQUARE, lambda: parse_dim(parser)
            )
            pad: Attribute = _NOTHING
            format: Attribute = _NOTHING
            while parser.parse_optional_punctuation(",") is not None:
                if parser.parse_optional_keyword("pad") is not None:
                    number = parse_number(parser)
                    check_number(parser, number, element_of(element))
                    is_float = element_of(element).is_float
                    pad = FloatAttr(number, 64) if is_float else IntegerAttr(int(number), 64)
                else:
                    parser.parse_keyword("as")
                    format = StringAttr(parser.parse_str_literal())
        return (element, ShapeAttr(tuple(dims)), pad, format)

    def print_parameters(self, printer: Printer) -> None:
        with printer.in_angle_brackets():
            printer.print_attribute(self.element)
            printer.print_string(str(self.shape))
            if self.pad_value is not None:
                printer.print_string(f", pad {number_text(self.pad_value)}")
            if isinstance(self.format, StringAttr):
                printer.print_string(", as ")
                printer.print_string_literal(self.format.data)


Hec = Dialect("hec", [], [TensorType, ShapeAttr, AccessAttr, ConditionsAttr, VariablesAttr])
