"""Parameters are printed by their own names, whatever those end in."""

import hectorite

PROGRAM = """def f(x_1: f32[N], x: f32[N]) -> f32[N] {
  z[i] = x[i] + 1
  y[i] = x_1[i] * z[i]
  return y
}
"""


def test_a_number_at_the_end_of_a_name_survives_printing():
    for level in ("graph", "tile"):
        text = hectorite.emit(PROGRAM, level, sizes={"N": 4})
        function = hectorite.compile(text, target="tile", cache=False).functions["f"]
        assert function.signature.names == ("x_1", "x")


def test_printing_is_stable():
    text = hectorite.emit(PROGRAM)
    assert hectorite.emit(text) == text
