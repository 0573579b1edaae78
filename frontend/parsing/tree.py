"""Grammar rules to syntax tree: a method for each rule of `grammar.lark`, called as it is reduced.

Enters: the children of a rule, as syntax nodes, tuples of them, and tokens. Leaves: a node of
`syntax.py`, or a tuple for a list. A method is given the span of its rule and the children that
carry meaning (names, numbers, operators; no punctuation). The methods keep no state and raise
nothing, so one parser serves every text and no nesting can exhaust the stack.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from lark import Token, Transformer, v_args  # pyright: ignore[reportUnknownVariableType]

from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Span

HUGE = 1 << 80
"""Stands for every integer literal too long to be worth converting; no type holds it."""

_MEANINGFUL = frozenset(
    ("NAME", "INT", "FLOAT", "STRING", "AND", "OR", "NOT")
    + ("ASSIGN", "COMPARE", "POWER", "PRODUCT", "SUM")
)


def span_of(token: Token) -> Span:
    """Where a token stands."""
    line, column = token.line or 1, token.column or 1
    return Span(line, column, token.end_line or line, token.end_column or column + 1)


def name_of(token: Token) -> syntax.Name:
    return syntax.Name(span_of(token), str(token))


def _span_of_child(child: Any, which: int) -> Span | None:
    """The span of a child, or of the first (0) or last (-1) element of a tuple."""
    if isinstance(child, tuple):
        items = cast(tuple[Any, ...], child)
        return _span_of_child(items[which], which) if items else None
    if isinstance(child, Token):
        return span_of(child)
    return child.span if isinstance(child, syntax.Node) else None


def _span(children: list[Any]) -> Span:
    starts = (_span_of_child(child, 0) for child in children)
    ends = (_span_of_child(child, -1) for child in reversed(children))
    start = next((span for span in starts if span), None)
    end = next((span for span in ends if span), None)
    return start.to(end) if start and end else Span(1, 1, 1, 1)


def _reduce(method: Callable[..., Any], _rule: str, children: list[Any], _meta: Any) -> Any:
    kept = [c for c in children if not isinstance(c, Token) or c.type in _MEANINGFUL]
    return method(_span(children), *kept)


def _integer(text: str) -> int:
    return int(text) if len(text) <= 20 else HUGE


def _literal(value: float | bool) -> Any:
    def make(_self: Any, span: Span) -> Any:
        return syntax.Literal(span, value)

    return make


def _several(_self: Any, _span: Span, *items: Any) -> tuple[Any, ...]:
    return items


def _optional(_self: Any, _span: Span, *items: Any) -> Any:
    return items[0] if items else None


@v_args(wrapper=_reduce)
class TreeBuilder(Transformer[Token, Any]):
    """Callbacks of the parser; the names are those of the grammar's rules and aliases."""

    start = set_tail = fields = bindings = orders = params = results = dimensions = _several
    body = targets = indices = arguments = _several
    condition = format = pad = _optional
    true, false = _literal(True), _literal(False)
    infinity, nan = _literal(float("inf")), _literal(float("nan"))

    # Declarations

    def import_file(self, span: Span, path: Token) -> Any:
        return syntax.ImportDecl(span_of(path), str(path)[1:-1])

    def dim(self, span: Span, name: Token, value: int | None) -> Any:
        return syntax.DimDecl(span, name_of(name), value)

    def extent_value(self, span: Span, *value: Token) -> Any:
        return _integer(value[0]) if value else None

    def set(self, span: Span, name: Token, fields: Any, tail: tuple[Any, ...]) -> Any:
        formats = tuple(item for item in tail if isinstance(item, syntax.Format))
        derivations = tuple(item for item in tail if isinstance(item, syntax.Derivation))
        return syntax.SetDeclaration(span, name_of(name), fields, formats, derivations)

    def field(self, span: Span, name: Token, target: Token) -> Any:
        return syntax.FieldDecl(span, name_of(name), name_of(target))

    def derivation(self, span: Span, arguments: Any, binders: Any, condition: Any) -> Any:
        return syntax.Derivation(span, *_split(arguments), binders, condition)

    def binding(self, span: Span, name: Token, extent: syntax.Extent) -> Any:
        return syntax.Binder(span, name_of(name), extent)

    def fn(self, span: Span, name: Token, parameters: Any, body: syntax.Expr) -> Any:
        return syntax.ScalarFunction(span, name_of(name), parameters, body)

    def def_function(self, span: Span, name: Token, params: Any, results: Any, body: Any) -> Any:
        return syntax.Function(span, name_of(name), params, results, body)

    def schedule(self, span: Span, orders: Any) -> Any:
        return syntax.Schedule(span, orders)

    def order(self, span: Span, name: Token, *words: syntax.Word) -> Any:
        return syntax.Order(span, name_of(name), words)

    # Types and annotations

    def param(self, span: Span, name: Token, type: syntax.TypeExpr) -> Any:
        return syntax.Parameter(span, name_of(name), type)

    def type(self, span: Span, element: Any, extents: Any, *annotations: Any) -> Any:
        return syntax.TypeExpr(span, element, tuple(map(_extent_of, extents)), *annotations)

    def as_format(self, span: Span, *words: syntax.Word) -> Any:
        return syntax.Format(span, words)

    def chain(self, span: Span, *words: syntax.Word) -> Any:
        return syntax.Format(span, words)

    def place(self, span: Span, *name: Token) -> Any:
        return name_of(name[0]) if name else None

    def word(self, span: Span, name: Token, *arguments: Any) -> Any:
        return syntax.Word(span, name_of(name), arguments)

    def word_argument(self, span: Span, value: Any) -> Any:
        return syntax.WordArgument(span, None, value)

    def named_word(self, span: Span, name: Token, value: Any) -> Any:
        return syntax.WordArgument(span, name_of(name), value)

    def extent(self, span: Span, token: Token) -> Any:
        value = str(token) if token.type == "NAME" else _integer(token)
        return syntax.Extent(span, value)

    # Statements

    def assign(self, span: Span, targets: Any, operator: Token, value: syntax.Expr) -> Any:
        text = str(operator).replace(" ", "").replace("\t", "")
        return syntax.Assign(span, targets, text, span_of(operator), value)

    def target(self, span: Span, name: Token, indices: Any) -> Any:
        return syntax.Target(span, name_of(name), indices)

    def scalar_target(self, span: Span, name: Token) -> Any:
        return syntax.Target(span, name_of(name), None)

    def return_names(self, span: Span, names: tuple[syntax.Name, ...]) -> Any:
        return syntax.Return(span, names)

    def names(self, span: Span, *tokens: Token) -> Any:
        return tuple(map(name_of, tokens))

    def scan(self, span: Span, binding: syntax.Binder, body: Any) -> Any:
        return syntax.Scan(span, binding.name, binding.extent, body)

    # Expressions

    def integer(self, span: Span, token: Token) -> Any:
        return syntax.Literal(span, _integer(token))

    def real(self, span: Span, token: Token) -> Any:
        return syntax.Literal(span, float(token))

    def negative(self, span: Span, *parts: Any) -> Any:
        return syntax.Literal(span, -parts[-1].value)

    def name(self, span: Span, token: Token) -> Any:
        return syntax.NameRef(span, str(token))

    def binder(self, span: Span, name: Token, extent: syntax.Extent) -> Any:
        return syntax.Binder(span, name_of(name), extent)

    def path(self, span: Span, base: syntax.Expr, field: Token) -> Any:
        return syntax.Path(span, base, name_of(field))

    def access(self, span: Span, tensor: Token, indices: Any) -> Any:
        return syntax.Access(span, name_of(tensor), indices)

    def grouping(self, span: Span, inner: syntax.Expr) -> Any:
        return replace(inner, span=span)

    def call(self, span: Span, name: Token, arguments: Any) -> Any:
        return syntax.Call(span, name_of(name), *_split(arguments))

    def call_again(self, span: Span, inner: syntax.Call, arguments: Any) -> Any:
        return syntax.Call(span, inner.callee, *_split(arguments), inner)

    def grouped(self, span: Span, name: Token, value: syntax.Expr, keys: Any) -> Any:
        return syntax.Grouped(span, name_of(name), value, keys)

    def keyword(self, span: Span, name: Token, value: syntax.Expr) -> Any:
        return syntax.Keyword(span, name_of(name), value)

    def unary(self, span: Span, operator: Token, operand: syntax.Expr) -> Any:
        return syntax.Unary(span, str(operator), operand)

    def binary(self, span: Span, left: syntax.Expr, operator: Token, right: syntax.Expr) -> Any:
        return syntax.Binary(span, str(operator), left, right, span_of(operator))


def _split(arguments: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    keywords = tuple(item for item in arguments if isinstance(item, syntax.Keyword))
    return tuple(item for item in arguments if not isinstance(item, syntax.Keyword)), keywords


def _extent_of(expr: syntax.Expr) -> syntax.Extent:
    if isinstance(expr, syntax.NameRef):
        return syntax.Extent(expr.span, expr.name)
    if isinstance(expr, syntax.Literal) and type(expr.value) is int:
        return syntax.Extent(expr.span, expr.value)
    return syntax.Extent(expr.span, None)
