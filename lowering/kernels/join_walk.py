"""Statements over a join that walk through its sets, so that the join itself need not be built.

    set t { x: a, y: b, at: c } = distinct(x, y, z) for x: a, y: b, z: c
        where x.col == y.row and z.row == x.row and z.col == y.col
    V[p.at] += A[p.x] * B[p.y]

    for each row r:                            the rows that a task has
      for each z with z.row == r:              enter z at z.col into a table
      for each x with x.row == r:
        for each y with y.row == x.col:
          z = table[y.col]
          if z >= 0: V[z] += A[x] * B[y]

Enters: a statement and the sets. Leaves: a `JoinWalk`, or None. An element of the join must stand
for one assignment of its binders: each of these is a key. A binder is *visited* where a path of it
equals the row or a path of a binder before it, or *found* in a table, where besides the row one
more path is known. Rows own what they write: the left side names the row, or elements that have it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from hectorite.dialects.graph import StatementOp
from hectorite.ir.index import IndexExpr, Path
from hectorite.ir.schema import Condition, Derivation, Schema, SetDecl
from hectorite.lowering.graph.derived_sets import Fields
from hectorite.lowering.graph.statement_body import indices_of
from hectorite.lowering.machine import Machine

ROW = Path("the row")
"""Stands for the row among paths."""


@dataclass(frozen=True)
class Step:
    """One binder: the elements of `set` whose path `key` is `source`, a path of an earlier binder
    or the row. If it is `found`, `key` is what is looked up, and the path `own` is the row.
    There may be `several` such elements, unless the set is known to have each pair of these once.
    `filters` are conditions that are known then, and not yet satisfied. It is `certain` that there
    is such an element, if its set was derived from whatever is known then."""

    binder: str
    set: str
    key: Fields
    source: Path
    own: Fields | None = None
    filters: tuple[Condition, ...] = ()
    several: bool = False
    certain: bool = False

    @property
    def found(self) -> bool:
        """Whether a table tells the element."""
        return self.own is not None


@dataclass(frozen=True)
class JoinWalk:
    """How a statement whose variable `element` runs over the join is done for each element of the
    set `rows`. `owner` is the binder whose elements the left side names, with the path that is
    their row; None if it names the row itself. `keys` are the fields of the join as paths."""

    element: str
    join: str
    rows: str
    steps: tuple[Step, ...]
    owner: tuple[str, Fields] | None
    keys: Mapping[str, Path] = field(hash=False)
    row_paths: frozenset[Path] = frozenset()
    """Paths of binders that are the row."""

    @property
    def finder(self) -> Step | None:
        """The step that looks an element up."""
        return next((step for step in self.steps if step.found), None)

    def resolved(self, index: IndexExpr) -> IndexExpr:
        """An index expression with paths of binders for those of the join."""
        return index.substitute(lambda path: _expr(self.path(path)))

    def path(self, path: Path) -> Path:
        """A path of the join as one of a binder; others stay."""
        if path.variable != self.element:
            return path
        key = self.keys[path.fields[0]]
        return Path(key.variable, (*key.fields, *path.fields[1:]))


def join_walk(statement: StatementOp, schema: Schema, machine: Machine) -> JoinWalk | None:
    """The walk of a statement, if it is one that can be done in this way on a CPU."""
    if machine.is_gpu:
        return None
    return walk_of(statement, schema)


def walk_of(statement: StatementOp, schema: Schema) -> JoinWalk | None:
    """The walk of a statement, whatever the machine is."""
    joins = [(name, dim) for name, dim in statement.variables.data if is_join(schema, dim)]
    if len(joins) != 1 or statement.kind.data == "assign":
        return None
    element, join = joins[0][0], str(joins[0][1])
    if statement.type.pad_value is not None or statement.value.type != statement.type.element:
        return None
    decl = schema.sets[join]
    assert decl.derivation is not None
    pairs = zip(decl.fields, decl.derivation.keys, strict=True)
    keys = {name: key.path for (name, _), key in pairs if key.path is not None}
    left, read = statement.access.data, tuple(indices_of(statement.value))
    used = [path for index in (*left, *read) for path in index.paths if path.variable == element]
    if not all(path.fields and path.fields[0] in keys for path in used):
        return None
    found = _Finder(schema, decl.derivation)
    for index in left:
        if index.path is None or index.path.variable != element:
            if element in index.variables:
                return None
            continue
        key = keys[index.path.fields[0]]
        there = Path(key.variable, (*key.fields, *index.path.fields[1:]))
        for row, rows, owner in found.roots(there):
            steps = found.steps(row, owner)
            if steps is not None:
                same = frozenset(p for p in found.tied | {row} if found.same(p) == row)
                return JoinWalk(element, join, rows, tuple(steps), owner, keys, same)
    return None


def is_join(schema: Schema, dim: object) -> bool:
    """Whether a dimension is a derived set, an element of which is one assignment of two binders
    or more."""
    decl = schema.sets.get(dim) if isinstance(dim, str) else None
    if decl is None or decl.derivation is None or len(decl.derivation.binders) < 2:
        return False
    plain = {key.variable for key in decl.derivation.keys}
    return {name for name, _ in decl.derivation.binders} <= plain


def walked_joins(statements: Sequence[StatementOp], schema: Schema) -> set[str]:
    """Joins that statements walk through, and that nothing else needs."""
    walked, needed = set[str](), set[str]()
    for statement in statements:
        walk = walk_of(statement, schema)
        dims = {str(dim) for _, dim in statement.variables.data}
        walked |= set() if walk is None else {walk.join}
        needed |= dims if walk is None else dims - {walk.join}
        needed |= {str(dim) for dim in statement.type.dims}
    return walked - needed


class _Finder:
    """The binders of a join, and which paths of them are equal."""

    def __init__(self, schema: Schema, derivation: Derivation):
        self.schema, self.derivation = schema, derivation
        self.sets = dict(derivation.binders)
        self.group: dict[Path, Path] = {}
        self.others: list[Condition] = []
        for condition in derivation.conditions:
            left, right = condition.left.path, condition.right.path
            if condition.operator == "==" and left is not None and right is not None:
                first, second = self.same(left), self.same(right)
                self.group[max(first, second)] = min(first, second)
            else:
                self.others.append(condition)
        self.tied = {path for c in derivation.conditions for path in _equal_paths(c)}

    def same(self, path: Path) -> Path:
        """The path that stands for all that are equal to this one."""
        while path in self.group and self.group[path] != path:
            path = self.group[path]
        return path

    def roots(self, left: Path) -> Iterator[tuple[Path, str, tuple[str, Fields] | None]]:
        """What rows could be: the path that is the row, the set of rows, and the owner."""
        over = self.sets[left.variable]
        if left.fields:
            yield self.same(left), self.schema.follow(over, left.fields), None
            return
        for name, target in self.schema.sets[over].fields:
            path = Path(left.variable, (name,))
            if path in self.tied:
                yield self.same(path), target, (left.variable, (name,))

    def steps(self, row: Path, owner: tuple[str, Fields] | None) -> list[Step] | None:
        """All binders in an order in which each is tied to the row or to those before it."""
        known: dict[Path, Path] = {row: ROW}
        left, steps, filters = list(self.sets), list[Step](), list(self.others)
        while left:
            order = [
                (self.open(name, known), owner is not None and name == owner[0], place, name)
                for place, name in enumerate(left)
                if self.ties(name, known, row)
            ]
            if not order:
                return None
            name = min(order)[-1]
            left.remove(name)
            ties = self.ties(name, known, row)
            ready = [c for c in filters if not {*c.left.variables, *c.right.variables} & set(left)]
            filters = [c for c in filters if c not in ready]
            step = self.step(name, ties, known, row, ready)
            if step is None or (step.found and any(s.found for s in steps)):
                return None
            if step.found and not step.several and self.is_certain(step, steps):
                step = replace(step, certain=True)
            steps.append(step)
            for path in self.tied:
                if path.variable == name:
                    known.setdefault(self.same(path), path)
        first = steps[0]
        return steps if first.source == ROW and not first.found else None

    def ties(self, name: str, known: Mapping[Path, Path], row: Path) -> list[Path]:
        """Paths of a binder whose values are known, each value once."""
        own = [p for p in sorted(self.tied | {row}) if p.variable == name and p.fields]
        found = dict[Path, Path]()
        for path in own:
            if self.same(path) in known:
                found.setdefault(self.same(path), path)
        return list(found.values())

    def open(self, name: str, known: Mapping[Path, Path]) -> int:
        """How many ties of a binder are not known yet."""
        own = {self.same(p) for p in self.tied if p.variable == name and p.fields}
        return len([path for path in own if path not in known])

    def is_certain(self, found: Step, before: Sequence[Step]) -> bool:
        """Whether what the steps before enforce is all that an element is derived from."""
        decl = self.schema.sets[found.set]
        assert decl.derivation is not None and found.own is not None
        facts = _Facts(before)
        wanted = {found.own[0]: ROW, found.key[0]: found.source}
        fields = [(key.path, wanted[f]) for (f, _), key in _keys(decl) if f in wanted]
        names = [name for name, _ in decl.derivation.binders]
        candidates = [[s.binder for s in before if s.set == o] for _, o in decl.derivation.binders]
        for chosen in product(*candidates):
            there = dict(zip(names, chosen, strict=True))
            if all(
                path is not None and facts.equal(_moved(path, there), value)
                for path, value in fields
            ) and all(facts.hold(condition, there) for condition in decl.derivation.conditions):
                return True
        return False

    def step(
        self,
        name: str,
        ties: Sequence[Path],
        known: Mapping[Path, Path],
        row: Path,
        filters: Sequence[Condition],
    ) -> Step | None:
        over = self.sets[name]
        own_checks = self.own_checks(name, ties, known)
        if own_checks is None:
            return None
        filters = (*own_checks, *filters)
        others = [path for path in ties if self.same(path) != row]
        decl = self.schema.sets[over]
        if len(ties) == 2 and len(others) == 1:
            (own,) = (path for path in ties if path not in others)
            fields = {own.fields[0], others[0].fields[0]}
            distinct = decl.derivation is not None and {f for f, _ in decl.fields} <= fields
            if len(own.fields) == len(others[0].fields) == 1:
                source, key = known[self.same(others[0])], others[0].fields
                several = not distinct
                return Step(name, over, key, source, own.fields, filters, several)
        chosen = (others or ties)[0]
        checked = [
            Condition(_expr(path), "==", _expr(known[self.same(path)]))
            for path in ties
            if path != chosen and known[self.same(path)] != ROW
        ]
        if any(path != chosen and known[self.same(path)] == ROW for path in ties):
            return None
        source = known[self.same(chosen)]
        return Step(name, over, chosen.fields, source, None, (*checked, *filters))

    def own_checks(
        self, name: str, ties: Sequence[Path], known: Mapping[Path, Path]
    ) -> list[Condition] | None:
        """What ties leave open: paths of the same binder that are equal, and the binder itself
        where an earlier one tells it."""
        checks = list[Condition]()
        first = {self.same(path): path for path in ties}
        for path in sorted(p for p in self.tied if p.variable == name):
            value = first.get(self.same(path)) or known.get(self.same(path), path)
            if value == ROW:
                return None
            if value != path:
                checks.append(Condition(_expr(path), "==", _expr(value)))
            first.setdefault(self.same(path), path)
        return checks


class _Facts:
    """What some steps enforce: which paths are equal, and other conditions."""

    def __init__(self, steps: Sequence[Step]):
        self.group: dict[Path, Path] = {}
        self.others = list[Condition]()
        for step in steps:
            if not step.found:
                self.join(Path(step.binder, step.key), step.source)
            for condition in step.filters:
                paths = _equal_paths(condition)
                if paths:
                    self.join(*paths)
                else:
                    self.others.append(condition)

    def join(self, left: Path, right: Path) -> None:
        self.group[self.same(left)] = self.same(right)

    def same(self, path: Path) -> Path:
        while self.group.get(path, path) != path:
            path = self.group[path]
        return path

    def equal(self, left: Path, right: Path) -> bool:
        return self.same(left) == self.same(right)

    def hold(self, condition: Condition, names: Mapping[str, str]) -> bool:
        """Whether a condition holds for other binders than its own."""
        paths = _equal_paths(condition)
        if paths:
            left, right = paths
            return self.equal(_moved(left, names), _moved(right, names))
        left, right = (side.rename(names) for side in (condition.left, condition.right))
        return Condition(left, condition.operator, right) in self.others


def _moved(path: Path, names: Mapping[str, str]) -> Path:
    return Path(names[path.variable], path.fields)


def _keys(decl: SetDecl) -> Iterator[tuple[tuple[str, str], IndexExpr]]:
    assert decl.derivation is not None
    return zip(decl.fields, decl.derivation.keys, strict=True)


def _equal_paths(condition: Condition) -> list[Path]:
    left, right = condition.left.path, condition.right.path
    if condition.operator != "==" or left is None or right is None:
        return []
    return [left, right]


def _expr(path: Path) -> IndexExpr:
    return IndexExpr.of(path.variable, *path.fields)
