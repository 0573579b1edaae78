"""The right side of a statement as it is stored: the last step of typing.

Enters: the value of a statement and its target. Leaves: the scalar that the statement combines
with the target, in the type it accumulates in; an undeclared local gets its type here, that of its
first expression. A float goes into a float that computes alike (tf32, f16, bf16 and f32), an
integer into an integer (all up to 32 bits); anything else needs a cast.
"""

from __future__ import annotations

from hectorite.frontend.check.function_state import Local
from hectorite.frontend.check.scope import Place
from hectorite.frontend.check.typed import Scalar
from hectorite.frontend.check.typing_rules import mean_type
from hectorite.frontend.check.weak import BOOL, Typed, Value, Weak, cast
from hectorite.frontend.parsing import syntax
from hectorite.ir.element import ElementType


def stored_value(value: Value, node: syntax.Assign, local: Local, place: Place) -> Scalar | None:
    """The scalar that the statement combines with its target, or None after an error."""
    if isinstance(value, Weak):
        value = _settled(value, node, local.element)
    if node.operator in ("+=", "*=", "mean=") and value.type == BOOL:
        place.error(
            f"`{node.operator}` takes numbers, not bool",
            node.value.span,
            "a number",
            f"write `i32({place.quote(node.value.span)})`, or `max=` for any and `min=` for all",
        )
        return None
    result = mean_type(value.type) if node.operator == "mean=" else value.type
    if local.element is None:
        local.element = result
        _warn_narrow(node, result, place)
    if not _fits(result, local.element):
        place.error(
            f"`{local.name}` is {local.element.name}, but this is {result.name}",
            node.value.span,
            local.element.name,
            f"write {local.element.name}({place.quote(node.value.span)})",
        )
        return None
    if node.operator in ("+=", "*=", "mean="):
        return value.computed
    if node.operator in ("max=", "min="):
        return cast(value.expr, local.element)  # the empty maximum is the least value of its type
    return value.expr


def _settled(value: Weak, node: syntax.Assign, element: ElementType | None) -> Typed:
    """A weak value takes the type of a declared target."""
    if element is None or node.operator == "mean=":
        return value.default
    if element.is_float or (element.is_integer and value.kind == "int"):
        return Typed(value.make(element.compute), element)
    return value.default


def _fits(type: ElementType, target: ElementType) -> bool:
    if BOOL in (type, target):
        return type == target
    return type.is_float == target.is_float and type.compute == target.compute


def _warn_narrow(node: syntax.Assign, type: ElementType, place: Place) -> None:
    if node.operator in ("+=", "*=") and type.is_integer and type.bits < 32:
        text = place.quote(node.value.span)
        name = node.targets[0].tensor.text
        hint = f"to accumulate in i32 write i32({text})"
        place.warning(f"`{name}` is {type.name} and wraps", node.value.span, hint)
