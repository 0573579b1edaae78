"""`split-fixed`."""

from hectorite.dialects.context import make_context
from hectorite.dialects.graph import FuncOp
from hectorite.lowering.graph.split_fixed import SplitFixed


def functions(module):
    return [op for op in module.ops if isinstance(op, FuncOp)]


def test_example(program, documented, lines_of):
    before, after = documented(SplitFixed)
    module = program(
        "h: f32[node, 2], W: f32[2, 3], a: f32[3]",
        """
        v[i] += W[i, o] * a[o] | i: 2, o: 3 | f32[2]
        s[n] += h[n, i] * v[i] | n: node, i: 2 | f32[node]
        """,
        "s",
    )
    assert lines_of(module) == before
    SplitFixed(fixed=("W", "a")).apply(make_context(), module)
    module.verify()
    once, rest = functions(module)
    assert once.sym_name.data == "f_fixed" and once.names == ["W", "a"]
    assert rest.sym_name.data == "f" and rest.names == ["h", "v"]
    assert lines_of(module)[-len(after) :] == after


def test_nothing_to_compute_changes_nothing(program):
    module = program("x: f32[node], w: f32[node]", "y[n] = x[n] * w[n] | n: node | f32[node]", "y")
    before = str(module)
    SplitFixed(fixed=("w",)).apply(make_context(), module)
    assert str(module) == before


def test_arguments_that_are_still_read_stay(program):
    module = program(
        "x: f32[node], w: f32[node]",
        """
        e[n] = exp(w[n]) | n: node | f32[node]
        y[n] = x[n] * w[n] + e[n] | n: node | f32[node]
        """,
        "y e",
    )
    SplitFixed(fixed=("w",)).apply(make_context(), module)
    module.verify()
    assert [func.names for func in functions(module)] == [["w"], ["x", "w", "e"]]
