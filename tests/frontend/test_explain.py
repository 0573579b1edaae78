"""`hectorite explain`: steps that can be followed, taken again and put to the test."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from hectorite.frontend.cli import main
from hectorite.frontend.explain import measured as measuring
from hectorite.frontend.explain import search as module
from hectorite.ir.form_views import pointwise
from hectorite.ir.formula import Apply, Constant
from hectorite.ir.statement_form import form
from hectorite.lowering.search.step import Match

PROGRAM = """
set node
set edge { src: node, dst: node, type: kind }
set kind
def f(h: f32[node, I], W: f32[kind, I, O], a: f32[kind, O]) -> f32[node, O] {
  z[e, o] += h[e.src, i] * W[e.type, i, o]
  s[e] += z[e, o] * a[e.type, o]
  p[e] = softmax(s[e] by e.dst)
  y[e.dst, o] += p[e] * z[e, o]
  return y
}
"""


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    program, data = tmp_path / "f.hec", tmp_path / "f.npz"
    program.write_text(PROGRAM)
    edges = {"edge.src": 9, "edge.dst": 30, "edge.type": 3}
    maps = {name: rng.integers(0, n, 400).astype(np.int32) for name, n in edges.items()}
    np.savez(data, node=30, kind=3, **maps)
    return program, data


def run(capsys, *arguments):
    status = main(["explain", *map(str, arguments)])
    return (status, *capsys.readouterr())


def facts(capsys, *arguments):
    status, out, _ = run(capsys, *arguments, "--json")
    assert status == 0
    return json.loads(out)


def test_steps_go_from_the_cost_before_to_the_cost_after(files, capsys):
    program, data = files
    found = facts(capsys, program, "--data", data)
    steps = found["steps"]
    assert steps and {s["rule"] for s in steps} >= {"factor-through-map"}
    assert any("domain=" in step["detail"] for step in steps)
    for one, following in zip(steps, steps[1:], strict=False):
        assert one["after"] == following["before"]
    before, after = found["predicted"]
    assert after < before
    assert before - after == pytest.approx(steps[0]["before"] - steps[-1]["after"])
    assert sum(r["seconds"] for r in found["before"]) == pytest.approx(steps[0]["before"])
    assert sum(r["seconds"] for r in found["after"]) == pytest.approx(steps[-1]["after"])


def test_the_same_every_time(files, capsys):
    program, data = files
    assert facts(capsys, program, "--data", data) == facts(capsys, program, "--data", data)


def test_what_is_shown_can_be_read(files, capsys):
    program, data = files
    status, out, told = run(capsys, program, "--data", data, "--measure")
    assert status == 0
    for part in ("before, ", "after, ", "factor-through-map", "refused", "predicted for cpu: "):
        assert part in out
    assert "measured here: " in out
    assert "I = 64 (nothing determines it" in told


def test_the_bound_is_not_above_the_quotient(monkeypatch):
    times = [1.0] * 10 + [3.0] * 9, [1.0] * 19
    monkeypatch.setattr(measuring, "interleaved", lambda *_: times)
    monkeypatch.setattr(measuring, "_call", lambda *_: lambda: None)
    found = measuring.measured(SimpleNamespace(module_after=lambda *_: None), None, {})
    assert 1.0 < found.at_least <= found.before / found.after


def test_forbidden_rules_are_not_used(files, capsys):
    program, data = files
    found = facts(capsys, program, "--data", data, "--forbid", "factor-through-map")
    assert "factor-through-map" not in {step["rule"] for step in found["steps"]}


def test_steps_are_taken_again(files, capsys, tmp_path):
    program, data = files
    written = tmp_path / "steps.json"
    first = facts(capsys, program, "--data", data)
    written.write_text(json.dumps(first))
    again = facts(capsys, program, "--data", data, "--replay", written)
    assert again["steps"] == first["steps"]
    assert [row["text"] for row in again["after"]] == [row["text"] for row in first["after"]]
    first["steps"] = first["steps"][:1]
    written.write_text(json.dumps(first))
    assert len(facts(capsys, program, "--data", data, "--replay", written)["steps"]) == 1


def test_steps_that_are_gone_are_told(files, capsys, tmp_path):
    program, data = files
    written = tmp_path / "steps.json"
    found = facts(capsys, program, "--data", data)
    found["steps"][0]["statements"] = ["q"]
    written.write_text(json.dumps(found))
    status, _, told = run(capsys, program, "--data", data, "--replay", written)
    assert status == 1 and "step 1 cannot be taken" in told
    written.write_text("[]")
    status, _, told = run(capsys, program, "--data", data, "--replay", written)
    assert status == 1 and "holds no steps" in told
    status, _, told = run(capsys, program, "--data", data, "--replay", tmp_path / "none")
    assert status == 1 and "cannot read" in told


class Wrong:
    """A rule that doubles element-wise statements, and pretends to gain by it."""

    name, family, local = "double", "wrong", False

    def matches(self, flow, number):
        node = flow.nodes[number]
        if node.form is None or not pointwise(node.form) or node.name == "twice":
            return

        def apply(flow):
            old = flow.nodes[number]
            body = Apply("mul", (old.form.body, Constant(2.0, "f32")))
            made, slots, _ = form("assign", old.form.left, dict(old.form.dims), old.shape, body)
            new = flow.add(made, [old.operands[slot] for slot in slots], "twice")
            flow.replace(number, new)
            return [new]

        yield Match(self.name, self.family, (number,), "", apply)


def test_the_first_wrong_step_is_found(files, capsys, tmp_path, monkeypatch):
    program, data = files
    status, out, _ = run(capsys, program, "--data", data, "--bisect")
    assert status == 0 and "steps keep the results" in out
    found = facts(capsys, program, "--data", data)
    known = module._rules
    monkeypatch.setattr(module, "_rules", lambda *about: [*known(*about), Wrong()])
    wrong = {"rule": "double", "family": "wrong", "detail": "", "statements": ["p_exp"]}
    names = [row["name"] for row in found["before"]]
    wrong["statements"] = [next(name for name in names if name == "p")]
    place = {"before": 0.0, "after": 0.0, "chain": None}
    found["steps"].insert(1, wrong | place)
    written = tmp_path / "steps.json"
    written.write_text(json.dumps(found))
    status, out, _ = run(capsys, program, "--data", data, "--replay", written, "--bisect")
    assert status == 1
    assert "step 2 changes the results: double at p" in out


def test_a_page_is_written(files, capsys, tmp_path):
    program, data = files
    page = tmp_path / "page.html"
    assert run(capsys, program, "--data", data, "--html", page)[0] == 0
    assert "factor-through-map" in page.read_text()
    status, _, told = run(capsys, program, "--data", data, "--html", tmp_path / "no" / "page")
    assert status == 1 and "cannot write" in told


def test_without_data_sizes_are_estimates(files, capsys):
    program, _ = files
    status, _, told = run(capsys, program)
    assert status == 0 and "numbers of elements are estimates" in told
    status, _, told = run(capsys, program, "--measure")
    assert status == 1 and "needs data" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "h2000"], "there is no device `h2000`"),
        (["--forbid", "factor-through-maps"], "there is no rule `factor-through-maps`"),
        (["--fixed", "V"], "`f` has no parameter `V`"),
        (["--force", "q:domain=x"], "there is no statement `q`"),
    ],
)
def test_wrong_arguments(files, capsys, arguments, message):
    program, data = files
    status, _, told = run(capsys, program, "--data", data, *arguments)
    assert status == 1 and message in told


def test_what_is_fixed_costs_nothing(files, capsys):
    program, data = files
    found = facts(capsys, program, "--data", data, "--fixed", "W", "--fixed", "a")
    fixed = [row for row in found["after"] if row["fixed"]]
    assert all(row["seconds"] == 0 for row in fixed)


def test_machine_code_has_no_rewrites(files, capsys, tmp_path):
    program, _ = files
    tile = tmp_path / "f.tile"
    sizes = ["--size", "I=4", "--size", "O=4"]
    assert main(["emit", str(program), "--level", "tile", *sizes, "--out", str(tile)]) == 0
    status, _, told = run(capsys, tile)
    assert status == 1 and "past the rewrites" in told
