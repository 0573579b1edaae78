"""The typing rules of operators and functions.

Enters: operands, each a value with the expression it stands in. Leaves: a value with every cast
explicit, or None after an error. An operand that is None had its error told before.

Rules: operands have one type; integers below 32 bits widen to i32 in arithmetic; weak values take
the type they meet; `/` of integers is f32 (f64 for i64); a factor of type f32 beside one of type
tf32 rounds to that; everything else needs a cast.
"""

from __future__ import annotations

from collections.abc import Sequence

from hectorite.frontend.check.intrinsics import EXTREMES
from hectorite.frontend.check.scope import Place
from hectorite.frontend.check.typed import Apply, Scalar
from hectorite.frontend.check.weak import BOOL, F32, I32, Typed, Value, Weak, cast, weak_apply
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Span
from hectorite.ir.element import ELEMENTS, ElementType

Operands = list[tuple[Value | None, syntax.Expr]]

TF32 = ELEMENTS["tf32"]


class Rules:
    """Typing rules; `place` is where their messages point."""

    def __init__(self, place: Place):
        self.place = place

    def logic(self, name: str, function: str, operands: Operands) -> Value | None:
        """`and`, `or`, `not`."""
        arguments = self._conditions(name, operands)
        return None if arguments is None else Typed(Apply(BOOL, function, tuple(arguments)), BOOL)

    def _conditions(self, name: str, operands: Operands) -> list[Scalar] | None:
        """Operands that have to be bool."""
        arguments: list[Scalar] = []
        for value, expr in operands:
            if value is None:
                return None
            if not isinstance(value, Typed) or value.type != BOOL:
                what = value.type.name if isinstance(value, Typed) else "a number"
                hint = f"write {self.place.quote(expr.span)} != 0"
                self.place.error(f"`{name}` takes bool, not {what}", expr.span, "bool", hint)
                return None
            arguments.append(value.expr)
        return arguments

    def comparison(self, name: str, function: str, operands: Operands, at: Span) -> Value | None:
        """A comparison: bool, of operands of one type."""
        common = self._common(name, operands, at)
        if common is None:
            return None
        type, values = common
        if type is None:
            whole = all(isinstance(value, Weak) and value.kind == "int" for value in values)
            type = I32 if whole else F32
        arguments = tuple(_computed(value, type.compute) for value in values)
        return Typed(Apply(BOOL, function, arguments), BOOL)

    def division(self, operands: Operands, at: Span) -> Value | None:
        """`/`, which is a float even for integers."""
        common = self._common("/", operands, at, numbers=True)
        if common is None:
            return None
        type, values = common
        if type is None:
            return weak_apply("div", [v for v in values if isinstance(v, Weak)], "float")
        if type.is_float:
            return _apply("div", type, values)
        quotient = ELEMENTS["f64"] if type.bits == 64 else F32
        parts = tuple(cast(_computed(value, type), quotient) for value in values)
        return Typed(Apply(quotient, "div", parts), quotient)

    def arithmetic(self, name: str, function: str, operands: Operands, at: Span) -> Value | None:
        """An operator or function that keeps the type of its operands."""
        common = self._common(name, operands, at, numbers=function not in EXTREMES)
        if common is None:
            return None
        type, values = common
        if type is None:
            weak = [value for value in values if isinstance(value, Weak)]
            whole = all(value.kind == "int" for value in weak)
            return weak_apply(function, weak, "int" if whole else "float")
        return _apply(function, type, values)

    def float(self, name: str, operands: Operands, at: Span) -> Value | None:
        """A function that is defined on floats only."""
        common = self._common(name, operands, at, numbers=True)
        if common is None:
            return None
        type, values = common
        if type is None:
            return weak_apply(name, [v for v in values if isinstance(v, Weak)], "float")
        if not type.is_float:
            text = self.place.quote(operands[0][1].span)
            self.place.error(
                f"`{name}` takes floats, not {type.name}", at, "a float", f"write f32({text})"
            )
            return None
        return _apply(name, type, values)

    def _common(
        self, name: str, operands: Operands, at: Span, numbers: bool = False
    ) -> tuple[ElementType | None, list[Value]] | None:
        """The one type of the operands, None if all are weak; nothing after an error."""
        values = [value for value, _ in operands if value is not None]
        if len(values) < len(operands):
            return None
        type: ElementType | None = None
        for value, expr in operands:
            if not isinstance(value, Typed):
                continue
            own = value.type.compute if value.type.is_integer else value.type
            if numbers and own == BOOL:
                hint = f"write i32({self.place.quote(expr.span)})"
                self.place.error(f"`{name}` takes numbers, not bool", expr.span, "a number", hint)
                return None
            if name == "*" and {type, own} == {F32, TF32}:
                own = TF32
                values = [_rounded(value) for value in values]
            elif type is not None and own != type:
                return self._mix(name, type, own, operands, at)
            type = own
        for value in values:
            if isinstance(value, Weak) and type is not None and not takes(type, value):
                what = "a fraction" if value.kind == "float" else "an integer"
                return self._mix(name, type, what, operands, at)
        return type, values

    def _mix(
        self, name: str, left: ElementType, right: ElementType | str, operands: Operands, at: Span
    ) -> None:
        other = right if isinstance(right, str) else right.name
        target = "f32"
        if isinstance(right, ElementType):
            target = max(left, right, key=_room).name
        fix = next(
            (
                expr
                for value, expr in operands
                if isinstance(value, Typed) and value.type.name != target
            ),
            operands[0][1],
        )
        self.place.error(
            f"`{name}` mixes {left.name} and {other}",
            at,
            "operands of one type",
            f"cast one: write {target}({self.place.quote(fix.span)})",
        )

    def rounding(self, name: str, operands: Operands, at: Span) -> Value | None:
        """`floor`, `ceil`, `round`, which change no integer."""
        common = self._common(name, operands, at, numbers=True)
        if common is None:
            return None
        type, (value,) = common
        if type is None and isinstance(value, Weak):
            return value if value.kind == "int" else weak_apply(name, [value], "float")
        if type is None or not type.is_float:
            return value
        return _apply(name, type, [value])

    def extreme(self, name: str, operands: Operands, at: Span) -> Value | None:
        """`min` or `max` of two or more."""
        result = operands[0]
        for operand in operands[1:]:
            result = (self.arithmetic(name, name, [result, operand], at), operand[1])
        return result[0]

    def where(self, operands: Operands, at: Span) -> Value | None:
        """A choice; nothing widens if both sides have one type."""
        conditions = self._conditions("where", operands[:1])
        common = self._common("where", operands[1:], at)
        if conditions is None or common is None:
            return None
        chosen = conditions[0]
        type, values = common
        if type is None:
            weak = [value for value in values if isinstance(value, Weak)]
            whole = all(value.kind == "int" for value in weak)
            return Weak(
                "int" if whole else "float",
                lambda t: Apply(t, "select", (chosen, *(value.make(t) for value in weak))),
            )
        names = {value.type.name for value in values if isinstance(value, Typed)}
        if len(names) == 1 and not type.is_float:  # choosing is not arithmetic: nothing widens
            type = ELEMENTS[names.pop()]
        parts = (_computed(v, type.compute if type.is_float else type) for v in values)
        scalar = Apply(type.compute if type.is_float else type, "select", (chosen, *parts))
        return Typed(scalar, type)

    def quantize(self, operands: Operands, type: ElementType, at: Span) -> Value | None:
        """round(x / scale) + zero, saturated: a cast from float to integer saturates."""
        scaled, zero = self.division(operands[:2], at), operands[2][0]
        if scaled is None or zero is None:
            return None
        typed = scaled.default if isinstance(scaled, Weak) else scaled
        compute = typed.type.compute
        rounded = Apply(compute, "round", (typed.computed,))
        shifted = Apply(compute, "add", (rounded, converted(zero, compute)))
        return Typed(cast(shifted, type), type)

    def dequantize(self, operands: Operands) -> Value | None:
        """(q - zero) * scale, the difference exact if both are integers."""
        q, scale, zero = (value for value, _ in operands)
        if q is None or scale is None or zero is None:
            return None
        step = scale.default if isinstance(scale, Weak) else scale
        whole = step.type if step.type.is_float else F32
        q_typed = q.default if isinstance(q, Weak) else q
        exact = q_typed.type.is_integer and (
            zero.kind == "int" if isinstance(zero, Weak) else zero.type.is_integer
        )
        work = I32 if exact else whole.compute
        difference = Apply(work, "sub", (converted(q_typed, work), converted(zero, work)))
        parts = (cast(difference, whole.compute), converted(step, whole.compute))
        return Typed(Apply(whole.compute, "mul", parts), whole)


def _rounded(value: Value) -> Value:
    """A factor beside one of type tf32."""
    if isinstance(value, Typed) and value.type == F32:
        return Typed(cast(value.expr, TF32), TF32)
    return value


def _room(type: ElementType) -> tuple[bool, int, bool]:
    """What orders types by which of two the other is best cast to."""
    return type.is_float, type.bits, not type.is_short


def mean_type(type: ElementType) -> ElementType:
    """The type of a mean: that of its argument, for integers as for `/`."""
    if type.is_float:
        return type
    return ELEMENTS["f64"] if type.bits == 64 else F32


def takes(type: ElementType, value: Weak) -> bool:
    """Whether a weak value can take a type."""
    return type.is_float or (type.is_integer and value.kind == "int")


def _computed(value: Value, type: ElementType) -> Scalar:
    """An operand in the type that an operation works in."""
    expr = value.make(type.compute) if isinstance(value, Weak) else value.expr
    return cast(expr, type)


def converted(value: Value, type: ElementType) -> Scalar:
    """An operand converted to a type by a cast of the operation's own."""
    if isinstance(value, Weak) and not takes(type, value):
        value = value.default
    return _computed(value, type)


def _apply(function: str, type: ElementType, values: Sequence[Value]) -> Typed:
    compute = type.compute
    parts = tuple(_computed(value, compute) for value in values)
    return Typed(Apply(compute, function, parts), type)
