"""Rewrites chosen by cost: what decides, what a user may choose, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from xdsl.context import Context

from hectorite.dialects.graph import FuncOp
from hectorite.frontend.cli import main
from hectorite.frontend.program_text import read_program
from hectorite.ir.diagnostics import HectoriteError
from hectorite.lowering.graph.notation import function_lines
from hectorite.lowering.graph.search_rewrites import SearchRewrites
from hectorite.lowering.options import Options
from hectorite.lowering.pipelines import optimise

PROGRAM = """set kind
set node
set edge { src: node, dst: node, type: kind }
def f(h: f32[node, I], W: f32[kind, I, O]) -> f32[edge, O] {
  z[e, o] += h[e.src, i] * W[e.type, i, o]
  return z
}
"""
EXAMPLES = Path(__file__).parents[2] / "examples"
MANY = ("edge=100000", "node=1000", "kind=4", "edge(src,type)=4000", "edge(src)=1000")
FEW = ("edge=4000", "node=100000", "kind=4", "edge(src,type)=3950", "edge(src)=3900")


def text_of(cardinalities=MANY, program=PROGRAM, **options):
    module = read_program(program).module
    chosen = Options(cardinalities=cardinalities, **options)
    module = optimise(module, {"I": 64, "O": 64}, chosen)
    func = next(op for op in module.ops if isinstance(op, FuncOp))
    return "\n".join(function_lines(func))


def test_work_is_shared_where_many_elements_are_alike():
    assert "h[u.src, i] * W[u.type, i, o]" in text_of(MANY)
    assert "h[e.src, i] * W[e.type, i, o]" in text_of(FEW)


def test_rules_and_families_may_be_forbidden():
    assert "h[e.src, i]" in text_of(forbid=("domain",))
    assert "h[e.src, i]" in text_of(forbid=("factor-through-map",))


def test_a_choice_is_made_for_a_statement():
    assert "h[u.src, i]" in text_of(MANY, force=("z:domain=(type, src)",))
    assert "h[e.src, i]" in text_of(MANY, force=("z:stay",))


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("z", "is no choice"),
        ("q:stay", "no statement `q`"),
        ("z:domain=dst", "cannot be computed"),
    ],
)
def test_choices_that_are_none_are_told(choice, message):
    with pytest.raises(HectoriteError, match=message):
        text_of(force=(choice,))


def test_the_outcome_is_the_same_every_time():
    module = read_program(PROGRAM).module
    texts = set()
    for _ in range(3):
        again = module.clone()
        SearchRewrites(cardinalities=MANY).apply(Context(), again)
        texts.add(str(again))
    assert len(texts) == 1


def test_the_command_line_takes_choices(tmp_path, capsys):
    file = tmp_path / "f.hec"
    file.write_text(PROGRAM)
    rng = np.random.default_rng(0)
    maps = {f"edge.{name}": rng.integers(0, 2, 400) for name in ("src", "dst", "type")}
    np.savez(tmp_path / "data.npz", node=20, kind=2, **maps)
    given = ["emit", str(file), "--level", "graph-opt", "--size", "I=8", "--size", "O=8"]
    given += ["--data", str(tmp_path / "data.npz")]
    assert main([*given, "--force", "z:domain=(type, src)"]) == 0
    assert "edge_type_src" in capsys.readouterr().out
    assert main([*given, "--force", "z:nothing"]) == 1
    assert "expected: one of `domain=(type, src) for e`" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["+=", "max="])
def test_totals_of_a_map_are_priced(kind):
    program = f"""set node
set edge {{ src: node, dst: node }}
def f(x: f32[node, D], y: f32[edge]) -> f32 {{
  s {kind} x[e.src, d] * y[e]
  return s
}}
"""
    assert f"s {kind}" in text_of(("node=10", "edge=20"), program)
    given = "def g(A: f32[N, K], B: f32[K]) -> f32 {\n  s += A[i, k] * B[k]\n  return s\n}\n"
    assert "s +=" in text_of((), given)


def test_estimates_do_not_pile_up_sets():
    """A set of tuples out of a set of tuples is as large as its tuples may be, whatever is
    estimated, so the search ends with few sets."""
    text = (EXAMPLES / "hgt.hec").read_text()
    known = ("edge=185364", "node=40000", "etype=22", "ntype=1", "edge(src,type)=78000")
    module = optimise(read_program(text).module, {"I": 64, "O": 64}, Options(cardinalities=known))
    derived = [line for line in str(module).splitlines() if "graph.derive" in line]
    assert len(derived) <= 3 and max(map(len, derived)) < 200
