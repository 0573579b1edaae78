"""How a statement can be seen as a statement of a rule: which reads are which arguments, and which
variables are which letters.

Enters: a rule, a statement of it, and a form. Leaves: all splits, kept for each form, since the
layers of a network share forms. In a split variables are named after their letters, so that two
statements that a rule treats alike have equal keys.

    ?f[... n](x[...], w[... n])  of  add [i0, i1] for (i0: 8, i1: 4, i2: 6) #0[i0, i2] * #1[i2, i1]
    x: #0[v0, v1]   w: #1[v1, n0]   body: hole 0 * hole 1
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, product

from hectorite.ir.form_views import multiplied, pointwise, recognised, sum_terms
from hectorite.ir.formula import (
    NARY,
    Access,
    Apply,
    Constant,
    Formula,
    Index,
    Read,
    children,
    indices,
    rebuild,
)
from hectorite.ir.index import IndexExpr
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Form
from hectorite.lowering.rules.term import (
    REST,
    Law,
    Statement,
    Tensor,
    Term,
    interchangeable,
    letters_of,
)

MOST_READS = 10
MOST_CHOICES = 512
"""Statements with more reads, and splits beyond these, are left alone."""

SUM = "sum"


@dataclass(frozen=True)
class Captured:
    """What a function of a rule stands for: a body whose reads are holes, numbered in the order of
    the arguments, and the kind of statement."""

    kind: str
    body: Formula
    constants: tuple[Constant, ...] = ()


@dataclass(frozen=True, eq=False)
class Split:
    """One way to see a form as a statement of a rule."""

    form: Form
    letters: Mapping[str, str]
    """What letter each variable belongs to."""
    dims: Mapping[str, Dim]
    left: Access
    parts: tuple[tuple[Read, ...], ...]
    """The reads of each argument; slots are those of the form."""
    function: Captured
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Sizes of letters that no variable ranges over (`g` in `q:g`)."""
    shared: tuple[int, ...] = ()
    """Slots of the arguments that siblings have in common, and"""
    varied: tuple[int, ...] = ()
    """of those that they have each."""
    key: object = None
    """Equal for two forms that differ in their operands and along `singles` only."""


_KNOWN: dict[object, tuple[dict[Form, tuple[Split, ...]], dict[object, int]]] = {}
"""Splits of forms, and numbers for their keys, for statements that differ in names only."""


class Sight:
    """The splits of forms for one statement of a rule."""

    def __init__(self, law: Law, statement: Statement):
        self.law, self.statement = law, statement
        arguments = statement.arguments
        self.singles = tuple(sorted(law.singles & _mentioned(statement)))
        self.shares = any(isinstance(a, Tensor) and not a.many for a in statement.arguments)
        """Whether siblings have operands in common."""
        self.same = [
            (i, j)
            for i, one in enumerate(statement.arguments)
            for j, other in enumerate(statement.arguments[:i])
            if isinstance(one, Tensor)
            and isinstance(other, Tensor)
            and statement.function == "mul"
            and interchangeable(law, one, other)
        ]
        """Arguments that may change places: one order of them is enough."""
        self._tokens = [_tokens(argument) for argument in statement.arguments]
        self._groups = sorted(_mentioned(statement) - set(self.singles) - {REST})
        alike = tuple(replace(a, name="") if isinstance(a, Tensor) else a for a in arguments)
        pattern = statement.function, statement.left, alike, self.singles, tuple(self.same)
        self._known, self._keys = _KNOWN.setdefault(pattern, ({}, {}))

    def splits(self, form: Form) -> tuple[Split, ...]:
        """All splits of a form."""
        known = self._known.get(form)
        if known is None:
            known = self._known[form] = tuple(self._find(form))
        return known

    def _find(self, form: Form) -> Iterator[Split]:
        seen = _reads(self.statement.function, form)
        if seen is None or len(seen[0]) > MOST_READS:
            return
        reads, constants = seen
        for chosen in self._singles(form):
            options = [self._arguments(read, chosen) for read in reads]
            for places in islice(product(*options), MOST_CHOICES):
                parts = [
                    tuple(read for read, place in zip(reads, places, strict=True) if place == i)
                    for i in range(len(self.statement.arguments))
                ]
                if any(_slots(parts[i]) < _slots(parts[j]) for i, j in self.same):
                    continue
                split = self._split(form, parts, chosen, constants)
                if split is not None:
                    yield split

    def _singles(self, form: Form) -> Iterator[dict[str, str]]:
        """Variables for the letters that stand for one."""
        on_left = set(form.alone)
        some = [
            [name for name, _ in form.dims if (name in on_left) == (letter in self.statement.left)]
            for letter in self.singles
        ]
        left = [name for index in form.left for name in index.variables]
        for names in product(*some):
            kept = [n for n, s in zip(names, self.singles, strict=True) if s in self.statement.left]
            if len(set(names)) == len(names) and all(left.count(name) == 1 for name in kept):
                yield dict(zip(self.singles, names, strict=True))

    def _arguments(self, read: Read, chosen: Mapping[str, str]) -> list[int]:
        """The arguments that a read may belong to."""
        found = list[int]()
        for number, argument in enumerate(self.statement.arguments):
            tokens = self._tokens[number]
            fits = all(
                _uses(read, name, letter, tokens) == (letter in tokens or f"{letter}:" in tokens)
                for letter, name in chosen.items()
            )
            names = [index.variable for index in read.access or ()]
            whole = None not in names and len(set(names)) == len(names)
            if fits and (isinstance(argument, Tensor) or (read.access is not None and whole)):
                found.append(number)
        return found

    def _split(
        self,
        form: Form,
        parts: list[tuple[Read, ...]],
        chosen: Mapping[str, str],
        constants: tuple[Constant, ...],
    ) -> Split | None:
        for argument, part in zip(self.statement.arguments, parts, strict=True):
            is_bundle = isinstance(argument, Tensor) and argument.bundle
            if len(part) != 1 and not (is_bundle and (part or not _needs_one(argument))):
                return None
        letters = self._letters(form, parts, chosen)
        if letters is None:
            return None
        order = list(dict.fromkeys(_appearing(form.left, parts)))
        counts = dict[str, int]()
        names = dict[str, str]()
        for name in order:
            letter = letters[name]
            names[name] = f"{'v' if letter == REST else letter}{counts.get(letter, 0)}"
            counts[letter] = counts.get(letter, 0) + 1
        return self._named(form, parts, letters, names, constants)

    def _named(
        self,
        form: Form,
        parts: list[tuple[Read, ...]],
        letters: Mapping[str, str],
        names: Mapping[str, str],
        constants: tuple[Constant, ...],
    ) -> Split | None:
        def renamed(access: Access) -> Access:
            return tuple(index.rename(names) for index in access)

        holes = {
            read: Read(number, None)
            for number, read in enumerate(read for part in parts for read in part)
        }
        varying = {f"{letter}0" for letter in self.singles}
        if self.statement.function == "mul":
            kind, body = (
                SUM,
                Apply("mul", tuple(Read(n, None) for n in range(sum(map(len, parts))))),
            )
        else:
            assert form.body is not None
            kind = form.kind
            body = rebuild(
                form.body, lambda p: holes[p] if isinstance(p, Read) else _index(p, names)
            )
            body = sorted_body(body)
            if any(varying & {*index.variables} for index in indices(body)):
                return None
        read = tuple(
            tuple(Read(r.slot, None if r.access is None else renamed(r.access)) for r in part)
            for part in parts
        )
        dims = {names[name]: dim for name, dim in form.dims if name in names}
        sizes = self._sizes(read, dims)
        if sizes is None or len(names) != len(form.dims):
            return None
        left, function = renamed(form.left), Captured(kind, body, constants)
        fixed = tuple(sorted((n, str(d)) for n, d in dims.items() if n not in varying))
        shape = form.shape
        along = tuple(
            None if index.variable in varying else dim
            for index, dim in zip(left, shape.dims, strict=True)
        )
        key = (
            function,
            left,
            fixed,
            along,
            (shape.element, shape.pad, shape.format),
            tuple(tuple(r.access for r in part) for part in read),
            tuple(sizes.items()),
        )
        to = {names[name]: letter for name, letter in letters.items()}
        shared, varied = (
            tuple(
                r.slot
                for argument, part in zip(self.statement.arguments, read, strict=True)
                if isinstance(argument, Tensor) and argument.many == many
                for r in part
            )
            for many in (False, True)
        )
        number = self._keys.setdefault(key, len(self._keys))
        return Split(form, to, dims, left, read, function, sizes, shared, varied, number)

    def _letters(
        self, form: Form, parts: list[tuple[Read, ...]], chosen: Mapping[str, str]
    ) -> dict[str, str] | None:
        """The letter of every variable, from the arguments that mention it."""
        named = {name: letter for letter, name in chosen.items()}
        left = {name for index in form.left for name in index.variables}
        for name, _ in form.dims:
            if name in named:
                continue
            among = {i for i, part in enumerate(parts) if any(_has(read, name) for read in part)}
            kept = name in left
            fits = [
                letter
                for letter in self._groups
                if (letter in self.statement.left) == kept
                and {i for i, a in enumerate(self._tokens) if letter in a or f"{letter}:" in a}
                == among
            ]
            free = all(REST in self._tokens[i] for i in among) and bool(among)
            if not fits and free and (not kept or REST in self.statement.left):
                fits = [REST]
            if not fits:
                return None
            named[name] = fits[0]
        return named

    def _sizes(
        self, parts: tuple[tuple[Read, ...], ...], dims: Mapping[str, Dim]
    ) -> dict[str, int] | None:
        """Sizes of the groups that `q:g` asks for; None if they are not read so."""
        sizes = dict[str, int]()
        for argument, part in zip(self.statement.arguments, parts, strict=True):
            for token in argument.letters if isinstance(argument, Tensor) else ():
                letter, colon, group = token.partition(":")
                if not colon:
                    continue
                size = dims.get(f"{letter}0")
                divisors = [
                    index.division[1]
                    for read in part
                    for index in read.access or ()
                    if index.division
                    and index.division[0] == "floordiv"
                    and not index.constant
                    and IndexExpr(index.terms) == IndexExpr.of(f"{letter}0")
                ]
                if len(divisors) != 1 or not isinstance(size, int):
                    return None
                if not isinstance(divisors[0], int) or not divisors[0] or size % divisors[0]:
                    return None
                sizes[group] = size // divisors[0]
        return sizes


def sorted_body(body: Formula) -> Formula:
    """The body with the terms of sums and the factors of products in one order."""

    def change(part: Formula) -> Formula | None:
        if not isinstance(part, Apply) or part.function not in NARY:
            return None
        return Apply(part.function, tuple(sorted(map(sorted_body, part.arguments), key=str)))

    return rebuild(body, change)


def _reads(function: str, form: Form) -> tuple[list[Read], tuple[Constant, ...]] | None:
    if function == "mul":
        seen = multiplied(form)
        if seen is None:
            return None
        return list(seen.factors), () if seen.coefficient is None else (seen.coefficient,)
    if not recognised(form):
        return None
    if not function.startswith("?"):
        terms = sum_terms(form) if function == "add" else _unary(form, function)
        if terms is None or not all(isinstance(term, Read) for term in terms):
            return None
    return list(dict.fromkeys(form.reads)), ()


def _unary(form: Form, function: str) -> tuple[Formula, ...] | None:
    body = form.body
    matches = pointwise(form) and isinstance(body, Apply) and body.function == function
    return children(body) if matches and body is not None else None


def _index(part: Formula, names: Mapping[str, str]) -> Formula | None:
    return Index(part.expression.rename(names), part.element) if isinstance(part, Index) else None


def _tokens(argument: Term) -> frozenset[str]:
    """Letters of an argument; of `q:g` only that it is there, as `q:`."""
    if isinstance(argument, Tensor):
        return frozenset(
            token.partition(":")[0] + ":" if ":" in token else token for token in argument.letters
        )
    return letters_of(argument)


def _mentioned(statement: Statement) -> frozenset[str]:
    found = frozenset(statement.left)
    for argument in statement.arguments:
        found |= {token.rstrip(":") for token in _tokens(argument)}
    return found


def _needs_one(argument: Term) -> bool:
    return isinstance(argument, Tensor) and argument.many


def _slots(part: tuple[Read, ...]) -> list[str]:
    return [str(read) for read in part]


def _has(read: Read, name: str) -> bool:
    return any(name in index.variables for index in read.access or ())


def _uses(read: Read, name: str, letter: str, tokens: frozenset[str]) -> bool | None:
    """Whether a read mentions a variable as the letter asks for; None if it does otherwise."""
    uses = [index for index in read.access or () if name in index.variables]
    if not uses:
        return False
    if f"{letter}:" in tokens:
        return True
    return True if len(uses) == 1 and uses[0].variable == name else None


def _appearing(left: Access, parts: list[tuple[Read, ...]]) -> Iterator[str]:
    for index in left:
        yield from index.variables
    for part in parts:
        for read in part:
            for index in read.access or ():
                yield from index.variables
