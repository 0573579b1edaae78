"""Derived sets by machine code, against sorting and searching in NumPy."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xdsl.parser import Parser

from hectorite.backends.bound.binding import Binding
from hectorite.backends.cpu.threads import set_threads, thread_count
from hectorite.backends.derived import elements as derive_module
from hectorite.backends.derived import native as derive_native
from hectorite.backends.derived import plan as derive_plan
from hectorite.backends.derived.elements import Derived, derive
from hectorite.backends.derived.native import run_join
from hectorite.backends.derived.plan import plan_join
from hectorite.dialects.context import make_context
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.schema import Derivation, Schema, SetDecl

SETS = """
builtin.module {
  graph.set @r
  graph.set @s
  graph.set @a {row: r, col: s}
  graph.set @b {row: s, col: r}
  graph.set @v {x: r, y: s}
  graph.set @k {dx: s, dy: s}
"""

JOINS = {
    "product": "{r: r, c: r} = distinct [x.row, y.col] for (x: a, y: b) where [x.col eq y.row]",
    "chain": "{r: r, c: s} = distinct [x.row, z.col] for (x: a, y: b, z: a) "
    "where [x.col eq y.row, y.col eq z.row]",
    "positions": "{x: a, y: b, z: v} = distinct [x, y, z] for (x: a, y: b, z: v) "
    "where [x.col eq y.row, z.x eq x.row, z.y eq x.col]",
    "voxels": "{p: v, q: v, k: k} = distinct [p, q, k] for (p: v, q: v, k: k) "
    "where [p.x eq 2*q.x + k.dx - 1, p.y eq 2*q.y + k.dy - 1]",
    "filters": "{r: r, c: r} = distinct [x.row, y.col] for (x: a, y: b) "
    "where [x.col eq y.row, x.row lt y.col, x.row ne 2, y.col ge x.col - 3]",
    "no leader": "{s: s, c: r} = distinct [x.col, y.col] for (x: b, y: b) where [x.row eq y.row]",
    "same": "{s: s} = distinct [y.row] for (x: a, y: b) where [x.col eq y.row, x.row eq y.col]",
    "divided": "{r: r, c: r} = distinct [x.row floordiv 2, y.col mod 3] for (x: a, y: b) "
    "where [x.col eq y.row]",
    "pairs": "{p: v, q: v} = distinct [p, q] for (p: v, q: v) where [p.x lt q.x]",
}


@cache
def declared(text: str) -> tuple[Schema, SetDecl]:
    """The sets above, and a derived one."""
    module = Parser(make_context(), f"{SETS}  graph.derive @d {text}\n}}").parse_module()
    schema = schema_of(module)
    return schema, schema.sets.pop("d")


def bound(text: str, count: int, extent: int, seed: int) -> tuple[Binding, Derivation, list[str]]:
    """Random maps, and the derivation of a join over them."""
    schema, decl = declared(text)
    assert decl.derivation is not None
    generator = np.random.default_rng(seed)
    sizes = {"r": extent, "s": extent + 2, "v": 9, "k": 5}
    sets: dict[str, Any] = {"r": extent, "s": extent + 2}
    for name in ("a", "b", "v", "k"):
        own = min(count, sizes.get(name, count))
        limits = [sizes[target] for _, target in schema.sets[name].fields]
        sets[name] = {
            field: generator.integers(0, limit, own) if limit else np.zeros(0, np.int32)
            for (field, _), limit in zip(schema.sets[name].fields, limits, strict=True)
        }
    return Binding(schema, sets), decl.derivation, [target for _, target in decl.fields]


def by_numpy(binding: Binding, derivation: Derivation, targets: list[str]) -> Derived:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derive_module, "plan_join", lambda *_: None)
        return derive(binding, "d", derivation, targets)


@pytest.mark.parametrize("join", JOINS)
@given(st.integers(0, 40), st.integers(1, 12), st.integers(0, 1 << 30))
@settings(max_examples=25, deadline=None)
def test_agrees_with_numpy(join: str, count: int, extent: int, seed: int):
    binding, derivation, targets = bound(JOINS[join], count, extent, seed)
    wanted = by_numpy(binding, derivation, targets)
    plan = plan_join(binding, derivation, targets)
    assert plan is not None
    made = run_join(plan)
    assert made.size == wanted.size
    for mine, theirs in zip(made.fields, wanted.fields, strict=True):
        assert mine.dtype == np.int32 and mine.tolist() == theirs.tolist()


@pytest.mark.parametrize("join", ["product", "no leader", "voxels", "positions"])
@given(st.integers(0, 300), st.integers(1, 60), st.integers(0, 1 << 30))
@settings(max_examples=25, deadline=None)
def test_hash_tables_agree_with_bitmaps(join: str, count: int, extent: int, seed: int):
    binding, derivation, targets = bound(JOINS[join], count, extent, seed)
    wanted = by_numpy(binding, derivation, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derive_native, "SHORT", 0)
        patch.setattr(derive_native, "MOST_BITS", 0)
        patch.setattr(derive_plan, "FEW_CODES", 0)
        patch.setattr(derive_plan, "DENSE", 0)
        plan = plan_join(binding, derivation, targets)
        assert plan is not None
        made = run_join(plan)
    assert [f.tolist() for f in made.fields] == [f.tolist() for f in wanted.fields]


@pytest.mark.parametrize("join", ["product", "no leader"])
@given(st.integers(0, 300), st.integers(1, 300), st.integers(0, 1 << 30))
@settings(max_examples=15, deadline=None)
def test_bits_and_registers_agree_with_bytes(join: str, count: int, extent: int, seed: int):
    binding, derivation, targets = bound(JOINS[join], count, extent, seed)
    plan = plan_join(binding, derivation, targets)
    assert plan is not None
    in_registers = run_join(plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derive_native, "SHORT", 0)
        by_bytes = run_join(plan)
        patch.setattr(derive_native, "MOST_BYTES", 0)
        by_bits = run_join(plan)
    for other in (by_bytes, by_bits):
        assert [f.tolist() for f in in_registers.fields] == [f.tolist() for f in other.fields]
        assert in_registers.ends.tolist() == other.ends.tolist()


@pytest.mark.parametrize("extent", [1, (1 << 31) - 1])
@pytest.mark.parametrize("join", ["product", "chain", "same", "no leader"])
def test_few_elements_of_sets_of_one_and_of_most(join: str, extent: int):
    """Nothing takes memory for all elements that a target could have."""
    small, derivation, targets = bound(JOINS[join], 60, 5, 3)
    sets = {
        **{of: {f: v * (extent // 7) for f, v in small.given[of].items()} for of in "abvk"},
        "r": extent,
        "s": extent,
    }
    binding = Binding(small.schema, sets)
    plan, wanted = plan_join(binding, derivation, targets), by_numpy(binding, derivation, targets)
    if join == "same" and extent > 1:
        assert plan is None and wanted.size  # two such fields do not fit one code
        return
    assert plan is not None
    made = run_join(plan)
    assert [f.tolist() for f in made.fields] == [f.tolist() for f in wanted.fields]


def test_large_sets_in_several_rounds_for_any_number_of_threads():
    binding, derivation, targets = bound(JOINS["product"], 3000, 200, 5)
    wanted = by_numpy(binding, derivation, targets)
    made = derive(binding, "d", derivation, targets)
    assert made.segments is not None and made.segments[-1] == made.size == wanted.size
    before = thread_count()
    try:
        for threads, limit in ((1, 1 << 26), (2, 1 << 10), (3, 1 << 13)):
            set_threads(threads)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(derive_native, "ROUND", limit)
                again = derive(binding, "d", derivation, targets)
            for fields in zip(made.fields, again.fields, wanted.fields, strict=True):
                assert (fields[0] == fields[1]).all() and (fields[0] == fields[2]).all()
    finally:
        set_threads(before)


def test_long_stretches_are_sorted():
    """Groups of some thousands, in a hash table."""
    binding, derivation, targets = bound(JOINS["product"], 4000, 3, 1)
    wide = Binding(
        binding.schema,
        {
            **binding.given,
            "r": 50_000,
            "b": {
                "row": np.arange(4000) % 5,
                "col": np.random.default_rng(2).integers(0, 50_000, 4000),
            },
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(derive_native, "MOST_BITS", 0)
        made = derive(wide, "d", derivation, targets)
    wanted = by_numpy(wide, derivation, targets)
    assert [f.tolist() for f in made.fields] == [f.tolist() for f in wanted.fields]


@pytest.mark.parametrize(
    "join",
    [
        "{r: r} = distinct [x.row + y.col] for (x: a, y: b) where [x.col eq y.row]",
        "{r: r} = distinct [x.row] for (x: a, y: b) where [(x.col + y.row) floordiv 2 eq 1]",
    ],
)
def test_what_is_left_to_numpy(join: str):
    """A key that may lie outside of its set, and a quotient of several binders."""
    binding, derivation, targets = bound(join, 10, 4, 1)
    assert plan_join(binding, derivation, targets) is None
