"""The sets of a program: what binding data needs to know, apart from any IR.

set node                                   SetDecl("node")
set edge { src: node, type: etype }        SetDecl("edge", (("src", "node"), ("type", "etype")))
set c { r: row } = distinct(x.row) ...     SetDecl(..., derivation=Derivation(...))
a position set of `edge as csr(dst)`       SetDecl(..., encoded=Encoded("edge", "element", ...))
"""

from dataclasses import dataclass, field

from hectorite.ir.index import IndexExpr


@dataclass(frozen=True)
class Condition:
    """One comparison of a `where` clause; `operator` is one of == != < <= > >=."""

    left: IndexExpr
    operator: str
    right: IndexExpr

    @property
    def variables(self) -> set[str]:
        """The binders that it is about."""
        return {*self.left.variables, *self.right.variables}


@dataclass(frozen=True)
class Derivation:
    """How a derived set is built: one element for each distinct tuple of `keys`, in lexicographic
    order, over all assignments of the binders that satisfy every condition.

    `keys` has one expression for each field of the set. With one binder and no condition,
    `position` may name a field that the binder's set gains: the derived element of each of its
    elements.
    """

    keys: tuple[IndexExpr, ...]
    binders: tuple[tuple[str, str], ...]
    """(variable, set) pairs."""
    conditions: tuple[Condition, ...] = ()
    position: str | None = None


@dataclass(frozen=True)
class Encoded:
    """Which part of a set in a storage format a position set is.

    `format` is the format of the set `of`, in canonical spelling (`ir/set_format.py`). `gives` are
    the maps (owner, field, target) that the part adds to other sets, mostly to `of`: the position
    of each of its elements.
    """

    of: str
    part: str
    format: str
    gives: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class SetDecl:
    """One set: its fields are maps (name, target), its size is bound with the data.

    A target is a set, or in a position set also a number: the extent that values stay below.
    """

    name: str
    fields: tuple[tuple[str, str], ...] = ()
    derivation: Derivation | None = None
    format: str | None = None
    encoded: Encoded | None = None

    @property
    def given(self) -> bool:
        """Whether data gives it; other sets are built from those."""
        return self.derivation is None and self.encoded is None

    def target(self, field_name: str) -> str | None:
        """The set into which a field maps, or None if there is no such field."""
        return dict(self.fields).get(field_name)


@dataclass(frozen=True)
class Schema:
    """All sets of a module in order of declaration, and its declared sizes (None: not fixed)."""

    sets: dict[str, SetDecl] = field(default_factory=dict[str, SetDecl])
    sizes: dict[str, int | None] = field(default_factory=dict[str, int | None])

    def fields_of(self, name: str) -> dict[str, str]:
        """All maps out of a set, those that derived and position sets add to it included: field ->
        target, a set or a number."""
        fields = dict(self.sets[name].fields)
        for decl in self.sets.values():
            derivation = decl.derivation
            if derivation and derivation.position and derivation.binders[0][1] == name:
                fields[derivation.position] = decl.name
            for owner, field_name, target in decl.encoded.gives if decl.encoded else ():
                if owner == name:
                    fields[field_name] = target
        return fields

    def given_fields(self, name: str) -> tuple[str, ...]:
        """The maps of a set that the program declares; those of a part of a format that are maps of
        the whole set, without those that lead back."""
        fields, encoded = self.sets[name].fields, self.sets[name].encoded
        count = len(fields) if encoded is None else len(self.given_fields(encoded.of))
        return tuple(field for field, _ in fields[:count])

    def follow(self, start: str, fields: tuple[str, ...]) -> str:
        """The set that a path out of `start` ends in; KeyError if a field does not exist."""
        for name in fields:
            start = self.fields_of(start)[name]
        return start
