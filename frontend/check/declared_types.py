"""Types as written: element types, dimensions and what is only storage.

Enters: `syntax.TypeExpr` and formats. Leaves: `TensorSpec`, with an error for what cannot be
honoured and a warning for a format that has no implementation, because a format never changes what
a program means.
"""

from __future__ import annotations

from collections.abc import Sequence

from hectorite.frontend.check.scope import MAX_SIZE, UNKNOWN, Place, Scope
from hectorite.frontend.check.typed import Dim, TensorSpec
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import did_you_mean
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.format_text import Argument, FormatFault, Word
from hectorite.ir.schema import Schema
from hectorite.ir.set_format import KINDS, orders_of, resolve
from hectorite.ir.tensor_format import MOST_GROUP

BLOCK_SCALED = ("dfp16", "ternary", "q4")
EXECUTABLE = "one of f64 f32 tf32 f16 bf16, i64 i32 i16 i8 to i1, u8 to u1, bool"

TENSOR_FORMATS = ("auto", "nm", "bsr")


def element_type(word: syntax.Word, place: Place) -> ElementType | None:
    """The element type that a word names, or None after an error."""
    name = word.name.text
    if name in BLOCK_SCALED:
        place.error(
            f"the block-scaled type `{place.quote(word.span)}` is not implemented yet",
            word.span,
            EXECUTABLE,
        )
        return None
    element = ELEMENTS.get(name)
    if element is None:
        place.unknown("element type", word.name, [*ELEMENTS, *BLOCK_SCALED], EXECUTABLE)
    elif word.arguments:
        place.error(f"`{name}` takes no parameters", word.span)
    elif not element.executable:
        place.error(f"the element type `{name}` is not implemented yet", word.span, EXECUTABLE)
    else:
        return element
    return None


def tensor_spec(name: str, type: syntax.TypeExpr, scope: Scope, place: Place) -> TensorSpec:
    """The tensor that a type describes. After an error in its element type it is f32, so that
    the rest of the program can be checked."""
    element = element_type(type.element, place) or ELEMENTS["f32"]
    dims = tuple(_dim(extent, place) for extent in type.extents)
    if type.place is not None and type.place.text != "device":
        place.error(
            f"placement on `{type.place.text}` is not implemented yet",
            type.place.span,
            "`on device`, which is where tensors are",
        )
    pad = _pad(type.pad, element, place) if type.pad else None
    format = tensor_format(type.format, len(dims), place) if type.format else None
    return TensorSpec(name, element, dims, pad, format)


def _dim(extent: syntax.Extent, place: Place) -> Dim:
    if extent.value is None:
        place.error(
            "a dimension cannot be computed",
            extent.span,
            "a set, a size or an integer",
            "name the size: a size that only a result names is given when compiling",
        )
        return UNKNOWN
    if isinstance(extent.value, int) and extent.value > MAX_SIZE:
        place.error("this size is too large", extent.span, f"at most {MAX_SIZE}")
        return UNKNOWN
    return extent.value


def _pad(literal: syntax.Literal, element: ElementType, place: Place) -> float | int | None:
    value = literal.value
    if element.is_float:
        return float(value)
    least, greatest = element.bounds
    if isinstance(value, float) or not least <= value <= greatest:
        place.error(
            f"`{place.quote(literal.span)}` is not a value of {element.name}",
            literal.span,
            f"an integer from {least} to {greatest}",
        )
        return None
    return int(value)


def set_format(format: syntax.Format, fields: Sequence[str], place: Place) -> str | None:
    """The storage format of a set with these fields in canonical spelling, `auto` for one that is
    chosen by the data, None after an error."""
    head = format.words[0]
    if head.name.text == "auto" and len(format.words) == 1 and not head.arguments:
        return "auto"
    if head.name.text in TENSOR_FORMATS and head.name.text not in KINDS:
        message = f"`{head.name.text}` is a format of tensors, not of sets"
        place.error(message, head.name.span, f"one of auto, {', '.join(KINDS)}")
        return None
    try:
        return str(resolve(fields, [_word(word) for word in format.words]))
    except FormatFault as fault:
        _tell(fault, format, place)
        return None


def check_orders(format: syntax.Format, name: str, schema: Schema, place: Place) -> None:
    """Errors for what a format needs of other sets: orders of permutations."""
    text = schema.sets[name].format
    try:
        if text not in (None, "auto"):
            fields = [field for field, _ in schema.sets[name].fields]
            resolve(fields, [_word(word) for word in format.words], orders_of(schema, name))
    except FormatFault as fault:
        _tell(fault, format, place)


def _tell(fault: FormatFault, format: syntax.Format, place: Place) -> None:
    word = format.words[fault.word]
    span = word.span if fault.argument is None else word.arguments[fault.argument].span
    place.error(fault.message, span, fault.expected, fault.hint)


def _word(word: syntax.Word) -> Word:
    return Word(word.name.text, tuple(map(_argument, word.arguments)))


def _argument(argument: syntax.WordArgument) -> Argument:
    value, name = argument.value, None if argument.name is None else argument.name.text
    if isinstance(value, syntax.Literal):
        return Argument(value.value, name)
    words = value.words if isinstance(value, syntax.Format) else (value,)
    return Argument.of([_word(word) for word in words], name)


def tensor_format(format: syntax.Format, rank: int, place: Place) -> str | None:
    """The storage format of a tensor of `rank` dimensions, None for `auto` and after an error."""
    head, name = format.words[0], format.words[0].name.text
    if name not in TENSOR_FORMATS:
        message = f"`{name}` is not a format of tensors"
        if name in KINDS:
            message = f"`{name}` is a format of sets, not of tensors"
        hint = None if name in KINDS else did_you_mean(name, TENSOR_FORMATS)
        place.error(message, head.name.span, f"one of {', '.join(TENSOR_FORMATS)}", hint)
        return None
    if len(format.words) > 1:
        place.error(f"nothing follows `{name}` in a format", format.words[1].span)
        return None
    if name in ("nm", "bsr"):
        return _pair_format(head, rank, place)
    if head.arguments:
        place.error(f"`{name}` takes no arguments", head.span)
    return None


def _pair_format(head: syntax.Word, rank: int, place: Place) -> str | None:
    """`nm(2, 4)` or `bsr(16, 16)`."""
    name = head.name.text
    numbers = [a.value.value for a in head.arguments if isinstance(a.value, syntax.Literal)]
    whole = all(type(number) is int and number > 0 for number in numbers)
    named = any(a.name is not None for a in head.arguments)
    pair = len(numbers) == len(head.arguments) == 2 and whole and not named
    if name == "nm" and not (pair and numbers[0] <= numbers[1] <= MOST_GROUP):
        expected = f"`nm(2, 4)`: at most 2 of each 4, which is at most {MOST_GROUP}"
        place.error("`nm` takes two integers", head.span, expected)
        return None
    if name == "bsr" and not pair:
        place.error("`bsr` takes two integers", head.span, "`bsr(16, 16)`: rows and columns")
        return None
    least = 1 if name == "nm" else 2
    if rank < least:
        what = "dimension" if least == 1 else "dimensions"
        place.error(f"`{name}` is for tensors of at least {least} {what}", head.span)
        return None
    return f"{name}({numbers[0]}, {numbers[1]})"
