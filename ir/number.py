"""Numbers in the text of IR: decimal, with infinities and NaN, so that every float prints and
parses back to itself.

    number ::= "-"? (integer | decimal | "inf") | "nan"
"""

from xdsl.parser import AttrParser

from hectorite.ir.element import ElementType


def number_text(number: float | int) -> str:
    """The shortest text that `parse_number` reads as this number."""
    text = repr(number)
    if "e" in text and "." not in text:  # the lexer wants digits after a point
        return text.replace("e", ".0e")
    return text


def parse_number(parser: AttrParser) -> float | int:
    """A number as `number_text` prints it; `check_number` tells whether it fits its type."""
    if parser.parse_optional_keyword("nan") is not None:
        return float("nan")
    sign = -1 if parser.parse_optional_punctuation("-") is not None else 1
    if parser.parse_optional_keyword("inf") is not None:
        return sign * float("inf")
    return sign * parser.parse_number()


def check_number(parser: AttrParser, number: float | int, element: ElementType) -> None:
    """Refuse a number with a point, or an infinity, where the type takes integers."""
    if not element.is_float and isinstance(number, float):
        parser.raise_error(f"expected an integer, as {element.name} is, not {number_text(number)}")
