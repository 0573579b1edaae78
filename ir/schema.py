"""The sets of a program: what binding data needs to know, apart from any IR.

set node                                   SetDecl("node")
set edge { src: node, type: etype }        SetDecl("edge", (("src", "node"), ("type", "etype")))
set c { r: row } = distinct(x.row) ...     SetDecl(..., derivation=Derivation(...))
"""

from dataclasses import dataclass, field

from hectorite.ir.index import IndexExpr


@dataclass(frozen=True)
class Condition:
    """One comparison of a `where` clause; `operator` is one of == != < <= > >=."""

    left: IndexExpr
    operator: str
    right: IndexExpr


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
class SetDecl:
    """One set: its fields are maps (name, target set), its size is bound with the data."""

    name: str
    fields: tuple[tuple[str, str], ...] = ()
    derivation: Derivation | None = None
    format: str | None = None

    def target(self, field_name: str) -> str | None:
        """The set into which a field maps, or None if there is no such field."""
        return dict(self.fields).get(field_name)


@dataclass(frozen=True)
class Schema:
    """All sets of a module in order of declaration, and its declared sizes (None: not fixed)."""

    sets: dict[str, SetDecl] = field(default_factory=dict[str, SetDecl])
    sizes: dict[str, int | None] = field(default_factory=dict[str, int | None])

    def fields_of(self, name: str) -> dict[str, str]:
        """All maps out of a set, position fields of derived sets included: field -> target."""
        fields = dict(self.sets[name].fields)
        for decl in self.sets.values():
            derivation = decl.derivation
            if derivation and derivation.position and derivation.binders[0][1] == name:
                fields[derivation.position] = decl.name
        return fields

    def follow(self, start: str, fields: tuple[str, ...]) -> str:
        """The set that a path out of `start` ends in; KeyError if a field does not exist."""
        for name in fields:
            start = self.fields_of(start)[name]
        return start
