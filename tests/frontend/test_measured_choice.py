"""What the search found is shipped only where it is faster with confidence; times are made up."""

import numpy as np
import pytest

import hectorite
from hectorite.backends.bound.binding import Binding
from hectorite.frontend.cli import main
from hectorite.frontend.compiled import measured_choice
from hectorite.frontend.compiled.executable import Executable
from hectorite.frontend.compiled.measured_choice import MeasuredChoice
from hectorite.ir.diagnostics import HectoriteError
from hectorite.ir.schema import Schema

PROGRAM = """set node
set edge { src: node, dst: node }

def layer(x: f32[node, 4], W: f32[4, 4]) -> f32[node, 4] {
  y[e.dst, o] += x[e.src, i] * W[i, o]
  return y
}
"""


class Version(Executable):
    """An executable whose device says that each call takes `time` seconds."""

    def __init__(self, name, time):
        self.name, self.time, self.calls, self.prepared = name, time, 0, 0

    def prepare(self, binding, sizes):
        self.prepared += 1

    def __call__(self, binding, arguments, sizes, out):
        self.calls += 1
        return (self.name,)

    @property
    def on_gpu(self):
        return self

    def seconds(self, binding, arguments, sizes, rounds):
        return [self.time] * rounds


def choice(*times):
    versions = [Version(f"version {number}", time) for number, time in enumerate(times)]
    return MeasuredChoice(versions), versions


@pytest.mark.parametrize("times, name", [((2.0, 1.0), "version 1"), ((1.0, 2.0), "version 0")])
def test_the_faster_one_is_shipped(times, name):
    chosen, versions = choice(*times)
    binding = Binding(Schema({}, {}), {})
    chosen.prepare(binding, {})
    assert [version.prepared for version in versions] == [1, 1]
    assert not chosen.searched
    assert chosen(binding, {}, {}, None) == (name,)
    assert chosen.searched == (name == "version 1")
    calls = [version.calls for version in versions]
    assert chosen(binding, {}, {}, None) == (name,)
    assert sum(version.calls for version in versions) == sum(calls) + 1
    chosen.prepare(binding, {})
    assert sum(version.prepared for version in versions) == 3


def test_what_is_as_fast_is_not_shipped():
    chosen, _ = choice(1.0, 1.0)
    assert chosen(Binding(Schema({}, {}), {}), {}, {}, None) == ("version 0",)


def test_other_faculties_are_those_of_the_chosen():
    chosen, versions = choice(2.0, 1.0)
    assert chosen.on_gpu is None
    chosen(Binding(Schema({}, {}), {}), {}, {}, None)
    assert chosen.on_gpu is versions[1]


def graph():
    rng = np.random.default_rng(0)
    maps = {name: rng.integers(0, 5, 40).astype(np.int32) for name in ("src", "dst")}
    x, w = rng.standard_normal((5, 4)), rng.standard_normal((4, 4))
    return maps, x.astype(np.float32), w.astype(np.float32)


@pytest.mark.parametrize("wins", [0, 1])
def test_both_versions_compute_the_same(monkeypatch, wins):
    monkeypatch.setattr(measured_choice, "measure_guard", lambda each, run, rounds: each[wins])
    maps, x, w = graph()
    results = []
    for options in ({"measure": True}, {"search": False}):
        program = hectorite.compile(PROGRAM, **options)
        bound = program.bind(node=5, edge=maps)
        results.append(program.layer(bound, x=x, W=w))
        np.testing.assert_array_equal(program.layer(bound, x=x, W=w), results[-1])
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_measured_is_an_error():
    for options in ({"search": False}, {"target": "ptx"}, {"fixed": {"W": graph()[2]}}):
        with pytest.raises(HectoriteError):
            hectorite.compile(PROGRAM, measure=True, **options)


def test_run_tells_what_was_taken(tmp_path, capsys):
    (tmp_path / "p.hec").write_text(PROGRAM)
    maps, x, w = graph()
    edges = {f"edge.{name}": values for name, values in maps.items()}
    np.savez(tmp_path / "d.npz", node=5, x=x, W=w, **edges)
    command = ["run", str(tmp_path / "p.hec"), "--data", str(tmp_path / "d.npz"), "--measure"]
    assert main(command) == 0
    assert "was taken" in capsys.readouterr().err
    assert main([*command, "--no-search"]) == 1
    assert "nothing to measure" in capsys.readouterr().err
