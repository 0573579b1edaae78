"""Expressions: the value of the right side of a statement, node by node.

Enters: a `syntax.Expr` whose index expressions have been read. Leaves: a `typed.Scalar` with every
cast explicit. An error yields None, which passes upwards silently, so that each is told once.

How the types of operands combine is in `typing_rules.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hectorite.frontend.check.function_state import FunctionState, count
from hectorite.frontend.check.intrinsics import (
    COMPARISONS,
    EXTREMES,
    FLOAT_FUNCTIONS,
    FUNCTIONS,
    NUMBER_FUNCTIONS,
    OPERATORS,
    ROUNDING_FUNCTIONS,
)
from hectorite.frontend.check.scope import Place
from hectorite.frontend.check.typed import Constant, Dim, Grouped, Read
from hectorite.frontend.check.typing_rules import Rules, mean_type, takes
from hectorite.frontend.check.weak import (
    BOOL,
    Typed,
    Value,
    Weak,
    cast,
    weak_literal,
    weak_position,
    weak_size,
)
from hectorite.frontend.parsing import syntax
from hectorite.frontend.parsing.tree import HUGE
from hectorite.ir.diagnostics import Span, did_you_mean
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.index import IndexExpr

MAX_INLINED_DEPTH = 120
"""How deep an expression may be once its scalar functions are put in."""

MAX_INLINED_SIZE = 20_000
"""How large it may be; functions that call each other twice would never end."""


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
        self.rules = Rules(state.place)
        self.indices = indices
        self.grouped_allowed = grouped_allowed
        self._environment: dict[str, Value | None] | None = None
        """The arguments of the scalar function whose body is being typed."""
        self._outermost: tuple[Place, Span] | None = None
        """The call in the statement that brought it in."""
        self._depth = self._size = 0

    @property
    def place(self) -> Place:
        """Where messages point: into the function, or the `fn` whose body is being typed."""
        return self.rules.place

    def value(self, expr: syntax.Expr) -> Value | None:
        """The value of an expression, or None after an error."""
        self._depth += 1
        self._size += 1
        try:
            if self._depth > MAX_INLINED_DEPTH or self._size > MAX_INLINED_SIZE:
                return self._too_large(expr)
            return self._value(expr)
        finally:
            self._depth -= 1

    def _too_large(self, expr: syntax.Expr) -> None:
        """One error for the statement, at the call that brought the functions in."""
        if self._size < 2 * MAX_INLINED_SIZE:
            what = "nests too deeply" if self._depth > MAX_INLINED_DEPTH else "grows too large"
            message = f"this expression {what} with its `fn`s put in"
            place, span = self._outermost or (self.place, expr.span)
            place.error(message, span, hint="compute a part of it in a statement of its own")
        self._size = 2 * MAX_INLINED_SIZE

    def _value(self, expr: syntax.Expr) -> Value | None:
        match expr:
            case syntax.Literal():
                return self._literal(expr, expr.value)
            case syntax.NameRef():
                return self._name(expr)
            case syntax.Access() | syntax.Grouped() if self._environment is not None:
                return None  # a `fn` with these was refused where it is declared
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
            return self._environment.get(expr.name)
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
        literal = operand if isinstance(operand, syntax.Literal) else None
        if expr.operator == "-" and literal and not isinstance(literal.value, bool):
            return self._literal(expr, -literal.value)
        value = self.value(operand)
        if expr.operator == "not":
            return self.rules.logic("not", "not", [(value, operand)])
        if expr.operator == "+":
            return value
        return self.rules.arithmetic("-", "neg", [(value, operand)], expr.span)

    def _binary(self, expr: syntax.Binary, left: Value | None, right: Value | None) -> Value | None:
        function = OPERATORS[expr.operator]
        operands = [(left, expr.left), (right, expr.right)]
        if expr.operator in ("and", "or"):
            return self.rules.logic(expr.operator, function, operands)
        if expr.operator in COMPARISONS:
            return self.rules.comparison(expr.operator, function, operands, expr.at)
        if expr.operator == "/":
            return self.rules.division(operands, expr.at)
        return self.rules.arithmetic(expr.operator, function, operands, expr.at)

    def _grouped(self, expr: syntax.Grouped) -> Value | None:
        kind = expr.kind.text
        if kind not in ("softmax", "mean"):
            hint = None if kind in FUNCTIONS else did_you_mean(kind, ("softmax", "mean"))
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
            return self._size_of(expr)
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
            return self.rules.float(name, arguments, expr.span)
        if name in NUMBER_FUNCTIONS:
            return self.rules.arithmetic(name, name, arguments, expr.span)
        if name in ROUNDING_FUNCTIONS:
            return self.rules.rounding(name, arguments, expr.span)
        if name in EXTREMES:
            return self.rules.extreme(name, arguments, expr.span)
        return (
            self.rules.where(arguments, expr.span)
            if name == "where"
            else self.rules.dequantize(arguments)
        )

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
        self.place.error(f"`{name}` takes {count(takes, 'argument')}, not {given}", expr.span)
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
            takes = count(len(node.parameters), "argument")
            message = f"`{node.name.text}` takes {takes}, not {len(arguments)}"
            self.place.error(message, expr.span)
            return None
        saved = self._environment, self.rules, self._outermost
        self._outermost = self._outermost or (self.place, expr.span)
        names = (parameter.text for parameter in node.parameters)
        self._environment = dict(zip(names, arguments, strict=True))
        self.rules = Rules(Place(source, self.place.report))
        try:
            return self.value(node.body)
        finally:
            self._environment, self.rules, self._outermost = saved

    def _size_of(self, expr: syntax.Call) -> Value | None:
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
            made = value.make(type.compute) if takes(type, value) else value.default.expr
            return Typed(cast(made, type), type)
        return Typed(cast(value.expr, type), type)

    def _quantize(self, expr: syntax.Call) -> Value | None:
        target = expr.arguments[3] if len(expr.arguments) == 4 else None
        name = target.name if isinstance(target, syntax.NameRef) else ""
        if name not in ELEMENTS or not ELEMENTS[name].is_integer:
            message = "`quantize` takes a value, a scale, a zero and an integer type"
            self.place.error(message, expr.span, "`quantize(x, scale, zero, i8)`")
            return None
        operands = [(self.value(argument), argument) for argument in expr.arguments[:3]]
        return self.rules.quantize(operands, ELEMENTS[name], expr.span)
