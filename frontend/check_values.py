"""Expressions: types and casts of the right side of a statement.

Enters: a `syntax.Expr` whose index expressions have been read. Leaves: a `typed.Scalar` with every
cast explicit. An error yields None, which passes upwards silently, so that each is told once.

Rules: operands have one type; integers below 32 bits widen to i32 in arithmetic; weak values take
the type they meet; `/` of integers is f32 (f64 for i64); everything else needs a cast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hectorite.frontend import syntax
from hectorite.frontend.function_state import FunctionState
from hectorite.frontend.intrinsics import (
    COMPARISONS,
    EXTREMES,
    FLOAT_FUNCTIONS,
    FUNCTIONS,
    NUMBER_FUNCTIONS,
    OPERATORS,
    ROUNDING_FUNCTIONS,
)
from hectorite.frontend.scope import Place
from hectorite.frontend.tree import HUGE
from hectorite.frontend.typed import Apply, Constant, Dim, Grouped, Read, Scalar
from hectorite.frontend.weak import (
    BOOL,
    F32,
    I32,
    Typed,
    Value,
    Weak,
    cast,
    weak_apply,
    weak_literal,
    weak_position,
    weak_size,
)
from hectorite.ir.diagnostics import Span, did_you_mean
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.index import IndexExpr

MAX_INLINED_DEPTH = 150
"""How deep an expression may be once its scalar functions are put in."""


@dataclass
class Indices:
    """The index expressions of one statement, by the node they were read from."""

    accesses: dict[syntax.Node, tuple[IndexExpr, ...]]
    positions: dict[syntax.Node, IndexExpr]
    keys: dict[syntax.Node, tuple[tuple[IndexExpr, ...], tuple[Dim, ...]]]


class ValueChecker:
    """Types the expressions of one statement."""

    def __init__(self, state: FunctionState, indices: Indices, grouped_allowed: bool):
        self.state = state
        self.scope = state.scope
        self.place = state.place
        self.indices = indices
        self.grouped_allowed = grouped_allowed
        self._environment: dict[str, Value | None] | None = None
        """The arguments of the scalar function whose body is being typed."""
        self._depth = 0

    def value(self, expr: syntax.Expr) -> Value | None:
        """The value of an expression, or None after an error."""
        self._depth += 1
        try:
            if self._depth > MAX_INLINED_DEPTH:
                self.place.error("this expression nests too deeply", expr.span)
                return None
            return self._value(expr)
        finally:
            self._depth -= 1

    def _value(self, expr: syntax.Expr) -> Value | None:
        match expr:
            case syntax.Literal():
                return self._literal(expr, expr.value)
            case syntax.NameRef():
                return self._name(expr)
            case syntax.Access():
                return self._read(expr.tensor, self.indices.accesses.get(expr))
            case syntax.Binder() | syntax.Path():
                index = self.indices.positions.get(expr)
                return weak_position(index) if index is not None else None
            case syntax.Unary():
                return self._unary(expr)
            case syntax.Binary():
                left, right = self.value(expr.left), self.value(expr.right)
                return self._binary(expr, left, right)
            case syntax.Grouped():
                return self._grouped(expr)
            case syntax.Call():
                return self._call(expr)
            case _:
                raise AssertionError(expr)

    def _literal(self, expr: syntax.Expr, value: int | float | bool) -> Value | None:
        if isinstance(value, bool):
            return Typed(Constant(BOOL, value), BOOL)
        if isinstance(value, int) and abs(value) >= HUGE:
            self.place.error("this integer is too large", expr.span, "at most 64 bits")
            return None
        place, span = self.place, expr.span

        def check(type: ElementType) -> None:
            least, greatest = type.bounds
            if not least <= value <= greatest:
                expected = f"an integer from {least} to {greatest}"
                place.error(f"{value} is too large for {type.name}", span, expected)

        return weak_literal(value, check)

    def _name(self, expr: syntax.NameRef) -> Value | None:
        if self._environment is not None:
            return self._environment[expr.name]
        if self.state.is_tensor(expr.name):
            element = self.state.read(expr.name, expr.span, in_brackets=False)
            return None if element is None else Typed(Read(element, expr.name, ()), element)
        index = self.indices.positions.get(expr)
        return weak_position(index) if index is not None else None

    def _read(self, name: syntax.Name, access: tuple[IndexExpr, ...] | None) -> Value | None:
        element = self.state.read(name.text, name.span, in_brackets=True)
        if element is None or access is None:
            return None
        return Typed(Read(element, name.text, access), element)

    def _unary(self, expr: syntax.Unary) -> Value | None:
        operand = expr.operand
        is_number = isinstance(operand, syntax.Literal) and not isinstance(operand.value, bool)
        if expr.operator == "-" and is_number:
            return self._literal(expr, -operand.value)
        value = self.value(operand)
        if expr.operator == "not":
            return self._logic("not", "not", [(value, operand)])
        if expr.operator == "+":
            return value
        return self._arithmetic("-", "neg", [(value, operand)], expr.span)

    def _binary(self, expr: syntax.Binary, left: Value | None, right: Value | None) -> Value | None:
        function = OPERATORS[expr.operator]
        operands = [(left, expr.left), (right, expr.right)]
        if expr.operator in ("and", "or"):
            return self._logic(expr.operator, function, operands)
        if expr.operator in COMPARISONS:
            return self._comparison(expr.operator, function, operands, expr.at)
        if expr.operator == "/":
            return self._division(operands, expr.at)
        return self._arithmetic(expr.operator, function, operands, expr.at)

    def _logic(self, name: str, function: str, operands: Operands) -> Value | None:
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
        return Typed(Apply(BOOL, function, tuple(arguments)), BOOL)

    def _comparison(self, name: str, function: str, operands: Operands, at: Span) -> Value | None:
        common = self._common(name, operands, at)
        if common is None:
            return None
        type, values = common
        if type is None:
            whole = all(isinstance(value, Weak) and value.kind == "int" for value in values)
            type = I32 if whole else F32
        arguments = tuple(_computed(value, type.compute) for value in values)
        return Typed(Apply(BOOL, function, arguments), BOOL)

    def _division(self, operands: Operands, at: Span) -> Value | None:
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

    def _arithmetic(self, name: str, function: str, operands: Operands, at: Span) -> Value | None:
        common = self._common(name, operands, at, numbers=function not in EXTREMES)
        if common is None:
            return None
        type, values = common
        if type is None:
            weak = [value for value in values if isinstance(value, Weak)]
            whole = all(value.kind == "int" for value in weak)
            return weak_apply(function, weak, "int" if whole else "float")
        return _apply(function, type, values)

    def _float(self, name: str, operands: Operands, at: Span) -> Value | None:
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
            if type is not None and own != type:
                return self._mix(name, type, own, operands, at)
            type = own
        for value in values:
            if isinstance(value, Weak) and type is not None and not _takes(type, value):
                what = "a fraction" if value.kind == "float" else "an integer"
                return self._mix(name, type, what, operands, at)
        return type, values

    def _mix(
        self, name: str, left: ElementType, right: ElementType | str, operands: Operands, at: Span
    ) -> None:
        other = right if isinstance(right, str) else right.name
        target = "f32"
        if isinstance(right, ElementType):
            target = max(left, right, key=lambda type: (type.is_float, type.bits)).name
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

    def _grouped(self, expr: syntax.Grouped) -> Value | None:
        kind = expr.kind.text
        if kind not in ("softmax", "mean"):
            hint = did_you_mean(kind, ("softmax", "mean"))
            self.place.error(f"`{kind}` takes no `by`", expr.kind.span, "softmax or mean", hint)
            return None
        if not self.grouped_allowed:
            self.place.error(
                f"`{kind}(... by ...)` stands in an `=` statement only",
                expr.span,
                hint="compute it in a statement of its own first",
            )
        value = self.value(expr.value)
        keys = self.indices.keys.get(expr)
        if value is None or keys is None:
            return None
        typed = value.default if isinstance(value, Weak) else value
        if typed.type == BOOL or (kind == "softmax" and not typed.type.is_float):
            text = self.place.quote(expr.value.span)
            message = f"`{kind}` takes floats, not {typed.type.name}"
            self.place.error(message, expr.value.span, "a float", f"write f32({text})")
            return None
        result = mean_type(typed.type) if kind == "mean" else typed.type
        return Typed(Grouped(result.compute, kind, typed.computed, *keys), result)

    def _call(self, expr: syntax.Call) -> Value | None:
        name = expr.callee.text
        known = name in FUNCTIONS or name in ELEMENTS or name in self.scope.scalar_functions
        if expr.inner is not None or not known:
            self._unknown_call(expr)
            return None
        if expr.keywords:
            message = f"`{name}` takes its arguments by position"
            self.place.error(message, expr.keywords[0].span)
            return None
        if name == "size":
            return self._size(expr)
        if name == "quantize":
            return self._quantize(expr)
        arguments = [(self.value(argument), argument) for argument in expr.arguments]
        if name in self.scope.scalar_functions:
            return self._inline(expr, [value for value, _ in arguments])
        if not self._counted(expr):
            return None
        if name in ELEMENTS:
            return self._cast(ELEMENTS[name], arguments[0][0], expr)
        if name in FLOAT_FUNCTIONS:
            return self._float(name, arguments, expr.span)
        if name in NUMBER_FUNCTIONS:
            return self._arithmetic(name, name, arguments, expr.span)
        if name in ROUNDING_FUNCTIONS:
            return self._rounding(name, arguments, expr.span)
        if name in EXTREMES:
            return self._extreme(name, arguments, expr.span)
        return self._where(arguments, expr.span) if name == "where" else self._dequantize(arguments)

    def _counted(self, expr: syntax.Call) -> bool:
        """Whether a function of the language has as many arguments as it takes."""
        name, given = expr.callee.text, len(expr.arguments)
        if name in ("softmax", "mean"):
            hint = f"write `{name}(x by n)`, where n is what the points of a group share"
            self.place.error(f"`{name}` needs to know its groups", expr.span, "`by`", hint)
            return False
        if name in EXTREMES:
            takes = max(2, given)
        else:
            table = {**FLOAT_FUNCTIONS, **NUMBER_FUNCTIONS, "where": 3, "dequantize": 3}
            takes = table.get(name, 1)
        if given == takes:
            return True
        plural = "argument" if takes == 1 else "arguments"
        self.place.error(f"`{name}` takes {takes} {plural}, not {given}", expr.span)
        return False

    def _unknown_call(self, expr: syntax.Call) -> None:
        name = expr.callee.text
        if expr.inner is not None:
            message = f"`{self.place.quote(expr.inner.span)}` cannot be called"
            self.place.error(message, expr.span, "a function")
        elif name in self.scope.signatures:
            self.place.error(
                f"`{name}` works on whole tensors, so its call stands alone",
                expr.span,
                "a scalar function",
                f"write `t = {self.place.quote(expr.span)}` first, then use `t[...]`",
            )
        else:
            known = [*FUNCTIONS, *ELEMENTS, *self.scope.scalar_functions, *self.scope.signatures]
            expected = "a function of the language, a `fn` or a cast"
            self.place.unknown("function", expr.callee, known, expected)

    def _inline(self, expr: syntax.Call, arguments: Sequence[Value | None]) -> Value | None:
        """The body of a `fn`; each argument is one object, hence computed once."""
        node, source = self.scope.scalar_functions[expr.callee.text]
        if len(arguments) != len(node.parameters):
            takes = len(node.parameters)
            message = f"`{node.name.text}` takes {takes} arguments, not {len(arguments)}"
            self.place.error(message, expr.span)
            return None
        saved = self._environment, self.place
        names = (parameter.text for parameter in node.parameters)
        self._environment = dict(zip(names, arguments, strict=True))
        self.place = Place(source, self.place.report)
        try:
            return self.value(node.body)
        finally:
            self._environment, self.place = saved

    def _size(self, expr: syntax.Call) -> Value | None:
        argument = expr.arguments[0] if len(expr.arguments) == 1 else None
        if not isinstance(argument, syntax.NameRef):
            self.place.error("`size` takes one name", expr.span, "a set or a size")
            return None
        if not self.state.is_size(argument.name):
            name = syntax.Name(argument.span, argument.name)
            self.place.unknown("set or size", name, self.state.sizes, "a set or a size")
            return None
        return weak_size(argument.name)

    def _cast(self, type: ElementType, value: Value | None, expr: syntax.Call) -> Value | None:
        if not type.executable:
            self.place.error(f"the element type `{type.name}` is not implemented yet", expr.span)
            return None
        if value is None:
            return None
        if isinstance(value, Weak):
            value = _typed(value, type.compute) if _takes(type, value) else value.default
        return Typed(cast(value.expr, type), type)

    def _rounding(self, name: str, operands: Operands, at: Span) -> Value | None:
        common = self._common(name, operands, at, numbers=True)
        if common is None:
            return None
        type, (value,) = common
        if type is None and isinstance(value, Weak):
            return value if value.kind == "int" else weak_apply(name, [value], "float")
        if type is None or not type.is_float:
            return value
        return _apply(name, type, [value])

    def _extreme(self, name: str, operands: Operands, at: Span) -> Value | None:
        result = operands[0]
        for operand in operands[1:]:
            result = (self._arithmetic(name, name, [result, operand], at), operand[1])
        return result[0]

    def _where(self, operands: Operands, at: Span) -> Value | None:
        condition = self._logic("where", "not", operands[:1])
        common = self._common("where", operands[1:], at)
        if condition is None or common is None:
            return None
        chosen = operands[0][0]
        assert isinstance(chosen, Typed)
        type, values = common
        if type is None:
            weak = [value for value in values if isinstance(value, Weak)]
            whole = all(value.kind == "int" for value in weak)
            return Weak(
                "int" if whole else "float",
                lambda t: Apply(t, "select", (chosen.expr, *(value.make(t) for value in weak))),
            )
        names = {value.type.name for value in values if isinstance(value, Typed)}
        if len(names) == 1 and not type.is_float:  # choosing is not arithmetic: nothing widens
            type = ELEMENTS[names.pop()]
        parts = (_computed(v, type.compute if type.is_float else type) for v in values)
        scalar = Apply(type.compute if type.is_float else type, "select", (chosen.expr, *parts))
        return Typed(scalar, type)

    def _quantize(self, expr: syntax.Call) -> Value | None:
        """round(x / scale) + zero, saturated: a cast from float to integer saturates."""
        target = expr.arguments[3] if len(expr.arguments) == 4 else None
        name = target.name if isinstance(target, syntax.NameRef) else ""
        if name not in ELEMENTS or not ELEMENTS[name].is_integer:
            message = "`quantize` takes a value, a scale, a zero and an integer type"
            self.place.error(message, expr.span, "`quantize(x, scale, zero, i8)`")
            return None
        x, scale, zero = ((self.value(a), a) for a in expr.arguments[:3])
        scaled = self._division([x, scale], expr.span)
        if scaled is None or zero[0] is None:
            return None
        typed = scaled.default if isinstance(scaled, Weak) else scaled
        compute = typed.type.compute
        rounded = Apply(compute, "round", (typed.computed,))
        shifted = Apply(compute, "add", (rounded, _converted(zero[0], compute)))
        type = ELEMENTS[name]
        return Typed(cast(shifted, type), type)

    def _dequantize(self, operands: Operands) -> Value | None:
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
        difference = Apply(work, "sub", (_converted(q_typed, work), _converted(zero, work)))
        parts = (cast(difference, whole.compute), _converted(step, whole.compute))
        return Typed(Apply(whole.compute, "mul", parts), whole)


Operands = list[tuple[Value | None, syntax.Expr]]


def mean_type(type: ElementType) -> ElementType:
    """The type of a mean: that of its argument, for integers as for `/`."""
    if type.is_float:
        return type
    return ELEMENTS["f64"] if type.bits == 64 else F32


def _takes(type: ElementType, value: Weak) -> bool:
    """Whether a weak value can take a type."""
    return type.is_float or (type.is_integer and value.kind == "int")


def _typed(value: Weak, type: ElementType) -> Typed:
    return Typed(value.make(type), type)


def _computed(value: Value, type: ElementType) -> Scalar:
    """An operand in the type that an operation works in."""
    return value.make(type) if isinstance(value, Weak) else cast(value.expr, type)


def _converted(value: Value, type: ElementType) -> Scalar:
    """An operand converted to a type by a cast of the operation's own."""
    if isinstance(value, Weak) and not _takes(type, value):
        value = value.default
    return _computed(value, type)


def _apply(function: str, type: ElementType, values: Sequence[Value]) -> Typed:
    compute = type.compute
    parts = tuple(_computed(value, compute) for value in values)
    return Typed(Apply(compute, function, parts), type)
