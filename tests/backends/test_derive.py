"""Derived sets, against a nested loop over all assignments of the binders."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hectorite.backends.bound.binding import Binding
from hectorite.backends.derived import elements as derive_module
from hectorite.backends.derived.elements import COMPARE, derive
from hectorite.backends.reference import data as reference_data
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.index import IndexExpr, Path, Term
from hectorite.ir.schema import Condition, Derivation, Schema, SetDecl

SCHEMA = Schema(
    {
        "r": SetDecl("r"),
        "s": SetDecl("s"),
        "a": SetDecl("a", (("row", "r"), ("col", "s"))),
        "b": SetDecl("b", (("row", "s"), ("col", "r"))),
    }
)
LIMIT = 6
PLAIN = {
    "x": [IndexExpr.of("x"), IndexExpr.of("x", "row"), IndexExpr.of("x", "col")],
    "y": [IndexExpr.of("y"), IndexExpr.of("y", "row"), IndexExpr.of("y", "col")],
    "z": [IndexExpr.of("z", "row"), IndexExpr.of("z", "col")],
}
SUM = IndexExpr.make([Term(1, Path("x", ("row",))), Term(-1, Path("y", ("col",)))], 1)


@st.composite
def bindings(draw: Any) -> Binding:
    def values(count: int) -> Any:
        return np.array(
            draw(st.lists(st.integers(0, LIMIT - 1), min_size=count, max_size=count)), np.int32
        )

    a, b = draw(st.integers(0, LIMIT)), draw(st.integers(0, LIMIT))
    return Binding(
        SCHEMA,
        {
            "r": LIMIT,
            "s": LIMIT,
            "a": {"row": values(a), "col": values(a)},
            "b": {"row": values(b), "col": values(b)},
        },
    )


@st.composite
def derivations(draw: Any) -> Derivation:
    binders = (("x", "a"), ("y", "b"), ("z", "a"))[: draw(st.integers(1, 3))]
    plain = [expr for variable, _ in binders for expr in PLAIN[variable]]
    sides = [*plain, IndexExpr.make([], 2), *([SUM] if len(binders) > 1 else [])]
    comparisons = st.sampled_from(["==", "==", "!=", "<", "<=", ">", ">="])
    conditions = st.builds(Condition, st.sampled_from(sides), comparisons, st.sampled_from(sides))
    keys = draw(st.lists(st.sampled_from(plain), min_size=1, max_size=3))
    return Derivation(tuple(keys), binders, tuple(draw(st.lists(conditions, max_size=3))))


def every_tuple(binding: Binding, derivation: Derivation) -> list[tuple[int, ...]]:
    sets = dict(derivation.binders)
    found: set[tuple[int, ...]] = set()
    for point in product(*(range(binding.size(s)) for s in sets.values())):
        at = dict(zip(sets, point, strict=True))

        def follow(p: Path, at: dict[str, int] = at) -> int:
            return int(binding.path(sets[p.variable], p.fields)[at[p.variable]])

        if all(
            COMPARE[c.operator](c.left.evaluate(follow), c.right.evaluate(follow))
            for c in derivation.conditions
        ):
            found.add(tuple(key.evaluate(follow) for key in derivation.keys))
    return sorted(found)


@pytest.mark.parametrize("chunk", [1, 3, 1 << 22])
@given(bindings(), derivations())
def test_agrees_with_nested_loops(chunk: int, binding: Binding, derivation: Derivation):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derive_module, "CHUNK", chunk)
        made = derive(binding, "d", derivation, ["r"] * len(derivation.keys))
    wanted = every_tuple(binding, derivation)
    assert made.size == len(wanted)
    assert list(zip(*(values.tolist() for values in made.fields), strict=True)) == wanted
    assert all(values.dtype == np.int32 for values in made.fields)


@pytest.mark.parametrize("points", [1, 5, 1 << 22])
@given(bindings(), derivations())
def test_the_reference_agrees_with_nested_loops(
    points: int, binding: Binding, derivation: Derivation
):
    fields = tuple((f"k{number}", "r") for number in range(len(derivation.keys)))
    schema = Schema({**SCHEMA.sets, "d": SetDecl("d", fields, derivation)})
    maps = {(s, f): binding.map(s, f) for s in ("a", "b") for f in ("row", "col")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_data, "POINTS", points)
        data = reference_data.Data(schema, {s: binding.size(s) for s in SCHEMA.sets}, maps)
    wanted = every_tuple(binding, derivation)
    assert data.size("d") == len(wanted)
    made = [data.map("d", name).tolist() for name, _ in fields]
    assert list(zip(*made, strict=True)) == wanted


@given(bindings(), st.lists(st.sampled_from(PLAIN["x"]), min_size=1, max_size=3))
def test_positions(binding: Binding, keys: list[IndexExpr]):
    made = derive(binding, "d", Derivation(tuple(keys), (("x", "a"),)), ["r"] * len(keys))
    assert made.position is not None and made.position.dtype == np.int32
    for key, values in zip(keys, made.fields, strict=True):
        assert key.path is not None
        assert (values[made.position] == binding.path("a", key.path.fields)).all()


def test_a_key_outside_its_target():
    binding = Binding(
        SCHEMA,
        {"r": 4, "s": 9, "a": {"row": [1], "col": [7]}, "b": {"row": [7], "col": [2]}},
    )
    same = Condition(IndexExpr.of("x", "col"), "==", IndexExpr.of("y", "row"))
    binders = (("x", "a"), ("y", "b"))
    with pytest.raises(HectoriteError, match="is 7, which is not an element of `r`"):
        derive(binding, "d", Derivation((IndexExpr.of("y", "row"),), binders, (same,)), ["r"])
