"""Sums over a set whose rows are in another order, or that is split, with formats that follow."""

from typing import Any

import numpy as np
import pytest

import hectorite

PROGRAM = """
set row { rank: row }
set col
set nz { row: row, col: col } as permute(row)

def both(A: f32[nz], B: f32[col, J], P: f32[row, J]) -> (f32[row, J], f32[nz], f32[nz]) {
  C[z.row, j] += A[z] * B[z.col, j]
  C[z.row, j] += P[z.row, j]
  S[z] += A[z] * P[z.row, j] * B[z.col, j]
  E[z] = exp(A[z]) * P[z.row, 0]
  return C, S, E
}
"""
FORMATS = (
    "permute(row)",
    "permute(row).by(rank)",
    "permute(row).by(similar).sgt(16, 8)",
    "permute(row).by(rank).csr(row)",
    "permute(col).by(similar).ell(row)",
    "permute(row).by(degree).permute(col).hyb(1, 2)",
    "split(row, 2).into(ell, sgt(16, 8))",
    "permute(row).split(row, 2).into(csr, coo)",
    "split(row, 1).into(permute(row).by(similar).sgt(16, 8), permute(row).by(rank).ell)",
    "split(row, 3).into(permute(col).split(row, 1).into(sgt(16, 8), csr(row).by(col)), coo)",
)


def graph(rows: int, cols: int, count: int) -> tuple[dict[str, Any], dict[str, Any]]:
    generator = np.random.default_rng([rows, cols, count])
    sets = {
        "row": {"rank": generator.permutation(rows).astype(np.int32)},
        "col": cols,
        "nz": {
            "row": generator.integers(0, rows, count).astype(np.int32),
            "col": generator.integers(0, cols, count).astype(np.int32),
        },
    }
    shapes = {"A": (count,), "B": (cols, 4), "P": (rows, 4)}
    values = {n: generator.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    return sets, values


@pytest.mark.parametrize("format", FORMATS)
def test_agrees_with_the_reference(format: str):
    program = hectorite.compile(PROGRAM, formats={"nz": format}, sizes={"J": 4}, cache=False)
    reference = hectorite.compile(PROGRAM, "reference", formats={"nz": "auto"})
    for extents in ((37, 20, 90), (1, 1, 3), (5, 3, 0)):
        sets, values = graph(*extents)
        found = program.both(program.bind(**sets), **values)
        expected = reference.both(reference.bind(**sets), **values)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_is_written():
    text = hectorite.emit(PROGRAM, "sparse", sizes={"J": 4})
    assert 'sparse.permute @nz_rows {elem: row} = "rows" of @nz' in text
    assert "%C_rows = graph.statement add [z.row, j] for (z: nz_element, j: 4)" in text
    assert "%E = graph.statement assign [z] for (z: nz)" in text


DERIVED = """
set row
set mid
set col
set a { row: row, mid: mid }
set b { mid: mid, col: col }
set c { row: row, col: col } as sgt(8, 8) = distinct(x.row, y.col) for x: a, y: b where x.mid == y.mid

def product(A: f32[c], B: f32[col, J]) -> f32[row, J] {
  C[z.row, j] += A[z] * B[z.col, j]
  return C
}
"""  # noqa: E501


def test_a_derived_set_has_a_format():
    generator = np.random.default_rng(0)
    maps = {"a": ("row", 30, "mid", 9), "b": ("mid", 9, "col", 21)}
    sets: dict[str, Any] = {"row": 30, "mid": 9, "col": 21}
    for name, (first, rows, second, cols) in maps.items():
        sets[name] = {
            first: generator.integers(0, rows, 40).astype(np.int32),
            second: generator.integers(0, cols, 40).astype(np.int32),
        }
    found: list[Any] = []
    for format in ("auto", "coo", "sgt(8, 8)"):
        program = hectorite.compile(DERIVED, formats={"c": format}, sizes={"J": 4}, cache=False)
        bound = program.bind(**sets)
        values = np.random.default_rng(1).normal(size=bound.size("c") + 21 * 4).astype(np.float32)
        found.append(
            program.product(bound, A=values[: -21 * 4], B=values[-21 * 4 :].reshape(21, 4))
        )
    np.testing.assert_allclose(found[1], found[2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)
    assert '"column" of @c' in hectorite.emit(DERIVED, "sparse", sizes={"J": 4})
