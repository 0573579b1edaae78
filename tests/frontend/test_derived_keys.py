"""Keys of derived sets that are elements of other sets, `c(i, j)`."""

import pytest

import hectorite
from hectorite.dialects.graph_sets import schema_of
from hectorite.ir.diagnostics import HectoriteError

SETS = """
set row
set a { row: row, col: row }
set c { row: row, col: row } = distinct(x.row, y.col) for x: a, y: a where x.col == y.row
"""
USE = "def f(x: f32[a]) -> f32[c] {\n  y[p: t.at] += x[p.x]\n  return y\n}\n"


def derivation(declaration: str):
    return schema_of(hectorite.parse(f"{SETS}{declaration}\n{USE}")).sets["t"].derivation


def test_stands_for_a_binder_with_equalities():
    short = "set t { x: a, at: c } = distinct(x, c(x.row, x.col)) for x: a where x.row != 1"
    long = """set t { x: a, at: c } = distinct(x, c_found) for x: a, c_found: c
        where c_found.row == x.row and c_found.col == x.col and x.row != 1"""
    assert derivation(short) == derivation(long)


def test_names_of_its_own():
    declaration = "set t { x: a, at: c, to: c } = distinct(x, c(x.row, x.col), c(x.col, x.row))"
    made = derivation(f"{declaration} for x: a")
    assert [name for name, _ in made.binders] == ["x", "c_found", "c_found_2"]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("c(x.row)", "`c` has 2 fields"),
        ("row(x.row)", "`row` has 0 fields"),
        ("a(x.row, x.col)", "field `at` maps into `c`, but `a_found` is in `a`"),
        ("c(x.row, q.col)", "unknown variable `q`"),
        ("c(x.row, x.col, x = 1)", "fields of `c` are given by position"),
    ],
)
def test_what_is_wrong(key: str, message: str):
    with pytest.raises(HectoriteError) as caught:
        derivation(f"set t {{ x: a, at: c }} = distinct(x, {key}) for x: a")
    assert message in [diagnostic.message for diagnostic in caught.value.diagnostics]
