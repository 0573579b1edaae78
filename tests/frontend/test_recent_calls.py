"""Calls like earlier ones: as right as the first, and with the same complaints."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import hectorite
from hectorite.ir.diagnostics import HectoriteError

PROGRAM = """
set node
set edge { src: node, dst: node }

def spread(h: f32[node, I], scale: f32, shift: i8) -> (f32[node, I], f32[node, I]) {
  y[e.dst, i] += h[e.src, i] * scale
  z[n, i] = h[n, i] + f32(shift)
  return y, z
}
"""


@pytest.fixture(scope="module")
def program():
    return hectorite.compile(PROGRAM)


@pytest.fixture
def graph(program):
    src, dst = np.random.default_rng(0).integers(0, 9, (2, 40)).astype(np.int32)
    return program.bind(node=9, edge={"src": src, "dst": dst})


def features(seed: int = 0, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((9, width)).astype(np.float32)


def expected(graph, h, scale, shift):
    y = np.zeros_like(h)
    np.add.at(y, graph.map("edge", "dst"), h[graph.map("edge", "src")] * np.float32(scale))
    return y, h + np.float32(shift)


def agrees(results, wanted):
    for result, want in zip(results, wanted, strict=True):
        np.testing.assert_allclose(result, want, rtol=1e-5, atol=1e-6)


def test_later_calls_take_new_values(program, graph):
    for seed, scale, shift in ((0, 1.5, 1), (1, -2.0, -3), (2, 1e30, 127), (3, 2, 0)):
        h = features(seed)
        results = program.spread(graph, h=h, scale=scale, shift=shift)
        agrees(results, expected(graph, h, scale, shift))


def test_a_number_that_f32_cannot_hold_is_infinite_each_time(program, graph):
    for _ in range(3):
        y, _ = program.spread(graph, h=np.ones((9, 5), np.float32), scale=1e300, shift=0)
        assert np.isinf(y).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"h": np.ones((8, 5), np.float32)}, "node"),
        ({"h": np.ones((9, 5))}, "float64"),
        ({"h": None}, "not an array"),
        ({"shift": 128}, "128"),
        ({"shift": 1.5}, "shift"),
        ({"scale": 10**400}, "scale"),
        ({"other": 1}, "other"),
    ],
)
def test_what_is_wrong_is_wrong_later_too(program, graph, change, said):
    arguments = {"h": features(), "scale": 1.0, "shift": 1}
    program.spread(graph, **arguments)
    with pytest.raises(HectoriteError, match=said):
        program.spread(graph, **(arguments | change))


def test_arrays_of_any_layout(program, graph):
    plain = features()
    misaligned = np.frombuffer(b"\0" + plain.tobytes(), np.uint8)[1:].view(np.float32)
    layouts = [plain, np.asfortranarray(plain), plain[::-1][::-1], misaligned.reshape(9, 5)]
    readonly = plain.copy()
    readonly.flags.writeable = False
    for h in [*layouts, readonly, plain] * 2:
        agrees(program.spread(graph, h=h, scale=1.0, shift=0), expected(graph, plain, 1.0, 0))


def test_several_kinds_of_calls(program, graph):
    other = program.bind(
        node=9,
        edge={"src": np.arange(9, dtype=np.int32)[::-1].copy()}
        | {"dst": np.arange(9, dtype=np.int32)},
    )
    for _ in range(3):
        for bound in (graph, other):
            for width in (5, 3):
                h = features(width=width)
                results = program.spread(bound, h=h, scale=1.0, shift=2)
                agrees(results, expected(bound, h, 1.0, 2))


def test_results_go_straight_to_out(program, graph):
    h = features()
    outs = (np.empty_like(h), np.empty_like(h))
    for seed in range(3):
        h = features(seed)
        assert program.spread(graph, h=h, scale=2.0, shift=1, out=outs) is outs
        agrees(outs, expected(graph, h, 2.0, 1))
    misaligned = np.empty(4 * h.size + 1, np.uint8)[1:].view(np.float32).reshape(h.shape)
    for _ in range(2):
        program.spread(graph, h=h, scale=2.0, shift=1, out=(misaligned, outs[1]))
        agrees((misaligned, outs[1]), expected(graph, h, 2.0, 1))
    for _ in range(2):
        with pytest.raises(HectoriteError, match="overlap"):
            program.spread(graph, h=h, scale=2.0, shift=1, out=(outs[0], outs[0]))
        with pytest.raises(HectoriteError, match="overlaps the argument `h`"):
            program.spread(graph, h=h, scale=2.0, shift=1, out=(h, outs[0]))
        with pytest.raises(HectoriteError, match="shape"):
            program.spread(graph, h=h, scale=2.0, shift=1, out=(h[1:], outs[0]))


def test_a_result_that_is_held_keeps_its_values(program, graph):
    kept = [program.spread(graph, h=features(seed), scale=1.0, shift=0) for seed in range(5)]
    for seed, results in enumerate(kept):
        agrees(results, expected(graph, features(seed), 1.0, 0))


def test_a_program_without_sets():
    program = hectorite.compile(
        "def double(h: f32[I]) -> f32[I] {\n y[i] = 2 * h[i]\n return y\n}\n"
    )
    for size in (3, 4, 3, 0, 3):
        h = np.arange(size, dtype=np.float32)
        np.testing.assert_array_equal(program.double(h=h), 2 * h)


def test_a_binding_that_is_gone_takes_nothing_along(program):
    for _ in range(6):
        ends = np.zeros(4, np.int32)
        graph = program.bind(node=9, edge={"src": ends, "dst": ends})
        program.spread(graph, h=features(), scale=1.0, shift=0)
        del graph
        gc.collect()
    assert sum(call.binding is not None for call in program["spread"]._recent) == 0


def test_threads(program, graph):
    wrong: list[int] = []

    def work(seed: int) -> None:
        h = features(seed)
        want = expected(graph, h, seed, 1)
        for _ in range(100):
            got = program.spread(graph, h=h, scale=float(seed), shift=1)
            if not all(np.allclose(a, b, atol=1e-5) for a, b in zip(got, want, strict=True)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_torch_tensors(program, graph):
    torch = pytest.importorskip("torch")
    for seed in range(3):
        h = features(seed)
        given = torch.from_numpy(h).requires_grad_(seed == 1)
        results = program.spread(graph, h=given, scale=1.0, shift=1)
        assert all(isinstance(result, torch.Tensor) for result in results)
        agrees(results, expected(graph, h, 1.0, 1))
    for wrong in (given.double(), given[1:], given.to("meta"), given.detach().to_sparse()):
        with pytest.raises(HectoriteError, match="`h`"):
            program.spread(graph, h=wrong, scale=1.0, shift=1)
