"""Bounds of index expressions, against trying every assignment of the variables."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectorite.backends.access import check_access, column, extent
from hectorite.backends.bound.binding import Binding
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.schema import Schema, SetDecl

SCHEMA = Schema(
    {
        "a": SetDecl("a"),
        "b": SetDecl("b", (("x", "a"), ("y", "a"))),
        "c": SetDecl("c", (("z", "b"),)),
    },
    {"N": 3},
)

PATHS = [
    Path("i"),
    Path("n"),
    Path("p"),
    Path("p", ("x",)),
    Path("p", ("y",)),
    Path("q", ("z",)),
    Path("q", ("z", "x")),
]


@st.composite
def bindings(draw: Any) -> Binding:
    a = draw(st.integers(0, 4))
    b = draw(st.integers(0, 5)) if a else 0
    c = draw(st.integers(0, 3)) if b else 0

    def values(count: int, limit: int) -> Any:
        some = st.integers(0, max(limit - 1, 0))
        return np.array(draw(st.lists(some, min_size=count, max_size=count)), np.int32)

    sets = {"a": a, "b": {"x": values(b, a), "y": values(b, a)}, "c": {"z": values(c, b)}}
    return Binding(SCHEMA, sets)


@st.composite
def expressions(draw: Any) -> IndexExpr:
    terms = [
        Term(draw(st.integers(-3, 3)), draw(st.sampled_from(PATHS)), draw(sizes))
        for _ in range(draw(st.integers(0, 3)))
    ]
    if draw(st.booleans()):
        terms.append(Term(draw(st.integers(-2, 2)), None, ("N",)))
    division = None
    if draw(st.booleans()):
        divisor = draw(st.one_of(st.integers(-4, 5), st.just("N")))
        division = (draw(st.sampled_from(["floordiv", "mod"])), divisor)
    return IndexExpr.make(terms, draw(st.integers(-4, 6)), division)


sizes = st.sampled_from([(), (), ("N",)])


@given(bindings(), expressions(), st.integers(0, 12))
def test_agrees_with_trying_everything(binding: Binding, expr: IndexExpr, limit: int):
    ranges: dict[str, str | int] = {"i": "a", "n": 4, "p": "b", "q": "c"}
    used = {name: ranges[name] for name in expr.variables}
    names = list(used)

    def value(point: tuple[int, ...]) -> int:
        at = dict(zip(names, point, strict=True))

        def follow(p: Path) -> int:
            here = at[p.variable]
            if p.fields:
                here = int(binding.path(str(used[p.variable]), p.fields)[here])
            return here

        return expr.evaluate(follow, binding.size)

    extents = [binding.size(r) if isinstance(r, str) else r for r in used.values()]
    points = list(product(*map(range, extents)))
    bad = [p for p in points if not 0 <= value(p) < limit]
    found = check_access(binding, expr, used, limit)
    assert (found is None) == (not bad)
    if found is not None:
        assert found.exact
        point = tuple(found.where[name] for name in names)
        assert value(point) == found.value and point in bad


@given(bindings(), expressions())
def test_columns_and_their_extent(binding: Binding, expr: IndexExpr):
    kept = [t for t in expr.terms if t.path is None or t.path.variable == "p"]
    expr = IndexExpr.make(kept, expr.constant, expr.division)
    values = column(binding, "b", expr)
    assert len(values) == binding.size("b")
    for p, found in enumerate(values):
        at = {path: int(binding.path("b", path.fields)[p]) for path in expr.paths}
        assert found == expr.evaluate(at.__getitem__, binding.size)
    if values.size and values.min() < 0:
        with pytest.raises(ValueError, match="negative"):
            extent(binding, "b", expr)
    else:
        assert extent(binding, "b", expr) > max(values, default=-1)


def test_a_violation_reads_well():
    binding = Binding(SCHEMA, {"a": 9, "b": {"x": [0, 8, 2], "y": [0, 1, 2]}, "c": {"z": []}})
    inside = IndexExpr.make([Term(1, Path("p", ("x",))), Term(1, Path("r"))], -1)
    assert str(check_access(binding, inside, {"p": "b", "r": 3}, 9)) == "-1 at p = 0, r = 0"
    beyond = IndexExpr.make([Term(1, Path("p", ("x",))), Term(1, Path("r"))])
    assert str(check_access(binding, beyond, {"p": "b", "r": 3}, 9)) == "10 at p = 1, r = 2"


def test_sums_beyond_64_bits():
    huge = IndexExpr.make([Term(1 << 62, Path("p", ("x",))), Term(1 << 62, Path("p", ("y",)))])
    binding = Binding(SCHEMA, {"a": 9, "b": {"x": [8], "y": [8]}, "c": {"z": []}})
    found = check_access(binding, huge, {"p": "b"}, 9)
    assert found is not None and found.value == 16 << 62


def test_too_many_residues_are_refused_as_a_bound():
    count = 1 << 13
    terms = [Term(1, Path("i")), Term(1, Path("j"))]
    expr = IndexExpr.make(terms, 0, ("mod", count))
    binding = Binding(SCHEMA, {"a": 0, "b": {"x": [], "y": []}, "c": {"z": []}})
    found = check_access(binding, expr, {"i": count, "j": count}, count - 1)
    assert found is not None and not found.exact and found.value == count - 1
