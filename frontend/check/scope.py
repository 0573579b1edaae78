"""What a program declares, and the messages' way to a place: shared by all parts of the checker."""

from __future__ import annotations

from dataclasses import dataclass, field

from hectorite.frontend.check.typed import Dim, TensorSpec
from hectorite.frontend.parsing import syntax
from hectorite.ir.diagnostics import Diagnostic, Report, Severity, Source, Span, did_you_mean
from hectorite.ir.schema import Schema

MAX_SIZE = 2**31 - 1

UNKNOWN = "?"
"""Stands for a dimension that had an error where it is declared."""


@dataclass(frozen=True)
class Signature:
    """The head of a function: what a caller needs to know."""

    declaration: syntax.Function
    source: Source
    parameters: tuple[TensorSpec, ...]
    results: tuple[TensorSpec, ...]
    sizes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.declaration.name.text


@dataclass
class Scope:
    """Everything declared at the top level of a program and its imports."""

    report: Report
    schema: Schema = field(default_factory=Schema)
    scalar_functions: dict[str, tuple[syntax.ScalarFunction, Source]] = field(
        default_factory=dict[str, tuple[syntax.ScalarFunction, Source]]
    )
    signatures: dict[str, Signature] = field(default_factory=dict[str, Signature])

    def fixed(self, dim: Dim) -> int | None:
        """The value of a dimension that is fixed in the program, else None."""
        return dim if isinstance(dim, int) else self.schema.sizes.get(dim)

    def is_set(self, dim: Dim) -> bool:
        return dim in self.schema.sets

    def same(self, left: Dim, right: Dim) -> bool:
        """Whether two dimensions are one: the same name, or an integer and a size fixed to it."""
        if left == right:
            return True
        one_is_integer = isinstance(left, int) or isinstance(right, int)
        return (
            one_is_integer
            and self.fixed(left) is not None
            and (self.fixed(left) == self.fixed(right))
        )

    def sets_with(self, field_name: str) -> list[str]:
        return [name for name in self.schema.sets if field_name in self.schema.fields_of(name)]

    def all_fields(self) -> set[str]:
        return {name for decl in self.schema.sets for name in self.schema.fields_of(decl)}


@dataclass
class Place:
    """Where messages point: a source, and the report that takes them."""

    source: Source
    report: Report

    def error(
        self,
        message: str,
        span: Span,
        expected: str | None = None,
        hint: str | None = None,
        severity: Severity = "error",
    ) -> None:
        self.report.add(Diagnostic(message, span, self.source, expected, hint, severity))

    def warning(self, message: str, span: Span, hint: str | None = None) -> None:
        self.error(message, span, None, hint, "warning")

    def unknown(self, what: str, name: syntax.Name, known: list[str], expected: str) -> None:
        """A name that stands for nothing, with the nearest one that does."""
        hint = did_you_mean(name.text, known)
        self.error(f"unknown {what} `{name.text}`", name.span, expected, hint)

    def quote(self, span: Span) -> str:
        """The source text of a span, shortened to the first line."""
        line = self.source.lines[span.line - 1]
        end = span.end_column - 1 if span.end_line == span.line else len(line)
        text = line[span.column - 1 : end].strip()
        return text if len(text) <= 40 else text[:37] + "..."
