"""Statements of a `Dataflow` while they are rewritten: opened, changed, and put back.

Enters: a node. Leaves: a `Statement`, whose body reads nodes by their numbers (`Read.slot`), so
that parts of several statements go together; and the node of a changed one.

    flow node 5: Form(add [i0, i1] ... #0[i0, i2] * #1[i2, i1]) of nodes 3, 4
    opened:      add [n, o] for (n: node, o: 64, i: 64) { #3[n, i] * #4[i, o] }
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.element import ELEMENTS
from hectorite.ir.formula import (
    Access,
    Formula,
    Read,
    indices,
    reads,
    rebuild,
    with_indices,
    with_slots,
)
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Schema
from hectorite.ir.space import Dim
from hectorite.ir.statement_form import Shape, form
from hectorite.lowering.graph.derived_sets import Fields, resolve
from hectorite.lowering.structural.terms import Term, element_of, is_number, terms_of

KINDS = ("assign", "add", "mul", "max", "min")


@dataclass(frozen=True)
class Statement:
    """A statement whose operands are node numbers."""

    kind: str
    left: Access
    dims: Mapping[str, Dim]
    shape: Shape
    body: Formula
    init: int | None = None
    name: str | None = None

    @property
    def alone(self) -> tuple[str, ...]:
        """Variables that stand alone on the left."""
        return tuple(index.variable for index in self.left if index.variable is not None)

    @property
    def reduced(self) -> tuple[str, ...]:
        """Variables that do not stand alone on the left."""
        return tuple(name for name in self.dims if name not in self.alone)

    @property
    def plain_left(self) -> bool:
        """Whether the left accesses are distinct plain variables."""
        return len(set(self.alone)) == len(self.left)

    @property
    def is_plain_tensor(self) -> bool:
        """Whether nothing but its elements can be seen of the result."""
        return self.shape.pad is None and self.shape.format is None


def opened(flow: Dataflow, number: int) -> Statement | None:
    """The statement of a node; None for inputs, other kinds of nodes and those with a schedule."""
    return _opened(flow.nodes[number])


@lru_cache(maxsize=4096)
def _opened(node: Node) -> Statement | None:
    made = node.form
    if made is None or made.body is None or made.kind not in KINDS or made.note is not None:
        return None
    names = _names(node.hints, [name for name, _ in made.dims])
    body = with_slots(made.body, dict(enumerate(node.operands)))
    return Statement(
        made.kind,
        tuple(index.rename(names) for index in made.left),
        {names[name]: dim for name, dim in made.dims},
        made.shape,
        with_indices(body, lambda index: index.rename(names)),
        node.operands[-1] if made.init else None,
        node.name,
    )


def put(flow: Dataflow, statement: Statement) -> int:
    """The node of a statement, with its paths made short; there may have been an equal one."""
    schema = flow.schema

    def shorter(index: IndexExpr) -> IndexExpr:
        return shortened(schema, statement.dims, index)

    made, slots, names = form(
        statement.kind,
        [shorter(index) for index in statement.left],
        statement.dims,
        statement.shape,
        with_indices(statement.body, shorter),
        statement.init is not None,
    )
    operands = list(slots) if statement.init is None else [*slots, statement.init]
    return flow.add(made, operands, statement.name, names)


def shortened(schema: Schema, dims: Mapping[str, Dim], index: IndexExpr) -> IndexExpr:
    """An index expression of the same value with the shortest paths."""
    if not any(len(path.fields) > 1 for path in index.paths):
        return index
    try:
        return index.substitute(
            lambda path: (
                resolve(schema, str(dims[path.variable]), path)
                if path.fields
                else IndexExpr.of(path.variable)
            )
        )
    except ValueError:
        return index


def computed(flow: Dataflow, formula: Formula) -> str:
    """The element type of a formula's value."""
    return element_of(formula, lambda slot: flow.nodes[slot].shape.element)


def product_of(flow: Dataflow, statement: Statement) -> Term | None:
    """The body as one product whose factors may be taken in any order and grouping."""
    terms = sum_of(flow, statement)
    return terms[0] if terms is not None and len(terms) == 1 else None


def sum_of(flow: Dataflow, statement: Statement) -> tuple[Term, ...] | None:
    """The terms of the body, if they may be added and multiplied in any order."""
    element = computed(flow, statement.body)
    is_float = ELEMENTS[element].is_float
    if not is_number(element) or (is_float and not flow.reassociate):
        return None
    return terms_of(statement.body, is_float)


def variables_in(*formulas: Formula) -> dict[str, None]:
    """The index variables of formulas, in order."""
    return dict.fromkeys(n for f in formulas for index in indices(f) for n in index.variables)


def paths_in(variable: str, expressions: Sequence[IndexExpr]) -> list[Fields]:
    """The paths along which index expressions depend on a variable, each once, in order."""
    found = (path for index in expressions for path in index.paths)
    return list(dict.fromkeys(path.fields for path in found if path.variable == variable))


def followed(at: Mapping[str, IndexExpr]) -> Callable[[IndexExpr], IndexExpr]:
    """Replaces variables by index expressions, following maps from them. The result raises
    `ValueError` where a map would start from something that is no path."""

    def follow(path: Path) -> IndexExpr:
        index = at.get(path.variable)
        if index is None:
            return IndexExpr.of(path.variable, *path.fields)
        if not path.fields:
            return index
        if index.path is None:
            raise ValueError(f"{index} is no element of a set")
        return IndexExpr.of(index.path.variable, *index.path.fields, *path.fields)

    return lambda index: index.substitute(follow)


def relocate(flow: Dataflow, old: int, left: Access, source: int, access: Access) -> None:
    """Let what reads `old[left]` read `source[access]` instead, which has the same elements. Where
    that is no index expression, or `old` is a result, a copy takes the place of `old`."""
    shape, name = flow.nodes[old].shape, flow.nodes[old].name
    for user in sorted(flow.users[old]):
        if user in flow.nodes:
            moved = _reading(flow, user, old, left, source, access)
            if moved is not None:
                flow.replace(user, put(flow, moved))
    if old in flow.nodes and (flow.users[old] or old in flow.results):
        names = [str(index.variable) for index in left]
        dims = dict(zip(names, shape.dims, strict=True))
        flow.replace(
            old, put(flow, Statement("assign", left, dims, shape, Read(source, access), None, name))
        )


def _reading(
    flow: Dataflow, user: int, old: int, left: Access, source: int, access: Access
) -> Statement | None:
    statement = opened(flow, user)
    if statement is None or statement.init == old:
        return None

    def leaf(part: Formula) -> Formula | None:
        if not isinstance(part, Read) or part.slot != old or part.access is None:
            return None
        at = {str(mine.variable): index for mine, index in zip(left, part.access, strict=True)}
        return Read(source, tuple(map(followed(at), access)))

    try:
        return replace(statement, body=rebuild(statement.body, leaf))
    except ValueError:
        return None


def reading_paths(flow: Dataflow, number: int, axis: int) -> Iterator[tuple[int, str, Fields]]:
    """For every read of a node: who reads it, over which set and through which maps along `axis`;
    the set is empty where that index is no path out of a set."""
    for user in sorted(flow.users[number]):
        statement = opened(flow, user)
        if statement is None or statement.init == number:
            yield user, "", ()
            continue
        for read in reads(statement.body):
            if read.slot != number or read.access is None:
                continue
            path = read.access[axis].path
            over = "" if path is None else statement.dims[path.variable]
            is_set = path is not None and over in flow.schema.sets
            yield (user, str(over), path.fields) if is_set and path is not None else (user, "", ())


def affine_in(variable: str, formula: Formula, padded: Callable[[int], bool]) -> bool:
    """Whether a read without pad uses a variable inside of something that is no path, so that it
    may lie outside its tensor for an element that nothing reaches."""
    for read in reads(formula):
        for index in read.access or ():
            if variable in index.variables and index.path is None and not padded(read.slot):
                return True
    return False


def index_list(*formulas: Formula) -> list[IndexExpr]:
    """Every index expression of formulas."""
    return [index for f in formulas for index in indices(f)]


def fresh(wanted: str, taken: Mapping[str, object] | set[str]) -> str:
    """A variable name that is not taken: `u`, `u2`, `u3` ..."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}{number}", number + 1
    return name


def _names(hints: Sequence[str], canonical: Sequence[str]) -> dict[str, str]:
    usable = len(hints) == len(canonical) and len(set(hints)) == len(hints)
    return dict(zip(canonical, hints if usable else canonical, strict=True))
