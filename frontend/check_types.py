"""Types as written: element types, dimensions and what is only storage.

Enters: `syntax.TypeExpr` and formats. Leaves: `TensorSpec`, with an error for what cannot be
honoured yet and a warning for a format that has no implementation, because a format never changes
what a program means.
"""

from __future__ import annotations

from hectorite.frontend import syntax
from hectorite.frontend.scope import MAX_SIZE, UNKNOWN, Place, Scope
from hectorite.frontend.typed import Dim, TensorSpec
from hectorite.ir.diagnostics import Span, did_you_mean
from hectorite.ir.element import ELEMENTS, ElementType

BLOCK_SCALED = ("dfp16", "ternary", "q4")
EXECUTABLE = "one of f64 f32 tf32 f16 bf16, i64 i32 i16 i8 to i1, u8 to u1, bool"

SET_FORMATS = ("auto", "coo", "csr", "ell", "hyb", "sgt", "jagged", "dedup")
TENSOR_FORMATS = ("auto", "nm", "bsr", "bits")
IMPLEMENTED_FORMATS = ("auto", "coo")


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
    format = tensor_format(type.format, place) if type.format else None
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


def format_text(format: syntax.Format) -> str:
    """A format in canonical spelling, `csr(dst).by(type)`."""
    return ".".join(map(_word_text, format.words))


def _word_text(word: syntax.Word) -> str:
    if not word.arguments:
        return word.name.text
    return f"{word.name.text}({', '.join(map(_argument_text, word.arguments))})"


def _argument_text(argument: syntax.WordArgument) -> str:
    value = argument.value
    text = _word_text(value) if isinstance(value, syntax.Word) else str(value.value)
    return text if argument.name is None else f"{argument.name.text}={text}"


def set_format(format: syntax.Format, fields: set[str], place: Place) -> str | None:
    """The storage format of a set; names in it are fields of the set."""
    for word in format.words:
        for argument in word.arguments:
            value = argument.value
            if isinstance(value, syntax.Word) and value.name.text not in fields:
                place.unknown("field", value.name, sorted(fields), "a field of the set")
                return None
    return _known_format(format, SET_FORMATS, "sets", place)


def tensor_format(format: syntax.Format, place: Place) -> str | None:
    """The storage format of a tensor."""
    head = format.words[0]
    numbers = [a.value.value for a in head.arguments if isinstance(a.value, syntax.Literal)]
    whole = all(type(number) is int and number > 0 for number in numbers)
    pair = len(numbers) == len(head.arguments) == 2 and whole
    if head.name.text == "nm" and not (pair and numbers[0] <= numbers[1]):
        place.error("`nm` takes two integers", head.span, "`nm(2, 4)`: at most 2 of each 4")
        return None
    if head.name.text == "bsr" and not pair:
        place.error("`bsr` takes two integers", head.span, "`bsr(16, 16)`: rows and columns")
        return None
    return _known_format(format, TENSOR_FORMATS, "tensors", place)


def _known_format(
    format: syntax.Format, known: tuple[str, ...], what: str, place: Place
) -> str | None:
    head = format.words[0].name
    if head.text not in known:
        other = head.text in SET_FORMATS + TENSOR_FORMATS
        message = f"`{head.text}` is not a format of {what}"
        hint = None if other else did_you_mean(head.text, known)
        place.error(message, head.span, f"one of {', '.join(known)}", hint)
        return None
    text = format_text(format)
    if head.text not in IMPLEMENTED_FORMATS:
        _warn_fallback(text, format.span, place)
    return None if text == "auto" else text


def _warn_fallback(text: str, span: Span, place: Place) -> None:
    place.warning(
        f"format `{text}` is not implemented yet: the default layout is used, results are the same",
        span,
    )
