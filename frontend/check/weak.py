"""Values while their types are being found.

A value is `Typed`, or `Weak`: made of literals, sizes and index variables only, so that it takes
the type of the first typed operand it meets. A weak value is a recipe that makes the same
expression in any type, which pushes the type down to its leaves; `//` and `%` of weak integers
stay integers, so that they are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from hectorite.frontend.check.typed import Apply, Cast, Constant, Position, Scalar, Size
from hectorite.ir.element import ELEMENTS, ElementType
from hectorite.ir.index import IndexExpr

I32, F32, BOOL = ELEMENTS["i32"], ELEMENTS["f32"], ELEMENTS["bool"]
Kind = Literal["int", "float"]


@dataclass(frozen=True, eq=False)
class Typed:
    """A value of the language type `type`. `expr` may be computed in a wider one: an expression
    over f16 is of type f16 and is computed in f32."""

    expr: Scalar
    type: ElementType

    @property
    def computed(self) -> Scalar:
        """The value in the type that arithmetic on it is done in."""
        return cast(self.expr, self.type.compute)


@dataclass(eq=False)
class Weak:
    """A value without a type of its own; `kind` tells whether an integer type can hold it."""

    kind: Kind
    recipe: Callable[[ElementType], Scalar]
    _made: dict[str, Scalar] = field(default_factory=dict[str, Scalar])

    def make(self, type: ElementType) -> Scalar:
        """The value computed in `type`, one of i32, i64, f32, f64; made once for each."""
        if type.name not in self._made:
            self._made[type.name] = self.recipe(type)
        return self._made[type.name]

    @property
    def default(self) -> Typed:
        """The value where nothing gives it a type: i32 or f32."""
        type = I32 if self.kind == "int" else F32
        return Typed(self.make(type), type)


Value = Typed | Weak


def cast(expr: Scalar, type: ElementType) -> Scalar:
    """The expression converted to a type, itself if it has it."""
    return expr if expr.type == type else Cast(type, expr)


def weak_literal(value: int | float, check: Callable[[ElementType], None]) -> Weak:
    """A number; `check` reports one that is too large for the integer type it takes."""

    def recipe(type: ElementType) -> Scalar:
        if type.is_float:
            return Constant(type, float(value))
        check(type)
        return Constant(type, value)

    return Weak("int" if isinstance(value, int) else "float", recipe)


def weak_position(index: IndexExpr) -> Weak:
    """An index variable or a path, as an integer."""
    return Weak("int", lambda type: _integer(type, lambda whole: Position(whole, index)))


def weak_size(of: str) -> Weak:
    return Weak("int", lambda type: _integer(type, lambda whole: Size(whole, of)))


def weak_apply(function: str, arguments: list[Weak], kind: Kind) -> Weak:
    """A function of weak arguments, computed in whatever type it is given."""
    stays_whole = kind == "int" and function in ("floordiv", "mod")

    def recipe(type: ElementType) -> Scalar:
        if type.is_float and stays_whole:
            return cast(recipe(I32), type)
        return Apply(type, function, tuple(argument.make(type) for argument in arguments))

    return Weak(kind, recipe)


def _integer(type: ElementType, make: Callable[[ElementType], Scalar]) -> Scalar:
    return make(type) if type.is_integer else cast(make(I32), type)
