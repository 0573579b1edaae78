"""Products that read one tensor, the one at a point and the other in a window around it.

    y[n, o, p] += x[n, c, p] * w[o, c]           z[n, q, p] += x[n, c, p + r - 1] * u[q, c, r]

Enters: a binding of the first, and the tensor. Leaves: bindings that know the window of each of the
others: the access `x[n, c, p + r - 1]`, and that the first reads it at r = 1.
"""

from __future__ import annotations

from collections.abc import Iterator

from hectorite.ir.dataflow import Dataflow, Node
from hectorite.ir.formula import Access
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.statement_form import Form
from hectorite.lowering.rules.binding import Binding, WindowOf
from hectorite.lowering.rules.split import Sight, Split
from hectorite.lowering.rules.term import REST, Tensor


def windows(
    flow: Dataflow, narrow: Node, binding: Binding, name: str, sight: Sight
) -> Iterator[Binding]:
    """Bindings with the windows in which other products read a tensor, each window once."""
    value, root = binding.tensors[name][0], binding.root
    arguments = sight.statement.arguments
    number = next(n for n, a in enumerate(arguments) if isinstance(a, Tensor) and a.name == name)
    seen = set[WindowOf]()
    for user in sorted(flow.users[value.node]):
        node = flow.nodes[user]
        if node.form is None or narrow.form is None or not _wider(node.form, narrow.form):
            continue
        for split in sight.splits(node.form):
            read = split.parts[number][0]
            if node.operands[read.slot] != value.node or read.access is None or root is None:
                continue
            found = None
            if value.access is not None and split.left == root.left:
                found = _window(binding, split, value.access, read.access)
            if found is not None and found.window not in seen and found.window is not None:
                seen.add(found.window)
                yield found


def _wider(form: Form, other: Form) -> bool:
    """Whether a form has more variables, which a window needs."""
    return _longer(form) > _longer(other)


def _longer(form: Form) -> int:
    return sum(dim != 1 for _, dim in form.dims)


def _point(index: IndexExpr, binding: Binding, left: set[str]) -> IndexExpr:
    """An index without summed variables of a window of one, which are always 0."""
    kept = [
        term
        for term in index.terms
        if term.path is None
        or term.path.fields
        or term.path.variable in left
        or binding.dims.get(term.path.variable) != 1
    ]
    return IndexExpr.make(kept, index.constant, index.division)


def _window(binding: Binding, split: Split, narrow: Access, wide: Access) -> Binding | None:
    """The binding with the window, if `wide` is `narrow` with more variables."""
    more, places = binding.copy(), list[tuple[str, int]]()
    left = {name for index in split.left for name in index.variables}
    shared = [name for index in wide for name in index.variables if name in left]
    if len(narrow) != len(wide) or any(
        split.dims[name] != binding.dims.get(name) for name in shared
    ):
        return None
    names = {name: name for name in left}
    access = list[IndexExpr]()
    for at, other in zip(narrow, wide, strict=True):
        one, name = _point(at, binding, left), other.variable
        if name is not None and name not in names and one.variable is not None:
            # A summed variable of both.
            if split.dims[name] != binding.dims[one.variable] or one.variable in left:
                return None
            names[name] = one.variable
        extra = [term for term in other.terms if term.path and term.path.variable not in names]
        rest = [term for term in other.terms if term not in extra]
        if len(extra) > 1 or other.division is not None or one.division is not None:
            return None
        kept = IndexExpr.make(rest, other.constant).rename(names)
        if not extra:
            if kept != one:
                return None
            access.append(one)
            continue
        place = _place(split, extra[0], one, kept)
        if place is None:
            return None
        path = extra[0].path
        assert path is not None
        fresh = more.fresh(REST)
        more.letters[fresh], more.dims[fresh] = REST, split.dims[path.variable]
        step = Term(extra[0].coefficient, Path(fresh))
        access.append(IndexExpr.make((*kept.terms, step), kept.constant))
        places.append((fresh, place))
        names[path.variable] = fresh
    more.window = WindowOf(tuple(access), tuple(places))
    return more if places else None


def _place(split: Split, extra: Term, narrow: IndexExpr, kept: IndexExpr) -> int | None:
    """Where in its range a variable stands when the wide access is the narrow one."""
    path = extra.path
    if path is None or path.fields or extra.sizes or narrow.terms != kept.terms:
        return None
    extent, gap = split.dims[path.variable], narrow.constant - kept.constant
    if not isinstance(extent, int) or gap % extra.coefficient:
        return None
    place = gap // extra.coefficient
    return place if 0 <= place < extent else None
