"""Sums and products taken apart: the one walk over formulas that the structural rewrites share.

Enters: a formula. Leaves: the terms that it is the sum of, each a product of factors, some of which
divide. What is neither sum nor product is a factor by itself, as is a quotient of integers, which
is rounded.

    a * b / c - (d + 0.5 * e)        + a b /c    - d    - 0.5 e
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hectorite.ir.element import ELEMENTS
from hectorite.ir.formula import Apply, Cast, Constant, Formula, Index, Read, Size, nary
from hectorite.ir.scalar import FUNCTIONS

ElementOf = Callable[[int], str]
"""The element type of the operand in a slot."""


@dataclass(frozen=True)
class Factor:
    """Something that a term is multiplied by, or divided by."""

    formula: Formula
    divides: bool = False


@dataclass(frozen=True)
class Term:
    """A product, and whether it is subtracted."""

    factors: tuple[Factor, ...]
    negative: bool = False


def terms_of(formula: Formula, is_float: bool) -> tuple[Term, ...]:
    """The terms of a sum; a formula that is no sum is its only term."""
    if isinstance(formula, Apply):
        if formula.function == "add":
            return tuple(t for a in formula.arguments for t in terms_of(a, is_float))
        if formula.function == "sub":
            first, second = formula.arguments
            return terms_of(first, is_float) + _negated(terms_of(second, is_float))
        if formula.function == "neg":
            return _negated(terms_of(formula.arguments[0], is_float))
    return (_product(formula, is_float),)


def _negated(terms: Iterable[Term]) -> tuple[Term, ...]:
    return tuple(Term(term.factors, not term.negative) for term in terms)


def _product(formula: Formula, is_float: bool) -> Term:
    function = formula.function if isinstance(formula, Apply) else ""
    if isinstance(formula, Apply) and function == "mul":
        parts = [_product(argument, is_float) for argument in formula.arguments]
        factors = tuple(factor for part in parts for factor in part.factors)
        return Term(factors, sum(part.negative for part in parts) % 2 == 1)
    if isinstance(formula, Apply) and function == "div" and is_float:
        above, below = (_product(argument, is_float) for argument in formula.arguments)
        turned = tuple(Factor(f.formula, not f.divides) for f in below.factors)
        return Term(above.factors + turned, above.negative != below.negative)
    if isinstance(formula, Apply) and function == "neg":
        inside = _product(formula.arguments[0], is_float)
        return Term(inside.factors, not inside.negative)
    return Term((Factor(formula),))


def product_formula(factors: Sequence[Factor], element: str, negative: bool = False) -> Formula:
    """The formula of a product; of none it is 1."""
    above = [factor.formula for factor in factors if not factor.divides]
    below = [factor.formula for factor in factors if factor.divides]
    value = nary("mul", above) if above else Constant(1, element)
    for divisor in below:
        value = Apply("div", (value, divisor))
    return Apply("neg", (value,)) if negative else value


def sum_formula(terms: Sequence[Term], element: str) -> Formula:
    """The formula of a sum of at least one term; those that are added come first."""
    added = [product_formula(t.factors, element) for t in terms if not t.negative]
    if not added:
        first, *rest = terms
        added, terms = [product_formula(first.factors, element, True)], rest
    value = nary("add", added)
    for term in terms:
        if term.negative:
            value = Apply("sub", (value, product_formula(term.factors, element)))
    return value


def element_of(formula: Formula, element: ElementOf) -> str:
    """The element type of a formula's value."""
    if isinstance(formula, Read):
        return element(formula.slot)
    if isinstance(formula, Apply):
        if FUNCTIONS[formula.function].result == "bool":
            return "bool"
        return element_of(formula.arguments[-1], element)
    assert isinstance(formula, Constant | Index | Size | Cast)
    return formula.element


def is_number(element: str) -> bool:
    """Whether sums and products of an element type are those of a ring."""
    kind = ELEMENTS[element]
    return kind.is_float or kind.kind in ("int", "uint")
