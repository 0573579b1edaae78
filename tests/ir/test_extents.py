"""Sizes and distinct images: counted where data is known, estimated where it is not."""

import numpy as np
import pytest

from hectorite.ir.extents import Extents
from hectorite.ir.index import IndexExpr
from hectorite.ir.schema import Derivation, Schema, SetDecl

PAIRS = Derivation(
    (IndexExpr.of("e", "src"), IndexExpr.of("e", "type")), (("e", "edge"),), position="pair"
)
SCHEMA = Schema(
    {
        "node": SetDecl("node"),
        "etype": SetDecl("etype"),
        "edge": SetDecl("edge", (("src", "node"), ("dst", "node"), ("type", "etype"))),
        "pairs": SetDecl("pairs", (("src", "node"), ("type", "etype")), PAIRS),
    },
    {"K": 4, "O": None},
)
SOURCE = np.array([0, 0, 1, 1, 2, 2], np.int32)
KIND = np.array([0, 0, 0, 1, 1, 1], np.int32)
TARGET = np.array([0, 1, 1, 1, 1, 2], np.int32)


def bound():
    sizes = {"node": 3, "etype": 2, "edge": 6}
    maps = {("edge", "src"): SOURCE, ("edge", "dst"): TARGET, ("edge", "type"): KIND}
    return Extents(SCHEMA, sizes, maps=maps)


def test_counted():
    extents = bound()
    assert extents.of("pairs") == 4
    assert extents.distinct("edge", [("src",), ("type",)]) == 4
    assert extents.distinct("edge", [("pair",)]) == 4
    assert extents.distinct("edge", [("pair", "type")]) == 2
    assert extents.distinct("pairs", [("src",)]) == 3
    assert extents.distinct("edge", [()]) == 6
    assert extents.degree("edge", ("dst",)) == 4
    assert extents.in_order("edge", ("dst",))
    assert not Extents(SCHEMA, {}).in_order("edge", ("dst",))


def test_estimated():
    extents = Extents(SCHEMA, {"node": 1000, "etype": 10})
    assert extents.of("edge") > extents.of("node")
    pairs = extents.of("pairs")
    assert 0 < pairs < min(extents.of("edge"), 10 * 1000)
    assert extents.distinct("edge", [("type",)]) == pytest.approx(10)
    assert extents.of("O") == 64
    assert extents.of("K") == 4
    assert extents.of(7) == 7


def test_many_balls_fill_all_bins_and_few_fall_apart():
    for edges, low, high in ((10**6, 9_900, 10_000), (100, 98, 100)):
        extents = Extents(SCHEMA, {"node": 1000, "etype": 10, "edge": edges})
        assert low <= extents.of("pairs") <= high


def test_maps_in_a_circle():
    sets = {"a": SetDecl("a", (("next", "b"),)), "b": SetDecl("b", (("up", "a"),))}
    assert Extents(Schema(sets)).of("a") > 0
    assert Extents(Schema({"c": SetDecl("c", (("up", "c"),))})).of("c") > 0


def test_ranges_count_as_their_mean():
    assert Extents(SCHEMA, {"node": (10, 1000)}).of("node") == pytest.approx(100)


def test_given_counts_go_first():
    counts = {("edge", frozenset({("src",)})): 17}
    assert Extents(SCHEMA, {"edge": 100}, counts).distinct("edge", [("src",)]) == 17


def test_a_set_with_another_meaning_is_sized_anew():
    extents = Extents(SCHEMA, {"node": 1000, "etype": 10, "edge": 10**6})
    first = extents.of("pairs")
    other = Derivation((IndexExpr.of("e", "type"),), (("e", "edge"),))
    sets = {**SCHEMA.sets, "pairs": SetDecl("pairs", (("type", "etype"),), other)}
    extents.declare(Schema(sets, SCHEMA.sizes))
    assert extents.of("pairs") == pytest.approx(10)
    assert first > 1000


def test_empty_sets_count_as_one():
    assert Extents(SCHEMA, {"node": 0}).of("node") == 1
