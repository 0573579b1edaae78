"""Programs that some level once got wrong, as random programs found them."""

import numpy as np
import pytest

import hectorite

GRAPH = """
set kind
set node { type: kind }
set edge { src: node, dst: node }
set link { at: edge, to: node }
set pair { row: node, col: node } = distinct(x.dst, x.src) for x: edge
"""

CASES = {
    # The variable in lanes is read through a map, so the places are not consecutive.
    "a map of the variable in lanes": """
def f(c: f32, x: f32[node]) -> f32[edge, node] {
  y[e: edge, l: link.at.src] += c / (abs(x[e.dst]) + 0.5)
  return y
}""",
    "a map beside its own variable": """
def f(x: f32[node] pad 0, w: f32[node]) -> f32[node] {
  y[n] = x[n.type - n + 3] * w[n: node]
  return y
}""",
    # The first piece was private to the kernel, which copied all of it for the second.
    "two pieces of a row": """
def f(x: f32[kind]) -> f32[kind, 6] {
  y[t: kind, i: 2] = x[t]
  y[t, i: 4 + 2] = x[t: kind] * 2
  return y
}""",
    "pieces of a tensor that is read in between": """
def f(x: f32[40], z: f32[60]) -> (f32[100], f32[100]) {
  y[i] = x[i: 40]
  y[i + 40] = z[i: 60]
  s[i] = y[i] * 2
  y[2*i + 1] += x[i: 40]
  return y, s
}""",
    "interleaved pieces over a set": """
def f(x: f32[node]) -> f32[node, 34] {
  y[n, 2*i] = x[n: node] + i: 17
  y[n: node, 2*i + 1] = x[n] - i: 17
  return y
}""",
    # Rows that share an element, or have none of it, cannot fill it.
    "pieces of a dimension that rows are spread over": """
def f(x: f32[10, 5, 20], z: f32[10, 3, 20]) -> (f32[10, 8, 20], f32[10, 8, 20]) {
  y[a, i, k] = x[a, i, k]
  y[a, j + 5, k] = z[a, j, k]
  w[a, i, k] = y[a, i, k] + 1
  y[a, j + 5, k] *= z[a, j, k]
  return y, w
}""",
    # Rounding every step of a sum to a sign is not the sign of the sum.
    "a sum of signs": """
def f(x: i1[edge, 16]) -> i1[17, edge] {
  y[i: 16 % 3, e: edge] += x[e, i]
  return y
}""",
    # The second place of `i` was taken for `j`, and elements outside of the diagonal had no start.
    "a row that stands twice, before another": """
def f(a: f32[4]) -> f32[4, 4, 3, 2] {
  y[i: 4, i, j: 3, k: 2] *= a[i]
  return y
}""",
    # The reference left out axes that no factor of a product has.
    "a product that is the same along an axis": """
def f(x: f32[node], w: f32[17]) -> f32[17, 3, 16] {
  y[i: 17, j: 3, o: 16] += (x[l.to] - w[i]) * w[i]
  return y
}""",
}


@pytest.mark.parametrize("body", CASES.values(), ids=CASES)
def test_all_levels_agree(body: str):
    report = hectorite.verify(GRAPH + body)
    assert report.ok, [row for row in report.rows if not row.ok]


def test_an_argument_over_a_derived_set_does_not_stand_for_its_maps():
    program = hectorite.compile(
        GRAPH
        + """
def f(x: f32[pair], w: f32[node]) -> f32[node] {
  y[p.row] += x[p: pair] * w[p.col]
  return y
}""",
        "reference",
        cache=False,
    )
    src, dst = [0, 1, 1, 2, 1], [1, 0, 0, 2, 0]
    binding = program.bind(
        kind=1,
        node={"type": np.zeros(3, np.int32)},
        edge={"src": np.array(src, np.int32), "dst": np.array(dst, np.int32)},
        link={"at": np.zeros(0, np.int32), "to": np.zeros(0, np.int32)},
    )
    x, w = np.array([2, 3, 5], "f4"), np.array([1, 10, 100], "f4")
    np.testing.assert_array_equal(program.f(binding, x=x, w=w), [20, 3, 500])
