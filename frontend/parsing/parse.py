"""Text to syntax tree.

Enters: a `Source`. Leaves: a `syntax.Program`, or a `HectoriteError` with every syntax error that
could be told apart: after an error the statement that holds it (or the declaration, if it is the
head of one) is blanked out and the text is parsed again, so that positions stay true.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import cast

from lark import Lark, Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from hectorite.frontend.parsing import syntax
from hectorite.frontend.parsing.recovery import Outline, blank
from hectorite.frontend.parsing.tree import (
    TreeBuilder,  # pyright: ignore[reportUnknownVariableType]
    span_of,
)
from hectorite.ir.diagnostics import Diagnostic, Report, Source, Span, did_you_mean

MAX_ERRORS = 20
MAX_DEPTH = 100
"""How deep expressions and brackets may nest; the checker's recursion relies on it."""

DECLARATIONS = ("set", "dim", "def", "fn", "import", "schedule")
ASSIGNMENTS = ("=", "+=", "*=", "max=", "min=", "mean=")

_TERMINAL_TEXT = {
    "NAME": "a name",
    "INT": "an integer",
    "FLOAT": "a number",
    "STRING": "a file name in quotes",
    "_NL": "a new line",
    "$END": "the end of the file",
    "ASSIGN": "an assignment (`=`, `+=`, ...)",
    "COMPARE": "an operator",
    "POWER": "an operator",
    "PRODUCT": "an operator",
    "SUM": "an operator",
    "RPAR": "`)`",
    "LPAR": "`(`",
    "RSQB": "`]`",
    "LSQB": "`[`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "COMMA": "`,`",
    "COLON": "`:`",
    "DOT": "`.`",
    "EQUAL": "`=`",
    "MINUS": "`-`",
    "__ANON_0": "`->`",
}
_EXPRESSION = {"NAME", "INT", "FLOAT", "LPAR", "SUM", "TRUE", "FALSE", "INF", "NAN"}
_OPERATORS = {"SUM", "PRODUCT", "POWER", "COMPARE", "AND", "OR", "DOT"}


_CONTINUES = ("SUM", "PRODUCT", "POWER", "COMPARE", "AND", "OR", "COMMA")


class LineEnds:
    """Drops the line ends that mean nothing: inside ( ) and [ ], and after an operator or a comma
    unless the next line looks like a statement of its own (then the line is incomplete)."""

    always_accept = ("_NL", "_WRAP")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth, before = 0, ""
        for token in stream:
            if token.type in ("LPAR", "LSQB"):
                depth += 1
            elif token.type in ("RPAR", "RSQB"):
                depth -= 1
            if token.type == "_WRAP":
                if before in _CONTINUES:
                    continue
                token.type = "_NL"
            if token.type != "_NL" or depth <= 0:
                before = token.type
                yield token


@cache
def grammar() -> Lark:
    """The parser; making it costs some 50 ms, once for each process."""
    text = files("hectorite.frontend.parsing").joinpath("grammar.lark").read_text("utf-8")
    return Lark(
        text,
        parser="lalr",
        lexer="contextual",
        postlex=LineEnds(),
        transformer=TreeBuilder(),
        keep_all_tokens=True,
        maybe_placeholders=False,
    )


def parse_program(source: Source) -> syntax.Program:
    """Parse one text. Raises `HectoriteError` with up to twenty syntax errors."""
    report = Report()
    text = source.text
    outline = Outline(text)
    if outline.depth > MAX_DEPTH:
        report.add(_too_deep(source, outline.deepest))
        report.raise_errors()
    declarations: tuple[syntax.Declaration, ...] = ()
    for _ in range(MAX_ERRORS):
        try:
            made = grammar().parse(text)  # pyright: ignore[reportUnknownMemberType]
            declarations = cast(tuple[syntax.Declaration, ...], made)
            break
        except UnexpectedInput as error:
            outline, position = Outline(text), _position(error, text)
            unclosed = outline.unclosed_before(position)
            report.add(_explain(error, source, outline, unclosed))
            start, stop = outline.damaged(position, unclosed)
            if start >= stop:
                break
            text = blank(text, start, stop)
    program = syntax.Program(source, declarations)
    _validate(program, report)
    report.raise_errors()
    return program


def _token_of(error: UnexpectedToken) -> Token:
    return cast(Token, error.token)


def _position(error: UnexpectedInput, text: str) -> int:
    if isinstance(error, UnexpectedToken) and _token_of(error).type == "$END":
        return len(text)
    return error.pos_in_stream or 0


def _explain(
    error: UnexpectedInput, source: Source, outline: Outline, unclosed: int | None
) -> Diagnostic:
    """The diagnostic of one syntax error."""
    position = _position(error, outline.text)
    if unclosed is not None and not outline.same_line(unclosed, position):
        bracket = outline.text[unclosed]
        closer = {"(": ")", "[": "]", "{": "}"}[bracket]
        return Diagnostic(
            f"`{bracket}` is never closed", outline.span(unclosed), source, f"`{closer}`"
        )
    if isinstance(error, UnexpectedToken):
        accepted = set(error.accepts or error.expected)
        return _unexpected_token(_token_of(error), accepted, source)
    assert isinstance(error, UnexpectedCharacters)
    span = Span(error.line, error.column, error.line, error.column + 1)
    character = source.lines[span.line - 1][span.column - 1 : span.column]
    if character.isdigit():
        return Diagnostic("a number may not run into a name", span, source, "a space between")
    if character == '"':
        return Diagnostic("a text stands only after `import`", span, source)
    return Diagnostic(f"`{character}` is not part of the language", span, source)


def _unexpected_token(token: Token, accepted: set[str], source: Source) -> Diagnostic:
    expected = _expected(accepted)
    if token.type == "$END":
        lines = source.lines
        span = Span(len(lines), len(lines[-1]) + 1, len(lines), len(lines[-1]) + 2)
        return Diagnostic("the program ends too early", span, source, expected)
    span = span_of(token)
    if token.type == "_NL":
        line = source.lines[span.line - 1]
        end = len(line.split("#")[0].rstrip()) + 1
        span = Span(span.line, end, span.line, end + 1)
        return Diagnostic("the line ends too early", span, source, expected)
    word = token if len(token) <= 40 else token[:40] + "..."
    return Diagnostic(f"unexpected `{word}`", span, source, expected, _hint(token, accepted))


def _hint(token: Token, accepted: set[str]) -> str | None:
    """Advice on a word that stands where a keyword or an operator belongs."""
    if "DEF" in accepted and token.type == "NAME":
        near = did_you_mean(str(token), DECLARATIONS)
        return near or "statements stand inside `def name(...) -> type { ... }`"
    if str(token) == "=" and "OR" in accepted and "RPAR" in accepted:
        return "a comparison is written `==`"
    words = {name.lower() for name in accepted if name.isalpha() and name not in _TERMINAL_TEXT}
    return did_you_mean(str(token), words) if token.type == "NAME" else None


def _expected(accepted: set[str]) -> str:
    """What the parser would have taken, in words, in a fixed order."""
    left = set(accepted)
    words: list[str] = []
    if left >= _EXPRESSION:
        words.append("an expression")
        left -= _EXPRESSION | {"NOT"}
    if left >= {"SET", "DEF"}:
        words.append("a declaration (set, dim, def, fn, import, schedule)")
        left -= {word.upper() for word in DECLARATIONS}
    if "OR" in left:
        words.append("an operator")
        left -= _OPERATORS | {"LPAR", "LSQB", "COLON"}
    elif left > _OPERATORS & left:
        left -= _OPERATORS
    words += sorted({_TERMINAL_TEXT.get(name, f"`{name.lower()}`") for name in left})
    if len(words) == 1:
        return words[0]
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _too_deep(source: Source, span: Span) -> Diagnostic:
    return Diagnostic(
        "this expression nests too deeply",
        span,
        source,
        expected=f"at most {MAX_DEPTH} levels",
        hint="compute a part of it in a statement of its own",
    )


def _validate(program: syntax.Program, report: Report) -> None:
    """What the grammar lets through for the sake of a better message."""
    for declaration in program.declarations:
        pending: list[tuple[syntax.Node, int]] = [(declaration, 0)]
        while pending:
            node, depth = pending.pop()
            if depth > MAX_DEPTH:
                report.add(_too_deep(program.source, node.span))
                break
            if isinstance(node, syntax.Assign) and node.operator not in ASSIGNMENTS:
                report.add(_wrong_assignment(program.source, node))
            below = depth + 1 if isinstance(node, syntax.Expr) else 0
            pending += [(child, below) for child in syntax.children(node)]


def _wrong_assignment(source: Source, node: syntax.Assign) -> Diagnostic:
    hint = {"-=": "write += -(...)", "/=": "write *= 1 / (...)"}.get(node.operator)
    return Diagnostic(
        f"`{node.operator}` is not a way to assign",
        node.operator_span,
        source,
        expected="one of " + " ".join(f"`{text}`" for text in ASSIGNMENTS),
        hint=hint,
    )
