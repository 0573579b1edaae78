"""Index expressions: the text inside brackets to canonical affine form.

Enters: a `syntax.Expr` that stands as an index. Leaves: an `IndexExpr`, and in an `IndexReader`
the variables, binders and paths met on the way, which inference (`infer.py`) resolves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hectorite.frontend.check.scope import MAX_SIZE, Place
from hectorite.frontend.check.typed import Dim
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Span
from hectorite.ir.index import IndexExpr, Path, Term

AFFINE = "an affine combination of variables, paths and sizes, such as `2*y + r - 1`"


@dataclass
class Variable:
    """An index variable of one statement."""

    name: str
    span: Span
    binders: list[syntax.Extent] = field(default_factory=list[syntax.Extent])
    paths: dict[tuple[str, ...], Span] = field(default_factory=dict[tuple[str, ...], Span])
    """Chains of fields followed from it, with the first place of each."""


@dataclass
class IndexReader:
    """Reads the index expressions of one statement and collects its variables in order."""

    place: Place
    sizes: Sequence[str]
    """What has a size here: sets, declared sizes and size variables."""
    is_scalar: Callable[[str], bool]
    """Whether a name is a scalar, which an index variable may not share."""
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    failed: bool = False
    """Whether some index expression had an error, so that variables may be missing a place."""

    def read(self, expr: syntax.Expr) -> IndexExpr | None:
        """The canonical form of an index expression, or None after an error."""
        try:
            index = self._read(expr)
            if max((abs(t.coefficient) for t in index.terms), default=0) > MAX_SIZE:
                raise self._wrong("this integer is too large", expr.span, f"up to {MAX_SIZE}")
            return index
        except _NotAffine:
            self.failed = True
            return None

    def variable(self, name: str, span: Span) -> Variable:
        """The variable of this name, noted as standing at `span`."""
        if name not in self.variables and self.is_scalar(name):
            self.place.error(
                f"`{name}` is a scalar, so it cannot be an index variable",
                span,
                hint="rename one of the two",
            )
        return self.variables.setdefault(name, Variable(name, span))

    def bind(self, binder: syntax.Binder) -> None:
        """Note `name: extent`."""
        variable, extent = self.variable(binder.name.text, binder.name.span), binder.extent
        if isinstance(extent.value, str) and extent.value not in self.sizes:
            name = syntax.Name(extent.span, extent.value)
            expected = "a set, a size that a parameter or result names, or an integer"
            self.place.unknown("set or size", name, list(self.sizes), expected)
            self.failed = True
        else:
            variable.binders.append(extent)

    def path(self, expr: syntax.Path) -> Path:
        """A path through maps; raises `_NotAffine` after an error."""
        fields: list[str] = []
        base: syntax.Expr = expr
        while isinstance(base, syntax.Path):
            fields.insert(0, base.field.text)
            base = base.base
        if isinstance(base, syntax.Binder):
            self.bind(base)
            name, span = base.name.text, base.name.span
        elif isinstance(base, syntax.NameRef):
            name, span = base.name, base.span
        else:
            raise self._wrong("only an index variable has fields", base.span, "`variable.field`")
        chain = tuple(fields)
        self.variable(name, span).paths.setdefault(chain, expr.span)
        return Path(name, chain)

    def _read(self, expr: syntax.Expr) -> IndexExpr:
        match expr:
            case syntax.NameRef(name=name, span=span):
                self.variable(name, span)
                return IndexExpr.of(name)
            case syntax.Binder():
                self.bind(expr)
                return IndexExpr.of(expr.name.text)
            case syntax.Path():
                return IndexExpr((Term(1, self.path(expr)),))
            case syntax.Literal(value=value) if type(value) is int:
                if abs(value) > MAX_SIZE:
                    raise self._wrong("this integer is too large", expr.span, f"up to {MAX_SIZE}")
                return IndexExpr.make((), value)
            case syntax.Call() if expr.callee.text == "size":
                return IndexExpr.make([Term(1, None, (self._size(expr),))])
            case syntax.Unary(operator="-" | "+" as operator):
                inner = self._whole(expr.operand)
                return _scaled(inner, -1 if operator == "-" else 1, ())
            case syntax.Binary():
                return self._binary(expr)
            case _:
                raise self._wrong("this is not an index expression", expr.span)

    def _binary(self, expr: syntax.Binary) -> IndexExpr:
        if expr.operator in ("//", "%"):
            inner = self._whole(expr.left)
            operator = "floordiv" if expr.operator == "//" else "mod"
            return IndexExpr.make(inner.terms, inner.constant, (operator, self._divisor(expr)))
        if expr.operator not in ("+", "-", "*"):
            raise self._wrong(f"`{expr.operator}` cannot stand in an index", expr.at)
        left, right = self._whole(expr.left), self._whole(expr.right)
        if expr.operator == "*":
            return self._product(expr, left, right)
        sign = 1 if expr.operator == "+" else -1
        negated = _scaled(right, sign, ())
        return IndexExpr.make(left.terms + negated.terms, left.constant + negated.constant)

    def _product(self, expr: syntax.Binary, left: IndexExpr, right: IndexExpr) -> IndexExpr:
        if left.paths and right.paths:
            hint = self._size_hint(expr.left) or self._size_hint(expr.right)
            raise self._wrong("an index cannot multiply two variables", expr.span, hint=hint)
        if left.paths:
            left, right = right, left
        terms: list[Term] = []
        constant = left.constant * right.constant
        for term in left.terms:
            scaled = _scaled(right, term.coefficient, term.sizes)
            terms += scaled.terms
        terms += _scaled(IndexExpr(right.terms), left.constant, ()).terms
        return IndexExpr.make(terms, constant)

    def _whole(self, expr: syntax.Expr) -> IndexExpr:
        """An operand: an index that does not divide."""
        index = self._read(expr)
        if index.division is not None:
            raise self._wrong("`//` and `%` may only be the last step of an index", expr.span)
        return index

    def _divisor(self, expr: syntax.Binary) -> int | str:
        right = expr.right
        match right:
            case syntax.Literal(value=value) if type(value) is int and abs(value) <= MAX_SIZE:
                return value
            case syntax.NameRef(name=name) if name in self.sizes:
                return name
            case syntax.Call() if right.callee.text == "size":
                return self._size(right)
            case _:
                raise self._wrong(
                    f"`{expr.operator}` divides an index by a constant",
                    right.span,
                    "an integer or a size",
                    self._size_hint(right),
                )

    def _size(self, call: syntax.Call) -> str:
        argument = call.arguments[0] if len(call.arguments) == 1 else None
        if not isinstance(argument, syntax.NameRef) or call.keywords:
            raise self._wrong("`size` takes one name", call.span, "a set or a size")
        if argument.name not in self.sizes:
            raise self._wrong(
                f"`{argument.name}` is not a set or a size", argument.span, "a set or a size"
            )
        return argument.name

    def _size_hint(self, expr: syntax.Expr) -> str | None:
        if isinstance(expr, syntax.NameRef) and expr.name in self.sizes:
            return f"inside brackets a bare name is an index variable: write size({expr.name})"
        return None

    def _wrong(
        self, message: str, span: Span, expected: str = AFFINE, hint: str | None = None
    ) -> _NotAffine:
        self.place.error(message, span, expected, hint)
        return _NotAffine()


class _NotAffine(Exception):
    """Leaves an index expression whose error has been told."""


def _scaled(index: IndexExpr, factor: int, sizes: tuple[str, ...]) -> IndexExpr:
    """factor * sizes * index."""
    terms = [Term(t.coefficient * factor, t.path, (*t.sizes, *sizes)) for t in index.terms]
    if sizes:
        terms.append(Term(index.constant * factor, None, sizes))
        return IndexExpr.make(terms)
    return IndexExpr.make(terms, index.constant * factor)


def extent_dim(extent: syntax.Extent) -> Dim:
    """What a binder says; the grammar gives every binder's extent a value."""
    return 1 if extent.value is None else extent.value
