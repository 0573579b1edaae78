"""Index expressions: where a statement reads or writes a tensor.

    expression ::= sum [("floordiv" | "mod") factor]
    sum        ::= ["-"] product (("+" | "-") product)*
    product    ::= factor ("*" factor)*          at most one factor is a path
    factor     ::= integer | size | path
    size       ::= "@" name                      a set's size, a dim or a size variable
    path       ::= variable ("." field)*         e, e.src, e.src.type

An expression is an affine combination of paths and sizes, optionally divided (rounding down) or
reduced modulo a constant or a size. Expressions are immutable and canonical: equal meanings over
the same names compare equal. The text is that of the language, except that sizes are marked with
`@`, and `//` and `%` are spelled `floordiv` and `mod`, because `//` opens a comment in IR.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy.typing as npt

Factors = tuple[str, ...]
"""Names of sizes that multiply a term."""


@dataclass(frozen=True, order=True)
class Path:
    """An index variable followed through maps: `e.src.type` is Path("e", ("src", "type"))."""

    variable: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.variable, *self.fields))


@dataclass(frozen=True)
class Term:
    """coefficient * sizes... * path; without a path, a term of sizes alone."""

    coefficient: int
    path: Path | None
    sizes: Factors = ()

    @cached_property
    def key(self) -> tuple[bool, str, Factors]:
        return (self.path is None, str(self.path), self.sizes)

    def __str__(self) -> str:
        names = [*(f"@{name}" for name in self.sizes), *([str(self.path)] if self.path else [])]
        magnitude = abs(self.coefficient)
        if magnitude != 1 or not names:
            names.insert(0, str(magnitude))
        return "*".join(names)


@dataclass(frozen=True)
class IndexExpr:
    """An affine index expression with an optional final floor division or modulo.

    `division` is None or (`"floordiv"` | `"mod"`, divisor), the divisor an integer or a size name.
    """

    terms: tuple[Term, ...] = ()
    constant: int = 0
    division: tuple[str, int | str] | None = None

    @staticmethod
    def of(variable: str, *fields: str) -> "IndexExpr":
        """The expression that is one path."""
        return _of(variable, fields)

    @staticmethod
    def make(
        terms: Iterable[Term], constant: int = 0, division: tuple[str, int | str] | None = None
    ) -> "IndexExpr":
        """Canonical expression: like terms merged, zero terms dropped, paths before sizes."""
        merged: dict[tuple[bool, str, Factors], Term] = {}
        for term in terms:
            term = Term(term.coefficient, term.path, tuple(sorted(term.sizes)))
            if term.path is None and not term.sizes:
                constant += term.coefficient
                continue
            old = merged.get(term.key)
            total = term.coefficient + (old.coefficient if old else 0)
            merged[term.key] = Term(total, term.path, term.sizes)
        kept = sorted((t for t in merged.values() if t.coefficient), key=lambda t: t.key)
        return IndexExpr(tuple(kept), constant, division)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.terms, self.constant, self.division))

    @cached_property
    def path(self) -> Path | None:
        """The path, if the expression is nothing but one path."""
        if len(self.terms) == 1 and not self.constant and self.division is None:
            term = self.terms[0]
            if term.coefficient == 1 and not term.sizes:
                return term.path
        return None

    @cached_property
    def variable(self) -> str | None:
        """The index variable, if the expression is nothing but one plain variable."""
        path = self.path
        return path.variable if path is not None and not path.fields else None

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        return tuple(term.path for term in self.terms if term.path is not None)

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Names of the index variables, each once, in order."""
        return tuple(dict.fromkeys(path.variable for path in self.paths))

    def substitute(self, paths: Callable[[Path], "IndexExpr"]) -> "IndexExpr":
        """Replace every path. A replacement that divides may only stand for a whole expression."""
        if self.path is not None:
            return paths(self.path)
        terms: list[Term] = []
        constant = self.constant
        for term in self.terms:
            if term.path is None:
                terms.append(term)
                continue
            inner = paths(term.path)
            if inner.division is not None:
                raise ValueError(f"cannot put {inner} inside {self}")
            terms += [
                Term(term.coefficient * t.coefficient, t.path, (*term.sizes, *t.sizes))
                for t in (*inner.terms, Term(inner.constant, None))
            ]
        return IndexExpr.make(terms, constant, self.division)

    def rename(self, names: Mapping[str, str]) -> "IndexExpr":
        """Rename index variables; names that are not in the mapping stay."""
        return self.substitute(
            lambda path: IndexExpr.of(names.get(path.variable, path.variable), *path.fields)
        )

    def with_sizes(self, sizes: Mapping[str, int]) -> "IndexExpr":
        """Put known sizes in as constants."""
        terms: list[Term] = []
        for term in self.terms:
            coefficient = term.coefficient
            for name in term.sizes:
                coefficient *= sizes.get(name, 1)
            left = tuple(name for name in term.sizes if name not in sizes)
            terms.append(Term(coefficient, term.path, left))
        division = self.division
        if division is not None and isinstance(division[1], str):
            division = (division[0], sizes.get(division[1], division[1]))
        return IndexExpr.make(terms, self.constant, division)

    @overload
    def evaluate(self, path: Callable[[Path], int], size: Callable[[str], int] = ...) -> int: ...
    @overload
    def evaluate(
        self, path: "Callable[[Path], npt.NDArray[Any]]", size: Callable[[str], int] = ...
    ) -> "npt.NDArray[Any] | int": ...
    def evaluate(
        self, path: Callable[[Path], Any], size: Callable[[str], int] = lambda name: 0
    ) -> Any:
        """Value of the expression, of integers or of arrays of them. A zero divisor gives 0."""
        total = self.constant
        for term in self.terms:
            value = term.coefficient if term.path is None else term.coefficient * path(term.path)
            for name in term.sizes:
                value = value * size(name)
            total = total + value
        if self.division is None:
            return total
        operator, divisor = self.division
        amount = size(divisor) if isinstance(divisor, str) else divisor
        if amount == 0:
            return total * 0
        return total // amount if operator == "floordiv" else total % amount

    def __str__(self) -> str:
        text = ""
        for term in (*self.terms, *([Term(self.constant, None)] if self.constant else [])):
            sign = "-" if term.coefficient < 0 else "+"
            if not text:
                text = f"-{term}" if sign == "-" else str(term)
            else:
                text += f" {sign} {term}"
        text = text or "0"
        if self.division is None:
            return text
        operator, divisor = self.division
        divisor = f"@{divisor}" if isinstance(divisor, str) else divisor
        compound = len(self.terms) + bool(self.constant) > 1 or text.startswith("-")
        return f"({text}) {operator} {divisor}" if compound else f"{text} {operator} {divisor}"


@cache
def _of(variable: str, fields: tuple[str, ...]) -> IndexExpr:
    return IndexExpr((Term(1, Path(variable, fields)),))
