"""What formats cost on real data: numbers that others have published, exactly.

`$HECTORITE_DATA` names the folder of the data; without it these tests are skipped.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hectorite.backends.bound.binding import Binding
from hectorite.backends.formats import bound_format
from hectorite.backends.formats.conflicts import conflict_degree
from hectorite.backends.formats.facts import condensed_blocks, statistics
from hectorite.backends.formats.storage import store
from hectorite.ir.encoding import Encoding, smaller_payload
from hectorite.ir.schema import Schema, SetDecl

DATA = Path(os.environ.get("HECTORITE_DATA", "nowhere"))

MATRIX = Schema(
    {
        "row": SetDecl("row"),
        "col": SetDecl("col"),
        "nz": SetDecl("nz", (("row", "row"), ("col", "col"))),
    }
)
PAIRS = Schema(
    {
        "voxel": SetDecl("voxel"),
        "offset": SetDecl("offset"),
        "pair": SetDecl("pair", (("in", "voxel"), ("out", "voxel"), ("k", "offset"))),
    }
)


def matrix(rows: Any, cols: Any, extents: tuple[int, int]) -> Binding:
    maps = {"row": np.asarray(rows, np.int32), "col": np.asarray(cols, np.int32)}
    return Binding(MATRIX, {"row": extents[0], "col": extents[1], "nz": maps})


def facts(bound: Binding, name: str, format: str) -> dict[str, Any]:
    made = bound_format(bound, name, format)
    return statistics(made, bound.parts(name, format))


def file(name: str) -> Any:
    if not (DATA / f"{name}.npz").exists():
        pytest.skip("$HECTORITE_DATA names no folder with this data")
    return np.load(DATA / f"{name}.npz")


@pytest.fixture
def graph(request: pytest.FixtureRequest) -> Binding:
    data = file(request.param)
    return matrix(data["nz.row"], data["nz.col"], (int(data["row"]), int(data["col"])))


# blocks_before, blocks, instructions and encoded bytes
CONDENSED = [
    ("cora", "sgt(16, 8)", 7477, 1268, 20288, 56892),
    ("cora", "sgt(8, 8)", None, 1365, 10920, None),
    ("cora", "sgt(16, 16)", 6509, 681, None, None),
    ("pubmed", "sgt(16, 8)", 84094, 11474, 183584, 506655),
    ("pubmed", "sgt(8, 8)", None, 12080, 96640, None),
    ("pubmed", "sgt(16, 16)", 81244, 6045, None, None),
]


@pytest.mark.parametrize(
    ("graph", "format", "before", "blocks", "mma", "nbytes"), CONDENSED, indirect=["graph"]
)
def test_condensing(graph: Binding, format: str, before: Any, blocks: int, mma: Any, nbytes: Any):
    found = facts(graph, "nz", format)
    assert found["blocks"] == blocks
    assert found["atomics"] == 0
    assert before is None or found["blocks_before"] == before
    assert mma is None or found["mma"] == mma
    assert nbytes is None or found["bytes"] == nbytes


@pytest.mark.parametrize(
    ("graph", "csr", "byte", "bitmap"),
    [("cora", 53060, 56892, 66624), ("pubmed", 433476, 506655, 601588)],
    indirect=["graph"],
)
def test_bytes(graph: Binding, csr: int, byte: int, bitmap: int):
    columns, extents = [graph.map("nz", f) for f in ("row", "col")], [graph.size("row")] * 2
    encodings = {
        Encoding(("dense", "compressed")): csr,
        Encoding(("dense", "condensed"), (16, 8), "byte"): byte,
        Encoding(("dense", "condensed"), (16, 8), "bitmap"): bitmap,
    }
    for encoding, expected in encodings.items():
        arrays = store(encoding, columns, extents)
        assert sum(array.nbytes for array in arrays.values()) == expected
    assert facts(graph, "nz", "csr(row)")["bytes"] == csr


@pytest.mark.parametrize(
    ("graph", "format", "slots", "padding"),
    [("cora", "hyb(1, 2)", 12543, 0.158), ("pubmed", "hyb(1, 5)", 115288, 0.231)],
    indirect=["graph"],
)
def test_buckets(graph: Binding, format: str, slots: int, padding: float):
    found = facts(graph, "nz", format)
    assert found["slots"] == slots
    assert found["padding"] == pytest.approx(padding, abs=5e-4)
    assert facts(graph, "nz", "ell")["padding"] > 0.97
    rows, count = graph.map("nz", "row"), graph.size("row")
    degree = np.pad(np.bincount(rows, minlength=count), (0, -count % 8)).reshape(-1, 8)
    tail = count - (len(degree) - 1) * 8
    slots = int((degree.max(1) * np.array([8] * (len(degree) - 1) + [tail])).sum())
    assert facts(graph, "nz", "ell(row, 8)")["slots"] == slots
    assert facts(graph, "nz", "ell(row, 8)")["bytes"] == 4 * (slots + len(degree) + 1)


def test_pairs_of_a_convolution():
    data = file("sparse_conv")
    maps = {field: data[f"pair.{field}"] for field in ("in", "out", "k")}
    sizes = {"voxel": int(data["voxel"]), "offset": int(data["offset"])}
    bound = Binding(PAIRS, {**sizes, "pair": maps})
    for tile in (64, 128):
        found = facts(bound, "pair", f"segmented(k, {tile})")
        assert 0 < found["padding"] < 0.01
        assert found["redundancy"] == 0
    assert found["redundancy_before"] == pytest.approx(1 - 285855 / (94595 * 27))
    one, three = (facts(bound, "pair", f"bitmask(128, {n})")["padding"] for n in (1, 3))
    assert three < one
    # 27 bits and where it begins for each voxel, and an in row for each pair.
    assert facts(bound, "pair", "bitmask(128, 3)")["bytes"] == 94595 * 4 + 94596 * 4 + 285855 * 4
    # Where the slots of each in row and each out row begin, and a slot of each pair for both.
    assert facts(bound, "pair", "coded_csr")["bytes"] == 2 * (94596 * 4 + 285855 * 4)


def test_spans_begin_at_the_first_column_that_is_not_covered():
    rows, cols = np.array([0, 0, 0, 0, 3, 5]), np.array([0, 3, 4, 9, 2, 7])
    assert condensed_blocks(rows, cols, (6, 10), 4, 4) == (3, 4)
    assert condensed_blocks(rows[:0], cols[:0], (6, 10), 4, 4) == (0, 0)


def test_payload_is_the_smaller():
    assert smaller_payload((16, 8), 10, 160) == "byte"
    assert smaller_payload((16, 8), 10, 161) == "bitmap"
    assert smaller_payload((32, 32), 10, 1) == "bitmap"
    full = matrix(np.repeat(np.arange(16), 8), np.tile(np.arange(8), 16), (16, 8))
    assert facts(full, "nz", "sgt(16, 8)")["encoding"].endswith("payload bitmap>")
    assert facts(full, "nz", "sgt(16, 8)")["padding"] == 0


@pytest.mark.parametrize(
    ("group", "degree"), [(4, 1.0), (16, 1.0), (32, 1.0), (64, 2.0), (128, 2.78)]
)
def test_conflicts(group: int, degree: float):
    places = np.random.default_rng(0).integers(0, group, (128, 256))
    assert conflict_degree(places) == pytest.approx(degree, abs=0 if group <= 32 else 0.05)


@pytest.mark.parametrize(
    "format",
    ["coo", "csr(row)", "csc(col)", "ell", "hyb(2, 1)", "sgt(16, 8)", "bsr(4, 4)", "dedup(row)"],
)
def test_nothing_costs_little(format: str):
    empty = matrix([], [], (5, 3))
    found = facts(empty, "nz", format)
    assert found["padding"] == 0
    assert found["bytes"] <= 64
