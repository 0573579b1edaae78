"""`hectorite stats`: an object for each set and tensor that has a format."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROGRAM = """
set row
set col
set nz { row: row, col: col } as sgt(16, 8)

def product(A: f32[nz], B: f32[col, J], W: f32[8, J] as nm(2, 4)) -> f32[row, 8] {
  C[z.row, j] += A[z] * B[z.col, j]
  D[r, o] += C[r, j] * W[o, j]
  return D
}
"""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    program, data = tmp_path / "product.hec", tmp_path / "data.npz"
    program.write_text(PROGRAM)
    generator = np.random.default_rng(0)
    maps = {"nz.row": generator.integers(0, 37, 90), "nz.col": generator.integers(0, 50, 90)}
    np.savez(data, **{"row": 37, "col": 50, **{k: v.astype(np.int32) for k, v in maps.items()}})
    return program, data


def test_json(files: tuple[Path, Path], hectorite: Any):
    program, data = files
    status, out, err = hectorite("stats", program, "--data", data, "--json")
    assert status == 0, err
    matrix, weights = json.loads(out)
    assert (matrix["name"], matrix["format"]) == ("nz", "sgt(row, col, 16, 8)")
    assert matrix["blocks"] <= matrix["blocks_before"]
    assert matrix["mma"] == 16 * matrix["blocks"]
    assert matrix["atomics"] == 0
    assert (weights["name"], weights["format"]) == ("W", "nm(2, 4)")
    assert weights["conflict_degree"] == 1
    assert weights["bytes"] < 64 * 8 * 4
    assert matrix["temporaries"] > 0


def test_other_formats(files: tuple[Path, Path], hectorite: Any):
    program, data = files
    status, out, _ = hectorite("stats", program, "--data", data, "--json", "--as", "nz=ell")
    assert status == 0
    facts = json.loads(out)[0]
    assert facts["format"] == "ell(row)"
    assert 0 < facts["padding"] < 1
    status, out, _ = hectorite("stats", program, "--data", data, "--as", "nz=auto", "--json")
    assert status == 0
    assert all(facts["format"] != "auto" for facts in json.loads(out))


def test_a_permuted_set(files: tuple[Path, Path], hectorite: Any):
    program, data = files
    plain, better = (
        json.loads(hectorite("stats", program, "--data", data, "--json", "--as", f"nz={text}")[1])[
            0
        ]
        for text in ("sgt(16, 8)", "permute(row).by(similar).sgt(16, 8)")
    )
    assert better["format"] == "permute(row).by(similar).sgt(row, col, 16, 8)"
    assert better["blocks"] <= plain["blocks"]
    columns = 4 * (8 * (plain["blocks"] - better["blocks"]) + plain["blocks"] - better["blocks"])
    assert better["bytes"] == plain["bytes"] - columns + 4 * 37


def test_parts_of_a_part(files: tuple[Path, Path], hectorite: Any):
    program, data = files
    text = "split(row, 3).into(split(row, 1).into(csr, permute(row).sgt(16, 8)), hyb(1, 2))"
    status, out, err = hectorite("stats", program, "--data", data, "--json", "--as", f"nz={text}")
    assert status == 0, err
    facts = json.loads(out)[0]
    few, many = facts["parts"]
    assert few["format"] == (
        "split(row, 1).into(csr(row), permute(row).by(degree).sgt(row, col, 16, 8))"
    )
    assert many["format"] == "hyb(row, col, 1, 2)"
    assert facts["bytes"] == few["bytes"] + many["bytes"]
    assert few["bytes"] == sum(part["bytes"] for part in few["parts"])
    assert facts["blocks"] == few["parts"][1]["blocks"]


def test_parts_of_a_part_are_explained(files: tuple[Path, Path], hectorite: Any):
    program, data = files
    text = "split(row, 2).into(csr, split(row, 3).into(ell, csr))"
    status, out, _ = hectorite("explain", program, "--data", data, "--as", f"nz={text}")
    assert status == 0
    (line,) = (line for line in out.splitlines() if line.startswith("split(row, 2)"))
    few, many = (int(word) for word in line.split() if word.isdecimal())
    assert "elements in short rows" in line and few + many == 90
    text = "split(row, 2).into(csr, split(row, 3).into(ell, jagged))"
    status, _, err = hectorite("stats", program, "--data", data, "--as", f"nz={text}")
    assert status == 1 and "a part of `nz as jagged(row)` is out of order: nz.row[" in err


def test_table(files: tuple[Path, Path], hectorite: Any):
    program, data = files
    status, out, err = hectorite("stats", program, "--data", data)
    assert status == 0
    assert out.splitlines()[0].split() == ["fact", "nz", "W"]
    assert "J = 64" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nz", "does not say which format"),
        ("mz=ell", "there is no set `mz`"),
        ("nz=el", "`el` is not a format of sets"),
        ("nz=jagged", "out of order"),
        ("row=csr", "this set has none"),
    ],
)
def test_faults(files: tuple[Path, Path], hectorite: Any, given: str, message: str):
    program, data = files
    status, _, err = hectorite("stats", program, "--data", data, "--as", given)
    assert status == 1
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("orders", "added"),
    [("", 0), ("schedule { y: work(row) }", 0), ("schedule { y: work(split) }", 6)],
)
def test_rows_that_a_gpu_adds_to_memory(orders: str, added: int, tmp_path: Path, hectorite: Any):
    program, data = tmp_path / "sums.hec", tmp_path / "data.npz"
    program.write_text(
        "set node\nset edge { src: node, dst: node }\n"
        "def f(x: f32[node, 32]) -> f32[node, 32] {\n  y[e.dst, o] += x[e.src, o]\n  return y\n}\n"
        + orders
    )
    # Rows of 1, 998 and 1 edges in four windows of 256: a part more for each window but the first.
    ends = np.r_[0, np.ones(998), 2].astype(np.int32)
    np.savez(data, **{"node": 5, "edge.src": ends, "edge.dst": ends})
    status, out, err = hectorite("stats", program, "--data", data, "--json")
    assert status == 0, err
    assert json.loads(out)[0]["atomics"] == added


def test_two_steps_leave_no_tensor_and_merge_their_sums(tmp_path: Path, hectorite: Any):
    program = Path(__file__).parents[1] / "examples" / "hypergraph.hec"
    data = tmp_path / "data.npz"
    h = np.r_[np.zeros(300), np.arange(1, 40)].astype(np.int32)  # one long hyperedge
    v = np.arange(339, dtype=np.int32) % 50
    np.savez(data, **{"vertex": 50, "hyperedge": 40, "pin.v": v, "pin.h": h})
    status, out, err = hectorite("stats", program, "--data", data, "--json")
    assert status == 0, err
    (facts,) = json.loads(out)
    assert facts["temporaries"] == 0
    # Its sum is made in three parts of at most 128, each added to each of its vertices.
    assert facts["atomics"] == 3 * 300 + 39
