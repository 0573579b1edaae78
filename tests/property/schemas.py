"""Strategies for sets and maps.

Enters: nothing. Leaves: a `Schema`: the sets of a program, with fields that lead from one to
another, two levels deep, and sets derived from others, joins included.
"""

from dataclasses import dataclass

from hypothesis import strategies as st

Dim = int | str


@dataclass(frozen=True)
class Schema:
    """Sets by name, each with its fields; `derived` are not given as data, `joined` tells that one
    of them pairs elements. `dims` are sizes by name, those in `fixed` declared with their value,
    the others variables of functions."""

    fields: dict[str, dict[str, str]]
    derived: dict[str, str]
    joined: bool
    dims: dict[str, int]
    fixed: frozenset[str]

    @property
    def text(self) -> str:
        """The declarations."""
        lines: list[str] = []
        for name, fields in self.fields.items():
            inner = ", ".join(f"{field}: {target}" for field, target in fields.items())
            head = f"set {name} {{ {inner} }}" if fields else f"set {name}"
            lines.append(f"{head} = {self.derived[name]}" if name in self.derived else head)
        lines += [f"dim {name} = {self.dims[name]}" for name in sorted(self.fixed)]
        return "\n".join(lines)

    def paths(self, start: str, depth: int = 3) -> list[tuple[str, str]]:
        """Paths out of a set and where they end, the empty one first: (".src.type", "kind")."""
        found = [("", start)]
        if depth:
            for field, target in self.fields[start].items():
                found += [(f".{field}{rest}", end) for rest, end in self.paths(target, depth - 1)]
        return found

    def extent(self, dim: Dim) -> int | None:
        """The value of a size, None for a set."""
        return dim if isinstance(dim, int) else self.dims.get(dim)


SMALL = (1, 2, 3, 4, 5, 7, 8)
MIDDLE = (15, 16, 17, 31, 32, 33)
LARGE = (64, 65, 100, 127, 128, 129, 192, 193, 200, 257)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Sets around a graph, and sizes."""
    typed_nodes, typed_edges = draw(st.booleans()), draw(st.booleans())
    fields: dict[str, dict[str, str]] = {"kind": {}}
    fields["node"] = {"type": "kind"} if typed_nodes else {}
    fields["edge"] = {"src": "node", "dst": "node"} | ({"type": "kind"} if typed_edges else {})
    derived: dict[str, str] = {}
    joined = False
    extra = draw(st.sampled_from(("", "", "link", "pairs", "types", "join", "link pairs", "steps")))
    if "link" in extra:
        fields["link"] = {"at": "edge", "to": "node"}
    if "pairs" in extra:
        fields["pair"] = {"src": "node", "dst": "node"}
        derived["pair"] = "distinct(x.dst, x.src) for x: edge"
        fields["pair"] = {"row": "node", "src": "node"}
    if extra == "types" and typed_nodes:
        fields["meet"] = {"a": "kind", "b": "node"}
        derived["meet"] = "distinct(x.src.type, x.dst) for x: edge where x.src != x.dst"
    if extra == "join":
        joined = True
        fields["walk"] = {"start": "node", "end": "node"}
        derived["walk"] = "distinct(x.src, y.dst) for x: edge, y: edge where x.dst == y.src"
    if extra == "steps":
        # Elements are assignments of two binders, each at its place in a set of distinct ends.
        joined = True
        fields["ends"] = {"start": "node", "end": "node"}
        derived["ends"] = "distinct(x.src, y.dst) for x: edge, y: edge where x.dst == y.src"
        fields["step"] = {"one": "edge", "two": "edge", "at": "ends"}
        place = "ends(x.src, y.dst)"
        derived["step"] = f"distinct(x, y, {place}) for x: edge, y: edge where x.dst == y.src"
    names = draw(st.lists(st.sampled_from("DHIK"), unique=True, max_size=3))
    dims = {name: draw(st.sampled_from(SMALL + MIDDLE)) for name in names}
    fixed = frozenset(name for name in names if draw(st.booleans()))
    return Schema(fields, derived, joined, dims, fixed)
