"""Formats of sets: built, and converted back, for sets of every shape."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats import bound_format, build_parts, dedup
from hectorite.backends.formats.facts import statistics
from hectorite.backends.formats.restore import restore
from hectorite.backends.formats.storage import load, store
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.encoding import Encoding
from hectorite.ir.schema import Schema, SetDecl
from hectorite.ir.set_format import canonical, position_sets

FIELDS = ("row", "col", "k")
FORMATS = (
    "csr(row)",
    "csr(row).by(k)",
    "csr(k).by(col)",
    "csc(col)",
    "ell(row)",
    "ell(k)",
    "ell(row, 2)",
    "hyb(row, col, 1, 2)",
    "hyb(row, col, 3, 0)",
    "hyb(col, row, 2, 3)",
    "sgt(row, col, 16, 8)",
    "sgt(row, col, 8, 8)",
    "sgt(col, row, 3, 5)",
    "bsr(row, col, 4, 2)",
    "dedup(row)",
    "segmented(k, 4)",
    "bitmask(row, col, k, 2, 3)",
    "bitmask(col, row, k, 4, 1)",
    "coded_csr(row, col, k)",
    "permute(row).by(degree)",
    "split(row, 2).into(coo, coo)",
    "permute(col).by(similar)",
)


def schema(format: str | None = None) -> Schema:
    fields = (("row", "r"), ("col", "c"), ("k", "o"))
    sets = {name: SetDecl(name) for name in ("r", "c", "o")}
    return Schema({**sets, "z": SetDecl("z", fields, format=format)})


@st.composite
def bindings(draw: Any, sort: bool = False) -> Binding:
    """Sets with empty rows, equal elements, one row, one column, no elements."""
    extents = [draw(st.sampled_from([1, 2, 5, 19])) for _ in FIELDS]
    size = draw(st.sampled_from([0, 1, 3, 17, 40]))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    maps = [generator.integers(0, extent, size).astype(np.int32) for extent in extents]
    if size and draw(st.booleans()):
        again = generator.integers(0, size, size)
        maps = [values[again] for values in maps]
    if draw(st.booleans()):
        maps[0] = maps[0] // 2 * 2 % extents[0]
    if sort:
        maps[0] = np.sort(maps[0])
    sizes = dict(zip(("r", "c", "o"), extents, strict=True))
    return Binding(schema(), {**sizes, "z": dict(zip(FIELDS, maps, strict=True))})


@pytest.mark.parametrize("format", FORMATS)
@given(bound=bindings())
@settings(max_examples=25, deadline=None)
def test_round_trip(format: str, bound: Binding):
    made = canonical(bound.schema, "z", format)
    back = restore(made, FIELDS, build_parts(bound, "z", format))
    for field, values in back.items():
        expected = bound.map("z", field)
        if made.kind == "dedup":
            expected = expected[np.argsort(bound.map("z", "row"), kind="stable")]
        assert values.tolist() == expected.tolist(), field


@pytest.mark.parametrize("format", FORMATS)
@given(bound=bindings())
@settings(max_examples=10, deadline=None)
def test_position_sets_are_sets(format: str, bound: Binding):
    """Maps stay in their targets, and places lead to positions that lead back."""
    decls = position_sets(bound.schema, "z", format)
    bound = Binding(bound.schema, bound.given)
    bound.extend(Schema({decl.name: decl for decl in decls}))
    for decl in decls:
        given = [(decl.name, *field) for field in decl.fields]
        assert decl.encoded is not None
        for owner, field, target in (*given, *decl.encoded.gives):
            values = bound.map(owner, field)
            assert len(values) == bound.size(owner) and values.dtype == np.int32
            assert not len(values) or 0 <= values.min() <= values.max() < bound.size(target)
        for owner, field, target in decl.encoded.gives:
            if field == "place":
                elem = bound.path(target, ("elem",))[bound.map(owner, field)]
                assert elem.tolist() == list(range(bound.size(owner)))


@given(bound=bindings())
@settings(max_examples=25, deadline=None)
def test_padding_keeps_to_its_row(bound: Binding):
    for format, field in (
        ("ell(row)", "row"),
        ("segmented(k, 4)", "k"),
        ("hyb(row,col,1,2)", "row"),
    ):
        for part in build_parts(bound, "z", format).values():
            *maps, elem, full = part.fields
            at = FIELDS.index(field)
            held = bound.map("z", field)[elem]
            assert (maps[at][full == 1] == held[full == 1]).all()
            degree = np.bincount(
                bound.map("z", field), minlength=bound.size(bound.target("z", (field,)))
            )
            busy = degree[maps[at]] > 0
            assert (maps[at][busy] == held[busy]).all()


@given(bound=bindings(sort=True))
@settings(max_examples=20, deadline=None)
def test_jagged_is_as_given(bound: Binding):
    (part,) = build_parts(bound, "z", "jagged(row)").values()
    assert part.fields[3].tolist() == list(range(bound.size("z")))


def test_jagged_wants_order():
    maps = {"row": [0, 2, 1, 0], "col": [0] * 4, "k": [0] * 4}
    data = {"r": 3, "c": 1, "o": 1, "z": {k: np.array(v, np.int32) for k, v in maps.items()}}
    with pytest.raises(HectoriteError, match=r"z\.row\[2\] is 1, after 2"):
        Binding(schema("jagged(row)"), data)


def test_permutation_that_is_given():
    sets = dict(schema().sets) | {"r": SetDecl("r", (("rank", "r"),))}
    maps = {"row": [0, 1, 2, 0], "col": [0, 1, 2, 3], "k": [0] * 4}
    data = {"c": 4, "o": 1, "z": {k: np.array(v, np.int32) for k, v in maps.items()}}
    rank = np.array([2, 0, 1], np.int32)
    bound = Binding(Schema(sets), {**data, "r": {"rank": rank}})
    parts = build_parts(bound, "z", "permute(row).by(rank)")
    assert parts["rows"].fields[0].tolist() == [1, 2, 0]
    assert parts["element"].fields[3].tolist() == [1, 2, 0, 3]
    bound = Binding(Schema(sets), {**data, "r": {"rank": rank // 2}})
    with pytest.raises(HectoriteError, match=r"r\.rank\[1\] and r\.rank\[2\] are both 0"):
        build_parts(bound, "z", "permute(row).by(rank)")


def test_a_format_of_a_permuted_set():
    maps = {"row": [0, 3, 3, 1], "col": [0, 1, 2, 0], "k": [0] * 4}
    data = {"r": 4, "c": 3, "o": 1, "z": {k: np.array(v, np.int32) for k, v in maps.items()}}
    bound = Binding(schema(), data)
    text = "permute(row).by(similar).sgt(row, col, 2, 2)"
    assert str(canonical(bound.schema, "z", text)) == text
    rows, element = position_sets(bound.schema, "z", text)
    bound.extend(Schema({decl.name: decl for decl in (rows, element)}))
    window, column = position_sets(bound.schema, element.name, "sgt(row, col, 2, 2)")
    bound.extend(Schema({decl.name: decl for decl in (window, column)}))
    assert bound.map(rows.name, "elem").tolist() == [0, 1, 3, 2]
    assert bound.map(column.name, "window").tolist() == [0, 0, 1, 1]
    assert bound.map(column.name, "col").tolist() == [0, 0, 1, 2]


def test_dedup_without_hashes():
    """Rows are compared themselves where hashes do not tell them apart."""
    contents = np.array([[1], [2], [1], [2], [1]])
    degree = np.array([2, 0, 2, 1, 0])
    begin = np.array([0, 2, 2, 4, 5, 5])
    assert dedup._exactly(contents, degree, begin).tolist() == [0, 1, 0, 3, 1]  # pyright: ignore
    same = np.array([0, 0, 0, 0, 0])
    assert dedup._differ(contents, degree, begin, same)  # pyright: ignore


ENCODINGS = (
    Encoding(("singleton", "singleton")),
    Encoding(("dense", "compressed")),
    Encoding(("dense", "padded")),
    Encoding(("dense", "sliced"), (3, 1)),
    Encoding(("dense", "condensed"), (16, 8), "byte"),
    Encoding(("dense", "condensed"), (8, 8), "bitmap"),
    Encoding(("dense", "condensed"), (3, 5), "dense"),
    Encoding(("dense", "compressed"), (4, 4), "byte"),
    Encoding(("dense", "compressed"), (4, 2), "dense"),
)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=str)
@given(bound=bindings())
@settings(max_examples=15, deadline=None)
def test_encodings_hold_coordinates(encoding: Encoding, bound: Binding):
    """What is stored means the same coordinates, and takes the bytes that were told."""
    columns, extents = [bound.map("z", f) for f in FIELDS[:2]], [bound.size("r"), bound.size("c")]
    arrays = store(encoding, columns, extents)
    order = np.lexsort(columns[::-1])
    back = load(encoding, arrays, extents)
    assert [values.tolist() for values in back] == [c[order].tolist() for c in columns]
    size = len(order)
    last = len(arrays["at1"])
    sliced = "sliced" in encoding.levels
    height = 1 if encoding.window is None or sliced else encoding.window[0]
    bands = -(-extents[0] // height)
    counts = (size if encoding.levels[0] == "singleton" else bands, last)
    assert encoding.bytes(counts, size) == sum(array.nbytes for array in arrays.values())


def test_three_coordinates():
    columns = [np.array(v, np.int32) for v in ([1, 0, 1], [0, 2, 0], [3, 0, 1])]
    for encoding in (
        Encoding(("dense", "compressed", "singleton")),
        Encoding(("dense", "padded", "padded")),
        Encoding(("dense", "sliced", "singleton"), (1, 1)),
        Encoding(("singleton",) * 3),
    ):
        back = load(encoding, store(encoding, columns, [2, 3, 4]), [2, 3, 4])
        assert [v.tolist() for v in back] == [[0, 1, 1], [2, 0, 0], [0, 1, 3]]


@given(bound=bindings())
@settings(max_examples=25, deadline=None)
def test_a_kernel_map_is_a_mask_for_each_out_row(bound: Binding):
    """The mask says which offsets an out row has, and in rows follow in their order."""
    fields = ("col", "k", "row")
    columns = [bound.map("z", field) for field in fields]
    extents = [bound.size(bound.target("z", (field,))) for field in fields]
    facts = statistics(
        bound_format(bound, "z", "bitmask(row, col, k, 4, 2)"),
        build_parts(bound, "z", "bitmask(row, col, k, 4, 2)"),
    )
    encoding = Encoding(("dense", "masked", "singleton"))
    if len(set(zip(*columns[:2], strict=True))) < len(columns[0]):
        assert "masked" not in facts["encoding"]
        with pytest.raises(ValueError, match="once"):
            store(encoding, columns, extents)
        return
    arrays = store(encoding, columns, extents)
    order = np.lexsort(columns[::-1])
    back = load(encoding, arrays, extents)
    assert [values.tolist() for values in back] == [c[order].tolist() for c in columns]
    assert str(encoding) in facts["encoding"]
    assert facts["bytes"] == sum(array.nbytes for array in arrays.values())


@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(()),
        Encoding(("masked", "singleton")),
        Encoding(("dense", "singleton", "masked")),
        Encoding(("singleton", "masked")),
        Encoding(("dense", "masked", "masked")),
        Encoding(("dense", "packed")),
        Encoding(("compressed",)),
        Encoding(("dense", "mapped")),
        Encoding(("dense", "condensed")),
        Encoding(("dense", "compressed"), None, "bitmap"),
        Encoding(("dense", "compressed"), (0, 4), "bitmap"),
        Encoding(("dense", "padded"), (4, 4), "bitmap"),
        Encoding(("dense", "sliced")),
        Encoding(("dense", "sliced"), (4, 2)),
        Encoding(("dense", "sliced"), (4, 1), "byte"),
        Encoding(("dense", "sliced", "padded"), (4, 1)),
        Encoding(("dense", "compressed"), (4, 4)),
        Encoding(("dense", "compressed"), (32, 16), "byte"),
        Encoding(("dense", "compressed"), (4, 4), "nibble"),
    ],
    ids=str,
)
def test_encodings_that_do_not_fit(encoding: Encoding):
    assert encoding.fault()
    with pytest.raises(ValueError, match=r".+"):
        store(encoding, [np.zeros(1, np.int32)] * 2, [1, 1])
